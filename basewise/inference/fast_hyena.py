"""HyenaDNA's forward pass for inference: the numbers of `backbones.hyenadna` within 1e-5, several times faster and in less memory.

What it saves, for one row of real tokens after another (no padding):
- the filter of length T is the first T taps of the l_max filter: computed once a length and layer, not at every call; the skip weight is
  added to tap 0;
- before the first long convolution everything depends on three tokens: one gather from a table of 3-mers replaces norm, projection and
  short convolution of the first layer;
- up to 512 tokens the long convolution is a channels-last depthwise convolution, beyond it by FFT (`long_convolution`), with all work on
  single tokens done in tiles that stay in the cache;
- linear layers and the GELU after them are one call of oneDNN, where PyTorch has it;
- a reader of the last token needs one dot product a channel in the last layer, and one token of everything after it.

With ``dtype=torch.bfloat16`` weights and all that passes between layers have half the bits; long convolutions stay in float32. The
logits then differ by some hundredths: `staged` scores again what lies near a threshold.
"""

from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.hyena_filter import ImplicitFilter
from basewise.backbones.hyenadna import Model
from basewise.inference.long_convolution import LongConvolution

DIRECT = 512  # tokens up to which the long convolution is done without FFT
TILE = 512  # tokens at a time of the work on single tokens, in long sequences
_REMEMBERED = 1 << 24  # numbers of a filter that is kept; longer ones are computed again at every call
_TAPS = 3  # of the short convolution


class _Linear(NamedTuple):
    """A linear layer, weight (out, in)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        return _fused(x, self.weight, self.bias, "none", [], "") if _fuses(x) else F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """Return gelu (tanh form) of this layer's answer."""
        if _fuses(x):
            return _fused(x, self.weight, self.bias, "gelu", [], "tanh")
        return torch.ops.aten.gelu_(F.linear(x, self.weight, self.bias), approximate="tanh")


class _Norm(NamedTuple):
    """A layer norm."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class _Layer(NamedTuple):
    """Weights of a block; short (taps, 3 D)."""

    norm1: _Norm
    in_proj: _Linear
    short: Tensor
    short_bias: Tensor
    filter: ImplicitFilter
    out_proj: _Linear
    norm2: _Norm
    fc1: _Linear
    fc2: _Linear


def fast_hyena(backbone: object, dtype: torch.dtype = torch.float32) -> "FastHyena | None":
    """Return the fast form of a backbone, None where there is none: another family or precision, adapters in it, odd short filters."""
    if not isinstance(backbone, Model) or next(backbone.parameters()).dtype != torch.float32:
        return None
    linears = [module for module in backbone.modules() if "Linear" in type(module).__name__]
    if any(type(module) is not nn.Linear for module in linears) or backbone.config.short_filter_order != _TAPS:
        return None
    return FastHyena(backbone, dtype)


def _fuses(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.backends.mkldnn.is_available() and _has_fused(x.dtype)


@cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Return whether this PyTorch on this CPU has oneDNN's fused operator: it is private and may go."""
    try:
        one = torch.ones(1, 1, dtype=dtype)
        _fused(one, one, one[0], "gelu", [], "tanh")
    except (AttributeError, RuntimeError):
        return False
    return True


def _fused(*arguments: object) -> Tensor:
    """Return a linear layer's answer, an activation applied: in float32 up to twice as fast as a matrix product and the activation."""
    answer: Tensor = torch.ops.mkldnn._linear_pointwise(*arguments)  # noqa: SLF001
    return answer


class FastHyena:
    """A `hyenadna.Model` made ready once; it must be in evaluation mode, and not be trained further. Use under `inference_mode`."""

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32) -> None:
        self.width, self.max_tokens, self.dtype = model.width, model.config.l_max, dtype
        self._filters: dict[tuple[int, int], Tensor] = {}
        with torch.inference_mode():
            self.embedding = cast(Tensor, model.embeddings["word_embeddings"].weight)
            self.layers = [_layer(layer, torch.float32) for layer in model.layers]
            self._table = self._three_mers().to(dtype)
            if dtype != torch.float32:
                self.layers = [_layer(layer, dtype) for layer in model.layers]
                self.embedding = self.embedding.to(dtype)
            self.ln_f = _norm(model.ln_f, dtype)

    def hidden(self, ids: Tensor) -> Tensor:
        """Return hidden states (B, T, D), of the form's dtype, after the final norm for ids int64 (B, T), 1 <= T <= l_max, no padding."""
        x = F.embedding(ids, self.embedding)
        if ids.shape[1] > DIRECT:
            self._long_layers(ids, x)
        else:
            for number, layer in enumerate(self.layers):
                gate, v = self._gates(layer, x) if number else self._first_gates(ids)
                x = _mlp(layer, x + layer.out_proj(self._convolve(number, v).mul_(gate)))
        return self.ln_f(x)

    def last(self, ids: Tensor) -> Tensor:
        """Return the hidden states (B, D) of the last tokens, after the final norm."""
        T = ids.shape[1]
        if T > DIRECT:
            return self.hidden(ids)[:, -1]
        x = F.embedding(ids, self.embedding)
        for number, layer in enumerate(self.layers):
            gate, v = self._gates(layer, x) if number else self._first_gates(ids)
            if number + 1 == len(self.layers):
                taps = self._taps(number, T).flip(1).T  # (T, D), the tap of each token for the last
                return self.ln_f(_mlp(layer, x[:, -1] + layer.out_proj((v * taps).sum(1).to(v.dtype) * gate[:, -1])))
            x = _mlp(layer, x + layer.out_proj(self._convolve(number, v).mul_(gate)))
        raise AssertionError("a HyenaDNA has at least one layer")

    def _first_gates(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return gate and signal (B, T, D) of the first layer by their 3-mers; before the first token stands one more symbol."""
        symbols = self.embedding.shape[0] + 1
        padded = F.pad(ids, (_TAPS - 1, 0), value=symbols - 1)
        word = (padded[:, :-2] * symbols + padded[:, 1:-1]) * symbols + padded[:, 2:]
        rows = F.embedding(word, self._table)
        return rows[..., : self.width], rows[..., self.width :]

    def _three_mers(self) -> Tensor:
        """Return (symbols ** 3, 2 D): x0 and v * x1 of the first layer for the last token of every 3-mer."""
        layer = self.layers[0]
        projected = F.pad(layer.in_proj(layer.norm1(self.embedding)), (0, 0, 0, 1))  # (symbols, 3 D), nothing where there is no token
        first, second, third = (projected * tap for tap in layer.short)
        u = (first[:, None, None] + second[:, None] + third + layer.short_bias).flatten(0, 2)
        x0, x1, v = u.chunk(3, dim=-1)
        return torch.cat([x0, x1 * v], dim=-1)

    def _gates(self, layer: _Layer, x: Tensor, before: int = 0) -> tuple[Tensor, Tensor]:
        """Return gate x0 and signal v * x1 (B, T - before, D) of x (B, T, D), whose first `before` tokens are context."""
        u = layer.in_proj(layer.norm1(x))
        y = u * layer.short[2]
        y[:, 1:].addcmul_(u[:, :-1], layer.short[1])
        y[:, 2:].addcmul_(u[:, :-2], layer.short[0])
        x0, x1, v = y.add_(layer.short_bias)[:, before:].chunk(3, dim=-1)
        return x0, x1 * v

    def _taps(self, number: int, length: int) -> Tensor:
        """Return the filter (D, length) of a layer with the skip weight on tap 0, remembered where it is not too long."""
        if (number, length) in self._filters:
            return self._filters[number, length]
        taps = self.layers[number].filter.taps(length)
        taps[:, 0] += self.layers[number].filter.bias
        if taps.numel() * len(self.layers) <= _REMEMBERED:
            self._filters[number, length] = taps
        return taps

    def _convolve(self, number: int, v: Tensor) -> Tensor:
        """Return v (B, T, D) convolved with its past, T small; in float32, since oneDNN may have no fast form in less."""
        T = v.shape[1]
        image = F.pad(v.float(), (0, 0, T - 1, 0))[:, None].permute(0, 3, 1, 2)  # (B, D, 1, 2 T - 1), channels-last
        weight = self._taps(number, T).flip(1)[:, None, None]
        if v.device.type == "cpu" and torch.backends.mkldnn.is_available():
            y = torch.mkldnn_convolution(image, weight, None, [0, 0], [1, 1], [1, 1], self.width)
        else:
            y = F.conv2d(image, weight, groups=self.width)
        return y.permute(0, 2, 3, 1)[:, 0].to(v.dtype)

    def _long_layers(self, ids: Tensor, x: Tensor) -> None:
        """Apply all layers to the residual stream x (B, T, D), in place."""
        B, T, D = x.shape
        gate, signal = torch.empty_like(x), torch.empty(B, D, T, device=x.device)  # float32, for FFTs; both serve all layers
        convolution = LongConvolution(T, x.device)
        for number, layer in enumerate(self.layers):
            for low in range(0, T, TILE):
                tile, before = slice(low, low + TILE), min(low, _TAPS - 1)
                if number:
                    x0, v = self._gates(layer, x[:, low - before : low + TILE], before)
                else:
                    x0, v = (part[:, before:] for part in self._first_gates(ids[:, low - before : low + TILE]))
                gate[:, tile] = x0
                signal[:, :, tile] = v.transpose(1, 2)
            convolution.apply(layer.filter, signal)
            for low in range(0, T, TILE):
                tile = slice(low, low + TILE)
                mixed = signal[:, :, tile].transpose(1, 2).to(x.dtype) * gate[:, tile]
                x[:, tile] = _mlp(layer, x[:, tile] + layer.out_proj(mixed))


def _mlp(layer: _Layer, x: Tensor) -> Tensor:
    return x + layer.fc2(layer.fc1.gelu(layer.norm2(x)))


def _layer(source: nn.Module, dtype: torch.dtype) -> _Layer:
    mixer, mlp = cast(nn.Module, source.mixer), cast(nn.ModuleDict, source.mlp)
    short = cast(nn.Conv1d, mixer.short_filter)
    assert short.bias is not None
    in_proj, out_proj, fc1, fc2 = (_linear(module, dtype) for module in (mixer.in_proj, mixer.out_proj, mlp["fc1"], mlp["fc2"]))
    norm1, norm2 = (_norm(module, dtype) for module in (source.norm1, source.norm2))
    parts = (norm1, in_proj, short.weight[:, 0].T.contiguous().to(dtype), short.bias.to(dtype), mixer.filter_fn)
    return _Layer(*parts, out_proj, norm2, fc1, fc2)  # type: ignore[arg-type]


def _norm(source: object, dtype: torch.dtype) -> _Norm:
    assert isinstance(source, nn.LayerNorm)
    return _Norm(source.weight.to(dtype), source.bias.to(dtype), source.eps)


def _linear(source: object, dtype: torch.dtype) -> _Linear:
    assert isinstance(source, nn.Linear)
    return _Linear(source.weight.to(dtype), source.bias.to(dtype))
