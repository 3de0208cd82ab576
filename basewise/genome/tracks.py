"""What genome browsers open: BED (BGZF with tabix index), bedGraph, bigWig. Every file is written whole or not at all.

A track is a stream of parts ``(chrom, positions, values)``: positions int64 (n,), strictly increasing, 0-based; values float32
(n,). Bases without a value are absent, never 0.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pysam

from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.intervals import BED_COLUMNS, require_columns
from basewise.genome.tables import read_table, write_parquet

__all__ = ["Part", "read_bigwig", "read_table", "write_bed", "write_bedgraph", "write_bigwig", "write_parquet"]

Part = tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]

TBI_REACH = 1 << 29  # a .tbi cannot address beyond; longer contigs get a .csi. Source: tabix(1)
DENSE_RUN = 256  # adjacent bases from which a fixed-step block is worth its own header
BLOCK = 1 << 20


def write_bed(table: pd.DataFrame, path: str | Path) -> None:
    """Write an intervals table as BED; with BGZF compression and a tabix index when `path` ends in ``.gz``.

    The columns are chrom start end, then name score strand (as far as any is there; gaps are filled with ``.``, score with 0),
    then all others in table order, announced by a header line ``#chrom start ...``. Missing values become ``.``.

    Parameters
    ----------
    table
        Intervals. For ``.gz``, each contig in one piece and starts ascending (see `sort_intervals`); contigs in any order.
    path
        The index is `path`.tbi, or `path`.csi when an interval ends beyond 2^29.

    Raises
    ------
    BasewiseError
        Columns are missing, the table is not sorted, or a text holds a tab or line break.

    """
    path = Path(path)
    require_columns(table, BED_COLUMNS[:3], "the table to write as BED")
    text = _bed_text(table)
    if path.suffix != ".gz":
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        return
    _require_sorted(table, path)
    _write_indexed(text, path, csi=bool(len(table)) and int(table["end"].max()) > TBI_REACH)


def _bed_text(table: pd.DataFrame) -> str:
    others = [column for column in table.columns if column not in BED_COLUMNS]
    depth = 6 if others else max(3, *(BED_COLUMNS.index(column) + 1 for column in table.columns if column in BED_COLUMNS))
    filler = {"name": ".", "score": 0, "strand": "."}
    columns = {column: _cells(table[column]) if column in table else filler[column] for column in BED_COLUMNS[:depth]}
    lines = pd.DataFrame({**columns, **{column: _cells(table[column]) for column in others}}, index=table.index)
    header = "#" + "\t".join(map(str, lines.columns)) + "\n" if others else ""
    text: str = lines.to_csv(sep="\t", header=False, index=False, na_rep=".", quoting=3, quotechar="\0", lineterminator="\n")
    return header + text


def _cells(column: "pd.Series") -> "pd.Series":
    """Return `column` as it is to be printed: whole-number floats of the score as integers, texts checked, empty texts as missing."""
    if pd.api.types.is_float_dtype(column):
        whole = column.name == "score" and bool(np.isfinite(column.dropna()).all()) and bool((column.dropna() % 1 == 0).all())
        return column.astype("Int64") if whole else column
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("str")
    broken = text[text.str.contains(r"[\t\r\n]", regex=True, na=False)]
    if len(broken):
        raise BasewiseError(f"column {column.name} holds {broken.iloc[0]!r}; a BED text cannot hold tabs or line breaks")
    return text.where(text.ne(""))


def _require_sorted(table: pd.DataFrame, path: Path) -> None:
    chrom, start = table["chrom"].to_numpy(), table["start"].to_numpy()
    change = np.flatnonzero(chrom[1:] != chrom[:-1]) + 1 if len(table) else np.empty(0, np.int64)
    pieces = [chrom[0], *chrom[change]] if len(table) else []
    falls = np.flatnonzero((start[1:] < start[:-1]) & (chrom[1:] == chrom[:-1]))
    if len(falls) or len(set(pieces)) != len(pieces):
        raise BasewiseError(f"intervals for {path} are not sorted by contig and start, which its index needs; sort them first")


def _write_indexed(text: str, path: Path, *, csi: bool = False) -> None:
    """Write `text` BGZF-compressed with its tabix index; neither file appears unless both could be written."""
    index = Path(f"{path}{'.csi' if csi else '.tbi'}")
    with atomic_path(path) as packed, atomic_path(index) as packed_index:
        with pysam.BGZFile(str(packed), "wb") as stream:
            stream.write(text.encode("utf-8"))
        try:
            pysam.tabix_index(str(packed), preset="bed", index=str(packed_index), force=True, csi=csi)
        except (OSError, ValueError) as error:
            raise BasewiseError(f"cannot index {path}: {error}") from error
    Path(f"{path}{'.tbi' if csi else '.csi'}").unlink(missing_ok=True)  # an index of a file replaced would mislead


def _checked(parts: Iterable[Part], contigs: Mapping[str, int]) -> Iterator[Part]:
    """Yield non-empty parts; BasewiseError unless contigs come in order, positions ascend inside the contig, values are finite."""
    rank = {name: number for number, name in enumerate(contigs)}
    last_chrom, last_rank, last_position = "", -1, -1
    for chrom, positions, values in parts:
        if chrom not in rank:
            raise BasewiseError(f"track part on contig {chrom!r}, which is not among the {len(rank)} contigs of the genome")
        if rank[chrom] < last_rank:
            raise BasewiseError(f"track part on {chrom!r} comes after {last_chrom!r}; contigs must come in the genome's order")
        if len(positions) != len(values):
            raise BasewiseError(f"track part on {chrom!r} has {len(positions)} positions and {len(values)} values")
        if not len(positions):
            continue
        before = last_position if chrom == last_chrom else -1
        if positions[0] <= before or (np.diff(positions) <= 0).any():
            raise BasewiseError(f"track positions on {chrom!r} must be strictly increasing and not negative, within and across parts")
        if positions[-1] >= contigs[chrom]:
            raise BasewiseError(f"track position {positions[-1]} lies beyond the end of {chrom!r} ({contigs[chrom]} bases)")
        if not np.isfinite(values).all():
            raise BasewiseError(f"track values on {chrom!r} must be finite numbers; leave bases without a value out")
        last_chrom, last_rank, last_position = chrom, rank[chrom], int(positions[-1])
        yield chrom, positions, values


def _runs(positions: npt.NDArray[np.int64], breaks: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (first, after) row numbers of the runs of adjacent positions, split where `breaks` (n - 1,) says so as well."""
    cuts = np.flatnonzero((np.diff(positions) != 1) | breaks) + 1
    return np.concatenate([[0], cuts]), np.concatenate([cuts, [len(positions)]])


def write_bedgraph(path: str | Path, contigs: Mapping[str, int], parts: Iterable[Part]) -> None:
    """Write parts as bedGraph: adjacent bases of equal value (within a part) share a line; BGZF and tabix when `path` ends in ``.gz``."""
    path = Path(path)
    lines: list[str] = []
    reach = 0
    for chrom, positions, values in _checked(parts, contigs):
        first, after = _runs(positions, np.diff(values) != 0)
        starts, ends, kept = positions[first].tolist(), (positions[after - 1] + 1).tolist(), values[first]
        lines.extend(f"{chrom}\t{start}\t{end}\t{value!s}\n" for start, end, value in zip(starts, ends, kept, strict=True))
        reach = max(reach, ends[-1])
    if path.suffix == ".gz":
        _write_indexed("".join(lines), path, csi=reach > TBI_REACH)
        return
    with atomic_path(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_bigwig(path: str | Path, contigs: Mapping[str, int], parts: Iterable[Part]) -> None:
    """Write parts as a bigWig, streamed; without any part the file is valid and empty.

    Scattered bases become variable-step blocks of span 1, long runs fixed-step blocks.

    Parameters
    ----------
    path
        The file.
    contigs
        Length by name, in the order of the parts (a genome's `contigs`). Empty contigs are left out of the file.
    parts
        (chrom, positions, values), contigs in order; several parts a contig are fine.

    Raises
    ------
    BasewiseError
        No contig has a base; parts out of order, beyond a contig's end or not finite.

    """
    import pyBigWig

    header = [(name, int(length)) for name, length in contigs.items() if length]
    if not header:
        raise BasewiseError(f"cannot write {path}: no contig has a base")
    with atomic_path(path) as temporary:
        track = pyBigWig.open(str(temporary), "w")
        if track is None:
            raise BasewiseError(f"cannot write {path}")
        try:
            track.addHeader(header)
            for chrom, positions, values in _checked(parts, contigs):
                for start in range(0, len(positions), BLOCK):
                    _add_block(track, chrom, positions[start : start + BLOCK], values[start : start + BLOCK])
        except RuntimeError as error:
            raise BasewiseError(f"cannot write {path}: {error}") from error
        finally:
            track.close()
        _require_whole(temporary)


def _require_whole(path: Path) -> None:
    """Raise OSError unless the bigWig ends with its magic number, which is written last: pyBigWig does not say when closing failed."""
    with path.open("rb") as stream:
        first = stream.read(4)
        stream.seek(-min(4, path.stat().st_size), os.SEEK_END)
        if len(first) < 4 or stream.read() != first:
            raise OSError(errno.EIO, "the bigWig was cut short (disk full?)")


def _add_block(track: Any, chrom: str, positions: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
    first, after = _runs(positions, np.zeros(len(positions) - 1, bool))
    numbers = values.astype(np.float64)  # as pyBigWig takes them; stored as float32
    done = 0
    for start, end in [(int(a), int(b)) for a, b in zip(first, after, strict=True) if b - a >= DENSE_RUN]:
        _add_scattered(track, chrom, positions[done:start], numbers[done:start])
        track.addEntries(chrom, int(positions[start]), values=numbers[start:end], span=1, step=1)
        done = end
    _add_scattered(track, chrom, positions[done:], numbers[done:])


def _add_scattered(track: Any, chrom: str, positions: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
    if len(positions):
        track.addEntries(chrom, positions, values=values, span=1)


def read_bigwig(path: str | Path, chrom: str | None = None) -> Iterator[Part]:
    """Yield the values of a bigWig as parts, a block of 2^20 bases at a time, contigs in file order (or of one contig only).

    Spans are spread over their bases; bases without a value are absent; blocks without any are skipped.
    """
    import pyBigWig

    try:
        track = pyBigWig.open(str(path))
    except RuntimeError as error:
        raise BasewiseError(f"{path} is missing or no bigWig") from error
    if not track.isBigWig():
        track.close()
        raise BasewiseError(f"{path} is a bigBed, expected a bigWig")
    try:
        lengths = track.chroms()
        if chrom is not None and chrom not in lengths:
            have = ", ".join(list(lengths)[:3])
            raise BasewiseError(f"{path} has no contig {chrom!r}; it has {have}{' ...' if len(lengths) > 3 else ''}")
        for name in lengths if chrom is None else [chrom]:
            for start in range(0, lengths[name], BLOCK) if track.header()["nBasesCovered"] else ():
                dense = np.asarray(track.values(name, start, min(start + BLOCK, lengths[name]), numpy=True), np.float32)
                found = np.flatnonzero(~np.isnan(dense))
                if len(found):
                    yield name, found.astype(np.int64) + start, dense[found]
    finally:
        track.close()
