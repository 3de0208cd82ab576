"""Who has which copies, and what samples tables and genotypes may not say."""

from pathlib import Path

import numpy as np
import pytest

from basewise.datasets.cohort import join_cohorts, open_cohort, write_cohort, write_fasta
from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.tasks.trait import assembly_plans, find_ploidy, read_plans, read_samples, variant_plans
from basewise.testing.genomes import write_fasta as write_genome

GENOME = {"chr1": b"ACGTACGTAC" * 10, "chrX": b"GGGTTTACGT" * 10, "chrY": b"CCCAATACGT" * 5, "chrM": b"ACGGG" * 4}
HEADER = '##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n' + "".join(
    f"##contig=<ID={name}>\n" for name in GENOME
)


def _vcf(folder: Path, lines: list[str], samples: str = "him her") -> Path:
    path = folder / "v.vcf"
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples.split()])
    rows = ["\t".join([c, p, ".", r, a, ".", ".", ".", "GT", *calls]) for c, p, r, a, *calls in (line.split() for line in lines)]
    path.write_text(HEADER + columns + "\n" + "".join(row + "\n" for row in rows))
    return path


def _samples(folder: Path, text: str = "sample sex\nhim male\nher female\n") -> Path:
    path = folder / "samples.tsv"
    path.write_text(text.replace(" ", "\t"))
    return path


def _cohort(folder: Path, lines: list[str], par: tuple[str, ...] = (), **settings):
    write_genome(folder / "g.fa", GENOME)
    with open_genome(folder / "g.fa") as genome:
        table = read_samples(_samples(folder), "sex", needs_sex=True)
        plans = variant_plans(genome, [_vcf(folder, lines)], table, find_ploidy(genome, None, None, (), par), **settings)
    return write_cohort(folder / "c", table.samples, plans, {"labels": list(table.labels), "task": "sex"}, force=True)


def _copies(cohort, row: int) -> dict[tuple[str, int], str]:
    genome = cohort.genome(row)
    found = {}
    for i, copy in enumerate(genome.copies):
        found[copy.contig, copy.number] = found.get((copy.contig, copy.number), "") + genome.read(i, 0, 10**6).tobytes().decode()
    return found


def test_copies_of_him_and_her(tmp_path):
    cohort = _cohort(
        tmp_path,
        ["chr1 2 C T 1|0 0|1", "chrX 1 G A 1 0|1", "chrX 95 T C 0|1 1|0", "chrY 4 A AG 1 .", "chrM 1 A T 1 0"],
        par=("chrX:91-100", "chrY:41-50"),
    )
    him, her = _copies(cohort, 0), _copies(cohort, 1)
    text = {name: bases.decode() for name, bases in GENOME.items()}
    assert him["chr1", 0] == "AT" + text["chr1"][2:]
    assert him["chr1", 1] == text["chr1"]
    assert him["chrX", 0] == "A" + text["chrX"][1:]
    assert him["chrX", 1] == "GGGTCTACGT"  # PAR only
    assert him["chrY", 0] == "CCCAG" + text["chrY"][4:40]  # without PAR, an insertion before it
    assert him["chrM", 0] == "T" + text["chrM"][1:]
    assert ("chrM", 1) not in him
    assert set(her) == {("chr1", 0), ("chr1", 1), ("chrX", 0), ("chrX", 1), ("chrM", 0)}
    assert her["chrX", 0] == text["chrX"][:94] + "C" + text["chrX"][95:]
    assert her["chrX", 1] == "A" + text["chrX"][1:]
    assert cohort.genome(0).lengths.sum() == sum(map(len, him.values()))


def test_inbred_lines_have_one_copy(tmp_path):
    cohort = _cohort(tmp_path, ["chr1 2 C T 1/1 0/1", "chrX 1 G A 1/1 0/0"], inbred=True)
    him, her = _copies(cohort, 0), _copies(cohort, 1)
    assert him["chr1", 0] == her["chr1", 0] == "AT" + GENOME["chr1"][2:].decode()
    assert set(him) == {("chr1", 0), ("chrX", 0), ("chrY", 0), ("chrM", 0)}
    assert ("chrY", 0) not in her


@pytest.mark.parametrize("call", ["1", "1/.", ".|1", "1/1", "1|1"])
def test_one_x_however_it_is_coded(tmp_path, call):
    cohort = _cohort(tmp_path, [f"chrX 1 G A {call} 0|0"])
    expected = GENOME["chrX"].decode() if call == ".|1" else "A" + GENOME["chrX"][1:].decode()
    assert _copies(cohort, 0)["chrX", 0] == expected
    assert ("chrX", 1) not in _copies(cohort, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chrX 1 G A 0|1 0|0", r"'him' is male but has two different alleles at chrX:1 .* give its borders with --par chrX:START-END"),
        ("chrX 1 G A 1 1", "'her' is female but has one allele on X"),
        ("chrX 1 T A 1 0|1", "REF is 'T', but the genome has 'G' there"),
    ],
)
def test_genotypes_against_sex_and_genome(tmp_path, line, message):
    with pytest.raises(BasewiseError, match=message):
        _cohort(tmp_path, [line])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample sex\nhim male\nher unknown\n", "'her' has no known sex"),
        ("sample sex\nhim male\nher femal\n", "has sex 'femal', expected male or female"),
        ("sample sex\nhim male\nhim female\n", "lists sample 'him' twice"),
        ("sample sex\nhim male\nthem female\n", "'them' is not in the VCF"),
        ("sample sex\nhim male\nher male\n", "one class only"),
        ("sample gender\nhim male\nher male\n", "no column 'sex'"),
        ("sample sex split\nhim male trian\nher female test\n", "split is 'trian'.* Did you mean 'train'"),
    ],
)
def test_samples_tables(tmp_path, text, message):
    with pytest.raises(BasewiseError, match=message) as caught:
        read_samples(_samples(tmp_path, text), "sex", needs_sex=True, known=["him", "her"])
    assert "\n" not in str(caught.value)


def test_unknown_samples_are_left_out_on_request_and_counted(tmp_path):
    text = "sample sex split\nhim male train\nher female train\nx unknown train\ny male train\n"
    table = read_samples(_samples(tmp_path, text), "sex", needs_sex=True, known=["him", "her", "x"], skip_unknown=True)
    assert table.samples["sample"].tolist() == ["him", "her"]
    assert table.samples["label"].tolist() == [0, 1]
    assert table.dropped == {"not in the VCF": 1, "sex not known": 1}


def test_splits_are_stratified(tmp_path):
    text = "sample coat\n" + "".join(f"s{i} {'black' if i % 2 else 'white'}\n" for i in range(20))
    table = read_samples(_samples(tmp_path, text), "coat")
    assert table.labels == ("black", "white")
    counts = table.samples.groupby(["split", "label"]).size()
    assert counts.tolist() == [2, 2, 6, 6, 2, 2]


def test_assemblies_reads_join_and_fasta(tmp_path):
    write_genome(tmp_path / "a.fa", {"c1": b"ACGT" * 10, "c2": b"GG"})
    write_genome(tmp_path / "b.fa", {"k": b"TTTT" * 10})
    (tmp_path / "r.fq").write_text("@r1\nACGTA\n+\nIIIII\n@r2\nGG\n+\nII\n")
    assemblies = read_samples(_samples(tmp_path, "sample coat fasta\na w a.fa\nb k b.fa\n"), "coat", need=("fasta",))
    one = write_cohort(tmp_path / "one", assemblies.samples, assembly_plans(assemblies, tmp_path), {"labels": ["k", "w"]})
    assert one.contigs == ["c1", "c2", "k"]
    reads = read_samples(_samples(tmp_path, "sample coat fastq\nc w r.fq\nd k r.fq,r.fq\n"), "coat", need=("fastq",))
    plans, seen = read_plans(reads, tmp_path, 3, 0)
    assert seen == {"c": {"reads": 2, "kept": 2}, "d": {"reads": 4, "kept": 3}}
    two = write_cohort(tmp_path / "two", reads.samples, plans, {"labels": ["k", "w"]})
    both = join_cohorts([one, two], tmp_path / "both")
    assert both.samples["sample"].tolist() == ["a", "b", "c", "d"]
    assert open_cohort(tmp_path / "both").genome(2).read(0, 1, 3).tobytes() == b"CGT"
    assert not both.genome(2).mapped
    write_fasta(both.genome(0), tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == b">c1_1\n" + b"ACGT" * 10 + b"\n>c2_1\nGG\n"
    with pytest.raises(BasewiseError, match="comes twice"):
        join_cohorts([one, one], tmp_path / "again")
    with pytest.raises(BasewiseError, match="labels must agree"):
        join_cohorts([one, write_cohort(tmp_path / "x", reads.samples, plans, {"labels": ["w", "k"]})], tmp_path / "again2")


def test_a_cohort_half_written_is_none(tmp_path):
    cohort = _cohort(tmp_path, ["chr1 2 C T 1|0 0|1"])
    (cohort.path / "cohort.json").unlink()
    with pytest.raises(BasewiseError, match="not a cohort, or its making was interrupted"):
        open_cohort(cohort.path)


def test_male_share_of_y(planted):
    cohort = planted(share=0.05)
    genome = cohort.genome(0)
    assert cohort.samples["sex"].iloc[0] == "male"
    assert np.isclose(genome.lengths[genome.contigs == "chrY"].sum() / genome.lengths.sum(), 0.05, atol=0.001)
