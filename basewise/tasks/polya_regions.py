"""Regions of one contig with a label at every candidate: what a scanner trains on and is judged by.

Regions tile a contig; consecutive ones share twice the flank, and every base is scored in exactly one of them, with at least `flank`
bases of context on both sides but at the contig's ends. One example a region and strand; labels read 5'->3' like the sequence.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.datasets.negatives import contig_rng, draw
from basewise.genome.alphabet import reverse_complement, to_str
from basewise.tasks.polya_options import PolyaOptions
from basewise.tasks.polya_windows import BIN, Contig, Positions, labelled_candidates

NOT_SCORED = -1


class Tiles(NamedTuple):
    """Regions [start, start + size) and the stretch of each that is scored, int64 (n,) each; the scored stretches tile the contig."""

    start: Positions
    scored_from: Positions
    scored_to: Positions


def tile(length: int, size: int, flank: int) -> Tiles:
    """Return the tiles of a contig of `length` bases; none when it is shorter than `size`. The last one is moved back to fit."""
    if length < size:
        none = np.empty(0, np.int64)
        return Tiles(none, none, none)
    start = np.arange(0, length - size + 1, size - 2 * flank, dtype=np.int64)
    if start[-1] + size < length:
        start = np.append(start, length - size)
    scored_to = start + size - flank
    scored_to[-1] = length
    return Tiles(start, np.concatenate(([0], scored_to[:-1])), scored_to)


def regions(contig: Contig, options: PolyaOptions, keep_all: bool, dropped: Counter[str]) -> pd.DataFrame:
    """Return regions of a contig as an examples table of kind "base" (split not assigned).

    `keep_all`: every region that holds a scored candidate. Else every region with an annotated site (that holds a scored candidate) and
    `options.background` times as many others, drawn with the seed.
    """
    tiles = tile(contig.bases.size, options.size, options.margin)
    if not tiles.start.size:
        dropped["contig: shorter than a region"] += 1
    chosen = labelled_candidates(contig, options, dropped)
    parts = []
    for sign in (1, -1):
        labels = np.full(contig.bases.size, NOT_SCORED, np.int8)
        mine = chosen.strand == sign
        labels[chosen.position[mine]] = chosen.label[mine]
        rows = _chosen_tiles(contig, options, tiles, sign, np.sort(chosen.position[mine]), keep_all, dropped)
        parts += [_example(contig, options, tiles, row, sign, labels) for row in rows.tolist()]
    parts.sort(key=lambda example: (example["start"], example["strand"]))  # "+" sorts before "-"
    columns = {
        name: pd.Series([part[name] for part in parts], dtype=kind)
        for name, kind in (("chrom", str), ("start", np.int64), ("end", np.int64), ("strand", str), ("label", object))
    }
    text = {name: pd.Series([part[name] for part in parts], dtype=str) for name in ("split", "group", "sequence")}
    return pd.DataFrame(columns | text)


def _chosen_tiles(
    contig: Contig, options: PolyaOptions, tiles: Tiles, sign: int, candidates: Positions, keep_all: bool, dropped: Counter[str]
) -> npt.NDArray[np.int64]:
    scored = _holds(tiles, candidates)
    with_site = _holds(tiles, contig.sites[sign])
    dropped["region: no candidate to score"] += int((~scored).sum())
    dropped["region: a site, but no candidate to score"] += int((with_site & ~scored).sum())
    if keep_all:
        return np.flatnonzero(scored)
    others = np.flatnonzero(scored & ~with_site)
    sites = np.flatnonzero(scored & with_site)
    kept = draw(others.size, options.background * sites.size, contig_rng(options.seed, contig.name, "region", str(sign)))
    dropped["region: without a site, not drawn"] += others.size - kept.size
    return np.sort(np.concatenate([sites, others[kept]]))


def _holds(tiles: Tiles, positions: Positions) -> npt.NDArray[np.bool_]:
    """Return which tiles score one of the sorted positions."""
    return np.searchsorted(positions, tiles.scored_from) < np.searchsorted(positions, tiles.scored_to)


def _example(contig: Contig, options: PolyaOptions, tiles: Tiles, row: int, sign: int, labels: npt.NDArray[np.int8]) -> dict[str, object]:
    start, low, high = int(tiles.start[row]), int(tiles.scored_from[row]), int(tiles.scored_to[row])
    end = start + options.size
    label = np.full(options.size, NOT_SCORED, np.int8)
    label[low - start : high - start] = labels[low:high]
    bases = contig.bases[start:end]
    bin_start = (low + high) // 2 // BIN * BIN
    return {
        "chrom": contig.name,
        "start": start,
        "end": end,
        "strand": "+" if sign > 0 else "-",
        "label": label if sign > 0 else label[::-1].copy(),
        "split": "",
        "group": f"{contig.name}:{bin_start}-{bin_start + BIN}",
        "sequence": to_str(bases if sign > 0 else reverse_complement(bases)),
    }
