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
from basewise.interpretation.integrated_gradients import Rule, Steps, along, forward, gauss_legendre, integrate_until
from basewise.interpretation.panels import weights_of_nodes


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
    With ``steps="auto"`` places and weights are those that the input without noise needs.
    """
    n, device = len(bucket.examples), bucket.embedded.device
    logits = forward(classifier, bucket, bucket.embedded, batch_size)
    start = forward(classifier, bucket, baseline, batch_size)
    if steps == "auto":
        paths, _ = integrate_until(classifier, bucket, baseline, tolerance=tolerance, batch_size=batch_size)
        rules = [Rule(nodes.places, weights_of_nodes(nodes)) for nodes in paths]
        points = np.array([len(rule.places) for rule in rules], dtype=np.int64)
    else:  # and the noisy input itself, whose F the sum is held against
        rules = [Rule(np.append(gauss_legendre(steps).places, 1.0), np.append(gauss_legendre(steps).weights, 0.0))] * n
        points = np.full(n, steps, dtype=np.int64)
    which = np.repeat(np.arange(n), [samples * len(rule.places) for rule in rules])
    draw = np.concatenate([np.repeat(np.arange(samples), len(rule.places)) for rule in rules])
    places, weights = (np.concatenate([np.tile(part, samples) for part in parts]) for parts in zip(*rules, strict=True))
    scores = torch.zeros(bucket.tokens.ids.shape, dtype=torch.float64, device=device)
    change = torch.zeros(n, dtype=torch.float64, device=device)

    def noise(pairs: npt.NDArray[np.int64]) -> Tensor:
        return _noises(bucket, which[pairs], draw[pairs], seed, sd)

    for pairs, value, share in along(classifier, bucket, baseline, which, places, batch_size, noise):
        index, weight, end = (torch.from_numpy(part[pairs]).to(device) for part in (which, weights, places == 1.0))
        scores.index_add_(0, index, share * weight[:, None, None] / samples)
        change.index_add_(0, index, torch.where(end, (value - start[index]).double() / samples, 0.0))
    yield from collect(bucket, scores, target=target, logits=logits, baseline_logits=start, steps=points, complete=change)


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
