"""From a recipe to a classifier with fresh or given weights."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.nn import functional as F

from basewise.backbones.base import Backbone, Tokenizer
from basewise.backbones.classifier import FORMAT, Classifier, ClassifierConfig, find_model, load_classifier
from basewise.backbones.configs import parse_config
from basewise.backbones.registry import FAMILIES, build_backbone
from basewise.backbones.tokenizers.character import CharacterTokenizer, Dialect
from basewise.backbones.weights import assign_weights
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import read_json
from basewise.recipes.schema import Backbone as BackboneSection
from basewise.recipes.schema import Recipe

FREE = ("dropout", "spread", "rules")  # of a backbone's config: change no weight, so that a start (backbone.init) may differ in them
# special tokens around the bases, in families that read characters
DIALECTS: dict[str, Dialect] = {"convnet": "none", "pyramid": "none", "kmers": "none", "rules": "none", "hyenadna": "hub"}


def new_classifier(recipe: Recipe, window: int | None) -> Classifier:
    """Return the classifier of a recipe; random weights come from torch's generator as it stands. `window` is that of the data."""
    backbone, tokenizer = new_backbone(recipe.backbone)
    head = recipe.head
    reach = getattr(backbone, "reach", None)
    if head.kind == "base" and reach is not None:
        window = 2 * reach + 1  # regions are as long as is handy; a base sees no further than this
    values = head.model_dump(exclude={"window"}) | {"task": recipe.task, "window": head.window or window}
    config = parse_config(ClassifierConfig, values, f"[head] of recipe {recipe.name}")
    return Classifier(config, backbone, tokenizer)


def new_backbone(section: BackboneSection) -> tuple[Backbone, Tokenizer]:
    """Return backbone and tokenizer of a section.

    `init` "random": fresh ones of a family or catalog name; "pretrained": those of the catalog name. A catalog name, the name of an
    embedded model, or the path of a folder (checkpoint, backbone, model, run of a training or pretraining): those found there; a path that
    exists wins.
    """
    from basewise.backbones import catalog, checkpoints

    if section.init == "pretrained":
        backbone, tokenizer = checkpoints.load_pretrained(section.name)
        _check_shape(backbone, section, section.name)
        return backbone, tokenizer
    if section.init != "random":
        return _from_folder(section)
    family, values = section.name, dict(section.config)
    if family not in FAMILIES:
        names = (*FAMILIES, *catalog.entries())
        if family not in names:
            raise BasewiseError(f"unknown backbone {family!r}, known: {', '.join(names)}.{did_you_mean(family, names)}")
        family, values = catalog.family_of(section.name), {**catalog.config_of(section.name), **values}
    if family not in DIALECTS:
        raise BasewiseError(f"backbone {section.name} needs a vocabulary: give the folder of a checkpoint (--init PATH)")
    return build_backbone(family, values, "the recipe"), CharacterTokenizer(DIALECTS[family])


def _from_folder(section: BackboneSection) -> tuple[Backbone, Tokenizer]:
    from basewise import zoo
    from basewise.backbones import catalog, checkpoints

    path = Path(section.init)
    if path.exists():
        backbone, tokenizer = _load(path)
    elif section.init in catalog.entries():
        backbone, tokenizer = checkpoints.load_pretrained(section.init)
    elif section.init in zoo.names():
        backbone, tokenizer = _load(zoo.folder(section.init))
    else:
        hint = did_you_mean(section.init, (*catalog.entries(), *zoo.names()))
        raise BasewiseError(
            f'backbone.init is {section.init!r}, expected "random", "pretrained", a catalog name '
            f"or the path of a folder with weights.{hint}"
        )
    if section.name in FAMILIES and backbone.family != section.name:
        raise BasewiseError(f"{path} holds a {backbone.family} backbone, but the recipe names {section.name}")
    backbone = _reshaped(backbone, section.config)
    _check_shape(backbone, section, path)
    return backbone, tokenizer


def _reshaped(backbone: Backbone, asked: dict[str, Any]) -> Backbone:
    """Return the backbone with what the recipe asks for of `FREE`, its weights as they are.

    Input channels of rules it did not know have weight 0: it answers as before. Rules it knows must be the first of those asked for.
    """
    config: dict[str, Any] = backbone.config.model_dump(mode="json")  # type: ignore[attr-defined]
    known = config.get("rules", [])
    changes = {key: asked[key] for key in FREE if key in config and asked.get(key, config[key]) != config[key]}
    if not changes or changes.get("rules", known)[: len(known)] != known:
        return backbone
    other = build_backbone(backbone.family, config | changes, "the recipe")
    assert isinstance(backbone, nn.Module)
    assert isinstance(other, nn.Module)
    state = backbone.state_dict()
    for name, weights in other.state_dict().items():
        if weights.shape != state[name].shape:  # (channels out, channels in, 1, taps) of a stem
            state[name] = F.pad(state[name], (0, 0, 0, 0, 0, weights.shape[1] - state[name].shape[1]))
    assign_weights(other, state, "the backbone")
    return other


def _check_shape(backbone: Backbone, section: BackboneSection, source: object) -> None:
    found: dict[str, Any] = backbone.config.model_dump(mode="json")  # type: ignore[attr-defined]
    different = [f"{k} = {v!r} instead of {found.get(k)!r}" for k, v in section.config.items() if found.get(k) != v]
    if different:
        raise BasewiseError(f"backbone.config asks for {', '.join(different)} of {source}; weights of one shape cannot take another")


def _load(path: Path) -> tuple[Backbone, Tokenizer]:
    from basewise.backbones.checkpoints import load_official

    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    if (folder / "config.json").is_file() and read_json(folder / "config.json").get("format") == FORMAT:
        classifier = load_classifier(find_model(path))
        return classifier.backbone, classifier.tokenizer
    return load_official(folder)
