"""K-mer tables of attributions, as the HyenaDNA DNA-structures paper defines them, and what goes beyond it.

    algorithms 2, 3   the mean over a k-mer's bases, in sequences that are true positives (a label a sequence): restrict="tp", of="mean"
    algorithms 4, 5   the sum over its bases, k-mers wholly inside true positives (a label a base): restrict="tp", of="sum"
    algorithm 6       true-positive importance, occurrences wholly inside true positives / occurrences: columns tp, importance
    consensus         mean over tables of 100 * (score - mean score of the table) / mean score: `consensus`

Beyond the paper: a least count, a k-mer and its reverse complement as one, scores divided by the norm of their sequence (what the explainer
behind algorithm 2 does on its own), intervals by resampling whole sequences. K-mers with anything but A, C, G, T are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, as_bases, codes, reverse_complement

Of = Literal["mean", "sum"]
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
_RESAMPLED_CELLS = 1 << 22  # resamples x k-mers held at a time


class Row(NamedTuple):
    """A sequence with its scores.

    Attributes
    ----------
    scores
        A score a base, as many as bases; None where nothing was explained (it still counts as occurrences).
    positive
        bool (L,): bases that are true positives. For a label a sequence, all or none of them.
    """

    bases: Bases
    scores: npt.NDArray[np.float32] | None
    positive: npt.NDArray[np.bool_]


class _Places(NamedTuple):
    """Every k-mer of every sequence: which, in which sequence, its score (NaN where there is none) and whether it is a true positive."""

    names: npt.NDArray[np.object_]
    kmer: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    positive: npt.NDArray[np.bool_]


def kmer_table(
    rows: Sequence[Row],
    k: int = 5,
    *,
    restrict: Literal["tp"] | None = None,
    of: Of = "mean",
    normalize: bool = False,
    min_count: int = 1,
    merge_strands: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row a k-mer, the highest mean score first (ties by name).

    Columns: kmer, count (scored occurrences), mean_score, sum_score, low, high (95 % of `bootstrap` resamples of whole sequences, in
    which it occurs; NaN without), tp and occurrences (whether scored or not), importance = tp / occurrences.

    Parameters
    ----------
    restrict
        "tp": only occurrences wholly inside true positives are scored.
    of
        An occurrence's score is the mean or the sum over its bases.
    normalize
        Divide the scores of a sequence by their Euclidean norm first.
    min_count
        Leave out k-mers scored fewer times.
    merge_strands
        A k-mer and its reverse complement are one, named by the smaller; a palindrome counts once a place.

    Raises
    ------
    BasewiseError
        k below 1, an unknown option, scores of another length than their sequence, or no k-mer left.
    """
    if k < 1 or min_count < 1 or bootstrap < 0 or of not in get_args(Of) or restrict not in (None, "tp"):
        raise BasewiseError(f"k {k}, least count {min_count}, bootstrap {bootstrap}, of {of!r}, restrict {restrict!r}: expected k and the "
                            "least count 1 or more, bootstrap 0 or more, of mean or sum, restrict tp or nothing")  # fmt: skip
    places = _places(rows, k, of, normalize, merge_strands)
    scored = ~np.isnan(places.score) & (places.positive if restrict == "tp" else True)
    K = len(places.names)
    count = np.bincount(places.kmer[scored], minlength=K)
    total = np.bincount(places.kmer[scored], places.score[scored], minlength=K)
    occurrences = np.bincount(places.kmer, minlength=K)
    tp = np.bincount(places.kmer[places.positive], minlength=K)
    low, high = _intervals(places, scored, len(rows), bootstrap, seed) if bootstrap else (np.full(K, np.nan), np.full(K, np.nan))
    kept = count >= min_count
    if not kept.any():
        where = "inside true positives " if restrict else ""
        raise BasewiseError(f"no {k}-mer {where}is scored {min_count} times or more among {len(rows)} sequences; take a smaller k or count")
    table = pd.DataFrame(
        {
            "kmer": places.names,
            "count": count,
            "mean_score": total / np.maximum(count, 1),
            "sum_score": total,
            "low": low,
            "high": high,
            "tp": tp,
            "occurrences": occurrences,
            "importance": tp / np.maximum(occurrences, 1),
        }
    )[kept]
    return table.sort_values(["mean_score", "kmer"], ascending=[False, True], kind="stable").reset_index(drop=True)


def tp_importance(rows: Sequence[Row], k: int = 5, *, min_count: int = 1, merge_strands: bool = False) -> pd.DataFrame:
    """Return kmer, tp, occurrences, importance of every k-mer seen `min_count` times, the most important first (algorithm 6)."""
    places = _places(rows, k, "sum", False, merge_strands)
    occurrences = np.bincount(places.kmer, minlength=len(places.names))
    tp = np.bincount(places.kmer[places.positive], minlength=len(places.names))
    table = pd.DataFrame({"kmer": places.names, "tp": tp, "occurrences": occurrences, "importance": tp / np.maximum(occurrences, 1)})
    table = table[table["occurrences"] >= min_count]
    return table.sort_values(["importance", "kmer"], ascending=[False, True], kind="stable").reset_index(drop=True)


def consensus(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the k-mers that are in every table, by mean percent deviation from the table's mean score, the highest first.

    Columns: kmer, count (the least of the tables), then for each name mean_score_NAME and deviation_NAME, and mean_deviation. The mean
    of a table is over its k-mers, each counted once; a negative mean enters by its size, so that higher scores always deviate upwards.

    Raises BasewiseError when a table's mean is 0 or no k-mer is in all tables.
    """
    joined: pd.DataFrame | None = None
    counts = []
    for name, table in tables.items():
        mean = float(table["mean_score"].mean())
        if mean == 0:
            raise BasewiseError(f"the mean score of {name} is 0, so that no percent deviation from it exists")
        part = pd.DataFrame(
            {
                "kmer": table["kmer"],
                f"count_{name}": table["count"],
                f"mean_score_{name}": table["mean_score"],
                f"deviation_{name}": 100 * (table["mean_score"] - mean) / abs(mean),
            }
        )
        counts.append(f"count_{name}")
        joined = part if joined is None else joined.merge(part, on="kmer", validate="one_to_one")
    if joined is None or joined.empty:
        raise BasewiseError("no k-mer is in every table; take the same k, or a smaller least count")
    deviations = joined[[column for column in joined if str(column).startswith("deviation_")]]
    joined.insert(1, "count", joined[counts].min(axis=1))
    joined["mean_deviation"] = deviations.mean(axis=1)
    joined = joined.drop(columns=counts).sort_values(["mean_deviation", "kmer"], ascending=[False, True], kind="stable")
    return joined.reset_index(drop=True)


def _places(rows: Sequence[Row], k: int, of: Of, normalize: bool, merge_strands: bool) -> _Places:
    kmers, numbers, scores, positives = [], [], [], []
    for i, row in enumerate(rows):
        L = len(row.bases)
        if len(row.positive) != L or (row.scores is not None and len(row.scores) != L):
            raise BasewiseError(f"sequence {i + 1} has {L} bases, but other numbers of scores or labels")
        if len(row.bases) < k:
            continue
        text = codes(row.bases)
        windows = np.lib.stride_tricks.sliding_window_view(_LETTERS[text], k)
        whole = (np.lib.stride_tricks.sliding_window_view(text, k) < 4).all(1)
        kmers.append(np.ascontiguousarray(windows[whole]).view(f"S{k}")[:, 0])
        numbers.append(np.full(len(kmers[-1]), i))
        inside = np.lib.stride_tricks.sliding_window_view(row.positive, k).all(1)
        positives.append(np.asarray(inside)[whole])
        scores.append(_window_scores(row, k, of, normalize)[whole])
    if not kmers:
        raise BasewiseError(f"all {len(rows)} sequences are shorter than k = {k}; take a smaller k")
    names, kmer = np.unique(np.concatenate(kmers), return_inverse=True)
    if merge_strands:
        smaller = np.array([min(name, reverse_complement(name)) for name in names.tolist()], dtype=names.dtype)
        names, merged = np.unique(smaller, return_inverse=True)
        kmer = merged[kmer]
    texts = np.array([name.decode("ascii") for name in names.tolist()], dtype=object)
    return _Places(texts, kmer.astype(np.int64), np.concatenate(numbers), np.concatenate(scores), np.concatenate(positives))


def _window_scores(row: Row, k: int, of: Of, normalize: bool) -> npt.NDArray[np.float64]:
    if row.scores is None:
        return np.full(len(row.bases) - k + 1, np.nan)
    scores = row.scores.astype(np.float64)
    if normalize:
        scores = scores / (np.linalg.norm(scores) or 1.0)
    sums = np.lib.stride_tricks.sliding_window_view(scores, k).sum(1)
    return sums / k if of == "mean" else sums


def _intervals(
    places: _Places, scored: npt.NDArray[np.bool_], rows: int, bootstrap: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the 2.5th and 97.5th percentile of each k-mer's mean score over resamples of whole sequences."""
    from scipy.sparse import csc_array

    K = len(places.names)
    cells = (places.row[scored], places.kmer[scored])
    sums = csc_array((places.score[scored], cells), shape=(rows, K))
    counts = csc_array((np.ones(int(scored.sum())), cells), shape=(rows, K))
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=bootstrap).astype(np.float64)
    low, high = np.full(K, np.nan), np.full(K, np.nan)
    width = max(1, _RESAMPLED_CELLS // bootstrap)
    for first in range(0, K, width):
        piece = slice(first, min(K, first + width))
        n = drawn @ counts[:, piece]
        with np.errstate(invalid="ignore"):
            means = np.where(n > 0, drawn @ sums[:, piece] / n, np.nan)
        seen = ~np.isnan(means).all(0)
        index = np.arange(first, piece.stop)[seen]
        low[index], high[index] = np.nanpercentile(means[:, seen], [2.5, 97.5], axis=0)
    return low, high


def as_row(sequence: str, scores: npt.NDArray[np.float32] | None, positive: bool | npt.NDArray[np.bool_]) -> Row:
    """Return a Row; `positive` may be one answer for the whole sequence."""
    bases = as_bases(sequence)
    return Row(bases, scores, np.full(len(bases), positive) if isinstance(positive, bool) else positive)
