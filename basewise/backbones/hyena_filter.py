"""The implicit long filter of HyenaDNA: taps as a function of time, and the causal convolution with them.

Plain form: the filter is evaluated for the length at hand and applied by FFT of size 2 L, in float32.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHIFT = 0.05
FAST_DECAY, SLOW_DECAY, DECAY_TARGET = 0.3, 1.5, 0.01
CACHED_LENGTHS = 4  # spectra a layer remembers ...
CACHED_ELEMENTS = 1 << 23  # ... each of at most so many complex numbers (64 MiB)


class ImplicitFilter(nn.Module):
    """A causal convolution a channel (D channels) whose taps come from an MLP with sine activations, times an exponential window.

    In eval mode, and when no gradient of the filter is asked for, the transformed filter is remembered by length until a weight changes;
    training mode forgets it. (Writing into ``parameter.data`` by hand in eval mode goes unseen: call ``train()`` and ``eval()`` once.)
    """

    def __init__(self, width: int, l_max: int, *, emb_dim: int, order: int, inner: int, frequency: float, train_frequency: bool) -> None:
        super().__init__()
        self.width, self.l_max, self.emb_dim = width, l_max, emb_dim
        self.bias = nn.Parameter(torch.randn(width))  # the skip weight D of the paper
        sizes = [emb_dim, *[order] * (inner + 1)]
        stages: dict[str, nn.Module] = {str(2 * i): nn.Linear(sizes[i], sizes[i + 1]) for i in range(inner + 1)}
        stages["1"] = Sine(order, frequency, train=train_frequency)  # one frequency for all sines
        stages[str(2 * inner + 2)] = nn.Linear(order, width, bias=False)
        self.implicit_filter = nn.ModuleDict(stages)
        self._cache: dict[tuple[Any, ...], tuple[list[nn.Parameter], Tensor]] = {}

    def taps(self, length: int) -> Tensor:
        """Return the filter (D, length) in float32, whatever the weights are stored in."""
        return self.channels(*self.features(length), slice(None))

    def linears(self) -> list[nn.Linear]:
        """Return the linear layers, all but the last followed by a sine."""
        return [stage for stage in self.implicit_filter.values() if isinstance(stage, nn.Linear)]

    def features(self, length: int) -> tuple[Tensor, Tensor]:
        """Return what all channels share: the last hidden layer (length, order) and time (length, 1), float32."""
        h, t = position_features(self.l_max, self.emb_dim, length, str(self.bias.device))  # (length, emb_dim), (length, 1)
        sine = self.implicit_filter["1"]
        *hidden, _ = self.linears()
        for linear in hidden:
            h = sine(F.linear(h, linear.weight.float(), linear.bias.float()))
        return h, t

    def channels(self, h: Tensor, t: Tensor, part: slice) -> Tensor:
        """Return the taps (channels, length) of the channels of `part` from `features`."""
        *_, last = self.linears()
        taps = F.linear(h, last.weight[part].float())  # (length, channels)
        window = torch.exp(-t * decay_rates(self.width)[part].to(t.device).abs()) + SHIFT
        return (taps * window).T

    def forward(self, u: Tensor) -> Tensor:
        """Return u (B, D, L) convolved with its past, plus u times the skip weights; float32 inside, the dtype of u outside."""
        L = u.shape[-1]
        with torch.autocast(u.device.type, enabled=False):
            signal = u.float()
            if torch.is_grad_enabled():
                convolved: Tensor = _Convolution.apply(signal, self._spectrum(L))
                return (convolved + signal * self.bias.float()[:, None]).to(u.dtype)
            y = torch.fft.irfft(torch.fft.rfft(signal, n=2 * L) * self._spectrum(L), n=2 * L, norm="forward")[..., :L]
            return (y + signal * self.bias.float()[:, None]).to(u.dtype)

    def _spectrum(self, length: int) -> Tensor:
        """Return the transformed filter (D, length + 1), divided by the transform's size."""
        weights = list(self.implicit_filter.parameters())
        if self.training or (torch.is_grad_enabled() and any(w.requires_grad for w in weights)):
            self._cache.clear()
            return torch.fft.rfft(self.taps(length), n=2 * length) / (2 * length)
        key = (length, *((id(w), w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights))  # noqa: SLF001
        if key not in self._cache:
            with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode could never meet autograd later
                spectrum = torch.fft.rfft(self.taps(length), n=2 * length) / (2 * length)
            if spectrum.numel() > CACHED_ELEMENTS:
                return spectrum
            while len(self._cache) >= CACHED_LENGTHS:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = (weights, spectrum)  # the weights are kept alive: their ids stay theirs
        return self._cache[key][1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ImplicitFilter":
        self._cache.clear()  # .to(), .half(), .cuda(): the same parameters with other contents
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # copies and pickles start without the memory


class _Convolution(torch.autograd.Function):
    """Causal convolution of a signal (B, D, L) with a transformed filter (D, L + 1), differentiable once.

    The forward is what autograd would record, bit for bit. Its own way back would transform all 2 L complex numbers; the gradient of a real
    convolution is a real correlation, so that half of them do.
    """

    @staticmethod
    def forward(ctx: Any, signal: Tensor, spectrum: Tensor) -> Tensor:
        L = signal.shape[-1]
        transformed = torch.fft.rfft(signal, n=2 * L)
        ctx.save_for_backward(transformed if ctx.needs_input_grad[1] else None, spectrum)
        y: Tensor = torch.fft.irfft(transformed * spectrum, n=2 * L, norm="forward")[..., :L]
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        transformed, spectrum = ctx.saved_tensors
        L = gradient.shape[-1]
        g = torch.fft.rfft(gradient, n=2 * L)  # (B, D, L + 1)
        of_signal = of_spectrum = None
        if ctx.needs_input_grad[0]:
            of_signal = torch.fft.irfft(g * spectrum.conj(), n=2 * L, norm="forward")[..., :L]
        if ctx.needs_input_grad[1]:
            # y = irfft(s, norm="forward") = Re(s_0) + 2 sum_k Re(s_k e^(i k t)) + Re(s_L e^(i L t)): all but the ends count twice
            of_spectrum = torch.einsum("bdk,bdk->dk", transformed.conj(), g)
            of_spectrum[:, 1:L] *= 2
        return of_signal, of_spectrum


class Sine(nn.Module):
    """sin(freq * x), one frequency a channel."""

    def __init__(self, channels: int, frequency: float, *, train: bool) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, channels), float(frequency)), requires_grad=train)

    def forward(self, x: Tensor) -> Tensor:
        """Return sin(freq * x) for x (..., channels)."""
        return torch.sin(self.freq.float() * x)


@lru_cache(maxsize=8)
def position_features(l_max: int, emb_dim: int, length: int, device: str) -> tuple[Tensor, Tensor]:
    """Return features (length, emb_dim) and time (length, 1) of the first `length` points of a grid of `l_max`, float32.

    Features: time from 0 to 1, then the cosines and negative sines of ``(emb_dim - 1) / 2`` frequencies. Shared: do not write into them.
    """
    bands = (emb_dim - 1) // 2
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        t = torch.linspace(0, 1, l_max)[:length, None]
        w = (2 * math.pi * torch.linspace(0, l_max - 1, l_max) / l_max)[:length, None]
        f = torch.linspace(1e-4, bands - 1, bands)
        z = torch.cat([t, torch.cos(-f * w), torch.sin(-f * w)], dim=1)
        return z.to(device), t.clone().to(device)


def decay_rates(width: int) -> Tensor:
    """Return (D,) on the CPU: how fast the window of each channel falls, negative."""
    return torch.linspace(math.log(DECAY_TARGET) / SLOW_DECAY, math.log(DECAY_TARGET) / FAST_DECAY, width, device="cpu")
