"""Z-Hunt's windows against all 64 conformations and a root found by SciPy, and against the Z-DNA that was seen in cells."""

import gzip
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq

from basewise.genome.alphabet import as_bases, codes, reverse_complement
from basewise.genome.fasta import open_genome
from basewise.genome.zhunt import ENERGIES, MEAN, MOST_ENERGY, SD, WINDOW, zhunt_scores

RT, K = 0.59004, 1100 / 4363


def scores(sequence):
    return zhunt_scores(codes(as_bases(sequence)))


def energies(sequence, conformation):
    pairs = [tuple(codes(as_bases(sequence[i : i + 2]))) for i in range(0, WINDOW, 2)]
    return [
        ENERGIES[now if k == 0 or conformation[k - 1] == now else 2][pair]
        for k, (pair, now) in enumerate(zip(pairs, conformation, strict=True))
    ]


def score_of(window):
    """Return the score of 12 bases: every conformation, every run of Z-DNA, Z-Hunt's equation as it is written down.

    nan where conformations have the same least energy: any of them may be taken.
    """
    if "N" in window:
        return 0
    least, other, *_ = sorted((energies(window, conformation) for conformation in product((0, 1), repeat=6)), key=sum)
    if sum(least) > MOST_ENERGY:
        return 0
    if sum(other) - sum(least) < 1e-9:
        return np.nan
    states = [(2 * 0.4 + 0.357 * (j - i), np.exp(-sum(least[i:j]) / RT)) for i in range(6) for j in range(i + 1, 7)]

    def missing(linking):
        weights = np.array([np.exp(10 / RT - K * linking**2), *(w * np.exp(-K * (linking - twist) ** 2) for twist, w in states)])
        return 0.357 * 3 - weights @ np.array([0, *(twist for twist, _ in states)]) / weights.sum()

    return (MEAN - brentq(missing, 10, 50)) / SD


def test_against_all_conformations():
    rng = np.random.default_rng(0)
    text = (
        "".join(rng.choice(list("CG"), 30))
        + "CGTGCACGTATACGCANGCGCGCGCGCGCAAAATTTT"
        + "".join(rng.choice(list("ACGT"), 60, p=[0.2, 0.3, 0.3, 0.2]))
    )
    windows = [score_of(text[i : i + WINDOW]) for i in range(len(text) - WINDOW + 1)]
    expected = np.array([np.max(windows[max(0, i - WINDOW + 1) : i + 1]) for i in range(len(text))])  # nan where a window is
    assert np.isfinite(expected).mean() > 0.5
    assert np.nanmin(expected) == 0 < 2.9 < np.nanmax(expected)
    known = np.isfinite(expected)
    np.testing.assert_allclose(scores(text)[known], expected[known], atol=1e-4)


def test_short_and_empty_sequences():
    assert scores("").tolist() == []
    assert scores("CGCGCGCGCGC").tolist() == [0] * 11
    assert scores("CGCGCGCGCGCG").min() > 4


def test_order_of_the_repeats():
    """CG before CA/TG before TA, and no Z-DNA out of step: what every experiment on plasmids has."""
    cg, ca, ta, aa = (scores(unit * 6).max() for unit in ("CG", "CA", "TA", "AA"))
    assert cg > ca > ta > aa == 0
    assert scores(reverse_complement("CA" * 6)).max() == pytest.approx(ca)


@pytest.mark.data
def test_z_dna_of_cells_turns_readily(shared):
    """Nine tenths of Kouzine's intervals hold a window that one base in 150 of the chromosome lies in."""
    chrom = "chr19_50000001_59128983"
    with open_genome(shared / "data/genome/hg19_pieces.fa.gz") as genome:
        track = zhunt_scores(codes(genome.fetch(chrom, 0, genome.contigs[chrom])))
    with gzip.open(shared / "data/labels/zdna_kouzine.bed.gz", "rt") as lines:
        intervals = [(int(start), int(end)) for name, start, end, *_ in map(str.split, lines) if name == chrom]
    best = np.array([track[start:end].max() for start, end in intervals])
    assert len(intervals) > 300
    assert (best > 2.85).mean() > 0.9
    assert (track > 2.85).mean() < 1 / 150
