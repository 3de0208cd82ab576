"""Embedded models: one folder a model, trained by the recipe stored beside the weights.

Data, not code: this module lists the folders and imports nothing heavy.
"""

from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError, did_you_mean
from basewise.files import read_json

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the embedded models that answer a question (MODEL of scan, predict ...), sorted."""
    return [name for name, config in _configs().items() if "classifier" in config]


def backbones() -> list[str]:
    """Return the names of the embedded pretrained backbones, to train or embed from, sorted; the catalog knows them too."""
    return [name for name, config in _configs().items() if "classifier" not in config]


def folder(name: str) -> Path:
    """Return the folder of the embedded model or backbone `name`; BasewiseError names those there are."""
    known = sorted(_configs())
    if name not in known:
        raise BasewiseError(f"no embedded model {name!r}; there are: {', '.join(known) or '(none)'}.{did_you_mean(name, known)}")
    return FOLDER / name


def _configs() -> dict[str, dict[str, Any]]:
    files = sorted(FOLDER.glob("*/config.json"))
    return {file.parent.name: read_json(file) for file in files}
