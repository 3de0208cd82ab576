"""From the parts of a scan to its files: streamed tile by tile, sites called contig by contig, so that no border of a tile shows.

The bytes written depend on the candidates alone: row groups and bigWig blocks are cut by count, never by tile.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.tracks import write_bed, write_bigwig
from basewise.inference.calls import call_sites, classify_by_genes
from basewise.inference.plan import Tile
from basewise.inference.tally import Tally
from basewise.tasks.pas_rule import HEXAMERS

CANDIDATES, SITES, TRACKS = "candidates.parquet", "sites.bed.gz", {1: "plus.bw", -1: "minus.bw"}
CANDIDATE_SCHEMA = pa.schema(
    [
        ("chrom", pa.string()),
        ("position", pa.int64()),
        ("strand", pa.string()),
        ("hexamer", pa.string()),
        ("hexamer_offset", pa.int8()),
        ("probability", pa.float32()),
    ]
)
SITE_COLUMNS = (
    *("chrom", "start", "end", "name", "score", "strand"),
    *("probability", "hexamer", "hexamer_offset", "n_in_cluster", "region", "gene"),
)
_ROW_GROUP = 1 << 18
_SIGNS = pa.array(["-", "+"])


class Part(NamedTuple):
    """What a tile's part holds, columns as in `tiles.PART_SCHEMA`; a candidate that was not scored has the probability NaN."""

    tile: Tile
    bases: int
    seconds: dict[str, float]
    counts: dict[str, float]
    position: npt.NDArray[np.int64]
    strand: npt.NDArray[np.int8]
    hexamer: npt.NDArray[np.int8]
    hexamer_offset: npt.NDArray[np.int8]
    probability: npt.NDArray[np.float32]


def read_parts(folders: Sequence[Path], tiles: Sequence[Tile]) -> Iterator[Part]:
    """Yield the parts in the order of `tiles`, one in memory at a time; n folders are those of shards 1/n to n/n."""
    for tile in tiles:
        table, about = load_part(folders, tile)
        yield Part(tile, about["bases"], about["seconds"], about["counts"], *(column.to_numpy() for column in table.columns))


def load_part(folders: Sequence[Path], tile: Tile) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table of a tile's part and what it tells beside it (bases, seconds); BasewiseError when it cannot be read."""
    path = folders[tile.index % len(folders)] / tile.part
    try:
        table = pq.read_table(path, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise BasewiseError(f"part {path} of {tile} cannot be read ({error}); delete it and run the same command again") from error
    return table, json.loads(table.schema.metadata[b"basewise"])


def merge_candidates(
    parts: Iterator[Part], path: Path, threshold: float, gap: int, genes: pd.DataFrame | None, tally: Tally
) -> pd.DataFrame:
    """Write candidates.parquet, count everything into `tally`, and return the sites (columns of sites.bed.gz), site_1 the most
    probable of the genome."""
    sites = []
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, CANDIDATE_SCHEMA, compression="zstd") as writer:
        rows = _Rows(writer)
        for chrom, same in groupby(parts, key=lambda part: part.tile.chrom):
            high = []
            for part in same:
                tally.add_part(part)
                rows.add(_readable(part))
                high.append(_at_or_above(part, threshold))
            called = _sites_of_contig(pd.concat(high, ignore_index=True), threshold, gap, genes)
            tally.add_sites(chrom, called)
            sites.append(called)
        rows.flush()
    found = [table for table in sites if len(table)]  # empty tables would loosen the column types
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame({column: pd.Series(dtype=object) for column in SITE_COLUMNS})
    ranked = np.argsort(-table["probability"].to_numpy(np.float64), kind="stable")
    rank = np.empty(len(table), np.int64)
    rank[ranked] = np.arange(1, len(table) + 1)
    return table.assign(name=[f"site_{number}" for number in rank])[list(SITE_COLUMNS)]


def _sites_of_contig(candidates: pd.DataFrame, threshold: float, gap: int, genes: pd.DataFrame | None) -> pd.DataFrame:
    """Return the sites among the candidates of a contig, with region and gene ("." without genes)."""
    sites = call_sites(candidates, threshold, gap)
    return sites.assign(region=".", gene=".") if genes is None else classify_by_genes(sites, genes)


class _Rows:
    """Row groups of exactly `_ROW_GROUP` rows, whatever the sizes of the tables that come in."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._count = 0

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._count += table.num_rows
        while self._count >= _ROW_GROUP:
            whole = pa.concat_tables(self._waiting)
            self._write(whole.slice(0, _ROW_GROUP))
            self._waiting = [whole.slice(_ROW_GROUP)]
            self._count -= _ROW_GROUP

    def flush(self) -> None:
        if self._count:
            self._write(pa.concat_tables(self._waiting))

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=_ROW_GROUP)


def _readable(part: Part) -> pa.Table:
    columns = [
        pa.repeat(pa.scalar(part.tile.chrom), len(part.position)),
        pa.array(part.position),
        _SIGNS.take(pa.array(part.strand > 0).cast(pa.int8())),
        pa.array(HEXAMERS).take(pa.array(part.hexamer)),
        pa.array(part.hexamer_offset),
        pa.array(part.probability, from_pandas=True),  # NaN becomes null
    ]
    return pa.Table.from_arrays(columns, schema=CANDIDATE_SCHEMA)


def _at_or_above(part: Part, threshold: float) -> pd.DataFrame:
    kept = part.probability >= np.float32(threshold)
    return pd.DataFrame(
        {
            "chrom": pd.Series([part.tile.chrom] * int(kept.sum()), dtype=object),
            "position": part.position[kept],
            "strand": np.where(part.strand[kept] > 0, "+", "-").astype(object),
            "hexamer": np.array(HEXAMERS, dtype=object)[part.hexamer[kept]],
            "hexamer_offset": part.hexamer_offset[kept],
            "probability": part.probability[kept],
        }
    )


def write_sites(sites: pd.DataFrame, path: Path) -> None:
    """Write sites.bed.gz and its tabix index; probabilities with six significant digits."""
    table = sites.assign(probability=[f"{value:.6g}" for value in sites["probability"]])
    write_bed(table, path)


def write_tracks(candidates: Path, contigs: Mapping[str, int], folder: Path) -> None:
    """Write plus.bw and minus.bw: the probability of each candidate base that has one; other bases are absent."""
    for sign, name in TRACKS.items():
        write_bigwig(folder / name, contigs, _track(candidates, "+" if sign > 0 else "-"))


def _track(candidates: Path, strand: str) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Yield (contig, positions, probabilities) of a strand, at most a row group at a time, in the order of the file."""
    with pq.ParquetFile(candidates) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=["chrom", "position", "strand", "probability"], use_threads=False)
            chroms = table["chrom"].combine_chunks().dictionary_encode()
            code = chroms.indices.to_numpy()
            mine = table["strand"].combine_chunks().dictionary_encode()
            position, probability = table["position"].to_numpy(), table["probability"].to_numpy()
            is_mine = np.array(mine.dictionary.to_pylist(), dtype=object)[mine.indices.to_numpy()] == strand
            here = np.flatnonzero(is_mine & ~np.isnan(probability))
            edges = np.flatnonzero(np.diff(code[here])) + 1
            for rows in np.split(here, edges):
                if len(rows):
                    yield chroms.dictionary[int(code[rows[0]])].as_py(), position[rows], probability[rows]
