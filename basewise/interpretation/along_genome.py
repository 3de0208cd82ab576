"""Where explained bases lie on the genome, and their scores as a track."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.backbones.classifier import Classifier
from basewise.genome.fasta import open_genome
from basewise.genome.tracks import Part
from basewise.inference.inputs import Inputs, window_around


def places_of(classifier: Classifier, piece: pd.DataFrame, inputs: Inputs, sequences: list[str]) -> dict[str, list[Any]]:
    """Return chrom, start, end, strand of the bases explained; nothing where they are not known."""
    if not {"chrom", "start", "end"} <= set(piece.columns):
        return {}
    strands = [str(strand) if strand in ("+", "-") else "+" for strand in piece.get("strand", ["+"] * len(piece))]
    window = classifier.config.window if inputs.format == "bed" else None
    try:
        ends = [
            window_around(int(start), int(end), strand, window)
            for start, end, strand in zip(piece["start"], piece["end"], strands, strict=True)
        ]
    except (TypeError, ValueError):
        return {}
    if any(end - start != len(sequence) for (start, end), sequence in zip(ends, sequences, strict=True)):
        return {}  # a table whose sequences are not those of its intervals
    chroms = [str(chrom) for chrom in piece["chrom"]]
    if "." in chroms:
        return {}  # data sets without coordinates write so
    return {"chrom": chroms, "start": [start for start, _ in ends], "end": [end for _, end in ends], "strand": strands}


class Track:
    """Scores along the genome; where windows overlap, their mean."""

    def __init__(self) -> None:
        self.parts: dict[str, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]] = {}

    def add(self, chrom: str, start: int, end: int, strand: str, scores: npt.NDArray[np.float32]) -> None:
        """Add the scores of a sequence that reads [start, end) on its strand."""
        positions = np.arange(start, end, dtype=np.int64)
        self.parts.setdefault(chrom, []).append((positions[::-1] if strand == "-" else positions, scores))

    def merged(self, contigs: dict[str, int]) -> Iterator[Part]:
        """Yield one part a contig, in the order of `contigs`; bases beyond their ends (Ns of a window) are left out."""
        for chrom, length in contigs.items():
            if chrom not in self.parts:
                continue
            positions = np.concatenate([part[0] for part in self.parts[chrom]])
            scores = np.concatenate([part[1] for part in self.parts[chrom]]).astype(np.float64)
            inside = (positions >= 0) & (positions < length)
            places, which = np.unique(positions[inside], return_inverse=True)
            yield chrom, places, (np.bincount(which, scores[inside]) / np.bincount(which)).astype(np.float32)

    def contigs(self, genome: str | Path | None) -> dict[str, int]:
        """Return the contigs of the track: those of the genome, else those seen, as long as the last base seen."""
        if genome is not None:
            with open_genome(genome) as opened:
                return dict(opened.contigs)
        return {chrom: int(max(part[0].max() for part in parts)) + 1 for chrom, parts in sorted(self.parts.items())}
