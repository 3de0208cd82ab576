"""The candidate rule on bits: 64 bases a machine word, one plane a base, the same formulas for numba and for numpy.

Bit j of word w of a plane is base 64 w + j, so `word >> k` brings the base k further on to bit j. Both strands only ever look ahead:
the plus strand is computed at the base 35 *before* the cleavage base, the minus strand at its cleavage base. N is in no plane.
"""

import functools
import logging
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from basewise.genome.alphabet import Bases

Words = npt.NDArray[np.uint64]
Plane = Any  # one uint64 when numba compiles the formula, an array of them when numpy evaluates it
Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]  # positions ascending, strands +1/-1

PLUS_AHEAD = 35  # a plus-strand bit stands this many bases before its cleavage base

TILE = 512  # words handled together: the planes of one tile stay in the first-level cache

# numba and numpy agree on types only when every constant is uint64: a plain int would turn a uint64 scalar signed
U1, U2, U3, U4, U5 = (np.uint64(k) for k in range(1, 6))
U8, U10, U56, U58, U64 = (np.uint64(k) for k in (8, 10, 56, 58, 64))
U29, U34, U35 = np.uint64(29), np.uint64(34), np.uint64(35)
ZERO = np.uint64(0)
LOW_BITS = np.uint64(0x0101010101010101)
GATHER = np.uint64(0x0102040810204080)  # (x & LOW_BITS) * GATHER >> 56: the low bits of eight bytes as one byte
POP_1, POP_2, POP_4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
BIT_INDEX = np.zeros(64, np.int64)  # BIT_INDEX[(one bit) * DE_BRUIJN >> 58] = which bit
for _bit in range(64):
    BIT_INDEX[((1 << _bit) * int(DE_BRUIJN) & (2**64 - 1)) >> 58] = _bit

_log = logging.getLogger(__name__)


# ---- formulas, shared by both engines


def _ahead(word: Plane, following: Plane, k: np.uint64) -> Plane:
    """Return the plane k bases further on, 1 <= k <= 63."""
    return (word >> k) | (following << (U64 - k))


def _six(plane: Plane, following: Plane) -> tuple[Plane, ...]:
    """Return the plane 0, 1, ... 5 bases further on."""
    one, two, three = _ahead(plane, following, U1), _ahead(plane, following, U2), _ahead(plane, following, U3)
    return plane, one, two, three, _ahead(plane, following, U4), _ahead(plane, following, U5)


def _hexamers(a: Plane, c: Plane, g: Plane, t: Plane, v: Plane) -> Plane:
    """Return where one of the 18 hexamers starts; a[3] = "base 3 of the hexamer is A", v = any of the four bases."""
    start, ta, aga = a[0] & a[1], t[2] & a[3], a[0] & g[1] & a[2]
    nntaaa = ((a[0] & v[1]) | (v[0] & a[1]) | (t[0] & t[1])) & ta & a[4]  # AATAAA ATTAAA AGTAAA CATAAA TATAAA GATAAA ACTAAA TTTAAA
    nntana = ta & ((a[0] & (a[1] | t[1]) & c[4]) | ((a[0] | t[0]) & a[1] & t[4]) | (start & g[4]))  # AATACA ATTACA AATATA TATATA AATAGA
    aannna = start & ((((t[2] & g[3]) | (g[2] & a[3])) & a[4]) | (a[2] & a[3] & t[4]))  # AATGAA AAGAAA AAAATA
    aganna = aga & ((t[3] & a[4]) | (a[3] & t[4]))  # AGATAA AGAATA
    return (nntaaa | nntana | aannna | aganna) & a[5]


def _mirror(six: tuple[Plane, ...]) -> tuple[Plane, ...]:
    return six[5], six[4], six[3], six[2], six[1], six[0]


def _starts(a: Plane, a_: Plane, c: Plane, c_: Plane, g: Plane, g_: Plane, t: Plane, t_: Plane) -> tuple[Plane, Plane]:
    """Return (plus, minus): hexamer starts, and the lowest base of hexamers that read on the minus strand."""
    a6, c6, g6, t6, v6 = _six(a, a_), _six(c, c_), _six(g, g_), _six(t, t_), _six(a | c | g | t, a_ | c_ | g_ | t_)
    # minus strand: complement planes, and base i of the hexamer stands 5 - i further on
    return _hexamers(a6, c6, g6, t6, v6), _hexamers(_mirror(t6), _mirror(g6), _mirror(c6), _mirror(a6), _mirror(v6))


def _within_26(word: Plane, following: Plane) -> tuple[Plane, Plane]:
    """Return the OR of `word` 0 to 25 bases further on: four doublings reach 16, one more step of 10 reaches 26.

    The top of `following` runs out of bits, but only its lowest 25 + 5 bits are ever wanted.
    """
    word, following = word | _ahead(word, following, U1), following | (following >> U1)
    word, following = word | _ahead(word, following, U2), following | (following >> U2)
    word, following = word | _ahead(word, following, U4), following | (following >> U4)
    word, following = word | _ahead(word, following, U8), following | (following >> U8)
    return word | _ahead(word, following, U10), following | (following >> U10)


def _rule(a: Plane, a_: Plane, cg: Plane, cg_: Plane, t: Plane, up: Plane, up_: Plane, down: Plane, down_: Plane) -> tuple[Plane, Plane]:
    """Return (plus, minus): candidates of both strands, plus bits 35 bases before the cleavage base."""
    near, _ = _within_26(up, up_)  # starts 0-25 on = 35-10 before a cleavage base 35 on
    plus = near & _ahead(a, a_, U35) & _ahead(cg, cg_, U34)
    near, near_ = _within_26(down, down_)
    minus = _ahead(near, near_, U5) & t & _ahead(cg, cg_, U1)  # lowest base 5-30 on = first base 10-35 on
    return plus, minus


# ---- engine numba: compiled by `_compiled`, never run as plain Python


def _popcount(x: Plane) -> Plane:
    x = x - ((x >> U1) & POP_1)
    x = (x & POP_2) + ((x >> U2) & POP_2)
    x = (x + (x >> U4)) & POP_4
    return (x * LOW_BITS) >> U56


def _planes(bases: Bases, low: int, words: int, flags: Bases, planes: Words) -> None:
    """Fill planes (4, words) uint64 of A, C, G, T from bases[low:]; beyond the end is N."""
    have = max(min(bases.size - low, words * 64), 0)
    part = bases[low : low + have]
    for i in range(have):  # compiles to byte-wide vector compares
        b = part[i] & np.uint8(0xDF)  # folds case
        flags[i] = (
            np.uint8(b == np.uint8(65))
            | (np.uint8(b == np.uint8(67)) << np.uint8(1))
            | (np.uint8(b == np.uint8(71)) << np.uint8(2))
            | (np.uint8((b & np.uint8(0xFE)) == np.uint8(84)) << np.uint8(3))  # T or U
        )
    flags[have : words * 64] = 0
    eights = flags.view(np.uint64)
    a, c, g, t = planes[0].view(np.uint8), planes[1].view(np.uint8), planes[2].view(np.uint8), planes[3].view(np.uint8)
    for i in range(words * 8):
        x = eights[i]
        a[i] = np.uint8(((x & LOW_BITS) * GATHER) >> U56)
        c[i] = np.uint8((((x >> U1) & LOW_BITS) * GATHER) >> U56)
        g[i] = np.uint8((((x >> U2) & LOW_BITS) * GATHER) >> U56)
        t[i] = np.uint8((((x >> U3) & LOW_BITS) * GATHER) >> U56)


def _mark(bases: Bases, plus: Words, minus: Words) -> None:
    """Fill the candidate words of both strands for all of `bases`, tile by tile."""
    flags = np.empty((TILE + 2) * 64, np.uint8)
    planes = np.empty((4, TILE + 2), np.uint64)
    up, down = np.empty(TILE + 1, np.uint64), np.empty(TILE + 1, np.uint64)
    a, c, g, t = planes[0], planes[1], planes[2], planes[3]
    for first in range(0, plus.size, TILE):
        words = min(TILE, plus.size - first)
        _planes(bases, first * 64, words + 2, flags, planes)
        for w in range(words + 1):
            up[w], down[w] = _starts(a[w], a[w + 1], c[w], c[w + 1], g[w], g[w + 1], t[w], t[w + 1])
        for w in range(words):
            cg, cg_ = c[w] | g[w], c[w + 1] | g[w + 1]
            plus[first + w], minus[first + w] = _rule(a[w], a[w + 1], cg, cg_, t[w], up[w], up[w + 1], down[w], down[w + 1])


def _find(bases: Bases) -> Found:
    """Return (positions int64, strands int8) of a stretch of bases."""
    words = (bases.size + 63) // 64
    plus, minus = np.empty(words, np.uint64), np.empty(words, np.uint64)
    _mark(bases, plus, minus)
    total = ZERO
    for w in range(words):
        total += _popcount(plus[w]) + _popcount(minus[w])
    positions, strands = np.empty(np.int64(total), np.int64), np.empty(np.int64(total), np.int8)
    n, before = 0, ZERO
    for w in range(words + 1):
        current, down = (plus[w], minus[w]) if w < words else (ZERO, ZERO)
        up = (current << U35) | (before >> U29)  # to the cleavage base
        before = current
        both = up | down  # never the same bit: one wants A there, the other T
        while both:
            index = BIT_INDEX[((both & (~both + U1)) * DE_BRUIJN) >> U58]  # of the lowest bit
            positions[n] = w * 64 + index
            strands[n] = np.int8(2) * np.int8((up >> np.uint64(index)) & U1) - np.int8(1)
            both &= both - U1
            n += 1
    return positions, strands


_HELPERS = (_ahead, _six, _hexamers, _mirror, _starts, _within_26, _rule, _popcount, _planes, _mark)


@functools.cache
def _compiled() -> Callable[[Bases], Found] | None:
    """Return `_find` in machine code, or None when numba cannot be used on this machine (said once in the log).

    The result is cached on disk where numba finds a writable place, else compiled anew in every process (about 3 s).
    """
    try:
        import numba
    except ImportError as error:
        _log.warning("numba cannot be used (%s): the candidate rule runs in numpy, about 5 times slower, same answers", error)
        return None
    # Compiled helpers live in a namespace of their own, so that the plain formulas stay plain for numpy; being one file, numba's
    # cache, which looks at the file's time only, never serves machine code of an older formula.
    namespace = dict(globals())
    for helper in _HELPERS:
        namespace[helper.__name__] = numba.njit(types.FunctionType(helper.__code__, namespace, helper.__name__))
    find = types.FunctionType(_find.__code__, namespace, _find.__name__)
    signature = [(numba.types.Array(numba.types.uint8, 1, "C", readonly=True),)]
    try:
        return numba.njit(signature, nogil=True, cache=True)(find)
    except (RuntimeError, OSError) as error:  # no writable cache folder, or its disk is full
        _log.info("numba's cache cannot be used (%s); compiling for this process only", error)
        return numba.njit(signature, nogil=True)(find)


def find_numba(bases: Bases) -> Found:
    """Find candidates with numba; numpy takes over when numba is missing. Edges: as `find_numpy`."""
    find = _compiled()
    return find_numpy(bases) if find is None else find(np.ascontiguousarray(bases))


# ---- engine numpy


def find_numpy(bases: Bases) -> Found:
    """Return positions int64 (ascending) and strands int8 of candidates in `bases`; what lies beyond either end counts as N.

    Only the bases the rule reads must be there (35 on one side): whether the 101-bp window fits the contig is the caller's question.
    """
    folded = bases & 0xDF
    words = (bases.size + 63) // 64 + 2  # two words of N behind
    letters = (folded == 65, folded == 67, folded == 71, (folded & 0xFE) == 84)
    padded = [np.zeros(words * 8, np.uint8) for _ in letters]
    for plane, letter in zip(padded, letters, strict=True):
        bits = np.packbits(letter, bitorder="little")
        plane[: bits.size] = bits
    a, c, g, t = (plane.view(np.uint64) for plane in padded)
    cg = c | g
    up, down = _starts(a[:-1], a[1:], c[:-1], c[1:], g[:-1], g[1:], t[:-1], t[1:])  # (words - 1,)
    plus, minus = _rule(a[:-2], a[1:-1], cg[:-2], cg[1:-1], t[:-2], up[:-1], up[1:], down[:-1], down[1:])  # (words - 2,)
    ups, downs = _set_bits(plus) + PLUS_AHEAD, _set_bits(minus)
    positions = np.concatenate((ups, downs))
    strands = np.repeat(np.array([1, -1], np.int8), (ups.size, downs.size))
    order = np.argsort(positions, kind="stable")  # a position is never a candidate of both strands: one wants A there, the other T
    return positions[order], strands[order]


def _set_bits(words: Words) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
