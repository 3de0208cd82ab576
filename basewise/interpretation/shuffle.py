"""Shuffles that keep the composition of dinucleotides."""

from itertools import product

import numpy as np
import numpy.typing as npt

from basewise.genome.alphabet import Bases, codes

_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


def dinucleotide_shuffle(bases: Bases, rng: np.random.Generator) -> Bases:
    """Return a random sequence (L,) with the same counts of all 25 pairs of A, C, G, T, N, and so the same first and last base.

    Uniform over all such sequences. Upper case; IUPAC codes count as N. Shorter than three bases, or alike throughout: a copy.

    Every sequence with these pairs is an Eulerian walk over the bases, fixed by the order in which the edges out of each base are
    used. Any order will do as long as the last edges out of all bases lead to the last base (a tree), so one draws such a tree with
    the right weight and shuffles all other edges. Trees are drawn from the list of all (at most 4^4), not by trial and error.

    Source: Altschul & Erickson 1985, Mol. Biol. Evol. 2:526.
    """
    text = codes(bases)
    if len(text) < 3:
        return _LETTERS[text]
    pairs = np.bincount(text[:-1].astype(np.int64) * 5 + text[1:], minlength=25).reshape(5, 5)
    end = int(text[-1])
    last = _draw_tree(pairs, end, rng)
    edges: list[npt.NDArray[np.int64]] = []
    for base in range(5):
        targets = np.repeat(np.arange(5), pairs[base])
        if base in last:
            targets = np.delete(targets, np.flatnonzero(targets == last[base])[0])
            edges.append(np.append(rng.permutation(targets), last[base]))
        else:
            edges.append(rng.permutation(targets))
    queues = [iter(part.tolist()) for part in edges]
    walk = [int(text[0])]
    for _ in range(len(text) - 1):
        walk.append(next(queues[walk[-1]]))
    return _LETTERS[np.array(walk)]


def _draw_tree(pairs: npt.NDArray[np.int64], end: int, rng: np.random.Generator) -> dict[int, int]:
    """Return for each base but `end` that is left at all the base its last edge leads to."""
    bases = [base for base in range(5) if base != end and pairs[base].sum()]
    choices = [[target for target in range(5) if target != base and pairs[base, target]] for base in bases]
    trees = [dict(zip(bases, tree, strict=True)) for tree in product(*choices)]
    trees = [tree for tree in trees if all(_reaches(tree, base, end) for base in bases)]
    weights = np.array([np.prod([float(pairs[base, target]) for base, target in tree.items()]) for tree in trees])
    return trees[rng.choice(len(trees), p=weights / weights.sum())]


def _reaches(tree: dict[int, int], base: int, end: int) -> bool:
    for _ in range(5):
        if base == end:
            return True
        base = tree[base]
    return False
