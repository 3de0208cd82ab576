"""`basewise predict`: a model's probability for every sequence of a file."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(help="Embedded model, run folder or model folder.")],
    input: Annotated[Path, typer.Argument(help="FASTA; CSV, TSV or Parquet with a column `sequence`; or BED with -g.")],  # noqa: A002
    out: Annotated[Path, typer.Option("-o", "--out", help="OUT.parquet or OUT.tsv; an older file is replaced.")],
    genome: Annotated[Path | None, typer.Option("-g", "--genome", help="Genome FASTA the BED intervals lie on.")] = None,
    every_base: Annotated[bool, typer.Option("--every-base", help="A probability for each base: the column `probabilities`.")] = False,
    batch_size: Annotated[int, typer.Option(help="Sequences given to the model at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Add a column `probability` to the columns of a table of sequences.

    BED intervals are read on their strand, as many bases around their centre base as the model was trained on, N beyond the contig; of
    longer sequences a model of whole sequences (promoter) reads as many around the centre base too, as `evaluate` does.
    Models that answer base by base (zdna, g4) give the probability of the centre base, or with --every-base those of all bases of the
    sequence, 5' to 3'.

    Examples:

        basewise predict polya sequences.fa -o answers.tsv

        basewise predict zdna promoters.bed -g genome.fa --every-base -o bases.parquet

        basewise predict my_run sites.bed -g genome.fa -o answers.parquet
    """
    from basewise.backbones.classifier import load_classifier
    from basewise.inference.inputs import open_inputs
    from basewise.inference.predict import predict_file

    classifier = load_classifier(model)
    inputs = open_inputs(input, genome, None if every_base else classifier.config.window)
    done = predict_file(classifier, inputs, out, every_base=every_base, batch_size=batch_size, device=device)
    typer.echo(f"{out}\t{done.rows:,} sequences")
