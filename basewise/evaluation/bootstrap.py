"""Confidence intervals by resampling: percentile bootstrap, groups drawn whole, seeded."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.evaluation.metrics import prevalence_weights, rank, ranked_metrics, ranked_precision_at_recall

Interval = tuple[float, float] | None


def bootstrap_ci(
    fn: Callable[..., float | None],
    *arrays: npt.ArrayLike,
    n: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of `fn(*arrays)` over `n` resamples with replacement, or None when it was never defined.

    Rows that share a value of `groups` (a gene, an individual) are drawn together, since they are not independent. Resamples on which
    `fn` is None are left out. Source: Efron & Tibshirani 1993, chapter 13.
    """
    columns = [np.asarray(a) for a in arrays]
    group_of, size = _group_index(len(columns[0]), groups)
    by_group = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[by_group], np.arange(size + 1))
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(n):
        chosen = draw.integers(0, size, size)
        rows = np.concatenate([by_group[starts[g] : starts[g + 1]] for g in chosen])
        values.append(fn(*(c[rows] for c in columns)))
    return _percentile(values, level)


def bootstrap_metrics(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    threshold: float,
    *,
    n: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    prevalence: float | None = None,
    recalls: Sequence[float] = (),
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return the interval of every binary metric, and of `precision_at_recall_<recall>`, from one set of resamples.

    The same answer as `bootstrap_ci` of each metric with the same seed, without sorting again: a resample is a vector of weights.
    """
    ranked = rank(y, p)
    prevalence_weights(ranked.y, prevalence)  # refuses a prevalence outside 0..1
    group_of, size = _group_index(len(ranked.y), groups)
    group_of = group_of[ranked.order]
    draw = np.random.default_rng(seed)
    values: dict[str, list[float | None]] = {}
    for _ in range(n):
        times = np.bincount(draw.integers(0, size, size), minlength=size)[group_of].astype(np.float64)
        weights = times
        if prevalence is not None:
            weights = times * _resample_prevalence(ranked.y, times, prevalence)
        row: dict[str, float | None] = ranked_metrics(ranked, threshold, weights)
        for recall, precision in ranked_precision_at_recall(ranked, recalls, weights).items():
            row[f"precision_at_recall_{recall:g}"] = precision
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: _percentile(column, level) for name, column in values.items()}


def _resample_prevalence(y: npt.NDArray[np.bool_], times: npt.NDArray[np.float64], prevalence: float) -> npt.NDArray[np.float64]:
    positives, negatives = float(times[y].sum()), float(times[~y].sum())
    weights = np.ones(len(y))
    if negatives:
        weights[~y] = positives * (1 - prevalence) / (prevalence * negatives)
    return weights


def _group_index(rows: int, groups: npt.ArrayLike | None) -> tuple[npt.NDArray[np.int64], int]:
    if not rows:
        raise BasewiseError("nothing to resample: no rows")
    if groups is None:
        return np.arange(rows), rows
    named = np.asarray(groups)
    if len(named) != rows:
        raise BasewiseError(f"got {len(named)} groups for {rows} rows")
    _, index = np.unique(named.astype(str) if named.dtype == object else named, return_inverse=True)
    return index.astype(np.int64), int(index.max()) + 1


def _percentile(values: Sequence[float | None], level: float) -> Interval:
    defined: list[Any] = [v for v in values if v is not None]
    if not defined:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
