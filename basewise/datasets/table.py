"""The examples table: one labelled sequence a row, read from a dataset folder or a user's file, checked, written as Parquet.

Kind "sequence": `label` is an int (0, 1, ...; -1 = not known). Kind "base": `label` is a list<int8>, one a base of `sequence`, in
`sequence` orientation, -1 = not scored. `sequence` reads 5'->3' on `strand`; `group` names what a split must not divide.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from basewise.errors import BasewiseError, did_you_mean
from basewise.files import atomic_path

EXAMPLE_COLUMNS = ("chrom", "start", "end", "strand", "label", "split", "group", "sequence")
SPLITS = ("train", "val", "test")
COMPLETE = "complete"  # a further split: every base of the test chromosomes, beside a sampled "test"
STRANDS = ("+", "-", ".")
UNLABELLED = -1
EXAMPLES_FILE = "examples.parquet"
ROWS_A_BATCH = 4096  # rows turned into Arrow at once; bounds memory for base labels
_TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}

Kind = Literal["sequence", "base"]


def read_examples(path: str | Path, *, need_label: bool = True) -> pd.DataFrame:
    """Read examples from a dataset folder, a Parquet, CSV or TSV file (.gz tolerated) and return a checked examples table.

    A user's file needs `sequence` and, with `need_label`, `label`; the rest is filled: chrom ".", start 0, end the length, strand ".",
    split "" (not assigned) and a group of its own ("row0", "row1", ...). Extra columns are kept behind the standard ones.

    Raises
    ------
    BasewiseError
        for a missing file or column (with the column that may be meant), an unknown file type, and the first bad row (counted from 1,
        without the header): empty sequence, characters that are no letters, a label that is not a whole number >= -1, ...
    """
    path = Path(path)
    if path.is_dir():
        inner = path / EXAMPLES_FILE
        if not inner.exists():
            raise BasewiseError(f"{path} holds no {EXAMPLES_FILE}, so it is not a dataset folder; make one with `basewise build`")
        path = inner
    raw = _read_any(path)
    needed = ("sequence", "label") if need_label else ("sequence",)
    missing = [column for column in needed if column not in raw.columns]
    if missing:
        hints = "".join(did_you_mean_column(column, list(raw.columns)) for column in missing)
        raise BasewiseError(f"{path} has no column {' and '.join(map(repr, missing))}; its columns are {', '.join(raw.columns)}.{hints}")
    return validate(_fill(raw, path), path)


def did_you_mean_column(wanted: str, columns: list[str]) -> str:
    """Return a hint naming the column that is probably meant, whatever its case, or ""."""
    lowered = {column.lower().strip(): column for column in columns}
    hint = did_you_mean(wanted, lowered)
    return next((f" Rename {lowered[name]!r} to {wanted!r}?" for name in lowered if hint.endswith(f"{name!r}?")), "")


def _read_any(path: Path) -> pd.DataFrame:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    try:
        if kind == ".parquet":
            return pd.read_parquet(path)
        if kind in _TEXT_SUFFIXES:
            # as text: "NA" and "NAN" are DNA, and a label column is checked by us
            return pd.read_csv(path, sep=_TEXT_SUFFIXES[kind], dtype=str, keep_default_na=False, compression="infer")
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist") from error
    except (OSError, ValueError, EOFError) as error:  # pyarrow's and pandas' parsing errors are ValueErrors
        raise BasewiseError(f"cannot read {path}: {str(error).splitlines()[0]}; is it whole, and what its name says?") from error
    raise BasewiseError(f"cannot tell what {path} is; expected a dataset folder or a .parquet, .csv or .tsv file (.gz tolerated)")


def _fill(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    examples = pd.DataFrame(index=pd.RangeIndex(len(raw)))
    sequence = raw["sequence"].reset_index(drop=True)
    bad = _first(np.array([not isinstance(value, str) for value in sequence], dtype=bool))
    if bad is not None:
        raise BasewiseError(f"{path}, row {bad + 1}: sequence is {sequence.iloc[bad]!r}, expected DNA letters")
    defaults: dict[str, Any] = {
        "chrom": ".",
        "start": 0,
        "end": sequence.str.len(),
        "strand": ".",
        "label": UNLABELLED,
        "split": "",
        "group": [f"row{row}" for row in range(len(raw))],
    }
    for column in EXAMPLE_COLUMNS:
        examples[column] = raw[column].to_numpy() if column in raw.columns else defaults[column]
    for column in raw.columns:
        if column not in EXAMPLE_COLUMNS:
            examples[column] = raw[column].to_numpy()
    for column in ("start", "end"):
        examples[column] = _whole_numbers(examples[column], column, path)
    if kind_of(examples) == "sequence":
        examples["label"] = _whole_numbers(examples["label"], "label", path)
    for column in ("chrom", "strand", "split", "group", "sequence"):
        examples[column] = examples[column].astype(str)
    return examples


def _whole_numbers(values: pd.Series, column: str, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    bad = _first(~np.isfinite(numbers) | (numbers != np.floor(numbers)))
    if bad is not None:
        raise BasewiseError(f"{path}, row {bad + 1}: {column} is {_shown(values.iloc[bad])}, expected a whole number{_label_help(column)}")
    return numbers.astype(np.int64)


def _label_help(column: str) -> str:
    return " (0, 1, ...; one list of int8 a row, in Parquet only, for base-level labels)" if column == "label" else ""


def kind_of(examples: pd.DataFrame) -> Kind:
    """Return "base" when labels are lists (one label a base), else "sequence"; an empty table is "sequence"."""
    return "base" if len(examples) and isinstance(examples["label"].iloc[0], np.ndarray | list | tuple) else "sequence"


def validate(examples: pd.DataFrame, source: str | Path = "examples") -> pd.DataFrame:
    """Return `examples` unchanged when it keeps the contract of an examples table, else raise BasewiseError with the first bad row."""
    missing = [column for column in EXAMPLE_COLUMNS if column not in examples.columns]
    if missing:
        raise BasewiseError(f"{source} lacks the columns {', '.join(missing)} of an examples table")
    if not len(examples):
        raise BasewiseError(f"{source} holds no examples")
    sequence = examples["sequence"]
    length = sequence.str.len().to_numpy(np.int64)
    start, end = examples["start"].to_numpy(np.int64), examples["end"].to_numpy(np.int64)
    checks = (
        ("sequence", length == 0, "expected at least one base"),
        ("sequence", ~sequence.str.fullmatch(r"[A-Za-z]+").to_numpy(bool) & (length > 0), "expected letters only (A, C, G, T, N, IUPAC)"),
        ("start", start < 0, "expected 0 or more"),
        ("end", end - start != length, "expected start + length of the sequence"),
        ("strand", ~examples["strand"].isin(STRANDS).to_numpy(), f"expected one of {' '.join(STRANDS)}"),
        ("split", ~examples["split"].isin((*SPLITS, COMPLETE, "")).to_numpy(), f"expected one of {', '.join(SPLITS)} or nothing"),
    )
    for column, wrong, expected in checks:
        bad = _first(wrong)
        if bad is not None:
            raise BasewiseError(f"{source}, row {bad + 1}: {column} is {_shown(examples[column].iloc[bad])}, {expected}")
    _validate_labels(examples["label"], length, kind_of(examples), source)
    return examples


def _validate_labels(labels: pd.Series, length: np.ndarray, kind: Kind, source: str | Path) -> None:
    if kind == "sequence":
        bad = _first(labels.to_numpy(np.int64) < UNLABELLED)
        if bad is not None:
            raise BasewiseError(f"{source}, row {bad + 1}: label is {labels.iloc[bad]}, expected 0, 1, ... or -1 (not known)")
        return
    for row, (label, expected) in enumerate(zip(labels, length, strict=True)):
        if not isinstance(label, np.ndarray | list | tuple):
            raise BasewiseError(f"{source}, row {row + 1}: label is {_shown(label)}, expected a list as in the rows before")
        values = np.asarray(label)
        if values.shape != (expected,) or values.dtype.kind not in "iu":
            raise BasewiseError(
                f"{source}, row {row + 1}: label holds {values.size} values of type {values.dtype}, "
                f"expected {expected} whole numbers, one a base"
            )
        if values.size and not -1 <= int(values.min()) <= int(values.max()) <= 127:
            raise BasewiseError(f"{source}, row {row + 1}: labels reach from {values.min()} to {values.max()}, expected -1 to 127")


def write_examples(examples: pd.DataFrame, path: str | Path) -> None:
    """Write a checked examples table as Parquet (zstd), whole or not at all; base labels become list<int8>."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    validate(examples, "the examples to write")
    label = pa.list_(pa.int8()) if kind_of(examples) == "base" else pa.int64()
    types = {column: pa.string() for column in EXAMPLE_COLUMNS} | {"start": pa.int64(), "end": pa.int64(), "label": label}
    extra = [column for column in examples.columns if column not in EXAMPLE_COLUMNS]
    fields = [pa.field(column, types[column]) for column in EXAMPLE_COLUMNS]
    fields += list(pa.Schema.from_pandas(examples[extra].head(0), preserve_index=False)) if extra else []
    schema = pa.schema(fields)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for low in range(0, len(examples), ROWS_A_BATCH):
            part = examples.iloc[low : low + ROWS_A_BATCH]
            writer.write_batch(pa.record_batch([pa.array(part[field.name].tolist(), field.type) for field in schema], schema=schema))


def _first(wrong: np.ndarray) -> int | None:
    rows = np.flatnonzero(wrong)
    return int(rows[0]) if rows.size else None


def _shown(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 40 else f"{text[:37]}..."
