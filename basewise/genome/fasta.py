"""A genome on disk: open it, look at any stretch, stream whole contigs.

Plain FASTA is memory-mapped and copied without its line ends by numpy (many times faster than a FASTA library); bgzip goes
through pysam. Bases come out exactly as in the file: soft-mask case and IUPAC codes kept.
"""

import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
import pysam

from basewise.errors import BasewiseError, did_you_mean
from basewise.files import atomic_path, sha256_of
from basewise.genome.alphabet import Bases
from basewise.genome.contigs import check_contigs
from basewise.genome.fasta_index import (
    ContigEntry,
    bgzf_blocks,
    bgzip_chunks,
    fai_text,
    gzi_bytes,
    index_text,
    is_bgzip,
    plain_chunks,
    read_fai,
    require_fit_bgzip,
    require_fit_plain,
)

__all__ = ["Genome", "check_contigs", "open_genome"]

logger = logging.getLogger(__name__)

N = ord("N")
FASTA_SUFFIXES = {".gz", ".bgz", ".fa", ".fasta", ".fna", ".fas"}


def open_genome(path: str | Path) -> "Genome":
    """Open a FASTA (plain or bgzip) for random access; make its index when there is none.

    The index (.fai, for bgzip also .gzi) is written beside the file when that folder is writable, else kept in memory or in a
    temporary folder. An index that does not fit the file is refused: the FASTA is truncated or was changed. The age of an
    index is not looked at, since copies and checkouts change file times.

    Parameters
    ----------
    path
        A FASTA. Lines of a contig must be equally long but for the last; LF and CRLF, lower case, IUPAC codes, empty contigs,
        descriptions after the name are fine. The name of a contig is the first word of its header, ``|`` and all.

    Raises
    ------
    BasewiseError
        The file is missing, empty, truncated, gzip but not bgzip, not a FASTA, has uneven lines (the line is named) or
        two contigs of one name, or does not fit its index.

    Examples
    --------
    >>> with open_genome("examples/chr22_20-21Mb.fa.gz") as genome:
    ...     bytes(genome.fetch("chr22_20000001_21000000", 0, 8))
    b'TGGGAAGG'

    """
    path = Path(path)
    return Genome(path, *(_index_bgzip(path) if is_bgzip(path) else _index_plain(path)))


class Genome:
    """An open FASTA; made by `open_genome`. A context manager.

    Safe to hand to other processes: after a fork it reopens the file, and a pickle carries the path and the index, so that a
    worker reopens without indexing again. Safe to read from several threads.
    """

    def __init__(
        self, path: Path, entries: list[ContigEntry], index: tuple[Path, Path] | None, scratch: Path | None, sha256: str | None = None
    ) -> None:
        self._path = path.absolute()
        self._entries = {entry.name: entry for entry in entries}
        self._contigs = MappingProxyType({entry.name: entry.length for entry in entries})
        self._index = index  # (.fai, .gzi) of a bgzip file, None for a plain one
        self._scratch = scratch  # temporary folder of the index, removed with this object
        self._finalizer = weakref.finalize(self, _remove_scratch, scratch, os.getpid()) if scratch else None
        self._sha256 = sha256
        self._handle: Any = None
        self._lock = threading.Lock()
        _GENOMES.add(self)

    @property
    def path(self) -> Path:
        """The FASTA's absolute path."""
        return self._path

    @property
    def name(self) -> str:
        """The file's name without its FASTA suffixes: ``hg38`` for ``/data/hg38.fa.gz``."""
        name = Path(self._path.name)
        while name.suffix.lower() in FASTA_SUFFIXES:
            name = name.with_suffix("")
        return str(name)

    @property
    def contigs(self) -> Mapping[str, int]:
        """Length of every contig by name, in file order; empty contigs (length 0) included."""
        return self._contigs

    def sha256(self) -> str:
        """Return the hex sha256 of the file's bytes (compressed, if it is); read once, then remembered."""
        if self._sha256 is None:
            self._sha256 = sha256_of(self._path)
        return self._sha256

    def fetch(self, chrom: str, start: int, end: int) -> Bases:
        """Return bases [start, end) of the plus strand, uint8 (end - start,), case as in the file; a fresh array.

        Raises
        ------
        BasewiseError
            No such contig; not ``0 <= start <= end <= length``; the file cannot be read there.

        """
        entry = self._entry(chrom)
        if not 0 <= start <= end <= entry.length:
            raise BasewiseError(
                f"{chrom}:{start}-{end} (0-based, half-open) is not inside contig {chrom!r} of {self._path.name}, "
                f"which has {entry.length} bases; expected 0 <= start <= end <= {entry.length}"
            )
        if start == end:
            return np.empty(0, np.uint8)
        return self._fetch_plain(entry, start, end) if self._index is None else self._fetch_bgzip(entry, start, end)

    def window(self, chrom: str, start: int, end: int) -> Bases:
        """Return bases [start, end) as `fetch`, but either end may lie beyond the contig: what is not there is ``N``."""
        length = self._entry(chrom).length
        if start > end:
            raise BasewiseError(f"window {chrom}:{start}-{end} ends before it starts; expected start <= end")
        window = np.full(end - start, N, np.uint8)
        inner_start, inner_end = min(max(start, 0), length), min(max(end, 0), length)
        if inner_start < inner_end:
            window[inner_start - start : inner_end - start] = self.fetch(chrom, inner_start, inner_end)
        return window

    def blocks(self, chrom: str, size: int, overlap: int = 0) -> Iterator[tuple[int, Bases]]:
        """Stream a contig as (start, bases) of at most `size` bases; consecutive blocks share `overlap` bases.

        Starts are 0, size - overlap, 2 (size - overlap) ...; the last block is the first to reach the contig's end. Every
        stretch of ``overlap + 1`` bases or fewer thus lies whole in at least one block. An empty contig has no block.
        """
        if not 0 <= overlap < size:
            raise BasewiseError(f"blocks of {size} bases cannot overlap by {overlap}; expected 0 <= overlap < size")
        length = self._entry(chrom).length
        for start in range(0, max(length - overlap, min(length, 1)), size - overlap):
            yield start, self.fetch(chrom, start, min(start + size, length))

    def close(self) -> None:
        """Close the file and remove a temporary index; a later fetch reopens a plain file."""
        with self._lock:
            if self._handle is not None and self._index is not None:
                self._handle.close()
            self._handle = None
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Genome {self.name}: {len(self.contigs)} contigs, {sum(self.contigs.values()):,} bases>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._path, list(self._entries.values()), self._index, self._sha256)

    def _entry(self, chrom: str) -> ContigEntry:
        entry = self._entries.get(chrom)
        if entry is None:
            check_contigs([chrom], self, "the request")
            raise BasewiseError(f"no contig {chrom!r} in {self._path}.{did_you_mean(chrom, self._entries)}")
        return entry

    def _open(self) -> Any:
        """Return the handle, opened when needed: a memory map (plain) or a pysam.FastaFile."""
        if self._handle is None:
            try:
                if self._index is None:
                    self._handle = np.memmap(self._path, np.uint8, mode="r")
                else:
                    fai, gzi = map(str, self._index)
                    self._handle = pysam.FastaFile(str(self._path), filepath_index=fai, filepath_index_compressed=gzi)
            except (OSError, ValueError) as error:
                raise BasewiseError(f"cannot read genome {self._path}: {error}; was it moved or changed while open?") from error
        return self._handle

    def forget_handle(self) -> None:
        """After a fork: the parent's file position must not be shared, and its lock may be held by a thread that is not here."""
        self._handle, self._lock = None, threading.Lock()

    def _fetch_plain(self, entry: ContigEntry, start: int, end: int) -> Bases:
        per_line, width = entry.line_bases, entry.line_width
        text = self._open()
        if entry.offset + (end - 1) // per_line * width + (end - 1) % per_line >= len(text):
            raise BasewiseError(f"genome {self._path} was cut while open; fetch it again")
        bases = np.empty(end - start, np.uint8)
        row, column = divmod(start, per_line)
        head = min(end - start, (per_line - column) % per_line)  # the rest of a line begun
        byte = entry.offset + row * width + column
        bases[:head] = text[byte : byte + head]
        row += column > 0
        full = (end - start - head) // per_line
        byte = entry.offset + row * width
        if full:
            # the last full line may lack its line end at the end of the file: that one is copied with the tail
            lines = text[byte : byte + (full - 1) * width].reshape(full - 1, width)
            bases[head : head + (full - 1) * per_line].reshape(full - 1, per_line)[:] = lines[:, :per_line]
            byte += (full - 1) * width
            bases[head + (full - 1) * per_line : head + full * per_line] = text[byte : byte + per_line]
            byte += width
        tail = end - start - head - full * per_line
        bases[head + full * per_line :] = text[byte : byte + tail]
        return bases

    def _fetch_bgzip(self, entry: ContigEntry, start: int, end: int) -> Bases:
        with self._lock:
            try:
                text = self._open().fetch(entry.name, start, end)
            except (OSError, ValueError) as error:
                raise BasewiseError(f"genome {self._path} is damaged near {entry.name}:{start}-{end} ({error}); fetch it again") from error
        if len(text) != end - start:
            raise BasewiseError(f"genome {self._path} is damaged near {entry.name}:{start}-{end}; fetch or compress it again")
        return np.frombuffer(bytearray(text, "latin-1"), np.uint8)


_GENOMES: weakref.WeakSet[Genome] = weakref.WeakSet()


def _after_fork() -> None:
    for genome in list(_GENOMES):
        genome.forget_handle()


os.register_at_fork(after_in_child=_after_fork)


def _reopen(path: Path, entries: list[ContigEntry], index: tuple[Path, Path] | None, sha256: str | None) -> Genome:
    """Rebuild a Genome from its pickle; a temporary index that is gone is made again."""
    if index is not None and not all(part.exists() for part in index):
        return Genome(path, *_index_bgzip(path), sha256)
    return Genome(path, entries, index, None, sha256)


def _remove_scratch(scratch: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child: the parent still reads it
        shutil.rmtree(scratch, ignore_errors=True)


def _index_plain(path: Path) -> tuple[list[ContigEntry], None, None]:
    index = Path(f"{path}.fai")
    if index.exists():
        entries = read_fai(index)
        require_fit_plain(entries, np.memmap(path, np.uint8, mode="r"), path, index)
    else:
        entries = index_text(plain_chunks(path), path)
        _try_write(index, fai_text(entries).encode())
    return entries, None, None


def _index_bgzip(path: Path) -> tuple[list[ContigEntry], tuple[Path, Path], Path | None]:
    fai, gzi = Path(f"{path}.fai"), Path(f"{path}.gzi")
    blocks = bgzf_blocks(path)
    entries = read_fai(fai) if fai.exists() else index_text(bgzip_chunks(path), path)
    require_fit_bgzip(entries, blocks, gzi.read_bytes() if gzi.exists() else None, path, fai)
    missing = [(index, text) for index, text in ((fai, fai_text(entries).encode()), (gzi, gzi_bytes(blocks))) if not index.exists()]
    if all(_try_write(index, text) for index, text in missing):
        return entries, (fai.absolute(), gzi.absolute()), None
    scratch = Path(tempfile.mkdtemp(prefix="basewise-index-"))
    (scratch / "fai").write_text(fai_text(entries))
    (scratch / "gzi").write_bytes(gzi_bytes(blocks))
    return entries, (scratch / "fai", scratch / "gzi"), scratch


def _try_write(index: Path, content: bytes) -> bool:
    """Write an index beside its FASTA; False, not an error, when the folder is not ours to write to."""
    try:
        with atomic_path(index) as temporary:
            temporary.write_bytes(content)
    except BasewiseError as error:
        logger.debug("index not kept beside the genome: %s", error)
        return False
    return True
