"""The pyramid's forward pass for scanning on a CPU: the same function as `backbones.pyramid`, several times faster on one thread.

What it saves:
- norms that follow a convolution are folded into it once, not at every call;
- every convolution goes to oneDNN: with one thread and one sequence, PyTorch takes a slow path for small kernels, whose output is
  also in another memory order, so that the sums after it are slow too;
- the fine tower is computed in pieces that stay in cache, and only around the positions asked for; the coarse one once a stretch;
- in-place sums and activations.

Bits of a position depend on the stretch alone, not on which other positions are asked for.

With ``dtype=torch.bfloat16`` convolutions read and write half the bits; sums, norms and all that is kept between blocks stay float32.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.pyramid import FIRST_POOL, NEXT_POOL, Model

PIECE = 8192  # bases of the fine tower at a time
_WORTH = 0.8  # share of a piece beyond which it is computed whole


class _Conv(NamedTuple):
    """A convolution along the last axis, "same" padding; weight (out, in, 1, taps) channels-last."""

    weight: Tensor
    bias: Tensor
    dilation: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Return the convolution of x in the weights' dtype."""
        x = x.to(self.weight.dtype)
        padding, dilation = [0, self.dilation * (self.weight.shape[-1] // 2)], [1, self.dilation]
        if torch.backends.mkldnn.is_available():
            return torch.mkldnn_convolution(x, self.weight, self.bias, padding, [1, 1], dilation, 1)
        return F.conv2d(x, self.weight, self.bias, 1, padding, dilation)


class _Affine(NamedTuple):
    """A norm with fixed statistics: scale and shift a channel, (1, D, 1, 1)."""

    scale: Tensor
    shift: Tensor

    def relu(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale).relu_()


class _Block(NamedTuple):
    norm: _Affine
    wide: _Conv
    narrow: _Conv

    def add_to(self, x: Tensor) -> Tensor:
        return x.add_(self.narrow(self.wide(self.norm.relu(x)).relu_()))


class _Member(NamedTuple):
    stem: _Conv
    fine: tuple[_Block, ...]
    norm: _Affine
    coarse_stem: _Conv
    coarse_second: _Conv
    levels: tuple[tuple[_Block, ...], ...]
    down: tuple[_Conv, ...]
    up_norms: tuple[_Affine, ...]
    up: tuple[_Conv, ...]


def fast_pyramid(backbone: object, device: torch.device, dtype: torch.dtype = torch.float32) -> "FastPyramid | None":
    """Return the fast form of a backbone, None where there is none: another family or device, another precision, or adapters in it."""
    if not isinstance(backbone, Model) or device.type != "cpu" or next(backbone.parameters()).dtype != torch.float32:
        return None
    if any("Conv" in type(module).__name__ and type(module) is not nn.Conv2d for module in backbone.modules()):
        return None
    return FastPyramid(backbone, dtype)


class FastPyramid:
    """A `pyramid.Model` made ready once for many stretches; its weights are copied, so it must not be trained further."""

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32) -> None:
        self.config, self.reach, self.width = model.config, model.reach, model.width
        with torch.inference_mode():
            self._members = [_convs_in(_member(member), dtype) for member in model.members]

    def coarse(self, embedded: Tensor) -> list[Tensor]:
        """Return each member's coarse states (1, D, 1, T / 16) of a stretch (1, T, C): what `context` and `states` read."""
        x = self._image(embedded)
        return [self._coarse(member, x) for member in self._members]

    def context(self, coarse: list[Tensor], positions: Tensor) -> Tensor:
        """Return the coarse states (N, members * D) of the cells of 16 bases that hold `positions`, counted as in `states`."""
        cells = (positions + self.reach) // FIRST_POOL
        return torch.cat([_rows(states)[cells] for states in coarse], dim=1)

    def states(self, embedded: Tensor, positions: Tensor, coarse: list[Tensor] | None = None) -> Tensor:
        """Return hidden states float32 (N, D) at `positions` int64 (N,), counted behind the first `reach` bases of (1, T, C).

        `coarse` is what `coarse(embedded)` said, where it is known already.
        """
        config, length = self.config, embedded.shape[1] - 2 * self.reach
        x = self._image(embedded)
        coarse = [self._coarse(member, x) for member in self._members] if coarse is None else coarse
        answer = torch.empty(len(positions), self.width)
        for asked, at, index in _stretches(positions, length, config.fine_reach):
            bases = self.reach + index
            stretch = x[..., bases].contiguous(memory_format=torch.channels_last)
            for number, (member, states) in enumerate(zip(self._members, coarse, strict=True)):
                columns = slice(number * config.width, (number + 1) * config.width)
                answer[asked, columns] = self._fine(member, stretch, _between(states, bases), at)
        return answer

    def _image(self, embedded: Tensor) -> Tensor:
        """Return (1, C, 1, T), channels-last, filled up to whole cells of the grid."""
        x = F.pad(embedded, (0, 0, 0, -embedded.shape[1] % self.config.grid))
        return x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)

    def _fine(self, member: _Member, x: Tensor, context: Tensor, at: Tensor) -> Tensor:
        """Return states (N, width) at the places `at` of x (1, C, 1, L), `fine_reach` or more from its ends; context (1, D, 1, L)."""
        config = self.config
        fine = member.stem(x).float()
        for number, block in enumerate(member.fine):
            fine = block.add_to(fine.add_(context) if number == config.join else fine)
        rows = _rows(member.norm.relu(fine))
        if not config.spread:
            return rows[at]
        still = config.width - config.width // 2
        around = _running_max(rows[:, still:].contiguous(), 2 * config.spread + 1)
        return torch.cat([rows[at, :still], around[at - config.spread]], dim=1)

    def _coarse(self, member: _Member, x: Tensor) -> Tensor:
        """Return the coarse tower's states (1, D, 1, T / 16)."""
        x = _images(_rows(member.coarse_stem(x).relu_().float()).unflatten(0, (-1, NEXT_POOL)).amax(1))
        x = F.avg_pool2d(member.coarse_second(x).relu_().float(), (1, FIRST_POOL // NEXT_POOL))
        states = []
        for level, blocks in enumerate(member.levels):
            if level:
                x = member.down[level - 1](F.avg_pool2d(x, (1, NEXT_POOL))).float()
            for block in blocks:
                x = block.add_to(x)
            states.append(member.up[level](member.up_norms[level].relu(x)).float())
        total = states.pop()
        while states:
            total = states.pop().add_(_stretch(total, NEXT_POOL))
        return total


def _convs_in(weights: Any, dtype: torch.dtype) -> Any:
    """Return a member's weights, nested as they are, with those of every convolution in `dtype`."""
    if isinstance(weights, _Conv):
        return _Conv(weights.weight.to(dtype), weights.bias.to(dtype), weights.dilation)
    if not isinstance(weights, tuple) or isinstance(weights, _Affine):
        return weights
    parts = (_convs_in(part, dtype) for part in weights)
    return type(weights)(*parts) if hasattr(weights, "_fields") else tuple(parts)


def _rows(x: Tensor) -> Tensor:
    """Return x (1, D, 1, L), channels-last, as (L, D) without a copy."""
    return x.permute(0, 2, 3, 1)[0, 0]


def _images(rows: Tensor) -> Tensor:
    """Return rows (L, D) as (1, D, 1, L), channels-last, without a copy."""
    return rows[None, None].permute(0, 3, 1, 2)


def _running_max(rows: Tensor, width: int) -> Tensor:
    """Return (L - width + 1, D): the maximum of every `width` neighbours, by doubling."""
    have = 1
    while have < width:
        step = min(have, width - have)
        rows = torch.maximum(rows[: len(rows) - step], rows[step:])
        have += step
    return rows


def _stretches(positions: Tensor, length: int, margin: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (which of `positions`, where they stand in `index`, index int64 (L,)): the bases the fine tower must see, piece by piece.

    Bases of stretches apart stand end to end: every position has its own `margin` bases on both sides, so that what a convolution mixes
    over a seam is never read. Where little would be saved a whole piece is one stretch.
    """
    order = torch.argsort(positions)
    ordered = positions[order]
    for number in (ordered // PIECE).unique().tolist():
        inside = torch.nonzero(ordered // PIECE == number)[:, 0]
        here = ordered[inside]
        fresh = torch.cat([here.new_ones(1, dtype=torch.bool), here.diff() > 2 * margin + 1])
        starts = here[fresh] - margin
        ends = here[torch.cat([fresh[1:], fresh[:1]])] + margin + 1
        first, last = number * PIECE - margin, min((number + 1) * PIECE, length) + margin
        if int((ends - starts).sum()) > _WORTH * (last - first):
            starts, ends = here.new_tensor([first]), here.new_tensor([last])
        sizes = ends - starts
        before = sizes.cumsum(0) - sizes
        index = torch.arange(int(sizes.sum())) + (starts - before).repeat_interleave(sizes)
        mine = torch.searchsorted(starts, here, right=True) - 1
        yield order[inside], here - starts[mine] + before[mine], index


def _stretch(x: Tensor, factor: int) -> Tensor:
    """Return (1, D, 1, factor * L) for x (1, D, 1, L): linear between the centers of its positions, constant beyond the outer ones."""
    rows = _rows(x)
    rows = torch.cat([rows[:1], rows, rows[-1:]])
    weight = (torch.arange(factor, dtype=rows.dtype) + 0.5) / factor
    between = torch.lerp(rows[:-1, None], rows[1:, None], weight[None, :, None]).flatten(0, 1)  # ((L + 1) * factor, D)
    return _images(between[factor // 2 : len(between) - factor // 2])


def _between(x: Tensor, bases: Tensor) -> Tensor:
    """Return (1, D, 1, N): ``_stretch(x, FIRST_POOL)`` at `bases` int64 (N,)."""
    rows = _rows(x)
    rows = torch.cat([rows[:1], rows, rows[-1:]])
    shifted = bases + FIRST_POOL // 2
    cell, weight = shifted // FIRST_POOL, (shifted % FIRST_POOL + 0.5) / FIRST_POOL
    return _images(torch.lerp(rows[cell], rows[cell + 1], weight[:, None]))


def _member(source: nn.Module) -> _Member:
    """Return the weights of a pyramid's member, norms folded; names as there."""
    coarse = source.coarse
    return _Member(
        stem=_conv(source.stem),
        fine=tuple(map(_block, source.fine)),  # type: ignore[arg-type]
        norm=_affine(source.norm),
        coarse_stem=_conv(coarse.stem, coarse.stem_norm),  # type: ignore[union-attr]
        coarse_second=_conv(coarse.second, coarse.second_norm),  # type: ignore[union-attr]
        levels=tuple(tuple(map(_block, blocks)) for blocks in coarse.levels),  # type: ignore[union-attr]
        down=tuple(map(_conv, coarse.down)),  # type: ignore[union-attr, arg-type]
        up_norms=tuple(map(_affine, coarse.up_norms)),  # type: ignore[union-attr, arg-type]
        up=tuple(map(_conv, coarse.up)),  # type: ignore[union-attr, arg-type]
    )


def _block(source: nn.Module) -> _Block:
    return _Block(_affine(source.first_norm), _conv(source.wide, source.norm), _conv(source.narrow))


def _affine(norm: object) -> _Affine:
    scale, shift = _scale_shift(norm)
    return _Affine(scale[None, :, None, None].clone(), shift[None, :, None, None].clone())


def _scale_shift(norm: object) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, nn.BatchNorm2d)
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    return scale, norm.bias - cast(Tensor, norm.running_mean) * scale


def _conv(conv: object, norm: object | None = None) -> _Conv:
    assert isinstance(conv, nn.Conv2d)
    weight, bias = conv.weight, torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    if norm is not None:
        scale, shift = _scale_shift(norm)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    return _Conv(weight.clone(memory_format=torch.channels_last), bias.clone(), conv.dilation[1])
