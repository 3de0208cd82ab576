"""Several runs of one recipe, trained apart, joined into one model whose logit is the mean of theirs.

Only families that can hold `members` side by side join without changing a number: their hidden states stand beside each other and
the linear head, divided by the number of members, reads them all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier, load_classifier
from basewise.backbones.registry import build_backbone
from basewise.backbones.weights import assign_weights
from basewise.datasets.folder import Dataset
from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.recipes.schema import Recipe, load_recipe
from basewise.training import finish, runs
from basewise.training.train import prepare_examples, write_run

MEMBERS = "backbone.members."
HEAD = ("head.linear.weight", "head.linear.bias")


def join(classifiers: Sequence[Classifier], *, half: bool = False) -> Classifier:
    """Return one classifier, in eval mode, whose logits are the mean of theirs; calibration and threshold are those of the first.

    Parameters
    ----------
    half
        Round the weights to float16 (relative error at most 2^-11), so that the file is half as large; they are computed with in float32.

    Raises
    ------
    BasewiseError
        Fewer than two, another architecture or head among them, or a family without members.
    """
    if len(classifiers) < 2:
        raise BasewiseError(f"an ensemble joins at least two runs, got {len(classifiers)}")
    shapes = [_shape(classifier) for classifier in classifiers]
    if any(shape != shapes[0] for shape in shapes):
        raise BasewiseError("the runs differ in architecture, labels or head; join runs of one recipe that differ by train.seed")
    first = classifiers[0]
    config = first.backbone.config.model_dump(mode="json")  # type: ignore[attr-defined]
    if "members" not in config or getattr(first.head, "dense", None) is not None or not hasattr(first.head, "linear"):
        raise BasewiseError(
            f"{first.backbone.family} cannot hold several members; only families pyramid and convnet with a linear head can be joined"
        )
    own = int(config["members"])
    state: dict[str, Tensor] = {}
    for number, classifier in enumerate(classifiers):
        for name, tensor in classifier.state_dict().items():
            if name.startswith(MEMBERS):
                member, _, rest = name.removeprefix(MEMBERS).partition(".")
                state[f"{MEMBERS}{number * own + int(member)}.{rest}"] = tensor
    weights, biases = ([classifier.state_dict()[name] for classifier in classifiers] for name in HEAD)
    state[HEAD[0]] = torch.cat(weights, dim=1) / len(classifiers)
    state[HEAD[1]] = torch.stack(biases).mean(0)
    if half:
        state = {name: tensor.half().float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    backbone = build_backbone(first.backbone.family, {**config, "members": own * len(classifiers)})
    joined = Classifier(first.config, backbone, first.tokenizer)
    assign_weights(joined, state, "the ensemble")
    return joined.eval()


def ensemble(run_folders: Sequence[Path], dataset: Dataset, output: Path, *, half: bool = False, force: bool = False) -> dict[str, Any]:
    """Join finished runs, calibrate and choose the threshold on split "val", judge and write a run folder like any other."""
    unfinished = [str(folder) for folder in run_folders if not runs.is_finished(folder)]
    if unfinished:
        raise BasewiseError(f"{', '.join(unfinished)}: no finished run (run.json is missing); basewise train --resume finishes one")
    joined = join([load_classifier(folder) for folder in run_folders], half=half)
    recipe = load_recipe(run_folders[0] / "recipe.toml")
    examples = prepare_examples(recipe, dataset)
    runs.open_run(output, recipe, resume=False, force=force)
    verdicts, predictions = finish.settle(recipe, joined, examples, recipe.train.eval_batch_size or 4 * recipe.train.batch_size)
    complete = finish.judge_complete(recipe, joined, examples, recipe.train.eval_batch_size or 4 * recipe.train.batch_size)
    members = [_member(folder) for folder in run_folders]
    results = {
        "recipe": recipe.name,
        "kind": recipe.kind,
        "parameters": sum(p.numel() for p in joined.parameters()),
        "steps": sum(member["steps"] for member in members),
        "stopped_early": False,
        "best": {"step": sum(member["best_step"] for member in members), "metric": recipe.train.metric, "value": _value(verdicts, recipe)},
        "members": members,
        "half": half,
        "threshold": joined.config.threshold,
        "calibration": joined.config.calibration.model_dump(),
        "splits": verdicts,
        **({"complete": complete} if complete else {}),
        "expected": finish.compare(recipe, {**verdicts, "complete": complete}),
    }
    return write_run(output, recipe, joined, results, predictions, dataset, half=half, members=members)


def _value(verdicts: dict[str, Any], recipe: Recipe) -> float | None:
    """Return what the joined model reaches on split "val" of the metric its members were chosen by."""
    value: float | None = verdicts.get("val", {}).get("metrics", {}).get(recipe.train.metric, {}).get("value")
    return value


def _member(folder: Path) -> dict[str, Any]:
    """Return what tells a member's training from its siblings'."""
    recipe, results = load_recipe(folder / "recipe.toml"), read_json(folder / "results.json")
    t = recipe.train
    facts = {"seed": t.seed, "weight_decay": t.weight_decay, "mutate": t.augment.mutate, "dropout": recipe.backbone.config.get("dropout")}
    return {**facts, "steps": results["steps"], "best_step": results["best"]["step"]}


def _shape(classifier: Classifier) -> dict[str, Any]:
    config = classifier.config.model_dump(mode="json", exclude={"calibration", "threshold", "provenance"})
    backbone: dict[str, Any] = classifier.backbone.config.model_dump(mode="json")  # type: ignore[attr-defined]
    backbone.pop("dropout", None)  # matters in training alone
    return {**config, "family": classifier.backbone.family, **backbone}
