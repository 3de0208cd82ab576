"""`basewise build`: labelled datasets from a genome and its annotation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from basewise.errors import BasewiseError

app = typer.Typer(help="Build a labelled dataset from a genome and its annotation.", no_args_is_help=True)


class Negatives(StrEnum):
    """Where negatives come from."""

    gene = "gene"
    intergene = "intergene"
    scan = "scan"


class Variant(StrEnum):
    """Which published or corrected protocol."""

    published = "published"
    clean = "clean"
    matched = "matched"


class Level(StrEnum):
    """One label a sequence, or one a base."""

    sequence = "sequence"
    base = "base"


class Split(StrEnum):
    """How examples are divided."""

    chromosome = "chromosome"
    random = "random"


class Overlap(StrEnum):
    """What becomes of an interval that a window's edge cuts."""

    keep = "keep"
    ignore = "ignore"
    drop = "drop"


@app.callback()
def _build() -> None:
    """Build a labelled dataset from a genome and its annotation."""


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def _per_positive(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'all'")
    return int(text)


@app.command()
def polya(
    genome: Annotated[Path, typer.Option("--genome", help="FASTA, plain or bgzip.")],
    sites: Annotated[Path, typer.Option("--sites", help="Annotated sites: GENCODE polyAs, PolyA_DB v3, PolyASite 2.0, UCSC or BED6.")],
    genes: Annotated[Path, typer.Option("--genes", help="Genes: GTF, GFF3 or BED.")],
    negatives: Annotated[Negatives, typer.Option("--negatives", help="gene and intergene: as in the paper; scan: what a scan meets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Dataset folder to write.")],
    variant: Annotated[Variant | None, typer.Option("--variant", help="For gene and intergene.  [default: clean]")] = None,
    level: Annotated[Level, typer.Option("--level", help="base: regions with one label a base, to train scanners.")] = Level.sequence,
    window: Annotated[int | None, typer.Option("--window", help="Bases an example.  [default: 101; 4096 at level base]")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    split: Annotated[Split, typer.Option("--split", help="By whole chromosomes, or at random 60/20/20.")] = Split.chromosome,
    test_chroms: Annotated[str | None, typer.Option("--test-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
    val_chroms: Annotated[str | None, typer.Option("--val-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
    exclusion: Annotated[int, typer.Option("--exclusion", help="Negatives are further than this from any site of their strand.")] = 100,
    positive_distance: Annotated[int, typer.Option("--positive-distance", help="scan: candidates this near a site are positive.")] = 24,
    negatives_per_positive: Annotated[str, typer.Option("--negatives-per-positive", help="scan: a number, or 'all'.")] = "20",
    background: Annotated[int, typer.Option("--background", help="base: regions without a site for each one with a site.")] = 1,
    flank: Annotated[
        int | None, typer.Option("--flank", help="base: unscored context at both ends of a region.  [default: window / 8]")
    ] = None,
    complete_eval: Annotated[
        bool | None,
        typer.Option("--complete-eval/--sampled-eval", help="Keep all candidates of test and val chromosomes.  [default: at level base]"),
    ] = None,
    force_center: Annotated[
        bool | None,
        typer.Option("--force-center/--no-force-center", help="Write A over the site of positives.  [default: in published only]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset folder.")] = False,
) -> None:
    """Build a dataset of poly(A) sites: DATASET/examples.parquet and DATASET/manifest.json.

    Variants (docs/tasks/polya.md says why): `published` is the paper's protocol, `clean` removes its single-base shortcuts, `matched`
    gives every site a negative with the same hexamer at the same distance. `--negatives scan` is for models that scan genomes.

    Examples:

        basewise build polya --genome hg38.fa --sites polyA_db.tsv --genes genes.gtf --negatives gene -o gene_gene

        basewise build polya --genome hg38.fa --sites sites.bed --genes genes.gtf --negatives scan --level base --test-chroms chr19 -o scan
    """
    from basewise.datasets.folder import refuse_existing, write_dataset
    from basewise.files import sha256_of
    from basewise.genome.annotation import read_genes, read_sites
    from basewise.genome.fasta import check_contigs, open_genome
    from basewise.tasks.polya import build_polya

    refuse_existing(output, force=force)
    site_table, gene_table = read_sites(sites), read_genes(genes)
    with open_genome(genome) as opened:
        check_contigs(site_table["chrom"], opened, sites)
        check_contigs(gene_table["chrom"], opened, genes)
        examples, manifest = build_polya(
            opened,
            site_table,
            gene_table,
            negatives.value,
            variant.value if variant else None,
            level=level.value,
            window=window,
            seed=seed,
            split=split.value,
            test_chroms=_names(test_chroms),
            val_chroms=_names(val_chroms),
            exclusion=exclusion,
            positive_distance=positive_distance,
            negatives_per_positive=_per_positive(negatives_per_positive),
            background=background,
            flank=flank,
            complete_eval=complete_eval,
            force_center=force_center,
        )
    for role, path in (("sites", sites), ("genes", genes)):
        manifest["inputs"][role] = {"path": path.name, "sha256": sha256_of(path)}
    dataset = write_dataset(output, examples, manifest, force=force)
    for name, labels in dataset.manifest["counts"].items():
        typer.echo(f"{name:<6} {labels.get('1', 0):>9,} positive  {labels.get('0', 0):>11,} negative")
    typer.echo(f"wrote {output} ({len(examples):,} examples); what was left out and why: {output / 'manifest.json'}")


def _tokens_command(task: str, what: str) -> None:
    """Add `basewise build <task>`: the same options for every kind of interval."""

    def command(
        genome: Annotated[Path, typer.Option("--genome", help="FASTA, plain or bgzip.")],
        intervals: Annotated[Path, typer.Option("--intervals", help="BED of annotated intervals; strands are not used.")],
        output: Annotated[Path, typer.Option("-o", "--output", help="Dataset folder to write.")],
        window: Annotated[int, typer.Option("--window", help="Scored bases an example.")] = 100,
        ratio: Annotated[float, typer.Option("--ratio", help="Windows without a labelled base for each one with.")] = 3.0,
        flank: Annotated[int, typer.Option("--flank", help="Bases of context on either side that are read but not scored.")] = 0,
        stride: Annotated[int | None, typer.Option("--stride", help="Bases from window to window.  [default: window]")] = None,
        overlap: Annotated[
            Overlap, typer.Option("--overlap", help="An interval cut by a window's edge: keep its labels, ignore them, or drop the window.")
        ] = Overlap.keep,
        split: Annotated[
            Split, typer.Option("--split", help="By whole chromosomes, or windows at random 60/20/20 as published.")
        ] = Split.chromosome,
        test_chroms: Annotated[str | None, typer.Option("--test-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
        val_chroms: Annotated[str | None, typer.Option("--val-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
        complete: Annotated[
            bool, typer.Option("--complete-eval/--sampled-eval", help="Add every base of the test chromosomes as split `complete`.")
        ] = False,
        seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
        force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset folder.")] = False,
    ) -> None:
        from basewise.datasets.folder import refuse_existing, write_dataset
        from basewise.files import sha256_of
        from basewise.genome.fasta import open_genome
        from basewise.genome.intervals import read_bed
        from basewise.tasks.tokens import TokenOptions, build_tokens

        refuse_existing(output, force=force)
        options = TokenOptions(
            task=task,
            window=window,
            stride=stride,
            flank=flank,
            ratio=ratio,
            overlap=overlap.value,
            split=split.value,
            test_chroms=_names(test_chroms),
            val_chroms=_names(val_chroms),
            complete=complete,
            seed=seed,
        )
        with open_genome(genome) as opened:
            examples, manifest = build_tokens(opened, read_bed(intervals), options)
        manifest["inputs"]["intervals"] = {"path": intervals.name, "sha256": sha256_of(intervals)}
        dataset = write_dataset(output, examples, manifest, force=force)
        for name, labels in dataset.manifest["counts"].items():
            typer.echo(f"{name:<8} {labels.get('1', 0):>9,} positive bases  {labels.get('0', 0):>11,} others")
        typer.echo(f"wrote {output} ({len(examples):,} windows); how it was made: {output / 'manifest.json'}")

    command.__doc__ = f"""Build a base-level dataset of {what}: windows with one label a base, positives and negatives at a ratio.

    Windows stand on a grid; one that holds a labelled base is positive. N and --flank are not scored (label -1).

    Examples:

        basewise build {task} --genome hg38.fa --intervals labels.bed --test-chroms chr19 --complete-eval -o {task}

        basewise build {task} --genome hg38.fa --intervals labels.bed --split random --window 512 -o {task}_512
    """
    app.command(task)(command)


_tokens_command("zdna", "Z-DNA")
_tokens_command("g4", "G-quadruplexes")
_tokens_command("tokens", "any intervals")


@app.command()
def broken(
    genome: Annotated[Path, typer.Option("--genome", help="FASTA, plain or bgzip.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Dataset folder to write.")],
    window: Annotated[int, typer.Option("--window", help="Bases of a sequence.")] = 70,
    count: Annotated[int, typer.Option("--count", help="Windows drawn from the genome, on either strand.")] = 100_000,
    stride: Annotated[int, typer.Option("--stride", help="Bases between the places a window may start at.")] = 7,
    min_gc: Annotated[float, typer.Option("--min-gc", help="Least share of G and C of a window of the genome.")] = 0.0,
    block: Annotated[int, typer.Option("--block", help="Bases of a block.")] = 15,
    first: Annotated[int | None, typer.Option("--first", help="Bases of the first block.  [default: --block]")] = None,
    replaced: Annotated[float, typer.Option("--replaced", help="Chance of a block to be replaced by random bases.")] = 0.6,
    sequences: Annotated[
        Path | None, typer.Option("--sequences", help="Dataset or table: its training sequences of label 1 are broken, too.")
    ] = None,
    copies: Annotated[int, typer.Option("--copies", help="Times each of --sequences is taken.")] = 1,
    test_chroms: Annotated[str | None, typer.Option("--test-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
    val_chroms: Annotated[str | None, typer.Option("--val-chroms", help="Comma-separated.  [default: chosen, about 20 %]")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset folder.")] = False,
) -> None:
    """Build a dataset of natural windows (label 1) and copies of them with blocks replaced at random (label 0), to pretrain on.

    GUE's promoter negatives are made so; `basewise recipes show basewise/broken` is the recipe that learns from it.

    Examples:

        basewise build broken --genome hg38.fa --count 400000 --min-gc 0.5 -o natural

        basewise build broken --genome hg38.fa --sequences promoter --copies 6 --first 9 --test-chroms chr19 --val-chroms chr15 -o natural
    """
    from basewise.datasets.folder import refuse_existing, write_dataset
    from basewise.datasets.table import read_examples
    from basewise.genome.fasta import open_genome
    from basewise.tasks.broken import BrokenOptions, build_broken

    refuse_existing(output, force=force)
    options = BrokenOptions(
        window=window,
        count=count,
        stride=stride,
        min_gc=min_gc,
        block=block,
        first=block if first is None else first,
        replaced=replaced,
        copies=copies,
        test_chroms=_names(test_chroms),
        val_chroms=_names(val_chroms),
        seed=seed,
    )
    if sequences is None and copies != 1:
        raise BasewiseError("--copies says how often each of --sequences is taken; add --sequences TABLE, or leave it out")
    given: list[str] = []
    if sequences is not None:
        examples = read_examples(sequences)
        given = examples.loc[(examples["label"] == 1) & examples["split"].isin(["train", ""]), "sequence"].tolist()
    with open_genome(genome) as opened:
        examples, manifest = build_broken(opened, options, given)
    if sequences is not None:
        manifest["inputs"]["sequences"] = {"path": sequences.name, "used": len(given)}
    dataset = write_dataset(output, examples, manifest, force=force)
    for name, labels in dataset.manifest["counts"].items():
        typer.echo(f"{name:<6} {labels.get('1', 0):,} natural  {labels.get('0', 0):,} broken")
    typer.echo(f"wrote {output}; how it was made: {output / 'manifest.json'}")


@app.command()
def table(
    train: Annotated[Path, typer.Option("--train", help="CSV, TSV or Parquet with sequence,label.")],
    test: Annotated[Path, typer.Option("--test", help="The table to be judged on (GUE: dev.csv).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Dataset folder to write.")],
    val: Annotated[Path | None, typer.Option("--val", help="The table for choices.  [default: a share of --train]")] = None,
    task: Annotated[str, typer.Option("--task", help="Name of the question.")] = "custom",
    val_fraction: Annotated[float, typer.Option("--val-fraction", help="Share of --train taken for validation.")] = 0.1,
    unique: Annotated[
        bool, typer.Option("--unique", help="Drop training sequences that stand in the other tables, on either strand.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw for validation.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset folder.")] = False,
) -> None:
    """Build a dataset from tables of sequences that are divided already, as benchmarks publish them.

    Examples:

        basewise build table --train prom_core_all/train.csv.gz --test prom_core_all/dev.csv.gz --task promoter -o promoter

        basewise build table --train train.csv --val val.csv --test test.csv --unique -o dataset
    """
    from basewise.datasets.assemble import assemble
    from basewise.datasets.folder import refuse_existing, write_dataset

    refuse_existing(output, force=force)
    examples, manifest = assemble(train, test, val, task=task, val_fraction=val_fraction, unique=unique, seed=seed)
    dataset = write_dataset(output, examples, manifest, force=force)
    for name, labels in dataset.manifest["counts"].items():
        typer.echo(f"{name:<6} " + "  ".join(f"{n:,} of label {label}" for label, n in labels.items()))
    for reason, n in dataset.manifest["dropped"].items():
        typer.echo(f"dropped {n:,} ({reason})")
    typer.echo(f"wrote {output} ({len(examples):,} examples)")
