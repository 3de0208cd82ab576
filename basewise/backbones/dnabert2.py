"""DNABERT-2: a BERT encoder without positions; distance enters as a penalty on attention (symmetric ALiBi).

    ids (B, T) -> words + row 0 of the types -> LN -> n x [ x = LN(x + attention(x)); x = LN(x + gated MLP(x)) ] -> hidden (B, T, D)

What to know before touching it:
- norms come after the residual sum; there is no norm after the last layer;
- the MLP is `wo(gelu(a) * b)` with a, b the halves of one bias-free projection, GELU exact;
- any length runs (the 512 of the config is the size of a start buffer in the published code); the published numbers are those of the plain
  PyTorch path, the Triton path computes in half precision;
- the published checkpoint has no pooler: whoever uses one starts it at random;
- hidden states of padding are zeros, as published.

Source: Zhou et al. 2023, arXiv:2306.15006; ALiBi: Press et al. 2021, arXiv:2108.12409. Code and weights of the original: Apache-2.0.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, overload

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.configs import parse_config
from basewise.backbones.official import LmHead, lm_head_form, pick, rename
from basewise.backbones.transformer import MASKED, MaskedLmHead, all_attentions, attend, initialize, lm_logits, run_layers, split_heads

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Shape of a DNABERT-2; the defaults are those of the 117M checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: Positive = 4096
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    type_vocab_size: Positive = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.0
    initializer_range: float = 0.02
    lm_head: LmHead = "tied"


class Model(nn.Module):
    """The backbone, with `lm_logits` for masked bases. Set `gradient_checkpointing` to trade time for memory in training."""

    family = "dnabert2"
    causal = False
    max_tokens: int | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden_size
        self.gradient_checkpointing = False
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.types = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        tied = config.lm_head == "tied"
        self.lm_head = None if config.lm_head == "none" else MaskedLmHead(self.width, config.vocab_size, config.layer_norm_eps, tied=tied)
        initialize(self, config.initializer_range)

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (B, T, D) for ids (B, T)."""
        embedded: Tensor = self.dropout(self.norm(self.words(ids) + self.types.weight[0]))
        return embedded

    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[False] = False) -> Tensor: ...
    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[True]) -> tuple[Tensor, tuple[Tensor, ...]]: ...
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: bool = False) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Return hidden states (B, T, D), zeros at padding; with `layers` also the output of every layer, zeros there too."""
        bias = self._bias(mask, embedded.dtype)
        checkpointing = self.gradient_checkpointing and self.training
        hidden, outputs = run_layers(self.layers, embedded, bias, checkpointing=checkpointing, collect=layers)
        hidden = hidden * mask[..., None]
        return (hidden, tuple(x * mask[..., None] for x in outputs)) if layers else hidden

    def attentions(self, embedded: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the attention probabilities (B, H, T, T) of every layer; rows of padding mean nothing."""
        return all_attentions(self.layers, embedded, self._bias(mask, embedded.dtype))

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Return masked-language logits (B, T, V) for hidden states (B, T, D)."""
        return lm_logits(self.lm_head, hidden, self.words)

    def _bias(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Return (B or 1, H, T, T): minus slope times distance, MASKED in the columns of padding."""
        place = torch.arange(mask.shape[1], device=mask.device)
        distance = (place[:, None] - place).abs()
        slopes = torch.tensor(alibi_slopes(self.config.num_attention_heads), device=mask.device)
        bias = (-slopes[:, None, None] * distance).to(dtype)[None]  # (1, H, T, T)
        return bias if mask.all() else bias.masked_fill(~mask[:, None, None, :], MASKED)


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        d, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.attention = nn.ModuleDict({"qkv": nn.Linear(d, 3 * d), "output": nn.Linear(d, d)})
        self.attention_norm = nn.LayerNorm(d, eps=eps)
        self.mlp = nn.ModuleDict({"gated": nn.Linear(d, 2 * inner, bias=False), "outer": nn.Linear(inner, d)})
        self.mlp_norm = nn.LayerNorm(d, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor | None, weights: list[Tensor] | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        query, key, value = (split_heads(part, self.heads) for part in self.attention["qkv"](x).chunk(3, dim=-1))
        seen = attend(query, key, value, bias, self.attention_dropout if self.training else 0.0, weights)
        x = self.attention_norm(self.dropout(self.attention["output"](seen)) + x)
        gate, content = self.mlp["gated"](x).chunk(2, dim=-1)
        # the published code drops units of the product, before the last projection
        answer: Tensor = self.mlp_norm(self.mlp["outer"](self.dropout(F.gelu(gate) * content)) + x)
        return answer


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each head, for any number of heads.

    A power of two n has 2 ** (-8 i / n), i = 1 .. n; other numbers take those of the next smaller power, then every other one of twice it.

    >>> alibi_slopes(3)
    [0.0625, 0.00390625, 0.25]
    """
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * i / power) for i in range(1, power + 1)]
    return slopes + [2.0 ** (-4.0 * i / power) for i in range(1, 2 * (heads - power), 2)]


def from_official(values: Mapping[str, Any], state: Mapping[str, Tensor]) -> Config:
    """Return the Config for a published config.json; which head there is, the names and numbers of the weights decide."""
    chosen = pick(Config, values, must={"hidden_act": "gelu"}, source="DNABERT-2 config.json")
    return parse_config(Config, {**chosen, "lm_head": lm_head_form(rename(state, NAMES))}, "DNABERT-2 config.json")


NAMES = {
    r"(?:bert\.)?embeddings\.word_embeddings\.": "words.",
    r"(?:bert\.)?embeddings\.token_type_embeddings\.": "types.",
    r"(?:bert\.)?embeddings\.LayerNorm\.": "norm.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.attention\.self\.Wqkv\.": r"layers.\1.attention.qkv.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.output.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.": r"layers.\1.attention_norm.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.mlp\.gated_layers\.": r"layers.\1.mlp.gated.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.mlp\.wo\.": r"layers.\1.mlp.outer.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.mlp\.layernorm\.": r"layers.\1.mlp_norm.",
    r"cls\.predictions\.transform\.dense\.": "lm_head.dense.",
    r"cls\.predictions\.transform\.LayerNorm\.": "lm_head.norm.",
    r"cls\.predictions\.decoder\.weight$": "lm_head.decoder.weight",
    r"cls\.predictions\.(?:decoder\.)?bias$": "lm_head.bias",
    r"(?:bert\.)?pooler\.dense\.": "head.dense.",
    r"classifier\.": "head.linear.",
}


def rename_official(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return `state` under our names; pooler and classifier become head.dense.* and head.linear.*; unknown names are kept."""
    return rename(state, NAMES, drop=["lm_head.decoder.weight"] if config.lm_head == "tied" else [])
