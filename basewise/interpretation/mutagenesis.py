"""In-silico mutagenesis: every base replaced by every other one, no gradients."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.genome.alphabet import Bases, codes
from basewise.interpretation.base import TOKENS_A_BATCH, Attribution, Example, explained

_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


def mutagenesis(
    classifier: Classifier, example: Example, target: str, *, around: int | None, batch_size: int
) -> list[tuple[int, Attribution]]:
    """Return (place, Attribution) of the rows of one example. Call inside `base.studying`.

    The score of a base is F minus the mean of F with each of the other three bases there (at N: with each of the four); `effects`
    (L, 4) holds the single differences F(A, C, G, T there) - F, 0 for the base that stands there. Targets stay those of the
    sequence itself. With `around`, only bases at most that far from base ``length // 2`` are tried; scores elsewhere are 0.
    """
    rows = [_LETTERS[codes(row)] for row in example.rows]
    logit = float(_ask(classifier, [rows], example.weights)[0])
    answers = []
    for j, (place, row) in enumerate(zip(example.places, rows, strict=True)):
        effects = np.zeros((len(row), 4), dtype=np.float64)
        tried = _tried(row, around)
        size = max(1, min(batch_size, TOKENS_A_BATCH // max(1, len(row) * len(rows))))
        for low in range(0, len(tried), size):
            piece = tried[low : low + size]
            variants = [[*rows[:j], _changed(row, base, letter), *rows[j + 1 :]] for base, letter in piece.tolist()]
            effects[piece[:, 0], piece[:, 1]] = _ask(classifier, variants, example.weights) - logit
        alternatives = np.bincount(tried[:, 0], minlength=len(row)).clip(min=1)
        scores = -effects.sum(1) / alternatives
        answers.append((place, Attribution(scores.astype(np.float32), target, logit, np.nan, np.nan, 0, 0.0, effects.astype(np.float32))))
    return answers


def _tried(row: Bases, around: int | None) -> npt.NDArray[np.int64]:
    """Return (m, 2): base and letter of every replacement."""
    center, text = len(row) // 2, codes(row)
    low, high = (0, len(row)) if around is None else (max(0, center - around), min(len(row), center + around + 1))
    every = np.stack([np.repeat(np.arange(low, high), 4), np.tile(np.arange(4), high - low)], axis=1)
    return every[text[every[:, 0]] != every[:, 1]]


def _changed(row: Bases, base: int, letter: int) -> Bases:
    changed = row.copy()
    changed[base] = _LETTERS[letter]
    return changed


def _ask(classifier: Classifier, variants: Sequence[Sequence[Bases]], weights: Tensor) -> npt.NDArray[np.float64]:
    """Return F (m,) of m variants of an example."""
    shape = (len(variants), len(variants[0]))
    flat = classifier.tokenize([row for variant in variants for row in variant])
    tokens = Tokens(*(part.to(classifier.device).unflatten(0, shape) for part in flat))
    flat = Tokens(*(part.flatten(0, 1) for part in tokens))
    embedded = classifier.embed(flat).unflatten(0, shape)
    values = explained(classifier, tokens, embedded, weights.to(embedded.device).expand(len(variants), *weights.shape))
    return values.double().cpu().numpy()
