"""Windows of a genome for language models: drawn at random for training, one after another for held-out contigs.

A drawn window is a function of (seed, number of the draw) and of nothing else: whoever asks, in whatever order or process, gets the same.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.datasets.chunks import Integers, key_of, uniforms
from basewise.errors import BasewiseError
from basewise.genome.alphabet import N_CODE, Bases, codes, reverse_complement
from basewise.genome.fasta import Genome, check_contigs
from basewise.recipes.pretraining import Pretrain

logger = logging.getLogger(__name__)

ATTEMPTS = 1000  # redraws of one window before the settings are called impossible
IN_MEMORY = 1 << 29  # contigs of up to so many bases together are held in memory, others are read window by window

Mask = npt.NDArray[np.bool_]


class Windows(NamedTuple):
    """B windows; `start` is that of the plus strand also where `minus` says that `bases` were turned."""

    bases: Bases  # (B, L), 5' to 3' on their strand, case as in the file
    contig: Integers  # (B,), index into the names
    start: Integers  # (B,)
    minus: Mask  # (B,)


def split_contigs(genome: Genome, val: Sequence[str], test: Sequence[str], length: int) -> dict[str, tuple[str, ...]]:
    """Return the contigs of "train", "val" and "test"; those shorter than a window are left out of "train" only.

    Raises BasewiseError for contigs the genome does not have, contigs of both held-out splits, and a genome without training window.
    """
    check_contigs(val, genome, "validation contigs")
    check_contigs(test, genome, "test contigs")
    both = sorted(set(val) & set(test))
    if both:
        raise BasewiseError(f"{', '.join(both)} cannot be for validation and for test; name each contig once")
    rest = [name for name in genome.contigs if name not in {*val, *test}]
    long_enough = tuple(name for name in rest if genome.contigs[name] >= length)
    if not long_enough:
        raise BasewiseError(
            f"{genome.name}: none of the {len(rest)} training contigs has {length} bases; lower pretrain.length or hold fewer contigs out"
        )
    if len(long_enough) < len(rest):
        logger.warning("%d of %d training contigs are shorter than %d bases and left out", len(rest) - len(long_enough), len(rest), length)
    return {"train": long_enough, "val": tuple(val), "test": tuple(test)}


def is_asked(bases: Bases, settings: Pretrain) -> Mask:
    """Return (..., L): bases the model is asked for, wherever they stand in a window; never N, lower case as `settings.soft_mask` says."""
    asked: Mask = codes(bases) != N_CODE
    return asked if settings.soft_mask == "keep" else asked & ~is_lower(bases)


def is_lower(bases: Bases) -> Mask:
    """Return (..., L): soft-masked bases, a to z."""
    lower: Mask = (bases & 0x20).astype(bool)
    return lower


class WindowSource:
    """The training windows of a genome; every start on every contig is equally likely, before windows are drawn again."""

    def __init__(self, genome: Genome, contigs: Sequence[str], settings: Pretrain, seed: int) -> None:
        self.genome, self.names, self.settings = genome, tuple(contigs), settings
        self._key = key_of("pretrain", seed)
        starts = np.array([genome.contigs[name] - settings.length + 1 for name in self.names], dtype=np.int64)
        self._ends = np.cumsum(starts)
        whole = sum(genome.contigs[name] for name in self.names)
        self.bases = whole
        held = whole <= IN_MEMORY
        self._held: Mapping[str, Bases] = {n: genome.fetch(n, 0, genome.contigs[n]) for n in self.names} if held else {}

    def draw(self, draws: npt.ArrayLike) -> Windows:
        """Return the windows of draws (B,), 0, 1, 2 ...; BasewiseError when one is refused `ATTEMPTS` times."""
        numbers, length = np.asarray(draws, np.int64), self.settings.length
        B = len(numbers)
        found = Windows(np.empty((B, length), np.uint8), np.empty(B, np.int64), np.empty(B, np.int64), np.zeros(B, bool))
        todo = np.arange(B)
        for attempt in range(ATTEMPTS):
            u = uniforms(numbers[todo], 0, attempt, self._key)  # (todo, 2)
            place = (u[:, 0] * self._ends[-1]).astype(np.int64)
            contig = np.searchsorted(self._ends, place, side="right")
            start = place - np.where(contig > 0, self._ends[contig - 1], 0)
            for i, c, s in zip(todo.tolist(), contig.tolist(), start.tolist(), strict=True):
                found.bases[i] = self._read(self.names[c], s)
            found.contig[todo], found.start[todo] = contig, start
            found.minus[todo] = (u[:, 1] < 0.5) & (self.settings.strands == "both")
            todo = todo[self._refused(found.bases[todo])]
            if not len(todo):
                for i in np.flatnonzero(found.minus).tolist():
                    found.bases[i] = reverse_complement(found.bases[i])
                return found
        rule = self.settings
        raise BasewiseError(
            f"no window of {length} bases with at most {rule.max_n:.0%} N"
            + (f" and {rule.max_masked:.0%} lower case" if rule.soft_mask == "skip" else "")
            + f" in {ATTEMPTS} draws from {self.genome.name}; raise pretrain.max_n or max_masked, or lower pretrain.length"
        )

    def _read(self, name: str, start: int) -> Bases:
        end = start + self.settings.length
        return self._held[name][start:end] if self._held else self.genome.fetch(name, start, end)

    def _refused(self, bases: Bases) -> Mask:
        refused: Mask = (codes(bases) == N_CODE).mean(axis=1) > self.settings.max_n
        if self.settings.soft_mask == "skip":
            refused |= is_lower(bases).mean(axis=1) > self.settings.max_masked
        return refused | ~is_asked(bases, self.settings)[:, 1:].any(axis=1)  # nothing to learn from


def tiles(genome: Genome, contigs: Sequence[str], length: int) -> list[tuple[str, int, int]]:
    """Return (contig, start, end) of windows that cover every base of `contigs` once; the last one of a contig may be shorter."""
    return [(name, at, min(at + length, genome.contigs[name])) for name in contigs for at in range(0, genome.contigs[name], length)]


def evenly(items: Sequence[tuple[str, int, int]], count: int | None) -> list[tuple[str, int, int]]:
    """Return `count` of the items, spread evenly; all of them for None or where there are fewer."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i] for i in ((2 * np.arange(count) + 1) * len(items) // (2 * count)).tolist()]


def batches(genome: Genome, windows: Sequence[tuple[str, int, int]], size: int) -> Iterator[list[tuple[str, int, Bases]]]:
    """Yield (contig, start, bases) of the plus strand, `size` windows at a time, those of one contig read in order."""
    for low in range(0, len(windows), size):
        yield [(name, start, genome.fetch(name, start, end)) for name, start, end in windows[low : low + size]]
