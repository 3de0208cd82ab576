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

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import N_CODE, Bases, as_bases, codes
from basewise.genome.fasta import Genome
from basewise.inference.asking import answering, check_device, refuse_individuals
from basewise.inference.batches import batches_by_length
from basewise.inference.engine import score_positions
from basewise.inference.inputs import SEQUENCE, Inputs, center_base

logger = logging.getLogger(__name__)

_BASES_A_BATCH = 1 << 20  # so that a batch of long sequences does not outgrow memory
PROBABILITY = "probability"


def predict_sequences(
    classifier: Classifier, sequences: Sequence[str | Bases], batch_size: int = 64, device: str | torch.device = "cpu"
) -> npt.NDArray[np.float32]:
    """Return the probability of each sequence, order kept.

    Case is folded, U is T, anything but A C G T is N; a sequence of Ns alone is answered like any other. For kind "base" the answer
    is that of the centre base, ``length // 2``.

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
    if batch_size < 1:
        raise BasewiseError(f"batch size is {batch_size}, expected 1 or more")
    refuse_individuals(classifier)
    rows = [as_bases(sequence) for sequence in sequences]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if rows and not lengths.all():
        raise BasewiseError(f"sequence {int(np.argmin(lengths)) + 1} is empty, expected at least one base; leave it out")
    binary = len(classifier.config.labels) == 2
    answers = np.empty(len(rows) if binary else (len(rows), len(classifier.config.labels)), dtype=np.float32)
    with answering(classifier, torch.device(device)):
        for batch in batches_by_length(lengths, batch_size, _BASES_A_BATCH):
            answers[batch] = _ask(classifier, [rows[index] for index in batch], lengths[batch], binary)
    return answers


def _ask(classifier: Classifier, rows: list[Bases], lengths: npt.NDArray[np.int64], binary: bool) -> npt.NDArray[np.float32]:
    tokens = classifier.tokenize(rows)
    most = classifier.backbone.max_tokens
    if most is not None and tokens.ids.shape[1] > most:
        raise BasewiseError(
            f"a sequence of {int(lengths.max())} bases makes {tokens.ids.shape[1]} tokens, {classifier.backbone.family} takes at most "
            f"{most}; cut it into shorter ones"
        )
    logits = classifier.center_logits(tokens) if classifier.config.kind == "base" else classifier(tokens)
    answers = classifier.probabilities(logits)
    return answers[:, 1] if binary and answers.ndim == 2 else answers


def _score_intervals(classifier: Classifier, genome: Genome, piece: pd.DataFrame, device: torch.device) -> npt.NDArray[np.float32]:
    """Return the probability of the centre base of each interval, scored on its contig."""
    strand = piece["strand"].to_numpy(object) if "strand" in piece else np.full(len(piece), "+", object)
    center = np.array([center_base(*row) for row in zip(piece["start"], piece["end"], strand, strict=True)], dtype=np.int64)
    sign = np.where(strand == "-", -1, 1).astype(np.int8)
    answers = np.empty(len(piece), dtype=np.float32)
    chroms = piece["chrom"].to_numpy(object)
    for chrom in dict.fromkeys(chroms):
        rows = np.flatnonzero(chroms == chrom)
        rows = rows[np.argsort(center[rows], kind="stable")]
        answers[rows] = score_positions(classifier, partial(genome.window, chrom), center[rows], sign[rows], device=device)
    return answers


class Predicted(NamedTuple):
    """What `predict_file` did."""

    rows: int
    without_bases: int  # sequences without any A, C, G or T


def predict_file(
    classifier: Classifier,
    inputs: Inputs,
    out: str | Path,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> Predicted:
    """Write the columns of `inputs` and `probability` (several labels: ``probability_LABEL`` each) to `out`, .parquet or .tsv.

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
    added = [PROBABILITY] if len(labels) == 2 else [f"{PROBABILITY}_{label}" for label in labels]
    taken = [column for column in added if column in inputs.columns]
    if taken:
        raise BasewiseError(f"{inputs.path} already has a column {taken[0]!r}; rename it first")
    where = check_device(device)
    done = without = 0
    with atomic_path(out) as temporary, _table_writer(temporary, out.suffix) as write, answering(classifier, where):
        for piece in inputs.pieces():
            sequences = [as_bases(str(sequence)) for sequence in piece[SEQUENCE]]
            _check_rows(sequences, piece, inputs.path, done)
            without += sum(bool((codes(sequence) == N_CODE).all()) for sequence in sequences)
            if inputs.genome is not None and classifier.dense and getattr(classifier.backbone, "grid", 1) > 1:
                answers = _score_intervals(classifier, inputs.genome, piece, where)  # the grid then lies as in a scan: the same answers
            else:
                answers = predict_sequences(classifier, sequences, batch_size, where)
            kept = piece[list(inputs.columns)].copy()
            for index, column in enumerate(added):
                kept[column] = answers if answers.ndim == 1 else answers[:, index]
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
