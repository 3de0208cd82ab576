"""Potential quadruplexes against an enumeration of everything four runs can be, and against the intervals of EndoQuad."""

import gzip
from itertools import pairwise, product

import numpy as np
import pytest

from basewise.genome.alphabet import codes
from basewise.genome.fasta import open_genome
from basewise.genome.quadruplexes import LONGEST, LONGEST_RUN, MIN_SCORE, REACH, quadruplex_scores


def scores(sequence):
    return quadruplex_scores(np.frombuffer(sequence.encode(), np.uint8) == ord("G"))


def run_of(text):
    """Return the Gs of a run as pqsfinder counts them, 0 where it is none."""
    if not text.startswith("G") or not text.endswith("G"):
        return 0
    leading = len(text) - len(text.lstrip("G"))
    return leading if leading == len(text) else leading + len(text) - len(text.rstrip("G"))


def score_of(runs, loops):
    """Score four runs and three loops as the paper says: the shortest run of Gs only says how many tetrads there are."""
    counts = [run_of(run) for run in runs]
    perfect = [len(run) for run, count in zip(runs, counts, strict=True) if count == len(run)]
    if not perfect or loops.count(0) > 1:
        return 0
    tetrads, score = min(perfect), 0
    for run, count in zip(runs, counts, strict=True):
        if len(run) == tetrads and count == tetrads - 1:
            score -= 28
        elif len(run) > tetrads and count >= tetrads:
            score -= 20 + round(0.2 * (len(run) - tetrads))
        elif not len(run) == count == tetrads:
            return 0
    return score + 40 * (tetrads - 1) - round(6.6 * (sum(loops) / 3) ** 0.8)


def by_enumeration(sequence):
    """Return what `quadruplex_scores` should: every PQS listed, sorted, and taken where it overlaps none taken."""
    spans = [(s, e) for s in range(len(sequence)) for e in range(s + 2, min(len(sequence), s + LONGEST_RUN) + 1) if run_of(sequence[s:e])]
    chains = {1: [[span] for span in spans]}
    for n in (2, 3, 4):
        chains[n] = [
            [*chain, (s, e)] for chain, (s, e) in product(chains[n - 1], spans) if s >= chain[-1][1] and e - chain[0][0] <= LONGEST
        ]
    found = []
    for chain in chains[4]:
        score = score_of([sequence[s:e] for s, e in chain], [b[0] - a[1] for a, b in pairwise(chain)])
        if score >= MIN_SCORE:
            found.append((-score, chain[-1][1] - chain[0][0], chain[0][0]))
    picked = np.zeros(len(sequence))
    for score, length, start in sorted(set(found)):
        if not picked[start : start + length].any():
            picked[start : start + length] = -score
    return picked


def test_against_enumeration():
    rng, covered = np.random.default_rng(2), 0
    drawn = ["".join(rng.choice(list("GA"), 32, p=[share, 1 - share])) for share in (0.5, 0.55, 0.6) for _ in range(4)]
    for sequence in drawn:
        expected = by_enumeration(sequence)
        covered += (expected > 0).sum()
        np.testing.assert_array_equal(scores(sequence), expected, err_msg=sequence)
    assert 50 < covered < 300  # neither none nor all


@pytest.mark.parametrize(
    ("sequence", "score"),
    [
        ("GGGTGGGTGGGTGGG", 80 - 7),  # three tetrads, loops of one base: 6.6
        ("GGGTGGGTGTGTGGG", 80 - 28 - 7),  # a mismatch: below the cut
        ("GGGGTGGGGTGGTGTGGGG", 120 - 28 - 7),
        ("GGGTGGGTGGTGTGGG", 80 - 20 - 7),  # a bulge of one base: 0.2
        ("GGGGGGTGGGTGGG", 80 - 5),  # one loop may be empty
        ("GGGAAAAAAAGGGAAAAAAAGGGAAAAAAAGGG", 80 - 31),  # 7 bases in the mean: 31.3, one less than the cut
        ("GGGAAAAAAAGGGAAAAAAAGGGAAAAAAGGG", 80 - 30),
        ("GGG" + "T" * 13 + "GGG" + "T" * 13 + "GGG" + "T" * 13 + "GGG", 0),  # 51 bases
        ("GGNTGGGTGGG", 0),
        ("", 0),
    ],
)
def test_scores_by_hand(sequence, score):
    expected = score if score >= MIN_SCORE else 0
    assert np.unique(scores(f"TT{sequence}TT")[2:-2]).tolist() == ([expected] if sequence else [])


def test_equal_scores_shortest_first_then_the_first():
    assert scores("GGGTGGGTGGGTGGGTGGG").tolist() == [73] * 15 + [0] * 4
    longer = "GGGTGGGTGGTAGTGGG"  # a bulge of two bases costs as much as one of one
    assert scores(longer.replace("TAG", "TG")).max() == scores(longer).max()


def test_a_base_depends_on_its_reach_and_no_more():
    rng = np.random.default_rng(5)
    whole = rng.random(6000) < 0.45  # picked from end to end, so that chains of overlaps are long
    expected = quadruplex_scores(whole)
    for middle in range(REACH, len(whole) - REACH, 97):
        assert quadruplex_scores(whole[middle - REACH : middle + REACH + 1])[REACH] == expected[middle]


@pytest.mark.data
def test_endoquad_is_made_of_them(shared):
    """EndoQuad's intervals are potential quadruplexes to the base: what was measured is which of them fold in cells."""
    chrom = "chr19_50000001_59128983"
    with open_genome(shared / "data/genome/hg19_pieces.fa.gz") as genome:
        bases = codes(genome.fetch(chrom, 0, genome.contigs[chrom]))
    with gzip.open(shared / "data/labels/g4_endoquad_high.bed.gz", "rt") as lines:
        rows = [line.split()[:3] for line in lines]
    wanted = {(int(start), int(end)) for name, start, end in rows if name == chrom}
    found = set()
    for track in (quadruplex_scores(bases == 2), quadruplex_scores((bases == 1)[::-1])[::-1]):
        edges = np.flatnonzero(np.diff(track, prepend=0, append=0))
        found |= {(int(a), int(b)) for a, b in pairwise(edges) if track[a]}
    assert len(wanted & found) > 0.99 * len(wanted) > 1000
    assert len(found) > 4 * len(wanted)  # most of them were seen nowhere
