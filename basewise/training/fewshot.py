"""What frozen embeddings know: prototypes from a few examples, nearest neighbours and a logistic probe, over the folds of a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from basewise.datasets.folder import Dataset
from basewise.datasets.splits import fold
from basewise.errors import BasewiseError, did_you_mean
from basewise.evaluation.metrics import binary_metrics
from basewise.files import prepare_output_folder, write_json
from basewise.inference.embed import Embedder, embed_sequences, load_embedder
from basewise.provenance import provenance
from basewise.recipes.schema import Backbone
from basewise.training.build import new_backbone
from basewise.training.folds import over_folds

FEWSHOT = "fewshot.json"
INITS = ("pretrained", "random")
METHODS = ("prototype", "knn", "probe")
NEIGHBOURS = (1, 5, 15, 51)  # tried on the validation part
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # sklearn's C, tried on the validation part

Floats = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


def fewshot(
    dataset: Dataset,
    backbones: Sequence[str],
    folder: str | Path,
    *,
    init: str = "pretrained",
    methods: Sequence[str] = METHODS,
    shots: int = 2,
    repeats: int = 10,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "cpu",
    force: bool = False,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write FOLDER/fewshot.json and return it: every run of every method on every backbone, and mean, sd and interval over folds.

    A backbone is a checkpoint, model or run folder, or a catalog name, whose weights `init` gives ("pretrained" or "random"). Embeddings
    are means over bases, computed once. "prototype" is the published protocol: see `prototype_probabilities`; a fold is the mean of
    `repeats` draws of `shots` examples a class from its training part. "knn" and "probe" learn from the whole training part and choose k
    or the penalty by the AUROC of the validation part. Folds are stratified 60/20/20 at random, as published.

    Raises
    ------
    BasewiseError
        for unknown methods or backbones, a dataset that is not sequences of two labels, and more shots than a class has.
    """
    strange = [m for m in methods if m not in METHODS]
    if strange or not methods or not backbones or shots < 1 or repeats < 1:
        hint = did_you_mean(strange[0], METHODS) if strange else ""
        raise BasewiseError(
            f"expected backbones, methods among {', '.join(METHODS)}, shots and repeats of 1 or more; "
            f"got {list(methods)}, {shots}, {repeats}.{hint}"
        )
    if init not in INITS:
        raise BasewiseError(f"init is {init!r}, expected {' or '.join(INITS)}: a folder with weights is named as a backbone")
    if init != "pretrained" and not any(_in_catalog(name) for name in backbones):
        raise BasewiseError(f"init {init!r} is for catalog names, but {', '.join(backbones)} has weights of its own; leave init out")
    examples = dataset.examples
    if dataset.kind != "sequence" or not set(examples["label"]) <= {-1, 0, 1}:
        raise BasewiseError(f"{dataset.path}: few-shot classification is for sequences labelled 0 and 1")
    examples = examples[examples["label"] >= 0].reset_index(drop=True)
    y = examples["label"].to_numpy(np.int64)
    if set(y.tolist()) != {0, 1}:
        raise BasewiseError(f"{dataset.path} holds labels {sorted(set(y.tolist()))}, expected examples of both 0 and 1")
    parts = [fold(examples, k, folds, seed)["split"].to_numpy(dtype=object) for k in range(folds)]
    embedders = {name: _embedder(name, init) for name in backbones}
    folder = prepare_output_folder(folder, force=force)
    rows: list[dict[str, Any]] = []
    for name, embedder in embedders.items():
        vectors = np.stack(embed_sequences(embedder, examples["sequence"].tolist(), batch_size=batch_size, device=device))
        for k, split in enumerate(parts):
            for method in methods:
                rows += [
                    {"backbone": name, "method": method, "fold": k, **row}
                    for row in _runs(method, vectors, y, split, k, shots, repeats, seed)
                ]
            if report is not None:
                report(f"{name}: fold {k + 1} of {folds}")
    settings = {"shots": shots, "repeats": repeats, "folds": folds, "seed": seed, "init": init, "methods": list(methods)}
    result = {
        "settings": settings,
        "dataset": {"path": str(dataset.path), "n": len(y), "n_positive": int(y.sum())},
        "summary": [_summary(rows, name, method) for name in embedders for method in methods],
        "runs": rows,
        "provenance": provenance(seed=seed),
    }
    write_json(folder / FEWSHOT, result)
    return result


def prototype_probabilities(queries: Floats, positive: Floats, negative: Floats) -> Probabilities:
    """Return (B,) the softmax over the cosine similarities of queries (B, D) to the two prototypes (D,), the means of their examples.

    A query nearer to `positive` than to `negative` gets more than 0.5. Source: the poly(A) paper, section 2.1, "Few-shot classification".
    """
    towards = _unit(queries) @ np.stack([_unit(negative), _unit(positive)], axis=-1)  # (B, 2)
    answer: Probabilities = 1 / (1 + np.exp(towards[:, 0] - towards[:, 1]))
    return answer


def _unit(vectors: Floats) -> Probabilities:
    wide = vectors.astype(np.float64)
    unit: Probabilities = wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
    return unit


def _in_catalog(name: str) -> bool:
    from basewise.backbones import catalog

    return name in catalog.entries() and not Path(name).exists()


def _embedder(name: str, init: str) -> Embedder:
    if not _in_catalog(name):
        return load_embedder(name)
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Embedder(*new_backbone(Backbone(name=name, init=init)))


def _runs(
    method: str, vectors: Floats, y: npt.NDArray[np.int64], split: npt.NDArray[Any], k: int, shots: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    train, val, test = (np.flatnonzero(split == name) for name in ("train", "val", "test"))
    if method != "prototype":
        p, chosen = (_knn if method == "knn" else _probe)(vectors, y, train, val, test)
        return [{"repeat": 0, **chosen, "metrics": binary_metrics(y[test], p, warn=False)}]
    pools = [train[y[train] == label] for label in (0, 1)]
    if min(map(len, pools)) < shots:
        raise BasewiseError(f"{shots} shots a class, but the training part of fold {k} has {min(map(len, pools))} of one; ask for fewer")
    rows = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, k, repeat])
        negative, positive = (vectors[rng.choice(pool, shots, replace=False)].mean(0) for pool in pools)
        p = prototype_probabilities(vectors[test], positive, negative)
        rows.append({"repeat": repeat, "metrics": binary_metrics(y[test], p, warn=False)})
    return rows


def _knn(vectors: Floats, y: npt.NDArray[np.int64], train: Any, val: Any, test: Any) -> tuple[Probabilities, dict[str, Any]]:
    """Return the share of positives among the nearest by cosine, as many as do best on the validation part."""
    from sklearn.neighbors import NearestNeighbors

    unit = _unit(vectors)
    sizes = [n for n in NEIGHBOURS if n <= len(train)]
    near = NearestNeighbors(n_neighbors=sizes[-1], algorithm="brute").fit(unit[train])  # of unit vectors, nearest is most similar
    votes = {name: y[train][near.kneighbors(unit[rows], return_distance=False)] for name, rows in (("val", val), ("test", test))}
    best = max(sizes, key=lambda n: binary_metrics(y[val], votes["val"][:, :n].mean(1), warn=False)["auroc"] or 0.0)
    return votes["test"][:, :best].mean(1), {"neighbours": best}


def _probe(vectors: Floats, y: npt.NDArray[np.int64], train: Any, val: Any, test: Any) -> tuple[Probabilities, dict[str, Any]]:
    """Return the answers of L2 logistic regression on standardised embeddings, with the penalty that does best on the validation part."""
    from sklearn.linear_model import LogisticRegression

    wide = vectors.astype(np.float64)
    mean, sd = wide[train].mean(0), np.maximum(wide[train].std(0), 1e-8)
    x = (wide - mean) / sd
    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(x[train], y[train])
        value = binary_metrics(y[val], fitted.predict_proba(x[val])[:, 1], warn=False)["auroc"] or 0.0
        if best is None or value > best[0]:
            best = (value, strength, fitted)
    assert best is not None
    return best[2].predict_proba(x[test])[:, 1], {"strength": best[1]}


def _summary(rows: Sequence[dict[str, Any]], name: str, method: str) -> dict[str, Any]:
    """Return the metrics over folds, each fold the mean of its repeats, and the sd over all runs."""
    mine = [row for row in rows if row["backbone"] == name and row["method"] == method]
    return {"backbone": name, "method": method, "metrics": over_folds(mine, always=True)}
