"""`basewise perturb`: what a model says when motifs are taken out, or put in."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from basewise.errors import BasewiseError


def perturb(
    model: Annotated[str, typer.Argument(help="Embedded model, run folder or model folder.", show_default=False)],
    input: Annotated[  # noqa: A002
        Path, typer.Argument(help="FASTA; CSV, TSV or Parquet with a column `sequence`; or BED with -g.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output folder.", show_default=False)],
    genome: Annotated[
        Path | None, typer.Option("-g", "--genome", help="Genome FASTA the BED intervals lie on.", show_default=False)
    ] = None,
    motifs: Annotated[str, typer.Option(help="Motifs to take out, with commas between.")] = "AATAAA,ATTAAA",
    levels: Annotated[str, typer.Option(help="Probabilities of a motif to go: FIRST:LAST:STEP, or numbers with commas.")] = "0:1:0.1",
    replacement: Annotated[str, typer.Option(help="random bases, the motif's own bases shuffled, or a fixed sequence.")] = "random",
    zone: Annotated[
        str | None,
        typer.Option(help="Only motifs that start there, FIRST:LAST from the center, e.g. -40:-5.", show_default="the whole sequence"),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The label that counts as positive.", show_default="the positive one of a binary model")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Below it a positive is mispredicted.", show_default="the model's")
    ] = None,
    insert: Annotated[
        str | None, typer.Option(help="Motifs to put into neutral sequences at every offset (insertion.tsv).", show_default=False)
    ] = None,
    neutral: Annotated[
        Literal["shuffled", "motifless"] | None,
        typer.Option(
            help="With --insert, neutral sequences: the input's dinucleotides shuffled, or only without motifs.", show_default="shuffled"
        ),
    ] = None,
    reach: Annotated[
        int | None, typer.Option(min=0, help="With --insert: offsets tried on either side of the center.", show_default="60")
    ] = None,
    backgrounds: Annotated[int | None, typer.Option(min=1, help="With --insert: neutral sequences.", show_default="50")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws, replacements and shuffles.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences given to the model at a time.")] = 64,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder of basewise.")] = False,
) -> None:
    """Replace motifs in the positives of INPUT, more and more of them, and count what the model no longer recognises.

    Writes OUT/perturbed.parquet (a row a sequence and level), OUT/levels.tsv, OUT/perturb.json, OUT/report.html and, with --insert,
    OUT/insertion.tsv. Sequences labelled otherwise are left out; without a column `label` all count as positives.

    Examples:

        basewise perturb polya sites.bed -g genome.fa -o perturbed

        basewise perturb run positives.fa --motifs AATAAA --replacement shuffled --insert AATAAA,ATTAAA -o perturbed
    """
    from basewise.backbones.classifier import load_classifier
    from basewise.cli.progress_bar import counting
    from basewise.inference.inputs import open_inputs
    from basewise.interpretation.experiments import Inserting, Replacing, perturb_file
    from basewise.interpretation.perturb import parse_levels, parse_motifs
    from basewise.report.experiments import write_perturb_report

    for flag, given in (("--neutral", neutral), ("--reach", reach), ("--backgrounds", backgrounds)):
        if insert is None and given is not None:
            raise BasewiseError(f"{flag} is about motifs put in: add --insert MOTIFS, or leave it out")
    classifier = load_classifier(model)
    replacing = Replacing(parse_motifs(motifs), tuple(parse_levels(levels).tolist()), replacement, _zone(zone), label, threshold, seed)
    inserting = (
        None
        if insert is None
        else Inserting(parse_motifs(insert), neutral or "shuffled", 60 if reach is None else reach, backgrounds or 50)
    )
    inputs = open_inputs(input, genome, classifier.config.window)
    with counting("Perturbing", "sequences") as advance:
        said = perturb_file(
            classifier, inputs, out, replacing, inserting, genome=genome, force=force, batch_size=batch_size, device=device, advance=advance
        )
    write_perturb_report(out)
    first, last = said["levels"][0], said["levels"][-1]
    typer.echo(
        f"{out}\t{said['sequences']:,} sequences, mispredicted {first['mispredicted']:,} at level {first['level']:g}, "
        f"{last['mispredicted']:,} at {last['level']:g}"
    )


def _zone(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise BasewiseError(f"--zone {text!r}: expected FIRST:LAST, bases from the center, e.g. -40:-5") from error
    if last < first:
        raise BasewiseError(f"--zone {text!r} is empty: FIRST must not lie behind LAST")
    return first, last
