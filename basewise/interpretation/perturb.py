"""What becomes of a model's probability when motifs are taken out of the sequences.

At level p every occurrence of a motif is replaced with probability p. The draw of an occurrence and what replaces it are the same at all
levels (an occurrence goes when its draw is below the level), so that a level differs from the next by the occurrences that went and
not by chance. Both depend on the seed and the sequence only.

Source: poly(A) GLM paper, section 2.4 (motifs AATAAA and ATTAAA, random bases, levels 0 to 1, positives of the test set).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, as_bases, codes
from basewise.inference.predict import predict_sequences
from basewise.interpretation.attribute import check_rows
from basewise.interpretation.draws import generator

LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
RANDOM, SHUFFLED = "random", "shuffled"
_PIECE = 4096  # perturbed sequences held at a time
_QUANTILES = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95}


class Perturbed(NamedTuple):
    """Probabilities after perturbation.

    Attributes
    ----------
    levels : float64 (K,)
    probabilities : float32 (K, B)
        Probability of the positive label at each level.
    replaced : int64 (K, B)
        Occurrences replaced.
    occurrences : int64 (B,)
        Occurrences there were.
    """

    levels: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float32]
    replaced: npt.NDArray[np.int64]
    occurrences: npt.NDArray[np.int64]


def parse_motifs(text: str) -> tuple[str, ...]:
    """Return the motifs of ``AATAAA,ATTAAA``, upper case, U as T; BasewiseError for anything but A C G T, or an empty list."""
    motifs = tuple(part.strip().upper().replace("U", "T") for part in text.split(",") if part.strip())
    strange = [motif for motif in motifs if set(motif) - set("ACGT")]
    if not motifs or strange:
        raise BasewiseError(f"motifs {text!r}: expected words of A, C, G, T with commas between, e.g. AATAAA,ATTAAA")
    return tuple(dict.fromkeys(motifs))


def parse_levels(text: str) -> npt.NDArray[np.float64]:
    """Return the levels of ``0:1:0.1`` (first:last:step, the last one included) or ``0,0.5,1``; BasewiseError outside 0 to 1."""
    try:
        numbers = [float(part) for part in text.split(":" if ":" in text else ",")]
    except ValueError as error:
        raise BasewiseError(f"levels {text!r}: expected FIRST:LAST:STEP or numbers with commas between") from error
    if ":" in text:
        if len(numbers) != 3 or not numbers[2] > 0 or numbers[1] < numbers[0]:
            raise BasewiseError(f"levels {text!r}: expected FIRST:LAST:STEP with FIRST <= LAST and STEP above 0, e.g. 0:1:0.1")
        first, last, step = numbers
        numbers = [first + i * step for i in range(int((last - first) / step + 1e-9) + 1)]
    levels = np.round(np.array(numbers), 10)
    if not ((levels >= 0) & (levels <= 1)).all():
        raise BasewiseError(f"levels {text!r} reach beyond 0 to 1; a level is the probability that a motif is replaced")
    return levels


def find_motifs(bases: Bases, motifs: Sequence[str], zone: tuple[int, int] | None = None) -> list[tuple[int, str]]:
    """Return (start, motif) of every occurrence on this strand, overlapping ones too, by start, then in the order of `motifs`.

    `zone` (first, last): only those whose first base lies so far from base ``length // 2``, negative upstream, ends included.
    """
    text = LETTERS[codes(bases)].tobytes()
    center = len(bases) // 2
    found = []
    for order, motif in enumerate(motifs):
        start = text.find(motif.encode())
        while start >= 0:
            if zone is None or zone[0] <= start - center <= zone[1]:
                found.append((start, order, motif))
            start = text.find(motif.encode(), start + 1)
    return [(start, motif) for start, _, motif in sorted(found)]


def replace_motifs(
    bases: Bases, motifs: Sequence[str], level: float, replacement: str = RANDOM, *, zone: tuple[int, int] | None = None, seed: int = 0
) -> tuple[Bases, int, int]:
    """Return the perturbed bases (upper case), the number of occurrences replaced, and how many there were.

    `replacement`: "random" bases, "shuffled" bases of the motif itself, or a fixed sequence as long as the motif. Of occurrences that
    overlap, the later one writes over the earlier. Chance may put a motif back.
    """
    rng = generator(seed, bases)
    out = LETTERS[codes(bases)].copy()
    found = find_motifs(bases, motifs, zone)
    replaced = 0
    for start, motif in found:
        goes = rng.random() < level
        random = rng.integers(0, 4, len(motif))
        order = rng.permutation(len(motif))
        if goes:
            replaced += 1
            new = {RANDOM: LETTERS[random], SHUFFLED: as_bases(motif)[order]}.get(replacement)
            out[start : start + len(motif)] = as_bases(replacement.upper()) if new is None else new
    return out, replaced, len(found)


def perturb(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    motifs: Sequence[str],
    levels: npt.NDArray[np.float64],
    *,
    replacement: str = RANDOM,
    label: str | None = None,
    zone: tuple[int, int] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    advance: Callable[[int], None] | None = None,
) -> Perturbed:
    """Return the probability of `label` (None: ``labels[1]`` of a binary model) of every sequence at every level.

    Raises BasewiseError for an empty sequence, a fixed replacement of another length than a motif, a label to be chosen, or a
    model of individuals.
    """
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    check_replacement(replacement, motifs)
    column = label_column(classifier, label)
    K, B = len(levels), len(rows)
    replaced, occurrences = np.zeros((K, B), dtype=np.int64), np.zeros(B, dtype=np.int64)
    probabilities = np.zeros((K, B), dtype=np.float32)
    step = max(1, _PIECE // K)
    for low in range(0, B, step):
        piece = range(low, min(B, low + step))
        different: dict[bytes, int] = {}
        which = np.zeros((K, len(piece)), dtype=np.int64)
        for j, row in enumerate(piece):
            for i, level in enumerate(levels.tolist()):
                changed, replaced[i, row], occurrences[row] = replace_motifs(rows[row], motifs, level, replacement, zone=zone, seed=seed)
                which[i, j] = different.setdefault(changed.tobytes(), len(different))
        answers = predict_sequences(classifier, [as_bases(text) for text in different], batch_size, device)
        probabilities[:, piece.start : piece.stop] = (answers if column is None else answers[:, column])[which]
        if advance is not None:
            advance(len(piece))
    if column is None and label is not None and label == classifier.config.labels[0]:
        probabilities = np.float32(1) - probabilities
    return Perturbed(levels, probabilities, replaced, occurrences)


def check_replacement(replacement: str, motifs: Sequence[str]) -> None:
    """Raise BasewiseError unless `replacement` is random, shuffled, or bases as many as each motif has."""
    if replacement in (RANDOM, SHUFFLED):
        return
    if set(replacement.upper()) - set("ACGTN") or any(len(motif) != len(replacement) for motif in motifs):
        raise BasewiseError(
            f"replacement {replacement!r}: expected random, shuffled, or as many bases (A C G T N) as every motif has ({', '.join(motifs)})"
        )


def label_column(classifier: Classifier, label: str | None) -> int | None:
    """Return the column of `label` among the probabilities of several labels; None for a binary model, which has one."""
    labels = classifier.config.labels
    if label is not None and label not in labels:
        raise BasewiseError(f"no label {label!r} in this model; known: {', '.join(labels)}.{did_you_mean(label, labels)}")
    if len(labels) == 2:
        return None
    if label is None:
        raise BasewiseError(f"this model has the labels {', '.join(labels)}; say which one counts as positive")
    return labels.index(label)


def summary_of(result: Perturbed, threshold: float) -> list[dict[str, Any]]:
    """Return a dict a level: level, sequences, mispredicted (probability below `threshold`), replaced, mean, p5 ... p95."""
    rows = []
    for i, level in enumerate(result.levels.tolist()):
        values = result.probabilities[i].astype(np.float64)
        numbers = {name: float(np.percentile(values, q)) for name, q in _QUANTILES.items()}
        mispredicted = int((result.probabilities[i] < threshold).sum())
        rows.append(
            {
                "level": level,
                "sequences": len(values),
                "mispredicted": mispredicted,
                "replaced": int(result.replaced[i].sum()),
                "mean": float(values.mean()),
                **numbers,
            }
        )
    return rows
