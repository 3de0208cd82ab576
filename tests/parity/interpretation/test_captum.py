"""IG, input x gradient and SmoothGrad against captum, at the same points, baseline and noise, on every family at toy size."""

import numpy as np
import pytest
import torch

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import load_classifier
from basewise.genome.alphabet import as_bases
from basewise.interpretation import smoothgrad as smoothgrad_module
from basewise.interpretation.attribute import Settings, attribute
from basewise.interpretation.base import Example, make_buckets
from basewise.testing.families import FAMILIES, tiny_family

captum = pytest.importorskip("captum.attr")
SEQUENCE = "ACGTTTACGGATTACAGGTAACC"


def forward_of(classifier, tokens, pick=None):
    """Return the function of embeddings that captum differentiates, for one sequence repeated as often as captum likes."""

    def forward(embedded):
        many = Tokens(*(part.expand(len(embedded), *part.shape[1:]) for part in tokens))
        logits = classifier(many, embedded)
        return logits[..., 0] if pick is None else (logits[..., 0] * pick).sum(1)

    return forward


def per_base(tokens, scores):
    """Spread token scores (T,) by hand: a loop, unlike the code under test."""
    out = np.zeros(len(SEQUENCE))
    for (start, end), score in zip(tokens.spans[0].tolist(), scores.tolist(), strict=True):
        for base in range(start, end):
            out[base] = score / (end - start)
    return out


@pytest.mark.parametrize("kind", ["sequence", "base"])
@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients(family, kind):
    classifier = tiny_family(family, kind=kind)
    tokens = classifier.tokenize([SEQUENCE])
    embedded = classifier.embed(tokens).detach()
    pick = None if kind == "sequence" else torch.arange(len(SEQUENCE)) == 7
    expected, delta = captum.IntegratedGradients(forward_of(classifier, tokens, pick)).attribute(
        embedded, torch.zeros_like(embedded), n_steps=50, return_convergence_delta=True
    )
    (ours,) = attribute(classifier, [SEQUENCE], "ig", target=None if kind == "sequence" else "7", settings=Settings(steps=50))
    token_scores = expected.sum(-1)[0].detach().numpy()
    np.testing.assert_allclose(ours.scores, per_base(tokens, token_scores), atol=1e-6)
    special = (tokens.spans[0, :, 1] == 0).numpy()
    assert ours.special == pytest.approx(token_scores[special].sum(), abs=1e-6)
    assert ours.completeness_error == pytest.approx(abs(float(delta)), abs=2e-6)
    assert ours.steps == 50
    assert np.abs(ours.scores).max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_input_x_gradient(family):
    classifier = tiny_family(family)
    tokens = classifier.tokenize([SEQUENCE])
    embedded = classifier.embed(tokens).detach().requires_grad_()
    expected = captum.InputXGradient(forward_of(classifier, tokens)).attribute(embedded)
    (ours,) = attribute(classifier, [SEQUENCE], "inputxgrad")
    np.testing.assert_allclose(ours.scores, per_base(tokens, expected.sum(-1)[0].detach().numpy()), atol=1e-6)


def noise_of(classifier, samples, sd, seed):
    """Return the noise (samples, T, D) our methods draw for SEQUENCE."""
    weights = torch.ones(1)
    (bucket,) = make_buckets(classifier, [Example((0,), (as_bases(SEQUENCE),), weights)], 8)
    draws = np.arange(samples)
    return smoothgrad_module._noises(bucket, np.zeros(samples, dtype=np.int64), draws, seed, sd)[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("signed", [False, True])
def test_smoothgrad_of_saliency(family, signed, monkeypatch):
    classifier = tiny_family(family)
    tokens = classifier.tokenize([SEQUENCE])
    embedded = classifier.embed(tokens).detach()
    noise = noise_of(classifier, 10, 0.1, 3)
    monkeypatch.setattr(torch, "normal", lambda mean, sd: noise.reshape(sd.shape))  # captum's only draw
    tunnel = captum.NoiseTunnel(captum.Saliency(forward_of(classifier, tokens)))
    expected = tunnel.attribute(embedded, nt_type="smoothgrad", nt_samples=10, stdevs=0.1, abs=not signed)
    monkeypatch.undo()
    (ours,) = attribute(classifier, [SEQUENCE], "smoothgrad", settings=Settings(samples=10, seed=3, signed=signed, batch_size=4))
    np.testing.assert_allclose(ours.scores, per_base(tokens, expected.sum(-1)[0].numpy()), atol=1e-6)
    assert np.isnan(ours.completeness_error)


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothgrad_of_integrated_gradients(family, monkeypatch):
    classifier = tiny_family(family)
    tokens = classifier.tokenize([SEQUENCE])
    embedded = classifier.embed(tokens).detach()
    noise = noise_of(classifier, 6, 0.02, 0)
    monkeypatch.setattr(torch, "normal", lambda mean, sd: noise.reshape(sd.shape))
    tunnel = captum.NoiseTunnel(captum.IntegratedGradients(forward_of(classifier, tokens)))
    expected = tunnel.attribute(embedded, nt_type="smoothgrad", nt_samples=6, stdevs=0.02, baselines=torch.zeros_like(embedded), n_steps=20)
    monkeypatch.undo()
    (ours,) = attribute(classifier, [SEQUENCE], "ig-smoothgrad", settings=Settings(samples=6, steps=20, batch_size=7))
    np.testing.assert_allclose(ours.scores, per_base(tokens, expected.sum(-1)[0].detach().numpy()), atol=1e-6)


@pytest.mark.parametrize("name", ["polya", "zdna", "g4", "promoter"])
def test_integrated_gradients_of_embedded_models(name):
    """Scores reach tens of logits there: 1e-6 is relative to the largest. Double precision, so that no rectifier flips between batches."""
    classifier = load_classifier(name).double()
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 22)) + "GCGCGCGCACACGGGTGGGAGGGCGGGAATAAAGTCATTTCTGCTATG"
    tokens = classifier.tokenize([text])
    embedded = classifier.embed(tokens).detach()
    base = classifier.config.kind == "base"
    pick = torch.arange(len(text)) == len(text) // 2 if base else None
    expected = captum.IntegratedGradients(forward_of(classifier, tokens, pick)).attribute(
        embedded, torch.zeros_like(embedded), n_steps=8, internal_batch_size=8
    )
    (ours,) = attribute(classifier, [text], "ig", target="center" if base else None, settings=Settings(steps=8))
    scores = expected.sum(-1)[0].detach().numpy()
    assert np.abs(scores).max() > 0.1
    np.testing.assert_allclose(ours.scores, scores, rtol=0, atol=1e-6 * max(1.0, float(np.abs(scores).max())))
