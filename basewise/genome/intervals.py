"""Intervals tables: pandas DataFrames ``chrom start end [name score strand ...]``, 0-based half-open, always.

``strand`` is "+", "-" or "." (unknown). Tables are never changed in place.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.lines import is_comment, is_integer, place, read_lines

Positions = npt.NDArray[np.int64]

STRANDS = ("+", "-", ".")
BED_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")
NO_NEIGHBOUR = np.iinfo(np.int64).max  # the distance to the nearest of nothing


def read_bed(path: str | Path, *, allow_empty: bool = False) -> pd.DataFrame:
    """Read a BED file (3 or more columns, gzipped or not, LF or CRLF, tabs or blanks) as an intervals table in file order.

    ``#``, ``track`` and ``browser`` lines are skipped. Columns: chrom (str), start, end (int64), then as far as the file goes
    name (str), score (float64, "." is NaN) and strand (str). Columns beyond the sixth are kept only when a header line
    ``#chrom start end ...`` names them (as `write_bed` writes it); whole columns of numbers become numbers.

    Parameters
    ----------
    path
        The file.
    allow_empty
        Return an empty table (chrom start end) for a file without intervals, instead of raising.

    Raises
    ------
    BasewiseError
        With the line number: too few columns, a start or end that is no whole number, negative, start > end, a strand that is
        none, a score that is no number. Without: the file is missing, not text, or holds no interval.

    """
    names: list[str] = []
    rows: list[list[str]] = []
    width = 0
    for number, line in read_lines(path):
        if is_comment(line):
            header = line.removeprefix("#").strip().split("\t")
            names = header if tuple(header[:3]) == BED_COLUMNS[:3] else names
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        _check_bed_line(fields, path, number)
        width = width or len(fields)
        if len(fields) != width:
            raise BasewiseError(
                f"{place(path, number)} has {len(fields)} columns, the lines before have {width}; give all lines the same columns"
            )
        rows.append(fields)
    if not rows:
        if allow_empty:
            return pd.DataFrame({"chrom": pd.Series([], dtype="str"), "start": np.empty(0, np.int64), "end": np.empty(0, np.int64)})
        raise BasewiseError(f"{path} holds no interval, expected BED lines: chrom, start, end, tab-separated")
    columns = names if len(names) == width and len(set(names)) == width else list(BED_COLUMNS[:width])
    return _bed_table(rows, columns)


def _check_bed_line(fields: list[str], path: str | Path, number: int) -> None:
    where = place(path, number)
    if len(fields) < 3:
        raise BasewiseError(f"{where} has {len(fields)} columns, expected at least chrom, start and end, tab-separated")
    if not (is_integer(fields[1]) and is_integer(fields[2])):
        raise BasewiseError(f"{where}: start {fields[1]!r} and end {fields[2]!r} must be whole numbers")
    start, end = int(fields[1]), int(fields[2])
    if start < 0 or start > end:
        raise BasewiseError(f"{where}: start {start} and end {end} are no interval, expected 0 <= start <= end (BED counts from 0)")
    if len(fields) > 4 and fields[4] != "." and not _is_number(fields[4]):
        raise BasewiseError(f"{where}: score {fields[4]!r} (column 5) is no number; is this BED (chrom start end name score strand)?")
    if len(fields) > 5 and fields[5] not in STRANDS:
        raise BasewiseError(f"{where}: strand {fields[5]!r} (column 6) is none of + - .")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bed_table(rows: list[list[str]], columns: list[str]) -> pd.DataFrame:
    series: dict[str, pd.Series | Positions | npt.NDArray[np.float64]] = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=False):
        if column in ("start", "end"):
            series[column] = np.array(values, dtype=np.int64)
        elif column == "score":
            series[column] = np.array([np.nan if value == "." else float(value) for value in values])
        elif column in BED_COLUMNS:
            series[column] = pd.Series(values, dtype="str")
        else:
            series[column] = _numbers_if_all_are(values)
    return pd.DataFrame(series)


def _numbers_if_all_are(values: tuple[str, ...]) -> "pd.Series":
    for dtype in (np.int64, np.float64):
        try:
            return pd.Series(np.array(values, dtype=dtype))
        except ValueError:
            continue
    return pd.Series(values, dtype="str")


def require_columns(table: pd.DataFrame, columns: Iterable[str], source: str | Path) -> None:
    """Raise BasewiseError when `table`, which comes from `source`, lacks any of `columns`; all that are missing are listed."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        have = ", ".join(map(str, table.columns)) or "none"
        hint = did_you_mean(missing[0], map(str, table.columns))
        raise BasewiseError(f"{source} lacks column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {have}.{hint}")


def sort_intervals(table: pd.DataFrame, contigs: Iterable[str] | None = None) -> pd.DataFrame:
    """Return `table` sorted by chrom, start, end (stable), with a fresh index.

    Contigs come in the order of `contigs` (a genome's, so that tracks stream), or by name as ``sort -k1,1`` does when None.
    """
    order = {name: rank for rank, name in enumerate(contigs)} if contigs is not None else _by_name(table["chrom"])
    strangers = set(table["chrom"].unique()) - set(order)
    if strangers:
        raise BasewiseError(f"contig {sorted(strangers)[0]!r} is not among the contigs to sort by")
    rank = table["chrom"].map(order).to_numpy(np.int64)
    rows = np.lexsort((table["end"].to_numpy(), table["start"].to_numpy(), rank))
    return table.iloc[rows].reset_index(drop=True)


def _by_name(chrom: "pd.Series") -> dict[str, int]:
    return {name: rank for rank, name in enumerate(sorted(chrom.unique()))}


def strand_groups(table: pd.DataFrame, *, stranded: bool = True) -> Mapping[tuple[str, str], Positions]:
    """Return row numbers by (chrom, strand), in table order; strand is "" throughout when not `stranded`."""
    strand = table["strand"] if stranded else pd.Series("", index=table.index, dtype="str")
    rows = pd.DataFrame({"chrom": table["chrom"].to_numpy(), "strand": strand.to_numpy(), "row": np.arange(len(table))})
    groups = rows.groupby(["chrom", "strand"], sort=True, observed=True)["row"]
    return {(str(chrom), str(side)): group.to_numpy(np.int64) for (chrom, side), group in groups}


def cluster(table: pd.DataFrame, gap: int, *, stranded: bool = True) -> Positions:
    """Return a cluster number int64 (n,) for every row: single linkage of intervals at most `gap` bases apart.

    The distance of two intervals is that of their nearest bases: 1-bp sites at p and q are ``q - p`` apart, touching intervals
    1, overlapping ones 0 or less. Strands are clustered apart when `stranded`. Numbers run from 0 by chrom name, strand, start.
    """
    numbers = np.empty(len(table), np.int64)
    starts, ends = table["start"].to_numpy(np.int64), table["end"].to_numpy(np.int64)
    count = 0
    for group in strand_groups(table, stranded=stranded).values():
        rows = group[np.argsort(starts[group], kind="stable")]
        reach = np.maximum.accumulate(ends[rows])
        breaks = starts[rows][1:] - (reach[:-1] - 1) > gap
        numbers[rows] = count + np.concatenate([[0], np.cumsum(breaks)])
        count = int(numbers[rows[-1]]) + 1
    return numbers


def nearest(query: Positions, targets: Positions) -> tuple[Positions, Positions]:
    """Return (index into `targets`, distance), both int64 (n,), of the target nearest to each query; ties go to the lower target.

    `targets` must be sorted. Without targets the index is -1 and the distance `NO_NEIGHBOUR`.

    >>> nearest(np.array([0, 15, 99]), np.array([10, 20]))
    (array([0, 0, 1]), array([10,  5, 79]))
    """
    if not len(targets):
        return np.full(len(query), -1, np.int64), np.full(len(query), NO_NEIGHBOUR, np.int64)
    right = np.searchsorted(targets, query)
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(targets) - 1)
    to_left, to_right = np.abs(query - targets[left]), np.abs(targets[right] - query)
    index = np.where(to_left <= to_right, left, right)
    return index, np.minimum(to_left, to_right)


def nearest_sites(sites: pd.DataFrame, others: pd.DataFrame, *, stranded: bool = True) -> tuple[Positions, Positions]:
    """Return (row number in `others`, distance), int64 (n,), of the nearest site of `others` on the same contig (and strand).

    Both are tables of 1-bp sites; positions are their starts. Ties go to the lower coordinate. Row -1 and `NO_NEIGHBOUR` where
    there is none.
    """
    row, distance = np.full(len(sites), -1, np.int64), np.full(len(sites), NO_NEIGHBOUR, np.int64)
    groups = strand_groups(others, stranded=stranded)
    positions, targets = sites["start"].to_numpy(np.int64), others["start"].to_numpy(np.int64)
    for key, rows in strand_groups(sites, stranded=stranded).items():
        if key in groups:
            candidates = groups[key][np.argsort(targets[groups[key]], kind="stable")]
            index, distance[rows] = nearest(positions[rows], targets[candidates])
            row[rows] = candidates[index]
    return row, distance
