"""Our own wide backbone: a fine tower that sees single bases and a coarse tower that sees thousands, one token a base.

    input (B, L, C) ─┬─── fine: stem, dilated residual blocks at 1 bp ──────────────(+)── more blocks ── norm, act ── hidden (B, L, D)
                     └─── coarse: stem, pooled to 16 bp, 64 bp, 256 bp ..., dilated ─┘
                          residual blocks at every level, upsampled and summed

The input is the bases, one-hot, and the scores of the published rules the network is told of.

At the end half of the channels are spread: replaced by their maximum over `spread` bases on either side.

The coarse tower makes 11 kb of context cost about as much as 300 bp do in the fine one. The price: pooling cuts the sequence on a
`grid` (256 bp with three levels) anchored at its first base, so a hidden state depends on the `reach` bases on either side and, slightly,
on where the grid lies; whoever encodes stretches of a contig starts them at multiples of `grid` and gets one answer everywhere.
Beyond the ends of a sequence is N, as in `convnet`.
"""

from itertools import pairwise
from typing import Annotated, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.convnet import OddKernel
from basewise.backbones.rules import Channels, Rule, reach_of

FIRST_POOL = 16  # bases a position of the finest coarse level
NEXT_POOL = 4  # positions of a level a position of the next
_COARSE_STEM = 32  # channels of the coarse tower before its first pooling

Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Shape of the network; `reach` and `grid` follow from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Positive = 48
    stem_kernel: OddKernel = 15
    kernel: OddKernel = 5
    dilations: tuple[Positive, ...] = (1, 2, 4, 8, 16, 32)
    join: Annotated[int, Field(ge=0)] = 4  # the coarse tower is added before this fine block
    coarse_widths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (64, 96, 96)  # one a level
    coarse_dilations: tuple[Positive, ...] = (1, 2, 4, 8)  # kernel 3
    spread: Annotated[int, Field(ge=0)] = 24  # half the channels are the maximum over so many bases on either side: cleavage is imprecise
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of whole channels, within blocks
    rules: tuple[Rule, ...] = ()  # their scores are further input channels
    members: Positive = 1  # networks of this shape side by side, trained apart

    @property
    def grid(self) -> int:
        """Bases a position of the coarsest level."""
        return int(FIRST_POOL * NEXT_POOL ** (len(self.coarse_widths) - 1))

    @property
    def fine_reach(self) -> int:
        """Bases on either side that the fine tower sees by itself."""
        return self.stem_kernel // 2 + sum(self.kernel // 2 * d for d in self.dilations) + self.spread

    @property
    def reach(self) -> int:
        """Bases on either side that a hidden state may depend on, rounded up to a multiple of the grid."""
        levels = sum(FIRST_POOL * NEXT_POOL**level for level in range(len(self.coarse_widths)))
        coarse = sum(self.coarse_dilations) * levels + 2 * self.grid  # + the position itself and its neighbour in the interpolation
        return -(-(max(coarse, self.fine_reach) + reach_of(self.rules)) // self.grid) * self.grid


class Model(nn.Module):
    """The network. Attributes of the Backbone contract, `reach` and `grid`; the hidden states of its members stand side by side."""

    family = "pyramid"
    max_tokens: int | None = None
    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width, self.reach, self.grid = config.members * config.width, config.reach, config.grid
        self.channels = Channels(config.rules)
        self.members = nn.ModuleList(_Member(config) for _ in range(config.members))

    def embed(self, ids: Tensor) -> Tensor:
        """Return the input (B, T, C), `rules.Channels`."""
        return self.channels.embed(ids).to(next(self.parameters()).dtype)

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (B, T, D) for embeddings (B, T, C); positions where `mask` (B, T) is False are read as N."""
        return self.encode_valid(F.pad(embedded * mask[..., None], (0, 0, self.reach, self.reach)))

    def encode_valid(self, embedded: Tensor) -> Tensor:
        """Return hidden states (B, T - 2 * reach, D) of the bases of (B, T, C) that have `reach` bases on both sides.

        The grid starts at the first base given.
        """
        length = embedded.shape[1] - 2 * self.reach
        x = F.pad(embedded, (0, 0, 0, -embedded.shape[1] % self.grid))  # to a whole number of grid cells
        x = x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (B, C, 1, L)
        hidden = torch.cat([member(x, length) for member in self.members], dim=1)  # (B, D, 1, T - 2 * reach)
        return hidden.squeeze(2).transpose(1, 2)


class _Member(nn.Module):
    """One fine and one coarse tower: (B, C, 1, L) -> (B, width, 1, length), the states of the bases behind the first `reach`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(4 + len(config.rules), config.width, (1, config.stem_kernel), padding=(0, config.stem_kernel // 2))
        self.fine = nn.ModuleList(_Block(config.width, config.kernel, d, config.dropout) for d in config.dilations)
        self.coarse = _Coarse(config)
        self.norm = nn.BatchNorm2d(config.width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, length: int) -> Tensor:
        config = self.config
        start, margin = config.reach, config.fine_reach
        fine = self.stem(x[..., start - margin : start + length + margin])
        context = _interpolated(self.coarse(x), start - margin, fine.shape[-1])
        for number, block in enumerate(self.fine):
            fine = block(fine + context if number == config.join else fine)
        inner = margin - config.spread
        hidden = F.relu(self.norm(fine[..., inner : fine.shape[-1] - inner]))
        if not config.spread:
            return hidden
        here, around = hidden.split(config.width - config.width // 2, dim=1)
        around = F.max_pool2d(around, (1, 2 * config.spread + 1), stride=1)
        return torch.cat([here[..., config.spread : hidden.shape[-1] - config.spread], around], dim=1)


def _interpolated(coarse: Tensor, start: int, length: int) -> Tensor:
    """Return bases [start, start + length) of the coarse states (B, D, 1, L / 16), interpolated linearly."""
    low = start // FIRST_POOL - 1
    high = -(-(start + length) // FIRST_POOL) + 1
    return _stretch(coarse[..., low:high], FIRST_POOL)[..., start - low * FIRST_POOL :][..., :length]


class _Coarse(nn.Module):
    """(B, C, 1, L) -> (B, D, 1, L / 16): every level's states, brought to the first level and summed."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.coarse_widths
        self.stem = nn.Conv2d(4 + len(config.rules), _COARSE_STEM, (1, 11), padding=(0, 5), bias=False)
        self.stem_norm = nn.BatchNorm2d(_COARSE_STEM)
        self.second = nn.Conv2d(_COARSE_STEM, widths[0], (1, 5), padding=(0, 2), bias=False)
        self.second_norm = nn.BatchNorm2d(widths[0])
        self.levels = nn.ModuleList(
            nn.ModuleList(_Block(width, 3, dilation, config.dropout) for dilation in config.coarse_dilations) for width in widths
        )
        self.down = nn.ModuleList(nn.Conv2d(width, wider, 1) for width, wider in pairwise(widths))
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.up = nn.ModuleList(nn.Conv2d(width, config.width, 1) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(_conv_norm(self.stem, self.stem_norm, x)), (1, NEXT_POOL))
        x = F.avg_pool2d(F.relu(_conv_norm(self.second, self.second_norm, x)), (1, FIRST_POOL // NEXT_POOL))
        states = []
        for level, blocks in enumerate(self.levels):
            if level:
                x = self.down[level - 1](F.avg_pool2d(x, (1, NEXT_POOL)))
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
            states.append(self.up[level](F.relu(self.up_norms[level](x))))
        total: Tensor = states.pop()
        while states:
            total = states.pop() + _stretch(total, NEXT_POOL)
        return total


class _Block(nn.Module):
    """x + narrow(dropout(relu(norm(wide(relu(norm(x))))))): a dilated convolution, then one of a single tap."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(width)
        self.wide = nn.Conv2d(width, width, (1, kernel), dilation=(1, dilation), padding=(0, dilation * (kernel // 2)), bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.narrow = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.narrow(self.dropout(F.relu(_conv_norm(self.wide, self.norm, F.relu(self.first_norm(x))))))
        return x + changed


def _conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return norm(conv(x)); outside training as one convolution with folded weights."""
    if norm.training or type(conv) is not nn.Conv2d:  # an adapter may have wrapped the convolution
        normed: Tensor = norm(conv(x))
        return normed
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    shift = norm.bias - cast(Tensor, norm.running_mean) * scale
    return F.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding, conv.dilation)


def _stretch(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=(1.0, float(factor)), mode="bilinear", align_corners=False)
