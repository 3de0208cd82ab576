"""k-mer logistic regression: what every genome language model has to beat."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.evaluation.metrics import binary_metrics
from basewise.genome.alphabet import Bases, as_bases, codes

logger = logging.getLogger(__name__)

STRENGTHS = (1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1)  # inverse L2 penalties (sklearn's C) tried on the validation split


class KmerModel(NamedTuple):
    """logit = intercept + sum over features of weight * count / length; features ordered by k, bin, k-mer (A C G T digits)."""

    weights: npt.NDArray[np.float64]
    intercept: float
    strength: float


def kmer_frequencies(sequences: Sequence[str | Bases], ks: Sequence[int], bins: int = 1) -> Any:
    """Return a scipy CSR matrix (B, sum of bins * 4**k) of k-mer counts / sequence length.

    A k-mer belongs to the stretch of its first base, ``place * bins // length``; one with N counts as none.
    """
    from scipy import sparse

    offsets = np.cumsum([0, *(bins * 4**k for k in ks)])
    columns, rows, values = [], [], []
    for row, sequence in enumerate(sequences):
        digits = codes(as_bases(sequence)).astype(np.int64)
        stretch = np.arange(len(digits)) * bins // max(len(digits), 1)
        for k, offset in zip(ks, offsets, strict=False):
            starts = len(digits) - k + 1
            if starts < 1:
                continue
            index = np.zeros(starts, np.int64)
            whole = np.ones(starts, bool)
            for i in range(k):
                part = digits[i : i + starts]
                index = index * 4 + part
                whole &= part < 4
            found = offset + stretch[:starts][whole] * 4**k + index[whole]
            columns.append(found)
            rows.append(np.full(len(found), row))
            values.append(np.full(len(found), 1 / len(digits)))
    shape = (len(sequences), int(offsets[-1]))
    if not columns:
        return sparse.csr_matrix(shape, dtype=np.float64)
    matrix = sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    matrix.sum_duplicates()
    return matrix


def fit_kmer_lr(
    train: tuple[Sequence[str | Bases], npt.ArrayLike],
    validation: tuple[Sequence[str | Bases], npt.ArrayLike] | None,
    ks: Sequence[int],
    bins: int = 1,
    strengths: Sequence[float] = STRENGTHS,
) -> KmerModel:
    """Fit L2 logistic regression (sklearn, lbfgs) on k-mer frequencies scaled by their root mean square; deterministic.

    Of `strengths` the one with the best validation AUROC is kept, the first without validation data of both classes.
    """
    from sklearn.linear_model import LogisticRegression

    y = np.asarray(train[1], dtype=np.int64)
    if set(np.unique(y).tolist()) != {0, 1}:
        raise BasewiseError(f"k-mer logistic regression needs labels 0 and 1 in split train, got {sorted(set(y.tolist()))}")
    x = kmer_frequencies(train[0], ks, bins)
    scale = np.sqrt(np.asarray(x.multiply(x).mean(axis=0)).ravel())
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    check = kmer_frequencies(validation[0], ks, bins) if validation is not None else None
    best: tuple[float, KmerModel] | None = None
    for strength in strengths:
        fitted = LogisticRegression(C=strength, solver="lbfgs", max_iter=1000).fit(x.multiply(inverse).tocsr(), y)
        model = KmerModel(fitted.coef_[0] * inverse, float(fitted.intercept_[0]), strength)
        value = None
        if check is not None and validation is not None:
            logits = check @ model.weights + model.intercept
            value = binary_metrics(validation[1], 1 / (1 + np.exp(-logits)), warn=False)["auroc"]
        logger.info("C = %g: validation AUROC %s", strength, value)
        if best is None or (value is not None and value > best[0]):
            best = (-1.0 if value is None else value, model)
    if best is None:
        raise BasewiseError("no strength to try: give at least one")
    return best[1]
