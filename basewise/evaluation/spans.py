"""Base-level answers as intervals: how many annotated intervals are found, how many calls hit one.

A run of positive bases is one interval; runs continue from one window into the next where windows lie side by side on a contig.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.evaluation.metrics import ratio

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

BLOCK = 1_000_000  # bases that are resampled together


class Spans(NamedTuple):
    """Runs on one line of coordinates (contigs end to end with gaps), sorted, [start, end)."""

    start: Positions
    end: Positions


def places(examples: pd.DataFrame, source: Positions, labels: pd.Series) -> Positions:
    """Return for every scored base (S,), as `scored_labels` orders them, its place on a line where contigs do not touch.

    Rows on strand "-" count from their end. Rows without a contig (".") lie apart from each other.
    """
    contig = np.unique(examples["chrom"].astype(str).to_numpy(dtype=object), return_inverse=True)[1].astype(np.int64)
    alone = (examples["chrom"].astype(str) == ".").to_numpy()
    contig[alone] = contig.max(initial=0) + 1 + np.arange(int(alone.sum()))
    room = int(examples["end"].max()) + 2
    lengths = examples["sequence"].str.len().to_numpy(np.int64)
    first = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    kept = np.concatenate([np.asarray(row) >= 0 for row in labels]) if len(labels) else np.empty(0, bool)
    within = within[kept]
    minus = (examples["strand"] == "-").to_numpy()[source]
    start, end = examples["start"].to_numpy(np.int64)[source], examples["end"].to_numpy(np.int64)[source]
    place: Positions = contig[source] * room + np.where(minus, end - 1 - within, start + within)
    return place


def runs(place: Positions, positive: Bools) -> Spans:
    """Return the runs of positive bases; a base that stands in several windows is positive where any of them says so."""
    found = np.unique(place[positive])
    if not len(found):
        return Spans(found, found)
    breaks = np.flatnonzero(np.diff(found) > 1)
    return Spans(found[np.concatenate([[0], breaks + 1])], found[np.concatenate([breaks, [len(found) - 1]])] + 1)


def hits(of: Spans, among: Spans) -> Bools:
    """Tell which runs of `of` share a base with a run of `among`."""
    hit: Bools = np.searchsorted(among.start, of.end, side="left") > np.searchsorted(among.end, of.start, side="right")
    return hit


def interval_metrics(place: Positions, y: npt.ArrayLike, called: npt.ArrayLike, *, bootstrap: int = 0, seed: int = 0) -> dict[str, Any]:
    """Return `{"interval_precision", "interval_recall", "interval_f1": {"value"[, "low", "high"]}}` for bases at `place` (S,).

    Precision: share of called runs with a base in common with an annotated run; recall: share of annotated runs with a base in common with
    a called one; F1: their harmonic mean. Intervals are 95 % percentile ones over resampled stretches of a megabase.
    """
    truth, calls = runs(place, np.asarray(y) == 1), runs(place, np.asarray(called, dtype=bool))
    right, found = hits(calls, truth), hits(truth, calls)
    block = np.concatenate([calls.start, truth.start]) // BLOCK
    _, number = np.unique(block, return_inverse=True)
    size = int(number.max(initial=-1)) + 1
    of_call, of_truth = number[: len(right)], number[len(right) :]
    counts = np.stack(
        [
            np.bincount(of_call, weights=right, minlength=size),
            np.bincount(of_call, minlength=size),
            np.bincount(of_truth, weights=found, minlength=size),
            np.bincount(of_truth, minlength=size),
        ]
    )  # (4, blocks)
    point = _scores(*counts.sum(1))
    result: dict[str, Any] = {name: {"value": value} for name, value in point.items()}
    if bootstrap and size > 1:
        rng = np.random.default_rng(seed)
        draws = [_scores(*counts[:, rng.integers(0, size, size)].sum(1)) for _ in range(bootstrap)]
        for name, entry in result.items():
            values = [draw[name] for draw in draws if draw[name] is not None]
            if values:
                entry["low"], entry["high"] = (float(v) for v in np.quantile(np.array(values, dtype=np.float64), [0.025, 0.975]))
    return result


def _scores(right: float, calls: float, found: float, truths: float) -> dict[str, float | None]:
    precision, recall = ratio(right, calls), ratio(found, truths)
    f1 = None if not calls and not truths else 0.0
    if precision and recall:
        f1 = 2 * precision * recall / (precision + recall)
    return {"interval_precision": precision, "interval_recall": recall, "interval_f1": f1}
