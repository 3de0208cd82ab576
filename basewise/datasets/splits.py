"""Who learns, who tunes, who judges: splits of an examples table into train, val and test.

Every function returns a copy with `split` filled; rows keep their order. The answer depends on the seed and the rows, not on dict order.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from basewise.datasets.table import SPLITS, kind_of
from basewise.errors import BasewiseError, did_you_mean

FRACTIONS = (0.6, 0.2, 0.2)  # train, val, test


def chromosome_split(examples: pd.DataFrame, test_chroms: Sequence[str], val_chroms: Sequence[str] = ()) -> pd.DataFrame:
    """Return `examples` with whole chromosomes as test and val; the rest is train.

    Raises
    ------
    BasewiseError
        for a chromosome without examples, one named twice, or nothing left to train on.
    """
    present = list(dict.fromkeys(examples["chrom"]))
    both = sorted(set(test_chroms) & set(val_chroms))
    if both:
        raise BasewiseError(f"chromosome {both[0]!r} is asked for as test and as validation; choose one")
    for chrom in (*test_chroms, *val_chroms):
        if chrom not in present:
            raise BasewiseError(f"chromosome {chrom!r} has no examples; there are {', '.join(present)}.{did_you_mean(chrom, present)}")
    split = np.where(examples["chrom"].isin(test_chroms), "test", np.where(examples["chrom"].isin(val_chroms), "val", "train"))
    if not (split == "train").any():
        raise BasewiseError(f"the test and validation chromosomes are all there are ({', '.join(present)}): nothing is left to train on")
    return _with_split(examples, split)


def choose_chroms(counts: Mapping[str, int], fractions: Sequence[float] = FRACTIONS) -> tuple[list[str], list[str]]:
    """Return (test, val) chromosomes such that examples come near `fractions`: largest first, each to who lacks most.

    Deterministic: chromosomes of equal counts go by name. Raises BasewiseError when there are fewer than three chromosomes.
    """
    chroms = sorted((chrom for chrom, count in counts.items() if count), key=lambda chrom: (-counts[chrom], chrom))
    if len(chroms) < len(SPLITS):
        raise BasewiseError(f"examples lie on {len(chroms)} chromosome(s), a split by chromosome needs 3; use a random split instead")
    lacking = np.array(_checked(fractions)) * sum(counts.values())
    parts: list[list[str]] = [[], [], []]
    for rank, chrom in enumerate(chroms):
        empty = [part for part in range(3) if not parts[part]]
        open_parts = empty if len(chroms) - rank <= len(empty) else range(3)
        part = max(open_parts, key=lambda which: lacking[which])
        parts[part].append(chrom)
        lacking[part] -= counts[chrom]
    return sorted(parts[2]), sorted(parts[1])


def random_split(
    examples: pd.DataFrame,
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
    stratify: str | None = "label",
    by: Literal["row", "group"] = "row",
) -> pd.DataFrame:
    """Return `examples` split at random into train, val and test, each class of `stratify` (None: no classes) in the same fractions.

    by="row" is the split papers publish: neighbours and overlapping windows may fall on both sides. by="group" keeps groups whole (and
    stratifies nothing: a group may hold several classes). Base-level labels cannot stratify.
    """
    order = _dealt(examples, np.random.default_rng(seed), stratify, by)
    bounds = np.cumsum(_checked(fractions))[:2]
    split = np.where(order < bounds[0], "train", np.where(order < bounds[1], "val", "test"))
    return _with_split(examples, split)


def fold(
    examples: pd.DataFrame, k: int, n_folds: int = 5, seed: int = 0, stratify: str | None = "label", by: Literal["row", "group"] = "row"
) -> pd.DataFrame:
    """Return `examples` split for round `k` of `n_folds`: fold k is test, fold k + 1 (cyclic) val, the rest train.

    Five folds give 60/20/20. Over all rounds every example is tested once and validated once. `stratify` and `by` as in `random_split`.
    """
    if n_folds < 3 or not 0 <= k < n_folds:
        raise BasewiseError(f"fold {k} of {n_folds} is not possible; expected at least 3 folds, counted from 0")
    which = np.minimum((_dealt(examples, np.random.default_rng(seed), stratify, by) * n_folds).astype(np.int64), n_folds - 1)
    split = np.where(which == k, "test", np.where(which == (k + 1) % n_folds, "val", "train"))
    return _with_split(examples, split)


def _dealt(examples: pd.DataFrame, rng: np.random.Generator, stratify: str | None, by: str) -> np.ndarray:
    """Return a place in [0, 1) for every row, evenly spread within each class (by row) or over all rows (by group)."""
    if by == "group":
        return _dealt_groups(examples["group"].to_numpy(), rng)
    if by != "row":
        raise BasewiseError(f"unknown way to split {by!r}; choose 'row' or 'group'")
    if stratify is None or (stratify == "label" and kind_of(examples) == "base"):
        classes = np.zeros(len(examples), np.int64)
    elif stratify in examples.columns:
        classes = np.unique(examples[stratify].to_numpy(), return_inverse=True)[1]
    else:
        raise BasewiseError(f"no column {stratify!r} to stratify by.{did_you_mean(stratify, examples.columns)}")
    place = np.empty(len(examples), np.float64)
    for value in np.unique(classes):
        rows = np.flatnonzero(classes == value)
        # the middle of each of n equal steps: a class of n rows fills every fraction to within one row
        place[rng.permutation(rows)] = (np.arange(rows.size) + 0.5) / rows.size
    return place


def _dealt_groups(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    names, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(names.size)
    before = np.cumsum(sizes[order]) - sizes[order]
    place = np.empty(names.size, np.float64)
    place[order] = (before + sizes[order] / 2) / groups.size  # where the middle of the group falls
    return place[which]


def _checked(fractions: Sequence[float]) -> Sequence[float]:
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise BasewiseError(f"fractions {tuple(fractions)} are not three shares (train, val, test) that sum to 1, with some train")
    return fractions


def _with_split(examples: pd.DataFrame, split: np.ndarray) -> pd.DataFrame:
    return examples.assign(split=pd.Series(split, index=examples.index).astype(str))
