"""A recipe and a dataset in, a finished run folder out."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from basewise.backbones.classifier import Classifier, save_classifier
from basewise.backbones.lora import LoraSettings, add_lora, merge_lora
from basewise.datasets.cohort import Cohort
from basewise.datasets.folder import Dataset
from basewise.errors import BasewiseError
from basewise.files import atomic_path, write_json
from basewise.provenance import provenance
from basewise.recipes.schema import Recipe
from basewise.training import finish, loop, runs
from basewise.training.build import new_classifier
from basewise.training.memory import checkpoint_layers
from basewise.training.placement import Placement


def train(
    recipe: Recipe,
    dataset: Dataset,
    run_folder: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Train, calibrate, choose the threshold, test and write the run folder; returns what results.json holds.

    Deterministic given recipe, dataset and device. With `resume` a killed run goes on from its last checkpoint to the same weights, and a
    finished one is left as it is. Split "train" gives the weights, "val" all choices, "test" nothing but numbers.
    Under `accelerate launch` all processes share each batch; the first writes the files and returns results, the others return {}.
    """
    loop.check_metric(recipe)
    examples = prepare_examples(recipe, dataset)
    loop.check_examples(recipe, examples)
    placement = Placement(device, recipe.train.precision)
    folder = Path(run_folder)
    classifier, total = beginner(recipe, dataset.manifest.get("window"))  # before the folder is begun: what cannot be built leaves none
    loop.check_lengths(classifier, examples)
    found = runs.begin(folder, recipe, resume=resume, force=force, first=placement.rank == 0)
    if found is not None:
        return found
    placement.wait()
    trainer = loop.start(recipe, classifier, examples, folder, placement)
    loop.run(trainer, progress)
    return _finish(trainer, dataset, examples, total) if placement.rank == 0 else {}


def beginner(recipe: Recipe, window: int | None) -> tuple[Classifier, int]:
    """Return the classifier that a training starts from, by the recipe's seed, and its parameters without adapters.

    With [lora] it holds adapters and only they and the head ask for gradients; with gradient_checkpointing its layers compute twice.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        classifier = new_classifier(recipe, window)
        total = sum(p.numel() for p in classifier.parameters())
        if recipe.lora is not None:
            add_lora(classifier, LoraSettings(**recipe.lora.model_dump()))
    if recipe.train.gradient_checkpointing:
        checkpoint_layers(classifier)
    return classifier, total


def best_of(trainer: loop.Trainer) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier at its best step, in eval mode, adapters merged into its weights; and what of it was trained."""
    classifier = trainer.classifier.eval()
    classifier.load_state_dict(runs.load_best(trainer.folder, trainer.progress.best_step))
    trained = sum(p.numel() for name, p in classifier.named_parameters() if name in trainer.trainable)
    everything = sum(p.numel() for p in classifier.parameters())
    counts = {"trainable": trained, "trainable_percent": 100 * trained / everything}
    return (merge_lora(classifier) if trainer.recipe.lora is not None else classifier), counts


def _finish(trainer: loop.Trainer, dataset: Dataset, examples: pd.DataFrame, total: int) -> dict[str, Any]:
    recipe, folder, done = trainer.recipe, trainer.folder, trainer.progress
    classifier, counts = best_of(trainer)
    batch_size = recipe.train.eval_batch_size or 4 * recipe.train.batch_size
    try:
        verdicts, predictions = finish.settle(recipe, classifier, examples, batch_size)
    except BasewiseError as error:
        raise BasewiseError(f"{error} (the training is done and kept: --resume finishes it, also with another [evaluate])") from error
    complete = finish.judge_complete(recipe, classifier, examples, batch_size)
    results = {
        "recipe": recipe.name,
        "kind": recipe.kind,
        "parameters": total,
        **counts,
        "steps": done.step,
        "stopped_early": done.stopped,
        "best": {"step": done.best_step, "metric": recipe.train.metric, "value": done.best_value},
        "threshold": classifier.config.threshold,
        "calibration": classifier.config.calibration.model_dump(),
        "splits": verdicts,
        **({"complete": complete} if complete else {}),
        "expected": finish.compare(recipe, {**verdicts, "complete": complete}),
    }
    return write_run(folder, recipe, classifier, results, predictions, dataset, seconds=done.seconds, cpu_seconds=done.cpu_seconds)


def write_run(
    folder: Path,
    recipe: Recipe,
    classifier: Classifier,
    results: dict[str, Any],
    predictions: pd.DataFrame,
    dataset: Dataset | Cohort,
    *,
    half: bool = False,
    **facts: Any,
) -> dict[str, Any]:
    """Write model/ (weights in float16 with `half`), predictions, results, README.md and, last, run.json; then checkpoints go."""
    about = {"seed": recipe.train.seed, "recipe_sha256": recipe_hash(recipe), "dataset": str(dataset.manifest.get("task", ""))}
    classifier.config = classifier.config.model_copy(update={"provenance": {"recipe": recipe.name, **about}})
    card = finish.model_card(recipe, classifier, results, dataset.manifest)
    save_classifier(classifier.cpu(), folder / "model", card, half=half)
    finish.write_predictions(predictions, folder / "predictions.parquet")
    write_json(folder / "results.json", results)
    with atomic_path(folder / "README.md") as path:
        path.write_text(card, encoding="utf-8")
    write_json(folder / "run.json", provenance(kind="train", model_sha256=classifier.sha256, data=str(dataset.path), **about, **facts))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return results


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of the resolved recipe."""
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def prepare_examples(recipe: Recipe, dataset: Dataset) -> pd.DataFrame:
    """Return the dataset's examples, checked against the recipe and cut to its window (around the center base) where it names one."""
    if recipe.pretrain is not None:
        raise BasewiseError(f"recipe {recipe.name} has a section [pretrain]: it is one for `basewise pretrain`")
    kind = dataset.manifest.get("kind", recipe.kind)
    if kind != recipe.kind:
        raise BasewiseError(f'the dataset is of kind "{kind}", but the recipe\'s head is of kind "{recipe.kind}"; set head.kind')
    wanted = recipe.data.model_dump(mode="json", exclude_none=True, exclude={"path"})
    found = dataset.manifest
    different = [
        f"{k} is {found[k]!r} instead of {v!r}" for k, v in wanted.items() if found.get(k) is not None and _plain(found[k]) != _plain(v)
    ]
    if different:
        raise BasewiseError(
            f"the dataset is not the one recipe {recipe.name} asks for: {'; '.join(different)}; build that one, or --set data.KEY=VALUE"
        )
    examples = dataset.examples
    if recipe.kind == "sequence":
        examples = examples[examples["label"] >= 0]  # -1: not known
    window = recipe.head.window
    if window is None:
        return examples
    if recipe.kind == "base":
        raise BasewiseError("head.window cuts sequences, which is for kind sequence; build a base-level dataset of that window instead")
    starts = (examples["sequence"].str.len() // 2 - window // 2).to_numpy()
    if (starts < 0).any():
        raise BasewiseError(
            f"head.window is {window}, but the dataset's shortest sequence has {examples['sequence'].str.len().min()} bases"
        )
    cut = [s[a : a + window] for s, a in zip(examples["sequence"], starts, strict=True)]
    return examples.assign(sequence=pd.Series(cut, index=examples.index, dtype=object))


def _plain(value: Any) -> Any:
    """Return a manifest's value such that lists of contigs are equal in any order."""
    return sorted(value) if isinstance(value, list) else value
