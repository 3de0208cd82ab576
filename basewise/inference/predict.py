"""A classifier's answer for sequences: in memory, or a file in and the same file with probabilities out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import N_CODE, Bases, as_bases, codes
from basewise.genome.fasta import Genome
from basewise.inference.asking import answering, central_window, check_device, check_tokens, refuse_individuals
from basewise.inference.batches import batches_by_length
from basewise.inference.engine import score_positions
from basewise.inference.inputs import SEQUENCE, Inputs, center_base

logger = logging.getLogger(__name__)

_BASES_A_BATCH = 1 << 20  # so that a batch of long sequences does not outgrow memory
PROBABILITY, PROBABILITIES = "probability", "probabilities"


def predict_sequences(
    classifier: Classifier, sequences: Sequence[str | Bases], batch_size: int = 64, device: str | torch.device = "cpu"
) -> npt.NDArray[np.float32]:
    """Return the probability of each sequence, order kept.

    Case is folded, U is T, anything but A C G T is N; a sequence of Ns alone is answered like any other. For kind "base" the answer
    is that of the centre base, ``length // 2``; of a longer sequence than a model of kind "sequence" was trained on, its central window's.

    Parameters
    ----------
    sequences
        5' to 3' on the strand asked about; any lengths, batched with others of about the same length.
    batch_size
        Sequences given to the model at a time, fewer when they are long.

    Returns
    -------
    float32 (B,) for a binary question, the probability of ``labels[1]``; else (B, C), a column a label.

    Raises
    ------
    BasewiseError
        An empty sequence (its row, counted from 1), one longer than the model takes, a model of individuals.
    """
    refuse_individuals(classifier)
    rows = [central_window(row, classifier) for row in _checked(sequences, batch_size)]
    labels = len(classifier.config.labels)
    answers = np.empty(len(rows) if labels == 2 else (len(rows), labels), dtype=np.float32)
    with answering(classifier, torch.device(device)):
        for batch in batches_by_length([len(row) for row in rows], batch_size, _BASES_A_BATCH):
            answers[batch] = _center_or_whole(classifier, [rows[index] for index in batch])
    return answers


def predict_bases(
    classifier: Classifier, sequences: Sequence[str | Bases], batch_size: int = 64, device: str | torch.device = "cpu"
) -> list[npt.NDArray[np.float32]]:
    """Return the probability of ``labels[1]`` at every base of each sequence, float32 (length,), order kept.

    Sequences as in `predict_sequences`; beyond their ends is N.

    Raises
    ------
    BasewiseError
        As `predict_sequences`, and a model that does not answer base by base or knows more than two labels.
    """
    _check_answers_bases(classifier)
    rows = _checked(sequences, batch_size)
    answers = [np.empty(0, np.float32)] * len(rows)
    with answering(classifier, torch.device(device)):
        for batch in batches_by_length([len(row) for row in rows], batch_size, _BASES_A_BATCH):
            p = classifier.answers(classifier(_tokens(classifier, [rows[index] for index in batch])))
            for index, values in zip(batch, p, strict=True):
                answers[index] = values[: len(rows[index])]
    return answers


def _check_answers_bases(classifier: Classifier) -> None:
    config = classifier.config
    if config.kind != "base" or len(config.labels) != 2:
        raise BasewiseError(
            f"the model for {config.task!r} is of kind {config.kind!r} with labels {', '.join(config.labels)}; answers for every base need "
            'kind "base" and two labels'
        )


def _checked(sequences: Sequence[str | Bases], batch_size: int) -> list[Bases]:
    """Return the sequences, none of them empty."""
    if batch_size < 1:
        raise BasewiseError(f"batch size is {batch_size}, expected 1 or more")
    rows = [as_bases(sequence) for sequence in sequences]
    for number, row in enumerate(rows, start=1):
        if not len(row):
            raise BasewiseError(f"sequence {number} is empty, expected at least one base; leave it out")
    return rows


def _tokens(classifier: Classifier, rows: list[Bases]) -> Tokens:
    tokens = classifier.tokenize(rows)
    longest = max(map(len, rows))
    check_tokens(classifier.backbone, tokens.ids.shape[1], f"a sequence of {longest} bases", "cut it into shorter ones")
    return tokens


def _center_or_whole(classifier: Classifier, rows: list[Bases]) -> npt.NDArray[np.float32]:
    tokens = _tokens(classifier, rows)
    logits = classifier.center_logits(tokens) if classifier.config.kind == "base" else classifier(tokens)
    return classifier.answers(logits)


def _score_intervals(
    classifier: Classifier, genome: Genome, piece: pd.DataFrame, device: torch.device, *, every_base: bool
) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
    """Return the probability of the centre base of each interval, scored on its contig, or those of all its bases as its strand reads."""
    strand = piece["strand"].to_numpy(object) if "strand" in piece else np.full(len(piece), "+", object)
    start, end = (piece[column].to_numpy(np.int64) for column in ("start", "end"))
    if not every_base:
        start = np.array([center_base(*row) for row in zip(start, end, strand, strict=True)], dtype=np.int64)
        end = start + 1
    sign = np.where(strand == "-", -1, 1).astype(np.int8)
    answers: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(piece)
    chroms = piece["chrom"].to_numpy(object)
    for chrom, one in dict.fromkeys(zip(chroms, sign, strict=True)):
        rows = np.flatnonzero((chroms == chrom) & (sign == one))
        asked = np.unique(np.concatenate([np.arange(start[row], end[row]) for row in rows]))  # intervals may overlap
        p = score_positions(classifier, partial(genome.window, chrom), asked, np.full(len(asked), one), device=device)
        for row in rows:
            first = np.searchsorted(asked, start[row])
            answers[row] = p[first : first + end[row] - start[row]][::one]
    return answers if every_base else np.concatenate(answers)


class Predicted(NamedTuple):
    """What `predict_file` did."""

    rows: int
    without_bases: int  # sequences without any A, C, G or T


def predict_file(
    classifier: Classifier,
    inputs: Inputs,
    out: str | Path,
    *,
    every_base: bool = False,
    batch_size: int = 64,
    device: str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> Predicted:
    """Write the columns of `inputs` and `probability` (several labels: ``probability_LABEL`` each) to `out`, .parquet or .tsv.

    With `every_base`, in its place `probabilities`: one for each base of the sequence, a list (in .tsv separated by commas).

    `out` appears whole or not at all and replaces an older file. `advance` is told how many rows each piece had.

    Raises
    ------
    BasewiseError
        Another suffix, a column of that name in the input, an empty sequence (with its row), and whatever reading raises.
    """
    out = Path(out)
    if out.suffix not in (".parquet", ".tsv"):
        raise BasewiseError(f"output {out} ends in {out.suffix or 'nothing'!r}, expected .parquet or .tsv")
    labels = classifier.config.labels
    if every_base:
        _check_answers_bases(classifier)
    added = [PROBABILITIES] if every_base else [PROBABILITY] if len(labels) == 2 else [f"{PROBABILITY}_{label}" for label in labels]
    taken = [column for column in added if column in inputs.columns]
    if taken:
        raise BasewiseError(f"{inputs.path} already has a column {taken[0]!r}; rename it first")
    # as a scan answers: the grid of a pyramid lies as there, and what lies around an interval is read
    grid, bases = getattr(classifier.backbone, "grid", 1) > 1, classifier.config.kind == "base" and len(labels) == 2
    as_scan = inputs.genome if classifier.dense and (grid or bases) else None
    where = check_device(device)
    done = without = 0
    with atomic_path(out) as temporary, _table_writer(temporary, out.suffix) as write, answering(classifier, where):
        for piece in inputs.pieces():
            sequences = [as_bases(str(sequence)) for sequence in piece[SEQUENCE]]
            _check_rows(sequences, piece, inputs.path, done)
            without += sum(bool((codes(sequence) == N_CODE).all()) for sequence in sequences)
            if as_scan is not None:
                answers = _score_intervals(classifier, as_scan, piece, where, every_base=every_base)
            else:
                answers = (predict_bases if every_base else predict_sequences)(classifier, sequences, batch_size, where)
            kept = piece[list(inputs.columns)].copy()
            if isinstance(answers, list):
                kept[PROBABILITIES] = pd.Series(answers, dtype=object, index=kept.index)
            else:
                kept[added] = answers.reshape(len(answers), -1)
            write(kept)
            done += len(piece)
            if advance is not None:
                advance(len(piece))
    if without:
        logger.warning("%d of %d sequences hold no A, C, G or T: their probability says nothing about them", without, done)
    return Predicted(done, without)


def _check_rows(sequences: list[Bases], piece: pd.DataFrame, path: Path, before: int) -> None:
    for index, sequence in enumerate(sequences):
        if not len(sequence):
            name = f" ({piece['id'].iloc[index]})" if "id" in piece else ""
            raise BasewiseError(f"{path}: sequence {before + index + 1}{name} is empty, expected at least one base; leave it out")


@contextmanager
def _table_writer(path: Path, suffix: str) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends a piece to a Parquet or TSV file; the first piece sets the columns."""
    if suffix == ".tsv":
        with path.open("w", encoding="utf-8", newline="") as stream:

            def write_text(piece: pd.DataFrame) -> None:
                shown = piece.copy()
                for column in [column for column in piece if str(column).startswith(PROBABILITY)]:
                    shown[column] = [f"{value:.6g}" for value in piece[column]]
                if PROBABILITIES in piece:
                    shown[PROBABILITIES] = [",".join(f"{value:.4g}" for value in values) for values in piece[PROBABILITIES]]
                shown.to_csv(stream, sep="\t", index=False, header=stream.tell() == 0, lineterminator="\n")

            yield write_text
        return
    writer: pq.ParquetWriter | None = None

    def write_parquet(piece: pd.DataFrame) -> None:
        nonlocal writer
        schema = None if writer is None else writer.schema
        table = pa.Table.from_pandas(piece, schema=schema, preserve_index=False).replace_schema_metadata(None)
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write_parquet
    finally:
        if writer is not None:
            writer.close()
