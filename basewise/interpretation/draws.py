"""Random numbers that depend on a seed and a sequence and on nothing else: not on batch, order or what was asked before."""

from zlib import crc32

import numpy as np

from basewise.genome.alphabet import Bases, codes


def generator(seed: int, bases: Bases, *more: int) -> np.random.Generator:
    """Return the generator of `bases` (uint8 (L,), case folded); `more` numbers tell several uses apart."""
    return np.random.default_rng([seed, crc32(codes(bases).tobytes()), *more])
