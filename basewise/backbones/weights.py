"""Weights from a file into a module: every name accounted for, or one line that lists what is wrong."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from basewise.errors import BasewiseError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU; BasewiseError when it is missing, truncated or something else."""
    if not path.is_file():
        raise BasewiseError(f"{path} does not exist; a model folder holds config.json and model.safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BasewiseError(f"{path} is damaged or no safetensors file ({error}); copy or download it again") from error


def assign_weights(module: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Give `module` exactly the tensors of `state` (assigned, not copied).

    Raises BasewiseError, listing the names, when a weight is missing, left over or of another shape; the module is untouched then.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    left_over = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} {what}: {shorten(names)}"
        for what, names in (("missing", missing), ("left over", left_over), ("of the wrong shape", shapes))
        if names
    ]
    if problems:
        raise BasewiseError(f"weights of {source} do not fit its config: {'; '.join(problems)}")
    module.load_state_dict(dict(state), assign=True)


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """Return the first names of a long list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
