"""What a sequence is compared with: the start of the path of integrated gradients.

zero        embeddings of zeros everywhere, special tokens included (the usual choice of the papers; for the convolution network: N)
pad, mask   every token of bases is [PAD] or [MASK]; special tokens stay
n           every token of bases is that of a single N; special tokens stay
shuffled    the sequence with its dinucleotides shuffled, one draw a sequence; special tokens stay
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError, did_you_mean
from basewise.interpretation.base import Bucket
from basewise.interpretation.draws import generator
from basewise.interpretation.shuffle import dinucleotide_shuffle

Baseline = Literal["zero", "pad", "mask", "n", "shuffled"]


def check_baseline(name: str) -> Baseline:
    """Return `name`; BasewiseError when there is no such baseline."""
    for known in get_args(Baseline):
        if name == known:
            return known
    raise BasewiseError(f"unknown baseline {name!r}; known: {', '.join(get_args(Baseline))}.{did_you_mean(name, get_args(Baseline))}")


def baseline_of(classifier: Classifier, bucket: Bucket, name: Baseline, seed: int = 0) -> Tensor:
    """Return baseline embeddings (n, c, T, D) for a bucket.

    Raises BasewiseError where a baseline does not exist: a tokenizer without that token, or a shuffle that makes other tokens than
    the sequence (byte pairs, or k-mers around N).
    """
    if name == "zero":
        return torch.zeros_like(bucket.embedded)
    tokens = bucket.tokens
    if name == "shuffled":
        return _keep_special(classifier, bucket, _shuffled(classifier, bucket, seed))
    covering = tokens.mask & (tokens.spans[..., 1] > tokens.spans[..., 0])
    ids = torch.where(covering, _token(classifier, name), tokens.ids)
    return _keep_special(classifier, bucket, Tokens(ids, tokens.mask, tokens.spans))


def _token(classifier: Classifier, name: str) -> int:
    if name == "n":
        single = classifier.tokenizer.tokenize(["N"], special_tokens=False, policy=classifier.config.policy).ids
        return int(single[0, 0])
    token = getattr(classifier.tokenizer, f"{name}_id", None)
    if token is None:
        raise BasewiseError(f"the tokenizer of this {classifier.backbone.family} has no [{name.upper()}]; use the baseline zero")
    return int(token)


def _shuffled(classifier: Classifier, bucket: Bucket, seed: int) -> Tokens:
    rows = [dinucleotide_shuffle(row, generator(seed, row)) for example in bucket.examples for row in example.rows]
    flat = classifier.tokenize(rows)
    shape = bucket.tokens.mask.shape[:2]
    tokens = Tokens(*(part.to(classifier.device).unflatten(0, shape) for part in flat))
    if tokens.mask.shape != bucket.tokens.mask.shape or not torch.equal(tokens.spans, bucket.tokens.spans):
        raise BasewiseError(
            f"a shuffled sequence makes other tokens than the sequence itself in {classifier.backbone.family}; "
            "use the baseline zero, pad or mask"
        )
    return tokens


def _keep_special(classifier: Classifier, bucket: Bucket, tokens: Tokens) -> Tensor:
    """Return the embeddings of `tokens`, with those of the bucket at special tokens and padding."""
    flat = Tokens(*(part.flatten(0, 1) for part in tokens))
    embedded = classifier.embed(flat).unflatten(0, tokens.ids.shape[:2])
    covering = (tokens.mask & (tokens.spans[..., 1] > tokens.spans[..., 0]))[..., None]
    start = torch.where(covering, embedded, bucket.embedded)
    if not torch.isfinite(start).all():
        raise BasewiseError(f"this baseline has no finite embedding in {classifier.backbone.family}; use the baseline zero or n")
    return start
