"""`basewise explain`: why a model says what it says, a score a base."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from basewise.errors import BasewiseError


def explain(
    model: Annotated[str, typer.Argument(help="Embedded model, run folder or model folder.", show_default=False)],
    input: Annotated[  # noqa: A002
        Path, typer.Argument(help="FASTA; CSV, TSV or Parquet with a column `sequence`; or BED with -g.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.", show_default=False)],
    genome: Annotated[
        Path | None, typer.Option("-g", "--genome", help="Genome FASTA the BED intervals lie on.", show_default=False)
    ] = None,
    method: Annotated[
        Literal["ig", "smoothgrad", "ig-smoothgrad", "inputxgrad", "ism"],
        typer.Option(help="Integrated gradients, SmoothGrad, both, input x gradient, in-silico mutagenesis."),
    ] = "ig",
    target: Annotated[
        str | None,
        typer.Option(
            help="LABEL or predicted; for models of bases [LABEL@]center, 120, 100-140, all, predicted or tp (true positives).",
            show_default="the positive label, at the center",
        ),
    ] = None,
    steps: Annotated[str, typer.Option(help="Points of integrated gradients, or auto: as many as the tolerance needs.")] = "auto",
    tolerance: Annotated[float, typer.Option(help="Completeness error over the difference of logits that auto aims at.")] = 1e-3,
    baseline: Annotated[
        Literal["zero", "pad", "mask", "n", "shuffled"], typer.Option(help="What integrated gradients start from.")
    ] = "zero",
    samples: Annotated[int, typer.Option(min=1, help="Noisy copies of SmoothGrad.")] = 50,
    sd: Annotated[float | None, typer.Option(min=0, help="Noise of SmoothGrad.", show_default="0.1, with ig-smoothgrad 0.02")] = None,
    signed: Annotated[bool, typer.Option("--signed", help="SmoothGrad of the gradient instead of its size.")] = False,
    around: Annotated[
        int | None, typer.Option(min=0, help="Mutagenesis only of bases this near to the center.", show_default="all bases")
    ] = None,
    only_tp: Annotated[bool, typer.Option("--only-tp", help="Explain only sequences labelled and predicted positive.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and shuffles.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows given to the model at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder of basewise.")] = False,
) -> None:
    """Say which bases speak for and against a prediction.

    Writes OUT/attributions.parquet (a row a sequence), OUT/attributions.bw where the input has coordinates, OUT/explain.json and
    OUT/report.html. With a column `label` the true positives are known to `basewise kmers`.

    Examples:

        basewise explain polya sites.bed -g genome.fa -o why

        basewise explain run positives.csv --method ig-smoothgrad --steps 50 --only-tp -o why_smooth

        basewise explain run windows.parquet --target tp -o why_bases
    """
    from basewise.backbones.classifier import load_classifier
    from basewise.cli.progress_bar import counting
    from basewise.inference.inputs import open_inputs
    from basewise.interpretation.attribute import Settings
    from basewise.interpretation.explain import Asked, explain_file
    from basewise.report.explain import write_explain_report

    if steps != "auto" and not steps.isdecimal():
        raise BasewiseError(f"--steps {steps!r}: expected auto or a number of points, e.g. 50")
    classifier = load_classifier(model)
    inputs = open_inputs(input, genome, classifier.config.window)
    settings = Settings(
        baseline=baseline,
        steps="auto" if steps == "auto" else int(steps),
        tolerance=tolerance,
        samples=samples,
        sd=sd,
        signed=signed,
        around=around,
        seed=seed,
        batch_size=batch_size,
    )
    asked = Asked(method, target, settings, only_tp=only_tp, device=device)
    with counting("Explaining", "sequences") as advance:
        said = explain_file(classifier, inputs, out, asked, genome=genome, force=force, advance=advance)
    write_explain_report(out)
    typer.echo(f"{out}\t{said['counts']['explained']:,} of {said['counts']['sequences']:,} sequences explained")
