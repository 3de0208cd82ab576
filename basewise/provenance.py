"""Who made this file: versions, command line and time, to be stored beside every result."""

import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "pysam", "numba", "safetensors", "tokenizers")


def version() -> str:
    """Return the installed version of basewise."""
    return metadata.version("basewise")


def provenance(**facts: Any) -> dict[str, Any]:
    """Return a JSON-ready record of versions, command and UTC time, followed by `facts` (genome sha256, model id, seed ...).

    Library versions come from package metadata: nothing heavy is imported.
    """
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "absent"
    return {
        "basewise": version(),
        "python": platform.python_version(),
        "libraries": versions,
        "command": " ".join(["basewise", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
