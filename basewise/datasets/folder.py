"""A dataset is a folder: examples.parquet and manifest.json, which says how it was made and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.datasets.cohort import refuse_cohort
from basewise.datasets.table import EXAMPLES_FILE, UNLABELLED, Kind, kind_of, read_examples, write_examples
from basewise.errors import BasewiseError
from basewise.files import MARKER, prepare_output_folder, read_json, sha256_of, write_json

MANIFEST_FILE = "manifest.json"
MANIFEST_KEYS = ("task", "kind", "counts")  # what readers may rely on; `basewise build` writes many more


@dataclass(frozen=True)
class Dataset:
    """An opened dataset folder; `examples` is a checked examples table."""

    path: Path
    manifest: dict[str, Any]
    examples: pd.DataFrame

    @property
    def kind(self) -> Kind:
        """Return "sequence" or "base"."""
        return kind_of(self.examples)

    def part(self, split: str) -> pd.DataFrame:
        """Return the examples of one split; BasewiseError when there are none."""
        part = self.examples[self.examples["split"] == split]
        if not len(part):
            have = ", ".join(repr(name) for name in dict.fromkeys(self.examples["split"]))
            raise BasewiseError(f"dataset {self.path} has no examples of split {split!r}; it has {have}")
        return part.reset_index(drop=True)


def count_labels(examples: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return {split: {label: n}}; for kind "base" n counts scored bases (label >= 0)."""
    counts: dict[str, dict[str, int]] = {}
    for split, part in examples.groupby("split", sort=True):
        labels = np.concatenate([np.asarray(row) for row in part["label"]]) if kind_of(part) == "base" else part["label"].to_numpy(np.int64)
        values, numbers = np.unique(labels[labels > UNLABELLED], return_counts=True)
        counts[str(split)] = {str(value): int(number) for value, number in zip(values, numbers, strict=True)}
    return counts


def refuse_existing(folder: str | Path, *, force: bool) -> None:
    """Raise BasewiseError early, before any work, when `write_dataset` would refuse the folder; nothing is touched."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BasewiseError(f"output {folder} is a file, expected a folder; choose another -o")
    if folder.is_dir() and any(child.name != MARKER for child in folder.iterdir()) and not force:
        raise BasewiseError(f"output folder {folder} exists and is not empty; choose another -o or add --force to replace it")


def write_dataset(folder: str | Path, examples: pd.DataFrame, manifest: Mapping[str, Any], *, force: bool = False) -> Dataset:
    """Write a dataset folder and return it opened; manifest.json, written last, carries the sha256 of examples.parquet.

    An existing folder is refused without `force`. `counts` and `kind` are filled in when the manifest lacks them.
    """
    folder = prepare_output_folder(folder, force=force)
    write_examples(examples, folder / EXAMPLES_FILE)
    full = {"kind": kind_of(examples), "counts": count_labels(examples), **manifest, "examples_sha256": sha256_of(folder / EXAMPLES_FILE)}
    write_json(folder / MANIFEST_FILE, full)
    return Dataset(folder, full, examples)


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder made by `basewise build`.

    Raises
    ------
    BasewiseError
        for a folder that is missing, is not a dataset, or was left half-written, and for examples that break the table's contract.
    """
    folder = Path(folder)
    refuse_cohort(folder, "a dataset of sequences")
    if not folder.is_dir():
        raise BasewiseError(f"{folder} is not a folder; expected a dataset made by `basewise build`")
    if not (folder / MANIFEST_FILE).exists():
        raise BasewiseError(f"{folder} holds no {MANIFEST_FILE}: not a dataset, or its building was interrupted; build it again")
    manifest = read_json(folder / MANIFEST_FILE)
    missing = [key for key in MANIFEST_KEYS if not isinstance(manifest, dict) or key not in manifest]
    if missing:
        raise BasewiseError(f"{folder / MANIFEST_FILE} lacks {', '.join(missing)}; build the dataset again")
    return Dataset(folder, manifest, read_examples(folder))
