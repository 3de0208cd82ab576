"""results.json of a run or a model, read strictly, and its metrics as blocks of a page."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.report.tables import Column, Table


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Metric(_Part):
    """A value with its 95 % interval; None where the metric is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Verdict(_Part):
    """How good the answers on one split are (evaluation/judge)."""

    n: int
    n_positive: int | None = None
    prevalence: float | None = None
    threshold: float | None = None
    metrics: dict[str, Metric]


class Best(_Part):
    """The validation whose weights were kept."""

    step: int | None
    metric: str
    value: float | None


class Expected(_Part):
    """A number a recipe was to reach, beside what was reached."""

    metric: str
    value: float
    tolerance: float
    source: str
    reached: float | None


class Results(_Part):
    """What results.json says."""

    recipe: str
    kind: str
    parameters: int
    steps: int
    stopped_early: bool
    best: Best
    threshold: float
    splits: dict[str, Verdict]
    complete: Verdict | None = None  # every base of the test contigs
    expected: tuple[Expected, ...] = ()


# name -> (as a reader calls it, what it means); the order of tables
METRICS = {
    "auroc": ("AUROC", "chance that a positive is ranked above a negative"),
    "auprc": ("AUPRC", "average precision; guessing reaches the prevalence"),
    "precision": ("Precision", "share of calls that are true, at the threshold"),
    "recall": ("Recall", "share of positives found, at the threshold"),
    "specificity": ("Specificity", "share of negatives left alone, at the threshold"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "mcc": ("MCC", "correlation of calls and truth"),
    "accuracy": ("Accuracy", "share of right answers; misleading when positives are rare"),
    "precision_at_recall_0.1": ("Precision at recall 10 %", "when only the surest tenth is wanted"),
    "precision_at_recall_0.3": ("Precision at recall 30 %", ""),
    "precision_at_recall_0.5": ("Precision at recall 50 %", ""),
    "interval_precision": ("Interval precision", "share of called runs that share a base with an annotated one"),
    "interval_recall": ("Interval recall", "share of annotated runs that share a base with a called one"),
    "interval_f1": ("Interval F1", "harmonic mean of both"),
    "precision_macro": ("Precision, mean of classes", ""),
    "recall_macro": ("Recall, mean of classes", ""),
    "f1_macro": ("F1, mean of classes", ""),
    "auc_hard": ("AUC of hard calls", "(recall + specificity) / 2, which some papers print as AUC"),
    "brier": ("Brier score", "mean squared error of the probabilities; smaller is better"),
    "ece": ("Calibration error", "mean distance of probabilities from observed shares; smaller is better"),
}


def read_results(path: str | Path) -> Results:
    """Read results.json; BasewiseError names the keys that are missing or of another type."""
    value = read_json(path)
    try:
        return Results.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {_said(dict(e))}" for e in error.errors()]
        raise BasewiseError(f"{path} holds no results of basewise train ({'; '.join(problems[:6])})") from None


def _said(error: dict[str, Any]) -> str:
    return "missing" if error["type"] == "missing" else f"got {str(error['input'])[:40]!r}"


def metric_label(name: str) -> str:
    """Return a metric as a reader calls it; unknown names stay."""
    return METRICS.get(name, (name, ""))[0]


def ordered(metrics: dict[str, Metric]) -> list[str]:
    """Return the names of `metrics`, known ones first, in the order of METRICS."""
    return [name for name in METRICS if name in metrics] + [name for name in metrics if name not in METRICS]


def metric_table(verdict: Verdict, caption: str) -> Table:
    """Return a verdict's metrics with intervals as a table."""
    rows = []
    for name in ordered(verdict.metrics):
        metric = verdict.metrics[name]
        rows.append((metric_label(name), metric.value, metric.low, metric.high, METRICS.get(name, ("", ""))[1] or None))
    columns = (
        Column("Metric"),
        Column("Value", "number", 4),
        Column("95 % from", "number", 4),
        Column("to", "number", 4),
        Column("What it says"),
    )
    return Table(caption, columns, rows, "metrics")


def with_interval(metric: Metric | None, digits: int = 3) -> str:
    """Return a metric as text, with its interval where it has one."""
    if metric is None or metric.value is None:
        return "undefined"
    text = f"{metric.value:.{digits}f}"
    return text if metric.low is None or metric.high is None else f"{text} ({metric.low:.{digits}f}–{metric.high:.{digits}f})"
