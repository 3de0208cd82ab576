"""`basewise build`: labelled datasets from a genome and its annotation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
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
