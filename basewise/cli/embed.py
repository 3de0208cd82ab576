"""`basewise embed`: the hidden states of a model for every sequence of a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LevelChoice(StrEnum):
    """What gets a vector."""

    sequence = "sequence"
    base = "base"


def embed(
    model: Annotated[str, typer.Argument(help="Embedded model, run folder, model folder, or folder of a published checkpoint.")],
    input: Annotated[Path, typer.Argument(help="FASTA; CSV, TSV or Parquet with a column `sequence`; or BED with -g.")],  # noqa: A002
    out: Annotated[Path, typer.Option("-o", "--out", help="OUT.parquet or OUT.npz; an older file is replaced.")],
    genome: Annotated[Path | None, typer.Option("-g", "--genome", help="Genome FASTA the BED intervals lie on.")] = None,
    level: Annotated[LevelChoice, typer.Option(help="One vector a sequence (mean over its bases) or one a base.")] = LevelChoice.sequence,
    layer: Annotated[
        int | None, typer.Option(min=0, help="0: input embedding, k: output of layer k; default: after the last norm.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences given to the model at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Write the hidden states of a model, one vector a sequence or a base, in the order of the input.

    A token of several bases gives its vector to each of them. BED intervals are read on their strand.

    Examples:

        basewise embed polya sequences.fa -o vectors.parquet

        basewise embed checkpoints/DNABERT-2-117M sequences.csv -o vectors.npz --level base --layer 6
    """
    from basewise.inference.embed import embed_file, load_embedder
    from basewise.inference.inputs import open_inputs

    inputs = open_inputs(input, genome)
    done = embed_file(load_embedder(model), inputs, out, level=level.value, layer=layer, batch_size=batch_size, device=device)
    typer.echo(f"{out}\t{done.rows:,} sequences\t{done.width} numbers a vector")
