"""Heads: from the hidden states of tokens to logits a sequence, a base or a group of sequences.

Every head takes ``hidden`` (B, T, D) and the `Tokens` they came from. Special tokens and padding never count as bases.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from basewise.backbones.base import Tokens
from basewise.errors import BasewiseError, did_you_mean

Pool = Literal["mean", "last", "cls", "center", "official", "official-pool"]
Predictor = Literal["linear", "electra"]


def base_tokens(tokens: Tokens) -> Tensor:
    """Return (B, T) bool, True at tokens that cover at least one base."""
    return tokens.mask & (tokens.spans[..., 1] > tokens.spans[..., 0])


def base_counts(tokens: Tokens) -> Tensor:
    """Return (B,) int64, the number of bases each row covers."""
    return tokens.spans[..., 1].amax(dim=1).long() if tokens.ids.shape[1] else tokens.ids.new_zeros(tokens.ids.shape[0])


def token_of_base(tokens: Tokens) -> Tensor:
    """Return (B, L) int64: the index of the token that covers each base, L the longest row; -1 beyond the end of a row.

    Relies on the tokenizers' promise that spans are sorted, disjoint and tile the sequence.
    """
    B, T = tokens.ids.shape
    lengths = base_counts(tokens)
    L = int(lengths.max()) if B else 0
    if not L:
        return tokens.ids.new_full((B, 0), -1)
    starts = torch.where(base_tokens(tokens), tokens.spans[..., 0].long(), L)  # L = a bin thrown away below
    index = torch.arange(T, device=tokens.ids.device).expand(B, T)
    first = tokens.ids.new_zeros((B, L + 1)).scatter_(1, starts, index)[:, :L]  # (B, L) token index at the first base of each token
    covered = torch.arange(L, device=tokens.ids.device) < lengths[:, None]
    return torch.where(covered, first.cummax(dim=1).values, -1)


def mirror_tokens(tokens: Tokens) -> Tensor:
    """Return (B, T): for a base the index of its mirror image in its sequence, for every other token its own index."""
    is_base = base_tokens(tokens)
    T = is_base.shape[1]
    position = torch.arange(T, device=is_base.device).expand_as(is_base)
    first = is_base.int().argmax(1, keepdim=True)
    last = T - 1 - is_base.flip(1).int().argmax(1, keepdim=True)
    return torch.where(is_base, first + last - position, position)


def center_token(tokens: Tokens) -> Tensor:
    """Return (B,) int64: the index of the token that covers base ``length // 2``; 0 for a row without bases."""
    center = base_counts(tokens)[:, None] // 2  # (B, 1)
    return ((tokens.spans[..., 0] <= center) & (center < tokens.spans[..., 1])).int().argmax(1)


def pool_hidden(hidden: Tensor, tokens: Tokens, pool: str) -> Tensor:
    """Return (B, D), one vector a row.

    mean
        Over bases: a token counts once for each base it covers. A row without bases gives zeros.
    last, cls
        The last or first token of the row, special tokens included.
    center
        The token that covers base ``length // 2``; a row without bases gives zeros.
    official, official-pool
        HyenaDNA's two published rules: the token before the first [PAD] (the last position where there is none or it comes first), and the
        mean over all tokens, special ones included.
    """
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    T = hidden.shape[1]
    if pool == "mean":
        return _weighted_mean(hidden, (tokens.spans[..., 1] - tokens.spans[..., 0]) * tokens.mask)
    if pool == "official-pool":
        return _weighted_mean(hidden, tokens.mask)
    if pool == "last":
        return hidden[rows, T - 1 - tokens.mask.flip(1).int().argmax(1)]
    if pool == "cls":
        return hidden[rows, tokens.mask.int().argmax(1)]
    if pool == "center":
        return hidden[rows, center_token(tokens)] * base_tokens(tokens).any(1, keepdim=True)
    if pool == "official":
        return hidden[rows, ((tokens.ids == 4).int().argmax(1) - 1) % T]  # 4 = [PAD]; argmax of no pad at all is 0
    raise BasewiseError(f"unknown pool {pool!r}; known: {', '.join(get_args(Pool))}.{did_you_mean(pool, get_args(Pool))}")


class SequenceHead(nn.Module):
    """Pool the hidden states of a row (see `pool_hidden`), dropout, one linear layer: logits (B, C).

    ``official`` has no bias, as published; every other pool has one.
    """

    def __init__(self, width: int, classes: int, pool: str = "mean", dropout: float = 0.0) -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise BasewiseError(f"unknown pool {pool!r}; known: {', '.join(get_args(Pool))}.{did_you_mean(pool, get_args(Pool))}")
        self.pool = pool
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes, bias=pool != "official")

    def forward(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        """Return logits (B, C) for hidden (B, T, D)."""
        return self.score(pool_hidden(hidden, tokens, self.pool))

    def score(self, pooled: Tensor) -> Tensor:
        """Return logits (..., C) for vectors (..., D) that are pooled already."""
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits


class PoolerHead(nn.Module):
    """The published fine-tuning head of the BERT families: first token, dense, tanh, dropout, linear.

    DNABERT-2 and GENA-LM call the two layers ``bert.pooler.dense`` and ``classifier``, the Nucleotide Transformer ``classifier.dense`` and
    ``classifier.out_proj`` (with a dropout before the first as well, `input_dropout`).
    """

    def __init__(self, width: int, classes: int, dropout: float = 0.1, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(input_dropout)
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        """Return logits (B, C) for hidden (B, T, D)."""
        first = self.input_dropout(pool_hidden(hidden, tokens, "cls"))
        logits: Tensor = self.linear(self.dropout(torch.tanh(self.dense(first))))
        return logits


class BaseHead(nn.Module):
    """One score a base: dropout and a linear layer a token, then every base takes its token's logits.

    `predictor` "electra" puts a dense layer of the same width and GELU before the linear one, as ELECTRA-small's discriminator does.
    With `interpolate`, a base takes the linear interpolation between the centers of the two nearest tokens of its row
    (the same thing for tokens of one base). Bases beyond the end of a row get zeros: leave them out by their count.
    """

    def __init__(
        self, width: int, classes: int, dropout: float = 0.0, *, interpolate: bool = False, predictor: Predictor = "linear"
    ) -> None:
        super().__init__()
        self.interpolate = interpolate
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, width) if predictor == "electra" else None
        self.linear = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        """Return logits (B, L, C) for hidden (B, T, D), L the longest row in bases."""
        return self.spread(self.score(hidden), tokens)

    def score(self, hidden: Tensor) -> Tensor:
        """Return logits (..., C) a token for hidden (..., D)."""
        hidden = self.dropout(hidden)
        if self.dense is not None:
            hidden = nn.functional.gelu(self.dense(hidden))
        logits: Tensor = self.linear(hidden)
        return logits

    def spread(self, logits: Tensor, tokens: Tokens) -> Tensor:
        """Return (B, L, C) a base for logits (B, T, C) a token."""
        token = token_of_base(tokens)  # (B, L)
        inside = token >= 0
        token = token.clamp_min(0)
        here = _take(logits, token)
        if self.interpolate:
            centers = tokens.spans.to(logits.dtype).sum(-1) / 2  # (B, T)
            base = torch.arange(token.shape[1], device=token.device) + 0.5
            center = centers.gather(1, token)
            other = (token + torch.where(base < center, -1, 1)).clamp(0, logits.shape[1] - 1)
            other = torch.where(base_tokens(tokens).gather(1, other), other, token)  # none beyond the first and last token
            apart = (centers.gather(1, other) - center).abs()
            weight = torch.where(apart > 0, (base - center).abs() / apart.clamp_min(0.5), 0.0)[..., None]
            here = here * (1 - weight) + _take(logits, other) * weight
        return here * inside[..., None]


class GroupHead(nn.Module):
    """Chunks of one individual to logits: learned queries attend over chunk embeddings, their answers are concatenated, one linear layer.

    No positions: the order of the chunks changes nothing but rounding. Source: cross-attention of 4 learned queries, GENA-LM sex paper.
    """

    def __init__(self, width: int, classes: int, queries: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(queries, width).normal_(std=0.02))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(queries * width, classes)

    def forward(self, chunks: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, C) for chunk embeddings (B, N, D); `mask` (B, N) is False at chunks that are not there."""
        seen = None if mask is None else mask[:, None, :]  # (B, 1, N): the same for every query
        queries = self.queries.expand(chunks.shape[0], -1, -1)
        answers = nn.functional.scaled_dot_product_attention(queries, self.key(chunks), self.value(chunks), attn_mask=seen)
        logits: Tensor = self.linear(self.dropout(answers.flatten(1)))
        return logits


def _weighted_mean(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return (B, D), summed in float32 whatever the hidden states are stored in; rows of weight 0 give zeros."""
    weight = weight.float()  # (B, T)
    total = (weight[..., None] * hidden.float()).sum(1)
    return (total / weight.sum(1, keepdim=True).clamp_min(1)).to(hidden.dtype)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return (B, L, C): rows `index` (B, L) of values (B, T, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
