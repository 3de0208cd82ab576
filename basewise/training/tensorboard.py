"""The lines of log.jsonl as a TensorBoard event file, without TensorBoard: `tensorboard --logdir RUNS` draws them.

The format is small enough to write by hand, so that training needs no further library and a resumed run can drop what lies beyond its
checkpoint: the file is written anew from log.jsonl then.

Source: TFRecord framing (length, masked crc32c, content, masked crc32c) and event.proto, summary.proto of TensorFlow.
"""

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "events.out.tfevents.basewise"  # TensorBoard reads files whose name holds "tfevents"
VERSION = "brain.Event:2"
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types of protocol buffers


def scalars(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield (tag, value) of the numbers of a log line but its step; those of an object inside get tags such as ``validation/auroc``."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and (prefix or name != "step"):
            yield prefix + name, float(value)


def header() -> bytes:
    """Return the record that an event file begins with."""
    return record(_field(1, _DOUBLE, struct.pack("<d", time.time())) + _field(3, _BYTES, VERSION.encode()))


def event(facts: Mapping[str, Any]) -> bytes:
    """Return the record of a log line (with ``step``), all its numbers as scalars; empty where it has none."""
    values = b""
    for tag, value in scalars(facts):
        entry = _field(1, _BYTES, tag.encode()) + _field(2, _FLOAT, struct.pack("<f", value))
        values += _field(1, _BYTES, entry)
    if not values:
        return b""
    content = _field(1, _DOUBLE, struct.pack("<d", time.time())) + _field(2, _VARINT, _varint(int(facts["step"])))
    return record(content + _field(5, _BYTES, values))


def append(path: Path, facts: Mapping[str, Any]) -> None:
    """Append a log line to an event file."""
    with path.open("ab") as stream:
        stream.write(event(facts))


def record(content: bytes) -> bytes:
    """Return a TFRecord."""
    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", masked_crc32c(length)) + content + struct.pack("<I", masked_crc32c(content))


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of data, rotated and shifted as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # noqa: PLW2901
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def _field(number: int, kind: int, content: bytes) -> bytes:
    length = _varint(len(content)) if kind == _BYTES else b""
    return _varint(number << 3 | kind) + length + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
