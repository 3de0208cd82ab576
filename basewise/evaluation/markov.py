"""A Markov chain of bases: what a language model of DNA has to beat before anything it says is worth reading."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.genome.alphabet import N_CODE, Bases, codes, reverse_complement

Floats = npt.NDArray[np.float64]


class MarkovChain(NamedTuple):
    """`log_p[k]` is (4**k, 4): natural log of the probability of A, C, G, T after a context of k bases, the first base most significant."""

    log_p: tuple[Floats, ...]

    @property
    def order(self) -> int:
        """Bases that a prediction looks back."""
        return len(self.log_p) - 1

    def log_probabilities(self, bases: Bases) -> Floats:
        """Return (L, 4): log probabilities of each base from the `order` bases before it.

        Where fewer stand there, or an N among them, the longest context without N that ends before the base is taken.
        """
        digits = codes(bases).astype(np.int64)
        answer = np.repeat(self.log_p[0], len(digits), axis=0)
        for k in range(1, self.order + 1):
            context, known = _contexts(digits, k)
            answer[k:][known] = self.log_p[k][context[known]]
        return answer


def fit_markov(stretches: Iterable[Bases], order: int, *, both_strands: bool) -> MarkovChain:
    """Return the chain of `stretches`, streamed; counts start at 1, and N breaks a context. With `both_strands` each is read twice."""
    counts = [np.ones((4**k, 4)) for k in range(order + 1)]
    for stretch in stretches:
        for bases in (stretch, reverse_complement(stretch)) if both_strands else (stretch,):
            digits = codes(bases).astype(np.int64)
            for k in range(order + 1):
                context, known = _contexts(digits, k)
                base = digits[k:]
                known = known & (base != N_CODE)
                counts[k] += np.bincount(4 * context[known] + base[known], minlength=4 ** (k + 1)).reshape(-1, 4)
    return MarkovChain(tuple(np.log(table / table.sum(axis=1, keepdims=True)) for table in counts))


def _contexts(digits: npt.NDArray[np.int64], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return for bases k, k + 1 ... the number of the k bases before each, and whether none of those is N."""
    size = max(len(digits) - k, 0)
    context, known = np.zeros(size, np.int64), np.ones(size, bool)
    for i in range(k):
        digit = digits[i : i + size]
        context = 4 * context + np.where(digit == N_CODE, 0, digit)
        known &= digit != N_CODE
    return context, known
