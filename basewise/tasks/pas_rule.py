"""Stage 1 of the poly(A) scan: which bases are candidate cleavage sites, on both strands, and by which hexamer.

A candidate is the 51st base of a 101-bp window that lies wholly inside its contig; it is A, the base before it is C or G, and one of 18
hexamers *starts* 10 to 35 bases upstream of it (offset = distance from the hexamer's first base to the cleavage base). On the minus strand
all of this is read on the reverse complement. Case does not matter, U counts as T, N and other IUPAC codes match nothing; N elsewhere in
the window excludes nothing. Source: Stage 1 (Biological Filtering) of the poly(A) genomic-language-model paper, section 2.2.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, as_bases, codes
from basewise.tasks.pas_kernel import find_numba, find_numpy

# the paper's order; the first of the list that qualifies names a candidate
HEXAMERS = (
    *("AATAAA", "ATTAAA", "AGTAAA", "CATAAA", "TATAAA", "GATAAA", "ACTAAA", "AATACA", "AATATA"),
    *("AAGAAA", "AATAGA", "AATGAA", "TTTAAA", "AAAATA", "TATATA", "AGATAA", "ATTACA", "AGAATA"),
)
FIRST, LAST = 10, 35  # a hexamer starts FIRST to LAST bases upstream of the cleavage base, both included
WINDOW = 101
BEST_OFFSET = 21  # of equal hexamers the one nearest to here is reported: the peak of annotated human sites
BLOCK = 1 << 20
ENGINES = {"numba": find_numba, "numpy": find_numpy}
NO_HEXAMER = -1

Positions = npt.NDArray[np.int64]
Strands = npt.NDArray[np.int8]


class Candidates(NamedTuple):
    """Candidates sorted by position: `position` int64, 0-based cleavage base, and `strand` int8 +1/-1, one row each."""

    position: Positions
    strand: Strands


class Sequences(Protocol):
    """What `iter_candidates` asks of a genome; `basewise.genome.fasta.Genome` is one."""

    @property
    def contigs(self) -> Mapping[str, int]:
        """Lengths by contig name."""

    def fetch(self, chrom: str, start: int, end: int) -> Bases:
        """Return bases [start, end) of a contig."""


def find_candidates(bases: str | bytes | Bases, engine: str = "numba") -> Candidates:
    """Return all candidates of one contig, given whole; positions are 0-based in `bases`.

    `engine`: "numba" (numpy where numba is missing) or "numpy"; the answers are identical. A sequence shorter than 101 has none.

    >>> find_candidates("C" * 29 + "AATAAA" + "C" * 15 + "A" + "C" * 50)
    Candidates(position=array([50]), strand=array([1], dtype=int8))
    """
    bases = as_bases(bases)
    blocks = [
        candidates_of_block(
            bases[max(start - LAST, 0) : start + BLOCK + LAST], max(start - LAST, 0), bases.size, start, start + BLOCK, engine
        )
        for start in range(0, max(bases.size, 1), BLOCK)
    ]
    return Candidates(np.concatenate([block.position for block in blocks]), np.concatenate([block.strand for block in blocks]))


def candidates_of_block(bases: Bases, offset: int, length: int, start: int, end: int, engine: str = "numba") -> Candidates:
    """Return the candidates of a contig in [start, end), in contig coordinates, from a block of its bases.

    Parameters
    ----------
    bases
        uint8 (L,), the contig from `offset` on; must reach 35 bases beyond [start, end) on both sides, or to the contig's ends.
    length
        of the whole contig: the 101-bp window must lie inside it, not inside the block.

    Raises
    ------
    BasewiseError
        for an unknown engine or a block that does not reach far enough.
    """
    if engine not in ENGINES:
        raise BasewiseError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}.{did_you_mean(engine, ENGINES)}")
    start, end = max(start, 0), min(end, length)
    if start < end and (offset > max(start - LAST, 0) or offset + bases.size < min(end + LAST, length)):
        raise BasewiseError(
            f"a block of bases [{offset}, {offset + bases.size}) is too short for candidates in [{start}, {end}): "
            f"it must reach {LAST} bases beyond on both sides or to the contig's ends (length {length})"
        )
    half = WINDOW // 2
    position, strand = ENGINES[engine](bases)
    low, high = max(start, half) - offset, min(end, length - half) - offset
    inside = slice(*np.searchsorted(position, (low, max(high, low))))
    return Candidates(position[inside] + offset, strand[inside])


def iter_candidates(
    genome: Sequences, chrom: str, start: int = 0, end: int | None = None, block: int = BLOCK, engine: str = "numba"
) -> Iterator[Candidates]:
    """Yield the candidates in [start, end) of a contig, block by block, in contig coordinates; `end` None is the contig's end.

    Concatenated they are the answer of `find_candidates` on the whole contig, cut to [start, end), for any block size.
    """
    if block < 1:
        raise BasewiseError(f"block is {block}, expected at least 1 base")
    if chrom not in genome.contigs:
        raise BasewiseError(f"the genome has no contig {chrom!r}.{did_you_mean(chrom, genome.contigs)}")
    length = genome.contigs[chrom]
    end = length if end is None else min(end, length)
    for low in range(max(start, 0), end, block):
        high = min(low + block, end)
        first, last = max(low - LAST, 0), min(high + LAST, length)
        yield candidates_of_block(genome.fetch(chrom, first, last), first, length, low, high, engine)


def _hexamer_ranks(flip: bool) -> npt.NDArray[np.int8]:
    """Return the rank (0-17, 18 = none) of every 6-mer of codes 0-4 read as a number in base 5; `flip` reads the other strand."""
    ranks = np.full(5**6, len(HEXAMERS), np.int8)
    for rank, hexamer in enumerate(HEXAMERS):
        word = codes(as_bases(hexamer)).astype(np.int64)
        word = 3 - word[::-1] if flip else word
        ranks[word @ 5 ** np.arange(5, -1, -1)] = rank
    return ranks


_RANKS = {1: _hexamer_ranks(flip=False), -1: _hexamer_ranks(flip=True)}
_OFFSETS = np.arange(FIRST, LAST + 1)
# best first: the order in which offsets are looked at, nearest to BEST_OFFSET, the smaller of two equally near
_PREFERRED = _OFFSETS[np.lexsort((_OFFSETS, np.abs(_OFFSETS - BEST_OFFSET)))]


def describe(bases: str | bytes | Bases, position: Positions, strand: Strands) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Return (hexamer, hexamer_offset), int8 (n,) each, of cleavage bases at `position` in `bases`.

    Among the hexamers that start 10-35 upstream the one listed first in HEXAMERS is named (by its index); of several such the offset
    nearest to 21, then the smaller. Only the hexamer is looked at, so that any base may be asked about: where none qualifies both are -1.
    Positions near the ends of `bases` see N beyond them: give blocks 35 bases of margin.
    """
    bases = as_bases(bases)
    position, strand = np.asarray(position, np.int64), np.asarray(strand, np.int8)
    if position.size and (position.min() < 0 or position.max() >= bases.size):
        raise BasewiseError(f"positions reach from {position.min()} to {position.max()}, expected 0 to {bases.size - 1}")
    padded = np.full(bases.size + 2 * LAST, ord("N"), np.uint8)
    padded[LAST : LAST + bases.size] = bases
    letter = codes(padded).astype(np.int16)
    word = letter[:-5].copy()  # (L,) 6-mers in base 5, int16 holds 5**6
    for step in range(1, 6):
        word = word * 5 + letter[step : letter.size - 5 + step]
    hexamer = np.empty(position.size, np.int8)
    offset = np.empty(position.size, np.int8)
    for sign in (1, -1):
        mine = np.flatnonzero(strand == sign)
        lowest = -_PREFERRED if sign > 0 else _PREFERRED - 5  # of the hexamer's six bases, from the cleavage base
        ranks = _RANKS[sign][word][(position[mine] + LAST)[:, None] + lowest]  # (n, 26)
        best = ranks.argmin(axis=1)  # the first of equals: preferred offsets come first
        rank = ranks[np.arange(mine.size), best]
        found = rank < len(HEXAMERS)
        hexamer[mine] = np.where(found, rank, NO_HEXAMER)
        offset[mine] = np.where(found, _PREFERRED[best], NO_HEXAMER)
    return hexamer, offset
