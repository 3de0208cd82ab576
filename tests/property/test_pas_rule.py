"""The candidate rule against a brute force written from the paper's sentence, which shares nothing with the package."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, reverse_complement
from basewise.tasks.pas_rule import HEXAMERS, candidates_of_block, describe, find_candidates, iter_candidates

PAPER = (
    """AATAAA, ATTAAA, AGTAAA, CATAAA, TATAAA, GATAAA, ACTAAA, AATACA, AATATA, AAGAAA, AATAGA, AATGAA, TTTAAA, AAAATA, TATATA, AGATAA,
ATTACA, and AGAATA""".replace("and ", "")
    .replace("\n", "")
    .replace(" ", "")
    .split(",")
)
PARTNER = dict(zip("ACGTN", "TGCAN", strict=True))


def brute_force(text: str) -> list[tuple[int, int, int, int]]:
    """Slide a 101-bp window over both strands, as the paper says; return sorted (position, strand, hexamer index, offset)."""
    plain = "".join(base if base in "ACGT" else "N" for base in text.upper().replace("U", "T"))
    found = []
    for strand, sequence in ((1, plain), (-1, "".join(PARTNER[base] for base in reversed(plain)))):
        for start in range(len(sequence) - 101 + 1):
            window = sequence[start : start + 101]
            if window[50] != "A" or window[49] not in "CG":  # the 51st position and the nucleotide immediately preceding it
                continue
            hits = [(PAPER.index(window[50 - d : 56 - d]), abs(d - 21), d) for d in range(10, 36) if window[50 - d : 56 - d] in PAPER]
            if hits:
                hexamer, _, offset = min(hits)
                position = start + 50
                found.append((position if strand == 1 else len(plain) - 1 - position, strand, hexamer, offset))
    return sorted(found)


def answer(text: str, engine: str) -> list[tuple[int, int, int, int]]:
    bases = as_bases(text)
    position, strand = find_candidates(bases, engine)
    assert (position.dtype, strand.dtype) == (np.int64, np.int8)
    hexamer, offset = describe(bases, position, strand)
    assert (hexamer.dtype, offset.dtype) == (np.int8, np.int8)
    return list(zip(position.tolist(), strand.tolist(), hexamer.tolist(), offset.tolist(), strict=True))


def dna(seed: int, size: int) -> str:
    """AT-rich text with soft-masking, N runs, IUPAC codes and U; rich in candidates."""
    rng = np.random.default_rng(seed)
    letters = rng.choice(list("ACGTacgtNRykU"), size, p=[0.22, 0.11, 0.11, 0.15, 0.15, 0.05, 0.05, 0.12, 0.01, 0.01, 0.005, 0.005, 0.01])
    for start in rng.integers(0, size, size // 400):
        letters[start : start + 30] = "N"
    return "".join(letters)


def planted(hexamer: str, distance: int, before: str = "C") -> str:
    text = ["N"] * 101
    text[50 - distance : 56 - distance] = hexamer
    text[49:51] = before, "A"
    return "".join(text)


sequences = st.builds(dna, st.integers(0, 2**32), st.integers(0, 700))


def test_hexamers_are_the_papers_in_its_order():
    assert list(HEXAMERS) == PAPER


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@settings(max_examples=60, deadline=None)
@given(text=sequences)
def test_equals_brute_force(engine, text):
    assert answer(text, engine) == brute_force(text)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_long_random_sequence_equals_brute_force(engine):
    text = dna(7, 70_000)  # more than two tiles of the kernel
    expected = brute_force(text)
    assert len(expected) > 3000
    assert answer(text, engine) == expected


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_every_6mer_at_every_distance(engine):
    """All 4096 6-mers inside a neutral stretch: exactly the 18 are hits, and exactly at distances 10 to 35."""
    words = ["".join("ACGT"[(i >> shift) & 3] for shift in range(0, 12, 2)) for i in range(4096)]
    got = {word for word in words if (50, 1) in [found[:2] for found in answer(planted(word, 20), engine)]}
    by_hand = {word for word in words if any(planted(word, 20)[50 - d : 56 - d] in PAPER for d in range(10, 36))}
    assert got == by_hand == set(PAPER)
    for distance in range(6, 45):
        for hexamer in PAPER:
            found = [row for row in answer(planted(hexamer, distance), engine) if row[0] == 50]
            assert found == ([(50, 1, PAPER.index(hexamer), distance)] if 10 <= distance <= 35 else [])


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_contig_edges(engine):
    text = planted("AATAAA", 21)
    assert answer(text, engine) == [(50, 1, 0, 21)]
    assert answer(text[1:], engine) == answer(text[:-1], engine) == answer("", engine) == answer("A", engine) == []
    mirrored = reverse_complement(text)
    assert answer(mirrored, engine) == [(50, -1, 0, 21)]
    assert answer(mirrored[1:], engine) == answer(mirrored[:-1], engine) == []


@pytest.mark.parametrize("before", list("ACGTN"))
def test_base_before_the_cleavage_base(before):
    assert bool(answer(planted("AATAAA", 21, before), "numba")) == (before in "CG")


def test_first_listed_hexamer_wins_then_nearest_to_21_then_the_smaller():
    text = list(planted("ATTAAA", 22))
    text[50 - 35 : 56 - 35] = "AATAAA"
    assert answer("".join(text), "numpy") == [(50, 1, 0, 35)]
    text = list(planted("AATAAA", 18))
    text[50 - 24 : 56 - 24] = "AATAAA"
    assert answer("".join(text), "numpy") == [(50, 1, 0, 18)]
    text[50 - 18] = "C"
    assert answer("".join(text), "numpy") == [(50, 1, 0, 24)]


def test_describe_answers_minus_one_where_no_hexamer_is():
    hexamer, offset = describe("ACGT" * 30, np.array([0, 60, 119]), np.array([1, -1, 1], np.int8))
    assert hexamer.tolist() == offset.tolist() == [-1, -1, -1]
    with pytest.raises(BasewiseError, match="expected 0 to 119"):
        describe("ACGT" * 30, np.array([120]), np.array([1], np.int8))


@settings(max_examples=40, deadline=None)
@given(text=sequences)
def test_the_other_strand_mirrors(text):
    mirrored = sorted((len(text) - 1 - position, -strand, h, o) for position, strand, h, o in answer(reverse_complement(text), "numba"))
    assert mirrored == answer(text, "numba")


class OneContig:
    """The part of a genome the rule reads."""

    def __init__(self, text: str):
        self.bases = as_bases(text)
        self.contigs = {"c": len(text)}

    def fetch(self, chrom, start, end):
        assert 0 <= start <= end <= self.contigs[chrom]
        return self.bases[start:end]


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@settings(max_examples=60, deadline=None)
@given(text=sequences, block=st.integers(1, 900), start=st.integers(0, 700), width=st.none() | st.integers(0, 800))
def test_any_block_size_gives_the_answer_of_the_whole(engine, text, block, start, width):
    end = None if width is None else start + width
    parts = list(iter_candidates(OneContig(text), "c", start, end, block if len(text) / block < 50 else 50, engine))
    got = [(int(p), int(s)) for part in parts for p, s in zip(*part, strict=True)]
    assert got == [row[:2] for row in brute_force(text) if start <= row[0] < (len(text) if end is None else end)]


def test_bad_requests_are_refused():
    with pytest.raises(BasewiseError, match="Did you mean 'numba'"):
        find_candidates("ACGT", "nmba")
    with pytest.raises(BasewiseError, match="too short for candidates"):
        candidates_of_block(as_bases("A" * 200), 100, 1000, 110, 250)
    with pytest.raises(BasewiseError, match="at least 1 base"):
        next(iter_candidates(OneContig("ACGT"), "c", block=0))
    with pytest.raises(BasewiseError, match="no contig 'd'"):
        next(iter_candidates(OneContig("ACGT"), "d"))


def test_numpy_takes_over_when_numba_is_missing(monkeypatch, caplog):
    import sys

    from basewise.tasks import pas_kernel

    monkeypatch.setitem(sys.modules, "numba", None)
    pas_kernel._compiled.cache_clear()
    try:
        assert answer(planted("AATAAA", 21), "numba") == [(50, 1, 0, 21)]
        assert "runs in numpy" in caplog.text
    finally:
        pas_kernel._compiled.cache_clear()


def test_unwritable_cache_is_no_obstacle(tmp_path, repo):
    """A package in a read-only folder and no home to write to: numba compiles for the process, the answer is the same."""
    import os
    import shutil
    import subprocess
    import sys

    package = tmp_path / "basewise"
    shutil.copytree(repo / "basewise", package, ignore=shutil.ignore_patterns("__pycache__", "zoo", "recipes"))
    (package / "tasks" / "__pycache__").touch()  # a file where numba wants a folder
    (tmp_path / "home").touch()
    code = "from basewise.tasks.pas_rule import find_candidates as f; print(f('C'*29+'AATAAA'+'C'*15+'A'+'C'*50).position)"
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[50]\n"), done.stderr


@pytest.mark.data
@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_real_sequence_equals_brute_force(shared, engine):
    import pysam

    with pysam.FastaFile(str(shared / "data/genome/hg19_pieces.fa.gz")) as genome:
        contig = next(name for name in genome.references if name.startswith("chr19"))
        piece = genome.fetch(contig, 4_000_000, 4_100_000)
    assert any(base.islower() for base in piece)
    piece = piece[:40_000] + "N" * 5_000 + piece[45_000:]
    expected = brute_force(piece)
    assert len(expected) > 2000
    assert answer(piece, engine) == expected
