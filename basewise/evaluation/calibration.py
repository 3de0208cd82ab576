"""Make a score mean a probability, and choose where to cut it. Both on validation data, never on test data."""

import logging

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.evaluation.metrics import prevalence_weights, rank

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
RULES = ("max_f1", "max_mcc", "precision=VALUE", "recall=VALUE", "a number")


def fit_platt(logits: npt.ArrayLike, y: npt.ArrayLike, weights: Floats | None = None) -> tuple[float, float]:
    """Return (temperature, bias) so that sigmoid(logit / temperature + bias) is a probability; maximum likelihood by Newton steps.

    Targets are softened by one pseudo-count a class, so that separable data keep a finite answer. Falls back to (1, 0) with a logged
    warning when a class is missing or a higher logit means a lower chance. Source: Platt 1999; Lin, Lin & Weng 2007 for the Newton steps.
    """
    x, labels, w, usable = _prepare(logits, y, weights)
    if not usable:
        return 1.0, 0.0
    positives, negatives = float(w[labels].sum()), float(w[~labels].sum())
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    columns = np.stack([x, np.ones_like(x)], axis=1)
    scale = float(np.average(np.abs(x), weights=w)) or 1.0
    slope, bias = _newton(columns / [scale, 1.0], target, w)
    if slope <= 0:
        logger.warning("a higher score does not mean a higher chance on the validation data: probabilities are left uncalibrated")
        return 1.0, 0.0
    return float(scale / slope), float(bias)


def fit_temperature(logits: npt.ArrayLike, y: npt.ArrayLike, weights: Floats | None = None) -> float:
    """Return the temperature that minimises the log loss, for binary logits (B,) or class logits (B, C). Source: Guo et al. 2017."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        return _class_temperature(values, np.asarray(y, dtype=np.int64))
    x, labels, w, usable = _prepare(values, y, weights)
    if not usable:
        return 1.0
    scale = float(np.average(np.abs(x), weights=w)) or 1.0
    (slope,) = _newton((x / scale)[:, None], labels.astype(np.float64), w)
    if slope <= 0:
        logger.warning("a higher score does not mean a higher chance on the validation data: probabilities are left uncalibrated")
        return 1.0
    return float(scale / slope)


def _prepare(logits: npt.ArrayLike, y: npt.ArrayLike, weights: Floats | None) -> tuple[Floats, npt.NDArray[np.bool_], Floats, bool]:
    x, labels = np.asarray(logits, dtype=np.float64).reshape(-1), np.asarray(y).astype(bool)
    if len(x) != len(labels):
        raise BasewiseError(f"got {len(x)} logits for {len(labels)} labels")
    if not np.isfinite(x).all():
        raise BasewiseError("logits must be finite; the model gave NaN or infinity (a diverged training?)")
    usable = bool(labels.any() and not labels.all())
    if not usable:
        logger.warning("validation data hold one class only: probabilities are left uncalibrated")
    return x, labels, np.ones(len(x)) if weights is None else weights, usable


def _newton(columns: Floats, target: Floats, w: Floats, steps: int = 100) -> Floats:
    """Minimise the weighted log loss of sigmoid(columns @ beta) against soft targets; damped Newton, convex, so any start will do."""

    def loss(beta: Floats) -> float:
        z = columns @ beta
        return float((w * (np.logaddexp(0, z) - target * z)).sum())

    beta = np.zeros(columns.shape[1])
    now = loss(beta)
    for _ in range(steps):
        p = _sigmoid(columns @ beta)
        gradient = columns.T @ (w * (p - target))
        hessian = (columns * (w * p * (1 - p))[:, None]).T @ columns + 1e-10 * np.eye(len(beta)) * w.sum()
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-10 and loss(beta - length * step) > now:
            length /= 2
        beta = beta - length * step
        before, now = now, loss(beta)
        if before - now <= 1e-12 * abs(now) and np.abs(step).max() < 1e-9:
            break
    return beta


def _class_temperature(logits: Floats, y: npt.NDArray[np.int64]) -> float:
    """Newton in the inverse temperature a of softmax(a * logits): the loss is convex in a."""
    a = 1.0
    for _ in range(100):
        z = a * logits - (a * logits).max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        mean = (p * logits).sum(1)
        slope = float((mean - logits[np.arange(len(y)), y]).sum())
        curve = float(((p * logits**2).sum(1) - mean**2).sum())
        if curve <= 0:
            break
        new = min(max(a - slope / curve, a / 4), a * 4)
        if abs(new - a) < 1e-10:
            break
        a = new
    return float(1 / a)


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -z))


def choose_threshold(y: npt.ArrayLike, p: npt.ArrayLike, rule: str | float, *, prevalence: float | None = None) -> float:
    """Return a threshold (call positive at or above it) by rule, always one of the probabilities seen, or the number given.

    "max_f1", "max_mcc": the best value, ties go to the higher threshold. "precision=0.5": the lowest threshold whose precision
    is at least that (BasewiseError when none is). "recall=0.9": the highest threshold that reaches that recall.
    With `prevalence`, negatives are re-weighted to it first.
    """
    kind, value = parse_rule(rule)
    if kind == "fixed":
        return value
    ranked = rank(y, p)
    if not ranked.y.any():
        logger.warning("no positive in the validation data: the threshold stays at 0.5")
        return 0.5
    w = prevalence_weights(ranked.y, prevalence)
    tp, called = np.cumsum(np.where(ranked.y, w, 0.0))[ranked.ends], np.cumsum(w)[ranked.ends]
    thresholds = ranked.p[ranked.ends]
    P, N = tp[-1], called[-1] - tp[-1]
    if kind == "max_f1":
        return float(thresholds[_first_best(2 * tp / (called + P))])
    if kind == "max_mcc":
        fp = called - tp
        margins = np.sqrt(called) * np.sqrt(P) * np.sqrt(N) * np.sqrt(P + N - called)
        mcc = np.divide(tp * (N - fp) - fp * (P - tp), margins, out=np.full(len(tp), -1.0), where=margins > 0)
        return float(thresholds[_first_best(mcc)])
    if kind == "recall":
        return float(thresholds[min(int(np.searchsorted(tp, value * P * (1 - 1e-12))), len(tp) - 1)])
    good = np.flatnonzero(tp / called >= value)
    if not len(good):
        raise BasewiseError(f"no threshold reaches precision {value} on the validation data (best {(tp / called).max():.3f}); ask for less")
    return float(thresholds[good[-1]])


def _first_best(values: Floats) -> int:
    """Return the first place whose value is the largest but for rounding: thresholds descend, so ties go to the higher one."""
    return int(np.flatnonzero(values >= values.max() - 1e-12)[0])


def parse_rule(rule: str | float) -> tuple[str, float]:
    """Return (kind, value) of a threshold rule; BasewiseError lists the rules for anything else."""
    if isinstance(rule, int | float):
        return "fixed", float(rule)
    if rule in ("max_f1", "max_mcc"):
        return rule, 0.0
    kind, _, value = rule.partition("=")
    try:
        number = float(value if kind in ("precision", "recall") else rule)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise BasewiseError(f"threshold rule {rule!r} is unknown, expected one of {', '.join(RULES)} (numbers in 0..1)")
    return (kind if kind in ("precision", "recall") else "fixed"), number
