"""`basewise leakage`: what a split shares between its parts."""

from pathlib import Path
from typing import Annotated

import typer


def leakage(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the numbers as JSON.")] = None,
    k: Annotated[int, typer.Option("--k", help="Length of the k-mers that near duplicates share.")] = 16,
    share: Annotated[float, typer.Option("--share", help="Share of the k-mers of the shorter sequence that makes a near duplicate.")] = 0.5,
) -> None:
    """Count duplicates across splits: exact, reverse complement, and near (shared k-mers, either strand).

    Each sequence of the later split counts once. `other label`: those with a twin of another label in the earlier split.

    Examples:

        basewise leakage dataset

        basewise leakage dataset --k 12 --share 0.8 -o leakage.json
    """
    from rich.console import Console
    from rich.table import Table

    from basewise.datasets.folder import open_dataset
    from basewise.datasets.leakage import leakage as count
    from basewise.files import write_json

    found = count(open_dataset(dataset).examples, k=k, share=share)
    table = Table(box=None, pad_edge=False)
    columns = ("sequences", "exact", "reverse_complement", "near", "other_label")
    for name in ("splits", *columns, "share"):
        table.add_column(name.replace("_", " "), justify="left" if name == "splits" else "right")
    for name, row in found["pairs"].items():
        table.add_row(name, *(f"{row[column]:,}" for column in columns), f"{100 * row['share_of_later']:.2f} %")
    Console(width=110).print(table)
    if output is not None:
        write_json(output, found)
