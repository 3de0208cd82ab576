"""The convolution's own way back gives the gradient that autograd would."""

import pytest
import torch

from basewise.backbones.hyena_filter import ImplicitFilter


def make(seed=0, width=5, l_max=70):
    torch.manual_seed(seed)
    return ImplicitFilter(width, l_max, emb_dim=5, order=8, inner=2, frequency=10.0, train_frequency=True)


def recorded(filter_fn, u):
    """The same forward in operations that autograd records one by one."""
    L = u.shape[-1]
    spectrum = torch.fft.rfft(filter_fn.taps(L), n=2 * L) / (2 * L)
    y = torch.fft.irfft(torch.fft.rfft(u, n=2 * L) * spectrum, n=2 * L, norm="forward")[..., :L]
    return y + u * filter_fn.bias[:, None]


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_gradients_are_those_of_autograd(length):
    filter_fn = make().train()
    u = torch.randn(3, 5, length, requires_grad=True)
    weight = torch.randn(3, 5, length)
    inputs = [u, *filter_fn.parameters()]
    own, reference = filter_fn(u), recorded(filter_fn, u)
    assert torch.equal(own, reference)
    mine = torch.autograd.grad((own * weight).sum(), inputs)
    theirs = torch.autograd.grad((reference * weight).sum(), inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_signal_alone_is_exact_in_float64():
    filter_fn = make().eval()
    for parameter in filter_fn.parameters():
        parameter.requires_grad_(False)
    u = torch.randn(2, 5, 9, requires_grad=True)
    matrix = torch.autograd.functional.jacobian(lambda x: filter_fn(x).sum(0), u)  # (5, 9, 2, 5, 9)
    taps = filter_fn.taps(9).double()
    for channel in range(5):
        wanted = torch.stack([torch.cat([taps[channel, : t + 1].flip(0), torch.zeros(8 - t)]) for t in range(9)])
        wanted += torch.eye(9) * filter_fn.bias[channel]
        torch.testing.assert_close(matrix[channel, :, 0, channel].double(), wanted, rtol=1e-4, atol=1e-5)


def test_without_gradients_the_answer_is_the_same():
    filter_fn = make().eval()
    u = torch.randn(2, 5, 30)
    with torch.no_grad():
        silent = filter_fn(u)
    torch.testing.assert_close(filter_fn(u), silent, rtol=0, atol=0)
