"""`basewise report`: a page from what other verbs left behind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from basewise.errors import BasewiseError

if TYPE_CHECKING:
    from basewise.report.page import Chapter


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders (train) and output folders (scan, explain, perturb, attention), mixed.")
    ],
    output: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write; an existing one is replaced.")] = Path("report.html"),
    genome: Annotated[Path | None, typer.Option("-g", "--genome", help="Genome FASTA of the scans, for logo and base composition.")] = None,
    model: Annotated[Path | None, typer.Option("-m", "--model", help="Model or run folder of the scans, for its held-out results.")] = None,
) -> None:
    """Write one self-contained HTML page about runs, scans and explanations: figures, tables, limits, provenance.

    Several runs, say a model and its baselines, are also compared. The page needs no network, then or later.

    Examples:

        basewise report run -o report.html

        basewise report out --genome genome.fa -o report.html

        basewise report run_a run_b out -o side_by_side.html
    """
    from basewise.report.compare import compare_chapter
    from basewise.report.page import write_page
    from basewise.report.pretrain import is_pretraining

    if (genome is not None or model is not None) and not any((folder / "summary.json").is_file() for folder in folders):
        raise BasewiseError("--genome and --model are of scans, and none of the folders is one; leave them out")
    chapters = [_chapter(folder, genome, model) for folder in folders]
    runs = [folder for folder in folders if (folder / "results.json").is_file() and not is_pretraining(folder)]
    comparison = compare_chapter(runs)
    write_page(([comparison] if comparison is not None else []) + chapters, output)
    typer.echo(output)


def _chapter(folder: Path, genome: Path | None, model: Path | None) -> "Chapter":
    """Return the chapter of a folder, told apart by the files in it."""
    if not folder.is_dir():
        raise BasewiseError(f"{folder} is no folder; expected one written by basewise train or basewise scan")
    if (folder / "summary.json").is_file():
        from basewise.report.scan import scan_chapter

        return scan_chapter(folder, genome, model_folder=model)
    if (folder / "results.json").is_file():
        from basewise.report.pretrain import is_pretraining, pretrain_chapter
        from basewise.report.run import run_chapter

        if is_pretraining(folder):
            return pretrain_chapter(folder)
        return run_chapter(folder)
    from basewise.report.experiments import explanation_chapter
    from basewise.report.trait import curve_chapter, evidence_chapter, is_curve, is_evidence

    if is_curve(folder):
        return curve_chapter(folder)
    if is_evidence(folder):
        return evidence_chapter(folder)
    chapter = explanation_chapter(folder)
    if chapter is not None:
        return chapter
    raise BasewiseError(
        f"{folder} holds neither summary.json (of basewise scan), results.json (train), explain.json, perturb.json nor attention.json: "
        "is it finished?"
    )
