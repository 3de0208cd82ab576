"""What a run saves and what scanning, predicting and explaining load: backbone + tokenizer + head + their settings.

A model folder: config.json · model.safetensors · tokenizer files, if any · README.md. Nothing here imports training.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn

from basewise import zoo
from basewise.backbones.base import Backbone, Policy, Tokenizer, Tokens
from basewise.backbones.configs import parse_config
from basewise.backbones.heads import (
    BaseHead,
    GroupHead,
    Pool,
    PoolerHead,
    Predictor,
    SequenceHead,
    base_counts,
    center_token,
    mirror_tokens,
    pool_hidden,
)
from basewise.backbones.registry import build_backbone
from basewise.backbones.tokenizers import load_tokenizer, tokenizer_kind
from basewise.backbones.weights import assign_weights, read_safetensors
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import read_json, sha256_of, write_json
from basewise.genome.alphabet import Bases

FORMAT = "basewise classifier 1"


class Calibration(BaseModel):
    """probability = sigmoid(logit / temperature + bias); with several classes softmax(logits / temperature)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(gt=0)] = 1.0
    bias: float = 0.0


class ClassifierConfig(BaseModel):
    """Everything a classifier is beside its backbone and weights.

    ``labels``: names of the classes; two make a binary question with one logit, that of ``labels[1]`` (published heads keep one a class).
    ``window``: bases the model was trained to see around a position, None where it takes sequences of any length.
    ``strands = "both"``: the hidden state of a base from the forward and from the reverse-complement pass, concatenated (causal backbones).
    ``predictor``: "electra" for a dense layer and GELU before the linear one (kind "base").
    ``chunk_queries``: learned queries of kind "individual".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    kind: Literal["sequence", "base", "individual"] = "sequence"
    labels: Annotated[tuple[str, ...], Field(min_length=2)] = ("negative", "positive")
    window: Annotated[int, Field(ge=1)] | None = None
    pool: Pool = "mean"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    interpolate: bool = False
    predictor: Predictor = "linear"
    chunk_queries: Annotated[int, Field(ge=1)] = 4
    special_tokens: bool | str = True
    policy: Policy = "normalize"
    strands: Literal["forward", "both"] = "forward"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    calibration: Calibration = Calibration()
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """C, logits a sequence or base."""
        return 1 if len(self.labels) == 2 and not self.pool.startswith("official") else len(self.labels)


class Classifier(nn.Module):
    """Sequences in, logits out. Save with `save_classifier`, load with `load_classifier`.

    Attributes
    ----------
    sha256 : str or None
        Checksum of the weights file it was loaded from or last saved to: the model's id in provenance.
    """

    backbone: Backbone
    head: nn.Module

    def __init__(self, config: ClassifierConfig, backbone: Backbone, tokenizer: Tokenizer) -> None:
        super().__init__()
        if config.strands == "both" and not (backbone.causal and hasattr(tokenizer, "complement")):
            raise BasewiseError(f'strands = "both" is for causal backbones with one token a base, not for {backbone.family}; use "forward"')
        self.config = config
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.head = _make_head(config, backbone)
        self.sha256: str | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dense(self) -> bool:
        """True when a long stretch may be encoded once and read at every position with the answers of single windows.

        So for backbones with `reach` whose window covers all they reach, scored base by base or at the center.
        """
        reach = getattr(self.backbone, "reach", None)
        local = self.config.kind == "base" or (self.config.kind == "sequence" and self.config.pool == "center")
        window = self.config.window
        return local and reach is not None and (window is None or min(window // 2, window - 1 - window // 2) >= reach)

    def tokenize(self, sequences: Sequence[str | Bases]) -> Tokens:
        """Return Tokens, on the CPU, as this classifier was trained to see them.

        Kind "individual", byte-pair tokens: a chunk of more tokens than the backbone takes loses its end, as in the published pipeline (6 %
        of human chunks of 3,072 bases have more than GENA-LM's 512); how long a chunk gets is not known before it is drawn.
        """
        if self.config.kind == "individual" and getattr(self.tokenizer, "ragged", False):
            return self.tokenizer.tokenize(  # type: ignore[call-arg]
                sequences, special_tokens=self.config.special_tokens, policy=self.config.policy, max_length=self.backbone.max_tokens
            )
        return self.tokenizer.tokenize(sequences, special_tokens=self.config.special_tokens, policy=self.config.policy)

    def embed(self, tokens: Tokens) -> Tensor:
        """Return the input embeddings: ``forward(tokens, embedded=embed(tokens)) == forward(tokens)``.

        (B, T, D); with both strands (B, T, 2 D), for each token its own embedding and that of its complement, which the reverse pass reads.
        Padding and special tokens have embeddings as well.
        """
        ids = tokens.ids.to(self.device)
        own = self.backbone.embed(ids)
        if self.config.strands == "forward":
            return own
        complement = torch.tensor(self.tokenizer.complement, device=self.device)  # type: ignore[attr-defined]
        return torch.cat([own, self.backbone.embed(complement[ids])], dim=-1)

    def hidden(self, tokens: Tokens, embedded: Tensor | None = None) -> Tensor:
        """Return hidden states (B, T, D), aligned to the tokens; 2 D of them with both strands. `embedded` replaces `embed(tokens)`."""
        embedded = self.embed(tokens) if embedded is None else embedded
        if self.config.strands == "forward":
            return self.backbone.encode(embedded, tokens.mask)
        own, partner = embedded.chunk(2, dim=-1)
        forward = self.backbone.encode(own, tokens.mask)
        mirror = mirror_tokens(tokens)[..., None]  # (B, T, 1): where the partner base of a token stands
        reverse = self.backbone.encode(partner.gather(1, mirror.expand_as(partner)), tokens.mask)
        if self.config.kind == "base" or self.config.pool not in ("last", "cls", "official"):  # those read each pass at its own end
            reverse = reverse.gather(1, mirror.expand_as(reverse))
        return torch.cat([forward, reverse], dim=-1)

    def forward(self, tokens: Tokens, embedded: Tensor | None = None, chunks: int | None = None, flank: int = 0) -> Tensor:
        """Return logits: (B, C) for kind "sequence", (B, L, C) for "base", (B / chunks, C) for "individual".

        Parameters
        ----------
        tokens
            On any device; moved to the model's.
        embedded
            Input embeddings in place of `embed(tokens)`, for attributions; the same shape.
        chunks
            Kind "individual": how many consecutive rows belong to one individual.
        flank
            Kind "base": the first and last `flank` bases are context only and get no logits, (B, L - 2 * flank, C); all rows have the same
            length. Saves their work where `flank` is the backbone's reach.
        """
        if not tokens.ids.shape[
            1
        ]:  # nothing but empty sequences: one column of padding, so that they get the answer they get beside others
            B, pad = tokens.ids.shape[0], getattr(self.tokenizer, "pad_id", 0)
            tokens = Tokens(tokens.ids.new_full((B, 1), pad), tokens.mask.new_zeros((B, 1)), tokens.spans.new_zeros((B, 1, 2)))
        tokens = Tokens(*(part.to(self.device) for part in tokens))
        if self.config.kind == "sequence" and self.config.pool == "center" and hasattr(self.backbone, "encode_valid"):
            return self._center(tokens, embedded)
        if flank and self.config.kind == "base" and flank == getattr(self.backbone, "reach", None):
            embedded = self.backbone.embed(tokens.ids) if embedded is None else embedded
            return self.head.score(self.backbone.encode_valid(embedded * tokens.mask[..., None]))  # type: ignore[attr-defined, operator]
        hidden = self.hidden(tokens, embedded)
        if self.config.kind != "individual":
            logits: Tensor = self.head(hidden, tokens)
            return logits[:, flank : logits.shape[1] - flank] if flank else logits
        rows = hidden.shape[0]
        if not chunks or rows % chunks:
            raise BasewiseError(f"{rows} chunks do not divide into individuals of {chunks}; pass `chunks`, the rows of one individual")
        chunk = pool_hidden(hidden, tokens, self.config.pool)  # (B, D)
        return self.head(chunk.unflatten(0, (rows // chunks, chunks)))

    def center_logits(self, tokens: Tokens) -> Tensor:
        """Return logits (B, C) of the center bases, ``length // 2``, of kind "base": `forward` read there, with less work where it can."""
        tokens = Tokens(*(part.to(self.device) for part in tokens))
        if hasattr(self.backbone, "encode_valid") and self.config.strands == "forward":
            return self._center(tokens, None)
        logits = self(tokens)
        return logits[torch.arange(len(logits), device=logits.device), base_counts(tokens) // 2]

    def _center(self, tokens: Tokens, embedded: Tensor | None) -> Tensor:
        """Return logits (B, C) of the center base from the bases it reaches: far less work than all hidden states."""
        reach: int = self.backbone.reach  # type: ignore[attr-defined]
        embedded = self.backbone.embed(tokens.ids) if embedded is None else embedded
        T = tokens.ids.shape[1]
        index = center_token(tokens)[:, None] + torch.arange(-reach, reach + 1, device=self.device)  # (B, 2 reach + 1)
        inside = (index >= 0) & (index < T)
        index = index.clamp(0, T - 1)
        inside &= tokens.mask.gather(1, index)
        around = embedded.gather(1, index[..., None].expand(-1, -1, embedded.shape[-1])) * inside[..., None]
        hidden: Tensor = self.backbone.encode_valid(around)  # type: ignore[attr-defined]
        return self.head.score(hidden[:, 0])  # type: ignore[operator]

    def probabilities(self, logits: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return calibrated probabilities, float32: for C = 1 of shape ``logits.shape[:-1]`` (the class ``labels[1]``), else (..., C)."""
        values = logits.detach().float().cpu().numpy() if isinstance(logits, Tensor) else logits
        scaled = values.astype(np.float64) / self.config.calibration.temperature
        if self.config.outputs == 1:
            with np.errstate(over="ignore"):  # exp of a very negative logit is inf, its probability a correct 0
                return (1.0 / (1.0 + np.exp(-(scaled[..., 0] + self.config.calibration.bias)))).astype(np.float32)
        power = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return (power / power.sum(axis=-1, keepdims=True)).astype(np.float32)

    def answers(self, logits: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return `probabilities` as the question has them: of ``labels[1]`` alone, (...,), for two labels, whatever C, else (..., C)."""
        p = self.probabilities(logits)
        return p[..., 1] if len(self.config.labels) == 2 and logits.shape[-1] == 2 else p


def save_classifier(classifier: Classifier, folder: str | Path, card: str | None = None, *, half: bool = False) -> Path:
    """Write a model folder, whole or not at all, and return it; an older model folder is replaced, anything else is refused.

    `card` is the text of its README.md; with `half` weights are stored as float16, and loaded as float32 again. Sets ``classifier.sha256``.
    """
    folder = Path(folder)
    if folder.exists() and not _is_ours(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise BasewiseError(f"{folder} exists and is no model folder of basewise; choose another place")
    kind = tokenizer_kind(classifier.tokenizer)
    config = {
        "format": FORMAT,
        "classifier": classifier.config.model_dump(mode="json"),
        "backbone": {"family": classifier.backbone.family, **classifier.backbone.config.model_dump(mode="json")},  # type: ignore[attr-defined]
        "tokenizer": {"kind": kind, **classifier.tokenizer.settings()},  # type: ignore[attr-defined]
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    except OSError as error:
        raise BasewiseError(f"cannot write {folder}: {error.strerror or error}; choose a writable place") from error
    try:
        new = temporary / "new"
        new.mkdir()
        save_file(_plain_state(classifier, half), new / "model.safetensors", metadata={"format": "pt"})
        classifier.tokenizer.save(new)  # type: ignore[attr-defined]
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
        write_json(new / "config.json", config)
        digest = sha256_of(new / "model.safetensors")
        if folder.exists():
            folder.rename(temporary / "old")
        new.rename(folder)
    except OSError as error:
        raise BasewiseError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary)
    classifier.sha256 = digest
    return folder


def find_model(model: str | Path) -> Path:
    """Return the model folder MODEL means: the name of an embedded model, a run folder (its ``model/``) or a model folder.

    A bare word that names an embedded model is that model; write ``./word`` for a folder of that name.
    """
    if isinstance(model, str) and model in zoo.names():
        return zoo.folder(model)
    path = Path(model)
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            return folder
    known = zoo.names()
    if str(model) in zoo.backbones():
        raise BasewiseError(
            f"{model} is an embedded backbone, which answers no question yet; train a classifier from it: basewise train --init {model}"
        )
    if path.is_dir():
        raise BasewiseError(
            f"{path} is neither a run folder (model/config.json) nor a model folder (config.json); was the training finished?"
        )
    hint = did_you_mean(str(model), known)
    raise BasewiseError(f"no model {str(model)!r}: neither a folder nor an embedded model ({', '.join(known) or 'none here'}).{hint}")


def load_classifier(model: str | Path) -> Classifier:
    """Load MODEL (see `find_model`) on the CPU, in eval mode.

    Raises BasewiseError, in one line, for an unknown name, a damaged file, an unknown setting, or weights that are missing, left over or of
    another shape (all of them listed).
    """
    folder = find_model(model)
    raw = read_json(folder / "config.json")
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format", raw.get("model_type")) if isinstance(raw, dict) else None
        raise BasewiseError(
            f"{folder}/config.json has format {found!r}, expected {FORMAT!r}; is it an official checkpoint to fine-tune first?"
        )
    strangers = set(raw) - {"format", "classifier", "backbone", "tokenizer"}
    absent = {"classifier", "backbone", "tokenizer"} - set(raw)
    if strangers or absent:
        raise BasewiseError(f"{folder}/config.json: unknown {sorted(strangers)}, missing {sorted(absent)}")
    config = parse_config(ClassifierConfig, raw["classifier"], f"classifier in {folder}/config.json")
    tokenizer_settings, backbone_settings = dict(raw["tokenizer"]), dict(raw["backbone"])
    tokenizer = load_tokenizer(tokenizer_settings.pop("kind", ""), tokenizer_settings, folder)
    family = backbone_settings.pop("family", "")
    state = {name: t.float() if t.dtype is torch.float16 else t for name, t in read_safetensors(folder / "model.safetensors").items()}
    with torch.device("meta"):  # no memory and no time for an initialisation that is thrown away
        classifier = Classifier(config, build_backbone(family, backbone_settings, folder), tokenizer)
    if _has_unsaved_buffers(classifier):
        classifier = Classifier(config, build_backbone(family, backbone_settings, folder), tokenizer)
    assign_weights(classifier, state, folder)
    classifier.sha256 = sha256_of(folder / "model.safetensors")
    return classifier.eval()


def _is_ours(folder: Path) -> bool:
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    return isinstance(config, dict) and config.get("format") == FORMAT


def _make_head(config: ClassifierConfig, backbone: Backbone) -> nn.Module:
    width = backbone.width * (2 if config.strands == "both" else 1)
    if config.predictor != "linear" and config.kind != "base":
        raise BasewiseError(f'predictor {config.predictor!r} is for kind "base", not for {config.kind!r}; use "linear"')
    if config.kind == "base":
        return BaseHead(width, config.outputs, config.dropout, interpolate=config.interpolate, predictor=config.predictor)
    if config.kind == "individual":
        return GroupHead(width, config.outputs, config.chunk_queries, config.dropout)
    if config.pool.startswith("official") and backbone.family != "hyenadna":
        if config.pool == "official-pool" or backbone.family in ("convnet", "pyramid"):
            raise BasewiseError(
                f"pool {config.pool!r} is a published head that {backbone.family} does not have; use mean, cls, last or center"
            )
        esm = backbone.family == "nucleotide_transformer"
        return PoolerHead(width, config.outputs, config.dropout, input_dropout=config.dropout if esm else 0.0)
    return SequenceHead(width, config.outputs, config.pool, config.dropout)


def _plain_state(module: nn.Module, half: bool) -> dict[str, Tensor]:
    """Return the state dict on the CPU, contiguous, tensors that share memory (tied weights) as copies of their own."""
    state, seen = {}, set()
    for name, tensor in module.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        if half and plain.is_floating_point():
            plain = plain.half()
        state[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return state


def _has_unsaved_buffers(module: nn.Module) -> bool:
    saved = set(module.state_dict())
    return any(name not in saved for name, _ in module.named_buffers())
