"""`basewise fewshot`: what frozen embeddings know of a question."""

from pathlib import Path
from typing import Annotated

import typer

SHOWN = ("accuracy", "precision", "recall", "f1", "auroc")


def fewshot(
    data: Annotated[Path, typer.Option("--data", help="Dataset folder of sequences labelled 0 and 1.")],
    backbones: Annotated[str, typer.Option("--backbones", help="Comma-separated: checkpoint, model or run folders, or catalog names.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write fewshot.json into.")],
    shots: Annotated[int, typer.Option("--shots", help="Examples a class that make a prototype.")] = 2,
    repeats: Annotated[int, typer.Option("--repeats", help="Draws of prototypes a fold.")] = 10,
    folds: Annotated[int, typer.Option("--folds", help="Cross-validation folds.")] = 5,
    methods: Annotated[str, typer.Option("--methods", help="Comma-separated: prototype (published), knn, probe.")] = "prototype,knn,probe",
    init: Annotated[str, typer.Option("--init", help="Weights of catalog names: pretrained, or random as a control.")] = "pretrained",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and draws.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sequences given to the model at a time.")] = 64,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Classify with frozen embeddings: prototypes of a few examples, nearest neighbours, a logistic probe.

    Mean ± sd over folds, a fold's number being the mean of its repeats.

    Examples:

        basewise fewshot --data gene_gene --backbones hyenadna-tiny-1k,hyenadna-small-32k -o few

        basewise fewshot --data gene_gene --backbones hyenadna-tiny-1k --init random --methods prototype -o control
    """
    from rich.console import Console
    from rich.table import Table

    from basewise.datasets.folder import open_dataset
    from basewise.training.fewshot import fewshot as run

    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    console = Console(stderr=True)
    result = run(
        open_dataset(data),
        names(backbones),
        output,
        init=init,
        methods=names(methods),
        shots=shots,
        repeats=repeats,
        folds=folds,
        seed=seed,
        batch_size=batch_size,
        device=device,
        force=force,
        report=lambda text: console.print(text, highlight=False, markup=False),
    )
    table = Table(box=None, pad_edge=False)
    for column in ("backbone", "method", *SHOWN):
        table.add_column(column)
    for row in result["summary"]:
        cells = []
        for metric in SHOWN:
            entry = row["metrics"][metric]
            sd = "" if entry["sd"] is None else f" ± {entry['sd']:.3f}"
            cells.append("-" if entry["mean"] is None else f"{entry['mean']:.3f}{sd}")
        table.add_row(Path(row["backbone"]).name, row["method"], *cells)
    Console(width=120).print(table)
    typer.echo(f"every run: {output / 'fewshot.json'}")
