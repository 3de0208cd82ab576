"""Haplotypes against `bcftools consensus` itself, which pysam ships: byte for byte."""

import random
from collections.abc import Iterator
from pathlib import Path

import pysam
import pysam.bcftools
import pytest

from basewise.genome.fasta import Genome, open_genome
from basewise.genome.haplotypes import Haplotype
from basewise.genome.variants import haplotype_edits
from basewise.tasks.trait import find_ploidy, read_samples, variant_plans

WAYS = ("1pIu", "2pIu", "A")
HEADER = """##fileformat=VCFv4.2
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##contig=<ID=c>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb
"""


def _bases(rng: random.Random, low: int, high: int) -> str:
    return "".join(rng.choice("ACGT") for _ in range(rng.randint(low, high)))


def _record(rng: random.Random, genome: str, position: int) -> str | None:
    """Return a VCF line at 1-based `position`: SNVs, indels, complex and symbolic alleles, several of them, odd genotypes."""
    reference = genome[position - 1 : position - 1 + rng.choice([1, 1, 1, 2, 3, 5])].upper()
    if rng.random() < 0.1:
        reference = reference.lower()
    alternatives, info = [], "."
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice(["snv", "ins", "del", "complex", "mnp", "<DEL>", "*", "<*>"] if rng.random() < 0.4 else ["snv", "ins", "del"])
        made = {
            "snv": rng.choice("ACGT") + reference[1:],
            "ins": reference[:1] + _bases(rng, 1, 4) + reference[1:],
            "del": reference[: rng.randint(1, len(reference))],
            "complex": _bases(rng, 1, 5),
            "mnp": _bases(rng, len(reference), len(reference)),
        }.get(kind, kind)
        if made[0] == "<":  # bcftools takes END for every allele of the record, so such alleles stand alone
            alternatives, reference = [made], reference[:1]
            info = f"END={min(len(genome), position + rng.randint(1, 9))}"
            break
        if made.upper() != reference.upper() and made not in alternatives:
            alternatives.append(made)
    if not alternatives:
        return None

    def allele() -> str:
        return "." if rng.random() < 0.05 else str(rng.randint(0, len(alternatives)))

    shapes = ("{}|{}", "{}|{}", "{}/{}", "{}")
    calls = [rng.choice(shapes).format(allele(), allele()) for _ in range(2)]
    return "\t".join(["c", str(position), ".", reference, ",".join(alternatives), ".", ".", info, "GT", *calls])


def _case(folder: Path, seed: int) -> tuple[Path, Path]:
    rng = random.Random(seed)
    genome = _bases(rng, 70, 200)
    if seed % 2:
        start = rng.randint(0, len(genome))
        genome = genome[:start] + genome[start : start + 60].lower() + genome[start + 60 :]
    fasta, vcf = folder / f"{seed}.fa", folder / f"{seed}.vcf"
    fasta.write_text(">c\n" + "\n".join(genome[i : i + 60] for i in range(0, len(genome), 60)) + "\n")
    position, lines = rng.randint(1, 3), []
    while position < len(genome) - 8:
        line = _record(rng, genome, position)
        lines += [line + "\n"] if line else []
        position += rng.choice([0, 1, 1, 2, 3, 10])
    vcf.write_text(HEADER + "".join(lines))
    pysam.tabix_compress(str(vcf), f"{vcf}.gz", force=True)
    pysam.tabix_index(f"{vcf}.gz", preset="vcf", force=True)
    return fasta, Path(f"{vcf}.gz")


def _oracle(fasta: Path, vcf: Path, sample: str, way: str) -> Iterator[str]:
    for record in "".join(pysam.bcftools.consensus("-f", str(fasta), "-s", sample, "-H", way, str(vcf))).split(">")[1:]:
        yield "".join(record.splitlines()[1:])


@pytest.mark.parametrize("seed", range(60))
def test_generated_variants(tmp_path: Path, seed: int) -> None:
    fasta, vcf = _case(tmp_path, seed)
    with open_genome(fasta) as genome:
        for sample in "ab":
            for way in WAYS:
                (expected,) = _oracle(fasta, vcf, sample, way)
                edits = haplotype_edits(vcf, genome, [sample], [way]).get("c", {}).get(sample)
                haplotype = Haplotype(lambda a, b: genome.fetch("c", a, b), genome.contigs["c"], edits[0] if edits else None)
                assert haplotype.sequence().tobytes().decode() == expected, (sample, way)
                middle = haplotype.length // 2
                for start in range(0, haplotype.length, 7):
                    for end in (min(start + 5, haplotype.length), max(start, middle)):
                        assert haplotype.fetch(start, end).tobytes().decode() == expected[start:end]


def _copies_of_x(genome: Genome, vcf: Path, table: Path, contig: str) -> dict[str, list[str]]:
    """Return the X copies of every sample of known sex, as a cohort has them."""
    kept = read_samples(table, "sex", needs_sex=True, skip_unknown=True)
    ploidy = find_ploidy(genome, contig, None, (), (f"{contig}:4931044-5260560",))
    plans = variant_plans(genome, [vcf], kept, ploidy, contigs=[contig])
    bases = genome.fetch(contig, 0, genome.contigs[contig])
    found = {}
    for sample, plan in zip(kept.samples["sample"].tolist(), plans, strict=True):
        found[sample] = []
        for copy in plan.copies:
            haplotype = Haplotype(lambda a, b: bases[a:b], len(bases), copy.edits)
            start = haplotype.position_of(copy.start) if copy.start else 0
            end = haplotype.position_of(copy.end) if copy.end < len(bases) else haplotype.length
            found[sample].append(haplotype.fetch(start, end).tobytes().decode())
    return found


@pytest.mark.data
def test_every_haplotype_of_the_1000_genomes_x(shared: Path, tmp_path: Path) -> None:
    contig = "chrX_150000001_155270560"
    vcf = shared / "data" / "variants" / "1000g_26samples_chrX.phased.vcf.gz"
    with open_genome(shared / "data" / "genome" / "hg19_pieces.fa.gz") as genome:
        length = genome.contigs[contig]
        bases = genome.fetch(contig, 0, length)
        piece = tmp_path / "x.fa"
        piece.write_bytes(b">" + contig.encode() + b"\n" + b"\n".join(bases[i : i + 60].tobytes() for i in range(0, length, 60)) + b"\n")
        samples = list(pysam.VariantFile(str(vcf)).header.samples)
        assert len(samples) == 26
        copies = _copies_of_x(genome, vcf, shared / "data" / "variants" / "samples.tsv", contig)
        for way in WAYS:
            edits = haplotype_edits(vcf, genome, samples, [way])[contig]
            assert sum(len(edits[sample][0]) for sample in samples) > 1000
            for sample in samples:
                (expected,) = _oracle(piece, vcf, sample, way)
                mine = Haplotype(lambda a, b: bases[a:b], length, edits[sample][0]).sequence()
                assert mine.tobytes() == expected.encode(), (sample, way)
                if way != "A" and sample in copies:  # what chunks of an individual are drawn from; a male's second X is PAR2
                    own = copies[sample][WAYS.index(way)]
                    part = len(own) < 10**6  # before the 10 kb of N behind PAR2
                    assert own == (expected[-10_000 - len(own) : -10_000] if part else expected)
                    assert not part or (way == "2pIu" and abs(len(own) - 329_517) < 10)
        assert len(copies) == 25
        assert sum(len(second) < 10**6 for _, second in copies.values()) == 11
