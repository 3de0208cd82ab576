"""Cross-validation as separate run folders: each fold a training like any other, resumed one by one, gathered at the end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.datasets.folder import Dataset
from basewise.datasets.leakage import homology_groups
from basewise.datasets.splits import fold
from basewise.datasets.table import SPLITS
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import prepare_output_folder, read_json, write_json
from basewise.provenance import provenance
from basewise.recipes.schema import Recipe, apply_overrides
from basewise.training import loop
from basewise.training.baselines import fit
from basewise.training.train import recipe_hash

WAYS = ("random", "group", "chromosome", "homology")
SUMMARY = "folds.json"


def train_folds(
    recipe: Recipe,
    dataset: Dataset,
    folder: str | Path,
    folds: int,
    *,
    by: str = "random",
    seeds: Sequence[int] = (),
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Train FOLDER/fold<k> (fold<k>_seed<s> with several seeds) for every fold and return what FOLDER/folds.json holds.

    Fold k is test, fold k + 1 val, the rest train; every example is tested once. `by` "random" is the published, stratified way;
    "group", "chromosome" and "homology" keep groups, contigs or clusters of similar sequences whole. How examples are dealt depends on
    the first seed alone. With `resume` finished folds are kept and the one that was killed goes on.
    """
    seeds = tuple(seeds) or (recipe.train.seed,)
    folder = Path(folder)
    parts = [_fold_of(dataset, k, folds, seeds[0], by) for k in range(folds)]
    facts = {"folds": folds, "by": by, "seeds": list(seeds), "recipe": recipe.name, "recipe_sha256": recipe_hash(recipe)}
    _open(folder, facts, resume=resume, force=force)
    rows: list[dict[str, Any]] = []
    for k, part in enumerate(parts):
        for seed in seeds:
            run = folder / (f"fold{k}" if len(seeds) == 1 else f"fold{k}_seed{seed}")
            mine = apply_overrides(recipe, [f"train.seed={seed}"])
            results = fit(mine, part, run, resume=True, device=device, progress=progress)
            metrics = {name: entry["value"] for name, entry in results["splits"]["test"]["metrics"].items()} if results else {}
            rows.append({"fold": k, "seed": seed, "run": run.name, "metrics": metrics})
    summary = {**facts, "runs": rows, "metrics": over_folds(rows), "provenance": provenance()}
    if rows[0]["metrics"]:  # the first of several processes
        write_json(folder / SUMMARY, summary)
    return summary


def aggregate(rows: Sequence[dict[str, float | None]]) -> dict[str, dict[str, float | int | None]]:
    """Return `{metric: {"mean", "sd", "low", "high", "n"}}` over runs where the metric is defined.

    `sd` is the sample's (n - 1); low and high are the 95 % interval of the mean by Student's t with n - 1 degrees of freedom, None for one
    run. Folds share training data, so the interval is a little narrow (Bengio & Grandvalet 2004).
    """
    from scipy.stats import t

    result: dict[str, dict[str, float | int | None]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = np.array([row[name] for row in rows if row.get(name) is not None], dtype=np.float64)
        n, mean = len(values), float(values.mean()) if len(values) else None
        sd = float(values.std(ddof=1)) if n > 1 else None
        half = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n) if sd is not None else None
        low, high = (mean - half, mean + half) if mean is not None and half is not None else (None, None)
        result[name] = {"mean": mean, "sd": sd, "low": low, "high": high, "n": n}
    return result


def over_folds(rows: Sequence[dict[str, Any]], *, always: bool = False) -> dict[str, dict[str, Any]]:
    """Return `aggregate` over folds, each fold the mean of its runs, and where a fold has several of them (or `always`) the sd over all
    as `sd_of_runs`.

    Runs of one fold are tested on the same examples: counted as so many folds, they would make the interval too narrow.
    """
    folds = sorted({row["fold"] for row in rows})
    means = [{m: e["mean"] for m, e in aggregate([row["metrics"] for row in rows if row["fold"] == k]).items()} for k in folds]
    metrics: dict[str, dict[str, Any]] = {name: dict(entry) for name, entry in aggregate(means).items()}
    if always or len(rows) > len(folds):
        every = aggregate([row["metrics"] for row in rows])
        for name, entry in metrics.items():
            entry["sd_of_runs"] = every[name]["sd"]
    return metrics


def _fold_of(dataset: Dataset, k: int, folds: int, seed: int, by: str) -> Dataset:
    examples = dataset.examples[dataset.examples["split"].isin((*SPLITS, ""))]
    if by not in WAYS:
        raise BasewiseError(f"unknown way to fold {by!r}, expected one of {', '.join(WAYS)}.{did_you_mean(by, WAYS)}")
    if by == "random":
        if len(examples) < folds:
            raise BasewiseError(f"{len(examples)} examples do not make {folds} folds; ask for fewer")
        return replace(dataset, examples=fold(examples, k, folds, seed))
    group = {
        "group": lambda: examples["group"],
        "chromosome": lambda: examples["chrom"],
        "homology": lambda: homology_groups(examples["sequence"].tolist()),
    }[by]()
    names = np.asarray(group).astype(str)
    if len(np.unique(names)) < folds:
        raise BasewiseError(f"{len(np.unique(names))} groups by {by} do not make {folds} folds; ask for fewer, or fold at random")
    split = fold(examples.assign(group=names), k, folds, seed, by="group")["split"]
    absent = [name for name in SPLITS if not (split == name).any()]
    if absent:
        raise BasewiseError(
            f"fold {k} of {folds} by {by} has no {' and no '.join(absent)} examples: its groups are too large; ask for fewer"
        )
    return replace(dataset, examples=examples.assign(split=split))


def _open(folder: Path, facts: dict[str, Any], *, resume: bool, force: bool) -> None:
    begun = folder / "plan.json"
    if resume and begun.is_file():
        before = read_json(begun)
        different = [f"{key} was {before.get(key)!r}, is {value!r}" for key, value in facts.items() if before.get(key) != value]
        if different:
            raise BasewiseError(f"{folder} was begun otherwise ({'; '.join(different)}); resume with the same, or start a new -o")
        return
    prepare_output_folder(folder, force=force)
    write_json(begun, facts)
