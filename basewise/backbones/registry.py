"""Backbone families by name; a family's module is imported when it is asked for, not before."""

from importlib import import_module
from typing import Any

from basewise.backbones.base import Backbone
from basewise.backbones.configs import parse_config
from basewise.errors import BasewiseError, did_you_mean

FAMILIES: dict[str, str] = {  # family -> module with `Config` (frozen pydantic) and `Model(config)`
    "convnet": "basewise.backbones.convnet",
    "pyramid": "basewise.backbones.pyramid",
    "hyenadna": "basewise.backbones.hyenadna",
    "kmers": "basewise.backbones.kmers",
    "rules": "basewise.backbones.rules",
    "dnabert2": "basewise.backbones.dnabert2",
    "nucleotide_transformer": "basewise.backbones.nucleotide_transformer",
    "gena_lm": "basewise.backbones.gena_lm",
}


def build_backbone(family: str, values: dict[str, Any], source: object = "backbone") -> Backbone:
    """Return a freshly initialised backbone of `family`; BasewiseError for an unknown family or wrong settings."""
    module = family_module(family, source)
    backbone: Backbone = module.Model(parse_config(module.Config, values, f"backbone {family} of {source}"))
    return backbone


def family_module(family: str, source: object = "backbone") -> Any:
    """Return the module of a family, imported only now."""
    if family not in FAMILIES:
        raise BasewiseError(f"{source}: unknown backbone family {family!r}; known: {', '.join(FAMILIES)}.{did_you_mean(family, FAMILIES)}")
    return import_module(FAMILIES[family])
