"""Which chunks decided: attention and gradient of every chunk of a pool, and enrichment by contig."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier
from basewise.datasets.chunks import ChunkSettings
from basewise.datasets.cohort import Cohort
from basewise.inference.asking import check_device
from basewise.inference.trait import VECTORS_A_BATCH, Advance, Doubles, Floats, pool_outputs


class Evidence(NamedTuple):
    """Which chunks decided: one row a chunk, and one a contig."""

    chunks: pd.DataFrame
    contigs: pd.DataFrame


def evidence(
    classifier: Classifier,
    cohort: Cohort,
    settings: ChunkSettings,
    rows: npt.NDArray[np.int64],
    *,
    pool: int,
    groups: int,
    seed: int,
    device: str = "cpu",
    advance: Advance | None = None,
) -> Evidence:
    """Return how much each chunk of individuals `rows` weighed in groups made of a pool of chunks.

    chunks
        sample label contig copy start end reference_start attention effect groups: `attention` is the mean weight over queries and groups
        relative to an even one (1 = no more than its share), `effect` the mean over groups of gradient times the chunk's embedding less the
        individual's mean one: positive pushed the logit towards labels[1] (of several labels, towards its own).
        Positions are those of the copy, 0-based; `reference_start` of its first base, -1 for reads.
    contigs
        contig label chunks share attention effect weight enrichment: `weight` is the contig's share of all absolute effects of the label's
        individuals, `enrichment` that over its share of chunks: 1 where chunks of the contig matter as much as any.
    """
    where = check_device(device)
    tables = []
    for row in rows.tolist():
        genome = cohort.genome(row)
        made = pool_outputs(classifier, genome, settings, pool, seed, device=where, advance=advance)
        rng = np.random.default_rng([seed, row])
        chosen = rng.integers(len(made.vectors), size=(groups, settings.count))
        label = int(cohort.samples["label"].iloc[row])
        attention, effect, seen = _weigh(classifier, made.vectors, chosen, max(label, 0))
        table = pd.DataFrame({"sample": genome.sample, "label": label, "contig": made.contig, "copy": made.copy, "start": made.start})
        table["end"] = made.start + made.length
        table["reference_start"] = genome.reference_positions(made.copy, made.start)
        table["copy"] = [genome.copies[c].number for c in made.copy] if genome.mapped else 0
        if genome.mapped:
            offset = np.array([copy.start for copy in genome.copies])[made.copy]
            table["start"], table["end"] = table["start"] + offset, table["end"] + offset
        table["attention"], table["effect"], table["groups"] = attention, effect, seen
        tables.append(table[seen > 0])
    chunks = pd.concat(tables, ignore_index=True)
    return Evidence(chunks, by_contig(chunks))


def by_contig(chunks: pd.DataFrame) -> pd.DataFrame:
    """Return the `contigs` table of `evidence` from its chunks, most enriched first within a label."""
    table = chunks.assign(size=chunks["effect"].abs())
    parts = table.groupby(["label", "contig"], sort=True)
    out = parts.agg(
        chunks=("size", "size"), attention=("attention", "mean"), effect=("effect", "mean"), weight=("size", "sum")
    ).reset_index()
    totals = out.groupby("label")[["chunks", "weight"]].transform("sum")
    out["share"] = out["chunks"] / totals["chunks"]
    out["weight"] = out["weight"] / totals["weight"].where(totals["weight"] > 0, 1.0)
    out["enrichment"] = out["weight"] / out["share"]
    columns = ["contig", "label", "chunks", "share", "attention", "effect", "weight", "enrichment"]
    return out[columns].sort_values(["label", "enrichment"], ascending=[True, False], ignore_index=True)


def _weigh(
    classifier: Classifier, vectors: Floats, chosen: npt.NDArray[np.int64], label: int
) -> tuple[Doubles, Doubles, npt.NDArray[np.int64]]:
    """Return mean attention, mean effect and number of groups of each chunk (P,) over groups `chosen` (G, N)."""
    head: Any = classifier.head
    training = head.training
    head.eval()
    table = torch.from_numpy(vectors).to(classifier.device)
    center = table.mean(0)
    attention, effect = torch.zeros(len(table), dtype=torch.float64), torch.zeros(len(table), dtype=torch.float64)
    step = max(1, VECTORS_A_BATCH // chosen.shape[1])
    for low in range(0, len(chosen), step):
        index = torch.from_numpy(chosen[low : low + step])
        chunks: Tensor = table[index.to(table.device)].detach().requires_grad_(True)
        logits = head(chunks)
        if logits.shape[-1] == 1:
            target = logits[:, 0]
        elif len(classifier.config.labels) == 2:
            target = logits[:, 1] - logits[:, 0]
        else:
            target = logits[:, label]
        (gradient,) = torch.autograd.grad(target.sum(), chunks)
        weights = torch.softmax(head.queries @ head.key(chunks).transpose(1, 2) / head.queries.shape[1] ** 0.5, -1)  # (B, queries, N)
        attention.index_add_(0, index.ravel(), (weights.mean(1) * chosen.shape[1]).detach().double().cpu().ravel())
        effect.index_add_(0, index.ravel(), (gradient * (chunks - center)).sum(-1).detach().double().cpu().ravel())
    head.train(training)
    seen = np.bincount(chosen.ravel(), minlength=len(vectors))
    times = np.maximum(seen, 1)
    return attention.numpy() / times, effect.numpy() / times, seen
