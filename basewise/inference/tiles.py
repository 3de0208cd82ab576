"""One tile of a scan: read its bases, find its candidates, score them, write them as a part. Everything a worker does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.fasta import Genome
from basewise.inference.executors import DoTile, TileResult
from basewise.inference.plan import Tile, share_parts
from basewise.inference.regions import Regions
from basewise.tasks.pas_rule import LAST, candidates_of_block, describe

if TYPE_CHECKING:
    from basewise.inference.staged import StageOptions, Stages

PART_SCHEMA = pa.schema(
    [("position", pa.int64()), ("strand", pa.int8()), ("hexamer", pa.int8()), ("hexamer_offset", pa.int8()), ("probability", pa.float32())]
)


@dataclass(frozen=True)
class ScanJob:
    """What a worker must know; picklable."""

    genome: Genome
    model: str
    parts: Path
    regions: Regions | None
    device: str
    batch_size: int


@contextmanager
def open_worker(asked: "StageOptions", job: ScanJob) -> Iterator[DoTile]:
    """Load the model, take one thread, and yield the function that does a tile."""
    import torch

    from basewise.backbones.classifier import load_classifier
    from basewise.inference.asking import answering, one_thread
    from basewise.inference.engine import cell_size
    from basewise.inference.staged import make_stages

    classifier = load_classifier(job.model)
    device = torch.device(job.device)
    with share_parts(job.parts), one_thread(), job.genome, answering(classifier, device):
        ready = make_stages(job.model, classifier, device, job.batch_size, asked)
        yield partial(_do_tile, job, ready, cell_size(device))


def _do_tile(job: ScanJob, ready: "Stages", cell: int, tile: Tile) -> TileResult:
    seconds: dict[str, float] = {}
    length = job.genome.contigs[tile.chrom]
    offset = tile.start - max(ready.halo, LAST)
    with timed(seconds, "read"):
        # up to the end of the last cell, since the engine works by whole cells; beyond the contig is N
        bases = job.genome.window(tile.chrom, offset, -(-tile.end // cell) * cell + max(ready.halo, LAST))
    with timed(seconds, "rule"):
        first, last = max(offset, 0), min(offset + len(bases), length)
        inside = bases[first - offset : last - offset]
        position, strand = candidates_of_block(inside, first, length, tile.start, tile.end)
        if job.regions is not None:
            kept = job.regions.inside(tile.chrom, position)
            position, strand = position[kept], strand[kept]
        hexamer, hexamer_offset = describe(inside, position - first, strand)
    with timed(seconds, "score"):
        scored = ready.score(lambda start, end: bases[start - offset : end - offset], position, strand, length)
    if not np.isfinite(scored.probability[~scored.dropped]).all():
        raise BasewiseError(f"model {job.model} gave a probability that is not a number in {tile}; its weights are damaged")
    with timed(seconds, "write"):
        bases_here = tile.end - tile.start if job.regions is None else job.regions.bases(tile.chrom, tile.start, tile.end)
        columns = (position, strand, hexamer, hexamer_offset, scored.probability)
        counts = {"dropped": int(scored.dropped.sum()), "rescored": scored.rescored, "difference": scored.difference}
        _write_part(job.parts / tile.part, columns, {"bases": bases_here, "seconds": seconds, "counts": counts})
    return TileResult(tile.index, bases_here, len(position), seconds)


def _write_part(path: Path, columns: tuple[npt.NDArray[np.generic], ...], about: dict[str, object]) -> None:
    schema = PART_SCHEMA.with_metadata({"basewise": json.dumps(about)})
    table = pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long the block takes."""
    begun = perf_counter()
    yield
    seconds[stage] = perf_counter() - begun
