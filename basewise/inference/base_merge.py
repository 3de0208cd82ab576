"""From the parts of a scan of bases to its files: intervals called contig by contig, tracks streamed; no border of a tile shows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.genome.tracks import write_bed, write_bigwig
from basewise.inference.merge import load_part
from basewise.inference.plan import Tile
from basewise.inference.watcher import Watcher

INTERVALS, BASE_TRACKS = "intervals.bed.gz", {".": "probability.bw", "+": "plus.bw", "-": "minus.bw"}
INTERVAL_COLUMNS = (*("chrom", "start", "end", "name", "score", "strand"), *("max_probability", "mean_probability", "called_bases"))
STEP = 0.001  # of the probabilities in tracks
ONE = 1 << 30  # a probability of 1 in sums
BINS = 20
LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # first length of each bin
_BLOCK = 1 << 18  # bases of a contig given to a track at a time: its bytes depend on these blocks, and never on tiles
_COUNTS = ("bases", "scored", "called", "intervals")

Array = npt.NDArray[Any]


class Strand(NamedTuple):
    """What a tile's part says about a strand; positions count from the contig's start."""

    scored: int
    position: npt.NDArray[np.int64]
    thousandths: npt.NDArray[np.int16]
    runs: dict[str, Array]  # start, end, highest, total: runs of called bases
    histogram: npt.NDArray[np.int64]


class BasePart(NamedTuple):
    """What a tile's part holds."""

    tile: Tile
    bases: int
    seconds: dict[str, float]
    strands: dict[str, Strand]


def base_files(totals: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of a scan's files with what they hold."""
    return {
        INTERVALS: f"{totals['intervals']:,} intervals, {totals['called']:,} called bases",
        BASE_TRACKS["."]: "probability of each base",
        BASE_TRACKS["+"]: "probability of each base, plus strand",
        BASE_TRACKS["-"]: "probability of each base, minus strand",
        "summary.json": "counts and settings",
        "report.html": "figures, open in a browser",
    }


def read_base_parts(folders: Sequence[Path], tiles: Sequence[Tile]) -> Iterator[BasePart]:
    """Yield the parts in the order of `tiles`, one in memory at a time."""
    for tile in tiles:
        table, about = load_part(folders, tile)
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        strands = {}
        for number, strand in enumerate(columns["strand"].to_pylist()):
            lists = {name: columns[name][number].values.to_numpy(zero_copy_only=False) for name in table.column_names[2:]}
            runs = {key: lists[key] for key in ("highest", "total")}
            runs |= {key: lists[key].astype(np.int64) + tile.start for key in ("start", "end")}
            position = lists["position"].astype(np.int64) + tile.start
            strands[strand] = Strand(columns["scored"][number].as_py(), position, lists["thousandths"], runs, lists["histogram"])
        yield BasePart(tile, about["bases"], about["seconds"], strands)


def join_runs(runs: Mapping[str, Array], gap: int, shortest: int) -> dict[str, Array]:
    """Return intervals from runs of called bases of a strand of a contig, ascending: ``start end highest total called``.

    Runs with at most `gap` bases between them become one interval; then intervals of fewer than `shortest` bases are left out.
    """
    start, end = runs["start"], runs["end"]
    if not len(start):
        return {**runs, "called": start}
    first = np.flatnonzero(np.concatenate([[True], start[1:] - end[:-1] > gap]))
    joined = {
        "start": start[first],
        "end": end[np.append(first[1:], len(start)) - 1],
        "highest": np.maximum.reduceat(runs["highest"], first),
        "total": np.add.reduceat(runs["total"], first),
        "called": np.add.reduceat(end - start, first),
    }
    kept = joined["end"] - joined["start"] >= shortest
    return {name: values[kept] for name, values in joined.items()}


def write_base_files(
    folders: Sequence[Path],
    tiles: Sequence[Tile],
    folder: Path,
    watcher: Watcher,
    *,
    contigs: Mapping[str, int],
    strands: Sequence[str],
    gap: int,
    shortest: int,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Write intervals.bed.gz and a track a strand; return the counts of summary.json and the seconds by stage."""
    watcher.stage("merge")
    tally = BaseTally(contigs, strands)
    found: list[pd.DataFrame] = []
    for chrom, same in groupby(read_base_parts(folders, tiles), key=lambda part: part.tile.chrom):
        pieces: dict[str, list[dict[str, Array]]] = {strand: [] for strand in strands}
        for part in same:
            tally.add_part(part)
            for strand, row in part.strands.items():
                pieces[strand].append(row.runs)
        for strand, rows in pieces.items():
            runs = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
            intervals = join_runs(runs, gap, shortest)
            tally.add_intervals(chrom, strand, intervals)
            found.append(_table(chrom, strand, intervals))
    write_bed(_named(found, list(contigs)), folder / INTERVALS)
    watcher.stage("tracks")
    for strand in strands:
        write_bigwig(folder / BASE_TRACKS[strand], contigs, _track(folders, tiles, strand))
    return tally.summary(), tally.seconds


def _table(chrom: str, strand: str, intervals: Mapping[str, Array]) -> pd.DataFrame:
    highest = intervals["highest"].astype(np.float64)
    return pd.DataFrame(
        {
            "chrom": pd.Series([chrom] * len(highest), dtype=object),
            "start": intervals["start"],
            "end": intervals["end"],
            "score": np.rint(1000 * highest).astype(np.int64),
            "strand": pd.Series([strand] * len(highest), dtype=object),
            "max_probability": highest,
            "mean_probability": intervals["total"] / ONE / np.maximum(intervals["called"], 1),
            "called_bases": intervals["called"],
        }
    )


def _named(tables: Sequence[pd.DataFrame], contigs: Sequence[str]) -> pd.DataFrame:
    """Return the tables as one, sorted for its index, columns INTERVAL_COLUMNS; interval_1 has the highest probability of the genome.

    Of equally high ones the one with more expected bases (mean times called bases) comes first, then the one further up the genome.
    """
    filled = [table for table in tables if len(table)]  # empty tables would loosen the column types
    if not filled:
        return pd.DataFrame({column: pd.Series(dtype=object) for column in INTERVAL_COLUMNS})
    table = pd.concat(filled, ignore_index=True)
    rank_of = {chrom: rank for rank, chrom in enumerate(contigs)}
    order = np.lexsort((table["strand"].to_numpy(str), table["end"], table["start"], table["chrom"].map(rank_of)))
    table = table.iloc[order].reset_index(drop=True)
    expected = table["mean_probability"] * table["called_bases"]
    rank = np.empty(len(table), np.int64)
    rank[np.lexsort((-expected, -table["max_probability"]))] = np.arange(1, len(table) + 1)
    six = {name: [f"{value:.6g}" for value in table[name]] for name in ("max_probability", "mean_probability")}
    return table.assign(name=[f"interval_{number}" for number in rank], **six)[list(INTERVAL_COLUMNS)]


def _track(folders: Sequence[Path], tiles: Sequence[Tile], strand: str) -> Iterator[tuple[str, Array, npt.NDArray[np.float32]]]:
    """Yield (contig, positions, probabilities in steps of STEP) by blocks of the contig."""
    for chrom, same in groupby(read_base_parts(folders, tiles), key=lambda part: part.tile.chrom):
        position, thousandths = np.empty(0, np.int64), np.empty(0, np.int16)
        for part in same:
            row = part.strands[strand]
            position, thousandths = np.concatenate([position, row.position]), np.concatenate([thousandths, row.thousandths])
            whole = int(np.searchsorted(position, part.tile.end // _BLOCK * _BLOCK))
            yield from _blocks(chrom, position[:whole], thousandths[:whole])
            position, thousandths = position[whole:], thousandths[whole:]
        yield from _blocks(chrom, position, thousandths)


def _blocks(chrom: str, position: Array, thousandths: Array) -> Iterator[tuple[str, Array, npt.NDArray[np.float32]]]:
    edges = np.flatnonzero(np.diff(position // _BLOCK)) + 1
    for where, values in zip(np.split(position, edges), np.split(thousandths, edges), strict=True):
        yield chrom, where, (values * STEP).astype(np.float32)


class BaseTally:
    """Counts a contig and strand, histograms of probabilities and of lengths: what summary.json and the report's figures show."""

    def __init__(self, contigs: Mapping[str, int], strands: Sequence[str]) -> None:
        self._rows = {(chrom, strand): dict.fromkeys(_COUNTS, 0) for chrom in contigs for strand in strands}
        self._strands = len(strands)
        self._bases, self._intervals = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self._lengths = np.zeros(len(LENGTHS), np.int64)
        self.seconds: dict[str, float] = {}

    def add_part(self, part: BasePart) -> None:
        """Count the bases of a tile."""
        for strand, found in part.strands.items():
            row = self._rows[part.tile.chrom, strand]
            row["bases"] += part.bases
            row["scored"] += found.scored
            row["called"] += int((found.runs["end"] - found.runs["start"]).sum())
            self._bases += found.histogram
        for stage, seconds in part.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def add_intervals(self, chrom: str, strand: str, intervals: Mapping[str, Array]) -> None:
        """Count the intervals of a contig and strand."""
        self._rows[chrom, strand]["intervals"] += len(intervals["start"])
        highest = np.minimum((intervals["highest"] * BINS).astype(np.int64), BINS - 1)
        self._intervals += np.bincount(highest, minlength=BINS)
        width = np.searchsorted(LENGTHS, intervals["end"] - intervals["start"], side="right") - 1
        self._lengths += np.bincount(width, minlength=len(LENGTHS))

    def summary(self) -> dict[str, Any]:
        """Return the counting part of summary.json; totals count a base once, and its calls on every strand."""
        totals = {key: sum(row[key] for row in self._rows.values()) for key in _COUNTS}
        totals["bases"] //= self._strands
        totals["scored"] //= self._strands
        return {
            "totals": totals,
            "contigs": [{"chrom": chrom, "strand": strand, **row} for (chrom, strand), row in self._rows.items()],
            "probabilities": {
                "edges": [round(index / BINS, 6) for index in range(BINS + 1)],
                "bases": self._bases.tolist(),
                "intervals": self._intervals.tolist(),
            },
            "lengths": {"from": list(LENGTHS), "intervals": self._lengths.tolist()},
        }
