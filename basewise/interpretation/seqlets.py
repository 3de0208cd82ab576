"""Seqlets: runs of high attribution, and the motifs they make, in MEME format for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import codes
from basewise.interpretation.kmers import Row

_LETTERS = "ACGTN"


@dataclass(frozen=True)
class Motif:
    """Base counts (width, 4) of aligned seqlets, named by the bases seen most."""

    name: str
    counts: npt.NDArray[np.int64]
    sites: int
    score: float  # sum of the attributions under the sites


def find_seqlets(rows: Sequence[Row], *, quantile: float = 0.95, least: int = 4, gap: int = 1) -> pd.DataFrame:
    """Return row, start, end, score, sequence of every run of bases whose scores reach the `quantile` of all scores.

    Runs closer than or as close as `gap` bases are one; runs shorter than `least` bases are left out; `score` is the sum over the run.
    """
    if not 0 < quantile < 1 or least < 1 or gap < 0:
        raise BasewiseError(
            f"quantile {quantile}, least {least}, gap {gap}: expected a quantile between 0 and 1, 1 base or more, gap 0 or more"
        )
    scored = [row.scores for row in rows if row.scores is not None]
    if not scored:
        raise BasewiseError("no sequence has scores; explain some first")
    threshold = float(np.quantile(np.concatenate(scored), quantile))
    found: list[tuple[int, int, int, float, str]] = []
    for i, row in enumerate(rows):
        if row.scores is None:
            continue
        high = np.flatnonzero((row.scores >= threshold) & (row.scores > 0))
        for run in np.split(high, np.flatnonzero(np.diff(high) > gap + 1) + 1):
            if len(run) and run[-1] + 1 - run[0] >= least:
                start, end = int(run[0]), int(run[-1]) + 1
                text = "".join(_LETTERS[code] for code in codes(row.bases[start:end]))
                found.append((i, start, end, float(row.scores[start:end].sum(dtype=np.float64)), text))
    return pd.DataFrame(found, columns=["row", "start", "end", "score", "sequence"])


def motifs_of(rows: Sequence[Row], seqlets: pd.DataFrame, *, width: int = 6, most: int = 10, least_sites: int = 2) -> list[Motif]:
    """Return up to `most` motifs of `width` bases, the highest total score first.

    Each seqlet gives the `width` bases of highest score around it. The window with the highest total score (over all places it
    stands) leads a motif, which takes all windows that differ from it in at most one base; and so on with those that are left.
    """
    windows: dict[str, list[float]] = {}
    for row_index, start, end in zip(seqlets["row"], seqlets["start"], seqlets["end"], strict=True):
        row = rows[row_index]
        assert row.scores is not None
        first, last = max(0, start - width // 2), min(len(row.bases), end + width // 2)
        if last - first < width:
            continue
        sums = np.lib.stride_tricks.sliding_window_view(row.scores[first:last], width).sum(1)
        place = first + int(sums.argmax())
        text = codes(row.bases[place : place + width])
        if (text < 4).all():
            windows.setdefault("".join(_LETTERS[code] for code in text), []).append(float(sums.max()))
    motifs: list[Motif] = []
    while windows and len(motifs) < most:
        lead = max(windows, key=lambda text: (sum(windows[text]), text))
        members = {
            text: windows.pop(text) for text in [text for text in windows if sum(a != b for a, b in zip(text, lead, strict=True)) <= 1]
        }
        counts = np.zeros((width, 4), dtype=np.int64)
        for word, scores in members.items():
            counts[np.arange(width), ["ACGT".index(letter) for letter in word]] += len(scores)
        sites = int(counts[0].sum())
        if sites >= least_sites:
            name = "".join("ACGT"[i] for i in counts.argmax(1))
            motifs.append(Motif(name, counts, sites, float(sum(sum(scores) for scores in members.values()))))
    return sorted(motifs, key=lambda motif: -motif.score)


def write_meme(path: str | Path, motifs: Sequence[Motif]) -> None:
    """Write motifs in minimal MEME format (version 4), frequencies with six decimals, uniform background."""
    lines = [
        "MEME version 4",
        "",
        "ALPHABET= ACGT",
        "",
        "strands: +",
        "",
        "Background letter frequencies",
        "A 0.25 C 0.25 G 0.25 T 0.25",
        "",
    ]
    for number, motif in enumerate(motifs, 1):
        lines.append(f"MOTIF {number}-{motif.name} {motif.name}")
        lines.append(f"letter-probability matrix: alength= 4 w= {len(motif.counts)} nsites= {motif.sites} E= 0")
        shares = motif.counts / motif.counts.sum(axis=1, keepdims=True)
        lines.extend("  ".join(f"{share:.6f}" for share in position) for position in shares)
        lines.append("")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
