"""Our own folder of a backbone: config.json ("format": see `FORMAT`), model.safetensors, tokenizer files; no pickles, no code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from basewise.backbones.base import Backbone, Tokenizer
from basewise.backbones.registry import build_backbone
from basewise.backbones.tokenizers import load_tokenizer, tokenizer_kind
from basewise.backbones.weights import assign_weights, read_safetensors
from basewise.errors import BasewiseError
from basewise.files import prepare_output_folder, read_json, write_json

FORMAT = "basewise backbone 1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_backbone(
    backbone: Backbone, tokenizer: Tokenizer, folder: str | Path, source: Mapping[str, Any], *, force: bool = False, half: bool = False
) -> Path:
    """Write a folder of ours (config.json last) and return it; `source` says where the weights come from and under which licence.

    With `half` weights are stored as float16; `load_saved` gives float32 again.
    """
    folder = prepare_output_folder(folder, force=force)
    module: nn.Module = backbone  # type: ignore[assignment]
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    try:
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    except OSError as error:
        raise BasewiseError(f"cannot write {folder / WEIGHTS}: {error.strerror or error}") from error
    tokenizer.save(folder)  # type: ignore[attr-defined]
    settings = {"kind": tokenizer_kind(tokenizer), **tokenizer.settings()}  # type: ignore[attr-defined]
    shape = backbone.config.model_dump(mode="json")  # type: ignore[attr-defined]
    config = {"format": FORMAT, "backbone": {"family": backbone.family, **shape}, "tokenizer": settings, "source": dict(source)}
    write_json(folder / CONFIG, config)
    return folder


def load_saved(folder: Path, values: Mapping[str, Any]) -> tuple[Backbone, Tokenizer]:
    """Return backbone, in eval mode on the CPU, and tokenizer of a folder that `save_backbone` wrote; `values` is its config.json.

    Raises BasewiseError, in one line, for settings or weights that are missing, left over or wrong.
    """
    strange = set(values) ^ {"format", "backbone", "tokenizer", "source"}
    if strange or not all(isinstance(values[key], dict) for key in ("backbone", "tokenizer")):
        raise BasewiseError(f"{folder / CONFIG}: expected entries format, backbone, tokenizer, source; differing: {sorted(strange)}")
    shape, settings = dict(values["backbone"]), dict(values["tokenizer"])
    family = shape.pop("family", "")
    tokenizer = load_tokenizer(settings.pop("kind", ""), settings, folder)
    state = {name: t.float() if t.dtype is torch.float16 else t for name, t in read_safetensors(folder / WEIGHTS).items()}
    with torch.device("meta"):
        backbone = build_backbone(family, shape, folder)
    assign_weights(backbone, state, folder)  # type: ignore[arg-type]
    return backbone.eval(), tokenizer  # type: ignore[attr-defined]


def config_of_folder(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder; BasewiseError when there is none or it is no object."""
    if not folder.is_dir():
        raise BasewiseError(f"{folder} is no folder; expected one with config.json and weights")
    values = read_json(folder / CONFIG)
    if not isinstance(values, dict):
        raise BasewiseError(f"{folder / CONFIG} holds a {type(values).__name__}, expected an object")
    return values


def load_backbone(folder: str | Path) -> tuple[Backbone, Tokenizer]:
    """Return backbone and tokenizer of a folder that `save_backbone` wrote; BasewiseError for any other."""
    folder = Path(folder)
    values = config_of_folder(folder)
    if values.get("format") != FORMAT:
        raise BasewiseError(f"{folder / CONFIG} has format {values.get('format')!r}, expected {FORMAT!r}")
    return load_saved(folder, values)
