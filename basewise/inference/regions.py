"""Where a scan may find candidates: merged intervals a contig, asked millions of times."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """Disjoint, sorted intervals of each contig; contigs without an entry have none.

    Attributes
    ----------
    edges : mapping of contig name to int64 (2 n,)
        start, end, start, end ... ascending, so that a base is inside when an odd number of edges lie at or before it.
    """

    edges: Mapping[str, Positions]

    def inside(self, chrom: str, positions: Positions) -> npt.NDArray[np.bool_]:
        """Return True for each of `positions` (0-based) that lies in an interval; starts are inside, ends are not."""
        edges = self.edges.get(chrom)
        if edges is None:
            return np.zeros(len(positions), dtype=np.bool_)
        inside: npt.NDArray[np.bool_] = np.searchsorted(edges, positions, side="right") % 2 == 1
        return inside

    def overlaps(self, chrom: str, start: int, end: int) -> bool:
        """Return whether any base of ``[start, end)`` is inside."""
        return self.bases(chrom, start, end) > 0

    def bases(self, chrom: str, start: int, end: int) -> int:
        """Return how many bases of ``[start, end)`` are inside."""
        edges = self.edges.get(chrom)
        if edges is None:
            return 0
        clipped = np.clip(edges, start, end)
        return int((clipped[1::2] - clipped[0::2]).sum())


def merge_regions(table: pd.DataFrame) -> Regions:
    """Merge overlapping and touching intervals of a table ``chrom start end`` (strand ignored) into `Regions`."""
    edges = {}
    for chrom, rows in table.groupby("chrom", sort=False):
        order = np.argsort(rows["start"].to_numpy(np.int64), kind="stable")
        starts, ends = rows["start"].to_numpy(np.int64)[order], rows["end"].to_numpy(np.int64)[order]
        reach = np.maximum.accumulate(ends)
        first = np.concatenate(([True], starts[1:] > reach[:-1]))
        last = np.concatenate((first[1:], [True]))
        edges[str(chrom)] = np.stack((starts[first], reach[last]), axis=1).reshape(-1)
    return Regions(edges)
