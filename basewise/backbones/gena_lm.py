"""GENA-LM (the BERT models): a BERT encoder with the norms before attention and MLP.

    ids (B, T) -> words + row 0 of the types + learned positions -> LN
    -> n x [ x + attention(LN(x)); x + MLP(LN(x)) ] -> (LN) -> hidden (B, T, D)

What to know before touching it:
- whether there is a norm after the last layer differs between checkpoints; its weights decide, and they must not contradict the config
  (where `last_layer_norm` is absent it means the value of `pre_layer_norm`);
- GELU is exact; the epsilon of the norms differs between checkpoints (1e-12, 1e-5);
- positions count tokens, so that padding on the left changes nothing (the published code counts columns);
- hidden states of padding are zeros.

Source: Fishman et al. 2023, doi:10.1101/2023.06.12.544594. Code of the original: MIT.
"""

from collections.abc import Mapping
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

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Shape of a GENA-LM; the defaults are those of gena-lm-bert-base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: Positive = 32000
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    max_position_embeddings: Positive = 512
    type_vocab_size: Positive = 2
    pad_token_id: Annotated[int, Field(ge=0)] = 3
    layer_norm_eps: float = 1e-12
    last_layer_norm: bool = False
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    initializer_range: float = 0.02
    lm_head: LmHead = "tied"


class Model(nn.Module):
    """The backbone, with `lm_logits` for masked tokens. Set `gradient_checkpointing` to trade time for memory in training."""

    family = "gena_lm"
    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.hidden_size
        self.max_tokens: int | None = config.max_position_embeddings
        self.gradient_checkpointing = False
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.types = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.last_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.last_layer_norm else nn.Identity()
        tied = config.lm_head == "tied"
        self.lm_head = None if config.lm_head == "none" else MaskedLmHead(self.width, config.vocab_size, config.layer_norm_eps, tied=tied)
        initialize(self, config.initializer_range)

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (B, T, D) for ids (B, T); raises BasewiseError for a row of more tokens than positions."""
        places = positions_of(ids != self.config.pad_token_id)
        if ids.shape[1] > self.config.max_position_embeddings:
            check_length(int(places.max()) + 1, self.config.max_position_embeddings, "GENA-LM")
        summed = self.words(ids) + self.types.weight[0] + self.positions(places)
        embedded: Tensor = self.dropout(self.norm(summed))
        return embedded

    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[False] = False) -> Tensor: ...
    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[True]) -> tuple[Tensor, tuple[Tensor, ...]]: ...
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: bool = False) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Return hidden states (B, T, D), zeros at padding; with `layers` also the output of every layer, before the last norm."""
        bias = padding_bias(mask, embedded.dtype)
        checkpointing = self.gradient_checkpointing and self.training
        hidden, outputs = run_layers(self.layers, embedded, bias, checkpointing=checkpointing, collect=layers)
        hidden = self.last_norm(hidden) * mask[..., None]
        return (hidden, tuple(x * mask[..., None] for x in outputs)) if layers else hidden

    def attentions(self, embedded: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the attention probabilities (B, H, T, T) of every layer; rows of padding mean nothing."""
        return all_attentions(self.layers, embedded, padding_bias(mask, embedded.dtype))

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Return masked-language logits (B, T, V) for hidden states (B, T, D)."""
        return lm_logits(self.lm_head, hidden, self.words)


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(d, eps=eps)
        self.attention = SelfAttention(d, config.num_attention_heads, config.attention_probs_dropout_prob)
        self.mlp_norm = nn.LayerNorm(d, eps=eps)
        self.mlp = nn.ModuleDict({"inner": nn.Linear(d, config.intermediate_size), "outer": nn.Linear(config.intermediate_size, d)})
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, bias: Tensor | None, weights: list[Tensor] | None = None) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), bias, weights))
        return x + self.dropout(self.mlp["outer"](F.gelu(self.mlp["inner"](self.mlp_norm(x)))))


NAMES = {
    r"(?:bert\.)?embeddings\.word_embeddings\.": "words.",
    r"(?:bert\.)?embeddings\.token_type_embeddings\.": "types.",
    r"(?:bert\.)?embeddings\.position_embeddings\.": "positions.",
    r"(?:bert\.)?embeddings\.position_ids$": "",  # 0, 1, 2 ...
    r"(?:bert\.)?embeddings\.LayerNorm\.": "norm.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.attention\.self\.": r"layers.\1.attention.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.output.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.pre_attention_ln\.": r"layers.\1.attention_norm.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.post_attention_ln\.": r"layers.\1.mlp_norm.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.inner.",
    r"(?:bert\.)?encoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.outer.",
    r"(?:bert\.)?encoder\.last_layer_ln\.": "last_norm.",
    r"cls\.predictions\.transform\.dense\.": "lm_head.dense.",
    r"cls\.predictions\.transform\.LayerNorm\.": "lm_head.norm.",
    r"cls\.predictions\.decoder\.weight$": "lm_head.decoder.weight",
    r"cls\.predictions\.(?:decoder\.)?bias$": "lm_head.bias",
    r"(?:bert\.)?pooler\.dense\.": "head.dense.",
    r"cls\.seq_relationship\.": "head.linear.",  # two classes: does the second half of the input follow the first?
    r"classifier\.": "head.linear.",
}


def from_official(values: Mapping[str, Any], state: Mapping[str, Tensor]) -> Config:
    """Return the Config for a published config.json; which heads and whether a last norm there are, the weights decide.

    Raises BasewiseError when config and weights contradict each other about the last norm.
    """
    source = "GENA-LM config.json"
    must = {"hidden_act": "gelu", "position_embedding_type": "absolute", "pre_layer_norm": True}
    chosen = pick(Config, values, must=must, source=source)
    renamed = rename(state, NAMES)
    there = "last_norm.weight" in renamed
    said = values.get("last_layer_norm", values.get("pre_layer_norm", True))
    if bool(said) != there:
        raise BasewiseError(
            f"{source} says last_layer_norm {bool(said)}, but the weights have {'one' if there else 'none'}; take both from one repository"
        )
    return parse_config(Config, {**chosen, "last_layer_norm": there, "lm_head": lm_head_form(renamed)}, source)


def rename_official(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return `state` under our names; pooler with classifier or next-sentence layer become head.dense.* and head.linear.*.

    Unknown names are kept, to be refused.
    """
    position_ids = next((t for name, t in state.items() if name.endswith("embeddings.position_ids")), None)
    if position_ids is not None and not torch.equal(position_ids.flatten(), torch.arange(config.max_position_embeddings)):
        raise BasewiseError("embeddings.position_ids of these GENA-LM weights are not 0, 1, 2 ...; take the published file")
    return rename(state, NAMES, drop=["lm_head.decoder.weight"] if config.lm_head == "tied" else [])
