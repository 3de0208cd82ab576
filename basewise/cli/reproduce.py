"""`basewise reproduce`: a paper's recipes, run and compared."""

from pathlib import Path
from typing import Annotated, Any

import typer


def reproduce(
    name: Annotated[str, typer.Argument(help="PAPER or PAPER/RECIPE; basewise recipes list names them.")],
    data: Annotated[list[Path], typer.Option("--data", help="Dataset folder, or a folder of datasets; may be repeated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for runs and results.")],
    quick: Annotated[bool, typer.Option("--quick", help="20 steps on few examples: does everything run?")] = False,
    init: Annotated[str | None, typer.Option("--init", help="Weights to start from: random, pretrained, or a folder.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.key=value for every recipe; may be repeated.")] = None,
    transfer: Annotated[
        Path | None, typer.Option("--transfer", help="Another dataset to ask every model about: another species, say.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Run the recipes of a paper and hold what they reach against what it prints: OUT/<recipe>.results.json.

    Every recipe takes the dataset that is what it asks for. What was begun goes on; what is finished is not run again.

    Examples:

        basewise reproduce hyenadna_structures/zdna_two_phase --data zdna -o out --init random

        basewise reproduce polya_glm --data datasets -o out --quick --init random

        basewise reproduce polya_glm/hyenadna_gene_gene_mouse --data gene_gene --transfer mouse_gene_gene -o out
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from basewise.cli.training_bar import training_bar
    from basewise.datasets.folder import open_dataset
    from basewise.recipes.schema import load_recipe
    from basewise.training.reproduce import find_datasets, recipes_of
    from basewise.training.reproduce import reproduce as run

    chosen = [*([f"backbone.init={json.dumps(init)}"] if init else []), *(settings or [])]
    names, datasets = recipes_of(name), find_datasets(data)
    other = open_dataset(transfer) if transfer is not None else None
    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "metric", "paper", "reached", "within"):
        table.add_column(column)
    for recipe in names:
        with training_bar(load_recipe(recipe).train.metric) as report:
            how: dict[str, Any] = {"quick": quick, "settings": chosen, "transfer": other, "device": device, "progress": report}
            result = run(recipe, datasets, output, **how)
        for row in result["expected"]:
            reached = "-" if row["reached"] is None else f"{row['reached']:.4f}" + ("" if row["sd"] is None else f" ± {row['sd']:.4f}")
            within = {True: "yes", False: "no", None: "-"}[row["within"]]
            table.add_row(recipe, row["metric"], f"{row['value']} ± {row['tolerance']}", reached, within)
    Console(width=130).print(table)
    typer.echo(f"runs and results: {output}")
