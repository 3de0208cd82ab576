"""Tensors out of foreign .bin, .pt and .ckpt files, and nothing else out of them: a pickle is a program, and here it may only name tensors.

Two readers. torch's own ``weights_only`` reader comes first. Training checkpoints of PyTorch Lightning hold configuration objects that it
refuses; for those our reader rebuilds tensors and puts an inert stand-in wherever the file names anything else. No code of the file, nor
code it names, is ever run.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basewise.errors import BasewiseError

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# No honest checkpoint names these: a file that does was made to do harm, or cannot be told from one that was.
NEVER = (
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "runpy",
    "importlib",
    "ctypes",
    "socket",
    "pty",
    "code",
    "pdb",
    "webbrowser",
    "marshal",
)
HARMLESS_BUILTINS = {
    "set",
    "frozenset",
    "dict",
    "list",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "slice",
    "object",
}


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name in a file that torch.save wrote (under "state_dict" when it has that entry), on the CPU.

    Memory: tensors are mapped from the file where its format allows.

    Raises
    ------
    BasewiseError
        For a file that is no checkpoint, is truncated, names code, or holds no tensors by name.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(2)
    except OSError as error:
        raise BasewiseError(f"cannot read {path}: {error.strerror or error}") from error
    if magic == b"PK" and not zipfile.is_zipfile(path):
        raise BasewiseError(f"{path} is truncated or damaged; copy or download it again")
    if magic not in (b"PK", b"\x80\x02"):
        raise BasewiseError(f"{path} is no PyTorch checkpoint (it starts with {magic!r}); copy or download it again")
    zipped = magic == b"PK"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if not zipped:
            raise BasewiseError(f"{path} is refused: it holds more than tensors ({_reason(error)})") from error
        content = _read_with_stand_ins(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise BasewiseError(f"{path} is truncated or damaged ({_reason(error)}); copy or download it again") from error
    return _tensors(content, path)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise BasewiseError(f"{path} holds a {type(content).__name__}, expected weights by name")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise BasewiseError(f"{path} holds entries that are no tensors: {', '.join(strange[:6])}; expected weights by name")
    return {str(name): value.detach() for name, value in content.items()}


class _StandIn:
    """Takes the place of any object that is no tensor: accepts what a pickle does to an object, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def __call__(self, *_: Any, **__: Any) -> "_StandIn":
        return self

    def append(self, _: Any) -> None: ...
    def extend(self, _: Any) -> None: ...
    def add(self, _: Any) -> None: ...
    def update(self, *_: Any, **__: Any) -> None: ...


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)  # raises when it would leave the storage


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows how tensors are rebuilt and how ordered dictionaries are made; everything else is a stand-in."""

    def __init__(self, archive: zipfile.ZipFile, pickled: str, path: Path) -> None:
        super().__init__(archive.open(pickled))
        self._archive, self._root, self._path = archive, pickled.removesuffix("data.pkl"), path
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global: nothing of the file's choosing is ever imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        harmless = module in ("builtins", "__builtin__") and name in HARMLESS_BUILTINS
        if module.partition(".")[0] in NEVER or (module in ("builtins", "__builtin__") and not harmless):
            raise BasewiseError(
                f"{self._path} is refused: its pickle names {module}.{name}, which no checkpoint needs; do not trust its source"
            )
        return _StandIn

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the flat tensor of a storage, read once."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown storage {kind!r}")
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(raw, dtype=dtype)[:count] if raw else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _read_with_stand_ins(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise BasewiseError(f"{path} is a zip file, but not one that torch.save wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            return _TensorsOnly(archive, pickled[0], path).load()
    except BasewiseError:
        raise
    except Exception as error:  # a crafted pickle can make the unpickler raise anything
        raise BasewiseError(f"{path} is refused: its pickle cannot be read as tensors ({_reason(error)})") from error
