"""`basewise models`: which checkpoints there are, what they are, and how they come onto this disk."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Pretrained backbones, published and embedded: list, show, fetch, import.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the checkpoints known by name: size, context, licence, source, and what is on disk.

    Example:

        basewise models list
    """
    from basewise.backbones import catalog

    rows = [_facts(name) for name in catalog.entries()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = [("name", "family", "parameters", "context bp", "licence", "source", "on disk")]
    for row in rows:
        context = f"{row['context_bp']:,}" if row["context_bp"] else "any"
        licence = row["licence"] + (" (non-commercial)" if row["non_commercial"] else "")
        source = "embedded" if row["embedded"] else f"{row['repository']}@{row['revision'][:8] or 'newest'}"
        table.append((row["name"], row["family"], f"{row['parameters'] / 1e6:,.1f} M", context, licence, source, row["on_disk"] or "-"))
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name in the catalog, repository name, or a folder with config.json.")],
    as_json: AsJson = False,
) -> None:
    """Show everything known of a checkpoint, or what a folder on disk holds.

    Example:

        basewise models show dnabert2-117m
    """
    from basewise.backbones import catalog

    facts = _folder_facts(Path(name)) if (Path(name) / "config.json").is_file() else _facts(name)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        typer.echo(f"{key}: {json.dumps(value) if isinstance(value, dict | list) else value}")
    known = catalog.entries().get(str(facts.get("name")))
    if known is not None and known.notice:
        typer.echo(known.notice)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name in the catalog.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder; default: $BASEWISE_MODELS or ~/.cache/basewise/models, / NAME.")
    ] = None,
) -> None:
    """Download a checkpoint at its pinned revision, resuming where an earlier call stopped, and verify it.

    Example:

        basewise models fetch hyenadna-tiny-1k -o checkpoints/tiny
    """
    from basewise.backbones import catalog
    from basewise.backbones.fetch import fetch as download

    entry = catalog.entry(name)
    if entry.notice:
        typer.echo(entry.notice, err=True)
    if not entry.revision:
        typer.echo(f"{entry.repository} is not pinned in the catalog: taking its newest revision, see source.json", err=True)
    with _progress() as watch:
        folder, revision = download(name, out, watch)
    typer.echo(f"{folder}\t{entry.repository}@{revision}")


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="A published folder: config.json, weights, tokenizer files.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    name: Annotated[str | None, typer.Option("--name", help="Catalog name it must be: its known checksums are compared.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that basewise wrote.")] = False,
) -> None:
    """Read a published folder, check every weight, and write it in our format (safetensors, no pickles).

    A checkpoint with a classification head becomes a model that `basewise predict` takes; any other becomes a backbone to train from.

    Example:

        basewise models import downloads/DNABERT-2-117M -o dnabert2 --name dnabert2-117m
    """
    from basewise.backbones import catalog
    from basewise.backbones.importing import import_official

    known = name or catalog.source_of(folder).get("name")
    if known and catalog.entry(known).notice:
        typer.echo(catalog.entry(known).notice, err=True)
    kind = import_official(folder, out, name=name, force=force)
    typer.echo(f"{out}\t{kind}")


@app.command()
def lora(
    model: Annotated[str, typer.Argument(help="Model folder, run folder, or folder of a published checkpoint.")],
    placement: Annotated[list[str], typer.Option("-p", "--placement", help="attention, mixer, mlp, embeddings, biases, or a pattern.")],
    rank: Annotated[int, typer.Option(min=1, help="Rank of each adapter.")] = 8,
) -> None:
    """Show what LoRA adapters would train, layer by layer, without training anything.

    Example:

        basewise models lora checkpoints/DNABERT-2-117M -p attention -p mlp --rank 8
    """
    from basewise.backbones.classifier import Classifier, ClassifierConfig
    from basewise.backbones.lora import LoraSettings, plan_lora
    from basewise.inference.embed import load_embedder

    embedder = load_embedder(model)
    classifier = Classifier(ClassifierConfig(task="dry run"), embedder.backbone, embedder.tokenizer)
    typer.echo(str(plan_lora(classifier, LoraSettings(placements=tuple(placement), rank=rank))))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """Yield what shows a bar a file on a terminal's stderr; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TaskID, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    with Progress(*Progress.get_default_columns()[:2], DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:

        def watch(file: str, done: int, size: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=size)
            bar.update(tasks[file], completed=done)

        yield watch


def _facts(name: str) -> dict[str, Any]:
    """Return the facts of a catalog name."""
    from basewise.backbones import catalog

    entry = catalog.entry(name)
    name = next(key for key, value in catalog.entries().items() if value is entry)
    folder = catalog.folder_of(name)
    on_disk = str(folder) if (folder / "config.json").is_file() else None
    return {"name": name, **entry.model_dump(mode="json"), "on_disk": on_disk}


def _folder_facts(folder: Path) -> dict[str, Any]:
    """Return what config.json of a folder says, without reading weights."""
    from basewise.backbones import catalog
    from basewise.files import read_json

    config = read_json(folder / "config.json")
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    source = config.get("source") or catalog.source_of(folder)
    shown = {key: config[key] for key in ("format", "model_type", "architectures", "backbone", "tokenizer", "classifier") if key in config}
    return {"folder": str(folder), "name": source.get("name"), "source": source, **shown, "files": files}
