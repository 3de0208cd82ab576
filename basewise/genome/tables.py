"""Tables on disk: Parquet out, CSV, TSV or Parquet in."""

import gzip
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from basewise.errors import BasewiseError
from basewise.files import atomic_path

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
COMPRESSIONS = (".gz", ".bgz")


def write_parquet(table: pd.DataFrame | Iterable[pd.DataFrame], path: str | Path) -> None:
    """Write a table, or tables streamed one after the other, as one zstd-compressed Parquet file by rename; the index is not kept.

    The schema is that of the first table; a later table with other columns or types is an error and nothing is left behind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: Iterator[pd.DataFrame] = iter([table] if isinstance(table, pd.DataFrame) else table)
    first = next(tables, None)
    if first is None:
        raise BasewiseError(f"no table to write to {path}, not even an empty one with its columns")
    start = pa.Table.from_pandas(first, preserve_index=False)
    with atomic_path(path) as temporary:
        try:
            with pq.ParquetWriter(temporary, start.schema, compression="zstd") as writer:
                writer.write_table(start)
                for part in tables:
                    writer.write_table(pa.Table.from_pandas(part, schema=start.schema, preserve_index=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
            raise BasewiseError(f"cannot write {path}: a part differs from the first in columns or types ({error})") from error


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV (both optionally gzipped) or Parquet table, told apart by the suffix: .csv .tsv .tab .parquet, then .gz.

    Text tables need a header line; empty cells and NA are missing values, as pandas reads them.

    Raises
    ------
    BasewiseError
        The file is missing, has another suffix, cannot be parsed, or has a repeated or no column name.

    """
    path = Path(path)
    if not path.exists():
        raise BasewiseError(f"table {path} does not exist")
    suffix = _suffix(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix not in SEPARATORS:
        raise BasewiseError(f"table {path} has suffix {suffix!r}, expected .csv, .tsv, .tab (optionally with .gz) or .parquet")
    packed = path.suffix.lower() in COMPRESSIONS
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as stream:
            header = pd.read_csv(stream, sep=SEPARATORS[suffix], header=None, nrows=1, dtype=str)
            _require_names(["" if pd.isna(name) else str(name) for name in header.iloc[0]], path)
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would lose cells
                table = pd.read_csv(stream, sep=SEPARATORS[suffix], index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise BasewiseError(f"cannot read table {path}: {' '.join(str(error).split())}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        raise BasewiseError(f"cannot read table {path}: {error}; is it truncated, or not gzip?") from error
    return table


def _suffix(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix.lower() in COMPRESSIONS else path.suffix).lower()


def _require_names(names: list[str], path: Path) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1 or not name})
    if repeated:
        shown = ", ".join(repr(name) for name in repeated)
        raise BasewiseError(f"table {path} has repeated or empty column names ({shown}); name every column once in the first line")


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BasewiseError(f"cannot read table {path}: {' '.join(str(error).split())}") from error
    _require_names(table.column_names, path)
    frame: pd.DataFrame = table.to_pandas()
    return frame
