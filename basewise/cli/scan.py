"""`basewise scan`: a genome in, poly(A) sites out, or whatever a model of bases or windows finds."""

from pathlib import Path
from typing import Annotated

import typer


def scan(
    genome: Annotated[Path, typer.Argument(help="Genome FASTA, plain or bgzip.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write; must not exist, or hold an interrupted scan with the same options.")
    ],
    model: Annotated[str, typer.Option("-m", "--model", help="Embedded model, run folder or model folder.")] = "polya",
    regions: Annotated[Path | None, typer.Option(help="BED: only cleavage bases inside (both strands, overlaps merged).")] = None,
    genes: Annotated[Path | None, typer.Option(help="Genes (GTF, GFF3 or BED): sites are classed genic or intergenic.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability from which a candidate is called; default: the model's own.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each; default: one a core (cpu), one (cuda).")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace what basewise wrote in OUT.")] = False,
    tile_size: Annotated[int | None, typer.Option(help="Bases a unit of work (rounded up to whole cells); changes no result.")] = None,
    batch_size: Annotated[int, typer.Option(help="Windows gathered at a time, for models that score windows; changes no result.")] = 4096,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted scan in OUT, or begin it anew.")] = True,
    shard: Annotated[str | None, typer.Option(help="i/n: do the i-th of n parts, each in its own OUT; then basewise merge.")] = None,
    engine: Annotated[str, typer.Option(help="local (processes on this machine) or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster to join, with --engine ray; default: one on this machine.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="polya: score the candidates of its rule; none: answer every base. Default: as the model's task.")
    ] = None,
    gap: Annotated[int | None, typer.Option(help="Every base: uncalled bases that an interval may span; default 0.")] = None,
    min_length: Annotated[int | None, typer.Option(help="Every base: shortest interval that is called; default 1.")] = None,
    track_floor: Annotated[
        float | None, typer.Option(help="Every base: lower probabilities are left out of the track; default 0.01.")
    ] = None,
    strands: Annotated[
        str | None, typer.Option(help="Every base: forward (the genome as it reads; default), mean of both strands, or each by itself.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Every base: bases read at a time, of models that need windows; default: theirs.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Every base: central bases a window answers for; default: half of it, of models of sequences an eighth."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Candidates: fp32, or bf16: faster, what is near the threshold or above again in fp32; the same sites.")
    ] = "fp32",
    exact: Annotated[
        bool, typer.Option("--exact", help="Candidates: let the full model score all of them, also where it has a first stage.")
    ] = False,
) -> None:
    """Find poly(A) sites in a genome, on both strands, or the intervals that a model of bases or of windows calls.

    Killed at any moment, the same command goes on where it was. Everything is written to OUT: sites.bed.gz (+ .tbi), candidates.parquet,
    plus.bw, minus.bw, or of models that answer every base intervals.bed.gz (+ .tbi), probability.bw; summary.json, report.html, and
    run.json last.

    Examples:

        basewise scan genome.fa -o out

        basewise scan genome.fa.gz -o out --genes genes.gtf.gz --regions chr19.bed --workers 2

        basewise scan genome.fa -o out -m my_run --threshold 0.8

        basewise scan genome.fa -o out -m zdna_run --gap 5 --min-length 10

        basewise scan genome.fa -o part2 --shard 2/10

        basewise scan genome.fa -o out --engine ray --address auto
    """
    from functools import partial

    from basewise.backbones.classifier import find_model
    from basewise.cli.progress import Bases
    from basewise.inference.scan import ScanOptions
    from basewise.inference.scan import scan as run_scan
    from basewise.report.scan import write_scan_report

    options = ScanOptions(
        *(genome, out, model, regions, genes, threshold, workers, device, force, tile_size, batch_size, resume, shard, engine, address),
        rule=rule,
        gap=gap,
        min_length=min_length,
        track_floor=track_floor,
        strands=strands,
        window=window,
        stride=stride,
        precision=precision,
        exact=exact,
    )
    with Bases("scanning") as progress:
        done = run_scan(options, progress, partial(write_scan_report, genome=genome, model_folder=find_model(model)))
    for path, content in done.files.items():
        typer.echo(f"{path}\t{content}")
