"""`basewise ensemble`: runs of one recipe that differ by seed, joined into one model."""

from pathlib import Path
from typing import Annotated

import typer


def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Finished run folders of one recipe that differ by train.seed.")],
    data: Annotated[Path, typer.Option("--data", help="Dataset folder: its val split gives calibration and threshold.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run folder to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights as float16: half the size; computed with in float32.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run folder.")] = False,
) -> None:
    """Join runs into one model whose logit is the mean of theirs (families pyramid and convnet).

    The embedded model `polya` is made so.

    Examples:

        basewise train basewise/polya --data dataset -o run0 --set train.seed=0

        basewise train basewise/polya --data dataset -o run1 --set train.seed=1

        basewise ensemble run0 run1 --data dataset -o joined --half
    """
    from basewise.cli.tables import show_verdicts
    from basewise.datasets.folder import open_dataset
    from basewise.training.ensemble import ensemble as join_runs

    results = join_runs(runs, open_dataset(data), output, half=half, force=force)
    show_verdicts(results["splits"])
    typer.echo(f"run folder: {output}")
