"""`basewise baseline`: what a model has to beat, as a run folder."""

from pathlib import Path
from typing import Annotated

import typer


def baseline(
    name: Annotated[str, typer.Argument(help="kmer-lr, cnn, random-init, g4hunter, g4-regex, pqs, zhunt or zscore.")],
    data: Annotated[Path, typer.Option("--data", help="Dataset folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder to write.")],
    window: Annotated[int | None, typer.Option("--window", help="Read only this many bases around the center base.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.key=value of its recipe; may be repeated.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Train a baseline on a dataset: k-mer logistic regression, a small dilated CNN, a randomly initialised control, or a rule.

    The rules g4hunter, g4-regex (G3+N1-7 with G4Hunter), pqs (potential quadruplexes, imperfect ones too, as pqsfinder scores them), zhunt
    (how readily 12 bases turn left-handed) and zscore (alternating purines and pyrimidines) score bases; calibration and threshold come
    from split val.

    The run folder is one like any other: evaluate, predict and report read it.

    Examples:

        basewise baseline kmer-lr --data dataset -o kmer_lr --set "backbone.config.bins=4"

        basewise baseline cnn --data dataset -o cnn_101 --window 101

        basewise baseline g4hunter --data g4 -o g4hunter

        basewise baseline random-init --data dataset -o control --set backbone.name=hyenadna-tiny-1k
    """
    from basewise.cli.tables import show_verdicts
    from basewise.cli.training_bar import training_bar
    from basewise.datasets.folder import open_dataset
    from basewise.training.baselines import baseline_recipe, train_baseline

    dataset = open_dataset(data)
    chosen = [*([f"head.window={window}"] if window is not None else []), *(settings or [])]
    with training_bar(baseline_recipe(name, dataset, chosen).train.metric) as report:
        results = train_baseline(name, dataset, output, settings=chosen, resume=resume, force=force, device=device, progress=report)
    show_verdicts(results["splits"])
    typer.echo(f"run folder: {output}")
