"""A file of sequences in, a folder of attributions out: what `basewise explain` does.

OUT/attributions.parquet    one row a sequence
OUT/attributions.bw         scores along the genome, where the input has coordinates
OUT/explain.json            what was asked, of which model, how well the sums hold
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.files import atomic_path, read_json, sha256_of, write_json
from basewise.genome.tracks import write_bigwig
from basewise.inference.asking import check_device
from basewise.inference.inputs import SEQUENCE, Inputs
from basewise.interpretation.along_genome import Track, places_of
from basewise.interpretation.attribute import Answer, Settings, ask, attribute, check_method
from basewise.interpretation.base import Attribution
from basewise.interpretation.kmers import Row, as_row
from basewise.interpretation.new_folder import new_folder
from basewise.interpretation.targets import Labels, parse_target
from basewise.interpretation.user_tables import ids_of, labels_of
from basewise.provenance import provenance

ATTRIBUTIONS, SUMMARY, TRACK = "attributions.parquet", "explain.json", "attributions.bw"
_FIELDS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "sequence": pa.string(),
    "scores": pa.list_(pa.float32()),
    "target": pa.string(),
    "logit": pa.float64(),
    "completeness_error": pa.float64(),
    "baseline_logit": pa.float64(),
    "steps": pa.int32(),
    "special": pa.float64(),
}


# the settings that a method reads, beside seed and batch_size
READ: dict[str, tuple[str, ...]] = {
    "ig": ("baseline", "steps", "tolerance"),
    "smoothgrad": ("samples", "sd", "signed"),
    "ig-smoothgrad": ("baseline", "steps", "tolerance", "samples", "sd"),
    "inputxgrad": (),
    "ism": ("around",),
}


def check_settings(method: str, settings: Settings) -> None:
    """Refuse settings that the method would not read: whoever gave them expects another answer."""
    plain = Settings()
    named = sorted({name for names in READ.values() for name in names})
    idle = [name for name in named if name not in READ[method] and getattr(settings, name) != getattr(plain, name)]
    if idle:
        readers = [name for name, read in READ.items() if idle[0] in read]
        raise BasewiseError(
            f"method {method} does not read {', '.join(idle)}: leave it out, or take a method that does ({', '.join(readers)})"
        )


@dataclass(frozen=True)
class Asked:
    """What is asked of a file: method, target, settings; `only_tp` explains true positives only (the others keep a row without scores)."""

    method: str = "ig"
    target: str | None = None
    settings: Settings = field(default_factory=Settings)
    only_tp: bool = False
    device: str = "cpu"


def explain_file(
    classifier: Classifier,
    inputs: Inputs,
    out: str | Path,
    asked: Asked,
    *,
    genome: str | Path | None = None,
    force: bool = False,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write the folder `out` and return what explain.json says.

    Raises BasewiseError for an unknown method or target, labels that are missing or do not fit, and whatever reading raises; a
    folder without explain.json is not finished.
    """
    check_method(asked.method)
    asked.settings.check()
    check_settings(asked.method, asked.settings)
    target = parse_target(asked.target, classifier.config)
    where = check_device(asked.device)
    if (target.needs_labels or asked.only_tp) and "label" not in inputs.columns:
        raise BasewiseError(f"{inputs.path} has no column `label`, which {'target tp' if target.needs_labels else 'only-tp'} needs")
    if asked.only_tp and classifier.config.kind != "sequence":
        raise BasewiseError(f"only-tp is for models of sequences, this is one of {classifier.config.kind}s; use the target tp for bases")
    with new_folder(out, force=force) as folder:
        track = Track()
        tally: list[tuple[float, float]] = []
        counts = {"sequences": 0, "explained": 0, "not_complete": 0}
        with _writer(folder / ATTRIBUTIONS) as write:
            for piece in _pieces(classifier, inputs):
                table, answers = _explain_piece(classifier, piece, inputs, asked, counts["sequences"], str(where), advance)
                write(table)
                counts["sequences"] += len(table)
                for i, answer in enumerate(answers):
                    if answer is None:
                        continue
                    counts["explained"] += 1
                    tally.append((answer.completeness_error, abs(answer.logit - answer.baseline_logit)))
                    if "chrom" in table:
                        chrom, start, end, strand = (table[column].iloc[i] for column in ("chrom", "start", "end", "strand"))
                        track.add(chrom, start, end, strand, answer.scores)
        if track.parts:
            contigs = track.contigs(genome)
            write_bigwig(folder / TRACK, contigs, track.merged(contigs))
        summary = _summary(classifier, inputs, genome, asked, str(target), counts, tally)
        write_json(folder / SUMMARY, summary)
    return summary


def read_explained(folder: str | Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return explain.json and the table of a finished folder; BasewiseError when it is none."""
    folder = Path(folder)
    if not (folder / SUMMARY).is_file():
        raise BasewiseError(f"{folder} holds no {SUMMARY}; expected a finished output folder of basewise explain")
    summary: dict[str, Any] = read_json(folder / SUMMARY)
    try:
        table = pq.read_table(folder / ATTRIBUTIONS).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise BasewiseError(f"cannot read {folder / ATTRIBUTIONS}: {str(error).splitlines()[0]}") from error
    return summary, table


def kmer_rows(summary: dict[str, Any], table: pd.DataFrame) -> list[Row]:
    """Return the sequences of a folder for k-mer tables; true positives by base or by sequence, none where labels are unknown."""
    labels = summary["labels"]
    name = str(summary["target"]).partition("@")[0]
    index = labels.index(name) if name in labels else 1
    rows = []
    for record in table.to_dict("records"):
        positive: bool | npt.NDArray[np.bool_] = False
        if record.get("labels") is not None and record.get("predicted_bases") is not None:
            positive = (np.asarray(record["labels"]) == index) & (np.asarray(record["predicted_bases"]) == index)
        elif "label" in record and "predicted" in record and not pd.isna(record["label"]):
            positive = bool(record["label"] == index and record["predicted"] == index)
        rows.append(as_row(record["sequence"], record["scores"], positive))
    return rows


def _pieces(classifier: Classifier, inputs: Inputs) -> Iterator[pd.DataFrame]:
    if classifier.config.kind != "individual":
        yield from inputs.pieces()
        return
    if "group" not in inputs.columns:
        raise BasewiseError(f"{inputs.path} has no column `group`: this model answers about individuals, say which one a sequence is of")
    yield pd.concat(list(inputs.pieces()), ignore_index=True)  # the rows of an individual may lie anywhere


def _explain_piece(
    classifier: Classifier,
    piece: pd.DataFrame,
    inputs: Inputs,
    asked: Asked,
    before: int,
    device: str,
    advance: Callable[[int], None] | None,
) -> tuple[pd.DataFrame, list[Attribution | None]]:
    sequences = [str(sequence) for sequence in piece[SEQUENCE]]
    empty = [i for i, sequence in enumerate(sequences) if not sequence]
    if empty:
        raise BasewiseError(f"{inputs.path}: sequence {before + empty[0] + 1} is empty, expected at least one base; leave it out")
    kind = classifier.config.kind
    labels = labels_of(classifier, piece, inputs.path, before)
    size = asked.settings.batch_size
    said = None if kind == "individual" else ask(classifier, sequences, batch_size=size, device=device)
    chosen = list(range(len(sequences)))
    if asked.only_tp and said is not None and labels is not None:
        chosen = [i for i in chosen if labels[i] is not None and said[i].predicted == labels[i] == 1]
    results = attribute(
        classifier,
        [sequences[i] for i in chosen],
        asked.method,
        target=asked.target,
        labels=None if labels is None or kind != "base" else [labels[i] for i in chosen],  # type: ignore[misc]
        groups=list(piece["group"]) if kind == "individual" else None,
        settings=asked.settings,
        device=device,
        advance=advance,
    )
    answers: list[Attribution | None] = [None] * len(sequences)
    for i, result in zip(chosen, results, strict=True):
        answers[i] = result
    return _table(classifier, piece, inputs, sequences, labels, said, answers, before), answers


def _table(
    classifier: Classifier,
    piece: pd.DataFrame,
    inputs: Inputs,
    sequences: list[str],
    labels: list[int | Labels | None] | None,
    said: list[Answer] | None,
    answers: list[Attribution | None],
    before: int,
) -> pd.DataFrame:
    nan = float("nan")
    columns: dict[str, Any] = {
        "id": ids_of(piece, before),
        "sequence": sequences,
        "scores": [None if one is None else one.scores for one in answers],
        "target": [None if one is None else one.target for one in answers],
        "logit": [nan if one is None else one.logit for one in answers],
        "completeness_error": [nan if one is None else one.completeness_error for one in answers],
        "baseline_logit": [nan if one is None else one.baseline_logit for one in answers],
        "steps": [0 if one is None else one.steps for one in answers],
        "special": [nan if one is None else one.special for one in answers],
    }
    kind, binary = classifier.config.kind, len(classifier.config.labels) == 2
    if said is not None:
        columns["probability"] = [_probability(one, binary) for one in said]
        columns["predicted"] = [one.predicted for one in said]
    if labels is not None:
        columns["labels" if kind == "base" else "label"] = labels
    if kind == "base" and said is not None:
        columns["predicted_bases"] = [one.predicted_bases for one in said]
    if kind == "individual":
        columns["group"] = [str(group) for group in piece["group"]]
    columns |= places_of(classifier, piece, inputs, sequences)
    effects = [None if one is None or one.effects is None else one.effects.ravel() for one in answers]
    if any(one is not None for one in effects):
        columns["effects"] = effects
    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})


def _probability(answer: Answer, binary: bool) -> float:
    """Return the probability of ``labels[1]``, or of several labels that of the predicted one."""
    if answer.probability.ndim == 0:
        return float(answer.probability)
    return float(answer.probability[1 if binary else answer.predicted])


def _summary(
    classifier: Classifier,
    inputs: Inputs,
    genome: str | Path | None,
    asked: Asked,
    target: str,
    counts: dict[str, int],
    tally: list[tuple[float, float]],
) -> dict[str, Any]:
    errors = np.array(tally, dtype=np.float64).reshape(-1, 2)
    known = errors[~np.isnan(errors).any(1)]
    completeness = None
    if len(known):
        relative = known[:, 0] / np.maximum(known[:, 1], 1e-9)
        counts["not_complete"] = int((relative > asked.settings.tolerance).sum())
        completeness = {
            "tolerance": asked.settings.tolerance,
            "max_absolute": float(known[:, 0].max()),
            "median_relative": float(np.median(relative)),
            "max_relative": float(relative.max()),
        }
    config = classifier.config
    return {
        "model": {"task": config.task, "family": classifier.backbone.family, "sha256": classifier.sha256, "window": config.window},
        "kind": config.kind,
        "labels": list(config.labels),
        "threshold": config.threshold,
        "method": asked.method,
        "target": target,
        "only_tp": asked.only_tp,
        "settings": asdict(asked.settings),
        "input": {"name": inputs.path.name, "sha256": sha256_of(inputs.path)},
        "genome": None if genome is None else {"name": Path(genome).name, "sha256": sha256_of(genome)},
        "counts": counts,
        "completeness": completeness,
        "provenance": provenance(),
    }


@contextmanager
def _writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends a piece to one Parquet file, which appears whole or not at all."""
    writer: pq.ParquetWriter | None = None

    def write(table: pd.DataFrame) -> None:
        nonlocal writer
        if writer is None:
            writer = pq.ParquetWriter(temporary, _schema(table), compression="zstd")
        writer.write_table(pa.Table.from_pandas(table, schema=writer.schema, preserve_index=False))

    with atomic_path(path) as temporary:
        try:
            yield write
        finally:
            if writer is not None:
                writer.close()


def _schema(table: pd.DataFrame) -> pa.Schema:
    more: dict[str, pa.DataType] = {
        "probability": pa.float64(),
        "predicted": pa.int64(),
        "label": pa.int64(),
        "labels": pa.list_(pa.int8()),
        "predicted_bases": pa.list_(pa.int8()),
        "group": pa.string(),
        "chrom": pa.string(),
        "start": pa.int64(),
        "end": pa.int64(),
        "strand": pa.string(),
        "effects": pa.list_(pa.float32()),
    }
    known = {**_FIELDS, **more}
    return pa.schema([(column, known[column]) for column in table.columns])
