"""Published checkpoints, and our own folders of backbones, to (Backbone, Tokenizer): every weight accounted for, no code of theirs run.

An official folder is what the hub hands out: config.json, weights (model.safetensors, pytorch_model.bin, either in shards with an
index, or a training .ckpt), tokenizer files. Our own format is in folders.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basewise.backbones import catalog
from basewise.backbones.base import Backbone, Tokenizer
from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.folders import CONFIG, FORMAT, config_of_folder, load_saved
from basewise.backbones.pickles import read_pickled
from basewise.backbones.registry import family_module
from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.backbones.tokenizers.kmer import KmerTokenizer
from basewise.backbones.weights import assign_weights, read_safetensors
from basewise.errors import BasewiseError
from basewise.files import read_json

HEAD = "head."
CLASSIFIERS = ("classifier.", "score.", "head.output_transform.", "model.head.output_transform.")

# What the names of weights look like in each family; no other family of ours has them.
SIGNS = {
    "hyenadna": ".filter_fn.",
    "dnabert2": ".attention.self.Wqkv.",
    "gena_lm": ".pre_attention_ln.",
    "nucleotide_transformer": "emb_layer_norm_after.",
}
TOKENIZERS: dict[str, Any] = {"dnabert2": BpeTokenizer, "gena_lm": BpeTokenizer, "nucleotide_transformer": KmerTokenizer}


@dataclass(frozen=True)
class Official:
    """A published folder, read.

    ``backbone`` has its weights and is in eval mode. ``head``: weights of a pooler, a next-sentence layer or a classification head, if
    any, without their ``head.``; ``classifies``: there is a classification head.
    """

    family: str
    values: dict[str, Any]
    backbone: Backbone
    head: dict[str, Tensor]
    classifies: bool


def load_official(folder: str | Path, *, name: str | None = None) -> tuple[Backbone, Tokenizer]:
    """Return backbone, in eval mode and float32 on the CPU, and tokenizer of a published folder or of one of ours.

    Parameters
    ----------
    name
        Catalog name the folder must be: files whose checksum or size the catalog knows are compared with it. Without it the name that
        ``basewise models fetch`` left in the folder is used, and where there is none nothing is compared.

    Raises
    ------
    BasewiseError
        One line, for a missing, truncated or damaged file, a pickle that holds more than tensors, a family we do not know or config and
        weights of two families, weights missing, left over or of another shape, a vocabulary of another size, or another checksum.
    """
    folder = Path(folder)
    values = config_of_folder(folder)
    if values.get("format") == FORMAT:
        return load_saved(folder, values)
    catalog.verify(folder, name)
    official = read_official(folder)
    tokenizer = official_tokenizer(folder, official)
    return official.backbone, tokenizer


def read_official(folder: str | Path, weights: str | Path | None = None) -> Official:
    """Return what a published folder holds, whatever tokenizer files it has; `weights` is a file elsewhere. Raises as `load_official`."""
    folder = Path(folder)
    values = config_of_folder(folder)
    state = read_weights(folder) if weights is None else read_safetensors(Path(weights))
    family = family_of(values, state, folder)
    module = family_module(family, folder)
    config = module.from_official(values) if family == "hyenadna" else module.from_official(values, state)
    renamed: dict[str, Tensor] = module.rename_official(state, config)
    head = {key.removeprefix(HEAD): tensor for key, tensor in renamed.items() if key.startswith(HEAD)}
    body = {key: _plain(tensor) for key, tensor in renamed.items() if not key.startswith(HEAD)}
    with torch.device("meta"):  # the memory of the weights is needed once, not twice
        model: nn.Module = module.Model(config)
    assign_weights(model, body, folder)
    classifies = any(name.startswith(CLASSIFIERS) for name in state)
    return Official(family, values, model.eval(), {key: _plain(tensor) for key, tensor in head.items()}, classifies)  # type: ignore[arg-type]


def load_official_classifier(folder: str | Path) -> Classifier:
    """Return the classifier of a published folder with a classification head, in eval mode; labels are those of its ``id2label``.

    BasewiseError where the folder has no such head, and as `load_official`.
    """
    folder = Path(folder)
    official = read_official(folder)
    if not official.classifies:
        raise BasewiseError(f"{folder} has no classification head; load it as a backbone and train one")
    count = official.head["linear.weight"].shape[0]
    names = official.values.get("id2label") or {}
    labels = [str(names.get(str(i), f"LABEL_{i}")) for i in range(count)]
    pool = "official-pool" if official.family == "hyenadna" and "linear.bias" in official.head else "official"
    values = {"task": official.values.get("problem_type") or "published", "labels": labels, "pool": pool}
    config = ClassifierConfig.model_validate({**values, "policy": "official", "provenance": {"source": folder.name}})
    with torch.device("meta"):
        classifier = Classifier(config, official.backbone, official_tokenizer(folder, official))
    assign_weights(classifier.head, official.head, f"the head of {folder}")
    return classifier.eval()


def load_pretrained(name: str) -> tuple[Backbone, Tokenizer]:
    """Return a catalog model: an embedded one, or one from where ``basewise models fetch NAME`` puts it.

    BasewiseError says how to get it when it is not there.
    """
    entry = catalog.entry(name)
    folder = catalog.folder_of(name)
    if not (folder / CONFIG).is_file():
        raise BasewiseError(
            f"{name} is not on disk ({folder}); run `basewise models fetch {name}`, or put the files of {entry.repository} there by hand"
        )
    return load_official(folder, name=name)


def family_of(values: Mapping[str, Any], state: Mapping[str, Tensor], folder: Path) -> str:
    """Return the family that config and weights agree on."""
    by_weights = next((family for family, sign in SIGNS.items() if any(sign in name for name in state)), None)
    by_config = _family_in_config(values)
    if by_weights is None:
        some = ", ".join(sorted(state)[:3])
        raise BasewiseError(f"weights in {folder} ({some} ...) are of no family known here; known: {', '.join(SIGNS)}")
    if by_config != by_weights:
        kind = by_config or f"model type {values.get('model_type')!r}"
        raise BasewiseError(f"{folder}: config.json is of {kind}, the weights are of {by_weights}; take both from one repository")
    return by_weights


def _family_in_config(values: Mapping[str, Any]) -> str | None:
    layer = values.get("layer")
    hyena = isinstance(layer, Mapping) and layer.get("_name_") == "hyena"
    if hyena or values.get("model_type") == "hyenadna" or "hyena_order" in values:
        return "hyenadna"
    if values.get("model_type") == "esm" or any(str(name).startswith("Esm") for name in values.get("architectures") or ()):
        return "nucleotide_transformer"
    if "alibi_starting_size" in values or "bert_layers." in json.dumps(values.get("auto_map", {})):
        return "dnabert2"
    if values.get("model_type") == "bert" or "pre_layer_norm" in values:
        return "gena_lm"
    return None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the published tensors of a folder by their published names; of several formats safetensors is preferred."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        reader = read_safetensors if name.endswith("safetensors") else read_pickled
        if (folder / name).is_file():
            return reader(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json", reader)
    training = sorted(folder.glob("*.ckpt"))
    if len(training) == 1:
        return read_pickled(training[0])
    if training:
        raise BasewiseError(f"{folder} holds several checkpoints ({', '.join(p.name for p in training)}); keep the one you mean")
    raise BasewiseError(
        f"no weights in {folder}; expected model.safetensors, pytorch_model.bin (either in shards, with an index) or one .ckpt"
    )


def _read_shards(folder: Path, index: str, reader: Any) -> dict[str, Tensor]:
    where = read_json(folder / index).get("weight_map")
    if not isinstance(where, dict) or not where or any(Path(str(file)).name != file for file in where.values()):
        raise BasewiseError(f"{folder / index} has no usable weight_map of weights to files beside it; download it again")
    files = sorted(set(where.values()))
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise BasewiseError(f"{folder} lacks {len(absent)} of {len(files)} shards: {', '.join(absent)}; download them too")
    state: dict[str, Tensor] = {}
    for file in files:
        part = reader(folder / file)
        wrong = sorted(
            {name for name in part if where.get(name) != file} | {name for name, f in where.items() if f == file and name not in part}
        )
        if wrong:
            raise BasewiseError(f"{folder / file} and {index} disagree about {', '.join(wrong[:6])}; download both again")
        state.update(part)
    return state


def official_tokenizer(folder: Path, official: Official) -> Tokenizer:
    """Return the tokenizer of a published folder; its vocabulary must fit the embedding of the backbone."""
    if official.family == "hyenadna":
        return CharacterTokenizer("hub")
    tokenizer: Tokenizer = TOKENIZERS[official.family].from_official(folder)
    rows = official.backbone.config.vocab_size  # type: ignore[attr-defined]
    if tokenizer.vocabulary_size != rows:
        raise BasewiseError(
            f"the tokenizer in {folder} has {tokenizer.vocabulary_size} tokens, the weights have {rows}; take both from one repository"
        )
    return tokenizer


def _plain(tensor: Tensor) -> Tensor:
    """Return a contiguous float32 tensor; itself when it is one (some published tensors are stored column by column)."""
    return tensor.float().contiguous() if tensor.is_floating_point() else tensor.contiguous()
