"""`basewise first-stage`: a small network that spares a model most candidates of a scan."""

from pathlib import Path
from typing import Annotated

import typer


def first_stage(
    model: Annotated[str, typer.Argument(help="Run folder or model folder of a model of poly(A) sites; the result is stored in it.")],
    genome: Annotated[Path, typer.Argument(help="Genome FASTA, plain or bgzip.")],
    choose: Annotated[str, typer.Option(help="Contigs, comma-separated, on which the cut is chosen.")],
    hold_out: Annotated[str, typer.Option(help="Contigs on which recall is measured; neither trained on nor looked at before.")],
    train: Annotated[str, typer.Option(help="Contigs to learn from; default: all others.")] = "",
    candidates: Annotated[int, typer.Option(min=1024, help="Candidates to learn from.")] = 300_000,
    measured: Annotated[int, typer.Option(min=1024, help="Candidates to choose and to measure with, at most.")] = 500_000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training, 1024 candidates each.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of candidates, the first weights and the batches.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a small network that drops candidates a model would hardly call, so that scans are several times faster.

    It learns from the model's own answers on the candidates of a genome. A scan uses it by itself when it kept 99.5 % of the model's calls
    on the held-out contigs; basewise scan --exact goes without it.

    Examples:

        basewise first-stage my_run genome.fa --choose chr15 --hold-out chr19

        basewise first-stage my_run genome.fa --train chr13,chr14 --choose chr15 --hold-out chr19,chr20 --candidates 100000
    """
    from basewise.genome.fasta import open_genome
    from basewise.inference.first_stage import FOLDER
    from basewise.training.first_stage import Settings, train_first_stage

    lists = [[name for name in text.split(",") if name] for text in (train, choose, hold_out)]
    settings = Settings(candidates=candidates, measured=measured, steps=steps, seed=seed)
    stage = train_first_stage(
        *(model, open_genome(genome)),
        train=lists[0],
        choose=lists[1],
        hold_out=lists[2],
        settings=settings,
        device=device,
        say=lambda line: typer.echo(line, err=True),
    )
    held_out = stage.config.held_out
    assert held_out is not None
    typer.echo(f"{FOLDER}\trecall {held_out.recall:.4f} of {held_out.calls} calls, {held_out.kept:.4f} of candidates kept")
