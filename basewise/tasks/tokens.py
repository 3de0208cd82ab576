"""Base-level datasets from intervals on a genome: windows with one label a base, as published or complete.

Windows stand on a grid of every contig. A window that holds a labelled base is positive, one without is negative; all positives are kept
and `ratio` negatives are drawn for each. Labels are of the position, not of a strand: rows have strand "." and read as the genome does.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.datasets.splits import choose_chroms, chromosome_split, random_split
from basewise.datasets.table import COMPLETE, EXAMPLE_COLUMNS, UNLABELLED
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import N_CODE, Bases, codes, to_str
from basewise.genome.fasta import Genome, check_contigs

TASKS = {"zdna": "Z-DNA", "g4": "G-quadruplex", "tokens": "interval"}  # dataset's task -> name of label 1
OVERLAPS = ("keep", "ignore", "drop")
SPLITS = ("chromosome", "random")

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenOptions:
    """How windows are placed, chosen and divided; the command line's flags."""

    task: str = "tokens"
    window: int = 100  # scored bases
    stride: int | None = None  # None: `window`, so that no base stands in two windows
    flank: int = 0  # bases of context on either side, label -1
    ratio: float = 3.0  # negative windows for each positive one
    overlap: str = "keep"  # of an interval that a window's edge cuts: keep its labels, ignore them (-1), or drop the window
    split: str = "chromosome"
    test_chroms: tuple[str, ...] = ()
    val_chroms: tuple[str, ...] = ()
    complete: bool = False  # also every base of the test chromosomes, as split "complete"
    seed: int = 0

    def check(self) -> None:
        """Raise BasewiseError for values that cannot be."""
        for name, value, known in (("task", self.task, tuple(TASKS)), ("overlap", self.overlap, OVERLAPS), ("split", self.split, SPLITS)):
            if value not in known:
                raise BasewiseError(f"{name} is {value!r}, expected one of {', '.join(known)}.{did_you_mean(value, known)}")
        if (
            self.window < 1
            or (self.stride is not None and not 0 < self.stride <= self.window)
            or self.flank < 0
            or not 0 <= self.ratio < math.inf
        ):
            raise BasewiseError(
                f"window {self.window}, stride {self.stride}, flank {self.flank}, ratio {self.ratio}: expected window >= 1, "
                "1 <= stride <= window, flank >= 0 and ratio >= 0"
            )
        if self.split == "random" and (self.test_chroms or self.val_chroms or self.complete):
            raise BasewiseError("test and validation chromosomes and the complete evaluation belong to split 'chromosome', not 'random'")
        if self.complete and self.stride not in (None, self.window):
            raise BasewiseError("a complete evaluation counts every base once: leave out the stride")


def build_tokens(genome: Genome, intervals: pd.DataFrame, options: TokenOptions) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return (examples, manifest) of kind "base" for intervals (chrom start end) on `genome`.

    Intervals that touch or overlap count as one. Bases that are N have label -1, and windows of nothing but N are left out. Split "random"
    is the published one, 60/20/20 of windows, positives and negatives alike; "chromosome" keeps whole contigs apart. With
    ``complete`` the test contigs come a second time, whole, as split "complete": genome prevalence, nothing sampled.

    Raises
    ------
    BasewiseError
        for contigs the genome does not have, intervals beyond an end, and options that cannot be.
    """
    options.check()
    _check(intervals, genome)
    dropped: Counter[str] = Counter()
    stride = options.stride or options.window
    marks = {str(chrom): _merged(part) for chrom, part in intervals.groupby("chrom")}
    starts_of, positive_of = {}, {}
    for chrom, length in genome.contigs.items():
        starts = np.arange(0, length - options.window + 1, stride, dtype=np.int64)
        positive = _covered(starts, options.window, *marks.get(chrom, (np.empty(0, np.int64), np.empty(0, np.int64)))) > 0
        starts_of[chrom], positive_of[chrom] = starts, positive
    rng = np.random.default_rng(options.seed)
    rows = []
    for chrom, negatives in _drawn(starts_of, positive_of, options.ratio, rng).items():
        chosen = np.sort(np.concatenate([starts_of[chrom][positive_of[chrom]], negatives]))
        rows += _examples(genome, chrom, chosen, marks.get(chrom), options, dropped)
    if not any((row["label"] == 1).any() for row in rows):
        raise BasewiseError(
            "no window holds a labelled base: are intervals and genome of the same assembly, and contigs of --window bases?"
        )
    examples = pd.DataFrame(rows).astype({"start": np.int64, "end": np.int64})
    examples, (test, val) = _divided(examples, options)
    if options.complete:
        whole = [row for chrom in test for row in _examples(genome, chrom, _grid(genome, chrom, options), marks.get(chrom), options, None)]
        examples = pd.concat([examples, pd.DataFrame(whole).assign(split=COMPLETE)], ignore_index=True)
    manifest = {
        "task": options.task,
        "variant": "published" if options.split == "random" else "clean",
        "window": options.window + 2 * options.flank,
        "scored": options.window,
        "flank": options.flank,
        "stride": stride,
        "ratio": options.ratio,
        "overlap": options.overlap,
        "split": options.split,
        "seed": options.seed,
        "test_chroms": list(test),
        "val_chroms": list(val),
        "inputs": {"genome": {"path": genome.name, "sha256": genome.sha256()}},
        "dropped": {reason: int(n) for reason, n in sorted(dropped.items())},
    }
    return examples[[*EXAMPLE_COLUMNS]], manifest


def _check(intervals: pd.DataFrame, genome: Genome) -> None:
    check_contigs(intervals["chrom"], genome, "the intervals")
    ends = intervals["chrom"].map(dict(genome.contigs)).to_numpy(np.int64)
    for wrong, said in (
        (intervals["end"].to_numpy() > ends, "lies beyond the end of its contig"),
        (intervals["start"].to_numpy() >= intervals["end"].to_numpy(), "is empty"),
    ):
        if wrong.any():
            row = intervals[wrong].iloc[0]
            raise BasewiseError(f"interval {row['chrom']}:{row['start']}-{row['end']} {said}; is it of the same assembly as {genome.name}?")


def _merged(part: pd.DataFrame) -> tuple[Positions, Positions]:
    """Return (starts, ends) of the union of intervals, sorted; intervals that touch become one."""
    order = np.argsort(part["start"].to_numpy(), kind="stable")
    starts, ends = part["start"].to_numpy(np.int64)[order], part["end"].to_numpy(np.int64)[order]
    reach = np.maximum.accumulate(ends)
    first = np.concatenate([[True], starts[1:] > reach[:-1]])
    last = np.concatenate([np.flatnonzero(first)[1:] - 1, [len(starts) - 1]])
    return starts[first], reach[last]


def _covered(starts: Positions, window: int, low: Positions, high: Positions) -> Positions:
    """Return how many intervals each window touches."""
    return np.searchsorted(low, starts + window, side="left") - np.searchsorted(high, starts, side="right")


def _drawn(
    starts: dict[str, Positions], positive: dict[str, npt.NDArray[np.bool_]], ratio: float, rng: np.random.Generator
) -> dict[str, Positions]:
    """Return negatives by contig, `ratio` for each of its positives: splits by contig then hold the ratio too."""
    drawn = {}
    for chrom, places in starts.items():
        pool = places[~positive[chrom]]
        wanted = min(len(pool), round(ratio * int(positive[chrom].sum())))
        drawn[chrom] = rng.choice(pool, wanted, replace=False) if wanted else pool[:0]
    return drawn


def _grid(genome: Genome, chrom: str, options: TokenOptions) -> Positions:
    return np.arange(0, genome.contigs[chrom], options.window, dtype=np.int64)  # the last one may reach over the end: N, not scored


def _examples(
    genome: Genome, chrom: str, starts: Iterable[int], marks: tuple[Positions, Positions] | None, options: TokenOptions, dropped: Any
) -> list[dict[str, Any]]:
    """Return one row a window; `dropped` None keeps what the overlap policy would drop (in a complete evaluation)."""
    length = genome.contigs[chrom]
    bases = genome.fetch(chrom, 0, length)
    truth = np.zeros(length, np.int8)
    low, high = marks if marks is not None else (np.empty(0, np.int64), np.empty(0, np.int64))
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        truth[a:b] = 1
    truth[codes(bases) == N_CODE] = UNLABELLED
    rows = []
    for start in map(int, starts):
        stop = min(start + options.window, length)
        label = truth[start:stop].copy()
        if dropped is not None and options.overlap != "keep":
            cut = _cut(start, stop, low, high)
            if len(cut) and options.overlap == "drop":
                dropped["window: its edge cuts an interval"] += 1
                continue
            for a, b in cut:
                label[max(a - start, 0) : b - start] = UNLABELLED
        if (label == UNLABELLED).all():
            if dropped is not None:
                dropped["window: nothing to score (N, or an interval that its edge cuts)"] += 1
            continue
        rows.append(_row(bases, chrom, start, stop, label, options.flank))
    return rows


def _cut(start: int, stop: int, low: Positions, high: Positions) -> list[tuple[int, int]]:
    """Return the intervals that the edges of window [start, stop) cut."""
    first, last = int(np.searchsorted(high, start, side="right")), int(np.searchsorted(low, stop, side="left"))
    return [(int(low[i]), int(high[i])) for i in range(first, last) if low[i] < start or high[i] > stop]


def _row(bases: Bases, chrom: str, start: int, stop: int, label: npt.NDArray[np.int8], flank: int) -> dict[str, Any]:
    a, b = max(0, start - flank), min(len(bases), stop + flank)  # at a contig's end the context is shorter
    labels = np.full(b - a, UNLABELLED, np.int8)
    labels[start - a : stop - a] = label
    place = {"chrom": chrom, "start": a, "end": b, "strand": ".", "label": labels, "split": "", "group": f"{chrom}:{start // 10_000}"}
    return {**place, "sequence": to_str(bases[a:b])}


def _divided(examples: pd.DataFrame, options: TokenOptions) -> tuple[pd.DataFrame, tuple[list[str], list[str]]]:
    positive = np.array([bool((label == 1).any()) for label in examples["label"]])
    if options.split == "random":
        marked = random_split(examples.assign(_positive=positive), options.seed, stratify="_positive")
        return marked.drop(columns="_positive"), ([], [])
    test, val = list(options.test_chroms), list(options.val_chroms)
    counts = {str(chrom): int(n) for chrom, n in examples.loc[positive, "chrom"].value_counts().items()}
    if not test and not val:
        test, val = choose_chroms(counts)
    elif not val:
        rest = {chrom: n for chrom, n in counts.items() if chrom not in test}
        wanted = sum(counts.values()) / 5
        val = [min(rest, key=lambda chrom: (abs(rest[chrom] - wanted), chrom))] if len(rest) > 1 else []
    return chromosome_split(examples, test, val), (test, val)
