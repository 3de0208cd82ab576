"""The page of a training run: what was learned, how good it is on data it never saw, and whether its probabilities can be believed."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.provenance import provenance
from basewise.report import curves
from basewise.report.curves import Curve
from basewise.report.origin import origin_section
from basewise.report.page import Block, Chapter, Fact, Facts, Figure, Note, Points, Prose, Section, Tile, Tiles, write_page
from basewise.report.results import Results, Verdict, metric_label, metric_table, read_results, with_interval
from basewise.report.tables import Column, Table

SPLIT_NAMES = {"test": "Test", "val": "Validation", "train": "Training"}


def write_run_report(run_folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a finished run to `path` (default RUN/report.html) and return where it stands.

    Raises BasewiseError when results.json, predictions.parquet or recipe.toml is missing, or one of them or log.jsonl is damaged.
    """
    path = Path(run_folder) / "report.html" if path is None else Path(path)
    write_page([run_chapter(run_folder)], path)
    return path


def run_chapter(run_folder: str | Path) -> Chapter:
    """Return what the run in `run_folder` has to say."""
    folder = Path(run_folder)
    results, recipe = read_results(folder / "results.json"), read_recipe(folder / "recipe.toml")
    run = folder / "run.json"
    facts: dict[str, Any] = read_json(run) if run.is_file() else provenance()
    test = results.splits.get("test")
    sections = []
    if test is not None:
        sections.append(Section("numbers", "Key numbers", (_tiles(test, results),)))
    sections.append(Section("asked", "What was asked", (_asked(recipe, results, facts),)))
    sections += [
        _split_section(folder, name, verdict) for name, verdict in sorted(results.splits.items(), key=lambda item: item[0] != "test")
    ]
    if results.expected:
        sections.append(Section("expected", "Beside the paper", (_expected_table(results),)))
    sections.append(
        Section("training", "How it was trained", training_blocks(folder, f"loss ({recipe.get('train', {}).get('loss', 'bce')})", results))
    )
    sections.append(Section("limits", "Limits", (Points(_limits(recipe, test)),)))
    weights = facts.get("model_sha256")
    sections.append(origin_section(facts, [("Model weights", "model/model.safetensors", weights)] if weights else []))
    return Chapter("Training run", results.recipe, _lead(test, results), tuple(sections))


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the table of a run's recipe.toml; BasewiseError when it is missing or damaged."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist; expected a run folder written by basewise train") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BasewiseError(f"{path} is not valid TOML: {error}") from error


def _lead(test: Verdict | None, results: Results) -> str:
    if test is None:
        return f"A model of {results.parameters:,} parameters, not judged on test data."
    name = "auroc" if "auroc" in test.metrics else next(iter(test.metrics), "")
    return (
        f"A model of {results.parameters:,} parameters reaches {metric_label(name)} {with_interval(test.metrics.get(name))} on "
        f"{test.n:,} test examples that neither training nor any choice saw."
    )


def _tiles(test: Verdict, results: Results) -> Tiles:
    tiles: list[Tile] = []
    for name in ("auroc", "auprc", "precision", "recall", "f1_macro", "accuracy"):
        metric = test.metrics.get(name)
        if metric is None or metric.value is None or len(tiles) == 4:
            continue
        interval = f"95 %: {metric.low:.3f}–{metric.high:.3f}" if metric.low is not None and metric.high is not None else ""
        tiles.append(Tile(metric_label(name), f"{metric.value:.3f}", interval))
    share = f"{100 * test.prevalence:.3g} % positive" if test.prevalence is not None else ""
    tiles.append(Tile("Test examples", f"{test.n:,}", share))
    tiles.append(Tile("Parameters", f"{results.parameters:,}", f"{results.steps:,} steps"))
    return Tiles(tuple(tiles))


def _asked(recipe: dict[str, Any], results: Results, facts: dict[str, Any]) -> Facts:
    data, backbone, train = recipe.get("data", {}), recipe.get("backbone", {}), recipe.get("train", {})
    head = recipe.get("head", {})
    about = {"negatives": "negatives", "variant": "variant", "window": "window", "split": "split by"}
    detail = ", ".join(f"{label} {data[key]}" for key, label in about.items() if key in data)
    best = results.best
    kept = f"step {best.step} of {results.steps}, best {best.metric} on validation" if best.step is not None else "the only fit"
    rows = [
        Fact("Task", f"{recipe.get('task', 'custom')} (one answer a {results.kind})"),
        Fact("Data", Path(str(data.get("path") or facts.get("data") or "not recorded")).name + (f": {detail}" if detail else "")),
        Fact("Backbone", f"{backbone.get('name', 'not recorded')}, weights at the start: {backbone.get('init', 'random')}"),
        Fact("Head", _settings(head) or "default"),
        Fact("Training", _settings(train)),
        Fact("Kept", kept),
        Fact(
            "Threshold",
            f"probability ≥ {results.threshold:.4g} ({recipe.get('evaluate', {}).get('threshold', 'max_f1')}, chosen on validation)",
        ),
    ]
    return Facts(tuple(rows))


def _settings(section: dict[str, Any]) -> str:
    """Return the keys of a recipe's section as text, without its sub-sections."""
    texts = {key: " / ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in section.items()}
    return ", ".join(f"{key} {text}" for key, text in texts.items() if not isinstance(section[key], dict))


def _split_section(folder: Path, name: str, verdict: Verdict) -> Section:
    title = f"{SPLIT_NAMES.get(name, name)} data"
    blocks: list[Block] = []
    if name == "val":
        blocks.append(Note("Calibration, threshold and the weights to keep were chosen on these data: the numbers flatter."))
    labels, probabilities = read_predictions(folder / "predictions.parquet", name)
    positives = int(labels.sum())
    if probabilities.ndim == 1 and 0 < positives < len(labels):
        blocks += _curve_figures(labels, probabilities, verdict)
    elif probabilities.ndim == 1:
        blocks.append(Note("These data hold one class only: there are no curves to draw."))
    share = f" ({verdict.n_positive:,} positive)" if verdict.n_positive is not None else ""
    blocks.append(metric_table(verdict, f"{verdict.n:,} examples{share}; 95 % intervals by bootstrap. A dash is an undefined value."))
    return Section(name, title, tuple(blocks))


def _curve_figures(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], verdict: Verdict) -> list[Block]:
    auprc, auroc, ece = (with_interval(verdict.metrics.get(key)) for key in ("auprc", "auroc", "ece"))
    prevalence = float(labels.mean())
    mean, observed, counts = curves.reliability_bins(labels, probabilities)
    return [
        Figure(
            "Precision and recall",
            curves.precision_recall_plot({"model": curves.precision_recall(labels, probabilities)}, prevalence),
            f"Precision-recall curve; average precision {auprc}, guessing reaches {prevalence:.3g}.",
            f"Average precision {auprc}. Precision depends on the share of positives, here {100 * prevalence:.3g} %: at another "
            "share, such as that of a whole genome, the curve is another.",
        ),
        Figure(
            "ROC",
            curves.roc_plot({"model": curves.roc(labels, probabilities)}),
            f"ROC curve; area {auroc}, guessing reaches 0.5.",
            f"Area {auroc}. It does not depend on the share of positives, and therefore hides how many false calls rare positives bring.",
        ),
        Figure(
            "Calibration",
            curves.reliability_plot(mean, observed, counts),
            "Reliability diagram: "
            + "; ".join(f"mean probability {m:.3f}, observed {o:.3f}" for m, o in zip(mean, observed, strict=True))
            + f". Calibration error {ece}.",
            f"Bins of equal numbers of examples, with 95 % Wilson intervals; calibration error {ece}. Points on the diagonal mean that of "
            "predictions of 0.7 seven in ten are right.",
        ),
    ]


def read_predictions(path: Path, split: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return labels (B,) and probabilities (B,), or (B, C) for several classes, of a split from predictions.parquet.

    For kind "base" every base scored (label not -1) of every example is one entry.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["split", "label", "probability"]).to_pandas()
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist; expected a run folder written by basewise train") from error
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]  # pyarrow prints whole schemas
        raise BasewiseError(f"{path} cannot be read, or lacks one of the columns split, label, probability ({said})") from error
    part = table[table["split"].astype("str") == split]
    if part.empty:
        raise BasewiseError(f"{path} holds no predictions of split {split!r}, but results.json has numbers for it; are they of one run?")
    if np.ndim(part["label"].iloc[0]) == 0:
        probabilities = np.array([np.asarray(value, dtype=np.float64) for value in part["probability"]])
        return part["label"].to_numpy(np.int64), probabilities
    labels = np.concatenate([np.asarray(value, dtype=np.int64) for value in part["label"]])
    probabilities = np.concatenate([np.asarray(list(value), dtype=np.float64) for value in part["probability"]])
    return labels[labels >= 0], probabilities[labels >= 0]


def _expected_table(results: Results) -> Table:
    rows = [
        (metric_label(row.metric), row.value, row.tolerance, row.reached, _verdict_word(row.value, row.tolerance, row.reached), row.source)
        for row in results.expected
    ]
    columns = (
        Column("Metric"),
        Column("Expected", "number", 4),
        Column("Tolerance", "number", 4),
        Column("Reached", "number", 4),
        Column("Within"),
        Column("Source"),
    )
    return Table("Numbers the recipe is meant to reach, on the test data.", columns, rows, "expected")


def _verdict_word(value: float, tolerance: float, reached: float | None) -> str | None:
    if reached is None:
        return None
    return "yes" if abs(reached - value) <= tolerance else "no"


def training_blocks(folder: Path, loss_label: str, results: Results) -> tuple[Block, ...]:
    """Return the figures of log.jsonl: the loss, and on validation data what chose the weights; of `results` best and steps are read."""
    lines = read_log(folder / "log.jsonl")
    loss = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    metric = results.best.metric
    validation = [(line["step"], line["validation"].get(metric)) for line in lines if isinstance(line.get("validation"), dict)]
    validation = [(step, value) for step, value in validation if value is not None]
    blocks: list[Block] = []
    if loss:
        blocks.append(
            Figure(
                "Training loss",
                curves.training_curves({"training loss": _curve(loss)}, loss_label, results.best.step),
                f"Training loss falls from {loss[0][1]:.3f} at step {loss[0][0]} to {loss[-1][1]:.3f} at step {loss[-1][0]}."
                if loss[-1][1] < loss[0][1]
                else f"Training loss goes from {loss[0][1]:.3f} to {loss[-1][1]:.3f}.",
                "Mean loss since the last entry of the log. The dashed line marks the step whose weights were kept.",
            )
        )
    if validation:
        blocks.append(
            Figure(
                "Validation",
                curves.training_curves({"validation": _curve(validation)}, metric_label(metric), results.best.step),
                f"{metric_label(metric)} on validation data over training, {len(validation)} points; kept at step {results.best.step}"
                + (f" with {results.best.value:.3f}." if results.best.value is not None else "."),
                f"{metric_label(metric)} chooses the weights to keep." + (" Training stopped early." if results.stopped_early else ""),
            )
        )
    return tuple(blocks) or (Prose("This run left no log of steps: its model is fitted in one go, or the log was removed."),)


def _curve(points: list[tuple[int, float]]) -> Curve:
    x, y = np.array(points, dtype=np.float64).T
    return Curve(x, y)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read log.jsonl, one JSON object a line; BasewiseError names the line that is none.

    A run without steps (k-mer logistic regression) has no log: the list is empty then.
    """
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise BasewiseError(f"line {number} of {path} is not valid JSON: {error}") from error
        if not isinstance(value, dict) or "step" not in value:
            raise BasewiseError(f"line {number} of {path} has no step, expected a line of a training log")
        lines.append(value)
    return lines


def _limits(recipe: dict[str, Any], test: Verdict | None) -> tuple[str, ...]:
    limits = [
        "Numbers hold for data like the test data and for their share of positives; balanced data say little about a whole genome.",
        "Intervals come from resampling the test examples; they do not show how the numbers change from one training to the next.",
    ]
    if recipe.get("data", {}).get("split") == "random":
        limits.insert(
            0,
            "Test and training examples were drawn at random from the same chromosomes: relatives of test examples were seen in training.",
        )
    if test is None:
        limits.insert(0, "There is no test split: nothing here says how the model does on data that took no part in any choice.")
    return tuple(limits)
