"""Sequencing reads: FASTQ streamed, qualities ignored, a bounded and repeatable choice of reads kept."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases

GZIP_MAGIC = b"\x1f\x8b"


def read_fastq(path: str | Path) -> Iterator[bytes]:
    """Stream the bases of a FASTQ (plain, gzip or bgzip), read by read, as in the file; reads of no base are passed over.

    Raises
    ------
    BasewiseError
        The file is missing, truncated (gzip or its last record), or not four lines a read.

    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            yield from _records(gzip.GzipFile(fileobj=raw) if packed else raw, path)
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist") from error
    except EOFError as error:
        raise BasewiseError(f"{path} is truncated gzip; fetch it again") from error
    except (OSError, zlib.error) as error:
        raise BasewiseError(f"cannot read {path}: {error}") from error


def _records(stream: gzip.GzipFile | IO[bytes], path: Path) -> Iterator[bytes]:
    number = 0
    while header := stream.readline():
        if not header.strip():
            continue
        number += 1
        bases, plus, quality = (stream.readline() for _ in range(3))
        sequence = bases.strip()
        if not header.startswith(b"@") or (plus and not plus.startswith(b"+")):
            raise BasewiseError(f"{path}, read {number}: expected four lines @name, bases, +, qualities; is it a FASTQ of unwrapped lines?")
        if not plus:
            raise BasewiseError(f"{path}, read {number}: the file ends before its line +; the record is truncated, fetch it again")
        if len(quality.rstrip(b"\r\n")) != len(sequence):
            raise BasewiseError(
                f"{path}, read {number}: {len(sequence)} bases but {len(quality.rstrip())} qualities; "
                "the record is truncated, fetch the file again"
            )
        if sequence:
            yield sequence


def keep_reads(paths: Iterable[str | Path], most: int, seed: int) -> tuple[Bases, npt.NDArray[np.int64], int]:
    """Return (bases end to end, offsets (R + 1,), reads seen): at most `most` reads, every read as likely as any other.

    Reservoir sampling (Vitter's algorithm R): one pass, memory for the reads kept. The same files, `most` and `seed` keep the same reads.
    """
    rng = np.random.default_rng(seed)
    kept: list[bytes] = []
    seen = 0
    for path in paths:
        for read in read_fastq(path):
            if len(kept) < most:
                kept.append(read)
            else:
                place = int(rng.integers(seen + 1))
                if place < most:
                    kept[place] = read
            seen += 1
    offsets = np.zeros(len(kept) + 1, np.int64)
    np.cumsum([len(read) for read in kept], out=offsets[1:])
    return np.frombuffer(b"".join(kept), np.uint8), offsets, seen
