"""What a model may have seen before it is judged: the same sequence, its reverse complement, or nearly so, on both sides of a split.

Near duplicates share at least `share` of their distinct canonical k-mers (a k-mer and its reverse complement are one) with a sequence of
the other side: shared / the smaller of the two counts, so that a shifted or contained sequence is found. Pairs are compared exactly,
through an index from k-mer to sequences; nothing is sampled. K-mers in more than `common` sequences (repeats) do not suggest pairs.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.datasets.splits import FRACTIONS, random_split
from basewise.datasets.table import SPLITS
from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, codes, reverse_complement

K = 16
SHARE = 0.5
COMMON = 200

Ints = npt.NDArray[np.int64]


def canonical_kmers(sequence: str, k: int = K) -> Ints:
    """Return the distinct canonical k-mers of a sequence as sorted numbers (base 4, A C G T); those with N are left out."""
    if not 1 <= k <= 31:
        raise BasewiseError(f"k is {k}, expected 1 to 31")
    digits = codes(as_bases(sequence)).astype(np.int64)
    n = len(digits) - k + 1
    if n < 1:
        return np.empty(0, np.int64)
    forward, backward, whole = np.zeros(n, np.int64), np.zeros(n, np.int64), np.ones(n, bool)
    for i in range(k):
        part = digits[i : i + n]
        forward = forward * 4 + part
        backward += (3 - part) * 4**i
        whole &= part < 4
    return np.unique(np.minimum(forward, backward)[whole])


def similar_pairs(sequences: Sequence[str], *, k: int = K, share: float = SHARE, common: int = COMMON) -> tuple[Ints, Ints]:
    """Return (i, j), i < j, int64, of all pairs of sequences that share at least `share` of the smaller one's canonical k-mers."""
    if not 0 < share <= 1:
        raise BasewiseError(f"share is {share}, expected a share of k-mers, above 0 and at most 1")
    sets = [canonical_kmers(sequence, k) for sequence in sequences]
    sizes = np.array([len(s) for s in sets], dtype=np.int64)
    owner, kmer = np.repeat(np.arange(len(sets)), sizes), np.concatenate(sets) if sets else np.empty(0, np.int64)
    order = np.lexsort((owner, kmer))
    owner, kmer = owner[order], kmer[order]
    n = len(sets)
    starts = np.flatnonzero(np.append(True, kmer[1:] != kmer[:-1])) if len(kmer) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(kmer))
    sizes_of = ends - starts
    keys = []
    for size in np.unique(sizes_of[(sizes_of > 1) & (sizes_of <= common)]).tolist():
        rows = owner[starts[sizes_of == size][:, None] + np.arange(size)]  # (k-mers, size), sorted within a row
        a, b = np.triu_indices(size, 1)
        found, times = np.unique(rows[:, a].ravel() * n + rows[:, b].ravel(), return_counts=True)
        keys.append(pd.Series(times, index=found))
    if not keys:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    shared = pd.concat(keys).groupby(level=0).sum()
    pair = shared.index.to_numpy(np.int64)
    first, second = pair // n, pair % n
    enough = shared.to_numpy(np.float64) >= share * np.minimum(sizes[first], sizes[second])
    return first[enough], second[enough]


def homology_groups(sequences: Sequence[str], *, k: int = K, share: float = SHARE, common: int = COMMON) -> Ints:
    """Return a cluster number (B,) for every sequence: greedily, longest first, each joins the first representative it is similar to.

    As CD-HIT and MMseqs do with identities; here similarity is that of `similar_pairs`. Sequences of one cluster belong in one split, but
    members of two clusters may still be alike where neither is a representative: `leakage` tells how many.
    """
    i, j = similar_pairs(sequences, k=k, share=share, common=common)
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    order = np.lexsort((np.arange(len(sequences)), -lengths))
    near: dict[int, list[int]] = {}
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    group = np.full(len(sequences), -1, np.int64)
    for row in order.tolist():
        if group[row] < 0:
            group[row] = row
            for other in near.get(row, ()):
                if group[other] < 0:
                    group[other] = row
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def homology_split(examples: pd.DataFrame, seed: int, fractions: Sequence[float] = FRACTIONS, **similarity: Any) -> pd.DataFrame:
    """Return `examples` with `group` their homology cluster and `split` at random by whole clusters; see `homology_groups`.

    Equal sequences and reverse complements always share a cluster.
    """
    numbers = homology_groups(examples["sequence"].tolist(), **similarity)
    text = [_strandless(s) for s in examples["sequence"]]
    numbers = pd.Series(numbers).groupby(pd.Series(text)).transform("min").to_numpy(np.int64)  # short ones have no k-mers
    grouped = examples.assign(group=pd.Series([f"homology{n}" for n in numbers], index=examples.index, dtype=object))
    return random_split(grouped, seed, fractions, stratify=None, by="group")


def leakage(examples: pd.DataFrame, *, k: int = K, share: float = SHARE, common: int = COMMON) -> dict[str, Any]:
    """Return, for each pair of splits, how many sequences of the later one occur in the earlier one: JSON-ready.

    `{"pairs": {"train/test": {"sequences", "exact", "reverse_complement", "near", "other_label", "share_of_later"}}, "settings"}`.
    A sequence counts once, under the first of exact, reverse_complement and near that holds. `other_label` of them have a twin with another
    label (kind "sequence"). A reverse complement of itself is exact.
    """
    rows = examples[examples["split"].isin(SPLITS)]
    if rows.empty:
        raise BasewiseError(f"no example is in split {', '.join(SPLITS)}: there is nothing to compare")
    text = [s.upper().replace("U", "T") for s in rows["sequence"]]
    split = rows["split"].to_numpy(dtype=object)
    label = rows["label"].to_numpy() if rows["label"].dtype.kind in "iu" else None
    i, j = similar_pairs(text, k=k, share=share, common=common)
    i, j = np.concatenate([i, j]), np.concatenate([j, i])
    pairs = {}
    present = [name for name in SPLITS if (split == name).any()]
    for early, late in combinations(present, 2):
        pairs[f"{early}/{late}"] = _compare(text, split == early, split == late, label, i, j)
    return {"pairs": pairs, "settings": {"k": k, "share": share, "common": common}}


def _compare(
    text: list[str], early: npt.NDArray[np.bool_], late: npt.NDArray[np.bool_], label: Any, i: Ints, j: Ints
) -> dict[str, int | float]:
    there: dict[str, set[int]] = {}
    for row in np.flatnonzero(early).tolist():
        there.setdefault(text[row], set()).add(int(label[row]) if label is not None else 0)
    between = early[i] & late[j]
    near: dict[int, set[int]] = {}
    for a, b in zip(i[between].tolist(), j[between].tolist(), strict=True):
        near.setdefault(b, set()).add(int(label[a]) if label is not None else 0)
    counts = {"exact": 0, "reverse_complement": 0, "near": 0, "other_label": 0}
    rows = np.flatnonzero(late).tolist()
    for row in rows:
        turned = reverse_complement(text[row])
        twins = there.get(text[row], set()) | there.get(turned, set()) | near.get(row, set())
        if not twins:
            continue
        kind = "exact" if text[row] in there else "reverse_complement" if turned in there else "near"
        counts[kind] += 1
        counts["other_label"] += label is not None and bool(twins - {int(label[row])})
    return {"sequences": len(rows), **counts, "share_of_later": (len(rows) and sum(list(counts.values())[:3]) / len(rows))}


def _strandless(sequence: str) -> str:
    upper = sequence.upper().replace("U", "T")
    return min(upper, reverse_complement(upper))
