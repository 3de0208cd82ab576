"""Tables as text."""

from pathlib import Path

import pandas as pd

from basewise.files import atomic_path


def write_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as TSV, six significant digits, empty cells where a value is absent; whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g", lineterminator="\n")
