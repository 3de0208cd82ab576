"""Logits of many sequences, order kept, memory bounded; the raw material of calibration and metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, as_bases
from basewise.inference.asking import answering, central_window, check_device
from basewise.inference.batches import batches_by_length

Floats = npt.NDArray[np.float32]

BASES_A_BATCH = {"cpu": 1 << 16, "cuda": 1 << 20}  # long sequences shrink the batch: to what stays in a CPU's cache, or in a GPU's memory


def score_logits(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    centers: bool = False,
) -> list[Floats]:
    """Return the logits of each sequence, (C,) for kind "sequence" or (length, C) for kind "base", in the order given.

    With `centers` a classifier of kind "base" answers (C,) too: for the center base, ``length // 2``.

    Of a longer sequence than a classifier of kind "sequence" was trained on `central_window` is read.
    The classifier is put in eval mode and on `device` for the time of the call and left as it was.
    """
    bases = [central_window(as_bases(s), classifier) for s in sequences]
    answer: list[Any] = [None] * len(bases)
    where = check_device(str(device)) if device is not None else classifier.device
    with answering(classifier, where):
        for rows in batches_by_length([len(b) for b in bases], batch_size, BASES_A_BATCH.get(where.type, 1 << 20)):
            ask = classifier.center_logits if centers else classifier
            logits = ask(classifier.tokenize([bases[r] for r in rows])).float().cpu().numpy()
            for row, values in zip(rows, logits, strict=True):
                answer[row] = values[: len(bases[row])].copy() if logits.ndim == 3 else values
    return answer


def scored_labels(examples: pd.DataFrame, logits: list[Floats], kind: str) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Return labels (S,), logits (S, C) and the example row (S,) of everything scored: examples, or bases, whose label is not -1."""
    if kind != "base":
        labels = examples["label"].to_numpy(np.int64)
        known = np.flatnonzero(labels >= 0)
        return labels[known], np.stack(logits)[known] if logits else np.empty((0, 1), np.float32), known
    rows = [np.asarray(row, dtype=np.int64) for row in examples["label"]]
    if any(len(row) != len(z) for row, z in zip(rows, logits, strict=True)):
        raise BasewiseError("this dataset's labels are not one a base of its sequences, but the model answers base by base")
    labels = np.concatenate(rows) if rows else np.empty(0, np.int64)
    flat = np.concatenate(logits) if logits else np.empty((0, 1), np.float32)
    source = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    kept = labels >= 0
    return labels[kept], flat[kept], source[kept]


def one_logit(logits: Floats) -> Floats:
    """Return logits (S, 1) for those (S, 2) of a published head, whose softmax is the sigmoid of their difference; others unchanged."""
    return logits[..., 1:] - logits[..., :1] if logits.shape[-1] == 2 else logits


def resampling_groups(examples: pd.DataFrame, source: npt.NDArray[Any], kind: str) -> npt.NDArray[Any] | None:
    """Return the group (S,) of everything scored: the examples' `group` where all have one, else the example for bases, else None."""
    if "group" in examples and len(examples) and examples["group"].notna().all() and (examples["group"].astype(str) != "").all():
        return examples["group"].astype(str).to_numpy(dtype=object)[source]
    return source if kind == "base" else None
