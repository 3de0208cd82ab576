"""Gradients at the input itself: input x gradient, and SmoothGrad over plain gradients or over integrated gradients.

SmoothGrad averages over noisy copies of the input embeddings, Gaussian noise of standard deviation `sd` on every token of a row. Plain
saliency is the size of the gradient, ``|dF/dx|``, as usual (and as captum has it); `signed` keeps its sign, so that bases that speak
against the target can be told from those that speak for it. Scores of a token are sums over the embedding.

Source: Smilkov et al. 2017, arXiv:1706.03825.
"""

from collections.abc import Iterator
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier
from basewise.genome.alphabet import codes
from basewise.interpretation.base import Attribution, Bucket, batches, chosen, collect, gradients
from basewise.interpretation.integrated_gradients import Steps, forward, integrate_until, path_points, rounds_of


def input_x_gradient(classifier: Classifier, bucket: Bucket, target: str, *, batch_size: int) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution): gradient times embedding, summed over the embedding. Call inside `base.studying`."""
    values, scores = [], []
    for rows in batches(bucket, len(bucket.examples), batch_size):
        which = torch.from_numpy(rows).to(bucket.embedded.device)
        tokens, weights = chosen(bucket, which)
        value, gradient = gradients(classifier, tokens, bucket.embedded[which], weights)
        values.append(value)
        scores.append((gradient * bucket.embedded[which]).sum(-1, dtype=torch.float64))
    yield from collect(bucket, torch.cat(scores), target=target, logits=torch.cat(values), baseline_logits=None, steps=_none(bucket))


def smoothgrad(
    classifier: Classifier, bucket: Bucket, target: str, *, samples: int, sd: float, signed: bool, seed: int, batch_size: int
) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution): the mean over noisy inputs of the gradient's size, or with `signed` of the gradient."""
    logits = forward(classifier, bucket, bucket.embedded, batch_size)
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=logits.device)
    for pairs in batches(bucket, len(bucket.examples) * samples, batch_size):
        which = torch.from_numpy(pairs // samples).to(logits.device)
        tokens, weights = chosen(bucket, which)
        noisy = bucket.embedded[which] + _noises(bucket, pairs // samples, pairs % samples, seed, sd)
        _, gradient = gradients(classifier, tokens, noisy, weights)
        scores.index_add_(0, which, (gradient if signed else gradient.abs()).sum(-1, dtype=torch.float64) / samples)
    yield from collect(bucket, scores, target=target, logits=logits, baseline_logits=None, steps=_none(bucket))


def smooth_integrated_gradients(
    classifier: Classifier,
    bucket: Bucket,
    baseline: Tensor,
    target: str,
    *,
    steps: Steps,
    tolerance: float,
    samples: int,
    sd: float,
    seed: int,
    batch_size: int,
) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution): the mean over noisy inputs x of integrated gradients from the baseline to x.

    The scores should sum to the mean of F(x) - F(baseline) over the noisy inputs; `completeness_error` is about that.
    With ``steps="auto"`` the points are those that the input without noise needs.
    """
    logits = forward(classifier, bucket, bucket.embedded, batch_size)
    start = forward(classifier, bucket, baseline, batch_size)
    taken = np.zeros(len(bucket.examples), dtype=np.int64)
    if steps == "auto":
        _, taken = integrate_until(
            classifier, bucket, baseline, logits - start, start, steps=steps, tolerance=tolerance, batch_size=batch_size
        )
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=logits.device)
    change = torch.zeros(len(bucket.examples), dtype=torch.float64, device=logits.device)
    for number, (count, power) in enumerate(rounds_of(steps)):
        alike = np.flatnonzero(taken == number)
        places, weights = (torch.from_numpy(part).to(logits.device) for part in path_points(count, power))
        points = count + 1  # the last one is the noisy input itself, whose F the sum is held against
        for pairs in batches(bucket, len(alike) * samples * points, batch_size):
            example, draw, point = alike[pairs // (samples * points)], pairs // points % samples, pairs % points
            which = torch.from_numpy(example).to(logits.device)
            step = torch.from_numpy(point).to(logits.device)
            tokens, weight = chosen(bucket, which)
            way = bucket.embedded[which] + _noises(bucket, example, draw, seed, sd) - baseline[which]
            place = torch.cat([places, places.new_ones(1)])[step].to(way.dtype)
            value, gradient = gradients(classifier, tokens, baseline[which] + place[:, None, None, None] * way, weight)
            share = torch.cat([weights, weights.new_zeros(1)])[step] / samples
            scores.index_add_(0, which, (gradient * way).sum(-1, dtype=torch.float64) * share[:, None, None])
            change.index_add_(0, which, torch.where(step == count, (value - start[which]).double() / samples, 0.0))
    steps_taken = np.array([rounds_of(steps)[i][0] for i in taken], dtype=np.int64)
    yield from collect(bucket, scores, target=target, logits=logits, baseline_logits=start, steps=steps_taken, complete=change)


def _noises(bucket: Bucket, examples: npt.NDArray[np.int64], draws: npt.NDArray[np.int64], seed: int, sd: float) -> Tensor:
    """Return noise (m, c, T, D), zeros at padding; that of a row depends on the seed, its bases and the number of the draw only."""
    out = torch.zeros((len(examples), *bucket.embedded.shape[1:]), dtype=bucket.embedded.dtype)
    mask = bucket.tokens.mask.cpu()
    for i, (example, draw) in enumerate(zip(examples.tolist(), draws.tolist(), strict=True)):
        for j, row in enumerate(bucket.examples[example].rows):
            seeds = np.random.SeedSequence([seed, crc32(codes(row).tobytes()), draw]).generate_state(1, np.uint64)
            rng = torch.Generator().manual_seed(int(seeds[0]) >> 1)
            inside = mask[example, j]
            out[i, j, inside] = sd * torch.randn(int(inside.sum()), out.shape[-1], generator=rng, dtype=out.dtype)
    return out.to(bucket.embedded.device)


def _none(bucket: Bucket) -> npt.NDArray[np.int64]:
    return np.zeros(len(bucket.examples), dtype=np.int64)
