"""`basewise evaluate`: any model on any dataset, with intervals."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(help="An embedded model's name, a run folder or a model folder.")],
    data: Annotated[Path, typer.Option("--data", help="Dataset folder.")],
    split: Annotated[str, typer.Option("--split", help='Split to evaluate, or "all".')] = "test",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also write the numbers as JSON.")] = None,
    prevalence: Annotated[float | None, typer.Option("--prevalence", help="Share of positives to re-weight the negatives to.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="Column of the examples: one row of metrics for each of its values.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Instead of the model's own.")] = None,
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples for 95 % intervals; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resampling.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sequences given to the model at a time.")] = 256,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Evaluate a model on a dataset: metrics with 95 % intervals, precision at recall 10, 30 and 50 %, rows by group.

    For base-level datasets all scored bases count, and sequences are resampled whole.

    Examples:

        basewise evaluate run --data dataset -o results.json

        basewise evaluate polya --data dataset --prevalence 0.005 --by chrom
    """
    from basewise.cli.tables import show_verdicts
    from basewise.datasets.folder import open_dataset
    from basewise.evaluation.evaluate import evaluate_model
    from basewise.files import write_json

    result = evaluate_model(
        model,
        open_dataset(data),
        split=split,
        prevalence=prevalence,
        by=by,
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
        batch_size=batch_size,
        device=device,
    )
    shown = {split: result["overall"], **{f"{by}={name}": verdict for name, verdict in result.get("groups", {}).items()}}
    show_verdicts(shown)
    if output is not None:
        write_json(output, result)
