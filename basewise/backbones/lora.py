"""Low-rank adapters through peft: where to put them in each family, what that trains, saving, loading, and merging into plain weights.

Source: Hu et al. 2021, arXiv:2106.09685. The adapted classifier stays a `Classifier`: its layers are replaced in place.
"""

import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn

from basewise.backbones.classifier import Classifier
from basewise.backbones.configs import parse_config
from basewise.backbones.weights import read_safetensors, shorten
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import prepare_output_folder, read_json, write_json

FORMAT = "basewise adapter 1"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BIASES = "biases"  # no adapters: the biases of the backbone themselves are trained

_SEPARATE = {
    "attention": r"layers\.\d+\.attention\.(query|key|value|output)",
    "mlp": r"layers\.\d+\.mlp\.(inner|outer)",
    "embeddings": r"words",
}
PRESETS: dict[str, dict[str, str]] = {  # family -> placement -> pattern of whole module names in the backbone
    "hyenadna": {
        "mixer": r"layers\.\d+\.mixer\.(in_proj|out_proj)",
        "mlp": r"layers\.\d+\.mlp\.(fc1|fc2)",
        "embeddings": r"embeddings\.word_embeddings",
    },
    "dnabert2": {
        "attention": r"layers\.\d+\.attention\.(qkv|output)",
        "mlp": r"layers\.\d+\.mlp\.(gated|outer)",
        "embeddings": r"words",
    },
    "nucleotide_transformer": _SEPARATE,
    "gena_lm": _SEPARATE,
}


class LoraSettings(BaseModel):
    """What to train: `placements` are names of `PRESETS`, "biases", or patterns of whole module names in the backbone.

    The change of a layer is scaled by alpha / rank. The head is trained in full unless `train_head` is False.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    placements: Annotated[tuple[str, ...], Field(min_length=1)]
    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_head: bool = True


class Plan(NamedTuple):
    """What `add_lora` would train: (name, trainable parameters) of each adapted layer, of the biases and of the head; parameters in all."""

    rows: tuple[tuple[str, int], ...]
    total: int

    @property
    def trainable(self) -> int:
        """Trainable parameters."""
        return sum(count for _, count in self.rows)

    def __str__(self) -> str:
        lines = [f"{count:>12,}  {name}" for name, count in self.rows]
        share = 100 * self.trainable / (self.total + self.trainable)
        return "\n".join([*lines, f"{self.trainable:>12,}  trainable ({share:.2f} % of all), {self.total:,} as they are without adapters"])


def plan_lora(classifier: Classifier, settings: LoraSettings) -> Plan:
    """Return what `add_lora` would train, without changing anything.

    Raises BasewiseError for an unknown placement, a pattern that matches no layer, or one that matches layers that cannot be adapted.
    """
    layers = _layers(classifier, settings)
    rows = [(name, settings.rank * sum(_sides(module))) for name, module in layers.items()]
    if BIASES in settings.placements:
        rows.append((BIASES, sum(parameter.numel() for _, parameter in _biases(classifier))))
    if settings.train_head:
        rows.append(("head", sum(parameter.numel() for parameter in classifier.head.parameters())))
    return Plan(tuple(rows), sum(parameter.numel() for parameter in classifier.parameters()))


def add_lora(classifier: Classifier, settings: LoraSettings) -> Plan:
    """Put adapters into `classifier`, freeze everything else but what `settings` train, and return the plan.

    Answers stay the same until training: adapters start at zero. Raises as `plan_lora`, and when there are adapters already.
    """
    import peft
    from peft.tuners.lora import LoraLayer

    if any(isinstance(module, LoraLayer) for module in classifier.modules()):
        raise BasewiseError("this classifier has adapters already; merge them first")
    plan = plan_lora(classifier, settings)
    names = list(_layers(classifier, settings))
    biases = [parameter for _, parameter in _biases(classifier)] if BIASES in settings.placements else []
    classifier.requires_grad_(False)
    if names:
        config = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=names)
        peft.inject_adapter_in_model(config, classifier)
    for parameter in biases:
        parameter.requires_grad_(True)
    if settings.train_head:
        classifier.head.requires_grad_(True)
    return plan


def merge_lora(classifier: Classifier) -> Classifier:
    """Add every adapter to the weights of its layer, put the plain layers back, and return `classifier`; answers stay the same."""
    from peft.tuners.lora import LoraLayer

    adapted = [(name, module) for name, module in classifier.named_modules() if isinstance(module, LoraLayer)]
    for name, module in adapted:
        module.merge()
        parent, _, child = name.rpartition(".")
        setattr(classifier.get_submodule(parent), child, module.get_base_layer())
    classifier.requires_grad_(True)
    return classifier


def save_adapter(classifier: Classifier, settings: LoraSettings, folder: str | Path, *, force: bool = False) -> Path:
    """Write what `settings` trained, adapters, biases and head, and return the folder; the frozen weights are not in it."""
    folder = prepare_output_folder(folder, force=force)
    state = {name: p.detach().cpu().contiguous() for name, p in classifier.named_parameters() if p.requires_grad}
    try:
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    except OSError as error:
        raise BasewiseError(f"cannot write {folder / WEIGHTS}: {error.strerror or error}") from error
    base = {"family": classifier.backbone.family, "sha256": classifier.sha256}
    write_json(folder / CONFIG, {"format": FORMAT, "settings": settings.model_dump(mode="json"), "base": base})
    return folder


def load_adapter(classifier: Classifier, folder: str | Path) -> LoraSettings:
    """Put the adapters, biases and head of a folder into `classifier`, the model they were trained on, and return their settings.

    Raises BasewiseError for another family or base model, and for weights that are missing, left over or of another shape.
    """
    folder = Path(folder)
    values = read_json(folder / CONFIG)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BasewiseError(f"{folder / CONFIG} is not of format {FORMAT!r}; take a folder that save_adapter wrote")
    base, family = values["base"], classifier.backbone.family
    if base["family"] != family:
        raise BasewiseError(f"{folder} holds adapters of {base['family']}, the model is {family}")
    if base["sha256"] and classifier.sha256 and base["sha256"] != classifier.sha256:
        raise BasewiseError(f"{folder} holds adapters of other weights (sha256 {base['sha256'][:12]}..., not {classifier.sha256[:12]}...)")
    settings = parse_config(LoraSettings, values["settings"], f"settings in {folder / CONFIG}")
    state = read_safetensors(folder / WEIGHTS)
    add_lora(classifier, settings)
    trained = {name: parameter for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    wrong = sorted(trained.keys() ^ state.keys()) or [name for name, p in trained.items() if p.shape != state[name].shape]
    if wrong:
        raise BasewiseError(f"{folder / WEIGHTS} does not fit the model: {shorten(wrong)} missing, left over or of another shape")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])
    return settings


def _layers(classifier: Classifier, settings: LoraSettings) -> dict[str, nn.Module]:
    """Return the layers to adapt by their names in the classifier."""
    family = classifier.backbone.family
    presets = PRESETS.get(family, {})
    backbone: nn.Module = classifier.backbone  # type: ignore[assignment]
    modules = dict(backbone.named_modules())
    chosen: dict[str, nn.Module] = {}
    for placement in settings.placements:
        if placement == BIASES:
            continue
        if placement.isidentifier() and placement not in presets and placement not in modules:
            known = (*presets, BIASES)
            raise BasewiseError(f"no placement {placement!r} in {family}; known: {', '.join(known)}.{did_you_mean(placement, known)}")
        pattern = re.compile(presets.get(placement, placement))
        found = {f"backbone.{name}": module for name, module in modules.items() if pattern.fullmatch(name)}
        odd = [name for name, module in found.items() if not isinstance(module, nn.Linear | nn.Embedding)]
        if not found or odd:
            what = f"matches what is no linear layer or embedding: {shorten(odd)}" if odd else "matches no layer"
            raise BasewiseError(f"placement {placement!r} {what} in this {family}; layers are named as {shorten(_adaptable(modules), 3)}")
        chosen |= found
    return chosen


def _adaptable(modules: dict[str, nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if isinstance(module, nn.Linear | nn.Embedding)]


def _biases(classifier: Classifier) -> list[tuple[str, Tensor]]:
    backbone: Any = classifier.backbone
    found = [(name, p) for name, p in backbone.named_parameters() if name.endswith("bias") and not name.startswith("lm_head.")]
    if not found:
        raise BasewiseError(f"placement {BIASES!r} matches nothing: this {backbone.family} has no biases")
    return found


def _sides(module: nn.Module) -> tuple[int, int]:
    """Return the two sizes whose sum times the rank an adapter has."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    assert isinstance(module, nn.Embedding)
    return module.num_embeddings, module.embedding_dim
