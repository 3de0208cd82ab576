"""`basewise train`: from a recipe or a dataset to a run folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.errors import BasewiseError


class FoldBy(StrEnum):
    """What cross-validation keeps whole."""

    random = "random"
    group = "group"
    chromosome = "chromosome"
    homology = "homology"


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe: a TOML file, or the name of a shipped one (polya_glm/hyenadna_gene_gene).")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder to write.")] = Path("run"),
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; overrides the recipe's data.path.")] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Without a recipe: a family or catalog name (convnet, hyenadna-tiny-1k).")
    ] = None,
    init: Annotated[str | None, typer.Option("--init", help="Weights to start from: random, pretrained, or a folder.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, e.g. train.lr=1e-4; may be repeated.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed, to the same result.")] = False,
    folds: Annotated[int | None, typer.Option("--folds", help="Cross-validate: so many runs in OUT/fold0, fold1, ...")] = None,
    fold_by: Annotated[
        FoldBy | None,
        typer.Option(
            "--fold-by",
            help="Folds at random as published, or keeping groups, chromosomes or similar sequences whole.",
            show_default="random",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="With --folds: several seeds a fold, comma-separated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Train a classifier: fit on split train, choose on val, report on test.

    The run folder holds the resolved recipe, a log, the model with its card, predictions, results and, written last, run.json.

    Examples:

        basewise train --data dataset --backbone convnet -o run

        basewise train polya_glm/hyenadna_gene_gene --data gene_gene -o run --set backbone.init=hyenadna-tiny-1k-seqlen

        basewise train recipe.toml -o run --resume

        basewise train recipe.toml --data dataset --folds 5 -o folds
    """
    from basewise.cli.tables import show_verdicts
    from basewise.cli.training_bar import training_bar
    from basewise.datasets.cohort import is_cohort, open_cohort
    from basewise.datasets.folder import open_dataset
    from basewise.training.baselines import fit
    from basewise.training.individuals import train_individuals

    def manifest_of(path: Path) -> dict[str, Any]:
        return open_cohort(path).manifest if is_cohort(path) else open_dataset(path).manifest

    resolved = resolve(recipe, data, backbone, init, settings or [], kind_of=manifest_of)
    if resolved.data.path is None:
        raise BasewiseError("the recipe names no dataset: give --data DATASET (basewise build makes one)")
    path = Path(resolved.data.path)
    if folds is not None:
        if is_cohort(path):
            raise BasewiseError("--folds is for datasets of sequences; a cohort has splits of its own")
        _train_folds(
            resolved,
            open_dataset(path),
            output,
            folds,
            (fold_by or FoldBy.random).value,
            _seeds(seeds),
            resume=resume,
            force=force,
            device=device,
        )
        return
    if seeds is not None:
        raise BasewiseError("--seeds belongs to --folds; for one run take --set train.seed=N")
    if fold_by is not None:
        raise BasewiseError("--fold-by says how --folds divides a dataset; add --folds N, or leave it out")
    with training_bar(resolved.train.metric) as report:
        if is_cohort(path):
            results = train_individuals(resolved, open_cohort(path), output, resume=resume, force=force, device=device, progress=report)
        else:
            results = fit(resolved, open_dataset(path), output, resume=resume, force=force, device=device, progress=report)
    if results:
        show_verdicts(results["splits"])
        typer.echo(f"run folder: {output}")


def _seeds(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() for part in parts):
        raise BasewiseError(f"--seeds {text!r}: expected whole numbers, comma-separated")
    return tuple(int(part) for part in parts)


def _train_folds(recipe: Any, dataset: Any, output: Path, folds: int, by: str, seeds: tuple[int, ...], **how: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from basewise.cli.training_bar import training_bar
    from basewise.training.folds import train_folds

    with training_bar(recipe.train.metric) as report:
        summary = train_folds(recipe, dataset, output, folds, by=by, seeds=seeds, progress=report, **how)
    table = Table(box=None, pad_edge=False)
    for name in ("metric", "mean", "sd", "95 % interval"):
        table.add_column(name)
    for name, row in summary["metrics"].items():
        cells = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("mean", "sd", "low", "high")]
        table.add_row(name, *cells[:2], f"{cells[2]} to {cells[3]}")
    Console(width=80).print(table)
    typer.echo(f"runs and folds.json: {output}")


def resolve(recipe: str | None, data: Path | None, backbone: str | None, init: str | None, settings: list[str], *, kind_of: Any) -> Any:
    """Return the recipe with the command line applied: a given one, or the default one for --data and --backbone."""
    from basewise.recipes.schema import apply_overrides, load_recipe, recipe_from
    from basewise.recipes.unused import FITTED

    if recipe is None:
        if data is None or backbone is None:
            raise BasewiseError("give a recipe, or --data DATASET with --backbone NAME; basewise train --help shows examples")
        manifest = kind_of(data)
        individual = manifest.get("kind") == "individual"
        long = {"steps": 1} if backbone in FITTED else {"epochs": 5, "patience": 5}
        base = recipe_from(
            {
                "name": f"{backbone} on {data.name}",
                "task": str(manifest.get("task") or "custom"),
                "backbone": {"name": backbone},
                "head": {"kind": manifest.get("kind", "sequence")} | ({"labels": manifest["labels"]} if individual else {}),
                "train": {"steps": 2000, "batch_size": 16, "validate_every": 100, "patience": 10} if individual else long,
            },
            "the default recipe",
        )
    else:
        base = load_recipe(recipe)
        if backbone is not None:
            settings = [f"backbone.name={_quote(backbone)}", *settings]
    if data is not None:
        settings = [f"data.path={_quote(str(data))}", *settings]
    if init is not None:
        settings = [f"backbone.init={_quote(init)}", *settings]
    return apply_overrides(base, settings)


def _quote(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML string
