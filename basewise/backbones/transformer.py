"""What the three transformers truly share: attention in two ways with one answer, running layers, and the masked-language head.

An attention bias (added to the scores before softmax) carries padding and, for DNABERT-2, distance: (B, 1, 1, T) or (B, H, T, T), or None.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from basewise.errors import BasewiseError

MASKED = (
    -30000.0
)  # underflows to a probability of exactly 0 in float32, bfloat16 and float16, and a row of nothing but padding stays finite


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return (B, 1, 1, T): 0 at tokens and MASKED at padding; None where there is no padding, so that the fastest kernel is used."""
    if mask.all():
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, MASKED)[:, None, None, :]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, H, T, D / H) for x (B, T, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float, weights: list[Tensor] | None) -> Tensor:
    """Return (B, T, D) for query, key and value (B, H, T, D / H), scores divided by the square root of D / H.

    Without `weights` the fused kernel runs; with a list, the same numbers are computed step by step and the probabilities
    (B, H, T, T) are appended to it.
    """
    if bias is not None:
        bias = bias.to(query.dtype)
    if weights is None:
        answer = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    else:
        scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
        probabilities = (scores if bias is None else scores + bias).softmax(-1)
        weights.append(probabilities)
        answer = F.dropout(probabilities, dropout, training=dropout > 0) @ value
    return answer.transpose(1, 2).flatten(2)


def rotate(x: Tensor) -> Tensor:
    """Return x (B, H, T, d) turned by its position: pairs (i, i + d / 2), frequencies 10000 ** (-2 i / d); angles in float32.

    Nothing is cached: a table made in inference mode could never meet autograd later.

    Source: Su et al. 2021, arXiv:2104.09864, in the half-split order of the ESM family.
    """
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = 1.0 / 10000.0 ** (torch.arange(half, device=x.device).float() / half)
    angle = torch.arange(T, device=x.device).float()[:, None] * frequency  # (T, d / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections, of GENA-LM and the Nucleotide Transformer; `rotary` turns queries and keys."""

    def __init__(self, width: int, heads: int, dropout: float, *, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None, weights: list[Tensor] | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D); see `attend` for `bias` and `weights`."""
        query, key, value = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        if self.rotary:
            query, key = rotate(query), rotate(key)
        answer: Tensor = self.output(attend(query, key, value, bias, self.dropout if self.training else 0.0, weights))
        return answer


class MaskedLmHead(nn.Module):
    """Dense, exact GELU, layer norm, decoder with a bias: logits over the vocabulary. Tied: the word embeddings are the decoder."""

    def __init__(self, width: int, vocabulary: int, eps: float, *, tied: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = None if tied else nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Return logits (B, T, V) for hidden (B, T, D) and the word embeddings (V, D)."""
        decoder = words if self.decoder is None else self.decoder.weight
        return F.linear(self.norm(F.gelu(self.dense(hidden))), decoder, self.bias)


class Layer(Protocol):
    """One layer of a transformer."""

    def __call__(self, x: Tensor, bias: Tensor | None, weights: list[Tensor] | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        ...


def run_layers(
    layers: Iterable[Any], x: Tensor, bias: Tensor | None, *, checkpointing: bool = False, collect: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the output of the last layer and, with `collect`, of every layer; `checkpointing` recomputes them in the backward pass."""
    outputs = []
    for layer in layers:
        x = checkpoint(layer, x, bias, use_reentrant=False) if checkpointing else layer(x, bias)
        if collect:
            outputs.append(x)
    return x, tuple(outputs)


def all_attentions(layers: Iterable[Any], x: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Return the attention probabilities (B, H, T, T) of every layer, computed step by step."""
    weights: list[Tensor] = []
    for layer in layers:
        x = layer(x, bias, weights)
    return tuple(weights)


def initialize(module: nn.Module, std: float) -> None:
    """Give linear layers and embeddings normal weights of `std` and zero biases, as all three families were started."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def lm_logits(head: MaskedLmHead | None, hidden: Tensor, words: nn.Embedding) -> Tensor:
    """Return masked-language logits (B, T, V); BasewiseError where the checkpoint had no such head."""
    if head is None:
        raise BasewiseError("this backbone was loaded from a checkpoint without a masked-language head; take the pretraining checkpoint")
    logits: Tensor = head(hidden, words.weight)
    return logits


def positions_of(is_token: Tensor) -> Tensor:
    """Return (B, T) int64, 0 for the first token of each row, 1 for the next ...; padding on either side shifts nothing."""
    return ((is_token.long().cumsum(1) - 1) * is_token).clamp_min(0)


def check_length(longest: int, limit: int, family: str) -> None:
    """Raise BasewiseError when a row has more tokens than there are learned positions."""
    if longest > limit:
        raise BasewiseError(f"a sequence of {longest} tokens, but this {family} has positions for {limit}; cut it into shorter windows")
