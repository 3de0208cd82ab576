"""How good are probabilities: threshold metrics, ranking metrics and calibration error, weighted so that any prevalence can be asked.

Everything is computed from one descending sort of the probabilities (`rank`), so that a bootstrap re-weights instead of sorting again.
A metric whose denominator is zero is None, never 0: "no positive was predicted" is not "precision zero".
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Metrics = dict[str, float | None]

BINARY_METRICS = (
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "mcc",
    "auroc",
    "auprc",
    "auc_hard",
    "brier",
    "ece",
    "precision_macro",
    "f1_macro",
)
MULTICLASS_METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "mcc", "ece")
ECE_BINS = 15  # Source: Guo et al. 2017, "On calibration of modern neural networks", section 3 (M = 15 equal-width bins)


class Ranked(NamedTuple):
    """Labels and probabilities in descending order of probability, ties known."""

    y: npt.NDArray[np.bool_]  # (B,)
    p: Floats  # (B,) descending
    order: npt.NDArray[np.int64]  # (B,) where each stood before
    ends: npt.NDArray[np.int64]  # last place of each run of equal probabilities


def rank(y: npt.ArrayLike, p: npt.ArrayLike) -> Ranked:
    """Sort probabilities (B,) with their 0/1 labels (B,); refuses other labels, other lengths and values outside 0..1."""
    labels, values = np.asarray(y), np.asarray(p, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        raise BasewiseError(f"got labels of shape {labels.shape} and probabilities of shape {values.shape}, expected two equal lengths")
    if not np.isin(labels, (0, 1)).all():
        raise BasewiseError(f"labels must be 0 or 1, got {sorted(set(labels.tolist()))[:5]}")
    if not ((values >= 0) & (values <= 1)).all():  # False for NaN as well
        raise BasewiseError("probabilities must lie in 0..1 and be numbers; the model gave others (a diverged training?)")
    order = np.argsort(-values, kind="stable")
    values = values[order]
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.empty(0, np.int64)
    return Ranked(labels[order].astype(bool), values, order, ends)


def prevalence_weights(y: npt.ArrayLike, prevalence: float | None) -> Floats:
    """Return weights (B,): 1 for positives, and for negatives what makes the weighted share of positives equal `prevalence`.

    None leaves the data as they are. The negatives must be a random sample of the negatives that will be met.
    """
    labels = np.asarray(y).astype(bool)
    weights = np.ones(len(labels))
    if prevalence is None:
        return weights
    if not 0 < prevalence < 1:
        raise BasewiseError(f"prevalence must lie between 0 and 1, got {prevalence}")
    negatives = int((~labels).sum())
    if negatives:
        weights[~labels] = labels.sum() * (1 - prevalence) / (prevalence * negatives)
    return weights


def ratio(above: float, below: float) -> float | None:
    """Return above / below, or None where that is undefined."""
    return float(above) / float(below) if below > 0 else None


def binary_metrics(
    y: npt.ArrayLike, p: npt.ArrayLike, threshold: float = 0.5, *, prevalence: float | None = None, warn: bool = True
) -> Metrics:
    """Score probabilities (B,) against labels (B,); a probability at or above `threshold` is called positive.

    `auc_hard` is the ROC area of the hard calls, (recall + specificity) / 2, which some papers print as "AUC". `auprc` is the
    average precision (steps, no interpolation). `precision_macro` and `f1_macro` average the two classes.
    With `prevalence`, negatives are re-weighted first. Constant predictions are logged as a warning.
    """
    ranked = rank(y, p)
    if warn and len(ranked.p) > 1 and ranked.p[0] == ranked.p[-1]:
        logger.warning("all %d predictions equal %.4g: the model says nothing about these sequences", len(ranked.p), ranked.p[0])
    return ranked_metrics(ranked, threshold, prevalence_weights(ranked.y, prevalence))


def ranked_metrics(ranked: Ranked, threshold: float, weights: Floats) -> Metrics:
    """Return all of BINARY_METRICS with `weights` (B,) in the order of `ranked`."""
    y = ranked.y
    positive = np.where(y, weights, 0.0)
    tp_curve, fp_curve = np.cumsum(positive)[ranked.ends], np.cumsum(weights - positive)[ranked.ends]
    called = int(np.searchsorted(-ranked.p, -threshold, side="right"))
    tp = float(positive[:called].sum())
    fp = float(weights[:called].sum()) - tp
    fn, tn = float(positive[called:].sum()), float((weights - positive)[called:].sum())
    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    precision, negative_precision = ratio(tp, tp + fp), ratio(tn, tn + fn)
    f1, negative_f1 = ratio(2 * tp, 2 * tp + fp + fn), ratio(2 * tn, 2 * tn + fp + fn)
    margins = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    total = tp + fp + fn + tn
    return {
        "accuracy": ratio(tp + tn, total),
        "precision": precision,
        "recall": recall,
        "specificity": specificity,
        "f1": f1,
        "mcc": float((tp * tn - fp * fn) / margins) if margins > 0 else None,
        "auroc": area_under_roc(tp_curve, fp_curve),
        "auprc": average_precision(tp_curve, fp_curve),
        "auc_hard": _mean(recall, specificity),
        "brier": ratio(float((weights * (ranked.p - y) ** 2).sum()), total),
        "ece": calibration_error(y, ranked.p, weights=weights),
        "precision_macro": _mean(precision, negative_precision),
        "f1_macro": _mean(f1, negative_f1),
    }


def _mean(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else (a + b) / 2


def area_under_roc(tp: Floats, fp: Floats) -> float | None:
    """Return the area under the ROC curve from cumulative weights at each distinct probability; None without both classes."""
    if not len(tp) or tp[-1] <= 0 or fp[-1] <= 0:
        return None
    x, height = np.append(0.0, fp), np.append(0.0, tp)
    return float((np.diff(x) * (height[1:] + height[:-1]) / 2).sum() / (tp[-1] * fp[-1]))


def average_precision(tp: Floats, fp: Floats) -> float | None:
    """Return sum over distinct probabilities of (recall gained) * (precision there); None without positives."""
    if not len(tp) or tp[-1] <= 0:
        return None
    gained, called = np.diff(tp, prepend=0.0), tp + fp
    return float((gained[called > 0] * tp[called > 0] / called[called > 0]).sum() / tp[-1])


def calibration_error(y: npt.ArrayLike, p: npt.ArrayLike, bins: int = ECE_BINS, weights: Floats | None = None) -> float | None:
    """Return the expected calibration error: weighted mean of |share of positives - mean probability| over equal-width bins."""
    labels, values = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones(len(values)) if weights is None else weights
    total = float(w.sum())
    if total <= 0:
        return None
    bin_of = np.minimum((values * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(bin_of, w * (labels - values), minlength=bins)).sum() / total)


def precision_at_recall(
    y: npt.ArrayLike, p: npt.ArrayLike, recalls: Sequence[float] = (0.1, 0.3, 0.5), *, prevalence: float | None = None
) -> dict[float, float | None]:
    """Return for each recall the precision at the highest threshold that reaches it (ties are called together).

    >>> precision_at_recall([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], [0.5, 1.0])
    {0.5: 1.0, 1.0: 0.6666666666666666}
    """
    ranked = rank(y, p)
    return ranked_precision_at_recall(ranked, recalls, prevalence_weights(ranked.y, prevalence))


def ranked_precision_at_recall(ranked: Ranked, recalls: Sequence[float], weights: Floats) -> dict[float, float | None]:
    """Return precision_at_recall with `weights` (B,) in the order of `ranked`."""
    positive = np.where(ranked.y, weights, 0.0)
    tp, all_called = np.cumsum(positive)[ranked.ends], np.cumsum(weights)[ranked.ends]
    answer: dict[float, float | None] = {}
    for recall in recalls:
        if not 0 < recall <= 1:
            raise BasewiseError(f"recall must lie in 0..1, got {recall}")
        if not len(tp) or tp[-1] <= 0:
            answer[recall] = None
            continue
        # the tolerance keeps recall 1 reachable when sums of weights round
        place = min(int(np.searchsorted(tp, recall * tp[-1] * (1 - 1e-12))), len(tp) - 1)
        answer[recall] = ratio(tp[place], all_called[place])
    return answer


def precision_at_prevalence(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float, prevalence: float) -> float | None:
    """Return the precision where positives are that rare: r f / (r f + (1 - s) (1 - f)), recall r, specificity s, prevalence f."""
    return binary_metrics(y, p, threshold, prevalence=prevalence, warn=False)["precision"]


def multiclass_metrics(y: npt.ArrayLike, p: npt.ArrayLike) -> Metrics:
    """Score class probabilities (B, C) against labels 0..C-1 (B,); the most probable class is called, macro averages over classes present.

    `mcc` is the multi-class correlation R_K of Gorodkin 2004. `ece` is of the probability of the called class.
    """
    labels, values = np.asarray(y, dtype=np.int64), np.asarray(p, dtype=np.float64)
    if values.ndim != 2 or len(labels) != len(values) or not len(labels):
        raise BasewiseError(f"got labels {labels.shape} and probabilities {values.shape}, expected (B,) and (B, C), B > 0")
    called, C = values.argmax(1), values.shape[1]
    table = np.bincount(labels * C + called, minlength=C * C).reshape(C, C).astype(np.float64)  # rows: truth, columns: called
    hit, truth, calls = np.diag(table), table.sum(1), table.sum(0)
    total = table.sum()
    spread = np.sqrt(total**2 - (calls**2).sum()) * np.sqrt(total**2 - (truth**2).sum())
    present = truth + calls > 0
    return {
        "accuracy": float(hit.sum() / total),
        "precision_macro": _macro(hit, calls, present),
        "recall_macro": _macro(hit, truth, present),
        "f1_macro": _macro(2 * hit, truth + calls, present),
        "mcc": float((hit.sum() * total - (truth * calls).sum()) / spread) if spread > 0 else None,
        "ece": calibration_error(called == labels, values.max(1)),
    }


def _macro(above: Floats, below: Floats, present: npt.NDArray[np.bool_]) -> float | None:
    if (below[present] == 0).any():
        return None
    return float((above[present] / below[present]).mean())
