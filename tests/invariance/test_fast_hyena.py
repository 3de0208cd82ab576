"""HyenaDNA's fast forward is its plain forward, for short and long sequences, all tokens and the last one."""

import numpy as np
import pytest
import torch

from basewise.genome.alphabet import as_bases
from basewise.inference import fast_hyena, long_convolution
from basewise.inference.asking import answering
from basewise.inference.engine import score_positions, scorer
from basewise.inference.fast_hyena import FastHyena
from basewise.inference.long_convolution import good_size
from basewise.testing.genomes import random_genome
from basewise.testing.models import tiny_classifier, tiny_convnet, tiny_hyenadna

CPU = torch.device("cpu")


def some_ids(batch, length):
    return torch.randint(0, 12, (batch, length), generator=torch.Generator().manual_seed(length))


def plain(model, ids):
    return model.encode(model.embed(ids), torch.ones_like(ids, dtype=torch.bool))


@pytest.mark.parametrize("settings", [{}, {"n_layer": 1}, {"n_layer": 3}, {"d_model": 5, "d_inner": 7}])
@pytest.mark.parametrize("length", [1, 2, 3, 31, 130])
@pytest.mark.parametrize("direct", [True, False])
def test_equals_the_plain_forward(settings, length, direct, monkeypatch):
    monkeypatch.setattr(fast_hyena, "TILE", 16)
    monkeypatch.setattr(long_convolution, "CHANNELS", 3)
    monkeypatch.setattr(long_convolution, "_TILE", 11)
    monkeypatch.setattr(fast_hyena, "DIRECT", 512 if direct else 0)
    model = tiny_hyenadna(**settings)
    ids = some_ids(4, length)
    with torch.inference_mode():
        expected = plain(model, ids)
        fast = FastHyena(model)
        for _ in range(2):  # the second time the filters are remembered
            got, last = fast.hidden(ids), fast.last(ids)
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(last, expected[:, -1], rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


def test_without_onednn_the_same(monkeypatch):
    model, ids = tiny_hyenadna(), some_ids(3, 40)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with torch.inference_mode():
        torch.testing.assert_close(FastHyena(model).hidden(ids), plain(model, ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("length", "size"), [(1, 2), (205, 210), (2051, 2058), (319999, 320000), (64, 64)])
def test_good_sizes(length, size):
    assert good_size(length) == size


@pytest.mark.parametrize(
    "settings", [{"pool": "mean"}, {"pool": "last"}, {"pool": "official"}, {"pool": "last", "strands": "both"}, {"kind": "base"}]
)
def test_scores_are_those_of_the_classifier(settings, monkeypatch):
    classifier = tiny_classifier(family="hyenadna", window=101, **settings)
    contig = as_bases(random_genome(3, {"x": 3000})["x"])
    positions = np.arange(200, 1200, 17)
    strands = np.where(np.arange(len(positions)) % 2, 1, -1).astype(np.int8)
    with answering(classifier, CPU):
        fast = scorer(classifier, device=CPU).hyena
    assert (fast is None) == (settings.get("strands") == "both")
    got = score_positions(classifier, padded(contig), positions, strands)
    monkeypatch.setattr("basewise.inference.engine.fast_hyena", lambda *_: None)
    expected = score_positions(classifier, padded(contig), positions, strands)
    assert expected.std() > 0.001
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def padded(contig):
    def fetch(start, end):
        window = np.full(end - start, ord("N"), np.uint8)
        low, high = max(start, 0), min(end, len(contig))
        window[low - start : high - start] = contig[low:high]
        return window

    return fetch


def test_only_plain_models_have_a_fast_form():
    assert fast_hyena.fast_hyena(tiny_hyenadna()) is not None
    assert fast_hyena.fast_hyena(tiny_convnet()) is None
    assert fast_hyena.fast_hyena(tiny_hyenadna().double()) is None
    assert fast_hyena.fast_hyena(tiny_hyenadna(short_filter_order=4)) is None
    model = tiny_hyenadna()

    class LinearAdapter(torch.nn.Linear):
        pass

    model.layers[0].mlp["fc1"] = LinearAdapter(8, 16)
    assert fast_hyena.fast_hyena(model) is None


@pytest.mark.data
def test_trained_weights_within_1e5(shared):
    from basewise.backbones.checkpoints import load_official

    model, _ = load_official(shared / "golden" / "real" / "hyenadna-tiny-1k")
    model.eval()
    with torch.inference_mode():
        fast = FastHyena(model)
        for length in (103, 900):
            ids = torch.randint(7, 11, (2, length), generator=torch.Generator().manual_seed(1))
            expected = plain(model, ids)
            got, last = fast.hidden(ids), fast.last(ids)
            assert (got - expected).abs().max() < 1e-5 * expected.abs().max()  # a few ulps of the largest
            weight = torch.randn(expected.shape[-1], generator=torch.Generator().manual_seed(2)) / expected.shape[-1] ** 0.5
            for one, other in ((got.mean(1), expected.mean(1)), (last, expected[:, -1])):
                torch.testing.assert_close(one @ weight, other @ weight, rtol=0, atol=1e-5)  # logits
