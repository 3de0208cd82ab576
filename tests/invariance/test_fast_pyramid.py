"""The pyramid's fast forward is its plain forward, and a position's bits do not depend on what else is asked."""

import numpy as np
import pytest
import torch

from basewise.backbones import pyramid
from basewise.inference import fast_pyramid
from basewise.inference.fast_pyramid import FastPyramid
from basewise.testing.models import randomize, tiny_convnet

SMALL = {
    "width": 6,
    "stem_kernel": 5,
    "kernel": 3,
    "dilations": (1, 2),
    "join": 1,
    "coarse_widths": (4, 5),
    "coarse_dilations": (1, 2),
    "spread": 3,
    "members": 2,
}
CPU = torch.device("cpu")


def model(**settings):
    return randomize(pyramid.Model(pyramid.Config.model_validate({**SMALL, **settings})), 1)


def some_bases(backbone, length, seed=0):
    return backbone.embed(torch.randint(7, 12, (1, length + 2 * backbone.reach), generator=torch.Generator().manual_seed(seed)))


CASES = [{}, {"spread": 0}, {"spread": 1}, {"width": 7}, {"coarse_widths": (4,)}, {"coarse_widths": (4, 5, 6)}, {"join": 0}, {"members": 1}]


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("length", [1, 64, 700])
def test_equals_the_plain_forward(settings, length, monkeypatch):
    monkeypatch.setattr(fast_pyramid, "PIECE", 256)
    backbone = model(**settings)
    with torch.inference_mode():
        embedded = some_bases(backbone, length)
        plain = backbone.encode_valid(embedded)[0]
        fast = FastPyramid(backbone).states(embedded, torch.arange(length))
    assert (fast.shape, fast.dtype) == (plain.shape, plain.dtype)
    assert plain.std() > 0.1
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_without_onednn_the_same(monkeypatch):
    backbone = model()
    embedded = some_bases(backbone, 300)
    at = torch.arange(300)
    with torch.inference_mode():
        with_it = FastPyramid(backbone).states(embedded, at)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        torch.testing.assert_close(FastPyramid(backbone).states(embedded, at), with_it, rtol=1e-5, atol=1e-5)


def test_bits_do_not_depend_on_what_else_is_asked(monkeypatch):
    monkeypatch.setattr(fast_pyramid, "PIECE", 128)
    backbone = model()
    fast = FastPyramid(backbone)
    with torch.inference_mode():
        embedded = some_bases(backbone, 600)
        whole = fast.states(embedded, torch.arange(600)).numpy()
        few = torch.from_numpy(np.random.default_rng(1).permutation(600)[:9])
        np.testing.assert_array_equal(fast.states(embedded, few).numpy(), whole[few])
        assert fast.states(embedded, torch.empty(0, dtype=torch.long)).shape == (0, 12)


def test_the_model_is_as_before():
    backbone = model()
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with torch.inference_mode():
        FastPyramid(backbone).states(some_bases(backbone, 100), torch.arange(100))
    assert all(torch.equal(weights[name], tensor) for name, tensor in backbone.state_dict().items())


def test_only_plain_pyramids_on_a_cpu_have_a_fast_form():
    backbone = model()
    assert fast_pyramid.fast_pyramid(backbone, CPU) is not None
    assert fast_pyramid.fast_pyramid(backbone, torch.device("cuda")) is None
    assert fast_pyramid.fast_pyramid(tiny_convnet(), CPU) is None
    assert fast_pyramid.fast_pyramid(model().double(), CPU) is None

    class ConvAdapter(torch.nn.Conv2d):
        pass

    backbone.members[0].stem = ConvAdapter(4, 6, (1, 5), padding=(0, 2))
    assert fast_pyramid.fast_pyramid(backbone, CPU) is None
