"""A model against a dataset's labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.backbones.classifier import load_classifier
from basewise.datasets.folder import Dataset
from basewise.datasets.table import COMPLETE
from basewise.errors import BasewiseError, did_you_mean
from basewise.evaluation.judge import judge, judge_bases, judge_by
from basewise.evaluation.scoring import resampling_groups, score_logits, scored_labels
from basewise.inference.asking import refuse_individuals
from basewise.provenance import provenance


def evaluate_model(
    model: str | Path,
    dataset: Dataset,
    *,
    split: str = "test",
    prevalence: float | None = None,
    by: str | None = None,
    threshold: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return `{"overall": verdict, "groups": {value: verdict}, "provenance": ...}` of MODEL on a split ("all" for every split).

    A model that answers base by base is asked about the center base of the windows of a sequence-level dataset.
    `threshold` None is the model's own. `by` names a column of the examples. See `judge` for a verdict.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise BasewiseError(f"threshold is {threshold}, expected a probability, 0 to 1")
    if bootstrap < 0:
        raise BasewiseError(f"bootstrap is {bootstrap}, expected 0 (no intervals) or more")
    classifier = load_classifier(model)
    refuse_individuals(classifier)
    if len(classifier.config.labels) > 2 and (threshold is not None or prevalence is not None):
        raise BasewiseError(
            f"threshold and prevalence are for two labels, but model {model} knows {len(classifier.config.labels)}, of which the most "
            "probable is called; leave them out"
        )
    examples = split_of(dataset, split)
    kind = dataset.manifest.get("kind", "sequence")
    centers = kind == "sequence" and classifier.config.kind == "base"
    if kind != classifier.config.kind and not centers:
        raise BasewiseError(f'model {model} answers questions of kind "{classifier.config.kind}", but {dataset.path} is of kind "{kind}"')
    if by is not None and by not in examples:
        raise BasewiseError(
            f"no column {by!r} in the examples, there are: {', '.join(examples.columns)}.{did_you_mean(by, examples.columns)}"
        )
    logits = score_logits(classifier, examples["sequence"].tolist(), batch_size=batch_size, device=device, centers=centers)
    labels, flat, source = scored_labels(examples, logits, kind)
    if len(labels) and labels.max() >= len(classifier.config.labels):
        raise BasewiseError(f"{dataset.path} has label {labels.max()}, but model {model} knows {len(classifier.config.labels)} labels")
    p, cut = classifier.answers(flat), classifier.config.threshold if threshold is None else threshold
    groups = resampling_groups(examples, source, kind)
    settings: dict[str, Any] = {"prevalence": prevalence, "bootstrap": bootstrap, "seed": seed, "groups": groups}
    result: dict[str, Any] = {
        "model": str(model),
        "dataset": str(dataset.path),
        "split": split,
        "overall": judge_bases(examples, labels, p, source, cut, **settings) if kind == "base" else judge(labels, p, cut, **settings),
    }
    if by is not None:
        values = examples[by].astype(str).to_numpy(dtype=object)[source]
        result["by"], result["groups"] = by, judge_by(labels, p, cut, np.asarray(values), prevalence=prevalence)
    result["provenance"] = provenance(model_sha256=classifier.sha256, seed=seed)
    return result


def split_of(dataset: Dataset, split: str) -> pd.DataFrame:
    """Return the examples of a split; BasewiseError names the splits there are."""
    examples = dataset.examples
    if split == "all":
        return examples[examples["split"] != COMPLETE]  # its bases are those of "test" again
    part = examples[examples["split"] == split]
    if part.empty:
        there = sorted(examples["split"].dropna().astype(str).unique())
        raise BasewiseError(f"{dataset.path} has no example in split {split!r}, there are: {', '.join(there)}.{did_you_mean(split, there)}")
    return part
