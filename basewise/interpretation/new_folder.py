"""An output folder that appears finished or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from basewise.files import prepare_output_folder


@contextmanager
def new_folder(path: str | Path, *, force: bool) -> Iterator[Path]:
    """Yield `path` as an empty folder of basewise (see `files.prepare_output_folder`) and remove it when what fills it fails."""
    folder = prepare_output_folder(path, force=force)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise
