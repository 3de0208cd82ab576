"""Crops of base-level regions, drawn anew for every step: each region is seen at ever new offsets, positives as often as asked for."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.genome.alphabet import reverse_complement
from basewise.recipes.schema import Train
from basewise.training.augment import N_BYTE, Corpus, CorpusKey

_LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)


class _Anchors(NamedTuple):
    """Places in ``corpus.bases`` that a crop may be drawn around, int64."""

    positive: npt.NDArray[np.int64]
    scored: npt.NDArray[np.int64]


def draw_crops(
    corpus: Corpus, settings: Train, rows: int, rng: np.random.Generator
) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.int64]]:
    """Return `rows` crops, ASCII arrays of ``crop + 2 * flank`` bases, and labels (rows, crop + 2 * flank), -1 in the flanks.

    A crop holds an anchor, at a uniformly drawn offset but inside its region: a positive base with probability `positive_share`, else
    any scored base. Beyond the region is N. A share `augment.reverse_complement` of crops is turned, its labels mirrored.
    """
    assert settings.crop is not None
    assert corpus.base_labels is not None
    anchors = _anchors(corpus)
    size, flank, augment = settings.crop, settings.flank, settings.augment
    sequences, labels = [], np.full((rows, size + 2 * flank), -1, np.int64)
    for row in range(rows):
        among = anchors.positive if rng.random() < settings.positive_share else anchors.scored
        anchor = int(among[rng.integers(len(among))])
        region = int(np.searchsorted(corpus.offsets, anchor, side="right")) - 1
        low, high = int(corpus.offsets[region]), int(corpus.offsets[region + 1])
        start = max(low, min(anchor - int(rng.integers(size)), high - size))
        stop = min(start + size, high)
        turn = augment.reverse_complement > 0 and rng.random() < augment.reverse_complement
        moved = augment.mirror_shift if turn else 0  # a base takes the label of the base so many later
        first, last = max(low - moved, start), min(high - moved, stop)
        labels[row, first - start + flank : last - start + flank] = corpus.base_labels[first + moved : last + moved]
        bases = np.full(size + 2 * flank, N_BYTE, np.uint8)
        first, last = max(low, start - flank), min(high, start + size + flank)
        bases[first - start + flank : last - start + flank] = corpus.bases[first:last]
        _hide(bases, labels[row], anchor - start + flank, settings, rng)
        if turn:
            bases, labels[row] = reverse_complement(bases), labels[row, ::-1].copy()
        sequences.append(_mutated(bases, settings, rng))
    return sequences, labels


def _hide(bases: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], anchor: int, settings: Train, rng: np.random.Generator) -> None:
    """Turn, with probability `n_mask`, all but a stretch around the anchor into N, so that a wide model also answers short sequences.

    The stretch reaches at least `n_mask_keep` bases (log-uniform) to either side; labels nearer than that to its ends are not scored.
    """
    augment = settings.augment
    if rng.random() >= augment.n_mask:
        return
    least = max(1, augment.n_mask_keep)
    left, right = (int(least * (len(bases) / least) ** rng.random()) for _ in range(2))
    bases[: max(0, anchor - left)] = N_BYTE
    bases[anchor + right + 1 :] = N_BYTE
    labels[: max(0, anchor - left + least)] = -1
    labels[anchor + right + 1 - least :] = -1


def _mutated(bases: npt.NDArray[np.uint8], settings: Train, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    augment, flank = settings.augment, settings.flank
    if not augment.mutate and not augment.mutate_scored:
        return bases
    chance = np.full(len(bases), augment.mutate * 2 * rng.random(), np.float32)
    chance[flank : len(bases) - flank] = augment.mutate_scored
    hit = (rng.random(len(bases), dtype=np.float32) < chance) & (bases != N_BYTE)
    bases[hit] = _LETTERS[rng.integers(0, 4, int(hit.sum()))]
    return bases


def _anchors(corpus: Corpus) -> _Anchors:
    return _find_anchors(CorpusKey(corpus))


@lru_cache(maxsize=1)
def _find_anchors(key: CorpusKey) -> _Anchors:
    labels = key.corpus.base_labels
    assert labels is not None
    positive, scored = np.flatnonzero(labels > 0), np.flatnonzero(labels >= 0)
    if not len(positive) or not len(scored):
        raise BasewiseError("train.crop draws crops around positive bases, but the training split holds none")
    return _Anchors(positive, scored)
