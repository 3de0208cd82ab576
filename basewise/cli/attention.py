"""`basewise attention`: which k-mers a transformer attends to."""

from pathlib import Path
from typing import Annotated

import typer


def attention(
    model: Annotated[str, typer.Argument(help="Run or model folder of a transformer.", show_default=False)],
    input: Annotated[  # noqa: A002
        Path, typer.Argument(help="FASTA; CSV, TSV or Parquet with a column `sequence`; or BED with -g.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.", show_default=False)],
    genome: Annotated[
        Path | None, typer.Option("-g", "--genome", help="Genome FASTA the BED intervals lie on.", show_default=False)
    ] = None,
    layer: Annotated[int, typer.Option(help="Layer, from 0, or from the last, -1.")] = -1,
    top: Annotated[int, typer.Option(min=1, help="Most attended tokens a sequence to count.")] = 50,
    rollout: Annotated[bool, typer.Option("--rollout", help="Attention of all layers up to --layer, multiplied through.")] = False,
    motifs: Annotated[str, typer.Option(help="Negatives count when they hold one of these; '' for all negatives.")] = "AATAAA,ATTAAA",
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences given to the model at a time.")] = 16,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder of basewise.")] = False,
) -> None:
    """Count the most attended tokens of positives and, beside them, of negatives that hold the same motifs.

    Writes OUT/attention_kmers.tsv (a row a group, head and k-mer), OUT/attended.parquet, OUT/attention.json and OUT/report.html. Without
    a column `label` all sequences are one group.

    Examples:

        basewise attention run test.csv -o looked_at

        basewise attention run test.csv --layer 0 --top 10 --rollout -o looked_at
    """
    from basewise.backbones.classifier import load_classifier
    from basewise.cli.progress_bar import counting
    from basewise.inference.inputs import open_inputs
    from basewise.interpretation.experiments import attention_file
    from basewise.interpretation.perturb import parse_motifs
    from basewise.report.experiments import write_attention_report

    classifier = load_classifier(model)
    inputs = open_inputs(input, genome, classifier.config.window)
    with counting("Looking", "sequences") as advance:
        said = attention_file(
            classifier,
            inputs,
            out,
            layer=layer,
            top=top,
            rollout=rollout,
            motifs=parse_motifs(motifs) if motifs else (),
            genome=genome,
            force=force,
            batch_size=batch_size,
            device=device,
            advance=advance,
        )
    write_attention_report(out)
    typer.echo(f"{out}\t" + ", ".join(f"{count:,} {name}" for name, count in said["groups"].items()))
