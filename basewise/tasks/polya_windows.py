"""Windows of one contig around cleavage bases: annotated sites, and bases that look like one but are not.

A cleavage base stands at index window // 2 of its window, read 5'->3' on its strand. Strands are int8 +1/-1 here.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.datasets.negatives import contig_rng, distance_to, draw, draw_matched, inside, merge, overlaps, unknown_runs
from basewise.genome.alphabet import Bases, codes, reverse_complement
from basewise.tasks.pas_rule import FIRST, LAST, Candidates, describe, find_candidates
from basewise.tasks.polya_options import PolyaOptions

Positions = npt.NDArray[np.int64]
Strands = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

A, T, N = (ord(letter) for letter in "ATN")
BIN = 100_000  # bases that stay together in a split where there is no gene
_LETTERS = np.frombuffer(b"ACGTN", np.uint8)


class Contig(NamedTuple):
    """A contig and what is annotated on it. `sites` and `genes` are keyed by strand; sites sorted and unique, genes in file order."""

    name: str
    bases: Bases  # upper case, A C G T N only
    sites: Mapping[int, Positions]
    genes: Mapping[int, pd.DataFrame]


class Chosen(NamedTuple):
    """Cleavage bases chosen as examples, one row each."""

    position: Positions
    strand: Strands
    label: npt.NDArray[np.int64]


def plain_letters(bases: Bases) -> Bases:
    """Return upper-case A, C, G, T and N for everything else; soft-masking must not tell classes apart."""
    letters: Bases = _LETTERS[codes(bases)]
    return letters


# ---- windows


def window_starts(position: Positions, strand: Strands, window: int) -> Positions:
    """Return the first plus-strand base of the windows whose index window // 2, read on the strand, is the position."""
    half = window // 2
    return np.where(strand > 0, position - half, position + half + 1 - window).astype(np.int64)


def cut(bases: Bases, start: Positions, strand: Strands, window: int) -> Bases:
    """Return windows uint8 (n, window), 5'->3' on their strand; all must lie inside `bases`."""
    if not start.size:
        return np.empty((0, window), np.uint8)
    rows: Bases = np.lib.stride_tricks.sliding_window_view(bases, window)[start]
    down = strand < 0
    rows[down] = reverse_complement(rows[down].ravel()).reshape(-1, window)[::-1]  # the turn reverses the order of rows, too
    return rows


def texts(rows: Bases) -> list[str]:
    """Return rows uint8 (n, window) as n strings."""
    return [row.tobytes().decode("ascii") for row in rows]


def _fit(contig: Contig, position: Positions, strand: Strands, window: int) -> tuple[Mask, Mask]:
    """Return (inside the contig, free of N) of the windows around cleavage bases."""
    start = window_starts(position, strand, window)
    runs = unknown_runs(contig.bases != N)
    return (start >= 0) & (start + window <= contig.bases.size), ~overlaps(start, start + window, *runs)


def _at(contig: Contig, position: Positions, strand: Strands, step: int) -> Bases:
    """Return the base `step` bases downstream of each position, as read on its strand; N beyond the contig."""
    where = position + strand.astype(np.int64) * step
    known = (where >= 0) & (where < contig.bases.size)
    found = np.full(where.size, N, np.uint8)
    found[known] = contig.bases[where[known]]
    down = strand < 0
    found[down] = reverse_complement(found[down])[::-1]
    return found


def ends_a_run(contig: Contig, position: Positions, strand: Strands) -> Mask:
    """Return where the base is A and the next one is not: the last A of its run, as PolyA_DB places sites."""
    return (_at(contig, position, strand, 0) == A) & (_at(contig, position, strand, 1) != A)


# ---- positives


def annotated(contig: Contig) -> tuple[Positions, Strands]:
    """Return the annotated sites (position, strand) sorted by position, plus before minus."""
    position = np.concatenate([contig.sites[1], contig.sites[-1]])
    strand = np.repeat(np.array([1, -1], np.int8), (contig.sites[1].size, contig.sites[-1].size))
    order = np.lexsort((-strand, position))
    return position[order], strand[order]


def site_windows(contig: Contig, options: PolyaOptions, dropped: Counter[str]) -> tuple[Positions, Strands]:
    """Return the sites that can be positives of the variant; what is left out is counted in `dropped`."""
    position, strand = annotated(contig)
    within, known = _fit(contig, position, strand, options.size)
    reasons = [("site: window over the contig's end", ~within), ("site: N in the window", ~known)]
    if options.variant != "published":
        reasons.append(("site: cleavage base is not A", _at(contig, position, strand, 0) != A))
        reasons.append(("site: next base is A", ~ends_a_run(contig, position, strand)))
    if options.variant == "matched":
        hexamer, _ = describe(contig.bases, position, strand)
        reasons.append(("site: no AATAAA or ATTAAA 10-35 bases upstream", (hexamer < 0) | (hexamer > 1)))
    keep = np.ones(position.size, bool)
    for reason, wrong in reasons:  # a site counts under the first reason that holds
        dropped[reason] += int((keep & wrong).sum())
        keep &= ~wrong
    return position[keep], strand[keep]


# ---- negatives


def canonical_positions(bases: Bases) -> tuple[Positions, Strands]:
    """Return every A, of either strand, with AATAAA or ATTAAA starting 10-35 bases upstream; sorted by position, `bases` upper case.

    Unlike the scan's rule nothing is asked of the base before the A. Source: negatives of the published protocol, section 2.1.
    """
    a, t = bases == A, bases == T
    plus = a[:-5] & (a | t)[1:-4] & t[2:-3] & a[3:-2] & a[4:-1] & a[5:]  # AATAAA, ATTAAA
    minus = t[:-5] & t[1:-4] & t[2:-3] & a[3:-2] & (a | t)[4:-1] & t[5:]  # TTTATT, TTTAAT: their reverse complements
    offsets = np.arange(FIRST, LAST + 1)
    found = []
    for hits, step, wanted in ((np.flatnonzero(plus), offsets, a), (np.flatnonzero(minus) + 5, -offsets, t)):
        position = np.unique(hits[:, None] + step)
        position = position[(position >= 0) & (position < bases.size)]
        found.append(position[wanted[position]].astype(np.int64))
    position = np.concatenate(found)
    strand = np.repeat(np.array([1, -1], np.int8), (found[0].size, found[1].size))
    order = np.argsort(position, kind="stable")
    return position[order], strand[order]


def far_from_sites(contig: Contig, position: Positions, strand: Strands, distance: int) -> Mask:
    """Return which positions are further than `distance` from every site of their strand."""
    return site_distance(contig, position, strand) > distance


def site_distance(contig: Contig, position: Positions, strand: Strands) -> Positions:
    """Return the distance to the nearest annotated site of the same strand; the largest int64 where there is none."""
    result = np.empty(position.size, np.int64)
    for sign in (1, -1):
        mine = strand == sign
        result[mine] = distance_to(position[mine], contig.sites[sign])
    return result


def in_genes(contig: Contig, position: Positions, strand: Strands | None) -> Mask:
    """Return which positions lie in a gene of their strand; with strand None in a gene of either."""
    merged = {sign: merge(table["start"].to_numpy(np.int64), table["end"].to_numpy(np.int64)) for sign, table in contig.genes.items()}
    if strand is None:
        return inside(position, *merged[1]) | inside(position, *merged[-1])
    return np.where(strand > 0, inside(position, *merged[1]), inside(position, *merged[-1]))


def negative_pool(contig: Contig, options: PolyaOptions) -> tuple[Positions, Strands]:
    """Return all bases of a contig that may serve as gene or intergene negatives."""
    if contig.bases.size < options.size:
        return np.empty(0, np.int64), np.empty(0, np.int8)
    position, strand = canonical_positions(contig.bases)
    keep = far_from_sites(contig, position, strand, options.exclusion)
    keep &= in_genes(contig, position, strand) if options.negatives == "gene" else ~in_genes(contig, position, None)
    if options.variant != "published":
        keep &= ends_a_run(contig, position, strand)
    position, strand = position[keep], strand[keep]
    within, known = _fit(contig, position, strand, options.size)
    return position[within & known], strand[within & known]


def balanced(contig: Contig, options: PolyaOptions, dropped: Counter[str]) -> Chosen:
    """Return positives and as many negatives of one contig; in the matched variant paired by hexamer and distance."""
    position, strand = site_windows(contig, options, dropped)
    pool, pool_strand = negative_pool(contig, options)
    rng = contig_rng(options.seed, contig.name, options.negatives)
    if options.variant == "matched":
        rows, partners = draw_matched(_key(contig, position, strand), _key(contig, pool, pool_strand), rng)
        reason = "site: no negative of the same hexamer and distance left on its chromosome"
    else:
        rows, partners = draw(position.size, pool.size, rng), draw(pool.size, position.size, rng)
        reason = "site: no negative left on its chromosome"
    dropped[reason] += position.size - rows.size
    return Chosen(
        np.concatenate([position[rows], pool[partners]]),
        np.concatenate([strand[rows], pool_strand[partners]]),
        np.repeat(np.array([1, 0], np.int64), (rows.size, partners.size)),
    )


def _key(contig: Contig, position: Positions, strand: Strands) -> Positions:
    hexamer, offset = describe(contig.bases, position, strand)
    return hexamer.astype(np.int64) * 100 + offset


# ---- scan


def labelled_candidates(contig: Contig, options: PolyaOptions, dropped: Counter[str]) -> Chosen:
    """Return the rule's candidates that are certainly a site (label 1) or certainly none (0); those between are counted."""
    found: Candidates = find_candidates(contig.bases)
    distance = site_distance(contig, found.position, found.strand)
    near, far = distance <= options.positive_distance, distance > options.exclusion
    dropped[f"candidate: {options.positive_distance + 1}-{options.exclusion} bases from a site"] += int((~near & ~far).sum())
    sure = near | far
    return Chosen(found.position[sure], found.strand[sure], near[sure].astype(np.int64))


def scanned(contig: Contig, options: PolyaOptions, keep_all: bool, dropped: Counter[str]) -> Chosen:
    """Return positives and drawn negatives among the rule's candidates; `keep_all`: every one of them.

    N inside a window stays, as in a scan; windows over the contig's end (possible beyond 101 bases only) are counted.
    """
    chosen = labelled_candidates(contig, options, dropped)
    within, _ = _fit(contig, chosen.position, chosen.strand, options.size)
    dropped["candidate: window over the contig's end"] += int((~within).sum())
    rows = np.flatnonzero(within)
    positives, negatives = rows[chosen.label[rows] == 1], rows[chosen.label[rows] == 0]
    if not keep_all and options.negatives_per_positive is not None:
        kept = draw(negatives.size, options.negatives_per_positive * positives.size, contig_rng(options.seed, contig.name, "scan"))
        dropped["candidate: negative not drawn"] += negatives.size - kept.size
        negatives = negatives[kept]
    rows = np.sort(np.concatenate([positives, negatives]))
    return Chosen(chosen.position[rows], chosen.strand[rows], chosen.label[rows])


# ---- groups and tables


def groups(contig: Contig, position: Positions, strand: Strands) -> list[str]:
    """Return what a split must not divide: the longest gene of the strand that holds the position, else the 100-kb bin."""
    low = position // BIN * BIN
    names = [f"{contig.name}:{start}-{start + BIN}" for start in low.tolist()]
    for sign in (1, -1):
        table = contig.genes[sign]
        starts, ends = table["start"].to_numpy(np.int64), table["end"].to_numpy(np.int64)
        mine = np.flatnonzero(strand == sign)
        mine = mine[np.argsort(position[mine], kind="stable")]
        owner = np.full(mine.size, -1, np.int64)
        sorted_positions = position[mine]
        first, last = np.searchsorted(sorted_positions, starts), np.searchsorted(sorted_positions, ends)
        for gene in np.lexsort((-starts, ends - starts)).tolist():  # longer genes paint over shorter ones, earlier ones over later
            owner[first[gene] : last[gene]] = gene
        gene_names = table["name"].tolist()
        for row, gene in zip(mine[owner >= 0].tolist(), owner[owner >= 0].tolist(), strict=True):
            name = gene_names[gene]
            names[row] = name if name not in ("", ".") else f"{contig.name}:{starts[gene]}-{ends[gene]}"
    return names


def to_table(contig: Contig, chosen: Chosen, options: PolyaOptions) -> pd.DataFrame:
    """Return chosen cleavage bases of a contig as an examples table (split not assigned), in the order of the contig."""
    order = np.lexsort((-chosen.strand, chosen.position))
    position, strand, label = chosen.position[order], chosen.strand[order], chosen.label[order]
    start = window_starts(position, strand, options.size)
    rows = cut(contig.bases, start, strand, options.size)
    if options.force_center:
        rows[label == 1, options.size // 2] = A
    return pd.DataFrame(
        {
            "chrom": pd.Series([contig.name] * position.size, dtype=str),
            "start": start,
            "end": start + options.size,
            "strand": pd.Series(np.where(strand > 0, "+", "-"), dtype=str),
            "label": label,
            "split": pd.Series([""] * position.size, dtype=str),
            "group": pd.Series(groups(contig, position, strand), dtype=str),
            "sequence": pd.Series(texts(rows), dtype=str),
        }
    )
