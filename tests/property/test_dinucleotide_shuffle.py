"""Shuffles keep the counts of pairs, and every sequence with these counts is as likely."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.genome.alphabet import as_bases, to_str
from basewise.interpretation.shuffle import dinucleotide_shuffle


def pairs(text):
    return Counter(pairwise(text))


@settings(max_examples=150, deadline=None)
@given(text=st.text("ACGTN", max_size=60), seed=st.integers(0, 5))
def test_pairs_are_kept(text, seed):
    out = to_str(dinucleotide_shuffle(as_bases(text), np.random.default_rng(seed)))
    assert pairs(out) == pairs(text)
    assert out[:1] == text[:1]
    assert len(out) == len(text)


def test_uniform():
    text = "ACAGATAC"
    every = {"".join(p) for p in permutations(text) if p[0] == "A" and pairs("".join(p)) == pairs(text)}
    rng = np.random.default_rng(0)
    n = 3000
    seen = Counter(to_str(dinucleotide_shuffle(as_bases(text), rng)) for _ in range(n))
    assert set(seen) == every
    expected = n / len(every)
    chi2 = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi2 < len(every) - 1 + 4 * (2 * (len(every) - 1)) ** 0.5


def test_case_iupac_and_seed():
    rng = np.random.default_rng
    assert to_str(dinucleotide_shuffle(as_bases("acgtr"), rng(1)))[0] == "A"
    long = as_bases("ACGTTGCAAC" * 5)
    assert to_str(dinucleotide_shuffle(long, rng(1))) == to_str(dinucleotide_shuffle(long, rng(1)))
    assert to_str(dinucleotide_shuffle(long, rng(1))) != to_str(dinucleotide_shuffle(long, rng(2)))
