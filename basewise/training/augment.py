"""Examples as flat arrays, and batches gathered from them, augmented on the way, in one indexing step a batch."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, reverse_complement
from basewise.recipes.schema import Augment

N_BYTE = ord("N")
_COMPLEMENT = reverse_complement(np.arange(256, dtype=np.uint8))[::-1]


class Corpus(NamedTuple):
    """Sequences end to end in one array, so that memory is one byte a base and a batch is one gather."""

    bases: npt.NDArray[np.uint8]  # all sequences, ASCII
    offsets: npt.NDArray[np.int64]  # (B + 1,)
    labels: npt.NDArray[np.int64]  # (B,); for kind "base" all zero
    base_labels: npt.NDArray[np.int8] | None  # kind "base": beside `bases`, -1 = not scored

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bases of each sequence (B,)."""
        return np.diff(self.offsets)


class CorpusKey:
    """A corpus as a cache key, by identity: arrays have no hash."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __hash__(self) -> int:
        return id(self.corpus)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CorpusKey) and other.corpus is self.corpus


class Draw(NamedTuple):
    """What happens to each sequence of a batch."""

    turn: npt.NDArray[np.bool_]  # (B,) reverse complement
    shift: npt.NDArray[np.int64]  # (B,) the sequence starts this many bases later (in its own orientation)
    left: npt.NDArray[np.int64]  # (B,) bases kept left of the center, -1: all
    right: npt.NDArray[np.int64]  # (B,) bases kept right of the center, -1: all
    label_shift: npt.NDArray[np.int64]  # (B,) a base takes the label of the base so many later (before turning)


def make_corpus(examples: pd.DataFrame, kind: str) -> Corpus:
    """Return the examples' sequences and labels as flat arrays; kind "base" expects one label a base."""
    sequences = [as_bases(s) for s in examples["sequence"]]
    offsets = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum([len(s) for s in sequences], out=offsets[1:])
    bases = np.concatenate(sequences) if sequences else np.empty(0, np.uint8)
    if kind != "base":
        return Corpus(bases, offsets, examples["label"].to_numpy(np.int64), None)
    rows: list[Any] = [np.asarray(row, dtype=np.int8) for row in examples["label"]]
    flat = np.concatenate(rows) if rows else np.empty(0, np.int8)
    if len(flat) != len(bases) or any(len(r) != n for r, n in zip(rows, np.diff(offsets), strict=True)):
        raise BasewiseError("labels of a base-level dataset must be one a base of its sequence; rebuild the dataset")
    return Corpus(bases, offsets, np.zeros(len(rows), np.int64), flat)


def draw_augmentation(settings: Augment, rows: int, lengths: npt.NDArray[np.int64], rng: np.random.Generator) -> Draw:
    """Draw for a batch of sequences of these `lengths` (B,) what `settings` asks for."""
    turn = rng.random(rows) < settings.reverse_complement
    shift = rng.integers(-settings.shift, settings.shift, rows, endpoint=True)
    masked = rng.random(rows) < settings.n_mask
    keep = np.minimum(settings.n_mask_keep, lengths // 2)
    left = np.where(masked, rng.integers(keep, lengths // 2, endpoint=True), -1)
    right = np.where(masked, rng.integers(keep, lengths // 2, endpoint=True), -1)
    return Draw(turn, shift, left, right, np.where(turn, settings.mirror_shift, 0))


def gather(
    corpus: Corpus, rows: npt.NDArray[np.int64], draw: Draw | None = None
) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.int64]]:
    """Return the sequences `rows` as ASCII arrays and their labels, (B,) or for kind "base" (B, L) padded with -1.

    First turned, then shifted, then masked around the center base (length // 2): a flank that is kept for `left` bases is 5' of it.
    """
    starts, lengths = corpus.offsets[rows], corpus.lengths[rows]
    L = int(lengths.max()) if len(rows) else 0
    at = np.broadcast_to(np.arange(L), (len(rows), L))
    inside = at < lengths[:, None]
    complement = np.zeros((len(rows), 1), bool)
    if draw is not None:
        at = at + draw.shift[:, None]
        inside = inside & (at >= 0) & (at < lengths[:, None])
        place, center = np.arange(L)[None], lengths[:, None] // 2
        inside &= (draw.left[:, None] < 0) | (place >= center - draw.left[:, None])
        inside &= (draw.right[:, None] < 0) | (place <= center + draw.right[:, None])
        complement = draw.turn[:, None]
        at = np.where(complement, lengths[:, None] - 1 - at, at)
    index = np.where(inside, starts[:, None] + at, 0)
    bases = corpus.bases[index] if len(corpus.bases) else np.zeros(index.shape, np.uint8)
    if draw is not None:
        bases = np.where(complement, _COMPLEMENT[bases], bases)
    bases = np.where(inside, bases, np.uint8(N_BYTE))
    sequences = [row[:n] for row, n in zip(bases, lengths.tolist(), strict=True)]
    if corpus.base_labels is None:
        return sequences, corpus.labels[rows]
    if draw is not None:
        at = at + draw.label_shift[:, None]
        inside &= (at >= 0) & (at < lengths[:, None])
        index = np.where(inside, starts[:, None] + at, 0)
    return sequences, np.where(inside, corpus.base_labels[index], -1).astype(np.int64)


def epoch_order(corpus: Corpus, seed: int, epoch: int, negatives_per_positive: float | None = None) -> npt.NDArray[np.int64]:
    """Return the order in which an epoch visits sequences: a function of (seed, epoch) alone, so that resuming needs no state.

    With `negatives_per_positive`, every positive (kind "base": a sequence with a positive base) and a fresh sample of negatives.
    """
    rng = np.random.default_rng([seed, epoch])
    if negatives_per_positive is None:
        return rng.permutation(len(corpus))
    positive = positive_rows(corpus)
    chosen, rest = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(chosen):
        raise BasewiseError("train.negatives_per_positive is set but the training split holds no positive")
    wanted = min(len(rest), round(len(chosen) * negatives_per_positive))
    return rng.permutation(np.concatenate([chosen, rng.choice(rest, wanted, replace=False)]))


def positive_rows(corpus: Corpus) -> npt.NDArray[np.bool_]:
    """Tell which sequences (B,) are positive; for kind "base" those with at least one positive base."""
    if corpus.base_labels is None:
        return corpus.labels > 0
    count = np.append(0, np.cumsum(corpus.base_labels > 0))
    return count[corpus.offsets[1:]] > count[corpus.offsets[:-1]]
