"""One reader of what users hand in to be asked about: sequences in FASTA, CSV, TSV or Parquet, or intervals of a genome.

Whatever the format, a piece is a table with a column `sequence` (str, 5' to 3' on the strand asked about); all columns of the
input are kept, values as they were. Nothing is held but the piece at hand.
"""

import gzip
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from basewise.datasets.cohort import refuse_cohort
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import reverse_complement, to_str
from basewise.genome.contigs import check_contigs
from basewise.genome.fasta import Genome, open_genome
from basewise.genome.intervals import read_bed

SEQUENCE = "sequence"
Format = Literal["fasta", "csv", "tsv", "parquet", "bed"]

_SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".fas"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab", ".txt"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".bed": "bed",
}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_ROWS = 4096


@dataclass(frozen=True)
class Inputs:
    """An input that was found readable. `pieces()` may be called again: it starts anew.

    Attributes
    ----------
    columns : tuple of str
        Columns of the input, in its order; `sequence` is not among them for intervals of a genome.
    genome : Genome or None
        What the intervals lie on.
    """

    path: Path
    format: Format
    columns: tuple[str, ...]
    pieces: Callable[[], Iterator[pd.DataFrame]]
    genome: Genome | None = None


def open_inputs(path: str | Path, genome: str | Path | None = None, window: int | None = None, *, rows: int = _ROWS) -> Inputs:
    """Tell the format by suffix (``.gz`` aside), else by content, and check the header.

    Parameters
    ----------
    genome
        FASTA that the intervals of a BED lie on; refused with any other format, which has sequences of its own.
    window
        Bases around the centre base of each BED interval, N beyond the contig; None: the interval itself. Base ``length // 2`` of an
        interval as read on its strand is its centre, and becomes base ``window // 2``. An interval without strand is read on +.
    rows
        Rows of a piece.

    Raises
    ------
    BasewiseError
        Missing file, unknown format, no `sequence` column, a BED without genome or a genome without BED, strange contigs, and while
        reading: a FASTA record without name, a line of other columns, an empty file.
    """
    path = Path(path)
    refuse_cohort(path, "a file of sequences or intervals")
    if path.is_dir():
        raise BasewiseError(f"input {path} is a folder; expected a file: FASTA, CSV, TSV, Parquet or BED")
    if not path.is_file():
        raise BasewiseError(f"input {path} does not exist; expected FASTA, CSV, TSV, Parquet or BED")
    kind = _format(path)
    if (kind == "bed") != (genome is not None):
        reason = "holds intervals: add -g GENOME" if kind == "bed" else f"is {kind} and holds its own sequences: leave out -g"
        raise BasewiseError(f"input {path} {reason}")
    if kind == "fasta":
        return Inputs(path, kind, ("id", SEQUENCE), lambda: _fasta(path, rows))
    if kind == "bed":
        assert genome is not None
        table = read_bed(path)
        with open_genome(genome) as opened:
            check_contigs(table["chrom"].unique().tolist(), opened, str(path))
        if SEQUENCE in table:
            table = table.drop(columns=SEQUENCE)
        return Inputs(path, kind, tuple(table.columns), lambda: _intervals(table, opened, window, rows), opened)
    columns = _parquet_columns(path) if kind == "parquet" else _text_columns(path, kind)
    if SEQUENCE not in columns:
        hint = did_you_mean(SEQUENCE, [column.lower() for column in columns])
        raise BasewiseError(f"{path} has no column {SEQUENCE!r}, it has {', '.join(columns)}; name the column of bases {SEQUENCE!r}.{hint}")
    if kind == "parquet":
        return Inputs(path, kind, columns, lambda: _parquet(path, rows))
    return Inputs(path, kind, columns, lambda: _text(path, kind, columns, rows))


def _format(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".bgz")]
    if suffixes and suffixes[-1] in _SUFFIXES:
        return _SUFFIXES[suffixes[-1]]
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return "parquet"
    with _opened(path) as text:
        first = text.readline()
    if first.startswith((">", ";")):
        return "fasta"
    for separator, kind in (("\t", "tsv"), (",", "csv")):
        if SEQUENCE in first.rstrip("\r\n").split(separator):
            return "csv" if kind == "csv" else "tsv"
    raise BasewiseError(f"format of {path} is not known from its name or its first line; expected FASTA, CSV, TSV, Parquet or BED")


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8", newline=None)
    return path.open(encoding="utf-8-sig", newline=None)


def _fasta(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield records id (first word of the header), sequence (lines joined); a record may be empty, which the caller judges."""
    names: list[str] = []
    lines: list[list[str]] = []
    with _reading(path), _opened(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.strip()
            if line.startswith(">"):
                if len(names) == rows:
                    yield _records(names, lines)
                    names, lines = [], []
                words = line[1:].split()
                if not words:
                    raise BasewiseError(f"{path}, line {number}: a FASTA header without a name, expected >NAME")
                names.append(words[0])
                lines.append([])
            elif line and not names:
                raise BasewiseError(f"{path}, line {number}: {line[:20]!r} stands before the first header, expected FASTA (>NAME)")
            elif line:
                lines[-1].append(line)
    if not names:
        raise BasewiseError(f"{path} holds no sequence, expected FASTA records")
    yield _records(names, lines)


def _records(names: list[str], lines: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"id": pd.Series(names, dtype=object), SEQUENCE: pd.Series(["".join(part) for part in lines], dtype=object)})


def _text_columns(path: Path, kind: Format) -> tuple[str, ...]:
    with _reading(path), _opened(path) as stream:
        table = pd.read_csv(stream, sep=_separator(kind), dtype=str, nrows=0, index_col=False)
    return tuple(map(str, table.columns))


def _separator(kind: Format) -> str:
    return "," if kind == "csv" else "\t"


def _text(path: Path, kind: Format, columns: tuple[str, ...], rows: int) -> Iterator[pd.DataFrame]:
    """Yield pieces; a column of whole numbers throughout becomes int64, every other one stays the text it is."""
    whole = dict.fromkeys((column for column in columns if column != SEQUENCE), True)
    for piece in _text_pieces(path, kind, rows):
        for column in [column for column, still in whole.items() if still]:
            whole[column] = all(_INTEGER.fullmatch(value) for value in piece[column])
    any_row = False
    for piece in _text_pieces(path, kind, rows):
        any_row = True
        yield piece.astype({column: np.int64 for column, still in whole.items() if still})
    if not any_row:
        raise BasewiseError(f"{path} holds no row below its header")


def _text_pieces(path: Path, kind: Format, rows: int) -> Iterator[pd.DataFrame]:
    with _reading(path), _opened(path) as stream:
        reader = pd.read_csv(stream, sep=_separator(kind), dtype=object, keep_default_na=False, index_col=False, chunksize=rows)
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a line longer than the header would lose its last cells
                piece = next(reader, None)
            if piece is None or piece.empty:  # a header alone comes as one empty piece
                return
            yield piece.reset_index(drop=True)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    with _reading(path):
        return tuple(pq.read_schema(path).names)


def _parquet(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    with _reading(path), pq.ParquetFile(path) as file:
        if not file.metadata.num_rows:
            raise BasewiseError(f"{path} holds no row")
        for batch in file.iter_batches(batch_size=rows):
            table = batch.to_pandas(types_mapper=pd.ArrowDtype)  # every type, nested and null ones too, comes back out as it went in
            table[SEQUENCE] = table[SEQUENCE].astype(object).where(table[SEQUENCE].notna(), "")
            yield table


def _intervals(table: pd.DataFrame, genome: Genome, window: int | None, rows: int) -> Iterator[pd.DataFrame]:
    with genome:
        for low in range(0, len(table), rows):
            piece = table.iloc[low : low + rows].reset_index(drop=True)
            strands = piece["strand"] if "strand" in piece else ["+"] * len(piece)
            places = zip(piece["chrom"], piece["start"], piece["end"], strands, strict=True)
            piece[SEQUENCE] = pd.Series([_around(genome, *place, window) for place in places], dtype=object)
            yield piece


def _around(genome: Genome, chrom: str, start: int, end: int, strand: str, window: int | None) -> str:
    """Return the bases of an interval, or `window` bases around its centre base, as read on its strand."""
    if end <= start or end > genome.contigs[chrom]:
        raise BasewiseError(f"interval {chrom}:{start}-{end} is empty or reaches beyond its contig of {genome.contigs[chrom]} bases")
    bases = genome.window(chrom, *window_around(start, end, strand, window))
    return to_str(reverse_complement(bases) if strand == "-" else bases)


def window_around(start: int, end: int, strand: str, window: int | None) -> tuple[int, int]:
    """Return [first, last) of the bases read for an interval (see `open_inputs`); it may reach beyond the contig."""
    if window is None:
        return start, end
    center = center_base(start, end, strand)
    first = center - (window - 1 - window // 2 if strand == "-" else window // 2)
    return first, first + window


def center_base(start: int, end: int, strand: str) -> int:
    """Return the position of base ``length // 2`` of an interval as read on its strand."""
    half = (end - start) // 2
    return end - 1 - half if strand == "-" else start + half


class _reading:  # noqa: N801  a context manager that reads as a verb
    """Turn what readers raise on a damaged file into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(
            error,
            (
                OSError,
                EOFError,
                UnicodeDecodeError,
                pd.errors.ParserError,
                pd.errors.ParserWarning,
                pd.errors.EmptyDataError,
                pa.ArrowException,
            ),
        ):
            text = (str(error) or type(error).__name__).splitlines()[0]
            raise BasewiseError(f"cannot read {self._path}: {text}; is it whole?") from error
