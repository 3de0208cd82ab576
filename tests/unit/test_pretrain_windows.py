"""Which windows a language model reads, which bases it is asked for, and what a Markov chain knows."""

import logging
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.evaluation.markov import fit_markov
from basewise.genome.alphabet import as_bases, reverse_complement
from basewise.genome.fasta import open_genome
from basewise.recipes.pretraining import Pretrain
from basewise.testing.genomes import bgzip_fasta, random_genome, write_fasta
from basewise.training import windows as windows_module
from basewise.training.next_base import NOT_ASKED, UNIFORM, markov_foresees, targets
from basewise.training.windows import WindowSource, evenly, is_asked, split_contigs, tiles


@pytest.fixture
def fasta(tmp_path):
    contigs = random_genome(1, {"a": 3000, "b": 500, "short": 20}, n_runs=3, n_length=120, soft_mask=0.5, iupac=0.01)
    return write_fasta(tmp_path / "g.fa", contigs)


def source(fasta, seed=0, **settings):
    genome = open_genome(fasta)
    return WindowSource(genome, ("a", "b"), Pretrain.model_validate({"length": 64, **settings}), seed)


def test_a_window_is_a_function_of_seed_and_draw(fasta, monkeypatch):
    whole = source(fasta).draw(np.arange(40))
    for one in (np.arange(40)[::-1], np.arange(7, 12), [3]):
        got = source(fasta).draw(one)
        for mine, theirs in zip(got, whole, strict=True):
            np.testing.assert_array_equal(mine, theirs[np.asarray(one)])
    assert not np.array_equal(source(fasta, seed=1).draw(np.arange(40)).start, whole.start)
    packed = source(bgzip_fasta(fasta))
    np.testing.assert_array_equal(packed.draw(np.arange(40)).bases, whole.bases)
    monkeypatch.setattr(windows_module, "IN_MEMORY", 0)  # read window by window
    np.testing.assert_array_equal(source(fasta).draw(np.arange(40)).bases, whole.bases)


def test_windows_lie_where_they_say_on_the_strand_they_say(fasta):
    drawn = source(fasta)
    w = drawn.draw(np.arange(200))
    assert set(w.contig.tolist()) == {0, 1}
    assert 60 < w.minus.sum() < 140
    for bases, contig, start, minus in zip(*w, strict=True):
        plus = drawn.genome.fetch(drawn.names[contig], int(start), int(start) + 64)
        np.testing.assert_array_equal(bases, reverse_complement(plus) if minus else plus)
    forward = source(fasta, strands="forward").draw(np.arange(200))
    assert not forward.minus.any()
    np.testing.assert_array_equal(forward.start, w.start)


def test_every_start_is_equally_likely(tmp_path):
    fasta = write_fasta(tmp_path / "g.fa", random_genome(0, {"a": 70, "b": 67}))
    drawn = WindowSource(open_genome(fasta), ("a", "b"), Pretrain(length=64), 0).draw(np.arange(11_000))
    places = np.bincount(drawn.contig * 7 + drawn.start, minlength=11)  # 7 starts on a, 4 on b
    assert len(places) == 11
    assert abs(places - 1000).max() < 5 * math.sqrt(1000)


@pytest.mark.parametrize("most", [0.0, 0.2])
def test_windows_with_too_many_n_are_drawn_again(fasta, most):
    bases = source(fasta, max_n=most).draw(np.arange(100)).bases
    unknown = ~np.isin(bases & 0xDF, np.frombuffer(b"ACGT", np.uint8))
    assert unknown.mean(axis=1).max() <= most
    assert (unknown.any() and most) or not unknown.any()


def test_soft_mask_policies(fasta):
    bases = as_bases("ACgtNnRa")
    for policy, asked in (("keep", "11110001"), ("mask", "11000000"), ("skip", "11000000")):
        assert "".join(str(int(x)) for x in is_asked(bases, Pretrain(soft_mask=policy))) == asked
    policies = {"soft_mask": "mask"}, {"soft_mask": "skip", "max_masked": 0.3}
    mask, skip = (source(fasta, **policy).draw(np.arange(60)).bases for policy in policies)
    lower = [(b & 0x20).astype(bool).mean(axis=1) for b in (mask, skip)]
    assert lower[0].max() > 0.3 >= lower[1].max()


def test_targets_are_the_next_bases_and_never_n():
    bases = np.stack([as_bases("ACNgT"), as_bases("acgtN")])
    ids = CharacterTokenizer().tokenize(list(bases), special_tokens=False).ids
    assert targets(bases, ids, Pretrain()).tolist() == [[8, NOT_ASKED, 9, 10], [8, 9, 10, NOT_ASKED]]
    assert targets(bases, ids, Pretrain(soft_mask="mask")).tolist() == [[8, NOT_ASKED, NOT_ASKED, 10], [NOT_ASKED] * 4]
    assert targets(bases, ids, Pretrain()).dtype == torch.int64


def test_a_genome_without_usable_window_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(windows_module, "ATTEMPTS", 20)
    fasta = write_fasta(tmp_path / "n.fa", {"a": b"N" * 300 + b"ACGT"})
    with pytest.raises(BasewiseError, match=r"no window of 64 bases with at most 10% N in 20 draws"):
        WindowSource(open_genome(fasta), ("a",), Pretrain(length=64), 0).draw([0])
    lower = write_fasta(tmp_path / "l.fa", {"a": b"acgt" * 100})
    with pytest.raises(BasewiseError, match="lower case"):
        WindowSource(open_genome(lower), ("a",), Pretrain(length=64, soft_mask="skip"), 0).draw([0])
    with pytest.raises(BasewiseError, match="20 draws"):  # every window is masked whole: nothing to learn from
        WindowSource(open_genome(lower), ("a",), Pretrain(length=64, soft_mask="mask"), 0).draw([0])


def test_contigs_are_divided(fasta, caplog):
    genome = open_genome(fasta)
    with caplog.at_level(logging.WARNING):
        assert split_contigs(genome, ["b"], ["short"], 64) == {"train": ("a",), "val": ("b",), "test": ("short",)}
        assert not caplog.records
        assert split_contigs(genome, [], [], 64)["train"] == ("a", "b")
    assert "1 of 3 training contigs are shorter than 64" in caplog.text
    for val, test, length, said in (
        (["b"], ["b"], 64, "b cannot be for validation and for test"),
        (["chrQ"], [], 64, "chrQ"),
        (["a"], [], 600, "none of the 2 training contigs has 600 bases"),
    ):
        with pytest.raises(BasewiseError, match=said):
            split_contigs(genome, val, test, length)


def test_tiles_cover_every_base_once(fasta):
    genome = open_genome(fasta)
    every = tiles(genome, ["b", "short"], 64)
    assert [t for t in every if t[0] == "short"] == [("short", 0, 20)]
    rows = [t for t in every if t[0] == "b"]
    assert rows[0][1] == 0
    assert rows[-1][2] == 500
    assert all(left[2] == right[1] for left, right in pairwise(rows))
    assert evenly(every, None) == every
    assert evenly(list(range(10)), 5) == [1, 3, 5, 7, 9]
    assert evenly(list(range(3)), 5) == [0, 1, 2]


def test_markov_chain_by_hand():
    chain = fit_markov([as_bases("AACNaC")], 1, both_strands=False)
    # order 0, counts from 1: A 4, C 3, G 1, T 1. Order 1 after A: A 2, C 3, G 1, T 1; nothing is counted over N
    np.testing.assert_allclose(np.exp(chain.log_p[0]), [[4 / 9, 3 / 9, 1 / 9, 1 / 9]])
    np.testing.assert_allclose(np.exp(chain.log_p[1][0]), [2 / 7, 3 / 7, 1 / 7, 1 / 7])
    np.testing.assert_allclose(np.exp(chain.log_p[1][1]), [1 / 4] * 4)
    got = np.exp(chain.log_probabilities(as_bases("CANC")))
    np.testing.assert_allclose(got[0], [4 / 9, 3 / 9, 1 / 9, 1 / 9])  # nothing before it
    np.testing.assert_allclose(got[2], [2 / 7, 3 / 7, 1 / 7, 1 / 7])  # after A
    np.testing.assert_allclose(got[3], got[0])  # after N


def test_markov_chain_of_both_strands_is_that_of_both_sequences():
    bases = as_bases(random_genome(3, {"a": 4000}, iupac=0.01)["a"])
    both = fit_markov([bases], 3, both_strands=True)
    pair = fit_markov([bases, reverse_complement(bases)], 3, both_strands=False)
    for mine, theirs in zip(both.log_p, pair.log_p, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    again = both.log_probabilities(bases)
    np.testing.assert_allclose(np.exp(again).sum(axis=1), 1)


def test_markov_is_judged_on_the_bases_the_model_is_asked_for(fasta):
    genome, settings = open_genome(fasta), Pretrain(length=64)
    every = tiles(genome, ["a"], 64)
    bases = genome.fetch("a", 0, 3000)
    chain = fit_markov([bases], 5, both_strands=False)
    found = markov_foresees(chain, genome, every, settings)
    asked = is_asked(bases, settings) & (np.arange(3000) % 64 != 0)
    assert found.bases == asked.sum()
    log_p = chain.log_probabilities(bases)  # looks back over the starts of windows
    digits = np.array([b"ACGT".find(bytes([b & 0xDF])) for b in bases])
    np.testing.assert_allclose(found.nats, -log_p[np.flatnonzero(asked), digits[asked]].sum(), rtol=1e-12)
    assert found.metrics()["nats"] < UNIFORM
