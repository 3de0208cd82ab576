"""Integrated gradients on input embeddings, with as many points as the sum rule needs.

With a number of steps the path integral from a baseline x' to x is a Gauss-Legendre sum. Its scores add up to F(x) - F(x') but for the
error of that sum, which is therefore known for every sequence. With ``steps="auto"`` the path is cut into panels, and those whose part of
the sum is wrong are halved until the whole is right (see `panels`). Every point evaluated is used.

Source: Sundararajan et al. 2017, arXiv:1703.01365.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier
from basewise.interpretation.base import Attribution, Bucket, Doubles, batches, chosen, collect, explained, gradients
from basewise.interpretation.panels import Nodes, add_nodes, next_places, no_nodes, weights_of_nodes

MOST_POINTS = 2049  # of a path
REMEMBERED = 1 << 28  # scores of all points together that are kept at a time, of a bucket
ROUNDING = 2e-6  # of the larger of the two logits: sums in float32 are not better than that
Steps = int | Literal["auto"]
Indices = npt.NDArray[np.int64]


class Rule(NamedTuple):
    """Places on the path, in [0, 1], and their weights, (k,) each."""

    places: Doubles
    weights: Doubles


@cache
def gauss_legendre(steps: int) -> Rule:
    """Return the rule of `steps` Gauss-Legendre points."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    return Rule((places + 1) / 2, weights / 2)


def integrated_gradients(
    classifier: Classifier, bucket: Bucket, baseline: Tensor, target: str, *, steps: Steps, tolerance: float, batch_size: int
) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution) of every row; see `attribute.attribute`. Call inside `base.studying`."""
    n = len(bucket.examples)
    if steps == "auto":
        paths, scores = integrate_until(classifier, bucket, baseline, tolerance=tolerance, batch_size=batch_size)
        start, logits = (torch.tensor([nodes.values[end] for nodes in paths]) for end in (0, -1))
        points = np.array([len(nodes.places) for nodes in paths], dtype=np.int64)
    else:
        logits = forward(classifier, bucket, bucket.embedded, batch_size)
        start = forward(classifier, bucket, baseline, batch_size)
        scores = _integrate(classifier, bucket, baseline, gauss_legendre(steps), batch_size)
        points = np.full(n, steps, dtype=np.int64)
    yield from collect(bucket, scores, target=target, logits=logits, baseline_logits=start, steps=points, complete=logits - start)


def integrate_until(
    classifier: Classifier, bucket: Bucket, baseline: Tensor, *, tolerance: float, batch_size: int
) -> tuple[list[Nodes], Tensor]:
    """Return the nodes of each example's path, both ends among them, and token scores (n, c, T), float64.

    Halving ends with an error below `tolerance` times the difference of the logits (or their rounding), or at `MOST_POINTS`; fewer where
    so many scores would not fit in memory.
    """
    n = len(bucket.examples)
    cap = min(MOST_POINTS, max(65, REMEMBERED // bucket.tokens.ids.numel()))
    paths = [no_nodes() for _ in range(n)]
    shares: list[list[Tensor]] = [[] for _ in range(n)]
    due = [next_places(nodes, 0.0, cap) for nodes in paths]
    while any(len(places) for places in due):
        which = np.repeat(np.arange(n), [len(places) for places in due])
        values, slopes = np.empty(len(which)), np.empty(len(which))
        for pairs, value, share in along(classifier, bucket, baseline, which, np.concatenate(due), batch_size):
            values[pairs] = value.double().cpu().numpy()
            slopes[pairs] = share.sum((1, 2)).cpu().numpy()
            for example, one in zip(which[pairs].tolist(), share.to(bucket.embedded.dtype), strict=True):
                shares[example].append(one)
        for i in range(n):
            mine = which == i
            paths[i] = add_nodes(paths[i], due[i], values[mine], slopes[mine])
            due[i] = next_places(paths[i], _limit(paths[i], tolerance), cap)
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=bucket.embedded.device)
    for i, nodes in enumerate(paths):
        weights = weights_of_nodes(nodes)[np.argsort(nodes.order)]
        for weight, share in zip(weights.tolist(), shares[i], strict=True):
            scores[i].add_(share, alpha=weight)
    return paths, scores


def along(
    classifier: Classifier,
    bucket: Bucket,
    baseline: Tensor,
    which: Indices,
    places: Doubles,
    batch_size: int,
    noise: Callable[[Indices], Tensor] | None = None,
) -> Iterator[tuple[Indices, Tensor, Tensor]]:
    """Yield (pairs, F (m,), scores a step (m, c, T), float64) of (example, place) pairs, in full batches.

    Scores a step are gradient times the way from the baseline to the input, summed over the embedding: their sum is dF/dt. `noise` (m, c,
    T, D) of some pairs is added to the input.
    """
    device, dtype = bucket.embedded.device, bucket.embedded.dtype
    for pairs in batches(bucket, len(which), batch_size):
        index = torch.from_numpy(which[pairs]).to(device)
        end = bucket.embedded[index] if noise is None else bucket.embedded[index] + noise(pairs)
        start = baseline[index]
        place = torch.from_numpy(places[pairs]).to(device, dtype)[:, None, None, None]
        tokens, weights = chosen(bucket, index)
        way = end - start
        value, gradient = gradients(classifier, tokens, start + place * way, weights)
        yield pairs, value, (gradient * way).sum(-1, dtype=torch.float64)


def forward(classifier: Classifier, bucket: Bucket, embedded: Tensor, batch_size: int) -> Tensor:
    """Return F (n,) of the examples of a bucket with other embeddings (n, c, T, D)."""
    parts = []
    for rows in batches(bucket, len(bucket.examples), batch_size):
        index = torch.from_numpy(rows).to(embedded.device)
        tokens, weights = chosen(bucket, index)
        parts.append(explained(classifier, tokens, embedded[index], weights))
    return torch.cat(parts)


def _integrate(classifier: Classifier, bucket: Bucket, baseline: Tensor, rule: Rule, batch_size: int) -> Tensor:
    """Return token scores (n, c, T), float64, with the same points for all."""
    n, steps = len(bucket.examples), len(rule.places)
    which, places, weights = np.repeat(np.arange(n), steps), np.tile(rule.places, n), np.tile(rule.weights, n)
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=bucket.embedded.device)
    for pairs, _, share in along(classifier, bucket, baseline, which, places, batch_size):
        index, weight = (torch.from_numpy(part[pairs]).to(scores.device) for part in (which, weights))
        scores.index_add_(0, index, share * weight[:, None, None])
    return scores


def _limit(nodes: Nodes, tolerance: float) -> float:
    """Return the error allowed of a path whose ends are known."""
    start, end = float(nodes.values[0]), float(nodes.values[-1])
    return max(tolerance * abs(end - start), ROUNDING * max(abs(start), abs(end)))
