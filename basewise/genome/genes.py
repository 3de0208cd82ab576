"""Genes from GTF, GFF3 or BED."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.intervals import read_bed, require_columns
from basewise.genome.lines import is_comment, is_integer, place, read_lines

GENE_COLUMNS = ("chrom", "start", "end", "name", "strand", "biotype", "gene_id")
GENE_FEATURES = ("gene", "ncRNA_gene", "pseudogene")  # the last two in Ensembl's and NCBI's GFF3
PART_FEATURES = (("transcript", "mRNA"), ("exon",))  # what a gene is pieced together from when the file has no gene rows
NAME_KEYS = ("gene_name", "Name", "gene", "gene_id", "ID")
ID_KEYS = ("gene_id", "ID", "Parent", "gene_name", "Name")
BIOTYPE_KEYS = ("gene_type", "gene_biotype", "biotype")

_GTF_ATTRIBUTE = re.compile(r'([\w.-]+) +(?:"([^"]*)"|([^;"\s]+))')


class Feature(NamedTuple):
    """One GTF or GFF3 row, already 0-based half-open."""

    chrom: str
    kind: str
    start: int
    end: int
    strand: str
    attributes: dict[str, str]


def looks_like_gtf(fields: list[str]) -> bool:
    """Tell a tab-separated GTF or GFF3 row from BED and tables: 1-based start and end in columns 4 and 5, strand in 7."""
    return (
        len(fields) >= 8
        and not is_integer(fields[2])
        and is_integer(fields[3])
        and is_integer(fields[4])
        and fields[6] in ("+", "-", ".", "?")
    )


def read_features(path: str | Path, kinds: Collection[str]) -> Iterator[Feature]:
    """Yield the GTF or GFF3 rows whose feature (column 3) is one of `kinds`, coordinates turned 0-based half-open.

    Raises
    ------
    BasewiseError
        With the line number: a row of another shape, start < 1, start > end, a strand other than + or -.

    """
    for number, line in read_lines(path):
        if is_comment(line):
            if line.startswith("##FASTA"):
                return
            continue
        fields = line.split("\t")
        if len(fields) > 2 and fields[2] not in kinds and len(fields) >= 8:
            continue
        where = place(path, number)
        if not looks_like_gtf(fields):
            raise BasewiseError(
                f"{where} is no GTF or GFF3 row, expected 9 tab-separated columns with start and end in 4 and 5, strand in 7"
            )
        start, end = int(fields[3]), int(fields[4])
        if not 1 <= start <= end:
            raise BasewiseError(f"{where}: start {start} and end {end} are no interval, expected 1 <= start <= end (GTF counts from 1)")
        if fields[6] not in ("+", "-"):
            raise BasewiseError(f"{where}: {fields[2]} has strand {fields[6]!r}, expected + or -")
        yield Feature(fields[0], fields[2], start - 1, end, fields[6], _attributes(fields[8] if len(fields) > 8 else ""))


def _attributes(text: str) -> dict[str, str]:
    if re.match(r"\s*[^\s=;\"]+=", text):  # GFF3: key=value;key=value, percent-encoded
        pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
        return {key.strip(): unquote(value.strip()) for key, value in pairs}
    attributes: dict[str, str] = {}
    for key, quoted, bare in _GTF_ATTRIBUTE.findall(text):
        attributes.setdefault(key, quoted or bare)
    return attributes


def read_genes(path: str | Path) -> pd.DataFrame:
    """Read genes as an intervals table ``chrom start end name strand biotype gene_id``, in file order.

    The format is found by content. GTF and GFF3: rows `gene` (also `ncRNA_gene`, `pseudogene`); a file without any is pieced
    together from its transcripts, or else its exons: a gene is the span of what shares contig, strand and gene id. `name` is
    gene_name, Name, gene or gene_id, whichever comes first; `biotype` is "" when the file does not say. BED needs six columns;
    a name of the form ``symbol|id|biotype`` is taken apart.

    Raises
    ------
    BasewiseError
        No genes, no strand, or a malformed line (numbered).

    """
    for _, line in read_lines(path):
        if not is_comment(line):
            return _genes_from_gtf(path) if looks_like_gtf(line.split("\t")) else _genes_from_bed(path)
    raise BasewiseError(f"{path} holds no genes, expected GTF, GFF3 or BED with six columns")


def _genes_from_bed(path: str | Path) -> pd.DataFrame:
    table = read_bed(path)
    require_columns(table, ("name", "strand"), f"gene file {path}")
    unknown = np.flatnonzero(~table["strand"].isin(["+", "-"]).to_numpy())
    if len(unknown):
        gene = table.iloc[int(unknown[0])]
        raise BasewiseError(f"{path}: gene {gene['name']!r} at {gene['chrom']}:{gene['start']} has no strand, expected + or - in column 6")
    parts = [name.split("|") if name.count("|") == 2 else [name, name, ""] for name in table["name"]]
    name, gene_id, biotype = (pd.Series(values, dtype="str") for values in zip(*parts, strict=True))
    return table.assign(name=name, gene_id=gene_id, biotype=biotype)[list(GENE_COLUMNS)]


def _genes_from_gtf(path: str | Path) -> pd.DataFrame:
    genes = [_gene_row(feature) for feature in read_features(path, GENE_FEATURES)]
    for kinds in PART_FEATURES:
        if not genes:
            genes = _union(_gene_row(feature) for feature in read_features(path, kinds))
    if not genes:
        raise BasewiseError(f"{path} holds no gene, transcript or exon rows (column 3), so it has no genes; give a gene annotation")
    table = pd.DataFrame(genes, columns=list(GENE_COLUMNS))
    return table.astype({column: "int64" if column in ("start", "end") else "str" for column in GENE_COLUMNS})


def _gene_row(feature: Feature) -> tuple[str, int, int, str, str, str, str]:
    gene_id = _first(feature.attributes, ID_KEYS if feature.kind in GENE_FEATURES else ("gene_id", "Parent", "gene", "gene_name", "ID"))
    keys = NAME_KEYS if feature.kind in GENE_FEATURES else ("gene_name", "gene", "gene_id", "Parent", "ID")
    name, biotype = _first(feature.attributes, keys), _first(feature.attributes, BIOTYPE_KEYS)
    return (feature.chrom, feature.start, feature.end, name.removeprefix("gene:"), feature.strand, biotype, gene_id.removeprefix("gene:"))


def _first(attributes: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((attributes[key] for key in keys if attributes.get(key)), "")


def _union(rows: Iterator[tuple[str, int, int, str, str, str, str]]) -> list[tuple[str, int, int, str, str, str, str]]:
    genes: dict[tuple[str, str, str], tuple[str, int, int, str, str, str, str]] = {}
    for row in rows:
        chrom, start, end, name, strand, biotype, gene_id = row
        known = genes.get((chrom, strand, gene_id))
        if known is None:
            genes[chrom, strand, gene_id] = row
        else:  # name and biotype of the first part
            genes[chrom, strand, gene_id] = (
                chrom,
                min(start, known[1]),
                max(end, known[2]),
                known[3] or name,
                strand,
                known[5] or biotype,
                gene_id,
            )
    return list(genes.values())
