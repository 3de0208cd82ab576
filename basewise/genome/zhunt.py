"""How readily a stretch of 12 bases turns left-handed: the statistical mechanics of Z-Hunt.

Every dinucleotide of a window takes one of two conformations, anti-syn or syn-anti, with an energy over B-DNA (`ENERGIES`, kcal/mol); the
conformation of lowest energy is taken. In a circle of DNA of linking difference L, dinucleotides i to j of the window are Z-DNA with weight
``exp(-(energy of i to j) / RT - K (L - twist) ** 2)``, twist ``2 b + a (j - i + 1)``, and all is B-DNA with weight
``exp(10 / RT - K L ** 2)``. Sought is the L at which the mean twist is half that of six dinucleotides: the smaller, the readier the window.

Source: Ho, Ellison, Quigley & Rich 1986, EMBO J. 5:2737, with the numbers of their program Z-Hunt; `MEAN` and `SD` are of random windows.
The energy of a change of conformation belongs to the dinucleotide behind it, so that a window and its reverse complement may differ a
little. Six dinucleotides are the program's usual least.
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Codes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

DINUCLEOTIDES = 6
WINDOW = 2 * DINUCLEOTIDES  # bases
RT = 0.59004  # kcal/mol, at 298 K
K = 1100 / 4363  # torsion of a circle of 4363 bases, over RT
JUNCTIONS = 10 / RT
A, B = 0.357, 0.4  # turns lost by a dinucleotide, 2 (1 / 10.5 + 1 / 12), and by a junction
MEAN, SD = 29.6537135, 2.71997
MOST_ENERGY = 15.5  # kcal/mol a window: one of more scores 0 and is not worked out; a fifth of a genome is below, six TA are
LOWEST, HIGHEST, HALVINGS = 10.0, 50.0, 24  # of the search for L, turns

# of a dinucleotide: [0] anti-syn, [1] syn-anti, [2] either behind the other; rows its first base A C G T, columns its second
ENERGIES = np.array(
    [
        [[4.40, 5.20, 3.40, 6.20], [1.40, 2.40, 0.66, 3.40], [3.30, 4.20, 2.40, 5.20], [2.50, 3.30, 1.40, 4.40]],
        [[4.40, 1.40, 3.30, 2.50], [5.20, 2.40, 4.20, 3.30], [3.40, 0.66, 2.40, 1.40], [6.20, 3.40, 5.20, 4.40]],
        [[6.20, 5.20, 5.20, 6.20], [5.20, 4.00, 4.00, 5.20], [5.20, 4.00, 4.00, 5.20], [6.20, 5.20, 5.20, 6.20]],
    ]
)


def zhunt_scores(codes: Codes) -> npt.NDArray[np.float32]:
    """Return for each base (T,) the best score of the windows it lies in, in standard deviations from random windows; 0 where none counts.

    `codes` (T,) as `alphabet.codes`; a window that holds anything but A, C, G and T scores 0.
    """
    return _cover(codes)


@njit
def _cover(codes: Codes) -> npt.NDArray[np.float32]:
    best = np.zeros(len(codes), dtype=np.float32)
    costs = np.empty(DINUCLEOTIDES)
    for start in range(len(codes) - WINDOW + 1):
        if _least_energy(codes, start, costs) <= MOST_ENERGY:
            score = (MEAN - _linking(costs)) / SD
            for place in range(start, start + WINDOW):
                best[place] = max(best[place], score)
    return best


@njit
def _least_energy(codes: Codes, start: int, costs: Doubles) -> float:
    """Return the least energy of a window, and in `costs` what each of its dinucleotides takes of it; inf for one with N."""
    total = np.empty((DINUCLEOTIDES, 2))
    changed = np.zeros((DINUCLEOTIDES, 2), dtype=np.bool_)
    for k in range(DINUCLEOTIDES):
        first, second = codes[start + 2 * k], codes[start + 2 * k + 1]
        if first > 3 or second > 3:
            return math.inf
        for state in range(2):
            total[k, state] = ENERGIES[state, first, second]
            if k > 0:
                stay, change = total[k - 1, state] + total[k, state], total[k - 1, 1 - state] + ENERGIES[2, first, second]
                total[k, state], changed[k, state] = min(stay, change), change < stay
    state = 0 if total[-1, 0] <= total[-1, 1] else 1
    least = total[-1, state]
    for k in range(DINUCLEOTIDES - 1, -1, -1):
        before = 1 - state if changed[k, state] else state
        costs[k] = total[k, state] - (total[k - 1, before] if k else 0.0)
        state = before
    return least


@njit
def _linking(costs: Doubles) -> float:
    """Return the linking difference at which half of the window's twist is taken up."""
    weights, runs = np.empty(DINUCLEOTIDES), np.ones(DINUCLEOTIDES)
    for length in range(DINUCLEOTIDES):  # of all runs of length + 1 dinucleotides
        total = 0.0
        for first in range(DINUCLEOTIDES - length):
            runs[first] *= math.exp(-costs[first + length] / RT)
            total += runs[first]
        weights[length] = math.log(total)
    low, high = LOWEST, HIGHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        everything, twisted = 1.0, 0.0  # over the weight of B-DNA
        for length in range(DINUCLEOTIDES):
            twist = 2 * B + A * (length + 1)
            weight = math.exp(weights[length] - JUNCTIONS + K * twist * (2 * middle - twist))
            everything += weight
            twisted += weight * twist
        if twisted < everything * A * DINUCLEOTIDES / 2:
            low = middle
        else:
            high = middle
    return (low + high) / 2
