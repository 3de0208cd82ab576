"""`basewise individuals`: cohorts of whole genomes, described without being written."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Describe a cohort of individuals: from variants, assemblies or reads.", no_args_is_help=True)

Samples = Annotated[Path, typer.Option("--samples", help="Table (TSV): sample, the trait, where there are any sex, species, split.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Cohort folder to write.")]
Trait = Annotated[str, typer.Option("--trait", help="Column of the table to predict.")]
Labels = Annotated[
    str | None, typer.Option("--labels", help="Its values for labels 0, 1, ..., comma-separated.  [default: sorted; male,female]")
]
Species = Annotated[str, typer.Option("--species", help="Column of the table that holds the species, or one name for all.")]
SkipUnknown = Annotated[bool, typer.Option("--skip-unknown", help="Leave out samples of unknown sex or trait, or without genotypes.")]
KeepUnknown = Annotated[
    bool, typer.Option("--keep-unknown", help="Keep samples of unknown trait, to be predicted; with --labels all may be so.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the split (60/20/20 within each class, where the table has no column split).")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing cohort folder.")]


class Haplotypes(StrEnum):
    """How genotypes become sequences."""

    phased = "phased"
    inbred = "inbred"


@app.callback()
def _individuals() -> None:
    """Describe a cohort of individuals: from variants, assemblies or reads."""


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


@app.command()
def vcf(
    genome: Annotated[Path, typer.Option("--genome", help="Reference FASTA; unpacked it is memory-mapped, bgzip is unpacked in memory.")],
    vcf: Annotated[list[Path], typer.Option("--vcf", help="Phased genotypes, VCF or BCF; once a file.")],
    samples: Samples,
    output: Output,
    trait: Trait = "sex",
    labels: Labels = None,
    species: Species = "species",
    x: Annotated[str | None, typer.Option("--x", help="The contig that is X.  [default: by its name]")] = None,
    y: Annotated[str | None, typer.Option("--y", help="The contig that is Y.  [default: by its name]")] = None,
    haploid: Annotated[
        str | None, typer.Option("--haploid", help="Contigs of one copy.  [default: the mitochondrion, by its name]")
    ] = None,
    par: Annotated[
        list[str] | None, typer.Option("--par", help="Pseudoautosomal CONTIG:START-END on X and Y, or hg19, hg38; repeatable.")
    ] = None,
    haplotypes: Annotated[Haplotypes, typer.Option("--haplotypes", help="phased: bcftools' 1pIu and 2pIu; inbred: A.")] = Haplotypes.phased,
    contigs: Annotated[str | None, typer.Option("--contigs", help="Only these contigs, comma-separated.")] = None,
    skip_symbolic: Annotated[
        bool, typer.Option("--skip-symbolic", help="Leave out alleles without a sequence instead of refusing.")
    ] = False,
    skip_unknown: SkipUnknown = False,
    keep_unknown: KeepUnknown = False,
    fasta: Annotated[bool, typer.Option("--fasta", help="Also write every individual's FASTA, into OUTPUT/fasta.")] = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Describe individuals by a reference and phased variants; nothing is written but the differences.

    Haplotypes are those of `bcftools consensus` byte for byte. Males have one X (two inside --par) and a Y, females two X and no Y.

    Examples:

        basewise individuals vcf --genome hg38.fa --vcf chrX.vcf.gz --vcf chr1.vcf.gz --samples samples.tsv --par hg38 -o cohort

        basewise individuals vcf --genome mm10.fa --vcf lines.vcf.gz --samples lines.tsv --haplotypes inbred -o mice
    """
    from basewise.datasets.folder import refuse_existing
    from basewise.files import sha256_of
    from basewise.genome.fasta import open_genome
    from basewise.genome.variants import samples_of
    from basewise.tasks.trait import find_ploidy, read_samples, variant_plans

    refuse_existing(output, force=force)
    inbred = haplotypes is Haplotypes.inbred
    known = [sample for path in vcf for sample in samples_of(path)]
    in_all = [sample for sample in dict.fromkeys(known) if known.count(sample) == len(vcf)]
    with open_genome(genome) as opened:
        chosen = list(_list(contigs)) or None
        ploidy = find_ploidy(opened, x, y, _list(haploid), par or ())
        sexed = {ploidy.x, ploidy.y} & set(chosen or opened.contigs)
        table = read_samples(
            samples,
            trait,
            labels=_list(labels),
            needs_sex=bool(sexed),
            species=species,
            skip_unknown=skip_unknown,
            keep_unknown=keep_unknown,
            known=in_all,
            seed=seed,
        )
        plans = variant_plans(opened, vcf, table, ploidy, inbred=inbred, contigs=chosen, skip_symbolic=skip_symbolic)
        inputs: dict[str, Any] = {"genome": {"path": str(opened.path), "sha256": opened.sha256()}}
    inputs |= {"samples": {"path": samples.name, "sha256": sha256_of(samples)}}
    inputs |= {f"vcf{i + 1}": {"path": path.name, "sha256": sha256_of(path)} for i, path in enumerate(vcf)}
    about = {"source": "vcf", "haplotypes": haplotypes.value, "x": ploidy.x, "y": ploidy.y, "par": [list(p) for p in ploidy.par]}
    _write(output, table, plans, about | {"haploid": list(ploidy.haploid), "inputs": inputs}, trait, seed, force=force, fasta=fasta)


@app.command()
def fasta(
    samples: Annotated[Path, typer.Option("--samples", help="Table (TSV): sample, fasta (path, relative to the table), the trait ...")],
    output: Output,
    trait: Trait = "sex",
    labels: Labels = None,
    species: Species = "species",
    skip_unknown: SkipUnknown = False,
    keep_unknown: KeepUnknown = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Describe individuals by an assembly each; every contig of it is one copy.

    Example:

        basewise individuals fasta --samples assemblies.tsv --trait coat -o cohort
    """
    from basewise.datasets.folder import refuse_existing
    from basewise.tasks.trait import assembly_plans, read_samples

    refuse_existing(output, force=force)
    table = read_samples(
        samples,
        trait,
        labels=_list(labels),
        species=species,
        skip_unknown=skip_unknown,
        keep_unknown=keep_unknown,
        need=("fasta",),
        seed=seed,
    )
    _write(output, table, assembly_plans(table, samples.parent), {"source": "fasta"}, trait, seed, force=force)


@app.command()
def fastq(
    samples: Annotated[Path, typer.Option("--samples", help="Table (TSV): sample, fastq (comma-separated paths), the trait ...")],
    output: Output,
    trait: Trait = "sex",
    labels: Labels = None,
    species: Species = "species",
    most: Annotated[int, typer.Option("--reads", min=1, help="Reads kept of an individual at most, chosen at random.")] = 1_000_000,
    skip_unknown: SkipUnknown = False,
    keep_unknown: KeepUnknown = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Describe individuals by sequencing reads, FASTQ (gzip or not); qualities are ignored, a choice of reads is kept in the cohort.

    Example:

        basewise individuals fastq --samples reads.tsv --reads 2000000 -o cohort
    """
    from basewise.datasets.folder import refuse_existing
    from basewise.tasks.trait import read_plans, read_samples

    refuse_existing(output, force=force)
    table = read_samples(
        samples,
        trait,
        labels=_list(labels),
        species=species,
        skip_unknown=skip_unknown,
        keep_unknown=keep_unknown,
        need=("fastq",),
        seed=seed,
    )
    plans, seen = read_plans(table, samples.parent, most, seed)
    _write(output, table, plans, {"source": "fastq", "reads": seen}, trait, seed, force=force)


@app.command()
def join(
    cohorts: Annotated[list[Path], typer.Argument(help="Cohorts of the same trait and labels, e.g. one a species.")],
    output: Output,
    force: Force = False,
) -> None:
    """Put cohorts together, e.g. of several species: batches then choose a species first, with equal chance.

    Example:

        basewise individuals join human mouse -o both
    """
    from basewise.datasets.cohort import join_cohorts, open_cohort

    made = join_cohorts([open_cohort(path) for path in cohorts], output, force=force)
    typer.echo(f"wrote {output}: {len(made.samples)} individuals of {made.samples['species'].nunique()} species")


def _write(output: Path, table: Any, plans: Any, about: dict[str, Any], trait: str, seed: int, *, force: bool, fasta: bool = False) -> None:
    from basewise.datasets.cohort import write_cohort, write_fasta
    from basewise.provenance import provenance

    manifest = {"task": trait, "labels": list(table.labels), "seed": seed, "dropped": table.dropped, **about, "made": provenance()}
    cohort = write_cohort(output, table.samples, plans, manifest, force=force)
    if fasta:
        (output / "fasta").mkdir(exist_ok=True)
        for row in range(len(cohort.samples)):
            write_fasta(cohort.genome(row), output / "fasta" / f"{cohort.samples['sample'].iloc[row]}.fa")
    for split in sorted(set(cohort.samples["split"])):
        part = cohort.samples[cohort.samples["split"] == split]
        shown = ", ".join(f"{(part['label'] == i).sum()} {name}" for i, name in enumerate(cohort.labels))
        shown += f", {(part['label'] < 0).sum()} not known" if (part["label"] < 0).any() else ""
        typer.echo(f"{split or 'no split':<8} {len(part):>4} individuals: {shown}")
    for reason, number in table.dropped.items():
        typer.echo(f"left out {number}: {reason}")
    typer.echo(f"wrote {output}")
