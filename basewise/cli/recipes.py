"""`basewise recipes`: what is shipped, shown, copied and checked."""

from pathlib import Path
from typing import Annotated

import typer

from basewise.errors import BasewiseError

app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)


@app.command("list")
def list_recipes(paper: Annotated[str | None, typer.Argument(help="Only those of this folder.")] = None) -> None:
    """List the shipped recipes with the first number they are held against.

    Examples:

        basewise recipes list

        basewise recipes list hyenadna_structures
    """
    from rich.console import Console
    from rich.table import Table

    from basewise.recipes.results import load_results
    from basewise.recipes.schema import load_recipe, shipped_recipes

    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "backbone", "expected", "status"):
        table.add_column(column)
    names = [name for name in shipped_recipes() if paper is None or name.split("/")[0] == paper]
    if not names:
        raise BasewiseError(f"no recipe in {paper!r}; there are: {', '.join(sorted({n.split('/')[0] for n in shipped_recipes()}))}")
    for name in names:
        recipe = load_recipe(name)
        first, results = recipe.expected[0] if recipe.expected else None, load_results(name)
        status = first.status if first else "-"
        if results is not None:
            reached = results["metrics"].get(first.metric, {}).get("value") if first else None
            status = results["status"] + ("" if reached is None else f": {reached:.4f}")
        table.add_row(name, recipe.backbone.name, f"{first.metric} {first.value}" if first else "-", status)
    Console(width=150).print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A shipped recipe or a TOML file.")]) -> None:
    """Print a recipe as it is written, with how its data are built.

    Examples:

        basewise recipes show basewise/zdna
    """
    typer.echo(_path(name).read_text(encoding="utf-8"), nl=False)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A shipped recipe.")],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Copy a recipe, to change it.

    Examples:

        basewise recipes copy basewise/zdna mine.toml
    """
    from basewise.files import atomic_path

    if output.exists() and not force:
        raise BasewiseError(f"{output} exists; choose another name or add --force to replace it")
    text = _path(name).read_text(encoding="utf-8")
    with atomic_path(output) as path:
        path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {output}")


@app.command()
def check(recipes: Annotated[list[str], typer.Argument(help="TOML files or shipped recipes.")]) -> None:
    """Check recipes without running them: every problem of each, in one line a recipe; exit 1 when there is any.

    Examples:

        basewise recipes check mine.toml basewise/zdna
    """
    from basewise.recipes.schema import load_recipe

    wrong = 0
    for name in recipes:
        try:
            load_recipe(name)
            typer.echo(f"{name}: fine")
        except BasewiseError as error:
            wrong += 1
            typer.echo(str(error))
    if wrong:
        raise BasewiseError(f"{wrong} of {len(recipes)} recipes cannot be used")


@app.command("table")
def show_table(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipes, papers or patterns, in the order of the rows.")] = None,
    columns: Annotated[
        str, typer.Option("--columns", help="Comma-separated: metrics, paper:METRIC, parameters, trainable, seconds, init, settings.")
    ] = "",
    results: Annotated[
        Path | None, typer.Option("--results", help="A folder of basewise reproduce.  [default: the shipped results]")
    ] = None,
    update: Annotated[list[Path] | None, typer.Option("--update", help="Make the tables of this page anew; may be repeated.")] = None,
) -> None:
    """Print a Markdown table of what recipes reached, beside their papers' numbers, or bring the tables of pages up to date.

    Examples:

        basewise recipes table "held_out/zdna_100_*" --columns f1,auprc,paper:f1,seconds

        basewise recipes table --update docs/results.md
    """
    from basewise.files import atomic_path
    from basewise.recipes.results import table, update_page

    chosen = [part.strip() for part in columns.split(",") if part.strip()] or ["f1", "auroc", "auprc", "paper:f1", "init", "seconds"]
    if bool(recipes) == bool(update):
        raise BasewiseError("give recipes for a table, or --update PAGE; basewise recipes table --help shows examples")
    if recipes:
        typer.echo(table(recipes, chosen, results), nl=False)
    for page in update or []:
        if not page.is_file():
            raise BasewiseError(f"{page} does not exist; --update brings the tables of an existing page up to date")
        text = page.read_text(encoding="utf-8")
        with atomic_path(page) as path:
            path.write_text(update_page(text, results), encoding="utf-8")
        typer.echo(f"updated {page}")


def _path(name: str) -> Path:
    from basewise.recipes.schema import load_recipe, shipped_recipes

    load_recipe(name)  # says what is wrong
    return Path(name) if Path(name).is_file() else shipped_recipes()[name.removesuffix(".toml")]
