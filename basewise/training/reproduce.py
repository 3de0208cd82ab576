"""Recipes run and held against the numbers their paper prints."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.datasets.folder import MANIFEST_FILE, Dataset, open_dataset
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import write_json
from basewise.provenance import provenance
from basewise.recipes.schema import Recipe, apply_overrides, load_recipe, shipped_recipes
from basewise.training import loop
from basewise.training.baselines import fit
from basewise.training.folds import train_folds
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
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Run one recipe in OUT/<its name without the paper>, write <that>.results.json beside it, and return what it holds.

    `quick` takes 20 steps on 200 examples a split without folds: that everything runs, not a number. A recipe with `folds` is
    cross-validated and its means are compared. Runs that were begun go on, finished ones are taken as they are.
    """
    recipe = apply_overrides(load_recipe(name), [*(QUICK if quick else ()), *settings])
    dataset = dataset_for(recipe, datasets)
    if quick:
        dataset = replace(dataset, examples=_few(dataset))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    folder = out / name.rpartition("/")[2]
    if recipe.folds is not None and not quick:
        summary = train_folds(recipe, dataset, folder, recipe.folds, resume=True, device=device, progress=progress)
        reached = {metric: (row["mean"], row["sd"]) for metric, row in summary["metrics"].items()}
    else:
        results = fit(recipe, dataset, folder, resume=True, device=device, progress=progress)
        reached = {
            ("" if split == "test" else f"{split}.") + metric: (entry["value"], None)
            for split, verdict in (*results["splits"].items(), ("complete", results.get("complete") or {"metrics": {}}))
            for metric, entry in verdict["metrics"].items()
        }
    rows = [_row(expected.model_dump(), *reached.get(expected.metric, (None, None)), quick=quick) for expected in recipe.expected]
    report = {
        "recipe": name,
        "status": "quick run: the numbers mean nothing" if quick else f"run from {recipe.backbone.init} weights",
        "data": {"path": dataset.path.name, "n": len(dataset.examples), "inputs": dataset.manifest.get("inputs")},
        "settings": list(settings),
        "expected": rows,
        "provenance": provenance(),
    }
    write_json(out / f"{folder.name}.results.json", report)
    return report


def _row(expected: dict[str, Any], value: float | None, sd: float | None, *, quick: bool) -> dict[str, Any]:
    within = None if quick or value is None else abs(value - expected["value"]) <= expected["tolerance"]
    return {**{key: expected[key] for key in ("metric", "value", "tolerance", "source")}, "reached": value, "sd": sd, "within": within}


def _few(dataset: Dataset) -> Any:
    rng = np.random.default_rng(0)
    split = dataset.examples["split"].to_numpy(dtype=object)
    rows = [np.flatnonzero(split == name) for name in dict.fromkeys(split)]
    chosen = np.concatenate([rng.choice(part, min(len(part), QUICK_ROWS), replace=False) for part in rows])
    return dataset.examples.iloc[np.sort(chosen)]
