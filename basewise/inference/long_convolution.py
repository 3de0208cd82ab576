"""HyenaDNA's long convolution by FFT, for inference on long sequences: a few channels at a time, in memory that every layer uses again.

On a CPU the first write to fresh memory costs more than a transform in it: hence the buffers, and hence chunks whose temporary arrays stay
below the size (32 MiB) from which C libraries hand memory back to the system after every use.
"""

from itertools import count
from typing import cast

import torch
from torch import Tensor

from basewise.backbones.hyena_filter import SHIFT, ImplicitFilter, decay_rates, position_features

CHANNELS = 16  # at a time
_TILE = 2048  # taps at a time while the filter's hidden layers are computed


class LongConvolution:
    """Convolutions of signals (B, D, T) with their past; T and the device stay the same, filters come and go. All float32."""

    def __init__(self, length: int, device: torch.device) -> None:
        self.length = length
        self._padded, self._taps = torch.zeros(2, CHANNELS, good_size(2 * length - 1), device=device)  # beyond `length` they stay zero
        self._hidden = torch.empty(0, device=device)

    def apply(self, source: ImplicitFilter, signal: Tensor) -> None:
        """Convolve `signal` in place with the first T taps of `source`, and add it times the skip weights."""
        T, size = self.length, self._taps.shape[1]
        hidden = self._hidden = _hidden(source, T, out=self._hidden)
        for low in range(0, signal.shape[1], CHANNELS):
            part = slice(low, low + CHANNELS)
            _write_taps(source, hidden, part, out=self._taps[: signal[:, part].shape[1], :T])
            spectrum = torch.fft.rfft(self._taps)
            for channels in signal[:, part]:
                padded = self._padded[: len(channels)]
                padded[:, :T] = channels
                product = torch.fft.rfft(padded).mul_(spectrum[: len(channels)])
                channels[:] = torch.fft.irfft(product, n=size)[:, :T]


def _hidden(source: ImplicitFilter, length: int, out: Tensor) -> Tensor:
    """Return `ImplicitFilter.features` channels first, (order, length); in the memory of `out` where it has that shape."""
    positions, _ = position_features(source.l_max, source.emb_dim, length, str(out.device))
    *layers, _ = source.linears()
    frequency = cast(Tensor, source.implicit_filter["1"].freq).T  # (order, 1)
    if out.shape != (len(frequency), length):
        out = out.new_empty(len(frequency), length)
    for low in range(0, length, _TILE):
        h = positions[low : low + _TILE].T
        for layer in layers:
            h = torch.addmm(layer.bias[:, None], layer.weight, h).mul_(frequency).sin_()
        out[:, low : low + _TILE] = h
    return out


def _write_taps(source: ImplicitFilter, hidden: Tensor, part: slice, out: Tensor) -> None:
    """Write the taps (channels, length) of `part` to `out`, those of `ImplicitFilter.channels`, the skip weight added to tap 0."""
    _, time = position_features(source.l_max, source.emb_dim, out.shape[1], str(out.device))
    *_, last = source.linears()
    torch.mm(last.weight[part], hidden, out=out)
    rates = decay_rates(source.width)[part, None].abs().to(out.device)
    out.mul_(torch.mul(-rates, time.T).exp_().add_(SHIFT))
    out[:, 0] += source.bias[part]


def good_size(length: int) -> int:
    """Return the smallest even number >= `length` without prime factors above 7: FFTs of such sizes are fast."""
    for size in count(length + length % 2, 2):
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
    raise AssertionError("numbers do not end")
