"""Genomes on disk: what is read equals what was written, and what cannot be right is refused by name."""

import gzip
import hashlib
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pysam
import pytest

from basewise.errors import BasewiseError
from basewise.genome.fasta import Genome, check_contigs, open_genome
from basewise.genome.fasta_index import bgzf_blocks, gzi_bytes
from basewise.testing.genomes import bgzip_fasta, random_genome, write_fasta

CONTIGS = {"chr1": 1003, "empty": 0, "sp|P1|x": 60, "short": 7, "chr2": 120, "last": 61}


@pytest.fixture(params=["plain", "crlf", "bgzip", "bgzip_crlf"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    contigs = random_genome(3, CONTIGS, n_runs=2, soft_mask=0.3, iupac=0.02)
    described = {("chr1 a b c" if name == "chr1" else name): bases for name, bases in contigs.items()}
    path = write_fasta(tmp_path / "g.fa", described, crlf="crlf" in request.param)
    return (bgzip_fasta(path) if "bgzip" in request.param else path), contigs


def test_every_stretch_equals_what_was_written(written):
    path, contigs = written
    with open_genome(path) as genome:
        assert dict(genome.contigs) == {name: len(bases) for name, bases in contigs.items()}
        assert list(genome.contigs) == list(contigs)
        for name, bases in contigs.items():
            assert genome.fetch(name, 0, len(bases)).tobytes() == bases
            for start in [0, 1, 59, 60, 61, 119, 120]:
                for end in [start, start + 1, 60, 61, 120, 121, 180, len(bases)]:
                    if start <= end <= len(bases):
                        found = genome.fetch(name, start, end)
                        assert found.dtype == np.uint8
                        assert found.tobytes() == bases[start:end]


def test_index_made_by_us_equals_samtools(written):
    path, _ = written
    with open_genome(path) as genome:
        found = Path(f"{path}.fai").read_text()
        full = genome.fetch("chr1", 0, 1003)
    Path(f"{path}.fai").unlink()
    pysam.faidx(str(path))
    theirs = [line.split("\t") for line in Path(f"{path}.fai").read_text().splitlines()]
    ours = [line.split("\t") for line in found.splitlines()]
    assert [line for line in ours if line[1] != "0"] == [line for line in theirs if line[1] != "0"]
    assert [line[0] for line in ours] == list(CONTIGS)  # samtools drops the empty contig, we keep its place
    with open_genome(path) as genome:  # an index by samtools is accepted
        assert np.array_equal(genome.fetch("chr1", 0, 1003), full)


def test_window_is_n_beyond_the_edges(written):
    path, contigs = written
    bases = contigs["short"]
    with open_genome(path) as genome:
        assert genome.window("short", -3, 10).tobytes() == b"NNN" + bases + b"NNN"
        assert genome.window("short", 2, 5).tobytes() == bases[2:5]
        assert genome.window("short", -9, -4).tobytes() == b"NNNNN"
        assert genome.window("short", 50, 53).tobytes() == b"NNN"
        assert genome.window("empty", -1, 2).tobytes() == b"NNN"
        assert genome.window("short", 3, 3).tobytes() == b""
        with pytest.raises(BasewiseError, match="ends before it starts"):
            genome.window("short", 3, 2)


@pytest.mark.parametrize(("size", "overlap"), [(100, 0), (100, 30), (61, 60), (1003, 5), (5000, 100), (1, 0)])
def test_blocks_cover_the_contig_and_share_the_overlap(written, size, overlap):
    path, contigs = written
    with open_genome(path) as genome:
        for name, bases in contigs.items():
            blocks = [(start, block.tobytes()) for start, block in genome.blocks(name, size, overlap)]
            starts = [start for start, _ in blocks]
            assert starts == [i * (size - overlap) for i in range(len(blocks))]
            assert all(block == bases[start : start + size] for start, block in blocks)
            assert bool(blocks) == bool(bases)
            if blocks:
                assert starts[-1] + len(blocks[-1][1]) == len(bases)
                assert all(start + size < len(bases) for start in starts[:-1])
        with pytest.raises(BasewiseError, match="overlap < size"):
            list(genome.blocks("chr1", 10, 10))


def test_fetch_outside_is_refused(written):
    path, _ = written
    with open_genome(path) as genome:
        for start, end in [(-1, 3), (0, 1004), (5, 4)]:
            with pytest.raises(BasewiseError, match="expected 0 <= start <= end <= 1003"):
                genome.fetch("chr1", start, end)
        with pytest.raises(BasewiseError, match=r"'1'.*calls '1' 'chr1'"):
            genome.fetch("1", 0, 1)


def test_last_line_without_newline(tmp_path):
    for crlf in (False, True):
        for length in (60, 59, 120, 7):
            bases = random_genome(1, {"a": length})
            path = write_fasta(tmp_path / f"{crlf}{length}.fa", {"z": b"ACGT" * 30, **bases}, crlf=crlf, last_newline=False)
            for genome_path in (path, bgzip_fasta(path)):
                with open_genome(genome_path) as genome:
                    assert genome.fetch("a", 0, length).tobytes() == bases["a"]
                    assert genome.contigs["z"] == 120


def test_one_long_line_and_blank_lines_at_the_end(tmp_path):
    bases = random_genome(2, {"a": 5000})["a"]
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\n" + bases + b"\n\n\n>b\nAC\n>c\n\n")
    with open_genome(path) as genome:
        assert genome.fetch("a", 17, 4801).tobytes() == bases[17:4801]
        assert dict(genome.contigs) == {"a": 5000, "b": 2, "c": 0}
    with open_genome(path) as genome:  # now from the index on disk
        assert genome.fetch("b", 0, 2).tobytes() == b"AC"


def test_chunk_borders_do_not_matter(tmp_path, monkeypatch):
    contigs = random_genome(5, {"a": 333, "b": 0, "c": 120, "d": 64})
    path = write_fasta(tmp_path / "g.fa", contigs, line=30, crlf=True, last_newline=False)
    for chunk in (1, 2, 7, 31, 32, 33, 100):
        monkeypatch.setattr("basewise.genome.fasta_index.CHUNK", chunk)
        Path(f"{path}.fai").unlink(missing_ok=True)
        with open_genome(path) as genome:
            assert {name: genome.fetch(name, 0, length).tobytes() for name, length in genome.contigs.items()} == contigs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty file"),
        (b"ACGT\n", "not a FASTA.*starts with 'ACGT'"),
        (b"@r1\nACGT\n+\nIIII\n", "not a FASTA"),
        (b"BAM\x01", "not a FASTA"),
        (b">a\nACGT\n>a x\nAC\n", "'a' twice"),
        (b">a\nACGT\nAC\nACGT\n", "line 3 of contig 'a'"),
        (b">a\nACGT\nACGTA\n", "line 3 of contig 'a'"),
        (b">b\nAC\n>a\nACGT\n\nACGT\n", "line 5 of contig 'a'"),
        (b">a\n\nACGT\n", "line 2 of contig 'a'"),
        (b">a\nACGT\r\nACGT\n", "line 3 of contig 'a'"),
        (b">a\nACG\r\nACGT\nAC\r\n", "line 3 of contig 'a'"),
        (b">a\rACGT\r", "lone CR"),
        (b"> a\nACGT\n", "line 1 has no contig name"),
        (b">a\nAC\n>\nACGT\n", "line 3 has no contig name"),
    ],
)
def test_bad_text_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.fa"
    path.write_bytes(text)
    with pytest.raises(BasewiseError, match=message):
        open_genome(path)
    assert [child.name for child in tmp_path.iterdir()] == ["bad.fa"]


def test_uneven_line_is_named_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("basewise.genome.fasta_index.CHUNK", 16)
    path = tmp_path / "bad.fa"
    path.write_bytes(b">a\n" + b"ACGT\n" * 50 + b"AC\n" + b"ACGT\n" * 20)
    with pytest.raises(BasewiseError, match="line 52 of contig 'a'"):
        open_genome(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BasewiseError, match="does not exist"):
        open_genome(tmp_path / "none.fa")
    with pytest.raises(BasewiseError, match="cannot read"):
        open_genome(tmp_path)


def test_gzip_that_is_not_bgzip_is_explained(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(b">a\nACGT\n"))
    with pytest.raises(BasewiseError, match=r"not bgzip.*gunzip -c g.fa.gz \| bgzip"):
        open_genome(path)


def test_truncated_bgzip(tmp_path):
    packed = bgzip_fasta(write_fasta(tmp_path / "g.fa", random_genome(1, {"a": 300_000})))
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-28])
    with pytest.raises(BasewiseError, match="truncated bgzip"):
        open_genome(packed)
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BasewiseError, match="truncated bgzip"):
        open_genome(packed)
    packed.write_bytes(whole[:1000] + whole[1200:])  # the end-of-file block is there, the middle is not
    with pytest.raises(BasewiseError, match=r"damaged bgzip|truncated bgzip"):
        open_genome(packed)
    packed.write_bytes(whole[:2000] + bytes(200) + whole[2200:])  # block chain intact, content damaged
    with pytest.raises(BasewiseError, match="damaged"):
        open_genome(packed)


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_or_changed_fasta_does_not_fit_its_index(tmp_path, packed):
    contigs = random_genome(1, {"a": 500, "b": 700})

    def write(contigs: dict[str, bytes]) -> Path:
        path = write_fasta(tmp_path / "g.fa", contigs)
        return bgzip_fasta(path) if packed else path

    path = write(contigs)
    open_genome(path).close()
    for changed in ({"a": contigs["a"], "b": contigs["b"][:400]}, {"a": contigs["a"]}, {**contigs, "c": contigs["b"] * 200}):
        write(changed)
        with pytest.raises(BasewiseError, match=r"does not fit.*delete"):
            open_genome(path)
    Path(f"{path}.fai").unlink()
    Path(f"{path}.gzi").unlink(missing_ok=True)
    with open_genome(path) as genome:
        assert genome.contigs["c"] == 140_000


def test_renamed_contig_does_not_fit_its_index(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": b"ACGT", "b": b"AC"})
    open_genome(path).close()
    path.write_bytes(path.read_bytes().replace(b">b", b">c"))
    with pytest.raises(BasewiseError, match="does not fit"):
        open_genome(path)


def test_age_of_a_fitting_index_does_not_matter(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": b"ACGT" * 50})
    open_genome(path).close()
    os.utime(f"{path}.fai", (time.time() - 9000,) * 2)
    with open_genome(path) as genome:
        assert genome.contigs["a"] == 200


def test_damaged_index_is_named(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": b"ACGT"})
    Path(f"{path}.fai").write_text("a\t4\n")
    with pytest.raises(BasewiseError, match=r"g\.fa\.fai is damaged"):
        open_genome(path)


def test_damaged_gzi_is_refused_and_a_missing_one_made(tmp_path):
    packed = bgzip_fasta(write_fasta(tmp_path / "g.fa", random_genome(1, {"a": 300_000})))
    open_genome(packed).close()
    gzi = Path(f"{packed}.gzi")
    good = gzi.read_bytes()
    gzi.write_bytes(good[:-3])
    with pytest.raises(BasewiseError, match="gzi does not fit"):
        open_genome(packed)
    gzi.unlink()
    open_genome(packed).close()
    assert gzi.read_bytes() == good


def test_gzi_equals_samtools(tmp_path):
    packed = bgzip_fasta(write_fasta(tmp_path / "g.fa", random_genome(1, {"a": 300_000})))
    pysam.faidx(str(packed))
    assert gzi_bytes(bgzf_blocks(packed)) == Path(f"{packed}.gzi").read_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_folder_that_cannot_be_written(tmp_path, monkeypatch, packed):
    """Through /proc the file's folder cannot be written to, not even by root; the genome opens, its index lies elsewhere."""
    contigs = random_genome(1, {"a": 300_000, "b": 0})
    path = write_fasta(tmp_path / "g.fa", contigs)
    path = bgzip_fasta(path) if packed else path
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with path.open("rb") as stream, open_genome(f"/proc/self/fd/{stream.fileno()}") as genome:
        assert genome.fetch("a", 70_000, 299_999).tobytes() == contigs["a"][70_000:299_999]
        assert bool(list(scratch.iterdir())) == packed
    assert not list(scratch.iterdir())
    assert not list(tmp_path.glob("*.fai"))


def _digest(genome: Genome) -> str:
    return hashlib.sha256(genome.fetch("chr1", 0, 1003).tobytes()).hexdigest()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(written, method):
    path, contigs = written
    expected = hashlib.sha256(contigs["chr1"]).hexdigest()
    with open_genome(path) as genome:
        assert _digest(genome) == expected
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(_digest, [genome] * 6) == [expected] * 6


def test_forked_child_that_inherits_an_open_genome(written):
    path, contigs = written
    with open_genome(path) as genome:
        genome.fetch("chr1", 0, 1)
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                good = all(genome.fetch("chr1", i, i + 500).tobytes() == contigs["chr1"][i : i + 500] for i in range(0, 500, 7))
                os._exit(0 if good else 1)
            pids.append(pid)
        for i in range(0, 500, 7):
            assert genome.fetch("chr1", i, i + 500).tobytes() == contigs["chr1"][i : i + 500]
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]


def test_threads_read_the_same(written):
    path, contigs = written
    for _ in range(20):  # the first fetches race to open the file
        with open_genome(path) as genome, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i, genome=genome: genome.fetch("chr1", i, i + 300).tobytes(), range(40)))
        assert found == [contigs["chr1"][i : i + 300] for i in range(40)]


def test_pickle_survives_a_temporary_index_that_is_gone(tmp_path, monkeypatch):
    packed = bgzip_fasta(write_fasta(tmp_path / "g.fa", {"a": b"ACGT" * 100}))
    with packed.open("rb") as stream:
        with open_genome(f"/proc/self/fd/{stream.fileno()}") as genome:
            frozen = pickle.dumps(genome)
        with pickle.loads(frozen) as again:
            assert again.fetch("a", 2, 6).tobytes() == b"GTAC"


def test_name_path_and_checksum(written):
    path, _ = written
    with open_genome(path) as genome:
        assert genome.name == "g"
        assert genome.path == path
        assert genome.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert pickle.loads(pickle.dumps(genome)).sha256() == genome.sha256()


def test_file_moved_while_open(tmp_path):
    packed = bgzip_fasta(write_fasta(tmp_path / "g.fa", {"a": b"ACGT" * 100}))
    with open_genome(packed) as genome:
        shutil.move(packed, tmp_path / "elsewhere")
        with pytest.raises(BasewiseError, match="cannot read genome"):
            genome.fetch("a", 0, 4)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("1", "'1' 'chr1'"),
        ("NC_000001.11", "'NC_000001.11' 'chr1'"),
        ("MT", "'MT' 'chrM'"),
        ("NC_000023.10", "'NC_000023.10' 'chrX'"),
        ("CHR1", "'CHR1' 'chr1'"),
        ("scaffold_13", "Did you mean 'scaffold_12'"),
        ("zzz", "It has 'chr1', 'chrX', 'chrM' ..."),
    ],
)
def test_check_contigs_hints(tmp_path, name, hint):
    path = write_fasta(tmp_path / "g.fa", dict.fromkeys(["chr1", "chrX", "chrM", "scaffold_12"], b"A"))
    with open_genome(path) as genome:
        check_contigs(["chr1", "chrM", "chr1"], genome, "x.bed")
        with pytest.raises(BasewiseError, match=f"x.bed names contig '{name}'") as caught:
            check_contigs(["chr1", name, name], genome, "x.bed")
        assert hint in str(caught.value)


def test_check_contigs_counts_strangers_and_knows_the_other_direction(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"1": b"A", "MT": b"A"})
    with open_genome(path) as genome, pytest.raises(BasewiseError) as caught:
        check_contigs(["chr1", "chrM", "chr2", "chr3"], genome, "x.bed")
    assert "'chr1', 'chrM', 'chr2' and 1 more" in str(caught.value)
    assert "'chr1' '1', 'chrM' 'MT'" in str(caught.value)


def test_genome_rooms_import_without_torch():
    code = "import sys, basewise.genome.fasta; assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.data
def test_real_genome_equals_pysam(shared):
    path = shared / "data/genome/hg19_pieces.fa.gz"
    with open_genome(path) as genome, pysam.FastaFile(str(path)) as theirs:
        assert list(genome.contigs) == list(theirs.references)
        chrom = "chr19_50000001_59128983"
        assert genome.fetch(chrom, 1_000_003, 1_200_017).tobytes().decode() == theirs.fetch(chrom, 1_000_003, 1_200_017)
