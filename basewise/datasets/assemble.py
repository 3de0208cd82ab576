"""A dataset folder from tables of labelled sequences that come divided already, as benchmarks do."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.datasets.splits import random_split
from basewise.datasets.table import kind_of, read_examples
from basewise.errors import BasewiseError
from basewise.files import sha256_of
from basewise.genome.alphabet import reverse_complement


def assemble(
    train: Path,
    test: Path,
    val: Path | None = None,
    *,
    task: str = "custom",
    val_fraction: float = 0.1,
    unique: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return (examples, manifest) of a table to learn from, one to be judged on and one for choices, all read by `read_examples`.

    Without `val`, a stratified `val_fraction` of the training rows is taken for it. With `unique`, training and validation rows whose
    sequence, on either strand, stands in the test table are dropped, training rows that stand in validation too, and repeats within each.
    """
    if not 0 < val_fraction < 1:
        raise BasewiseError(f"val_fraction is {val_fraction}, expected a share between 0 and 1")
    tables = {"train": read_examples(train), "test": read_examples(test)}
    if val is not None:
        tables["val"] = read_examples(val)
    else:
        marked = random_split(tables["train"], seed, (1 - val_fraction, val_fraction, 0.0))
        tables |= {"train": tables["train"][marked["split"] == "train"], "val": tables["train"][marked["split"] != "train"]}
    if len({kind_of(table) for table in tables.values()}) > 1:
        raise BasewiseError("the tables do not agree: some have one label a sequence, some one a base")
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for name in ("test", "val", "train"):
        if unique:
            key = pd.Series([_either_strand(s) for s in tables[name]["sequence"]], index=tables[name].index)
            elsewhere, again = key.isin(seen), key.duplicated()
            dropped[f"{name}: sequence stands in a later split"] += int(elsewhere.sum())
            dropped[f"{name}: repeated"] += int((again & ~elsewhere).sum())
            seen |= set(key)
            tables[name] = tables[name][~elsewhere & ~again]
    examples = pd.concat([table.assign(split=name, group=[f"{name}{i}" for i in range(len(table))]) for name, table in tables.items()])
    lengths = examples["sequence"].str.len()
    inputs = {
        name: {"path": path.name, "sha256": sha256_of(path)} for name, path in (("train", train), ("test", test), ("val", val)) if path
    }
    manifest = {
        "task": task,
        "window": int(lengths.iloc[0]) if (lengths == lengths.iloc[0]).all() else None,
        "split": "given",
        "variant": "unique" if unique else "published",
        "seed": seed,
        "inputs": inputs,
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
    }
    return examples.reset_index(drop=True), manifest


def _either_strand(sequence: str) -> str:
    upper = sequence.upper().replace("U", "T")
    return min(upper, reverse_complement(upper))
