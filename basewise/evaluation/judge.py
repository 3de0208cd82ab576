"""One verdict on probabilities: metrics with confidence intervals, precision at recalls, rows by group; JSON-ready."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.evaluation.bootstrap import bootstrap_ci, bootstrap_metrics
from basewise.evaluation.metrics import binary_metrics, multiclass_metrics, precision_at_recall
from basewise.evaluation.spans import interval_metrics, places

RECALLS = (0.1, 0.3, 0.5)
RESAMPLED = 5e8  # bases times resamples that are still worth the wait


def judge(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    threshold: float,
    *,
    prevalence: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    recalls: Sequence[float] = RECALLS,
) -> dict[str, Any]:
    """Return `{"n", "n_positive", "prevalence", "threshold", "metrics": {name: {"value"[, "low", "high"]}}}` for labels and probabilities.

    Probabilities (B,) answer a binary question; (B, C) are those of C classes, whose metrics have no threshold and no prevalence.
    `groups` (B,) are resampled whole. Intervals are 95 % percentile ones, left out with ``bootstrap=0``; undefined values are None.
    """
    labels, values = np.asarray(y), np.asarray(p, dtype=np.float64)
    if not len(labels):
        raise BasewiseError("nothing to evaluate: no labelled examples in this split")
    if values.ndim == 2:
        return _judge_classes(labels, values, bootstrap, seed, groups)
    point: dict[str, float | None] = dict(binary_metrics(labels, values, threshold, prevalence=prevalence))
    for recall, precision in precision_at_recall(labels, values, recalls, prevalence=prevalence).items():
        point[f"precision_at_recall_{recall:g}"] = precision
    intervals: dict[str, Any] = {}
    if bootstrap:
        intervals = dict(
            bootstrap_metrics(labels, values, threshold, n=bootstrap, seed=seed, groups=groups, prevalence=prevalence, recalls=recalls)
        )
    return {
        "n": len(labels),
        "n_positive": int((labels == 1).sum()),
        "prevalence": float((labels == 1).mean()) if prevalence is None else prevalence,
        "threshold": float(threshold),
        "metrics": {name: _entry(value, intervals.get(name)) for name, value in point.items()},
    }


def judge_bases(
    examples: pd.DataFrame, y: npt.ArrayLike, p: npt.ArrayLike, source: npt.NDArray[Any], threshold: float, **settings: Any
) -> dict[str, Any]:
    """Return `judge` of bases with `interval_precision`, `interval_recall` and `interval_f1` among its metrics; see `interval_metrics`.

    `source` (S,) is each base's row in `examples`, as `scored_labels` gives it; `settings` are those of `judge`. Metrics of more than
    RESAMPLED / bootstrap bases have no intervals, those of annotated intervals always have.
    """
    bootstrap, seed, values = settings.pop("bootstrap", 1000), settings.get("seed", 0), np.asarray(p)
    verdict = judge(y, values, threshold, bootstrap=bootstrap if len(values) * bootstrap <= RESAMPLED else 0, **settings)
    if values.ndim == 1:
        place = places(examples, source, examples["label"])
        verdict["metrics"] |= interval_metrics(place, y, values >= threshold, bootstrap=bootstrap, seed=seed)
    return verdict


def _judge_classes(
    labels: npt.NDArray[Any], values: npt.NDArray[np.float64], bootstrap: int, seed: int, groups: npt.ArrayLike | None
) -> dict[str, Any]:
    point = multiclass_metrics(labels, values)
    intervals = {}
    if bootstrap:
        for name in point:
            intervals[name] = bootstrap_ci(
                lambda a, b, name=name: multiclass_metrics(a, b)[name], labels, values, n=bootstrap, seed=seed, groups=groups
            )
    counts = np.bincount(labels, minlength=values.shape[1])
    return {
        "n": len(labels),
        "n_by_label": counts.tolist(),
        "metrics": {name: _entry(value, intervals.get(name)) for name, value in point.items()},
    }


def _entry(value: float | None, interval: tuple[float, float] | None) -> dict[str, float | None]:
    entry: dict[str, float | None] = {"value": value}
    if interval is not None:
        entry["low"], entry["high"] = interval
    return entry


def judge_by(y: npt.ArrayLike, p: npt.ArrayLike, threshold: float, by: npt.ArrayLike, *, prevalence: float | None = None) -> dict[str, Any]:
    """Return `judge` without intervals for the rows of each value of `by` (B,), values sorted."""
    labels, values, names = np.asarray(y), np.asarray(p), np.asarray(by).astype(str)
    return {
        str(name): judge(labels[names == name], values[names == name], threshold, prevalence=prevalence, bootstrap=0)
        for name in np.unique(names)
    }
