"""Where each contig lies in a FASTA: made, read and checked (.fai, and .gzi for bgzip).

The age of an index is never looked at (copies and checkouts change file times); whether it fits the file is.
Source of the formats: samtools-faidx(5) and the BGZF section of the SAM specification (SAMv1 4.1).
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from basewise.errors import BasewiseError

CHUNK = 1 << 24
SHORT_LOOK = 512
LOOK_BACK = 1 << 16  # longer than any header line or run of blank lines
GZIP_MAGIC = b"\x1f\x8b"
BGZF_MAGIC = b"\x1f\x8b\x08\x04"
BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
NEWLINE, CARRIAGE_RETURN, GREATER = 10, 13, 62


class ContigEntry(NamedTuple):
    """One .fai line: base i lies at byte ``offset + i // line_bases * line_width + i % line_bases`` of the (uncompressed) text."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    @property
    def end(self) -> int:
        """Return the byte after the last base; `offset` for an empty contig."""
        if not self.length:
            return self.offset
        row, column = divmod(self.length - 1, self.line_bases)
        return self.offset + row * self.line_width + column + 1


def is_bgzip(path: Path) -> bool:
    """Tell a bgzipped FASTA (True) from a plain one (False) by content.

    Raises
    ------
    BasewiseError
        The file is missing, empty, gzip that is not bgzip, a bgzip without its end-of-file block, or no FASTA at all.

    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
            stream.seek(max(0, size - len(BGZF_EOF)))
            tail = stream.read()
    except FileNotFoundError as error:
        raise BasewiseError(f"genome {path} does not exist; give the path of a FASTA file") from error
    except OSError as error:
        raise BasewiseError(f"cannot read genome {path}: {error.strerror or error}") from error
    if not head:
        raise BasewiseError(f"genome {path} is an empty file, expected a FASTA")
    if not head.startswith(GZIP_MAGIC):
        _require_header(path, head)
        return False
    if not head.startswith(BGZF_MAGIC) or head[12:14] != b"BC":
        raise BasewiseError(
            f"genome {path} is gzip but not bgzip, so places in it cannot be looked up; run: gunzip -c {path.name} | bgzip > bgzipped.fa.gz"
        )
    if tail != BGZF_EOF:
        raise BasewiseError(f"genome {path} is a truncated bgzip file (its end-of-file block is missing); fetch or compress it again")
    return True


def _require_header(path: Path, head: bytes) -> None:
    text = head.lstrip()
    if text.startswith(b">"):
        return
    shown = text[:20].decode("ascii", errors="replace").splitlines()
    raise BasewiseError(f"genome {path} is not a FASTA: it starts with {shown[0] if shown else ''!r}, expected '>' and a contig name")


def plain_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a plain file in pieces."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def bgzip_chunks(path: Path) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a bgzip file in pieces; BasewiseError when a block is damaged."""
    try:
        with pysam.BGZFile(str(path), "r") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except (OSError, ValueError) as error:
        raise BasewiseError(f"genome {path} is a damaged bgzip file ({error}); fetch or compress it again") from error


class _Contig:
    """The contig being read: what is known of its line geometry so far."""

    def __init__(self, name: str, offset: int, line: int) -> None:
        self.name, self.offset, self.line = name, offset, line
        self.length = self.line_bases = self.line_width = 0
        self.short_line = 0  # the line that was shorter than the first: only the last may be

    def entry(self) -> ContigEntry:
        return ContigEntry(self.name, self.length, self.offset, self.line_bases, self.line_width)

    def add(self, bases: np.ndarray, widths: np.ndarray, line: int, path: Path) -> None:
        """Take lines of `bases` letters and `widths` bytes; `line` is the 1-based number of the first of them in the file."""
        if not self.line_width:
            self.line_bases, self.line_width = int(bases[0]), int(widths[0])
        odd = np.flatnonzero((bases != self.line_bases) | (widths != self.line_width) | (bases == 0))
        full = len(bases) if not len(odd) else int(odd[0])
        if self.short_line and bases.any():
            raise self._uneven(path, self.short_line)
        if full < len(bases):
            if bases[full] > self.line_bases or (bases[full] == self.line_bases and bases[full]):
                raise self._uneven(path, line + full)
            if bases[full + 1 :].any():
                raise self._uneven(path, line + full)
            self.short_line = self.short_line or line + full
        self.length += int(bases[: full + 1].sum())

    def _uneven(self, path: Path, line: int) -> BasewiseError:
        return BasewiseError(
            f"genome {path}: line {line} of contig {self.name!r} differs in length from the contig's first line ({self.line_bases} bases); "
            "all lines of a contig but its last must be equally long: rewrap it (e.g. seqtk seq -l 60)"
        )


def index_text(chunks: Iterator[bytes], path: Path) -> list[ContigEntry]:
    """Return one entry a contig, in file order, from the uncompressed text of a FASTA; `path` is for messages.

    LF and CRLF are read; blank lines are accepted at the end of a contig. Names are the first word of the header.
    """
    entries: list[ContigEntry] = []
    contig: _Contig | None = None
    line, offset, carry = 1, 0, b""
    for chunk, last in _with_last(chunks):
        text = carry + chunk
        if last and not text.endswith(b"\n"):
            before = text.rfind(b"\n")  # the last line ends as the one before it does
            crlf = text[before - 1 : before] == b"\r" if before > 0 else contig is not None and contig.line_width == contig.line_bases + 2
            text = text.removesuffix(b"\r") + (b"\r\n" if crlf else b"\n")
        cut = text.rfind(b"\n") + 1
        carry, text = text[cut:], text[:cut]
        if not text:
            continue
        letters = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(letters == NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])
        widths = ends - starts + 1
        bases = widths - 1 - ((widths > 1) & (letters[np.maximum(ends - 1, 0)] == CARRIAGE_RETURN))
        headers = np.flatnonzero(letters[starts] == GREATER).tolist()
        for first, after in zip([-1, *headers], [*headers, len(ends)], strict=True):
            if first >= 0:
                if contig is not None:
                    entries.append(contig.entry())
                name = _header_name(text[starts[first] : ends[first]], path, line + first)
                contig = _Contig(name, offset + int(ends[first]) + 1, line + first)
            if contig is not None and after > first + 1:
                contig.add(bases[first + 1 : after], widths[first + 1 : after], line + first + 1, path)
        line += len(ends)
        offset += cut
    if contig is not None:
        entries.append(contig.entry())
    return unique_contigs(entries, path)


def _with_last(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    previous = next(chunks, b"")
    for chunk in chunks:
        yield previous, False
        previous = chunk
    yield previous, True


def _header_name(header: bytes, path: Path, line: int) -> str:
    if b"\r" in header.rstrip(b"\r"):
        raise BasewiseError(f"genome {path} ends its lines with a lone CR (old Mac); convert it, e.g. tr '\\r' '\\n'")
    words = header[1:].split()
    if not words or header[1:2].isspace():
        raise BasewiseError(f"genome {path}: the header on line {line} has no contig name right after '>'; name the contig")
    return words[0].decode("utf-8", errors="replace")


def unique_contigs(entries: list[ContigEntry], path: Path) -> list[ContigEntry]:
    """Return `entries`; BasewiseError when there is none or two share a name."""
    if not entries:
        raise BasewiseError(f"genome {path} holds no contig, expected a FASTA with '>' headers")
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise BasewiseError(f"genome {path} holds contig {entry.name!r} twice (the name is the first word of the header); rename one")
        seen.add(entry.name)
    return entries


def read_fai(path: Path) -> list[ContigEntry]:
    """Read a .fai file; BasewiseError names the file and says to delete it when it is damaged."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split("\t")
        try:
            length, offset, line_bases, line_width = map(int, fields[1:5])
        except ValueError as error:
            raise BasewiseError(f"index {path} is damaged (line {line!r}); delete it, it is then made again") from error
        if length and not 0 < line_bases < line_width:
            # a contig on one unterminated line: some indexers write width = bases there
            line_width = max(line_width, line_bases + 1)
        entries.append(ContigEntry(fields[0], length, offset, line_bases, line_width))
    return unique_contigs(entries, path)


def fai_text(entries: list[ContigEntry]) -> str:
    """Return the text of a .fai file."""
    return "".join("\t".join(map(str, entry)) + "\n" for entry in entries)


def require_fit_plain(entries: list[ContigEntry], text: np.ndarray, path: Path, index: Path) -> None:
    """Refuse an index whose contigs do not start after their header and end where the next header or the file does.

    `text` is the whole file as uint8 (a memory map).
    """
    for entry in entries:
        if not entry.length:
            continue
        header = _line_before(text, entry.offset)
        named = header.startswith(b">") and header[1:].split()[:1] == [entry.name.encode()]
        behind = text[entry.end : entry.end + SHORT_LOOK].tobytes().lstrip(b"\r\n")
        if entry.end > len(text) or not named or behind[:1] not in (b"", b">"):
            raise _unfit(path, index, entry.name)
    last = max(entries, key=lambda entry: entry.end)
    if text[last.end : last.end + LOOK_BACK].tobytes().strip(b"\r\n"):
        raise _unfit(path, index, last.name)


def _line_before(text: np.ndarray, offset: int) -> bytes:
    """Return the line that ends at byte `offset`; nearly always short, so little is looked at first."""
    line = b""
    for look in (SHORT_LOOK, LOOK_BACK):
        line = text[max(0, offset - look) : offset].tobytes().rstrip(b"\r\n")
        if b"\n" in line or look >= offset:
            break
    return line.rpartition(b"\n")[2]


def _unfit(path: Path, index: Path, name: str) -> BasewiseError:
    return BasewiseError(
        f"index {index} does not fit {path} (contig {name!r} does not end where it says): the FASTA is truncated or was changed; "
        f"fetch the FASTA again, or delete {index.name} to have it made anew"
    )


class BgzfBlocks(NamedTuple):
    """Where the blocks of a bgzip file start: `compressed`, `uncompressed` int64 (n,), block 0 included; and the text's size."""

    compressed: np.ndarray
    uncompressed: np.ndarray
    size: int


def bgzf_blocks(path: Path) -> BgzfBlocks:
    """Walk the block headers of a bgzip file (nothing is decompressed); BasewiseError when the chain is broken."""
    compressed, uncompressed = [], []
    at = size = 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while at < len(data):
            if data[at : at + 4] != BGZF_MAGIC or at + 18 > len(data) or data[at + 12 : at + 14] != b"BC":
                raise BasewiseError(f"genome {path} is a damaged bgzip file (no block at byte {at}); fetch or compress it again")
            compressed.append(at)
            uncompressed.append(size)
            at += struct.unpack_from("<H", data, at + 16)[0] + 1
            if at > len(data):
                raise BasewiseError(f"genome {path} is a truncated bgzip file (its last block is cut); fetch or compress it again")
            size += struct.unpack_from("<I", data, at - 4)[0]
    return BgzfBlocks(np.array(compressed, np.int64), np.array(uncompressed, np.int64), size)


def gzi_bytes(blocks: BgzfBlocks) -> bytes:
    """Return the bytes of a .gzi index: number of entries, then (compressed, uncompressed) of every block but the first and the last.

    The last block is the empty end-of-file block; no base lies in it.
    """
    pairs = np.stack([blocks.compressed[1:-1], blocks.uncompressed[1:-1]], axis=1).astype("<u8")
    return struct.pack("<Q", len(pairs)) + pairs.tobytes()


def require_fit_bgzip(entries: list[ContigEntry], blocks: BgzfBlocks, gzi: bytes | None, path: Path, index: Path) -> None:
    """Refuse a .fai whose last contig does not end where the text does, or a .gzi whose blocks are not the file's."""
    last = max(entries, key=lambda entry: entry.end)
    if not 0 <= blocks.size - last.end <= LOOK_BACK:
        raise _unfit(path, index, last.name)
    if gzi is None:
        return
    pairs = np.frombuffer(gzi[8:], "<u8").reshape(-1, 2).astype(np.int64) if len(gzi) % 16 == 8 else np.zeros((0, 2), np.int64)
    known = np.stack([blocks.compressed[1:], blocks.uncompressed[1:]], axis=1)
    if len(gzi) % 16 != 8 or len(known) - len(pairs) not in (0, 1) or not np.array_equal(pairs, known[: len(pairs)]):
        raise _unfit(path, index.with_suffix(".gzi"), last.name)
