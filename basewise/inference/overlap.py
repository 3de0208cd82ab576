"""How well predicted sites and an atlas agree, in both directions, against chance."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.alphabet import N_CODE, codes
from basewise.genome.contigs import check_contigs, strangers_message
from basewise.genome.fasta import Genome
from basewise.genome.intervals import cluster, nearest, nearest_sites, require_columns, strand_groups

Positions = npt.NDArray[np.int64]

BLOCK = 1 << 22


class Ground(NamedTuple):
    """Where shuffled positions may fall on one contig: stretches [starts, ends) int64 (k,), ascending, apart from each other."""

    starts: Positions
    ends: Positions

    def draw(self, rng: np.random.Generator, n: int) -> Positions:
        """Return `n` positions int64, uniform over the stretches."""
        filled = np.cumsum(self.ends - self.starts)
        if not len(filled):
            raise BasewiseError("sites lie on a contig that has no base other than N, so they cannot be shuffled")
        picked = rng.integers(filled[-1], size=n)
        stretch = np.searchsorted(filled, picked, side="right")
        return self.ends[stretch] - filled[stretch] + picked


class _Group(NamedTuple):
    """One contig and strand: `sites` sorted, each with its `cluster` 0..; `shift` is its distance from the cluster's first site."""

    chrom: str
    sites: Positions
    site_cluster: Positions
    shift: Positions
    atlas: Positions
    atlas_cluster: Positions


def overlap(
    sites: pd.DataFrame,
    atlas: pd.DataFrame,
    window: int = 20,
    genome: Genome | None = None,
    *,
    gap: int = 24,
    shuffles: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare predicted sites with an atlas: precision, recall and what chance would give.

    On both sides sites of one strand within `gap` nt of each other (single linkage) count once, as a cluster. A predicted
    cluster is near the atlas when any of its sites lies within `window` nt (inclusive) of an atlas site on the same strand; an
    atlas cluster is recovered when any of its sites lies within `window` nt of a predicted one.

    The null: every predicted cluster is moved as a whole to a uniformly drawn place on its contig and strand, `shuffles` times;
    with a genome its first base falls on a base other than N (and the cluster inside the contig), without one anywhere
    between the first and the last site of either table on the contig. `p` is (1 + shuffles at least as good) / (1 + shuffles).

    Parameters
    ----------
    sites, atlas
        Intervals tables of 1-bp stranded sites (see `read_sites`).
    window, gap
        In nt.
    genome
        Its contigs define what was predicted on: atlas sites on other contigs are left out (and counted), sites on other contigs
        are an error. Without it all atlas sites count.
    shuffles
        0 leaves the null out (None).
    seed
        Of the shuffles.

    Returns
    -------
    dict
        JSON-ready; described in docs/file_formats.md.

    Raises
    ------
    BasewiseError
        A table is empty or lacks columns, the contig names do not match, or a number is negative.

    Source: A7 of the mission; empirical p: North, Curtis & Sham 2002, Am J Hum Genet 71:439.

    """
    for name, value in (("window", window), ("gap", gap), ("shuffles", shuffles)):
        if value < 0:
            raise BasewiseError(f"{name} {value} is negative, expected 0 or more")
    for table, source in ((sites, "the sites table"), (atlas, "the atlas")):
        require_columns(table, ("chrom", "start", "strand"), source)
        if not len(table):
            raise BasewiseError(f"{source} is empty; nothing can be compared")
    atlas, left_out = _comparable(sites, atlas, genome)
    groups = _groups(sites, atlas, gap)
    if genome is not None:
        _require_inside(groups, genome)
    found = np.array([_hits(group, group.sites, window) for group in groups]).sum(axis=0)
    null = _null(groups, genome, window, shuffles, seed)
    of = (sum(_count(group.site_cluster) for group in groups), sum(_count(group.atlas_cluster) for group in groups))
    predicted_on = {group.chrom for group in groups if len(group.sites)}
    return {
        "window": window,
        "gap": gap,
        "shuffles": shuffles,
        "seed": seed,
        "background": "bases other than N of the genome" if genome is not None else "from the first to the last site of each contig",
        "sites": {
            "sites": len(sites),
            "clusters": of[0],
            "sites_on_contigs_without_atlas": int((~sites["chrom"].isin(atlas["chrom"])).sum()),
        },
        "atlas": {
            "sites": len(atlas),
            "clusters": of[1],
            "sites_outside_genome": left_out,
            "clusters_on_contigs_without_sites": sum(_count(group.atlas_cluster) for group in groups if group.chrom not in predicted_on),
        },
        "near_atlas": _verdict(int(found[0]), of[0], null[:, 0]),
        "recovered": _verdict(int(found[1]), of[1], null[:, 1]),
        "signed_distance": _signed_distances(sites, atlas, window),
    }


def _comparable(sites: pd.DataFrame, atlas: pd.DataFrame, genome: Genome | None) -> tuple[pd.DataFrame, int]:
    """Return the atlas on the contigs that were predicted on, and how many of its sites lie elsewhere."""
    if genome is not None:
        check_contigs(sites["chrom"].unique(), genome, "the sites table")
        inside = atlas["chrom"].isin(list(genome.contigs))
        if not inside.any():
            check_contigs(atlas["chrom"].unique(), genome, "the atlas")
        return atlas[inside], int((~inside).sum())
    if not sites["chrom"].isin(atlas["chrom"]).any():
        known = atlas["chrom"].unique().tolist()
        raise BasewiseError(strangers_message(sites["chrom"].unique().tolist(), known, "the sites table", "the atlas"))
    return atlas, 0


def _groups(sites: pd.DataFrame, atlas: pd.DataFrame, gap: int) -> list[_Group]:
    halves: list[dict[tuple[str, str], tuple[Positions, Positions]]] = []
    for table in (sites, atlas):
        points = table.assign(end=table["start"] + 1)
        position, number = points["start"].to_numpy(np.int64), cluster(points, gap)
        half = {}
        for key, rows in strand_groups(points).items():
            ordered = rows[np.argsort(position[rows], kind="stable")]
            half[key] = (position[ordered], number[ordered] - number[ordered[0]])
        halves.append(half)
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64))
    groups = []
    for key in sorted({*halves[0], *halves[1]}):
        (ours, our_cluster), (theirs, their_cluster) = halves[0].get(key, nothing), halves[1].get(key, nothing)
        first = ours[np.searchsorted(our_cluster, our_cluster)]  # cluster numbers ascend with position
        groups.append(_Group(key[0], ours, our_cluster, ours - first, theirs, their_cluster))
    return groups


def _count(numbers: Positions) -> int:
    return int(numbers[-1]) + 1 if len(numbers) else 0


def _hits(group: _Group, positions: Positions, window: int) -> tuple[int, int]:
    """Return (predicted clusters near the atlas, atlas clusters recovered) with the predicted sites at `positions`."""
    near = nearest(positions, group.atlas)[1] <= window
    reached = nearest(group.atlas, np.sort(positions))[1] <= window
    return len(np.unique(group.site_cluster[near])), len(np.unique(group.atlas_cluster[reached]))


def _moved(group: _Group, ground: Ground, length: int | None, rng: np.random.Generator) -> Positions:
    start = ground.draw(rng, _count(group.site_cluster))
    if length is not None:  # a cluster drawn over the edge is pushed back inside
        reach = np.zeros(len(start), np.int64)
        np.maximum.at(reach, group.site_cluster, group.shift)
        start = np.maximum(np.minimum(start, length - 1 - reach), 0)
    return start[group.site_cluster] + group.shift


def _null(groups: list[_Group], genome: Genome | None, window: int, shuffles: int, seed: int) -> Positions:
    """Return `_hits` summed over the groups for every shuffle, int64 (shuffles, 2)."""
    null = np.zeros((shuffles, 2), np.int64)
    if not shuffles:
        return null
    rng = np.random.default_rng(seed)
    moving = [group for group in groups if len(group.sites)]
    chroms = sorted({group.chrom for group in moving})
    lengths = genome.contigs if genome is not None else {}
    ground = {chrom: _span(groups, chrom) if genome is None else known_stretches(genome, chrom) for chrom in chroms}
    for number in range(shuffles):
        for group in moving:
            null[number] += _hits(group, _moved(group, ground[group.chrom], lengths.get(group.chrom), rng), window)
    return null


def _span(groups: list[_Group], chrom: str) -> Ground:
    """Return the stretch from the first to the last site of either table on a contig, both strands together."""
    every = np.concatenate([np.concatenate([group.sites, group.atlas]) for group in groups if group.chrom == chrom])
    return Ground(every.min(keepdims=True), every.max(keepdims=True) + 1)


def _require_inside(groups: list[_Group], genome: Genome) -> None:
    for group in groups:
        length = genome.contigs[group.chrom]
        for positions, source in ((group.sites, "predicted"), (group.atlas, "atlas")):
            if len(positions) and (positions[0] < 0 or positions[-1] >= length):
                raise BasewiseError(
                    f"{source} sites lie outside contig {group.chrom!r} ({length} bases) of {genome.path}, e.g. at {positions[-1]}; "
                    "are they of another assembly?"
                )


def known_stretches(genome: Genome, chrom: str) -> Ground:
    """Return the stretches of a contig without N (IUPAC codes count as N), streamed."""
    edges = []
    before = False
    for start, bases in genome.blocks(chrom, BLOCK):
        known = codes(bases) != N_CODE
        edges.append(np.flatnonzero(np.diff(known, prepend=before)) + start)
        before = bool(known[-1])
    changes = np.concatenate([*edges, [genome.contigs[chrom]] if before else []]).astype(np.int64)
    return Ground(changes[::2], changes[1::2])


def _verdict(hits: int, of: int, null: Positions) -> dict[str, Any]:
    verdict: dict[str, Any] = {"hits": hits, "of": of, "fraction": hits / of if of else None, "null": None}
    if len(null) and of:
        mean = float(null.mean()) / of
        verdict["null"] = {
            "mean": mean,
            "sd": float(null.std(ddof=1)) / of if len(null) > 1 else None,
            "p": (1 + int((null >= hits).sum())) / (1 + len(null)),
            "fold_enrichment": hits / of / mean if mean else None,
        }
    return verdict


def _signed_distances(sites: pd.DataFrame, atlas: pd.DataFrame, window: int) -> dict[str, int]:
    """Return how many sites lie how far from their nearest atlas site, within the window; positive is downstream of the atlas site."""
    row, distance = nearest_sites(sites, atlas)
    near = np.flatnonzero(distance <= window)
    signed = sites["start"].to_numpy(np.int64)[near] - atlas["start"].to_numpy(np.int64)[row[near]]
    signed = np.where(sites["strand"].to_numpy()[near] == "+", signed, -signed)
    counts = np.bincount(signed + window, minlength=2 * window + 1)
    return {str(offset): int(count) for offset, count in zip(range(-window, window + 1), counts, strict=True)}


def overlap_files(
    sites: str | Path,
    atlas: str | Path,
    window: int = 20,
    genome: str | Path | None = None,
    *,
    gap: int = 24,
    shuffles: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Read the files (any format `read_sites` knows), compare them by `overlap`, and add where they lie and their checksums."""
    from basewise.files import sha256_of
    from basewise.genome.annotation import read_sites
    from basewise.genome.fasta import open_genome
    from basewise.provenance import provenance

    ours, theirs = read_sites(sites), read_sites(atlas)
    inputs = {"sites": {"path": str(sites), "sha256": sha256_of(sites)}, "atlas": {"path": str(atlas), "sha256": sha256_of(atlas)}}
    if genome is None:
        result = overlap(ours, theirs, window, gap=gap, shuffles=shuffles, seed=seed)
    else:
        with open_genome(genome) as opened:
            result = overlap(ours, theirs, window, opened, gap=gap, shuffles=shuffles, seed=seed)
            inputs["genome"] = {"path": str(genome), "sha256": opened.sha256()}
    return {**result, "inputs": inputs, "provenance": provenance()}
