"""The converse of perturbation: a motif is put into neutral sequences at every offset, and the model says where it likes it."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, as_bases, codes
from basewise.interpretation.attribute import check_rows, target_logits
from basewise.interpretation.draws import generator
from basewise.interpretation.perturb import LETTERS, find_motifs
from basewise.interpretation.shuffle import dinucleotide_shuffle

Neutral = Literal["shuffled", "motifless"]
_ROUNDS = 1000


def insertion_curve(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    motif: str,
    *,
    neutral: Neutral = "shuffled",
    without: Sequence[str] = (),
    reach: int = 60,
    target: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    advance: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Return a row an offset: offset, sequences, mean_change, low, high.

    The change is F with the motif minus F without, in logits; low and high are its 95 % interval.

    Parameters
    ----------
    sequences
        What the neutral sequences are made of: "shuffled" in their dinucleotides, or "motifless", themselves. Either way the motif
        and all of `without` are written over with random bases until none is left.
    reach
        Offsets up to so many bases to either side, as far as the motif fits into every sequence. An offset is that of the motif's
        first base from base ``length // 2``, negative upstream. The motif writes over what stands there.
    target
        See `targets`; it must name a label (not "predicted", not "tp"), the same for all sequences.

    Raises
    ------
    BasewiseError
        A sequence too short for the motif, motifs that cannot be got rid of, a wrong target.

    Notes
    -----
    The interval is mean +- 1.96 standard errors over the sequences, NaN for a single one.
    """
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    if not rows or min(len(row) for row in rows) < len(motif):
        raise BasewiseError(f"the motif {motif} needs sequences of {len(motif)} bases or more")
    if neutral not in ("shuffled", "motifless") or reach < 0:
        raise BasewiseError(f"neutral {neutral!r}, reach {reach}: expected shuffled or motifless, and 0 or more")
    low = max(-reach, *(-(len(row) // 2) for row in rows))
    high = min(reach, *(len(row) - len(row) // 2 - len(motif) for row in rows))
    if high < low:
        raise BasewiseError(f"no offset within {reach} of the center where {motif} fits into every sequence; take a wider reach")
    offsets = np.arange(low, high + 1)
    changes = np.empty((len(rows), len(offsets)))
    for i, row in enumerate(rows):
        background = neutral_sequence(row, (motif, *without), neutral, seed)
        variants = [background, *(_inserted(background, motif, int(offset)) for offset in offsets)]
        values = target_logits(classifier, variants, target, batch_size=batch_size, device=device)
        changes[i] = values[1:] - values[0]
        if advance is not None:
            advance(1)
    mean = changes.mean(0)
    half = 1.96 * changes.std(0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(len(mean), np.nan)
    return pd.DataFrame({"offset": offsets, "sequences": len(rows), "mean_change": mean, "low": mean - half, "high": mean + half})


def neutral_sequence(bases: Bases, motifs: Sequence[str], neutral: Neutral, seed: int) -> Bases:
    """Return `bases` shuffled or as they are, upper case, with every motif written over by random bases."""
    rng = generator(seed, bases, 1)
    out = dinucleotide_shuffle(bases, rng) if neutral == "shuffled" else LETTERS[codes(bases)]
    out = out.copy()
    for _ in range(_ROUNDS):
        found = find_motifs(out, motifs)
        if not found:
            return out
        start, motif = found[0]
        out[start : start + len(motif)] = LETTERS[rng.integers(0, 4, len(motif))]
    raise BasewiseError(f"{', '.join(motifs)} cannot all be taken out of a sequence; take longer motifs")


def _inserted(background: Bases, motif: str, offset: int) -> npt.NDArray[np.uint8]:
    start = len(background) // 2 + offset
    out = background.copy()
    out[start : start + len(motif)] = as_bases(motif)
    return out
