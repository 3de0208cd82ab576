"""Where negatives may come from: positions inside or outside intervals, far from what is annotated, drawn with a seed.

All functions work on sorted or unsorted int64 positions of one contig (and strand); calls a contig keep a genome's memory bounded.
"""

import zlib

import numpy as np
import numpy.typing as npt

from basewise.genome.intervals import nearest

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def contig_rng(seed: int, *names: str) -> np.random.Generator:
    """Return a generator of its own for a contig (and purpose), so that a draw never depends on which contigs came before."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def merge(starts: Positions, ends: Positions) -> tuple[Positions, Positions]:
    """Return overlapping and touching half-open intervals merged, as (starts, ends) sorted and disjoint; empty ones vanish."""
    keep = ends > starts
    order = np.argsort(starts[keep], kind="stable")
    starts, ends = starts[keep][order], ends[keep][order]
    if not starts.size:
        return starts, ends
    reach = np.maximum.accumulate(ends)
    first = np.concatenate(([True], starts[1:] > reach[:-1]))
    last = np.concatenate((np.flatnonzero(first)[1:] - 1, [starts.size - 1]))
    return starts[first], reach[last]


def overlaps(low: Positions, high: Positions, starts: Positions, ends: Positions) -> Mask:
    """Return which of the half-open stretches [low, high) share a base with the merged intervals (`starts`, `ends`)."""
    following = np.searchsorted(ends, low, side="right")  # the first interval that ends beyond low
    inside = following < starts.size
    result = np.zeros(low.size, bool)
    result[inside] = starts[following[inside]] < high[inside]
    return result & (low < high)


def inside(positions: Positions, starts: Positions, ends: Positions) -> Mask:
    """Return which positions lie in one of the merged intervals (`starts`, `ends`)."""
    return overlaps(positions, positions + 1, starts, ends)


def distance_to(positions: Positions, sites: Positions) -> Positions:
    """Return the distance to the nearest of the sorted `sites`; the largest int64 where there are none."""
    return nearest(positions, sites)[1]


def unknown_runs(known: Mask) -> tuple[Positions, Positions]:
    """Return the runs of False in `known` (L,) as (starts, ends): where a contig is N or another IUPAC code."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], known, [True])).view(np.int8))).astype(np.int64)
    return edges[::2], edges[1::2]


def draw(pool: int, wanted: int, rng: np.random.Generator) -> Positions:
    """Return `wanted` different indices below `pool` (all, when there are no more), sorted."""
    if wanted >= pool:
        return np.arange(pool, dtype=np.int64)
    return np.sort(rng.choice(pool, wanted, replace=False, shuffle=False)).astype(np.int64)


def draw_matched(wanted: Positions, pool: Positions, rng: np.random.Generator) -> tuple[Positions, Positions]:
    """Pair every element of `wanted` with a different element of `pool` that has the same key; both are int64 keys.

    Return (rows of wanted, rows of pool), paired; elements of `wanted` for which no partner is left are missing.
    """
    mine, theirs = [], []
    for key in np.unique(wanted):
        rows, partners = np.flatnonzero(wanted == key), np.flatnonzero(pool == key)
        n = min(rows.size, partners.size)
        mine.append(np.sort(rng.choice(rows, n, replace=False)))
        theirs.append(rng.choice(partners, n, replace=False))
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *mine]), np.concatenate([empty, *theirs])
