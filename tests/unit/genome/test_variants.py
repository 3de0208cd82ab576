"""What a VCF may not say, and where haplotype bases lie on the reference."""

from pathlib import Path

import numpy as np
import pytest

from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.genome.haplotypes import Edits, Haplotype
from basewise.genome.reads import keep_reads, read_fastq
from basewise.genome.variants import haplotype_edits, parse_genotype

GENOME = b"ACGTACGTACGTACGTACGT"
HEADER = '##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n##contig=<ID=c>\n##contig=<ID=d>\n'
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\n"


def _line(position: int, reference: str, alternative: str, genotype: str, contig: str = "c") -> str:
    return f"{contig}\t{position}\t.\t{reference}\t{alternative}\t.\t.\t.\tGT\t{genotype}\n"


def _edits(folder: Path, *lines: str, samples=("a",), **settings):
    (folder / "g.fa").write_bytes(b">c\n" + GENOME + b"\n")
    (folder / "v.vcf").write_text(HEADER + COLUMNS + "".join(lines))
    with open_genome(folder / "g.fa") as genome:
        return haplotype_edits(folder / "v.vcf", genome, samples, **settings)


def _sequence(edits: Edits) -> str:
    return Haplotype(lambda a, b: np.frombuffer(GENOME, np.uint8)[a:b], len(GENOME), edits).sequence().tobytes().decode()


def test_two_copies(tmp_path):
    first, second = _edits(tmp_path, _line(2, "C", "T", "1|0"), _line(4, "T", "TGG", "0|1"), _line(6, "CGT", "C", "1|1"))["c"]["a"]
    assert _sequence(first) == "ATGTACACGTACGTACGT"
    assert _sequence(second) == "ACGTGGACACGTACGTACGT"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([_line(2, "G", "T", "0|1")], "c:2: REF is 'G', but the genome has 'C' there"),
        ([_line(2, "G", "T", "0|0")], "REF is 'G'"),
        ([_line(19, "GTA", "G", "0|1")], "REF is 'GTA', but the genome has 'GT' there"),
        ([_line(2, "C", "<INS:ME>", "0|1")], "'<INS:ME>' has no sequence; leave such records out with --skip-symbolic"),
        ([_line(2, "C", "C[c:9[", "0|1")], "has no sequence"),
        ([_line(2, "C", "T", "0/1/1")], "has 3 alleles"),
        ([_line(5, "A", "T", "0|1"), _line(2, "C", "T", "0|1")], "not sorted: c:2 comes after c:5"),
        ([_line(2, "C", "T", "0|1", "d")], "names contig 'd'"),
        ([_line(2, "C", "T", "0|3")], "names allele 3, but the record has 1 alternatives"),
    ],
)
def test_refused(tmp_path, lines, message):
    with pytest.raises(BasewiseError, match=message.replace("[", r"\[").replace("|", r"\|")):
        _edits(tmp_path, *lines)


def test_unknown_sample(tmp_path):
    with pytest.raises(BasewiseError, match="has no sample 'HG1'"):
        _edits(tmp_path, _line(2, "C", "T", "0|1"), samples=("HG1",))


def test_symbolic_alleles_are_skipped_on_request(tmp_path):
    first, second = _edits(tmp_path, _line(2, "C", "<INS:ME>", "0|1"), _line(4, "T", "A", "1|1"), skip_symbolic=True)["c"]["a"]
    assert _sequence(first) == _sequence(second) == "ACGA" + GENOME[4:].decode()


@pytest.mark.parametrize(
    ("text", "alleles", "phased"), [("0|1", (0, 1), True), ("1", (1,), True), ("1/.", (1, None), False), (".", (None,), True)]
)
def test_genotypes(text, alleles, phased):
    assert parse_genotype(text, "x") == (alleles, phased)


def test_positions_map_back():
    edits = Edits.of([(2, 3, b"T"), (4, 4, b"GG"), (6, 9, b"")])
    haplotype = Haplotype(lambda a, b: np.arange(a, b).astype(np.uint8), 12, edits)
    assert haplotype.length == 11
    assert haplotype.reference_positions(np.arange(11)).tolist() == [0, 1, 2, 3, 4, 4, 4, 5, 9, 10, 11]
    assert [haplotype.position_of(r) for r in (0, 2, 3, 5, 9, 11)] == [0, 2, 3, 7, 8, 10]
    with pytest.raises(BasewiseError, match="not inside a haplotype of 11"):
        haplotype.fetch(3, 12)


def test_fastq(tmp_path):
    path = tmp_path / "r.fq"
    path.write_text("@r1\nACGT\n+\nIIII\n@r2\nGG\n+r2\nII\n\n")
    assert list(read_fastq(path)) == [b"ACGT", b"GG"]
    bases, offsets, seen = keep_reads([path, path], 3, 0)
    assert (seen, len(offsets), len(bases)) == (4, 4, offsets[-1])
    path.write_text("@r1\nACGT\n+\nIIII\n@r2\nGGA\n+\nI")
    with pytest.raises(BasewiseError, match="read 2: 3 bases but 1 qualities; the record is truncated"):
        list(read_fastq(path))
    for cut in ("@r2", "@r2\n", "@r2\nGGA", "@r2\nGGA\n"):
        path.write_text("@r1\nACGT\n+\nIIII\n" + cut)
        with pytest.raises(BasewiseError, match=r"read 2: the file ends before its line \+; the record is truncated"):
            list(read_fastq(path))
    path.write_text("@r1\nACGT\n+\nIIII\n@r2\n\n+\n\n")  # a read of no bases is whole
    assert list(read_fastq(path)) == [b"ACGT"]
    path.write_text(">r1\nACGT\n>r2\nACG\n")
    with pytest.raises(BasewiseError, match="expected four lines"):
        list(read_fastq(path))
