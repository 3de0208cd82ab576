"""A sequence gets the same answer alone, in any batch, at any place, padded on any side; and asking leaves no trace in the model."""

import numpy as np
import pytest
import torch

from basewise.backbones.heads import base_counts
from basewise.errors import BasewiseError
from basewise.testing.models import tiny_classifier

rng = np.random.default_rng(0)
LENGTHS = (23, 1, 40, 7, 64, 23, 2, 90, 31, 12, 0)
TEXTS = ["".join(rng.choice(list("ACGTNacgtr"), n)) for n in LENGTHS]
SETTINGS = [
    {"family": "convnet"},
    {"family": "convnet", "pool": "mean"},
    {"family": "convnet", "kind": "base"},
    {"family": "hyenadna"},
    {"family": "hyenadna", "pool": "last"},
    {"family": "hyenadna", "pool": "official"},
    {"family": "hyenadna", "pool": "official-pool", "special_tokens": "standalone"},
    {"family": "hyenadna", "pool": "center", "strands": "both"},
    {"family": "hyenadna", "pool": "mean", "strands": "both", "special_tokens": False},
    {"family": "hyenadna", "kind": "base", "strands": "both"},
    {"family": "hyenadna", "kind": "base", "special_tokens": "standalone"},
]
each = pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))


def answers(classifier, texts, size):
    """One array a text, asked in batches of `size`; a base answer is cut to the length of its text."""
    found = []
    for start in range(0, len(texts), size):
        tokens = classifier.tokenize(texts[start : start + size])
        with torch.inference_mode():
            logits = classifier(tokens)
        assert logits.dtype == torch.float32
        counts = base_counts(tokens).tolist()
        found += [row[:n] if classifier.config.kind == "base" else row for row, n in zip(logits.numpy(), counts, strict=True)]
    return found


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


@each
def test_batch_size_order_and_padding(settings):
    classifier = tiny_classifier(**settings)
    alone = answers(classifier, TEXTS, 1)
    lengths = [len(x) for x in alone]
    assert lengths == (list(LENGTHS) if classifier.config.kind == "base" else [classifier.config.outputs] * len(TEXTS))
    assert_same(answers(classifier, TEXTS, 7), alone)
    assert_same(answers(classifier, TEXTS, len(TEXTS)), alone)
    assert_same(answers(classifier, TEXTS[::-1], 4)[::-1], alone)
    assert_same(answers(classifier, [t.upper().replace("R", "N") for t in TEXTS], 5), alone)
    classifier.tokenizer.pad_side = "left"
    # The published position rule takes the last token under left padding and the one before the first pad under right padding: the same one
    assert_same(answers(classifier, TEXTS, len(TEXTS)), alone)


@each
def test_asking_leaves_no_trace(settings):
    classifier = tiny_classifier(**settings)
    classifier.head.train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    modes = [module.training for module in classifier.modules()]
    tokens = classifier.tokenize(TEXTS)
    copies = [part.clone() for part in tokens]
    classifier(tokens)
    with pytest.raises((RuntimeError, BasewiseError)):
        classifier(tokens, embedded=torch.zeros(1, 2, 3))
    assert modes == [module.training for module in classifier.modules()]
    assert all(torch.equal(a, b) for a, b in zip(tokens, copies, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())
    assert not any(module._forward_hooks for module in classifier.modules())


def test_too_long_leaves_no_trace_either():
    classifier = tiny_classifier(family="hyenadna")
    with pytest.raises(BasewiseError, match="at most 130"):
        classifier(classifier.tokenize(["A" * 130]))
    assert_same(answers(classifier, TEXTS, 3), answers(tiny_classifier(family="hyenadna"), TEXTS, 3))
