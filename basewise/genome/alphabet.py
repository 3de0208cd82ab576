"""Bases as bytes: the one place where characters become numbers and strands are turned.

`bases` is a numpy uint8 array of ASCII bytes as in the FASTA, soft-mask case kept. Case never changes an answer.
"""

from typing import overload

import numpy as np
import numpy.typing as npt

Bases = npt.NDArray[np.uint8]

N_CODE = 4  # codes: A0 C1 G2 T3 N4

_IUPAC = b"ACGTURYSWKMBDHVN"
_IUPAC_COMPLEMENT = b"TGCAAYRSWMKVHDBN"  # NC-IUB 1984, Nucleic Acids Res. 13:3021

_COMPLEMENT = np.arange(256, dtype=np.uint8)
_CODES = np.full(256, N_CODE, dtype=np.uint8)
for _base, _partner in zip(_IUPAC, _IUPAC_COMPLEMENT, strict=True):
    _COMPLEMENT[_base] = _partner
    _COMPLEMENT[_base | 0x20] = _partner | 0x20
for _code, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
    _CODES[list(_letters)] = _code


def as_bases(sequence: str | bytes | Bases) -> Bases:
    """Return `sequence` as a uint8 array (L,) of ASCII bytes; an array is returned as it is."""
    if isinstance(sequence, np.ndarray):
        return sequence
    raw = sequence.encode("ascii", errors="replace") if isinstance(sequence, str) else sequence
    return np.frombuffer(raw, dtype=np.uint8)


def to_str(bases: Bases) -> str:
    """Return a uint8 array (L,) of ASCII bytes as text."""
    return bases.tobytes().decode("ascii")


def codes(bases: Bases) -> Bases:
    """Return codes uint8 (...,): A0 C1 G2 T3, everything else (N, IUPAC, gaps) 4; case folded, U counts as T."""
    return _CODES[bases]


@overload
def reverse_complement(sequence: str) -> str: ...
@overload
def reverse_complement(sequence: bytes) -> bytes: ...
@overload
def reverse_complement(sequence: Bases) -> Bases: ...
def reverse_complement(sequence: str | bytes | Bases) -> str | bytes | Bases:
    """Return the other strand, 5' to 3', in the type given; IUPAC codes are complemented, case and strange characters kept.

    >>> reverse_complement("AACGTn")
    'nACGTT'
    """
    turned: Bases = _COMPLEMENT[as_bases(sequence)][::-1]
    if isinstance(sequence, str):
        return to_str(turned)
    return turned.tobytes() if isinstance(sequence, bytes) else turned
