"""Products of token states with frozen weights on a CPU, there and back, in the form that is fastest.

In float32 a linear layer as a convolution of one tap (oneDNN) costs half of PyTorch's matrix product, and a short depthwise convolution as
a few shifted products costs a fraction of its general form. Within `FastProducts` the calls of any model take these forms. The model is
not touched and the numbers differ by rounding only; weights that want gradients, other types and other devices keep the plain form.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_FEWEST = 1 << 14  # multiplications of a product worth another form
_MOST_TAPS = 8


class FastProducts(TorchFunctionMode):
    """A context in which linear layers and short depthwise convolutions along the sequence are computed in their fast form."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute `func`."""
        if func is F.linear and len(args) == 3 and not kwargs and _suits(*args):
            return _Linear.apply(*args)
        if func is F.conv1d and len(args) == 7 and not kwargs and _suits(*args[:3]) and _is_causal_depthwise(*args):
            return _Depthwise.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    return (
        frozen
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() > 1
        and x.numel() * weight.shape[0] >= _FEWEST
        and torch.backends.mkldnn.is_available()
    )


def _is_causal_depthwise(x: Tensor, weight: Tensor, _: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Return whether this is a convolution of each channel with a few taps, the whole overlap on the left kept."""
    channels, per_channel, taps = weight.shape
    plain = stride == dilation == (1,) and padding == (taps - 1,)  # as torch.nn.Conv1d has them
    return plain and per_channel == 1 and groups == channels == x.shape[-2] and taps <= _MOST_TAPS


class _Linear(torch.autograd.Function):
    """F.linear for x (..., in), a frozen weight (out, in) and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _product(gradient, weight.T, None), None, None


class _Depthwise(torch.autograd.Function):
    """F.conv1d of each channel of x (B, C, L) with frozen taps (C, 1, K) and bias, K - 1 zeros at both ends: (B, C, L + K - 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv1d(x, weight, bias, padding=weight.shape[-1] - 1, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return F.conv1d(gradient, weight.flip(-1), groups=len(weight)), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x (..., in) times weight (out, in), plus bias, by oneDNN's convolution of one tap over a channels-last image."""
    image = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    y = torch.mkldnn_convolution(image, weight[:, :, None, None], bias, [0, 0], [1, 1], [1, 1], 1)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
