"""Products in their fast form: the numbers and gradients of the plain form, and only where nothing else is lost."""

import pytest
import torch
from torch import nn

from basewise.interpretation import products
from basewise.interpretation.products import FastProducts


def plain_and_fast(module, x):
    answers = []
    for context in (torch.enable_grad(), FastProducts()):
        leaf = x.clone().requires_grad_()
        with context:
            y = module(leaf)
            (gradient,) = torch.autograd.grad((y * torch.arange(y.numel()).reshape(y.shape).sin()).sum(), leaf)
        answers.append((y.detach(), gradient))
    return answers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 33, 64), (300, 64), (2, 3, 40, 64)])
def test_linear(shape, bias, monkeypatch):
    torch.manual_seed(0)
    layer = nn.Linear(64, 48, bias=bias).requires_grad_(False)
    used = []
    real = products._product
    monkeypatch.setattr(products, "_product", lambda *args: used.append(1) or real(*args))
    plain, fast = plain_and_fast(layer, torch.randn(shape))
    assert used == [1, 1]  # there and back
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_transposed_input():
    layer = nn.Linear(64, 48).requires_grad_(False)
    plain, fast = plain_and_fast(lambda x: layer(x.transpose(1, 2)), torch.randn(3, 64, 50))
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_depthwise(bias):
    torch.manual_seed(0)
    layer = nn.Conv1d(64, 64, 3, padding=2, groups=64, bias=bias).requires_grad_(False)
    plain, fast = plain_and_fast(layer, torch.randn(4, 64, 70))
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_what_keeps_its_plain_form(monkeypatch):
    monkeypatch.setattr(products._Linear, "apply", lambda *_: pytest.fail("fast form"))
    monkeypatch.setattr(products._Depthwise, "apply", lambda *_: pytest.fail("fast form"))
    x = torch.randn(4, 64, 70)
    with FastProducts():
        nn.Linear(70, 70)(x)  # learns
        nn.Linear(70, 70).double().requires_grad_(False)(x.double())
        nn.Linear(70, 1).requires_grad_(False)(x[:1, :2])  # small
        for other in ({"padding": 1}, {"padding": 4, "dilation": 2}, {"padding": 2, "stride": 2}, {"padding": "same"}):
            nn.Conv1d(64, 64, 3, groups=64, **other).requires_grad_(False)(x)
        nn.Conv1d(64, 64, 3, padding=2).requires_grad_(False)(x)


def test_nothing_is_left_behind():
    layer = nn.Linear(64, 64).requires_grad_(False)
    x = torch.randn(100, 64)
    before = layer(x)
    with pytest.raises(ZeroDivisionError), FastProducts():
        _ = 1 / 0
    assert torch.equal(layer(x), before)
    assert not torch.overrides._get_current_function_mode_stack()
