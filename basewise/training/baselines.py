"""Baselines as run folders like any other: evaluate, predict and report read them without knowing what they are."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.datasets.folder import Dataset
from basewise.errors import BasewiseError, did_you_mean
from basewise.evaluation.baselines import KmerModel, fit_kmer_lr
from basewise.recipes.schema import Recipe, apply_overrides, load_recipe
from basewise.training import finish, loop, runs
from basewise.training.build import new_classifier
from basewise.training.train import prepare_examples, train, write_run

BASELINES = {
    "kmer-lr": "basewise/kmer_lr",
    "cnn": "basewise/cnn",
    "random-init": "basewise/random_init",
    "g4hunter": "basewise/g4hunter",
    "g4-regex": "basewise/g4_regex",
    "pqs": "basewise/pqs",
    "zhunt": "basewise/zhunt",
    "zscore": "basewise/zscore",
}


def baseline_recipe(name: str, dataset: Dataset, settings: list[str]) -> Recipe:
    """Return the shipped recipe of a baseline with `settings` applied, fitted to the dataset's task and kind.

    "random-init" is a recipe with random weights whatever `backbone.init` says: the control for what pretraining gave.
    Where the dataset asks about the center base of its windows (task polya), the convolution network reads the center and k-mers are
    counted in stretches of about 10 bases.
    """
    if name not in BASELINES:
        raise BasewiseError(f"no baseline {name!r}, there are: {', '.join(BASELINES)}.{did_you_mean(name, BASELINES)}")
    task, kind = str(dataset.manifest.get("task") or "custom"), dataset.manifest.get("kind", "sequence")
    first = [f'task="{task}"', f'head.kind="{kind}"']
    window = dataset.manifest.get("window")
    if task == "polya" and kind == "sequence":
        if name == "cnn":
            first.append('head.pool="center"')
        if name == "kmer-lr" and window:
            first += ["backbone.config.ks=[1, 2, 3, 4, 5]", f"backbone.config.bins={max(1, window // 10)}"]
    recipe = apply_overrides(load_recipe(BASELINES[name]), first + settings)
    return apply_overrides(recipe, ['backbone.init="random"']) if name == "random-init" else recipe


def train_baseline(
    name: str,
    dataset: Dataset,
    run_folder: str | Path,
    *,
    settings: list[str] | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Train a baseline and write its run folder; returns what results.json holds."""
    recipe = baseline_recipe(name, dataset, settings or [])
    return fit(recipe, dataset, run_folder, resume=resume, force=force, device=device, progress=progress)


def fit(
    recipe: Recipe,
    dataset: Dataset,
    run_folder: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Do what the recipe's backbone asks for: rules are calibrated, k-mers get a logistic regression, all else is trained."""
    if recipe.fewshot is not None:
        raise BasewiseError(f"recipe {recipe.name} has a section [fewshot] and trains nothing; use `basewise reproduce` or `fewshot`")
    if recipe.backbone.name == "rules":
        return _settle_rule(recipe, dataset, Path(run_folder), resume=resume, force=force)
    if recipe.backbone.name == "kmers":
        return _train_kmer_lr(recipe, dataset, Path(run_folder), resume=resume, force=force)
    return train(recipe, dataset, run_folder, resume=resume, force=force, device=device, progress=progress)


def _train_kmer_lr(recipe: Recipe, dataset: Dataset, folder: Path, *, resume: bool, force: bool) -> dict[str, Any]:
    if recipe.kind != "sequence" or len(recipe.head.labels) != 2:
        raise BasewiseError("kmer-lr answers binary questions about whole sequences; use the cnn baseline for this dataset")
    examples = prepare_examples(recipe, dataset)
    parts = {split: part for split, part in examples.groupby("split") if split in ("train", "val")}
    if "train" not in parts:
        raise BasewiseError('the dataset has no example in split "train"')
    classifier = new_classifier(recipe, dataset.manifest.get("window"))
    found = runs.begin(folder, recipe, resume=resume, force=force, first=True)
    if found is not None:
        return found
    config: Any = classifier.backbone.config  # type: ignore[attr-defined]
    split = {name: (part["sequence"].tolist(), part["label"].to_numpy(np.int64)) for name, part in parts.items()}
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit_kmer_lr(split["train"], split.get("val"), config.ks, config.bins)
    cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    set_kmer_weights(classifier, model)
    return _write_settled(recipe, dataset, examples, classifier, folder, cost, strength=model.strength)


@torch.no_grad()
def _settle_rule(recipe: Recipe, dataset: Dataset, folder: Path, *, resume: bool, force: bool) -> dict[str, Any]:
    """Write the run of a rule: nothing is learnt but calibration and threshold, on split "val"."""
    if recipe.kind != "base" or len(recipe.head.labels) != 2:
        raise BasewiseError(f"{recipe.name} scores bases: it is for base-level datasets of two labels (basewise build zdna|g4|tokens)")
    examples = prepare_examples(recipe, dataset)
    classifier = new_classifier(recipe, dataset.manifest.get("window"))
    found = runs.begin(folder, recipe, resume=resume, force=force, first=True)
    if found is not None:
        return found
    linear: Any = classifier.head.linear
    linear.weight.fill_(1.0)
    linear.bias.zero_()
    return _write_settled(recipe, dataset, examples, classifier, folder, {"seconds": 0.0, "cpu_seconds": 0.0})


def _write_settled(
    recipe: Recipe,
    dataset: Dataset,
    examples: pd.DataFrame,
    classifier: Classifier,
    folder: Path,
    cost: dict[str, Any],
    **facts: Any,
) -> dict[str, Any]:
    verdicts, predictions = finish.settle(recipe, classifier.eval(), examples, 256)
    complete = finish.judge_complete(recipe, classifier, examples, 256)
    value = verdicts.get("val", {}).get("metrics", {}).get("auroc", {}).get("value")
    results = {
        "recipe": recipe.name,
        "kind": recipe.kind,
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "steps": 0,
        "stopped_early": False,
        "best": {"step": 0, "metric": "auroc", "value": value, **facts},
        "threshold": classifier.config.threshold,
        "calibration": classifier.config.calibration.model_dump(),
        "splits": verdicts,
        **({"complete": complete} if complete else {}),
        "expected": finish.compare(recipe, {**verdicts, "complete": complete}),
    }
    return write_run(folder, recipe, classifier, results, predictions, dataset, **cost)


@torch.no_grad()
def set_kmer_weights(classifier: Classifier, model: KmerModel) -> None:
    """Put a fitted k-mer model into a classifier on backbone "kmers": its mean-pooled logit is then the model's."""
    at = 0
    for parameter in classifier.backbone.weights.values():  # type: ignore[attr-defined]
        parameter.copy_(torch.from_numpy(model.weights[at : at + parameter.numel()].reshape(parameter.shape)))
        at += parameter.numel()
    linear: Any = classifier.head.linear
    linear.weight.fill_(1.0)
    linear.bias.fill_(model.intercept)
