"""Attributions do not depend on batch, order or padding, on the strand pass or the chunk; the model is left as it was."""

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from basewise.backbones import hyenadna
from basewise.backbones.base import Tokens
from basewise.errors import BasewiseError
from basewise.interpretation import base
from basewise.interpretation.attribute import Settings, attribute
from basewise.interpretation.base import studying
from basewise.testing.families import FAMILIES, tiny_family

RNG = np.random.default_rng(4)
SEQUENCES = ["".join(RNG.choice(list("ACGT"), length)) for length in (40, 9, 23, 40, 31)]
METHODS = ["ig", "smoothgrad", "ig-smoothgrad", "inputxgrad", "ism"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_order_and_padding(family, method):
    classifier = tiny_family(family)
    quick = {"samples": 2, "steps": 4}
    whole = attribute(classifier, SEQUENCES, method, settings=Settings(**quick))
    turned = attribute(classifier, SEQUENCES[::-1], method, settings=Settings(**quick, batch_size=3))[::-1]
    for i, (one, other) in enumerate(zip(whole, turned, strict=True)):
        (alone,) = attribute(classifier, [SEQUENCES[i]], method, settings=Settings(**quick, batch_size=1))
        assert one.scores.dtype == np.float32
        assert one.scores.shape == (len(SEQUENCES[i]),)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-5, atol=2e-6)
    assert attribute(classifier, [], method) == []


def test_case_changes_nothing():
    classifier = tiny_family("hyenadna")
    for method in METHODS:
        upper, lower = (attribute(classifier, [text], method, settings=Settings(samples=2, steps=4))[0] for text in ("ACGTA", "acgta"))
        np.testing.assert_array_equal(upper.scores, lower.scores)


@pytest.mark.parametrize("family", ["hyenadna", "nucleotide_transformer"])
def test_points_found_are_those_of_each_sequence(family):
    """With auto, neighbours and batch sizes change nothing; and smoothing without noise takes the same points to the same scores.

    In float64: the rounding of float32, which differs from batch to batch and machine to machine, may decide whether a panel is halved.
    """
    classifier = tiny_family(family).double()
    whole = attribute(classifier, SEQUENCES, "ig", settings=Settings())
    smooth = attribute(classifier, SEQUENCES, "ig-smoothgrad", settings=Settings(samples=2, sd=0.0))
    for i, (one, other) in enumerate(zip(whole, smooth, strict=True)):
        (alone,) = attribute(classifier, [SEQUENCES[i]], "ig", settings=Settings(batch_size=3))
        assert one.steps == other.steps == alone.steps
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=2e-6)
        assert other.completeness_error == pytest.approx(one.completeness_error, abs=1e-5)
        assert one.completeness_error <= 1e-3 * abs(one.logit - one.baseline_logit)


@pytest.mark.parametrize("kind", ["sequence", "base"])
def test_both_strands(kind):
    """With both strands the embeddings of both passes are explained, and a base-wise sum of F holds."""
    classifier = tiny_family("hyenadna", kind=kind, strands="both")
    tokens = classifier.tokenize(SEQUENCES)
    torch.testing.assert_close(classifier(tokens, classifier.embed(tokens)), classifier(tokens))
    answers = attribute(classifier, SEQUENCES, "ig")
    for answer in answers:
        missing = abs(answer.scores.sum() + answer.special - (answer.logit - answer.baseline_logit))
        assert missing == pytest.approx(answer.completeness_error, abs=1e-5)
        assert missing < 5e-3
        assert np.abs(answer.scores).max() > 0


def test_individuals():
    """The scores of an individual's chunks add up to its logit, whatever the other individuals are."""
    classifier = tiny_family("hyenadna", kind="individual")
    groups = ["x", "y", "x", "y", "x"]
    answers = attribute(classifier, SEQUENCES, "ig", groups=groups)
    total = sum(answer.scores.sum() + answer.special for answer, group in zip(answers, groups, strict=True) if group == "x")
    assert total == pytest.approx(answers[0].logit - answers[0].baseline_logit, abs=3e-3)
    assert answers[0].logit == answers[2].logit != answers[1].logit
    alone = attribute(classifier, [SEQUENCES[0], SEQUENCES[2], SEQUENCES[4]], "ig", groups=["x"] * 3)
    np.testing.assert_allclose(alone[1].scores, answers[2].scores, atol=2e-6)
    changes = attribute(classifier, SEQUENCES[:2], "ism", groups=["x", "x"], settings=Settings(around=1))
    assert all(np.abs(one.scores).sum() > 0 for one in changes)
    with pytest.raises(BasewiseError, match="which one each sequence belongs to"):
        attribute(classifier, SEQUENCES)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails, monkeypatch):
    classifier = tiny_family("hyenadna")
    classifier.train()
    classifier.backbone.ln_f.eval()
    frozen = classifier.head.linear.bias
    frozen.requires_grad_(False)
    (classifier(classifier.tokenize(SEQUENCES)) ** 2).sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    modes = {name: module.training for name, module in classifier.named_modules()}
    seen = []
    handle = classifier.backbone.register_forward_hook(lambda *_: seen.append(1))
    state = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    def ask():
        with torch.no_grad():
            return attribute(classifier, SEQUENCES, "ig", settings=Settings(steps=2))

    if fails:
        monkeypatch.setattr(classifier, "embed", lambda _: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RuntimeError, match="out of memory"):
            ask()
    else:
        ask()
        assert not torch.is_inference_mode_enabled()
    assert {name: module.training for name, module in classifier.named_modules()} == modes
    assert {name for name, parameter in classifier.named_parameters() if parameter.requires_grad} == set(
        dict(classifier.named_parameters())
    ) - {"head.linear.bias"}
    for name, parameter in classifier.named_parameters():
        assert (parameter.grad is None) == (name not in before)
        if name in before:
            assert torch.equal(parameter.grad, before[name])
    assert len(classifier.backbone._forward_hooks) == 1
    handle.remove()
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("fails", [False, True])
def test_long_rows_are_recomputed_with_the_same_answer(monkeypatch, fails):
    classifier = tiny_family("hyenadna", kind="base")
    (plain,) = attribute(classifier, SEQUENCES[:1], settings=Settings(steps=3))
    calls = []
    monkeypatch.setattr(base, "LONG_ROW", 8)
    monkeypatch.setattr(hyenadna, "checkpoint", lambda *args, **more: calls.append(1) or checkpoint(*args, **more))
    if fails:
        monkeypatch.setattr(hyenadna, "checkpoint", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            attribute(classifier, SEQUENCES[:1], settings=Settings(steps=3))
    else:
        (saving,) = attribute(classifier, SEQUENCES[:1], settings=Settings(steps=3))
        np.testing.assert_allclose(saving.scores, plain.scores, atol=1e-6)
        assert calls
    assert classifier.backbone.gradient_checkpointing is False


def test_studying_works_inside_inference_mode():
    classifier = tiny_family("convnet")
    with torch.inference_mode():
        (answer,) = attribute(classifier, SEQUENCES[:1], "inputxgrad")
    np.testing.assert_array_equal(answer.scores, attribute(classifier, SEQUENCES[:1], "inputxgrad")[0].scores)
    with studying(classifier):
        assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert isinstance(classifier.tokenize(["A"]), Tokens)
