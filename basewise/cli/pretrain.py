"""`basewise pretrain`: from a genome to a backbone that foresees the next base."""

from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.errors import BasewiseError


def pretrain(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe with [pretrain]: a TOML file, or the name of a shipped one (basewise/pretrain_tiny_hg19)."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder to write.")] = Path("run"),
    genome: Annotated[Path | None, typer.Option("-g", "--genome", help="FASTA to read; overrides the recipe's data.path.")] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", help="Without a recipe: a HyenaDNA of the catalog (hyenadna-tiny-1k)."),
    ] = None,
    val_chroms: Annotated[
        str | None, typer.Option("--val-chroms", help="Contigs whose loss chooses the weights, comma-separated; not trained on.")
    ] = None,
    test_chroms: Annotated[
        str | None, typer.Option("--test-chroms", help="Contigs for the closing numbers, comma-separated; not trained on.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, e.g. pretrain.soft_mask=mask; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed, to the same result.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Pretrain a HyenaDNA on a genome: foresee each base from those before it, on both strands.

    The run folder holds the resolved recipe, a log, the backbone (RUN/model) with its card, and the loss on held-out contigs beside that of
    a Markov chain. `basewise train --init RUN`, `fewshot --backbones RUN` and `embed RUN` start from it.

    Examples:

        basewise pretrain --genome genome.fa --config hyenadna-tiny-1k --val-chroms chr21 --test-chroms chr22 -o run

        basewise pretrain basewise/pretrain_tiny_hg19 --genome hg19_pieces.fa.gz -o run

        basewise pretrain basewise/pretrain_tiny_hg19 --genome hg19_pieces.fa.gz -o run --resume
    """
    from basewise.cli.training_bar import training_bar
    from basewise.training.pretrain import pretrain as fit

    resolved = resolve(recipe, config, genome, val_chroms, test_chroms, settings or [])
    with training_bar("loss") as report:
        results = fit(resolved, output, resume=resume, force=force, device=device, progress=report)
    if results:
        for split, verdict in results["splits"].items():
            nats, markov = verdict["metrics"]["nats"]["value"], verdict["markov"]
            if nats is not None:
                typer.echo(
                    f"{split}: {nats:.4f} nats a base over {verdict['n']:,} bases; Markov chain of order {markov['order']} "
                    f"{markov['nats']:.4f}, uniform {verdict['uniform']:.4f}"
                )
        typer.echo(f"run folder: {output}")


def resolve(
    recipe: str | None, config: str | None, genome: Path | None, val_chroms: str | None, test_chroms: str | None, settings: list[str]
) -> Any:
    """Return the recipe with the command line applied: a given one, or the default one for --genome and --config."""
    import json

    from basewise.recipes.schema import apply_overrides, load_recipe

    if recipe is None and (genome is None or config is None):
        raise BasewiseError("give a recipe, or --genome FASTA with --config NAME; basewise pretrain --help shows examples")
    if recipe is not None and config is not None:
        raise BasewiseError("--config is for a run without recipe; with one take --set backbone.name=NAME")
    base = load_recipe(recipe) if recipe is not None else _default(str(config), Path(str(genome)))
    given: dict[str, Any] = {"data.path": str(genome) if genome is not None else None}
    given |= {"data.val_chroms": _names(val_chroms), "data.test_chroms": _names(test_chroms)}
    # a JSON string, or array of strings, is a TOML one
    return apply_overrides(base, [*(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in given.items() if v is not None), *settings])


def _default(config: str, genome: Path) -> Any:
    """Return the recipe of a HyenaDNA of the catalog: windows as long as it reads, at most 1024 bases."""
    from basewise.backbones import catalog
    from basewise.backbones.registry import FAMILIES
    from basewise.recipes.schema import recipe_from

    context = 1024
    if config not in FAMILIES:
        known = catalog.entry(config)
        context = min(context, known.context_bp or context)
    return recipe_from(
        {
            "name": f"{config} on {genome.name}",
            "task": "pretrain",
            "backbone": {"name": config},
            "pretrain": {"length": context},
            "train": {
                "steps": 10_000,
                "batch_size": 16,
                "lr": 1e-3,
                "betas": [0.9, 0.98],
                "weight_decay": 0.1,
                "warmup": 0.02,
                "validate_every": 500,
                "metric": "loss",
            },
        },
        "the default recipe",
    )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
