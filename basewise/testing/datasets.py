"""Tiny datasets with a planted answer, for tests of anything that learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MOTIF = "TGACGTCA"


def planted_motif(n: int = 600, length: int = 41, kind: str = "sequence", seed: int = 0, motif: str = MOTIF) -> pd.DataFrame:
    """Return an examples table of random sequences, every second one with `motif` somewhere: label 1, or for kind "base" 1 at its bases.

    Split 3 : 1 : 1. Deterministic given `seed`.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(n):
        bases = rng.choice(list("ACGT"), length)
        marks = np.zeros(length, np.int8)
        if i % 2:
            at = int(rng.integers(0, length - len(motif)))
            bases[at : at + len(motif)] = list(motif)
            marks[at : at + len(motif)] = 1
        split = ("train", "train", "train", "val", "test")[i // 2 % 5]
        label = i % 2 if kind == "sequence" else marks
        rows.append({"chrom": f"chr{i // 2 % 5 + 1}", "start": 100 * i, "end": 100 * i + length, "strand": "+", "label": label})
        rows[-1] |= {"split": split, "group": f"g{i}", "sequence": "".join(bases)}
    return pd.DataFrame(rows)


def planted_dataset(folder: Path, n: int = 600, length: int = 41, kind: str = "sequence", seed: int = 0) -> Path:
    """Write `planted_motif` as a dataset folder and return it."""
    from basewise.datasets.folder import write_dataset

    write_dataset(folder, planted_motif(n, length, kind, seed), {"task": "motif", "window": length, "seed": seed})
    return folder
