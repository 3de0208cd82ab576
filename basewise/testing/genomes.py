"""Tiny genomes for tests: random but repeatable, written as plain or bgzipped FASTA."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pysam


def random_genome(
    seed: int,
    contigs: Mapping[str, int],
    *,
    n_runs: int = 0,
    n_length: int = 50,
    soft_mask: float = 0.0,
    iupac: float = 0.0,
    at: float = 0.6,
) -> dict[str, bytes]:
    """Return name -> ASCII bases of the lengths asked for; the same seed always gives the same genome.

    Parameters
    ----------
    seed
        Seed of the random bases.
    contigs
        Length of each contig by name; 0 is allowed.
    n_runs
        Runs of N a contig, each up to `n_length` bases, anywhere (edges too).
    soft_mask
        Fraction of bases in lower case, in runs of about 30.
    iupac
        Fraction of bases replaced by an IUPAC code other than N.
    at
        Expected fraction of A + T.

    """
    rng = np.random.default_rng(seed)
    genome = {}
    for name, length in contigs.items():
        bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), length, p=[at / 2, (1 - at) / 2, (1 - at) / 2, at / 2])
        codes = rng.random(length) < iupac
        bases[codes] = rng.choice(np.frombuffer(b"RYSWKMBDHV", np.uint8), int(codes.sum()))
        for _ in range(n_runs if length else 0):
            start = int(rng.integers(length))
            bases[start : start + int(rng.integers(1, n_length + 1))] = ord("N")
        masked = np.repeat(rng.random(length // 30 + 1) < soft_mask, 30)[:length]
        bases[masked] |= 0x20
        genome[name] = bases.tobytes()
    return genome


def write_fasta(
    path: str | Path, contigs: Mapping[str, bytes | str], line: int = 60, *, crlf: bool = False, last_newline: bool = True
) -> Path:
    """Write name -> bases as a plain FASTA wrapped at `line` bases and return its path; a key may hold a description after a space."""
    end = b"\r\n" if crlf else b"\n"
    pieces = []
    for name, sequence in contigs.items():
        raw = sequence.encode() if isinstance(sequence, str) else sequence
        pieces.append(b">" + name.encode() + end)
        pieces.extend(raw[start : start + line] + end for start in range(0, len(raw), line))
    text = b"".join(pieces)
    path = Path(path)
    path.write_bytes(text if last_newline else text.removesuffix(end))
    return path


def bgzip_fasta(path: str | Path) -> Path:
    """Write `path`.gz, the bgzipped copy of a plain FASTA, and return its path; no index is made."""
    packed = Path(f"{path}.gz")
    pysam.tabix_compress(str(path), str(packed), force=True)
    return packed
