"""`basewise merge`: the shards of a scan become one scan."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders that scan --shard 1/n to n/n wrote, in any order.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist, or hold an interrupted merge.")],
    genome: Annotated[Path | None, typer.Option(help="Where the genome is now, if it was moved since the shards were scanned.")] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="The model, if it was moved.")] = None,
    regions: Annotated[Path | None, typer.Option(help="The regions, if they were moved.")] = None,
    genes: Annotated[Path | None, typer.Option(help="The genes, if they were moved.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what basewise wrote in OUT.")] = False,
) -> None:
    """Merge the shards of a scan into the files that a scan in one piece writes, byte for byte the same.

    The shards' folders are kept. Inputs are looked for where the shards found them, and must not have changed.

    Examples:

        basewise merge part1 part2 part3 -o out
    """
    from basewise.backbones.classifier import find_model
    from basewise.cli.progress import Bases
    from basewise.inference.merge_shards import merge_shards
    from basewise.inference.scan import ScanOptions
    from basewise.report.scan import write_scan_report

    def report(folder: Path, options: ScanOptions) -> None:
        write_scan_report(folder, genome=options.genome, model_folder=find_model(options.model))

    given = {"genome": genome, "model": model, "regions": regions, "genes": genes}
    moved = {name: path for name, path in given.items() if path is not None}
    with Bases("merging") as progress:
        done = merge_shards(shards, out, moved=moved, force=force, watcher=progress, report=report)
    for path, content in done.files.items():
        typer.echo(f"{path}\t{content}")
