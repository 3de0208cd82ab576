"""A scan that answers every base: its settings, its part of the plan, and what a worker does with a tile.

The strand: labels of Z-DNA, G-quadruplexes and intervals in general belong to a place, not to a strand; such models are trained, evaluated
and asked by `predict` on sequences that read as the genome does. So by default the genome is read forward once: the probability of a
base is the one `evaluate` and `predict` give it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from basewise.backbones.classifier import Classifier, load_classifier
from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import N_CODE, codes
from basewise.inference.asking import answering, base_tokens, one_thread, refuse_individuals
from basewise.inference.base_answers import Answer, Stretch, open_answer
from basewise.inference.base_merge import BINS, ONE, STEP, write_base_files
from basewise.inference.engine import reads_dense, scorer
from basewise.inference.executors import DoTile, TileResult
from basewise.inference.plan import Tile, share_parts
from basewise.inference.tiles import ScanJob, timed
from basewise.inference.work import Asked, Work

PASSES = {"forward": (1,), "mean": (1, -1), "each": (1, -1)}
_WINDOWS_A_TILE = 8  # of the longest models: what a tile reads twice at its edges stays small beside it
_STRIDES_A_SEQUENCE_WINDOW = 8

# one row a strand; positions count from the tile's start
PART_SCHEMA = pa.schema(
    [
        ("strand", pa.string()),
        ("scored", pa.int64()),
        ("position", pa.list_(pa.int32())),
        ("thousandths", pa.list_(pa.int16())),
        ("start", pa.list_(pa.int32())),
        ("end", pa.list_(pa.int32())),
        ("highest", pa.list_(pa.float32())),
        ("total", pa.list_(pa.int64())),
        ("histogram", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class BaseSettings:
    """How bases are answered and intervals called.

    ``window`` None: the dense way. ``strands``: "forward" (the genome as it reads), "mean" (of both strands' probabilities) or "each"
    (both, apart). ``gap``: most uncalled bases between two runs of one interval.
    """

    threshold: float
    gap: int
    min_length: int
    floor: float
    strands: str
    window: int | None
    stride: int | None


def base_work(asked: Asked) -> Work:
    """Return the work of answering every base; BasewiseError for a model that cannot, or options that cannot be."""
    settings = _settings(asked)
    config, options = asked.classifier.config, asked.options
    causal = asked.classifier.backbone.causal and config.strands == "forward"
    notes = (f"{options.model} reads forward only: a base is answered from the bases before it",) if causal else ()
    way = "dense" if settings.window is None else "windows"
    facts: dict[str, str | int | float | None] = {
        "rule": "none",
        "gap": settings.gap,
        "minimum length": settings.min_length,
        "track floor": settings.floor,
        "strands": settings.strands,
        "window": settings.window,
        "stride": settings.stride,
    }
    about = {
        "kind": "bases",
        "labels": list(config.labels),
        "gap": settings.gap,
        "min_length": settings.min_length,
        "track": {"floor": settings.floor, "step": STEP},
        "reading": {
            "way": way,
            "of": config.kind,
            "strands": settings.strands,
            "window": settings.window,
            "stride": settings.stride,
            "causal": causal,
        },
    }
    told = {name: getattr(options, name) for name in ("gap", "min_length", "track_floor", "strands", "window", "stride")}
    write = partial(write_base_files, contigs=asked.contigs, strands=strand_names(settings), gap=settings.gap, shortest=settings.min_length)
    least = 0 if settings.stride is None else _WINDOWS_A_TILE * max(settings.stride, settings.window or 0)
    return Work(facts, about, {"rule": "none", **told}, notes, least, partial(open_base_worker, settings), write)


def strand_names(settings: BaseSettings) -> tuple[str, ...]:
    """Return the strands of intervals and tracks: "." where there is one answer a base."""
    return ("+", "-") if settings.strands == "each" else (".",)


def _settings(asked: Asked) -> BaseSettings:
    """Return the settings, defaults filled in."""
    options, config, model = asked.options, asked.classifier.config, asked.options.model
    refuse_individuals(asked.classifier)
    if len(config.labels) != 2:
        raise BasewiseError(
            f"model for {config.task!r} (kind {config.kind!r}, labels {', '.join(config.labels)}) cannot answer bases, expected a binary "
            "question about a base or a sequence; use predict"
        )
    if asked.genes is not None:
        raise BasewiseError("--genes classes poly(A) sites, which have a strand; leave it out of a scan of every base")
    if options.precision != "fp32":
        raise BasewiseError("--precision is for scans of candidates; leave it out of a scan of every base")
    if options.exact:
        raise BasewiseError("--exact is about the first stage of a scan of candidates; leave it out of a scan of every base")
    gap = 0 if options.gap is None else options.gap
    shortest = 1 if options.min_length is None else options.min_length
    floor = 0.01 if options.track_floor is None else options.track_floor
    strands = "forward" if options.strands is None else options.strands
    if gap < 0 or shortest < 1 or not 0 <= floor <= 1:
        raise BasewiseError(
            f"--gap is {gap}, --min-length {shortest}, --track-floor {floor}: expected a gap >= 0, a length >= 1, a probability"
        )
    if strands not in PASSES:
        raise BasewiseError(f"--strands is {strands!r}, expected one of {', '.join(PASSES)}")
    window, stride = _window(asked)
    if window is None:
        scorer(asked.classifier, device=asked.device, dense=True)  # refuses what it cannot
    elif asked.classifier.backbone.max_tokens is not None and (layout := base_tokens(asked.classifier)) is not None:
        tokens = window + len(layout.prefix) + len(layout.suffix)
        if tokens > asked.classifier.backbone.max_tokens:
            raise BasewiseError(
                f"a window of {window} bases makes {tokens} tokens, {model} takes at most {asked.classifier.backbone.max_tokens}; choose a "
                "smaller --window"
            )
    return BaseSettings(asked.threshold, gap, shortest, floor, strands, window, stride)


def _window(asked: Asked) -> tuple[int | None, int | None]:
    """Return (window, stride), both None for models that need no windows."""
    classifier, options = asked.classifier, asked.options
    if reads_dense(classifier, base_tokens(classifier)):
        if options.window is not None or options.stride is not None:
            raise BasewiseError(
                f"{options.model} reads {2 * _reach(classifier) + 1} bases around every base of the genome and needs no windows; leave out "
                "--window and --stride"
            )
        return None, None
    window = classifier.config.window if options.window is None else options.window
    if window is None:
        raise BasewiseError(f"{options.model} was trained without a window; say with --window how many bases it shall read at a time")
    parts = 2 if classifier.config.kind == "base" else _STRIDES_A_SEQUENCE_WINDOW
    stride = max(1, window // parts) if options.stride is None else options.stride
    if window < 1 or not 1 <= stride <= window:
        raise BasewiseError(f"--window is {window}, --stride {stride}: expected 1 <= stride <= window")
    return window, stride


def _reach(classifier: Classifier) -> int:
    reach: int = classifier.backbone.reach  # type: ignore[attr-defined]
    return reach


@contextmanager
def open_base_worker(settings: BaseSettings, job: ScanJob) -> Iterator[DoTile]:
    """Load the model, take one thread, and yield the function that does a tile."""
    classifier = load_classifier(job.model)
    device = torch.device(job.device)
    with share_parts(job.parts), one_thread(), job.genome, answering(classifier, device):
        yield partial(_do_tile, job, settings, open_answer(classifier, device, settings.window, settings.stride))


def _do_tile(job: ScanJob, settings: BaseSettings, answer: Answer, tile: Tile) -> TileResult:
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        wanted = codes(job.genome.fetch(tile.chrom, tile.start, tile.end)) != N_CODE
        bases_here = tile.end - tile.start
        if job.regions is not None:
            wanted &= job.regions.inside(tile.chrom, np.arange(tile.start, tile.end))
            bases_here = job.regions.bases(tile.chrom, tile.start, tile.end)
    with timed(seconds, "score"):
        stretch = Stretch(partial(job.genome.window, tile.chrom), job.genome.contigs[tile.chrom], tile.start, tile.end, wanted)
        passes = [np.where(wanted, answer(stretch, strand), np.float32(0)) for strand in PASSES[settings.strands]]
    if not all(np.isfinite(p).all() for p in passes):
        raise BasewiseError(f"model {job.model} gave a probability that is not a number in {tile}; its weights are damaged")
    if settings.strands == "mean":
        passes = [(passes[0] + passes[1]) * np.float32(0.5)]
    with timed(seconds, "write"):
        rows = [_row(strand, p, wanted, settings) for strand, p in zip(strand_names(settings), passes, strict=True)]
        schema = PART_SCHEMA.with_metadata({"basewise": json.dumps({"bases": bases_here, "seconds": seconds})})
        with atomic_path(job.parts / tile.part) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")
    return TileResult(tile.index, bases_here, 0, seconds)


def _row(strand: str, p: npt.NDArray[np.float32], wanted: npt.NDArray[np.bool_], settings: BaseSettings) -> dict[str, Any]:
    """Return a row of PART_SCHEMA for the probabilities of a tile's bases.

    Totals are whole numbers (`ONE` is a probability of 1), because sums of floats would depend on where tiles cut a run.
    """
    shown = np.flatnonzero(wanted & (p >= np.float32(settings.floor)))
    called = np.concatenate([[False], wanted & (p >= np.float32(settings.threshold)), [False]])
    edges = np.flatnonzero(called[1:] != called[:-1]).reshape(-1, 2)
    start, end = edges[:, 0], edges[:, 1]
    sums = np.concatenate([[0], np.cumsum(np.rint(p.astype(np.float64) * ONE).astype(np.int64))])
    return {
        "strand": strand,
        "scored": int(wanted.sum()),
        "position": shown.astype(np.int32),
        "thousandths": np.rint(p[shown].astype(np.float64) / STEP).astype(np.int16),
        "start": start.astype(np.int32),
        "end": end.astype(np.int32),
        "highest": np.maximum.reduceat(np.append(p, np.float32(0)), edges.reshape(-1))[::2] if len(edges) else p[:0],
        "total": sums[end] - sums[start],
        "histogram": np.bincount(np.minimum((p[wanted] * BINS).astype(np.int64), BINS - 1), minlength=BINS),
    }
