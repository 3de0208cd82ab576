"""Potential quadruplex-forming sequences (PQS): four runs of G, imperfect ones too, with loops between them, found and scored.

A PQS of n tetrads has four runs that begin and end with G, one of them at least n Gs and nothing else; the others may be as well, or hold
one other base among n (a mismatch), or be longer and hold n Gs before and after their other bases (a bulge). Its score is
``40 (n - 1)``, less 28 a mismatch, ``20 + round(0.2 (length - n))`` a bulge and ``round(6.6 m ** 0.8)`` for loops of m bases in the mean;
one loop at most may be empty; 50 bases at most in all. Of PQS that overlap the best is picked, of equal ones the shortest, then the
first; then the best of those that overlap none picked, and so on.

Source: Hon, Martinek, Zendulka & Lexa 2017, Bioinformatics 33:3373 (pqsfinder), with the numbers of its version 2; the search is ours. Two
things differ: picking ends after `ROUNDS` rounds, so that a base's score depends on `REACH` bases on either side and no more, and a PQS
of fewer than `MIN_SCORE` is none.
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MIN_SCORE = 50  # EndoQuad's cut; pqsfinder's own is 52
LONGEST = 50  # bases of a PQS
LONGEST_RUN = 11
TETRAD, MISMATCH, BULGE = 40, 28, 20  # what a tetrad beyond the first adds, and what a defect costs
BULGE_BASE = 0.2  # what a base of a bulge costs
ROUNDS = 4  # a round picks every PQS that no better one overlaps
REACH = ROUNDS * 2 * (LONGEST - 1)  # of a round: over a PQS and one that overlaps it
RUNS = 4
_LOOPS = np.array([math.floor(6.6 * (total / 3) ** 0.8 + 0.5) for total in range(LONGEST + 1)])  # what loops of so many bases together cost


def quadruplex_scores(there: Bools) -> npt.NDArray[np.float32]:
    """Return for each base (T,) the score of the picked PQS it lies in, 0 outside, where `there` (T,) says which bases are G.

    One strand's; for the other pass the Cs in reverse order.
    """
    return _pick(_count_gs(there))


@njit
def _count_gs(there: Bools) -> npt.NDArray[np.int8]:
    """Return (T, LONGEST_RUN + 1): Gs of the run of so many bases that begins here, before its first other base and after its last.

    0 where it does not both begin and end with G.
    """
    counts = np.zeros((len(there), LONGEST_RUN + 1), dtype=np.int8)
    for start in range(len(there)):
        leading = 0
        while leading < LONGEST_RUN and start + leading < len(there) and there[start + leading]:
            leading += 1
        if not leading:
            continue
        trailing = 0
        for width in range(1, min(LONGEST_RUN, len(there) - start) + 1):
            trailing = trailing + 1 if there[start + width - 1] else 0
            if trailing:
                counts[start, width] = min(width, leading + (0 if trailing == width else trailing))
    return counts


@njit
def _cost_of_run(count: int, width: int, tetrads: int) -> int:
    """Return what a run costs a PQS of so many tetrads, -1 where it cannot be one of its runs."""
    if width == tetrads:
        return 0 if count == tetrads else MISMATCH if count == tetrads - 1 and count > 0 else -1
    return BULGE + math.floor(BULGE_BASE * (width - tetrads) + 0.5) if count >= tetrads else -1


@njit
def _place_run(
    counts: npt.NDArray[np.int8],
    run: int,
    start: int,
    limit: int,
    tetrads: int,
    left: int,
    perfect: bool,
    loops: int,
    touching: bool,
    best: int,
    end: int,
) -> tuple[int, int]:
    """Return the best score and its end: of what is known, and of all PQS with run number `run` at `start` that end at `limit` or before.

    Parameters
    ----------
    left, loops : int
        Of the runs before: the score they leave, without loops, and the bases of the loops.
    perfect, touching : bool
        Whether one of them is of Gs only, and whether one of the loops is empty.
    best, end : int
        The best known PQS of this first run, -1 its end where there is none.
    """
    for width in range(tetrads, min(LONGEST_RUN, limit - start) + 1):
        cost = _cost_of_run(counts[start, width], width, tetrads)
        remaining = left - cost
        if cost < 0 or remaining - _LOOPS[loops] < best:
            continue
        whole, after = perfect or counts[start, width] == width == tetrads, start + width
        if run == RUNS - 1:
            score = remaining - _LOOPS[loops]
            if whole and (score > best or (score == best and after < end)):
                best, end = score, after
            continue
        for loop in range(1 if touching else 0, limit - after - tetrads + 1):
            if remaining - _LOOPS[loops + loop] < best:
                break
            if counts[after + loop, 1]:
                best, end = _place_run(
                    counts, run + 1, after + loop, limit, tetrads, remaining, whole, loops + loop, touching or loop == 0, best, end
                )
    return best, end


@njit
def _best_pqs(counts: npt.NDArray[np.int8], start: int, limit: int) -> tuple[int, int]:
    """Return score and end of the best PQS that begins at `start` and ends at `limit` or before, (0, -1) where there is none."""
    best, end = MIN_SCORE - 1, -1
    for tetrads in range(2, LONGEST_RUN + 1):
        best, end = _place_run(counts, 0, start, limit, tetrads, TETRAD * (tetrads - 1), False, 0, False, best, end)
    return (best, end) if end >= 0 else (0, -1)


@njit
def _pick(counts: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """Return the score (T,) of the picked PQS a base lies in."""
    length = len(counts)
    picked = np.zeros(length, dtype=np.float32)
    score, end = np.zeros(length, dtype=np.int64), np.full(length, -1, dtype=np.int64)
    for start in range(length):
        if counts[start, 1]:
            score[start], end[start] = _best_pqs(counts, start, min(length, start + LONGEST))
    for _ in range(ROUNDS):
        winners = [start for start in range(length) if end[start] >= 0 and _is_best(score, end, start)]
        if not winners:
            break
        for start in winners:
            picked[start : end[start]] = score[start]
        free = length  # of the bases from here on, the first that is taken
        for start in range(length - 1, -1, -1):
            if picked[start] > 0:
                free, end[start] = start, -1
            elif end[start] > free:
                score[start], end[start] = _best_pqs(counts, start, free)
    return picked


@njit
def _is_best(score: Ints, end: Ints, start: int) -> bool:
    """Return whether no PQS that overlaps the one at `start` goes before it."""
    for other in range(max(0, start - LONGEST + 1), end[start]):
        if other == start or end[other] <= start:  # none, picked, or before it
            continue
        longer = (end[other] - other) - (end[start] - start)
        if score[other] > score[start] or (score[other] == score[start] and (longer < 0 or (longer == 0 and other < start))):
            return False
    return True
