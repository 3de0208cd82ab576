"""Files that are either whole or absent: atomic writes, output folders, checksums."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError

MARKER = ".basewise"  # an (empty) file in every folder basewise made, so that --force never deletes a stranger's work


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it onto `path` on success, remove it on any error.

    The suffixes of `path` are kept, so that writers that look at them work. Raises BasewiseError when the folder
    is missing, not writable, or the disk is full.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix="-" + path.name, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise BasewiseError(f"cannot write {path}: {error.strerror or error}; choose a folder that exists and is writable") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise BasewiseError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def prepare_output_folder(path: str | Path, *, force: bool = False) -> Path:
    """Create `path` as an empty folder that basewise owns and return it.

    An existing non-empty folder is refused without `force`; with it, only a folder that carries basewise's marker is emptied.
    One that holds the marker alone, of a command that failed before it wrote anything, is empty.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BasewiseError(f"output {path} is a file, expected a folder; choose another -o")
    if path.is_dir() and any(child.name != MARKER for child in path.iterdir()):
        if not force:
            raise BasewiseError(f"output folder {path} exists and is not empty; choose another -o or add --force to replace it")
        if not (path / MARKER).exists():
            raise BasewiseError(f"output folder {path} was not made by basewise, so --force will not empty it; choose another -o")
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).touch()
    except OSError as error:
        raise BasewiseError(f"cannot create output folder {path}: {error.strerror or error}; choose a writable place") from error
    return path


def sha256_of(path: str | Path) -> str:
    """Return the hex sha256 of a file's bytes, read in 1-MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON by rename; NaN is refused, since other programs cannot read it."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; BasewiseError names the file when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BasewiseError(f"{path} is not valid JSON: {error}") from error
