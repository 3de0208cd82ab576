"""The counts of a scan, gathered while its parts stream by: what summary.json and the report's figures show."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.inference.regions import Regions, merge_regions
from basewise.tasks.pas_rule import FIRST, HEXAMERS, LAST

if TYPE_CHECKING:
    from basewise.inference.merge import Part

_BINS = 20
_STRANDS = {"+": 1, "-": -1}
_COUNTS = ("bases", "candidates", "candidates_in_genes", "sites", "genic", "intergenic")
_OF_GENES = ("candidates_in_genes", "genic", "intergenic")  # unknown, not 0, without genes

Counts = npt.NDArray[np.int64]


class Tally:
    """Counts a contig and strand, and histograms of candidates and of sites.

    A candidate or site is genic when its base lies in a gene of the same strand.
    """

    def __init__(self, contigs: Mapping[str, int], genes: pd.DataFrame | None) -> None:
        self._rows = {(chrom, strand): dict.fromkeys(_COUNTS, 0) for chrom in contigs for strand in _STRANDS}
        self._genes: dict[str, Regions] | None = None
        if genes is not None:
            self._genes = {strand: merge_regions(genes[genes["strand"] == strand]) for strand in _STRANDS}
        self._hexamers = {kind: np.zeros(len(HEXAMERS), np.int64) for kind in ("candidates", "sites")}
        self._offsets = {kind: np.zeros(LAST + 1, np.int64) for kind in ("candidates", "sites")}
        self._probabilities = {kind: np.zeros(_BINS, np.int64) for kind in ("candidates", "sites")}
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, float] = {"dropped": 0, "rescored": 0, "difference": 0.0}

    def add_part(self, part: "Part") -> None:
        """Count the candidates of a tile."""
        chrom = part.tile.chrom
        for strand, sign in _STRANDS.items():
            row, mine = self._rows[chrom, strand], part.strand == sign
            row["bases"] += part.bases
            row["candidates"] += int(mine.sum())
            if self._genes is not None:
                row["candidates_in_genes"] += int(self._genes[strand].inside(chrom, part.position[mine]).sum())
        self._hexamers["candidates"] += np.bincount(part.hexamer, minlength=len(HEXAMERS))
        self._offsets["candidates"] += np.bincount(part.hexamer_offset, minlength=LAST + 1)
        self._probabilities["candidates"] += _histogram(part.probability)
        for stage, seconds in part.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        for count in ("dropped", "rescored"):
            self.counts[count] += part.counts[count]
        self.counts["difference"] = max(self.counts["difference"], part.counts["difference"])

    def add_sites(self, chrom: str, sites: pd.DataFrame) -> None:
        """Count the sites of a contig (columns strand hexamer hexamer_offset probability region)."""
        for strand in _STRANDS:
            row, mine = self._rows[chrom, strand], sites["strand"].to_numpy() == strand
            row["sites"] += int(mine.sum())
            for region in ("genic", "intergenic"):
                row[region] += int((sites["region"].to_numpy()[mine] == region).sum())
        rank = {hexamer: index for index, hexamer in enumerate(HEXAMERS)}
        ranks = np.array([rank[hexamer] for hexamer in sites["hexamer"]], dtype=np.int64)
        self._hexamers["sites"] += np.bincount(ranks, minlength=len(HEXAMERS))
        self._offsets["sites"] += np.bincount(sites["hexamer_offset"].to_numpy(np.int64), minlength=LAST + 1)
        self._probabilities["sites"] += _histogram(sites["probability"].to_numpy(np.float32))

    def summary(self) -> dict[str, Any]:
        """Return the counting part of summary.json."""
        rows = [{"chrom": chrom, "strand": strand, **self._known(row)} for (chrom, strand), row in self._rows.items()]
        totals = {key: sum(row[key] for row in self._rows.values()) for key in _COUNTS}
        totals["bases"] //= len(_STRANDS)  # every base counts once, though it is looked at on both strands
        return {
            "totals": self._known(totals),
            "contigs": rows,
            "hexamers": [{"hexamer": name, **_at(self._hexamers, index)} for index, name in enumerate(HEXAMERS)],
            "offsets": [{"offset": offset, **_at(self._offsets, offset)} for offset in range(FIRST, LAST + 1)],
            "probabilities": {
                "edges": [round(index / _BINS, 6) for index in range(_BINS + 1)],
                **{kind: counts.tolist() for kind, counts in self._probabilities.items()},
            },
        }

    def _known(self, row: dict[str, int]) -> dict[str, int | None]:
        return {key: None if key in _OF_GENES and self._genes is None else value for key, value in row.items()}


def _at(counts: Mapping[str, Counts], index: int) -> dict[str, int]:
    return {kind: int(values[index]) for kind, values in counts.items()}


def _histogram(probability: npt.NDArray[np.float32]) -> Counts:
    """Return counts int64 (20,) of bins of 0.05; 1.0 falls into the last, NaN into none."""
    probability = probability[~np.isnan(probability)]
    counts: Counts = np.bincount(np.minimum((probability * _BINS).astype(np.int64), _BINS - 1), minlength=_BINS)
    return counts
