"""The published checkpoints we know by name (catalog.toml), where they lie on this disk, and whether files are what they should be.

Data and paths only: nothing heavy is imported.
"""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from basewise import zoo
from basewise.errors import BasewiseError, did_you_mean
from basewise.files import read_json, sha256_of

FILE = Path(__file__).with_name("catalog.toml")
HOME = "BASEWISE_MODELS"  # environment variable: folder under which fetched models lie
SOURCE = "source.json"  # what `fetch` leaves in a folder: name, repository, revision, licence


class KnownFile(BaseModel):
    """What is known of a file; `sha256` may be the beginning of the checksum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    size: Annotated[int, Field(ge=0)] | None = None


class Entry(BaseModel):
    """One published checkpoint; see the head of catalog.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    family: str
    parameters: int
    context_bp: int
    licence: str
    non_commercial: bool
    revision: Annotated[str, Field(pattern="^[0-9a-f]{0,40}$")]
    shape: dict[str, Any]
    files: dict[str, KnownFile] = Field(default_factory=dict)
    embedded: bool = False
    """In the package, trained by basewise: there is nothing to fetch."""

    @property
    def notice(self) -> str:
        """One line to show wherever the model is handled: what its licence asks for; empty where it forbids no use."""
        if not self.non_commercial:
            return ""
        return f"{self.repository}: licence {self.licence}, for NON-COMMERCIAL use only, also of models trained from it"


@cache
def entries() -> dict[str, Entry]:
    """Return the catalog by name, in its order."""
    try:
        return {name: Entry.model_validate(values) for name, values in tomllib.loads(FILE.read_text(encoding="utf-8")).items()}
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BasewiseError(f"{FILE} is damaged: {str(error).splitlines()[0]}; install basewise again") from error


def entry(name: str) -> Entry:
    """Return the entry of a catalog name or of a repository name; BasewiseError with the nearest name otherwise."""
    known = entries()
    if name in known:
        return known[name]
    for one in known.values():
        if one.repository == name:
            return one
    raise BasewiseError(f"no model {name!r} in the catalog.{did_you_mean(name, known)} `basewise models list` shows all {len(known)}")


def family_of(name: str) -> str:
    """Return the family of a catalog name."""
    return entry(name).family


def config_of(name: str) -> dict[str, Any]:
    """Return the settings of the family's Config that give this model's shape."""
    return dict(entry(name).shape)


def home() -> Path:
    """Return the folder under which fetched models lie: $BASEWISE_MODELS, or ~/.cache/basewise/models."""
    return Path(os.environ.get(HOME) or Path.home() / ".cache" / "basewise" / "models")


def folder_of(name: str) -> Path:
    """Return where the files of a catalog name lie, or would lie, on this disk."""
    return zoo.folder(name) if entry(name).embedded else home() / name


def source_of(folder: Path) -> dict[str, Any]:
    """Return what `fetch` wrote into a folder; {} where there is nothing of the kind."""
    found = read_json(folder / SOURCE) if (folder / SOURCE).is_file() else {}
    return found if isinstance(found, dict) else {}


def verify(folder: str | Path, name: str | None = None) -> list[str]:
    """Compare the files of a folder with what the catalog knows of them and return the names of those compared.

    `name` defaults to the one that `fetch` left there; without either nothing is compared. Raises BasewiseError, listing all files that
    differ, or naming the revision when the folder was fetched from another one.
    """
    folder = Path(folder)
    source = source_of(folder)
    name = name or source.get("name")
    if name is None:
        return []
    known = entry(name)
    revision = str(source.get("revision", ""))
    if revision and known.revision and not revision.startswith(known.revision):
        raise BasewiseError(f"{folder} holds revision {revision} of {known.repository}, the catalog pins {known.revision}; fetch it again")
    wrong, compared = [], []
    for file, facts in known.files.items():
        path = folder / file
        if not path.is_file():
            continue
        compared.append(file)
        size = path.stat().st_size
        if facts.size is not None and size != facts.size:
            wrong.append(f"{file} has {size} bytes, expected {facts.size}")
        elif facts.sha256 and not (digest := sha256_of(path)).startswith(facts.sha256):
            wrong.append(f"{file} has sha256 {digest[:12]}..., expected {facts.sha256[:12]}...")
    if wrong:
        raise BasewiseError(f"{folder} is not {name}: {'; '.join(wrong)}; fetch it again")
    return compared
