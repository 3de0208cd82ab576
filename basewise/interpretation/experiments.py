"""Files in, folders out: what `basewise perturb` and `basewise attention` do."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.files import sha256_of, write_json
from basewise.genome.alphabet import as_bases
from basewise.genome.tracks import write_parquet
from basewise.inference.asking import check_device, refuse_individuals
from basewise.inference.inputs import SEQUENCE, Inputs
from basewise.interpretation.attention import Attended, attended, attention_table
from basewise.interpretation.insertion import Neutral, insertion_curve
from basewise.interpretation.new_folder import new_folder
from basewise.interpretation.perturb import RANDOM, check_replacement, find_motifs, label_column, perturb, summary_of
from basewise.interpretation.tsv import write_tsv
from basewise.interpretation.user_tables import ids_of, labels_of
from basewise.provenance import provenance

PERTURBED, LEVELS, INSERTED, PERTURB_SUMMARY = "perturbed.parquet", "levels.tsv", "insertion.tsv", "perturb.json"
ATTENDED, ATTENTION_KMERS, ATTENTION_SUMMARY = "attended.parquet", "attention_kmers.tsv", "attention.json"
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Replacing:
    """Motifs taken out: see `perturb.perturb`. `threshold` None: the model's own."""

    motifs: tuple[str, ...]
    levels: tuple[float, ...]
    replacement: str = RANDOM
    zone: tuple[int, int] | None = None
    label: str | None = None
    threshold: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Inserting:
    """Motifs put in: see `insertion.insertion_curve`; `backgrounds` is how many sequences of the input are made neutral."""

    motifs: tuple[str, ...]
    neutral: Neutral = "shuffled"
    reach: int = 60
    backgrounds: int = 50


def perturb_file(
    classifier: Classifier,
    inputs: Inputs,
    out: str | Path,
    replacing: Replacing,
    inserting: Inserting | None = None,
    *,
    genome: str | Path | None = None,
    force: bool = False,
    batch_size: int = 64,
    device: str = "cpu",
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Write perturbed.parquet (id level probability replaced occurrences), levels.tsv, with `inserting` insertion.tsv, and perturb.json.

    Sequences labelled as another class are left out where the input has labels; all others count as positives.
    """
    check_device(device)
    refuse_individuals(classifier)
    check_replacement(replacing.replacement, replacing.motifs)
    label_column(classifier, replacing.label)
    table = _read(classifier, inputs)
    names = classifier.config.labels
    positive = names[1] if replacing.label is None else replacing.label
    kept = table[table["label"].isin([-1, names.index(positive)])]
    if kept.empty:
        raise BasewiseError(f"{inputs.path} holds no sequence labelled {positive}; there is nothing to perturb")
    with new_folder(out, force=force) as folder:
        levels = np.array(replacing.levels)
        result = perturb(
            classifier,
            kept[SEQUENCE].tolist(),
            replacing.motifs,
            levels,
            replacement=replacing.replacement,
            label=replacing.label,
            zone=replacing.zone,
            seed=replacing.seed,
            batch_size=batch_size,
            device=device,
            advance=advance,
        )
        K, B = result.probabilities.shape
        columns = {
            "id": np.tile(kept["id"].to_numpy(), K),
            "level": np.repeat(levels, B),
            "probability": result.probabilities.ravel(),
            "replaced": result.replaced.ravel(),
            "occurrences": np.tile(result.occurrences, K),
        }
        write_parquet(pd.DataFrame(columns), folder / PERTURBED)
        threshold = classifier.config.threshold if replacing.threshold is None else replacing.threshold
        summary = summary_of(result, threshold)
        write_tsv(pd.DataFrame(summary), folder / LEVELS)
        if inserting is not None:
            chosen = kept[SEQUENCE].tolist()[: inserting.backgrounds]
            target = positive if classifier.config.kind == "sequence" else f"{positive}@center"
            curves = [
                insertion_curve(
                    classifier,
                    chosen,
                    motif,
                    neutral=inserting.neutral,
                    without=replacing.motifs,
                    reach=inserting.reach,
                    target=target,
                    seed=replacing.seed,
                    batch_size=batch_size,
                    device=device,
                    advance=advance,
                ).assign(motif=motif)
                for motif in inserting.motifs
            ]
            write_tsv(pd.concat(curves, ignore_index=True), folder / INSERTED)
        said = {
            **_facts(classifier, inputs, genome),
            "positive": positive,
            "threshold": threshold,
            "replacing": asdict(replacing),
            "inserting": None if inserting is None else asdict(inserting),
            "sequences": B,
            "left_out": len(table) - B,
            "with_motif": int((result.occurrences > 0).sum()),
            "levels": summary,
            "provenance": provenance(),
        }
        write_json(folder / PERTURB_SUMMARY, said)
    return said


def attention_file(
    classifier: Classifier,
    inputs: Inputs,
    out: str | Path,
    *,
    layer: int = -1,
    top: int = 50,
    rollout: bool = False,
    motifs: Sequence[str] = (),
    genome: str | Path | None = None,
    force: bool = False,
    batch_size: int = 16,
    device: str = "cpu",
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Write attention_kmers.tsv (`attention.attention_table`), attended.parquet (a sequence's top tokens, heads averaged), attention.json.

    Where the input has labels, sequences labelled ``labels[1]`` are the group "positive" and all others "negative", of which only those
    count that hold one of `motifs`; without labels there is one group, "all".
    """
    check_device(device)
    table = _read(classifier, inputs)
    names: list[str] = []
    for label, sequence in zip(table["label"], table[SEQUENCE], strict=True):
        if label in (1, -1):
            names.append("positive" if label == 1 else "all")
        else:
            names.append("negative" if not motifs or find_motifs(as_bases(sequence), motifs) else "")
    kept = table.assign(group=names)
    kept = kept[kept["group"] != ""].reset_index(drop=True)
    if kept.empty:
        raise BasewiseError(f"{inputs.path} holds no positive and no negative with one of {', '.join(motifs)}; take other --motifs")
    answers = attended(
        classifier, kept[SEQUENCE].tolist(), layer=layer, rollout=rollout, batch_size=batch_size, device=device, advance=advance
    )
    with new_folder(out, force=force) as folder:
        order = [name for name in ("positive", "negative", "all") if (kept["group"] == name).any()]
        groups = {name: [answers[i] for i in np.flatnonzero(kept["group"] == name)] for name in order}
        write_tsv(attention_table(groups, top=top), folder / ATTENTION_KMERS)
        write_parquet(_top_tokens(kept, answers, top), folder / ATTENDED)
        tokens = np.array([len(one.kmers) for one in answers])
        said = {
            **_facts(classifier, inputs, genome),
            "layer": layer,
            "top": top,
            "rollout": rollout,
            "motifs": list(motifs),
            "heads": len(answers[0].received) - 1,
            "groups": {name: len(part) for name, part in groups.items()},
            "left_out": len(table) - len(kept),
            "tokens": {"median": float(np.median(tokens)), "share_of_sequences_with_no_more_than_top": float((tokens <= top).mean())},
            "provenance": provenance(),
        }
        write_json(folder / ATTENTION_SUMMARY, said)
    return said


def _top_tokens(kept: pd.DataFrame, answers: list[Attended], top: int) -> pd.DataFrame:
    parts: list[dict[str, npt.NDArray[Any]]] = []
    for name, group, one in zip(kept["id"], kept["group"], answers, strict=True):
        order = np.argsort(-one.received[-1], kind="stable")[:top]
        parts.append(
            {
                "id": np.full(len(order), name, dtype=object),
                "group": np.full(len(order), group, dtype=object),
                "rank": np.arange(1, len(order) + 1),
                "start": one.starts[order],
                "kmer": np.array(one.kmers, dtype=object)[order],
                "attention": one.received[-1][order],
            }
        )
    return pd.DataFrame({column: np.concatenate([part[column] for part in parts]) for column in parts[0]})


def _read(classifier: Classifier, inputs: Inputs) -> pd.DataFrame:
    """Return id, sequence, label of a whole input; label -1 where there is none (labels a base: that of the center base)."""
    parts = []
    before = 0
    for piece in inputs.pieces():
        labels = labels_of(classifier, piece, inputs.path, before)
        sequences = [str(sequence) for sequence in piece[SEQUENCE]]
        if "" in sequences:
            number = before + sequences.index("") + 1
            raise BasewiseError(f"{inputs.path}: sequence {number} is empty, expected at least one base; leave it out")
        flat = [-1] * len(piece) if labels is None else [int(one[len(one) // 2]) if isinstance(one, np.ndarray) else one for one in labels]
        parts.append(pd.DataFrame({"id": ids_of(piece, before), SEQUENCE: sequences, "label": flat}))
        before += len(piece)
    return pd.concat(parts, ignore_index=True)


def _facts(classifier: Classifier, inputs: Inputs, genome: str | Path | None) -> dict[str, Any]:
    config = classifier.config
    return {
        "model": {"task": config.task, "family": classifier.backbone.family, "sha256": classifier.sha256, "window": config.window},
        "kind": config.kind,
        "labels": list(config.labels),
        "input": {"name": inputs.path.name, "sha256": sha256_of(inputs.path)},
        "genome": None if genome is None else {"name": Path(genome).name, "sha256": sha256_of(genome)},
    }
