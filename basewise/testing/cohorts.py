"""Synthetic cohorts with a planted signal: a Y-like contig that makes up a known share of a male's genome."""

from pathlib import Path

import numpy as np
import pandas as pd
import pysam

from basewise.datasets.cohort import Cohort, write_cohort
from basewise.genome.fasta import open_genome
from basewise.tasks.trait import find_ploidy, read_samples, variant_plans
from basewise.testing.genomes import random_genome, write_fasta


def satellite(length: int, seed: int, unit: int = 60, divergence: float = 0.15) -> bytes:
    """Return a tandem of diverged copies of one random unit, as heterochromatin of a Y has them."""
    rng = np.random.default_rng(seed)
    bases = np.frombuffer(b"ACGT", np.uint8)
    copies = np.resize(rng.choice(bases, unit), length)
    changed = rng.random(length) < divergence
    copies[changed] = rng.choice(bases, int(changed.sum()))
    return copies.tobytes()


def planted_cohort(
    folder: str | Path,
    *,
    share: float = 0.01,
    autosome: int = 400_000,
    people: int = 32,
    variants: int = 200,
    seed: int = 0,
    shuffle: bool = False,
) -> Cohort:
    """Write genome, phased VCF, samples table and cohort into `folder` (its COHORT) and return the cohort.

    share
        Part of a male's copies that is the Y-like contig.
    shuffle
        Give the trait at random instead of by sex, balanced within each sex: nothing can be learned.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    x = autosome // 4
    contigs = random_genome(seed, {"chr1": autosome, "chr2": autosome // 2, "chrX": x}, at=0.5)
    others = 2 * autosome + 2 * (autosome // 2) + x
    contigs["chrY"] = satellite(round(others * share / (1 - share)), seed + 1)
    write_fasta(folder / "genome.fa", contigs)
    table = pd.DataFrame({"sample": [f"S{i:02d}" for i in range(people)], "sex": ["male", "female"] * (people // 2)})
    table["split"] = np.resize(np.repeat(["train", "train", "val", "test"], 2), people)
    if shuffle:
        pattern = "bwwbbwwb" + "bwwbwbbw"  # over 16 people: balanced within each sex of each split
        table["coat"] = np.resize([{"b": "black", "w": "white"}[letter] for letter in pattern], people)
    table.to_csv(folder / "samples.tsv", sep="\t", index=False)
    _write_vcf(folder / "variants.vcf", contigs, table, variants, rng)
    with open_genome(folder / "genome.fa") as genome:
        kept = read_samples(folder / "samples.tsv", "coat" if shuffle else "sex", needs_sex=True)
        plans = variant_plans(genome, [folder / "variants.vcf"], kept, find_ploidy(genome, None, None, (), ()))
    return write_cohort(folder / "COHORT", kept.samples, plans, {"task": "planted", "labels": list(kept.labels)}, force=True)


def _write_vcf(path: Path, contigs: dict[str, bytes], table: pd.DataFrame, variants: int, rng: np.random.Generator) -> None:
    header = pysam.VariantHeader()
    for name, bases in contigs.items():
        header.contigs.add(name, len(bases))
    header.formats.add("GT", 1, "String", "Genotype")
    header.add_samples(table["sample"].tolist())
    lines = [str(header).rstrip("\n")]
    for name in ("chr1", "chr2", "chrX"):
        for at in np.sort(rng.choice(len(contigs[name]), variants, replace=False)).tolist():
            ref = chr(contigs[name][at])
            alt = str(rng.choice([b for b in "ACGT" if b != ref]))
            frequency = rng.random()
            calls = [
                "|".join(str(int(rng.random() < frequency)) for _ in range(1 if name == "chrX" and sex == "male" else 2))
                for sex in table["sex"]
            ]
            lines.append("\t".join([name, str(at + 1), ".", ref, alt, ".", "PASS", ".", "GT", *calls]))
    path.write_text("\n".join(lines) + "\n")
