"""Draws: where they come from, how often, and that they are functions of their number alone."""

import re

import numpy as np
import pytest
from scipy.stats import chisquare

from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.datasets.chunks import ChunkSettings, choose_individuals, draw_chunks, matching, philox
from basewise.datasets.cohort import Copy, IndividualGenome
from basewise.errors import BasewiseError
from basewise.genome.haplotypes import Haplotype
from basewise.testing.published import tiny_bpe


def _genome(lengths: dict[str, int], sample: str = "s", n: str = "") -> IndividualGenome:
    rng = np.random.default_rng(1)
    copies = []
    for contig, length in lengths.items():
        bases = np.full(length, ord("N"), np.uint8) if contig == n else rng.choice(np.frombuffer(b"ACGT", np.uint8), length)
        copies.append(Copy(contig, 0, Haplotype(lambda a, b, bases=bases: bases[a:b], length), 0, length))
    return IndividualGenome(sample, "human", copies)


def test_philox_known_answers():
    # Source: kat_vectors of Random123
    ones = 0xFFFFFFFF
    for counter, key, expected in (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        assert tuple(philox(np.array([counter], np.uint32), key)[0].tolist()) == expected


def test_contigs_come_up_by_their_length_and_starts_evenly():
    genome = _genome({"a": 5000, "b": 3000, "c": 1000, "d": 500})
    chunks = draw_chunks(genome, ChunkSettings(count=8, length=100), 0, np.arange(2000))
    counts = np.bincount(chunks.copy.ravel(), minlength=4)
    assert chisquare(counts, genome.lengths / genome.lengths.sum() * counts.sum()).pvalue > 0.001
    starts = chunks.start[chunks.copy == 0]
    assert starts.max() <= 4900
    assert chisquare(np.bincount(starts * 10 // 4901, minlength=10)).pvalue > 0.001
    assert (chunks.bases[3, 2] == genome.read(int(chunks.copy[3, 2]), int(chunks.start[3, 2]), 100)).all()


@pytest.mark.parametrize("settings", [ChunkSettings(4, 50), ChunkSettings(4, 50, max_n=0.2), ChunkSettings(4, 50, force=("b",))])
def test_a_group_depends_on_its_number_alone(settings):
    genome = _genome({"a": 2000, "b": 300, "c": 900}, n="c")
    whole = draw_chunks(genome, settings, 3, np.arange(40))
    for workers in (2, 3):
        parts = [draw_chunks(genome, settings, 3, np.arange(40)[worker::workers]) for worker in range(workers)]
        for worker, part in enumerate(parts):
            assert (part.bases == whole.bases[worker::workers]).all()
            assert (part.start == whole.start[worker::workers]).all()
    assert not (draw_chunks(genome, settings, 4, np.arange(40)).start == whole.start).all()
    other = IndividualGenome("t", "human", genome.copies)
    assert not (draw_chunks(other, settings, 3, np.arange(40)).start == whole.start).all()


def test_forced_dropped_and_without_n():
    genome = _genome({"a": 2000, "y": 200, "n": 5000}, n="n")
    forced = draw_chunks(genome, ChunkSettings(4, 50, force=("y",)), 0, np.arange(50))
    assert (forced.copy[:, 0] == 1).all()
    assert (forced.copy[:, 1:] != 1).any()
    dropped = draw_chunks(genome, ChunkSettings(4, 50, drop=("a", "n")), 0, np.arange(10))
    assert (dropped.copy == 1).all()
    clean = draw_chunks(genome, ChunkSettings(4, 50, max_n=0.5), 0, np.arange(100))
    assert set(clean.copy.ravel().tolist()) == {0, 1}
    shares = np.bincount(clean.copy.ravel(), minlength=2)[:2]
    assert chisquare(shares, np.array([2000, 200]) / 2200 * shares.sum()).pvalue > 0.001
    with pytest.raises(BasewiseError, match="nothing but chunks with more than 50% N"):
        draw_chunks(genome, ChunkSettings(4, 50, max_n=0.5, drop=("a", "y")), 0, [0])


def test_a_forced_contig_that_is_nearly_all_n_gives_its_few_known_bases():
    genome = _genome({"a": 2000, "y": 100_000}, n="y")
    known = np.full(100_000, ord("N"), np.uint8)
    known[70_000:70_700] = ord("A")
    copies = [genome.copies[0], Copy("y", 0, Haplotype(lambda a, b: known[a:b], 100_000), 0, 100_000)]
    forced = draw_chunks(IndividualGenome("s", "human", copies), ChunkSettings(3, 50, max_n=0.5, force=("y",)), 0, np.arange(100))
    assert (forced.copy[:, 0] == 1).all()
    assert ((forced.bases[:, 0] == ord("A")).mean(1) >= 0.5).all()
    starts = forced.start[:, 0]
    assert 69_975 <= starts.min() < 70_100 < 70_600 < starts.max() <= 70_675
    again = draw_chunks(IndividualGenome("s", "human", copies), ChunkSettings(3, 50, max_n=0.5, force=("y",)), 0, [41])
    assert (again.bases[0] == forced.bases[41]).all()


def test_short_contigs():
    genome = _genome({"a": 30, "b": 80})
    padded = draw_chunks(genome, ChunkSettings(20, 50), 0, [0])
    short = padded.copy == 0
    assert short.any()
    assert (padded.bases[short][:, 30:] == ord("N")).all()
    assert (padded.lengths == 50).all()
    kept = draw_chunks(genome, ChunkSettings(20, 50, short="keep"), 0, [0])
    assert {len(s) for s in kept.sequences()} == {30, 50}
    assert (draw_chunks(genome, ChunkSettings(20, 50, short="drop"), 0, [0]).copy == 1).all()
    with pytest.raises(BasewiseError, match="nothing to draw from"):
        draw_chunks(genome, ChunkSettings(20, 100, short="drop"), 0, [0])


def test_contig_patterns():
    contigs = ["chr1", "chrX", "chrX_alt", "chrY"]
    assert matching(["X"], contigs, "--drop-contigs") == {"chrX"}
    assert matching(["chrX*", "chrY"], contigs, "--drop-contigs") == {"chrX", "chrX_alt", "chrY"}
    with pytest.raises(BasewiseError, match="--drop-contigs 'chrZ' matches no contig; there are chr1, chrX"):
        matching(["chrZ"], contigs, "--drop-contigs")


def test_species_come_up_equally(planted):
    cohort = planted(people=8)
    cohort.samples["species"] = ["human"] * 6 + ["mouse"] * 2
    drawn = choose_individuals(cohort, np.arange(8), 0, np.arange(4000))
    counts = np.bincount(drawn, minlength=8)
    assert chisquare(counts, np.array([1 / 12] * 6 + [1 / 4] * 2) * 4000).pvalue > 0.001
    assert (choose_individuals(cohort, np.arange(8), 0, np.arange(100, 110)) == drawn[100:110]).all()


def _runs_become_one_token(tokenizer: BpeTokenizer) -> None:
    rng = np.random.default_rng(0)
    bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), 5000)
    for start, length in ((100, 9), (400, 10), (700, 11), (1500, 300), (2500, 1), (3000, 40), (3041, 40)):
        bases[start : start + length] = ord("N")
    genome = IndividualGenome("s", "human", [Copy("a", 0, Haplotype(lambda a, b: bases[a:b], 5000), 0, 5000)])
    sequences = draw_chunks(genome, ChunkSettings(4, 400), 0, np.arange(20)).sequences()
    tokens = tokenizer.tokenize(sequences)
    seen = 0
    for row, sequence in enumerate(sequences):
        runs = [match.span() for match in re.finditer(b"N{10,}", sequence.tobytes())]
        spans = tokens.spans[row][tokens.ids[row] == tokenizer.run_id].tolist()
        assert [tuple(span) for span in spans] == runs
        seen += len(runs)
    assert seen > 10


def test_runs_of_n_are_one_token_of_gena_lm():
    _runs_become_one_token(BpeTokenizer(tiny_bpe(runs=True)))


@pytest.mark.data
def test_runs_of_n_are_one_token_of_the_published_tokenizer(shared):
    _runs_become_one_token(BpeTokenizer.from_official(shared / "golden" / "tokenizer_files" / "gena_t2t"))
