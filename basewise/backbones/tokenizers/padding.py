"""Ragged rows of tokens to one padded batch: the part every subword tokenizer shares."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.base import Policy, Tokens
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, codes

PadSide = Literal["left", "right"]
Row = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]  # ids (T,), spans (T, 2)

_NORMAL = np.frombuffer(b"ACGTN", dtype=np.uint8)


def normalized(bases: Bases) -> Bases:
    """Return bases (L,) in upper case, U as T, everything that is not A, C, G or T as N."""
    letters: Bases = _NORMAL[codes(bases)]
    return letters


def pad_batch(
    rows: Sequence[Row],
    *,
    before: tuple[int, ...],
    after: tuple[int, ...],
    pad_id: int,
    pad_side: PadSide,
    max_length: int | None,
    pad_to: int | None,
) -> Tokens:
    """Return Tokens (B, T) for rows without special tokens; `before` and `after` are put around each, padding on `pad_side`.

    With `max_length` a longer row loses its end, never its special tokens. Raises BasewiseError when they alone do not fit.
    """
    extra = len(before) + len(after)
    if max_length is not None and max_length < extra:
        raise BasewiseError(f"max_length {max_length} leaves no room for the {extra} special tokens; make it larger")
    room = None if max_length is None else max_length - extra
    kept = [(ids[:room], spans[:room]) for ids, spans in rows]
    width = max([len(ids) + extra for ids, _ in kept] + [pad_to or 0], default=0)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=bool)
    spans = np.zeros((len(rows), width, 2), dtype=np.int32)
    for i, (row_ids, row_spans) in enumerate(kept):
        length = len(row_ids) + extra
        start = 0 if pad_side == "right" else width - length
        inner = slice(start + len(before), start + len(before) + len(row_ids))
        ids[i, start : inner.start] = before
        ids[i, inner] = row_ids
        ids[i, inner.stop : start + length] = after
        spans[i, inner] = row_spans
        mask[i, start : start + length] = True
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(spans))


def check_options(special_tokens: bool | str, policy: Policy, pad_side: str) -> None:
    """Raise BasewiseError unless the options are among those a subword tokenizer knows."""
    if not isinstance(special_tokens, bool):
        raise BasewiseError(f"special_tokens is {special_tokens!r}; this tokenizer knows True (as published) and False (none)")
    if policy not in get_args(Policy):
        raise BasewiseError(f"policy is {policy!r}, expected official or normalize")
    if pad_side not in get_args(PadSide):
        raise BasewiseError(f"pad_side is {pad_side!r}, expected left or right")
