"""The Nucleotide Transformer, versions 1 and 2: encoders of the ESM kind over non-overlapping 6-mers.

    ids (B, T) -> words [v1: scaled, + learned positions], zeros at padding
    -> n x [ x + attention(LN(x)); x + MLP(LN(x)) ] -> LN -> hidden (B, T, D)

What to know before touching it:
- v1 scales the embeddings by (1 - 0.12) / (1 - share of <mask> in the row) after zeroing <mask>, in evaluation too: 0.88 for a row
  without <mask>;
- v1 positions start at 2 for the first token and skip padding (1 is the position of padding);
- v2 turns queries and keys by position (rotary), its MLP is `outer(silu(a) * b)` without biases, and its table of positions is never used;
- GELU (v1) is exact; hidden states of padding are zeros.

Licence: the published weights are CC BY-NC-SA 4.0, for non-commercial use only. This code was written from the published description.
Source: Dalla-Torre et al. 2025, doi:10.1038/s41592-024-02523-z.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, overload

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.configs import parse_config
from basewise.backbones.official import LmHead, lm_head_form, pick, rename
from basewise.backbones.transformer import (
    MaskedLmHead,
    SelfAttention,
    all_attentions,
    check_length,
    initialize,
    lm_logits,
    padding_bias,
    positions_of,
    run_layers,
)
from basewise.errors import BasewiseError

LICENCE = "Nucleotide Transformer: the published weights are CC BY-NC-SA 4.0, for NON-COMMERCIAL use only, also models trained from them"

logger = logging.getLogger(__name__)

FIRST_POSITION = 2
MASK_SHARE = 0.15 * 0.8  # share of tokens that were <mask> in pretraining: the embeddings are scaled as if that were so

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Shape of a Nucleotide Transformer.

    ``positions`` "learned" and ``token_dropout`` make a v1, "rotary" and ``gated`` a v2.
    ``max_position_embeddings`` counts two rows that no token uses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: Positive
    hidden_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    intermediate_size: Positive
    max_position_embeddings: Annotated[int, Field(ge=3)]
    positions: Literal["learned", "rotary"]
    token_dropout: bool
    gated: bool
    pad_token_id: Annotated[int, Field(ge=0)] = 1
    mask_token_id: Annotated[int, Field(ge=0)] = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0
    initializer_range: float = 0.02
    lm_head: LmHead = "separate"


class Model(nn.Module):
    """The backbone, with `lm_logits` for masked k-mers. Set `gradient_checkpointing` to trade time for memory in training."""

    family = "nucleotide_transformer"
    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        _show_licence()
        self.config = config
        self.width = config.hidden_size
        self.max_tokens: int | None = config.max_position_embeddings - FIRST_POSITION
        self.gradient_checkpointing = False
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size) if learned else None
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        tied = config.lm_head == "tied"
        self.lm_head = None if config.lm_head == "none" else MaskedLmHead(self.width, config.vocab_size, config.layer_norm_eps, tied=tied)
        initialize(self, config.initializer_range)

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (B, T, D) for ids (B, T); raises BasewiseError for a v1 row of more tokens than positions."""
        is_token = ids != self.config.pad_token_id
        embedded: Tensor = self.words(ids)
        if self.config.token_dropout:
            is_mask = (ids == self.config.mask_token_id) & is_token
            share = is_mask.sum(1) / is_token.sum(1).clamp_min(1)  # (B,)
            scale = ((1 - MASK_SHARE) / (1 - share)).to(embedded.dtype)
            embedded = embedded.masked_fill(is_mask[..., None], 0.0) * scale[:, None, None]
        if self.positions is not None:
            places = positions_of(is_token)
            if ids.shape[1] > self.config.max_position_embeddings - FIRST_POSITION:
                check_length(int(places.max()) + 1, self.config.max_position_embeddings - FIRST_POSITION, "Nucleotide Transformer")
            embedded = embedded + self.positions(places + FIRST_POSITION)
        return embedded * is_token[..., None]

    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[False] = False) -> Tensor: ...
    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[True]) -> tuple[Tensor, tuple[Tensor, ...]]: ...
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: bool = False) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Return hidden states (B, T, D), zeros at padding; with `layers` also the output of every layer, before the last norm."""
        bias = padding_bias(mask, embedded.dtype)
        checkpointing = self.gradient_checkpointing and self.training
        hidden, outputs = run_layers(self.layers, embedded, bias, checkpointing=checkpointing, collect=layers)
        hidden = self.norm(hidden) * mask[..., None]
        return (hidden, tuple(x * mask[..., None] for x in outputs)) if layers else hidden

    def attentions(self, embedded: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the attention probabilities (B, H, T, T) of every layer; rows of padding mean nothing."""
        return all_attentions(self.layers, embedded, padding_bias(mask, embedded.dtype))

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Return masked-language logits (B, T, V) for hidden states (B, T, D)."""
        return lm_logits(self.lm_head, hidden, self.words)


@cache
def _show_licence() -> None:
    """Say once a process what the licence asks for."""
    logger.warning(LICENCE)


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        d, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        rotary = config.positions == "rotary"
        self.gated = config.gated
        self.attention_norm = nn.LayerNorm(d, eps=eps)
        self.attention = SelfAttention(d, config.num_attention_heads, config.attention_probs_dropout_prob, rotary=rotary)
        self.mlp_norm = nn.LayerNorm(d, eps=eps)
        first = nn.Linear(d, 2 * inner, bias=False) if config.gated else nn.Linear(d, inner)
        self.mlp = nn.ModuleDict({"inner": first, "outer": nn.Linear(inner, d, bias=not config.gated)})
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor | None, weights: list[Tensor] | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), bias, weights))
        inner = self.mlp["inner"](self.mlp_norm(x))
        if self.gated:
            gate, content = inner.chunk(2, dim=-1)
            inner = F.silu(gate) * content
        else:
            inner = F.gelu(inner)
        return x + self.dropout(self.mlp["outer"](inner))


NAMES = {
    r"(?:esm\.)?embeddings\.word_embeddings\.": "words.",
    r"(?:esm\.)?embeddings\.position_embeddings\.": "positions.",
    r"(?:esm\.)?embeddings\.position_ids$": "",  # 0, 1, 2 ...
    r"(?:esm\.)?encoder\.layer\.\d+\.attention\.self\.rotary_embeddings\.inv_freq$": "",  # computed; checked in rename_official
    r"(?:esm\.)?contact_head\.regression\.(?:weight|bias)$": "",  # of the protein model this architecture comes from; untrained
    r"(?:esm\.)?encoder\.layer\.(\d+)\.attention\.self\.": r"layers.\1.attention.",
    r"(?:esm\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.output.",
    r"(?:esm\.)?encoder\.layer\.(\d+)\.attention\.LayerNorm\.": r"layers.\1.attention_norm.",
    r"(?:esm\.)?encoder\.layer\.(\d+)\.LayerNorm\.": r"layers.\1.mlp_norm.",
    r"(?:esm\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.inner.",
    r"(?:esm\.)?encoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.outer.",
    r"(?:esm\.)?encoder\.emb_layer_norm_after\.": "norm.",
    r"lm_head\.dense\.": "lm_head.dense.",
    r"lm_head\.layer_norm\.": "lm_head.norm.",
    r"lm_head\.decoder\.": "lm_head.decoder.",
    r"lm_head\.bias$": "lm_head.bias",
    r"classifier\.dense\.": "head.dense.",
    r"classifier\.out_proj\.": "head.linear.",
}


def from_official(values: Mapping[str, Any], state: Mapping[str, Tensor]) -> Config:
    """Return the Config for a published config.json; which heads there are and whether the MLP is gated, the weights decide."""
    source = "Nucleotide Transformer config.json"
    must = {"emb_layer_norm_before": False, "is_folding_model": False}
    chosen = pick(Config, values, must=must, source=source)
    kinds = {"absolute": "learned", "rotary": "rotary"}
    kind = values.get("position_embedding_type", "absolute")
    if kind not in kinds:
        raise BasewiseError(f"{source}: position_embedding_type = {kind!r}, expected absolute (v1) or rotary (v2)")
    renamed = rename(state, NAMES)
    inner = renamed.get("layers.0.mlp.inner.weight")
    gated = inner is not None and inner.shape[0] == 2 * int(values.get("intermediate_size", 0))
    return parse_config(
        Config,
        {
            **chosen,
            "positions": kinds[kind],
            "token_dropout": values.get("token_dropout", False),
            "gated": gated,
            "lm_head": lm_head_form(renamed),
        },
        source,
    )


def rename_official(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return `state` under our names; a published classification head becomes head.dense.* and head.linear.*.

    Left out, being unused: position_ids, the contact head, v2's table of positions, and inv_freq, which must hold the known frequencies.
    Unknown names are kept, to be refused.
    """
    half = config.hidden_size // config.num_attention_heads // 2
    expected = 1.0 / 10000.0 ** (torch.arange(half).float() / half)
    for name, tensor in state.items():
        known = tensor.shape == expected.shape and torch.allclose(tensor.float(), expected, rtol=1e-2)  # may be stored in half precision
        if name.endswith("rotary_embeddings.inv_freq") and not known:
            raise BasewiseError(f"{name} of these weights holds other frequencies than base 10000 gives; take the published file")
    drop = [] if config.positions == "learned" else ["positions.weight"]
    return rename(state, NAMES, drop=drop + (["lm_head.decoder.weight"] if config.lm_head == "tied" else []))
