"""Integrated gradients on input embeddings, with as many points as the sum rule needs.

The path integral from a baseline x' to x is a Gauss-Legendre sum; its scores add up to F(x) - F(x') but for the error of that sum, which is
therefore known for every sequence. With ``steps="auto"`` the points are doubled from 16 until the error is small enough; 16 usually are.
(The points of two such sums are not nested: each sum starts anew, for the sequences that need it.)

Where 64 points do not do, the same integral is taken over t with ``place on the path = t ** 6``, which crowds the points towards the
baseline: a layer norm right behind the embedding turns the path's first step away from a baseline of zeros into a jump as narrow as
its epsilon (1e-12 in two of the families), which evenly spread points never see.

Source: Sundararajan et al. 2017, arXiv:1703.01365.
"""

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier
from basewise.interpretation.base import Attribution, Bucket, Doubles, batches, chosen, collect, explained, gradients

ROUNDS = ((16, 1), (32, 1), (64, 1), (64, 6), (128, 6), (256, 6), (512, 6))  # points and power of each try
FAR = 30  # an error so many times too large skips a try
ROUNDING = 2e-6  # of the larger of the two logits: sums in float32 are not better than that
Steps = int | Literal["auto"]


@cache
def path_points(steps: int, power: int = 1) -> tuple[Doubles, Doubles]:
    """Return the places in (0, 1) and the weights of `steps` Gauss-Legendre points in t, place = t ** power, float64 (steps,)."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    t = (places + 1) / 2
    return t**power, weights / 2 * power * t ** (power - 1)


def integrated_gradients(
    classifier: Classifier, bucket: Bucket, baseline: Tensor, target: str, *, steps: Steps, tolerance: float, batch_size: int
) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution) of every row; see `attribute.attribute`. Call inside `base.studying`."""
    logits = forward(classifier, bucket, bucket.embedded, batch_size)
    start = forward(classifier, bucket, baseline, batch_size)
    change = logits - start
    scores, taken = integrate_until(classifier, bucket, baseline, change, start, steps=steps, tolerance=tolerance, batch_size=batch_size)
    points = np.array([rounds_of(steps)[i][0] for i in taken], dtype=np.int64)
    yield from collect(bucket, scores, target=target, logits=logits, baseline_logits=start, steps=points, complete=change)


def integrate_until(
    classifier: Classifier,
    bucket: Bucket,
    baseline: Tensor,
    change: Tensor,
    start: Tensor,
    *,
    steps: Steps,
    tolerance: float,
    batch_size: int,
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Return token scores (n, c, T), float64, and the place in `rounds_of(steps)` of the sum each example took (n,)."""
    n = len(bucket.examples)
    rounds = rounds_of(steps)
    due, taken = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=change.device)
    for number, (count, power) in enumerate(rounds):
        waiting = np.flatnonzero(due == number)
        if not len(waiting):
            continue
        index = torch.from_numpy(waiting).to(change.device)
        scores[index] = _integrate(classifier, bucket, baseline, waiting, count, power, batch_size)
        taken[waiting] = number
        error = (scores[index].sum((1, 2)) - change[index].double()).abs()
        rounding = ROUNDING * torch.maximum(start[index].abs(), (start + change)[index].abs()).double()
        limit = torch.maximum(tolerance * change[index].double().abs(), rounding)
        excess = (error / limit).cpu().numpy()
        further = np.where(excess > FAR, 2, 1)  # twice the points do not mend an error as large as that
        due[waiting] = np.where(excess > 1, np.minimum(number + further, max(number + 1, len(rounds) - 1)), len(rounds))
    return scores, taken


def rounds_of(steps: Steps) -> tuple[tuple[int, int], ...]:
    """Return (points, power) of the sums to try in turn."""
    return ROUNDS if steps == "auto" else ((steps, 1),)


def _integrate(
    classifier: Classifier, bucket: Bucket, baseline: Tensor, examples: npt.NDArray[np.int64], steps: int, power: int, batch_size: int
) -> Tensor:
    """Return token scores (m, c, T) of m `examples` of the bucket; all (example, point) pairs go through the model in full batches."""
    device, dtype = bucket.embedded.device, bucket.embedded.dtype
    places, weights = (torch.from_numpy(part).to(device) for part in path_points(steps, power))
    scores = torch.zeros((len(examples), *bucket.tokens.ids.shape[1:]), dtype=torch.float64, device=device)
    for pairs in batches(bucket, len(examples) * steps, batch_size):
        local = torch.from_numpy(pairs // steps).to(device)
        which = torch.from_numpy(examples[pairs // steps]).to(device)
        point = torch.from_numpy(pairs % steps).to(device)
        way = bucket.embedded[which] - baseline[which]
        here = baseline[which] + places[point].to(dtype)[:, None, None, None] * way
        tokens, weight = chosen(bucket, which)
        _, gradient = gradients(classifier, tokens, here, weight)
        share = (gradient * way).sum(-1, dtype=torch.float64) * weights[point][:, None, None]
        scores.index_add_(0, local, share)
    return scores


def forward(classifier: Classifier, bucket: Bucket, embedded: Tensor, batch_size: int) -> Tensor:
    """Return F (n,) of the examples of a bucket with other embeddings (n, c, T, D)."""
    parts = []
    for rows in batches(bucket, len(bucket.examples), batch_size):
        index = torch.from_numpy(rows).to(embedded.device)
        tokens, weights = chosen(bucket, index)
        parts.append(explained(classifier, tokens, embedded[index], weights))
    return torch.cat(parts)
