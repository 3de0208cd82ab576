"""Several runs beside one another, by what they reach on test data: a model and its baselines, or one model on several data."""

from collections.abc import Sequence
from pathlib import Path

from basewise.report.curves import comparison_plot
from basewise.report.page import Block, Chapter, Figure, Note, Section
from basewise.report.results import Results, metric_label, read_results, with_interval
from basewise.report.tables import Cell, Column, Table

SHOWN = ("auroc", "auprc", "precision", "recall", "f1", "accuracy", "f1_macro")
DRAWN = ("auroc", "auprc", "f1_macro")


def compare_chapter(run_folders: Sequence[str | Path]) -> Chapter | None:
    """Return the comparison of runs in the order given, the first in colour; None when fewer than two have test results."""
    results = [read_results(Path(folder) / "results.json") for folder in run_folders]
    named = list(zip(_names(run_folders, results), results, strict=True))
    judged = [(name, one) for name, one in named if "test" in one.splits]
    if len(judged) < 2:
        return None
    blocks: list[Block] = []
    if len({(one.splits["test"].n, one.splits["test"].n_positive) for _, one in judged}) > 1:
        blocks.append(Note("These runs were tested on different data (the numbers of examples differ): do not rank them by these values."))
    metrics = [key for key in SHOWN if any(key in one.splits["test"].metrics for _, one in judged)]
    blocks += [_figure(judged, key) for key in DRAWN if key in metrics]
    blocks.append(_table(judged, metrics))
    lead = f"{len(judged)} runs on their test data, which neither training nor any choice saw."
    return Chapter("Comparison", "Side by side", lead, (Section("compared", "Test results", tuple(blocks)),))


def _names(folders: Sequence[str | Path], results: Sequence[Results]) -> list[str]:
    """Return the names of the recipes, or the folders' where these do not tell the runs apart."""
    recipes = [one.recipe for one in results]
    return recipes if len(set(recipes)) == len(recipes) else [str(folder) for folder in folders]


def _figure(judged: Sequence[tuple[str, Results]], key: str) -> Figure:
    rows = [(name, metric) for name, one in judged if (metric := one.splits["test"].metrics.get(key)) and metric.value is not None]
    intervals = [None if metric.low is None or metric.high is None else (metric.low, metric.high) for _, metric in rows]
    names, values = [name for name, _ in rows], [metric.value or 0.0 for _, metric in rows]
    return Figure(
        metric_label(key),
        comparison_plot(names, values, intervals, f"{metric_label(key)} on test data"),
        f"{metric_label(key)} on test data: " + "; ".join(f"{name} {with_interval(metric)}" for name, metric in rows) + ".",
        "Dots are the values, lines their 95 % intervals where they were computed.",
    )


def _table(judged: Sequence[tuple[str, Results]], metrics: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, one in judged:
        test = one.splits["test"]
        values = (test.metrics[key].value if key in test.metrics else None for key in metrics)
        rows.append((name, one.parameters, test.n, test.n_positive, *values))
    columns = (
        Column("Run"),
        Column("Parameters", "number"),
        Column("Test examples", "number"),
        Column("Positive", "number"),
        *(Column(metric_label(key), "number", 4) for key in metrics),
    )
    return Table("Values on the test data; intervals stand in the chapter of each run.", columns, rows, "comparison")
