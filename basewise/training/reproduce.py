"""Recipes run and held against the numbers their paper prints."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.datasets.folder import MANIFEST_FILE, Dataset, open_dataset
from basewise.errors import BasewiseError, did_you_mean
from basewise.evaluation.evaluate import evaluate_model
from basewise.files import read_json, write_json
from basewise.provenance import provenance
from basewise.recipes.results import RESULTS, Entry
from basewise.recipes.schema import Expected, Recipe, apply_overrides, load_recipe, shipped_recipes
from basewise.training import loop
from basewise.training.baselines import fit
from basewise.training.fewshot import FEWSHOT, fewshot
from basewise.training.folds import aggregate, train_folds
from basewise.training.train import prepare_examples

QUICK = ("train.steps=20", "evaluate.bootstrap=0")
QUICK_ROWS = 200  # a split


def recipes_of(name: str) -> list[str]:
    """Return the shipped recipes that PAPER or PAPER/RECIPE names."""
    shipped = shipped_recipes()
    found = [known for known in shipped if known == name.removesuffix(".toml") or known.split("/")[0] == name]
    if not found:
        papers = sorted({known.split("/")[0] for known in shipped})
        raise BasewiseError(f"no recipe or paper {name!r}; papers: {', '.join(papers)}.{did_you_mean(name, [*shipped, *papers])}")
    return found


def find_datasets(paths: Sequence[str | Path]) -> list[Dataset]:
    """Return the datasets that `paths` are or hold."""
    found = []
    for path in map(Path, paths):
        folders = [path] if (path / MANIFEST_FILE).exists() else sorted(p.parent for p in path.glob(f"*/{MANIFEST_FILE}"))
        if not folders:
            raise BasewiseError(
                f"{path} neither is nor holds a dataset; build one as the head of the recipe says (basewise recipes show NAME)"
            )
        found += [open_dataset(folder) for folder in folders]
    return found


def dataset_for(recipe: Recipe, datasets: Sequence[Dataset]) -> Dataset:
    """Return the first dataset that is what the recipe asks for; BasewiseError says why each is not."""
    reasons = []
    for dataset in datasets:
        try:
            prepare_examples(recipe, dataset)
        except BasewiseError as error:
            reasons.append(f"{dataset.path.name}: {str(error).split('; build that one')[0]}")
        else:
            return dataset
    raise BasewiseError(f"no dataset fits recipe {recipe.name} ({'; '.join(reasons)}); the head of the recipe says how to build one")


def reproduce(
    name: str,
    datasets: Sequence[Dataset],
    out: str | Path,
    *,
    quick: bool = False,
    settings: Sequence[str] = (),
    transfer: Dataset | None = None,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Run one recipe in OUT/<its name without the paper>, write <that>.results.json beside it, and return what it holds.

    `quick` takes 20 steps on 200 examples a split without folds: that everything runs, not a number. A recipe with `folds` is
    cross-validated, one with [fewshot] is not trained, and the means are compared. Every model is asked about all of `transfer` as well,
    a dataset of another species, say (metrics "transfer.NAME"). Runs that were begun go on, finished ones are taken as they are.
    """
    recipe = apply_overrides(load_recipe(name), [*(QUICK if quick else ()), *settings])
    dataset = dataset_for(recipe, datasets)
    if quick:
        dataset = replace(dataset, examples=_few(dataset))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    folder = out / name.rpartition("/")[2]
    if recipe.fewshot is not None:
        if transfer is not None:
            raise BasewiseError(f"recipe {name} is few-shot and leaves no model to ask about {transfer.path}; leave out --transfer")
        reached, cost = _fewshot(recipe, dataset, folder, quick=quick, device=device)
    elif recipe.folds is not None and not quick:
        summary = train_folds(recipe, dataset, folder, recipe.folds, resume=True, device=device, progress=progress)
        models = [folder / row["run"] for row in summary["runs"]]
        reached, cost = {metric: _mean(row) for metric, row in summary["metrics"].items()}, _cost(models)
        if transfer is not None:
            rows = [_verdict(evaluate_model(model, transfer, split="all", bootstrap=0, device=device)["overall"]) for model in models]
            means = aggregate([{metric: entry["value"] for metric, entry in row.items()} for row in rows])
            reached |= {f"transfer.{metric}": _mean(row) for metric, row in means.items()}
    else:
        results = fit(recipe, dataset, folder, resume=True, device=device, progress=progress)
        reached, cost = _verdict(results["splits"].get("test")), _cost([folder])
        reached |= {f"complete.{metric}": entry for metric, entry in _verdict(results.get("complete")).items()}
        if transfer is not None:
            verdict = evaluate_model(folder, transfer, split="all", bootstrap=recipe.evaluate.bootstrap, device=device)["overall"]
            reached |= {f"transfer.{metric}": entry for metric, entry in _verdict(verdict).items()}
    made = provenance()
    report = {
        "recipe": name,
        "status": "quick run: the numbers mean nothing" if quick else _status(recipe),
        "data": _about(dataset) | ({"transfer": _about(transfer)} if transfer is not None else {}),
        "settings": [_without_folders(text) for text in settings],
        "expected": [_row(expected, reached.get(expected.metric), quick=quick) for expected in recipe.expected],
        "metrics": reached,
        "cost": cost,
        "made": {key: made[key] for key in ("basewise", "python", "libraries", "finished")},
    }
    write_json(out / f"{folder.name}{RESULTS}", report)
    return report


def _verdict(verdict: dict[str, Any] | None) -> dict[str, Entry]:
    """Return the metrics of a verdict, rounded: what is printed has fewer digits."""
    metrics = (verdict or {}).get("metrics", {})
    return {name: {key: None if v is None else round(float(v), 6) for key, v in entry.items()} for name, entry in metrics.items()}


def _mean(row: dict[str, Any]) -> Entry:
    return {"value": row["mean"], "sd": row["sd"]}


def _cost(models: Sequence[Path]) -> dict[str, Any]:
    """Return what training took: seconds summed over `models`, the rest of the first."""
    first, ends = read_json(models[0] / "results.json"), [read_json(model / "run.json") for model in models]
    seconds = {key: round(sum(float(end[key]) for end in ends), 3) for key in ("seconds", "cpu_seconds") if all(key in end for end in ends)}
    return {"runs": len(models), **{key: first[key] for key in ("parameters", "trainable_percent", "steps") if key in first}, **seconds}


def _fewshot(recipe: Recipe, dataset: Dataset, folder: Path, *, quick: bool, device: str) -> tuple[dict[str, Entry], dict[str, Any]]:
    """Return means over folds and what they took; a finished fewshot.json is taken as it is."""
    rule, backbone = recipe.fewshot, recipe.backbone
    assert rule is not None
    if (folder / FEWSHOT).is_file():
        result = read_json(folder / FEWSHOT)
    else:
        named = backbone.init in ("random", "pretrained")
        who, init = (backbone.name, backbone.init) if named else (backbone.init, "pretrained")
        settings: dict[str, Any] = {"shots": rule.shots, "repeats": 1 if quick else rule.repeats, "folds": 3 if quick else rule.folds}
        settings |= {"methods": [rule.method], "seed": recipe.train.seed, "device": device}
        result = fewshot(dataset, [who], folder, init=init, **settings)
    metrics = result["summary"][0]["metrics"]
    return {metric: _mean(row) for metric, row in metrics.items()}, {"runs": len(result["runs"])}


def _status(recipe: Recipe) -> str:
    if recipe.backbone.name == "rules":
        return "run: a rule, nothing is learnt but calibration and threshold"
    init = recipe.backbone.init
    return f"run from {init} weights" if init in ("random", "pretrained") else f"run from the local checkpoint {Path(init).name}"


def _about(dataset: Dataset) -> dict[str, Any]:
    return {"path": dataset.path.name, "n": len(dataset.examples), "inputs": dataset.manifest.get("inputs")}


def _without_folders(setting: str) -> str:
    """Return a setting without the folders of this machine: results are kept and shown elsewhere."""
    key, _, value = setting.partition("=")
    return f'{key}="{Path(value.strip().strip(chr(34))).name}"' if key.strip() == "backbone.init" else setting


def _row(expected: Expected, entry: Entry | None, *, quick: bool) -> dict[str, Any]:
    value = (entry or {}).get("value")
    within = None if quick or value is None else abs(value - expected.value) <= expected.tolerance
    told = {"metric": expected.metric, "value": expected.value, "tolerance": expected.tolerance, "source": expected.source}
    return {**told, "reached": value, "sd": (entry or {}).get("sd"), "within": within}


def _few(dataset: Dataset) -> Any:
    rng = np.random.default_rng(0)
    split = dataset.examples["split"].to_numpy(dtype=object)
    rows = [np.flatnonzero(split == name) for name in dict.fromkeys(split)]
    chosen = np.concatenate([rng.choice(part, min(len(part), QUICK_ROWS), replace=False) for part in rows])
    return dataset.examples.iloc[np.sort(chosen)]
