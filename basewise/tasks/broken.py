"""Natural sequence beside copies of it with blocks of bases replaced at random: a question any genome asks by itself.

Whoever answers it has learnt what sequence looks like. GUE's promoter negatives are made so from promoters (docs/known_issues.md); the
embedded `promoter` starts from a network that learnt it on a genome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.datasets.splits import choose_chroms, chromosome_split
from basewise.datasets.table import EXAMPLE_COLUMNS
from basewise.errors import BasewiseError
from basewise.genome.alphabet import N_CODE, as_bases, codes, reverse_complement, to_str
from basewise.genome.fasta import Genome

LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
_GC = (1, 2)  # codes of C and G


@dataclass(frozen=True)
class BrokenOptions:
    """How windows are drawn and broken; the command line's flags."""

    window: int = 70  # bases of a sequence
    count: int = 100_000  # windows drawn from the genome, at most all there are
    stride: int = 7  # bases between the places a window may start at
    min_gc: float = 0.0  # share of G and C a window of the genome holds at least
    block: int = 15  # bases of a block
    first: int = 15  # bases of the first block
    replaced: float = 0.6  # chance of a block to be replaced; at least one is
    copies: int = 1  # times each of the given sequences is taken, broken in another way every time
    test_chroms: tuple[str, ...] = ()
    val_chroms: tuple[str, ...] = ()
    seed: int = 0

    def check(self) -> None:
        """Raise BasewiseError for values that cannot be."""
        least_one = {"window": self.window, "count": self.count, "stride": self.stride, "block": self.block, "first": self.first}
        for name, value in (least_one | {"copies": self.copies}).items():
            if value < 1:
                raise BasewiseError(f"{name} is {value}, expected 1 or more")
        if not 0 <= self.min_gc <= 1 or not 0 < self.replaced <= 1:
            raise BasewiseError(f"min_gc is {self.min_gc}, replaced {self.replaced}: expected shares, of blocks more than 0")


def build_broken(genome: Genome, options: BrokenOptions, given: Sequence[str] = ()) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return (examples, manifest) of kind "sequence": natural windows, label 1, each followed by its broken copy, label 0.

    Windows of `genome` without N, on either strand, are drawn without replacement; `given` sequences, which have the window's length,
    join the training split. A replaced block is uniform over A, C, G and T. A natural window and its copy are one `group`.

    Raises
    ------
    BasewiseError
        No window is left, a given sequence has another length or other letters, a contig the genome does not have, bad options.
    """
    options.check()
    rng = np.random.default_rng(options.seed)
    drawn = _drawn(genome, options, rng)
    windows, places = _read(genome, drawn, options, rng)
    test, val = (options.test_chroms, options.val_chroms)
    if not test or not val:
        chosen = choose_chroms({chrom: len(starts) for chrom, starts in drawn.items()})
        test, val = test or tuple(c for c in chosen[0] if c not in val), val or tuple(c for c in chosen[1] if c not in test)
    places = chromosome_split(places, test, val)
    if len(given):
        own = np.repeat(_checked(given, options.window), options.copies, axis=0)
        about = {"chrom": ".", "start": 0, "end": options.window, "strand": ".", "split": "train"}
        windows, places = np.concatenate([windows, own]), pd.concat([places, pd.DataFrame([about] * len(own))], ignore_index=True)
    pairs = np.stack([windows, broken(windows, options, rng)], axis=1).reshape(-1, options.window)
    examples = places.loc[places.index.repeat(2)].reset_index(drop=True)
    examples["label"] = np.tile([1, 0], len(windows))
    examples["group"] = [f"window{row // 2}" for row in range(len(pairs))]
    examples["sequence"] = [to_str(row) for row in pairs]
    settings = {name: getattr(options, name) for name in ("stride", "min_gc", "block", "first", "replaced", "copies", "seed")}
    manifest = {
        "task": "broken",
        "variant": "clean",
        "window": options.window,
        **settings,
        "split": "chromosome",
        "test_chroms": list(test),
        "val_chroms": list(val),
        "inputs": {"genome": {"path": genome.name, "sha256": genome.sha256()}},
        "dropped": {},
    }
    return examples[[*EXAMPLE_COLUMNS]], manifest


def broken(windows: npt.NDArray[np.uint8], options: BrokenOptions, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return copies of `windows` (B, window), ASCII, with whole blocks replaced by random bases."""
    block_of = np.where(np.arange(options.window) < options.first, 0, (np.arange(options.window) - options.first) // options.block + 1)
    blocks = int(block_of[-1]) + 1
    replaced = rng.random((len(windows), blocks)) < options.replaced
    replaced[np.arange(len(windows)), rng.integers(blocks, size=len(windows))] |= ~replaced.any(axis=1)
    return np.where(replaced[:, block_of], LETTERS[rng.integers(0, 4, windows.shape)], windows)


def _drawn(genome: Genome, options: BrokenOptions, rng: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    """Return where windows start, ascending, by contig; contigs without any are left out."""
    eligible = {chrom: _eligible(genome, chrom, options) for chrom in genome.contigs}
    sizes = [len(starts) for starts in eligible.values()]
    total = sum(sizes)
    if not total:
        raise BasewiseError(
            f"{genome.name} holds no window of {options.window} known bases with a GC share of {options.min_gc} or more; lower --min-gc"
        )
    chosen = np.sort(rng.choice(total, min(options.count, total), replace=False))
    parts = np.split(chosen, np.searchsorted(chosen, np.cumsum(sizes)[:-1]))
    offsets = np.cumsum([0, *sizes[:-1]])
    return {
        chrom: starts[part - offset] for (chrom, starts), part, offset in zip(eligible.items(), parts, offsets, strict=True) if len(part)
    }


def _eligible(genome: Genome, chrom: str, options: BrokenOptions) -> npt.NDArray[np.int64]:
    """Return the starts of a contig's windows that hold no N and enough G and C."""
    length = genome.contigs[chrom]
    starts = np.arange(0, length - options.window + 1, options.stride, dtype=np.int64)
    bases = codes(genome.fetch(chrom, 0, length))
    unknown, gc = (np.concatenate([[0], np.cumsum(mask)]) for mask in (bases == N_CODE, np.isin(bases, _GC)))
    within = starts + options.window
    enough = gc[within] - gc[starts] >= options.min_gc * options.window
    return starts[(unknown[within] == unknown[starts]) & enough]


def _read(
    genome: Genome, drawn: dict[str, npt.NDArray[np.int64]], options: BrokenOptions, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], pd.DataFrame]:
    """Return the windows (B, window), ASCII in upper case, each on a strand drawn for it, and their places."""
    windows, places = [], []
    for chrom, starts in drawn.items():
        view = np.lib.stride_tricks.sliding_window_view(genome.fetch(chrom, 0, genome.contigs[chrom]) & 0xDF, options.window)
        rows, turned = view[starts].copy(), rng.random(len(starts)) < 0.5
        rows[turned] = reverse_complement(rows[turned].ravel()).reshape(-1, options.window)[::-1]
        windows.append(rows)
        strand = np.where(turned, "-", "+")
        places.append(pd.DataFrame({"chrom": chrom, "start": starts, "end": starts + options.window, "strand": strand}))
    return np.concatenate(windows), pd.concat(places, ignore_index=True)


def _checked(given: Sequence[str], window: int) -> npt.NDArray[np.uint8]:
    """Return the sequences as ASCII (B, window) in upper case."""
    for row, text in enumerate(given):
        if len(text) != window or set(text.upper()) - set("ACGT"):
            raise BasewiseError(f"sequence {row + 1} has {len(text)} letters ({text[:20]!r}...), expected {window} of A, C, G and T")
    return np.stack([as_bases(text.upper()) for text in given])
