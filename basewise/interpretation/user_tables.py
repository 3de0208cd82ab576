"""What the columns of a user's table mean to an explanation: names of sequences, and labels a sequence or a base."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.inference.inputs import SEQUENCE
from basewise.interpretation.targets import Labels


def ids_of(piece: pd.DataFrame, before: int) -> list[str]:
    """Return what each sequence of a piece is called: its id, its name, its place, or its number (also where chrom is ".", unknown)."""
    for column in ("id", "name"):
        if column in piece:
            return [str(value) for value in piece[column]]
    if "chrom" in piece and "start" in piece and "end" in piece:
        places = zip(piece["chrom"], piece["start"], piece["end"], strict=True)
        return [str(before + i + 1) if chrom == "." else f"{chrom}:{start}-{end}" for i, (chrom, start, end) in enumerate(places)]
    return [str(before + i + 1) for i in range(len(piece))]


def labels_of(classifier: Classifier, piece: pd.DataFrame, path: Path, before: int) -> list[int | Labels | None] | None:
    """Return a label a sequence, or an array a base; None where the input has none."""
    if "label" not in piece or classifier.config.kind == "individual":
        return None
    names = classifier.config.labels
    out: list[int | Labels | None] = []
    for i, value in enumerate(piece["label"]):
        try:
            if classifier.config.kind == "base":
                out.append(_base_labels(value))
            else:
                out.append(names.index(value) if value in names else _one_label(value, len(names)))
        except (TypeError, ValueError) as error:
            what = "a label for every base, e.g. 0011 or [0,0,1,1]" if classifier.config.kind == "base" else f"one of {', '.join(names)}"
            raise BasewiseError(f"{path}: label {str(value)[:30]!r} of sequence {before + i + 1}; expected {what}") from error
        one = out[-1]
        if isinstance(one, np.ndarray) and len(one) != len(piece[SEQUENCE].iloc[i]):
            raise BasewiseError(f"{path}: sequence {before + i + 1} has {len(piece[SEQUENCE].iloc[i])} bases and {len(one)} labels")
    return out


def _one_label(value: Any, most: int) -> int:
    number = int(value)
    if not 0 <= number < most:
        raise ValueError(number)
    return number


def _base_labels(value: Any) -> Labels:
    if isinstance(value, str):
        text = value.strip("[] ")
        parts: list[Any] = text.replace(",", " ").split() if "," in text or " " in text else list(text)
        return np.array([int(part) for part in parts], dtype=np.int64)
    return np.asarray(list(value), dtype=np.int64)
