"""What all methods share: the result, the model held still while it is studied, buckets of examples, and scores a base.

An *example* is what one number is explained of: a sequence, or all c chunks of an individual. Shapes: n examples, c rows an example (1
but for individuals), T tokens, D width, L bases, C logits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.genome.alphabet import Bases
from basewise.interpretation.products import FastProducts

Scores = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
LONG_ROW = 1 << 12  # tokens of a row from which memory is dearer than time
TOKENS_A_BATCH = 1 << 13  # tokens, at least one row, that go through the model at a time with their gradients


@dataclass(frozen=True)
class Attribution:
    """Why one sequence got its logit.

    Attributes
    ----------
    scores : float32 (L,)
        A score a base; a token's score is shared equally by the bases it covers.
    target : str
        What was explained, as `targets.Target` spells it.
    logit, baseline_logit : float
        The explained number F of the sequence and of the baseline (NaN for methods without a baseline).
    completeness_error : float
        ``|scores.sum() + special - (logit - baseline_logit)|``, in logits; of an individual, over all its rows. NaN for methods that
        promise no such sum.
    steps : int
        Points of the path at which gradients were taken, all of them used; 0 for methods without a path.
    special : float
        The part of the scores that fell on special tokens.
    effects : float32 (L, 4) or None
        In-silico mutagenesis only: F with the base replaced by A, C, G, T minus F.
    """

    scores: Scores
    target: str
    logit: float
    baseline_logit: float
    completeness_error: float
    steps: int
    special: float
    effects: Scores | None = None


class Example(NamedTuple):
    """One number to explain: its rows, its place in the caller's order, and the weights (C,) or (L, C) of F's logits."""

    places: tuple[int, ...]
    rows: tuple[Bases, ...]
    weights: Tensor

    @property
    def longest(self) -> int:
        """Bases of the longest row."""
        return max(len(row) for row in self.rows)


class Bucket(NamedTuple):
    """Examples of about the same length, ready for the model; tensors are (n, c, ...)."""

    examples: tuple[Example, ...]
    tokens: Tokens
    embedded: Tensor
    weights: Tensor


@contextmanager
def studying(classifier: Classifier, device: str | torch.device = "cpu") -> Iterator[None]:
    """Hold `classifier` still: evaluation mode, on `device`, no gradients of parameters, gradients of inputs possible.

    Modes, ``requires_grad`` and the device are restored on the way out, also after an error; ``.grad`` and hooks are never touched.
    """
    training = [module for module in classifier.modules() if module.training]
    learning = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    home = classifier.device
    try:
        classifier.eval()
        classifier.to(device)
        for parameter in learning:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True
        classifier.to(home)


def explained(classifier: Classifier, tokens: Tokens, embedded: Tensor, weights: Tensor) -> Tensor:
    """Return F (n,), the weighted sum of the logits, for tokens (n, c, T), embeddings (n, c, T, D) and weights (n, C) or (n, L, C)."""
    flat = Tokens(*(part.flatten(0, 1) for part in tokens))
    chunks = tokens.ids.shape[1] if classifier.config.kind == "individual" else None
    logits = classifier(flat, embedded.flatten(0, 1), chunks=chunks)
    if weights.dim() == 3:  # a bucket's longest row may not be in this batch
        weights = weights[:, : logits.shape[1]]
    total: Tensor = (logits * weights).flatten(1).sum(1)
    return total


def gradients(classifier: Classifier, tokens: Tokens, embedded: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return F (n,) and its gradient with respect to `embedded` (n, c, T, D)."""
    leaf = embedded.detach().requires_grad_()
    saving = embedded.shape[2] > LONG_ROW and hasattr(classifier.backbone, "gradient_checkpointing")
    # checkpoints compute again outside of any function mode, where other forms would not fit
    with torch.enable_grad(), _saving_memory(classifier) if saving else FastProducts():
        values = explained(classifier, tokens, leaf, weights)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient


@contextmanager
def _saving_memory(classifier: Classifier) -> Iterator[None]:
    """Let the backbone compute its layers twice instead of remembering them."""
    backbone: Any = classifier.backbone
    before = backbone.gradient_checkpointing
    backbone.gradient_checkpointing = True
    try:
        yield
    finally:
        backbone.gradient_checkpointing = before


def make_buckets(classifier: Classifier, examples: Sequence[Example], batch_size: int) -> Iterator[Bucket]:
    """Yield all examples, longest first, in buckets of equal row counts and about equal lengths; sizes bounded by `TOKENS_A_BATCH`."""
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].rows), -examples[i].longest, i))
    low = 0
    while low < len(order):
        first = examples[order[low]]
        most = max(1, min(batch_size, TOKENS_A_BATCH // max(1, first.longest * len(first.rows))))
        group = [examples[i] for i in order[low : low + most] if len(examples[i].rows) == len(first.rows)]
        yield _bucket(classifier, group)
        low += len(group)


def _bucket(classifier: Classifier, examples: Sequence[Example]) -> Bucket:
    shape = (len(examples), len(examples[0].rows))
    flat = classifier.tokenize([row for example in examples for row in example.rows])
    flat = Tokens(*(part.to(classifier.device) for part in flat))
    embedded = classifier.embed(flat).unflatten(0, shape)
    weights = [example.weights for example in examples]
    if weights[0].dim() == 2:
        L = max(len(one) for one in weights)
        weights = [torch.nn.functional.pad(one, (0, 0, 0, L - len(one))) for one in weights]
    tokens = Tokens(*(part.unflatten(0, shape) for part in flat))
    return Bucket(tuple(examples), tokens, embedded, torch.stack(weights).to(embedded.device))


def batches(bucket: Bucket, pairs: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the indices 0 .. `pairs` of (example, point) pairs in pieces the model takes at a time."""
    size = max(1, min(batch_size, TOKENS_A_BATCH // max(1, bucket.tokens.ids[0].numel())))
    for low in range(0, pairs, size):
        yield np.arange(low, min(pairs, low + size))


def chosen(bucket: Bucket, examples: Tensor) -> tuple[Tokens, Tensor]:
    """Return tokens and weights of `examples` (indices, repeats allowed)."""
    return Tokens(*(part[examples] for part in bucket.tokens)), bucket.weights[examples]


def spread(tokens: Tokens, scores: Doubles, row: tuple[int, int], length: int) -> tuple[Scores, float]:
    """Return scores a base (L,) and the sum on special tokens, for token scores (T,) of one row of tokens (n, c, T).

    Each base gets an equal share of its token's score, so that the total stays.
    """
    spans = tokens.spans[row].cpu().numpy()
    mask = tokens.mask[row].cpu().numpy()
    covering = mask & (spans[:, 1] > spans[:, 0])
    start, end = spans[covering].T.astype(np.int64)
    size = end - start
    base = np.repeat(start - (size.cumsum() - size), size) + np.arange(size.sum())
    out = np.zeros(length, dtype=np.float64)
    out[base] = np.repeat(scores[covering] / size, size)
    return out.astype(np.float32), float(scores[mask & ~covering].sum())


def collect(
    bucket: Bucket,
    token_scores: Tensor,
    *,
    target: str,
    logits: Tensor,
    baseline_logits: Tensor | None,
    steps: npt.NDArray[np.int64],
    complete: Tensor | None = None,
) -> Iterator[tuple[int, Attribution]]:
    """Yield (place, Attribution) of every row of a bucket from token scores (n, c, T).

    `complete` (n,) is what the scores of an example should sum to; None where the method promises nothing.
    """
    numbers = token_scores.double().cpu().numpy()
    errors = np.full(len(numbers), np.nan) if complete is None else np.abs(numbers.sum((1, 2)) - complete.double().cpu().numpy())
    nowhere = torch.full_like(logits, torch.nan) if baseline_logits is None else baseline_logits
    for i, example in enumerate(bucket.examples):
        for j, (place, row) in enumerate(zip(example.places, example.rows, strict=True)):
            scores, special = spread(bucket.tokens, numbers[i, j], (i, j), len(row))
            yield (
                place,
                Attribution(scores, target, float(logits[i]), float(nowhere[i]), float(errors[i]), int(steps[i]), special),
            )
