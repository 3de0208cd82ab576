"""The character tokenizer of HyenaDNA: one base, one token; ids as published, whole batches looked up in one table.

Facts: MODELS of HyenaDNA, tokenization_hyena.py (hub) and standalone_hyenadna.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.base import Policy, Tokens
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, as_bases, codes

CLS, SEP, BOS, MASK, PAD, RESERVED, UNK = range(7)
A, C, G, T, N = range(7, 12)
VOCABULARY = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N")
COMPLEMENT = (CLS, SEP, BOS, MASK, PAD, RESERVED, UNK, T, G, C, A, N)  # id -> id on the other strand

Dialect = Literal["hub", "standalone", "none"]
PadSide = Literal["left", "right"]

_NORMALIZE: npt.NDArray[np.int64] = codes(np.arange(256, dtype=np.uint8)).astype(np.int64) + A
_OFFICIAL: npt.NDArray[np.int64] = np.full(256, UNK, dtype=np.int64)
_OFFICIAL[list(b"ACGTN")] = (A, C, G, T, N)
# The hub tokenizer reads these names inside a text as one token ([RESERVED] is not declared special there).
_IN_TEXT = re.compile("|".join(re.escape(VOCABULARY[i]) for i in (CLS, SEP, BOS, MASK, PAD, UNK)))
_AROUND: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {"hub": ((), (SEP,)), "standalone": ((CLS,), (SEP,)), "none": ((), ())}


def one_hot(ids: torch.Tensor) -> torch.Tensor:
    """Return (..., 4) bool for ids (...), in the order A C G T; N, [PAD] and every other special token are all False."""
    return ids[..., None] == torch.arange(A, T + 1, device=ids.device)


class CharacterTokenizer:
    """One token a base.

    Parameters
    ----------
    special_tokens
        What ``tokenize(special_tokens=True)`` adds: "hub" appends [SEP] (hub tokenizer and pretraining), "standalone" gives
        [CLS] ... [SEP] (the colab tokenizer), "none" adds nothing (fine-tuning as published, and our convolution networks).
    pad_side
        Side of [PAD] where a batch is ragged. Ours is right, the official one is left; backbones here give the same answer.

    Notes
    -----
    Policy "normalize" (default): case folded, U read as T, every other character is N. The official tokenizer maps lower case and
    IUPAC to [UNK], an id that pretraining on upper-cased sequence never showed, so that a soft-masked genome would get other answers than
    the same genome in upper case. Policy "official": exactly as published, "[MASK]" and its kind inside a text included ("hub" only;
    the standalone tokenizer reads their characters one by one).
    """

    vocabulary_size = len(VOCABULARY)
    pad_id = PAD
    mask_id = MASK
    complement = COMPLEMENT

    def __init__(self, special_tokens: Dialect = "hub", pad_side: PadSide = "right") -> None:
        self.special_tokens: Dialect = _dialect(special_tokens)
        if pad_side not in get_args(PadSide):
            raise BasewiseError(f"pad_side is {pad_side!r}, expected left or right")
        self.pad_side: PadSide = pad_side

    def tokenize(
        self,
        sequences: Sequence[str | Bases],
        *,
        special_tokens: bool | str = True,
        policy: Policy = "normalize",
        pad_side: PadSide | None = None,
        max_length: int | None = None,
        pad_to: int | None = None,
    ) -> Tokens:
        """Return Tokens (B, T) for sequences (text or uint8 bases), order kept.

        Parameters
        ----------
        special_tokens
            True: as the tokenizer was built; False: none; or a dialect by name.
        max_length
            Longest row in tokens, special tokens counted: longer sequences lose their end (special tokens stay). None: no limit.
        pad_to
            T at least; None: the longest row of the batch.

        Raises
        ------
        BasewiseError
            For an unknown dialect, policy or pad side, or a `max_length` with no room for the special tokens.
        """
        dialect = self.special_tokens if special_tokens is True else _dialect(special_tokens or "none")
        side = pad_side or self.pad_side
        if policy not in get_args(Policy) or side not in get_args(PadSide):
            raise BasewiseError(f"policy {policy!r} with pad_side {side!r}: expected official or normalize, left or right")
        before, after = _AROUND[dialect]
        room = None if max_length is None else max_length - len(before) - len(after)
        if room is not None and room < 0:
            raise BasewiseError(f"max_length {max_length} leaves no room for the {len(before) + len(after)} special tokens; make it larger")

        bases = [as_bases(sequence) for sequence in sequences]
        in_text = policy == "official" and "standalone" not in (dialect, self.special_tokens)
        rows = [_special_in_text(b) if in_text and (b == ord("[")).any() else None for b in bases]
        counts = np.array([len(b) if row is None else len(row[0]) for b, row in zip(bases, rows, strict=True)], dtype=np.int64)
        kept = counts if room is None else np.minimum(counts, room)
        lengths = kept + len(before) + len(after)
        width = max(int(lengths.max(initial=0)), pad_to or 0)
        left = np.zeros_like(lengths) if side == "right" else width - lengths

        ids = np.full((len(bases), width), PAD, dtype=np.int64)
        column = np.arange(width, dtype=np.int64) - left[:, None]  # index of a token in its row
        mask = (column >= 0) & (column < lengths[:, None])
        base = column - len(before)  # index of a base in its sequence
        is_base = (base >= 0) & (base < kept[:, None])
        lut = _NORMALIZE if policy == "normalize" else _OFFICIAL
        pieces = [lut[b[:n]] if row is None else row[0][:n] for b, row, n in zip(bases, rows, kept, strict=True)]
        if pieces:
            ids[is_base] = np.concatenate(pieces)  # row-major order: rows one after another, bases in order
        for i, token in enumerate(before):
            ids[column == i] = token
        for i, token in enumerate(after):
            ids[base == kept[:, None] + i] = token
        spans = np.zeros((*ids.shape, 2), dtype=np.int32)
        spans[..., 0] = np.where(is_base, base, 0)
        spans[..., 1] = np.where(is_base, base + 1, 0)
        for i, row in enumerate(rows):
            if row is not None:
                spans[i, is_base[i]] = row[1][: kept[i]]
        return Tokens(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(spans))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-ready."""
        return {"special_tokens": self.special_tokens, "pad_side": self.pad_side}

    def save(self, folder: Path) -> None:
        """Write nothing: the vocabulary is part of the code."""

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> "CharacterTokenizer":
        """Return the tokenizer with `settings`; unknown settings are refused."""
        unknown = set(settings) - {"special_tokens", "pad_side"}
        if unknown:
            raise BasewiseError(
                f"unknown character tokenizer settings {', '.join(sorted(unknown))} in {folder}; known: special_tokens, pad_side"
            )
        return cls(**settings)


def _dialect(name: object) -> Dialect:
    for known in get_args(Dialect):
        if name == known:
            return known
    raise BasewiseError(f"special_tokens is {name!r}, expected one of {', '.join(_AROUND)}.{did_you_mean(str(name), _AROUND)}")


def _special_in_text(bases: Bases) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return ids (T,) and spans (T, 2) of a text in which names such as [MASK] stand for one token of as many characters."""
    text = bases.tobytes().decode("latin-1")
    ids, starts, ends, done = [], [], [], 0
    for match in [*_IN_TEXT.finditer(text), None]:
        stop = match.start() if match else len(text)
        ids.append(_OFFICIAL[bases[done:stop]])
        starts.append(np.arange(done, stop))
        ends.append(np.arange(done, stop) + 1)
        if match:
            ids.append(np.array([VOCABULARY.index(match.group())]))
            starts.append(np.array([match.start()]))
            ends.append(np.array([match.end()]))
            done = match.end()
    return np.concatenate(ids), np.stack([np.concatenate(starts), np.concatenate(ends)], axis=1).astype(np.int32)
