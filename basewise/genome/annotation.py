"""Annotated poly(A) sites, whatever their file format; genes come from `basewise.genome.genes`.

A site is one base: the cleavage base, the last base that is transcribed before the tail. Where a format gives more than one
base, the 3' one on its strand is taken:

=====================  ==========================================================  ==========================================
format                 coordinates                                                 cleavage base (0-based)
=====================  ==========================================================  ==========================================
GENCODE polyAs         GTF/GFF3, 1-based inclusive, `polyA_site` rows of 2 bases   + : end - 1;  - : start - 1
UCSC wgEncodeGencode-  genePred or BED with or without `bin`, 0-based half-open,   + : end - 1;  - : start
Polya*                 rows `polyA_site`
PolyA_DB v3            TSV with header, `Position` 1-based                         Position - 1
PolyASite 2.0          BED of clusters, name = chrom:representative:strand,        representative - 1
                       the representative 1-based
BED6                   0-based half-open                                           + : end - 1;  - : start
=====================  ==========================================================  ==========================================

GENCODE's files do not say which of the two bases is the last of the transcript; the 3' one taken here may be one base late.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.genes import looks_like_gtf, read_features, read_genes
from basewise.genome.intervals import read_bed
from basewise.genome.lines import is_comment, is_integer, place, read_lines

__all__ = ["read_genes", "read_sites"]

SITE_FEATURE = "polyA_site"
POLYA_FEATURES = {SITE_FEATURE, "polyA_signal", "pseudo_polyA"}  # the features of GENCODE's polyA annotation
POLYASITE_NAME = re.compile(r"(?P<chrom>[^:\s]+):(?P<position>\d+):(?P<strand>[+-])")
SITE_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")


class _Site(NamedTuple):
    chrom: str
    position: int  # 0-based cleavage base
    name: str
    score: float
    strand: str


def read_sites(path: str | Path) -> pd.DataFrame:
    """Read poly(A) sites as an intervals table ``chrom start end name score strand`` of 1-bp cleavage bases, in file order.

    The format is recognised by content, never by name: GENCODE polyAs (GTF or GFF3), UCSC wgEncodeGencodePoly*, PolyA_DB v3,
    PolyASite 2.0, or BED with at least six columns; gzipped or not. See the module's table for which base is the site. Wider
    BED intervals count at their 3' end on the strand. Rows that repeat a site are kept; contig names stay as in the file.

    Returns
    -------
    pandas.DataFrame
        chrom, name, strand (str; strand + or -), start, end = start + 1 (int64), score (float64, NaN where there is none:
        PolyA_DB's mean RPM, PolyASite's TPM, BED's score).

    Raises
    ------
    BasewiseError
        The format is none of these, a strand is missing, a line is malformed (numbered), or there is no site.

    """
    for number, line in read_lines(path):
        if is_comment(line) and "\t" not in line.lstrip("#"):
            continue
        fields = line.removeprefix("#").split("\t")
        if _polya_db_columns(fields):
            return _table(_from_polya_db(path, fields, number), path)
        if is_comment(line):
            continue
        if looks_like_gtf(fields):
            return _table(_from_gencode(path), path)
        if _ucsc_record(fields) is not None:
            return _table(_from_ucsc(path), path)
        plain = fields if len(fields) > 1 else line.split()
        if len(plain) > 2 and is_integer(plain[1]) and is_integer(plain[2]):
            return _table(_from_bed(path, len(plain)), path)
        raise BasewiseError(
            f"{place(path, number)} belongs to no known format of poly(A) sites; expected GENCODE polyAs GTF, UCSC wgEncodeGencodePoly*, "
            "PolyA_DB v3 (columns Chromosome, Position, Strand), PolyASite 2.0 BED, or BED with six columns"
        )
    raise BasewiseError(f"{path} holds no poly(A) site: it is empty")


def _table(sites: Iterator[_Site], path: str | Path) -> pd.DataFrame:
    rows = list(sites)
    if not rows:
        raise BasewiseError(f"{path} holds no poly(A) site")
    chrom, position, name, score, strand = zip(*rows, strict=True)
    start = np.array(position, np.int64)
    text = {key: pd.Series(values, dtype="str") for key, values in (("chrom", chrom), ("name", name), ("strand", strand))}
    return pd.DataFrame({"start": start, "end": start + 1, "score": np.array(score, np.float64), **text})[list(SITE_COLUMNS)]


def _three_prime_base(start: int, end: int, strand: str) -> int:
    return end - 1 if strand == "+" else start


def _from_gencode(path: str | Path) -> Iterator[_Site]:
    found = False
    for feature in read_features(path, (SITE_FEATURE,)):
        found = True
        name = feature.attributes.get("gene_name") or feature.attributes.get("transcript_id") or feature.attributes.get("ID") or "."
        yield _Site(feature.chrom, _three_prime_base(feature.start, feature.end, feature.strand), name, np.nan, feature.strand)
    if not found:
        raise BasewiseError(f"{path} is GTF or GFF3 without {SITE_FEATURE} rows (column 3); give GENCODE's polyAs file, not its genes")


class _UcscRecord(NamedTuple):
    chrom: str
    start: str
    end: str
    strand: str
    name: str


def _ucsc_record(fields: list[str]) -> _UcscRecord | None:
    """Return the record of a wgEncodeGencodePoly* row, None if it is not one: genePred (with or without bin), or bin + BED."""
    if not POLYA_FEATURES & set(fields):
        return None
    for rest in (fields[1:], fields):
        if len(rest) >= 5 and rest[2] in ("+", "-", ".") and is_integer(rest[3]) and is_integer(rest[4]):
            return _UcscRecord(rest[1], rest[3], rest[4], rest[2], rest[0])
    rest = fields[1:]
    if len(rest) >= 6 and is_integer(fields[0]) and not is_integer(rest[0]) and is_integer(rest[1]) and is_integer(rest[2]):
        return _UcscRecord(rest[0], rest[1], rest[2], rest[5], rest[3])
    return None


def _from_ucsc(path: str | Path) -> Iterator[_Site]:
    for number, line in read_lines(path):
        if is_comment(line):
            continue
        fields = line.split("\t")
        record = _ucsc_record(fields)
        if record is None:
            raise BasewiseError(f"{place(path, number)} is no wgEncodeGencodePoly* row as those before it")
        if SITE_FEATURE not in fields:
            continue
        _require_strand(record.strand, path, number)
        start, end = int(record.start), int(record.end)
        _require_bases(start, end, path, number)
        yield _Site(record.chrom, _three_prime_base(start, end, record.strand), record.name, np.nan, record.strand)


def _polya_db_columns(fields: list[str]) -> bool:
    return {"chromosome", "position"} <= {field.strip().lower() for field in fields}


def _from_polya_db(path: str | Path, header: list[str], header_number: int) -> Iterator[_Site]:
    column = {field.strip().lower(): index for index, field in enumerate(header)}
    if "strand" not in column:
        raise BasewiseError(f"{path} has no column Strand; a poly(A) site needs its strand")
    described = [column[key] for key in ("gene symbol", "intron/exon location", "pas type") if key in column]
    rpm = column.get("mean rpm")
    for number, line in read_lines(path):
        if number <= header_number:
            continue
        fields = line.split("\t")
        if len(fields) <= max(column["chromosome"], column["position"], column["strand"]):
            raise BasewiseError(f"{place(path, number)} has {len(fields)} columns, its header {len(header)}; is the file truncated?")
        chrom, position, strand = (fields[column[key]].strip() for key in ("chromosome", "position", "strand"))
        _require_strand(strand, path, number)
        if not is_integer(position) or int(position) < 1:
            raise BasewiseError(f"{place(path, number)}: Position {position!r} must be a whole number from 1")
        name = "|".join(fields[index] for index in described if index < len(fields)) or "."
        score = fields[rpm] if rpm is not None and rpm < len(fields) else ""
        try:
            value = float(score) if score not in ("", "NA", ".") else np.nan
        except ValueError as error:
            raise BasewiseError(f"{place(path, number)}: Mean RPM {score!r} is no number") from error
        yield _Site(chrom, int(position) - 1, name, value, strand)


def _from_bed(path: str | Path, columns: int) -> Iterator[_Site]:
    if columns < 6:
        raise BasewiseError(
            f"{path} is BED with {columns} columns, so its sites have no strand; expected six (chrom start end name score strand)"
        )
    table = read_bed(path)
    others = sorted((POLYA_FEATURES - {SITE_FEATURE}) & set(table["name"]))
    if others:
        raise BasewiseError(f"{path} holds {' and '.join(others)} rows beside poly(A) sites; keep only the rows of sites")
    clusters = bool((table["end"] - table["start"] > 1).any()) and POLYASITE_NAME.fullmatch(table["name"].iloc[0]) is not None
    rows = zip(*(table[column].tolist() for column in SITE_COLUMNS), strict=True)
    for chrom, start, end, name, score, strand in rows:
        where = f"{path}: {chrom} {start} {end} {name}"
        if strand == ".":
            raise BasewiseError(f"{where} has no strand, expected + or - in column 6")
        if start == end:
            raise BasewiseError(f"{where} is an empty interval; a site is at least one base")
        position = _representative(chrom, start, end, name, strand, where) if clusters else _three_prime_base(start, end, strand)
        yield _Site(chrom, position, name, score, strand)


def _representative(chrom: str, start: int, end: int, name: str, strand: str, where: str) -> int:
    """Return the 0-based representative base that a PolyASite 2.0 name holds (1-based there)."""
    match = POLYASITE_NAME.fullmatch(name)
    if match is None:
        raise BasewiseError(f"{where}: the name is not chrom:position:strand as in the first line (PolyASite 2.0); are two formats mixed?")
    position = int(match["position"])
    if not start < position <= end or match["strand"] != strand or match["chrom"].removeprefix("chr") != chrom.removeprefix("chr"):
        raise BasewiseError(
            f"{where}: the representative site in the name does not lie in the interval (lifted over, or shifted?); "
            "replace the names, or give 1-bp intervals"
        )
    return position - 1


def _require_strand(strand: str, path: str | Path, number: int) -> None:
    if strand not in ("+", "-"):
        raise BasewiseError(f"{place(path, number)} has strand {strand!r}, expected + or -")


def _require_bases(start: int, end: int, path: str | Path, number: int) -> None:
    if not 0 <= start < end:
        raise BasewiseError(f"{place(path, number)}: start {start} and end {end} hold no base, expected 0 <= start < end")
