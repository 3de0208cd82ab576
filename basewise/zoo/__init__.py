"""Embedded models: one folder a model, trained by the recipe stored beside the weights.

Data, not code: this module lists the folders and imports nothing heavy.
"""

from pathlib import Path

from basewise.errors import BasewiseError, did_you_mean

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the embedded models, sorted."""
    return sorted(child.name for child in FOLDER.iterdir() if (child / "config.json").is_file())


def folder(name: str) -> Path:
    """Return the model folder of the embedded model `name`; BasewiseError names those there are."""
    if name not in names():
        raise BasewiseError(f"no embedded model {name!r}; there are: {', '.join(names()) or '(none)'}.{did_you_mean(name, names())}")
    return FOLDER / name
