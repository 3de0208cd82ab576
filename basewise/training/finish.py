"""From the best weights to a run that speaks for itself: calibration, threshold, test, predictions, results and the model card."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.backbones.classifier import Calibration, Classifier
from basewise.datasets.table import COMPLETE
from basewise.evaluation.calibration import choose_threshold, fit_platt, fit_temperature
from basewise.evaluation.judge import judge, judge_bases
from basewise.evaluation.metrics import prevalence_weights
from basewise.evaluation.scoring import Floats, one_logit, resampling_groups, score_logits, scored_labels
from basewise.files import atomic_path
from basewise.recipes.schema import Recipe

IDENTITY = ("chrom", "start", "end", "strand", "group")


def calibrate(recipe: Recipe, labels: np.ndarray[Any, Any], logits: Floats) -> Calibration:
    """Return the calibration the recipe asks for, from validation labels (S,) and logits (S, C)."""
    rule = recipe.evaluate
    if rule.calibrate == "none" or not len(labels):
        return Calibration()
    if logits.shape[1] > 2:
        return Calibration(temperature=fit_temperature(logits, labels))
    weights = prevalence_weights(labels, rule.prevalence)
    if rule.calibrate == "temperature" or logits.shape[1] == 2:  # two logits have no place for a bias
        return Calibration(temperature=fit_temperature(one_logit(logits)[:, 0], labels, weights))
    temperature, bias = fit_platt(logits[:, 0], labels, weights)
    return Calibration(temperature=temperature, bias=bias)


def settle(recipe: Recipe, classifier: Classifier, examples: pd.DataFrame, batch_size: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Set the classifier's calibration and threshold from split "val" and judge splits "val" and "test".

    Returns the verdicts by split and the table of predictions: what identifies an example, label, logit and probability
    (lists of one a base for kind "base", one a class for several classes).
    """
    logits: dict[str, list[Floats]] = {}
    for split in ("val", "test"):
        part = examples[examples["split"] == split]
        if not part.empty:
            logits[split] = score_logits(classifier, part["sequence"].tolist(), batch_size=batch_size)
    rule = recipe.evaluate
    threshold = rule.threshold if isinstance(rule.threshold, float) else 0.5
    if "val" in logits:
        labels, flat, _ = scored_labels(examples[examples["split"] == "val"], logits["val"], recipe.kind)
        classifier.config = classifier.config.model_copy(update={"calibration": calibrate(recipe, labels, flat)})
        p = classifier.answers(flat)
        if p.ndim == 1:
            threshold = choose_threshold(labels, p, rule.threshold, prevalence=rule.prevalence)
    classifier.config = classifier.config.model_copy(update={"threshold": threshold})
    verdicts, tables = {}, []
    for split, values in logits.items():
        part = examples[examples["split"] == split]
        labels, flat, source = scored_labels(part, values, recipe.kind)
        groups = resampling_groups(part, source, recipe.kind)
        settings: dict[str, Any] = {"bootstrap": rule.bootstrap, "seed": recipe.train.seed, "groups": groups}
        p = classifier.answers(flat)
        base = recipe.kind == "base"
        verdicts[split] = judge_bases(part, labels, p, source, threshold, **settings) if base else judge(labels, p, threshold, **settings)
        tables.append(prediction_table(classifier, part, values))
    return verdicts, pd.concat(tables, ignore_index=True) if tables else prediction_table(classifier, examples.iloc[:0], [])


def judge_complete(recipe: Recipe, classifier: Classifier, examples: pd.DataFrame, batch_size: int) -> dict[str, Any] | None:
    """Return the verdict of a settled classifier on split "complete", every base of the test contigs, or None where there is none."""
    part = examples[examples["split"] == COMPLETE]
    if part.empty:
        return None
    logits = score_logits(classifier, part["sequence"].tolist(), batch_size=batch_size)
    labels, flat, source = scored_labels(part, logits, recipe.kind)
    rule, p = recipe.evaluate, classifier.answers(flat)
    settings: dict[str, Any] = {"bootstrap": rule.bootstrap, "seed": recipe.train.seed}
    settings["groups"] = resampling_groups(part, source, recipe.kind)  # neighbouring bases are not independent
    return judge_bases(part, labels, p, source, classifier.config.threshold, **settings)


def prediction_table(classifier: Classifier, examples: pd.DataFrame, logits: list[Floats]) -> pd.DataFrame:
    """Return one row an example: `example` (its row in the dataset), identity, split, label, logit, probability."""
    base, binary = classifier.config.kind == "base", len(classifier.config.labels) == 2
    table = pd.DataFrame({"example": examples.index.to_numpy(np.int64), "split": examples["split"].to_numpy(dtype=object)})
    for column in IDENTITY:
        if column in examples:
            table[column] = examples[column].to_numpy()
    table["label"] = examples["label"].to_numpy()
    probabilities = [classifier.answers(z) for z in logits]
    shown = [one_logit(z)[..., 0] if binary else z for z in logits]
    scalar = binary and not base
    for name, values in (("logit", shown), ("probability", probabilities)):
        if scalar:
            table[name] = np.array([float(v) for v in values], dtype=np.float32)
        else:
            table[name] = pd.Series([np.asarray(v, dtype=np.float32).tolist() for v in values], dtype=object)
    return table


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Write predictions as Parquet (zstd) by rename."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, compression="zstd", index=False)


def compare(recipe: Recipe, verdicts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each expected number what was reached, and whether it lies within the tolerance.

    A bare metric is that of split "test", "complete.auprc" that of split "complete".
    """
    rows = []
    for expected in recipe.expected:
        split, dot, metric = expected.metric.rpartition(".")
        reached = (verdicts.get(split if dot else "test") or {}).get("metrics", {}).get(metric, {}).get("value")
        within = None if reached is None else abs(reached - expected.value) <= expected.tolerance
        rows.append({**expected.model_dump(), "reached": reached, "within_tolerance": within})
    return rows


def model_card(recipe: Recipe, classifier: Classifier, results: dict[str, Any], data: dict[str, Any]) -> str:
    """Return the README.md of a run: what it is, data, numbers with intervals, limits, how to rebuild."""
    config = classifier.config
    size = f"A {classifier.backbone.family} classifier of {results['parameters']:,} parameters for task `{config.task}`"
    calibration = config.calibration
    lines = [
        f"# {recipe.name}",
        "",
        f"{size} (kind {config.kind}, labels {', '.join(config.labels)}, window {config.window or 'any'}).",
        "",
        *_origin(recipe, results),
        *_cut(recipe, results, config.threshold),
        f"- probability = softmax(logits / {calibration.temperature:.4g})"
        if len(config.labels) > 2
        else f"- probability = sigmoid(logit / {calibration.temperature:.4g} + {calibration.bias:.4g})",
        "",
        "## Data",
        "",
        f"- dataset: task {data.get('task')}, variant {data.get('variant')}, window {data.get('window')}, seed {data.get('seed')}",
        *(f"- {split}: {counts}" for split, counts in (data.get("counts") or {}).items()),
        "",
        "## Results",
        "",
        "| metric | " + " | ".join(results["splits"]) + " |",
        "|---|" + "---|" * len(results["splits"]),
    ]
    names = next(iter(results["splits"].values()))["metrics"] if results["splits"] else {}
    for name in names:
        cells = [_cell(verdict["metrics"].get(name, {})) for verdict in results["splits"].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if results.get("complete"):
        lines += ["", "## Every base of the test chromosomes, at the genome's own prevalence", "", *_complete_rows(results["complete"])]
    if results["expected"]:
        lines += ["", "## Expected", "", "| metric | expected | reached | source |", "|---|---|---|---|"]
        lines += [
            f"| {e['metric']} | {e['value']} ± {e['tolerance']} | {_number(e['reached'])} | {e['source']} |" for e in results["expected"]
        ]
    lines += ["", "Intervals: 95 %, percentile bootstrap. Numbers hold for data like those above and at their share of positives."]
    if recipe.source is not None:
        lines += ["", f"Source: {recipe.source.paper} {recipe.source.table}".rstrip(), "", recipe.source.notes]
    lines += ["", "Rebuild: `basewise train recipe.toml --data DATASET -o RUN` with the recipe.toml in this run's folder.", ""]
    if "members" in results:
        lines[-2] += " So each member, with what is said of it above; then `basewise ensemble RUN RUN ... --data DATASET -o JOINED`."
    return "\n".join(lines)


def _origin(recipe: Recipe, results: dict[str, Any]) -> list[str]:
    """Return the card's lines on where the weights come from: one training, or the members of an ensemble."""
    start, metric = f"weights at the start: {recipe.backbone.init}", results["best"]["metric"]
    if "members" not in results:
        return [f"- {start}; kept: step {results['best']['step']} of {results['steps']}, by validation {metric}"]
    stored = ", weights stored as float16" if results["half"] else ""
    lines = [
        f"- {start}; mean logit of {len(results['members'])} networks trained apart, each kept at its best validation {metric}{stored}"
    ]
    for member in results["members"]:
        facts = ", ".join(f"{name} {value}" for name, value in member.items() if name not in ("steps", "best_step"))
        lines.append(f"  - {facts}: step {member['best_step']} of {member['steps']}")
    return lines


def _cut(recipe: Recipe, results: dict[str, Any], threshold: float) -> list[str]:
    """Return the card's line on the threshold and where it comes from; none for several classes, of which the most probable is called."""
    rule = recipe.evaluate.threshold
    if len(recipe.head.labels) > 2:
        return []
    if recipe.kind == "individual":
        return [f"- threshold {threshold:.4g} on the probability of a group, a vote"]
    if isinstance(rule, float):
        return [f"- threshold {threshold:.4g} (given)"]
    if "val" not in results["splits"]:
        return [f"- threshold {threshold:.4g} (no validation split to choose it on)"]
    return [f"- threshold {threshold:.4g} ({rule}, chosen on the validation split)"]


def _complete_rows(verdict: dict[str, Any]) -> list[str]:
    facts = f"{verdict['n']:,} bases, {100 * verdict['prevalence']:.3g} % positive"
    return [
        facts,
        "",
        "| metric | complete |",
        "|---|---|",
        *(f"| {name} | {_cell(entry)} |" for name, entry in verdict["metrics"].items()),
    ]


def _cell(entry: dict[str, float | None]) -> str:
    text = _number(entry.get("value"))
    return f"{text} ({_number(entry['low'])}-{_number(entry['high'])})" if "low" in entry else text


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
