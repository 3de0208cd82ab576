"""HyenaDNA in plain PyTorch: gated long convolutions, causal, one token a base.

    ids (B, T) -> embedding (B, T, D) -> n_layer x [ x + mixer(LN(x)); x + MLP(LN(x)) ] -> LN -> hidden (B, T, D)

What to know before touching it:
- the filter of a long convolution is a small MLP of position on a grid of `l_max` points: `l_max` belongs to the weights, not to the input;
- `shift` is 0.05 (the training repository's default of 0.0 gives worse loss on the published weights);
- the published code has no attention mask: a [PAD] is a token as any other, and left padding changes every answer. `encode` with a
  mask that is True everywhere does the same (official behaviour). Elsewhere it moves the tokens of each row to its front, which costs one
  gather, and causality makes the answer that of the row alone; hidden states of padding are zeros then.

Source: Nguyen et al. 2023, arXiv:2306.15794; names of weights as in the published checkpoints after their prefix.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, overload

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from basewise.backbones.configs import parse_config
from basewise.backbones.hyena_filter import ImplicitFilter, decay_rates, position_features
from basewise.errors import BasewiseError

Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Shape of a HyenaDNA; defaults are those of the published checkpoints, `l_max` has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    d_model: Positive
    n_layer: Positive
    d_inner: Positive
    l_max: Positive
    vocab_size: Positive = 12
    pad_vocab_size_multiple: Positive = 8
    emb_dim: Annotated[int, Field(ge=3)] = 5
    filter_order: Positive = 64
    num_inner_mlps: Annotated[int, Field(ge=0)] = 2
    activation_freq: float = 10.0
    train_freq: bool = True
    short_filter_order: Positive = 3
    layer_norm_epsilon: float = 1e-5
    embed_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    resid_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    initializer_range: float = 0.02
    lm_head: Literal["tied", "separate"] = "tied"

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding: `vocab_size` rounded up to a multiple."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple


class Model(nn.Module):
    """The backbone, with `lm_logits` for pretraining. Set `gradient_checkpointing` to trade time for memory in gradients."""

    family = "hyenadna"
    causal = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.d_model
        self.max_tokens: int | None = config.l_max
        self.gradient_checkpointing = False
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(config.padded_vocab, config.d_model)})
        self.embed_dropout = nn.Dropout(config.embed_dropout)
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.lm_head = nn.Linear(config.d_model, config.padded_vocab, bias=False) if config.lm_head == "separate" else None
        self._initialize()

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings (B, T, D) for ids (B, T)."""
        embedded: Tensor = self.embeddings["word_embeddings"](ids)
        return embedded

    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[False] = False) -> Tensor: ...
    @overload
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: Literal[True]) -> tuple[Tensor, tuple[Tensor, ...]]: ...
    def encode(self, embedded: Tensor, mask: Tensor, *, layers: bool = False) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Return hidden states (B, T, D) after the final norm; with `layers` also the output of every block.

        Where `mask` is False the row has no token and the hidden state is zeros; see the module's text for padding.
        Raises BasewiseError for a row of more than `l_max` tokens.
        """
        lengths = mask.sum(1)
        longest = int(lengths.max()) if mask.numel() else 0
        if longest > self.config.l_max:
            raise BasewiseError(
                f"a sequence of {longest} tokens, but this HyenaDNA was built for at most {self.config.l_max}; "
                "cut it into windows or take a checkpoint of longer context"
            )
        if not longest:
            nothing = torch.zeros_like(embedded)
            return (nothing, (nothing,) * self.config.n_layer) if layers else nothing
        if mask.all():
            hidden, outputs = self._run(embedded)
            return (hidden, outputs) if layers else hidden
        order = (~mask).int().argsort(dim=1, stable=True)[..., None].expand_as(embedded)  # tokens first, in order
        front = torch.arange(longest, device=mask.device) < lengths[:, None]  # (B, longest)
        hidden, outputs = self._run(embedded.gather(1, order)[:, :longest] * front[..., None])

        def back(x: Tensor) -> Tensor:
            """Put (B, longest, D) where its tokens stood in (B, T, D)."""
            x = F.pad(x * front[..., None], (0, 0, 0, mask.shape[1] - longest))
            return torch.zeros_like(x).scatter(1, order, x)

        return (back(hidden), tuple(back(x) for x in outputs)) if layers else back(hidden)

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Return next-token logits (B, T, V), V = 16, for hidden states (B, T, D)."""
        head = self.embeddings["word_embeddings"] if self.lm_head is None else self.lm_head
        return F.linear(hidden, head.weight)  # type: ignore[arg-type]

    def _run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = self.embed_dropout(x).float()  # the residual stream stays in float32
        outputs = []
        saving = self.gradient_checkpointing and (self.training or (torch.is_grad_enabled() and x.requires_grad))
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if saving else layer(x)
            outputs.append(x)
        hidden: Tensor = self.ln_f(x.to(self.ln_f.weight.dtype))
        return hidden, tuple(outputs)

    def _initialize(self) -> None:
        """Initialise as published: normal weights, zero biases, the two layers that end a residual branch scaled down by depth."""
        std = self.config.initializer_range
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                ends_branch = name.endswith(("out_proj", "fc2"))
                nn.init.normal_(module.weight, std=std / math.sqrt(2 * self.config.n_layer) if ends_branch else std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)


def from_official(raw: Mapping[str, Any], l_max: int | None = None) -> Config:
    """Return the Config of a published config.json, hub (-hf) form or original form; `l_max` overrules nothing, it must agree.

    Keys a file leaves out have the values of the published classes (emb_dim 3, frequency 1, 12 layers), not those of the published
    checkpoints. Dropouts inside the operator, zero in every checkpoint, are not carried over. Raises BasewiseError for another model type
    and for variants that were never published (other orders, no biases, no window).
    """
    layer = raw.get("layer", {})
    hub = "max_seq_len" in raw or raw.get("model_type") == "hyenadna"
    if not hub and layer.get("_name_") != "hyena":
        raise BasewiseError(f"config of model type {raw.get('model_type')!r} is not HyenaDNA's (max_seq_len, or layer with _name_ hyena)")
    inside = raw if hub else layer
    odd = {"hyena_order": 2, "order": 2, "use_bias": True, "modulate": True, "shift": 0.05}
    strange = [f"{key} {inside[key]!r} (expected {want!r})" for key, want in odd.items() if inside.get(key, want) != want]
    if strange:
        raise BasewiseError(f"this HyenaDNA variant is not supported: {', '.join(strange)}")
    values: dict[str, Any] = {
        "l_max": raw.get("max_seq_len") if hub else layer.get("l_max"),
        "n_layer": raw.get("n_layer", 12),
        "emb_dim": inside.get("emb_dim", 3),
        "activation_freq": inside.get("activation_freq" if hub else "w", 1),
        "lm_head": "separate" if hub and not raw.get("tie_word_embeddings", False) else "tied",
    }
    values["l_max"] = l_max if values["l_max"] is None else values["l_max"]
    if values["l_max"] is None or l_max not in (None, values["l_max"]):
        raise BasewiseError(
            f"l_max is {values['l_max']} in the config and {l_max} in the call; it must be the one the weights were trained with"
        )
    values |= {
        key: raw[key] for key in ("d_model", "vocab_size", "pad_vocab_size_multiple", "embed_dropout", "resid_dropout") if key in raw
    }
    values |= {key: raw[key] for key in ("layer_norm_epsilon", "initializer_range", "train_freq") if key in raw}
    values |= {key: inside[key] for key in ("filter_order", "num_inner_mlps", "short_filter_order") if key in inside}
    if raw.get("d_inner") or "d_model" in raw:
        values["d_inner"] = raw.get("d_inner") or 4 * raw["d_model"]
    return parse_config(Config, values, "HyenaDNA config.json")


def rename_official(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return a published state dict under the names of `Model`; all four key forms, with or without ``.layer.``.

    A sequence head comes back as ``head.linear.*``. What follows from the config (time grid, window) is checked and dropped; metrics and
    task decoders of the training code are dropped. Other strangers keep their names, so that loading lists them. A file without LM head
    gets the tied one, as in the original training. Raises BasewiseError when copies of one tensor differ or the grid is another l_max's.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if "torchmetrics" in name or name.startswith("decoder."):
            continue
        new = re.sub(r"^(model\.|hyena\.)?(backbone\.)?", "", name)
        new = re.sub(r"\.(mixer|mlp)\.layer\.", r".\1.", new)
        new = re.sub(r"^(score|head\.output_transform)\.", "head.linear.", new)
        new = re.sub(r"(implicit_filter)\.\d+\.freq$", r"\1.1.freq", new)  # one shared tensor, stored up to three times
        if new.endswith(("pos_emb.z", "pos_emb.t", "modulation.deltas")):
            _check_constant(name, tensor, config)
        elif new not in renamed:
            renamed[new] = tensor
        elif not torch.equal(renamed[new], tensor):
            raise BasewiseError(f"{name} differs from another copy of {new}; the checkpoint is damaged or mixes two models")
    embedding = renamed.get("embeddings.word_embeddings.weight")
    if config.lm_head == "separate" and embedding is not None:
        renamed.setdefault("lm_head.weight", embedding.clone())
    head = renamed.pop("lm_head.weight", None) if config.lm_head == "tied" else None
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise BasewiseError("the config ties the LM head to the embedding, but the checkpoint holds two different ones")
    return renamed


def _check_constant(name: str, tensor: Tensor, config: Config) -> None:
    """Refuse a stored time grid or window that is not the one the config implies."""
    if name.endswith("deltas"):
        expected = decay_rates(config.d_model)
    else:
        rows = tensor.shape[1] if tensor.dim() == 3 else None
        if rows != config.l_max:
            raise BasewiseError(
                f"{name} is a grid of {rows} points, but the config says {config.l_max}; use the checkpoint's own max_seq_len"
            )
        z, t = position_features(config.l_max, config.emb_dim, config.l_max, "cpu")
        expected = z if name.endswith("z") else t
    if tensor.numel() != expected.numel() or not torch.allclose(tensor.float().reshape(expected.shape), expected, rtol=0, atol=1e-5):
        raise BasewiseError(f"{name} is not the published constant; checkpoints that trained it are not supported")


class _Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mixer = _HyenaOperator(config)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(config.d_model, config.d_inner), "fc2": nn.Linear(config.d_inner, config.d_model)})
        self.norm1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.norm2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.resid_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for the residual stream x (B, T, D), float32."""
        dtype = self.norm1.weight.dtype
        x = x + self.dropout(self.mixer(self.norm1(x.to(dtype))))
        inner = F.gelu(self.mlp["fc1"](self.norm2(x.to(dtype))), approximate="tanh")
        return x + self.dropout(self.mlp["fc2"](inner))


class _HyenaOperator(nn.Module):
    """Order 2: gate, convolve over the whole past, gate."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, taps = config.d_model, config.short_filter_order
        self.in_proj = nn.Linear(d, 3 * d)
        self.out_proj = nn.Linear(d, d)
        self.short_filter = nn.Conv1d(3 * d, 3 * d, taps, padding=taps - 1, groups=3 * d)
        self.filter_fn = ImplicitFilter(
            d,
            config.l_max,
            emb_dim=config.emb_dim,
            order=config.filter_order,
            inner=config.num_inner_mlps,
            frequency=config.activation_freq,
            train_frequency=config.train_freq,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        L = x.shape[1]
        u = self.short_filter(self.in_proj(x).transpose(1, 2))[..., :L]  # (B, 3 D, L), causal
        x0, x1, v = u.chunk(3, dim=1)
        v = self.filter_fn(v * x1)
        y: Tensor = self.out_proj((v * x0).transpose(1, 2))
        return y
