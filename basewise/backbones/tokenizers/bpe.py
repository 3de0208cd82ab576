"""The byte-pair tokenizers of DNABERT-2 and GENA-LM, read from their published tokenizer.json by the `tokenizers` library.

[CLS] stands first, [SEP] last. Neither vocabulary knows lower case. What N is differs: DNABERT-2 and GENA-LM's bert-base have no N, so
each is an [UNK]; GENA-LM's t2t vocabulary has N, and a run of ten or more becomes one "-".
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Engine

from basewise.backbones.base import Policy, Tokens
from basewise.backbones.tokenizers.padding import PadSide, Row, check_options, normalized, pad_batch
from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import Bases, as_bases

TOKENIZER_FILE = "tokenizer.json"

_N_RUN = re.compile("N{10,}")


class BpeTokenizer:
    """Byte-pair tokens of varying length.

    Parameters
    ----------
    text
        The content of a tokenizer.json; kept as it is, so that a saved model carries the published file byte for byte.
    pad_side
        Side of [PAD] where a batch is ragged; right as published.

    Notes
    -----
    Policy "normalize" (default): case folded, U read as T, every other character is N, so that a soft-masked genome gets the same
    answer as one in upper case; spans then tile the sequence. Policy "official": as published; each lower-case letter is an [UNK] of
    its own, GENA-LM's t2t reads R, Y, S, W, K, M, B as tokens, white space may vanish, "[MASK]" and its kind inside a text is
    one token.

    `ragged` tells that the number of tokens does not follow from the number of bases.

    A "-" that stands for a run of N has the whole run as its span (the library's own offset is the last N only).
    """

    ragged = True

    def __init__(self, text: str, pad_side: PadSide = "right") -> None:
        check_options(True, "official", pad_side)
        self.text = text
        self.pad_side: PadSide = pad_side
        try:
            self._engine = Engine.from_str(text)
        except Exception as error:  # the library raises bare Exception for any malformed file
            raise BasewiseError(f"tokenizer.json cannot be read: {error}; use the published file") from error
        found = {name: self._engine.token_to_id(name) for name in ("[CLS]", "[SEP]", "[PAD]", "[MASK]")}
        special = {name: token for name, token in found.items() if token is not None}
        absent = [name for name in found if name not in special]
        if absent:
            raise BasewiseError(f"tokenizer.json has no {', '.join(absent)}; use the published file of DNABERT-2 or GENA-LM")
        self._cls, self._sep = special["[CLS]"], special["[SEP]"]
        self.pad_id: int = special["[PAD]"]
        self.mask_id: int = special["[MASK]"]
        self.run_id: int | None = self._engine.token_to_id("-")

    @property
    def vocabulary_size(self) -> int:
        """Number of ids the tokenizer can emit."""
        size: int = self._engine.get_vocab_size()
        return size

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

        `max_length` counts [CLS] and [SEP]; a longer row loses its end, not its [SEP]. `pad_to` is the least T. Raises BasewiseError for
        unknown options.
        """
        side = pad_side or self.pad_side
        check_options(special_tokens, policy, side)
        bases = [normalized(as_bases(s)) if policy == "normalize" else as_bases(s) for s in sequences]
        texts = [b.tobytes().decode("latin-1") for b in bases]
        encoded = self._engine.encode_batch(texts, add_special_tokens=False)
        rows = [self._row(text, encoding.ids, encoding.offsets) for text, encoding in zip(texts, encoded, strict=True)]
        before, after = ((self._cls,), (self._sep,)) if special_tokens else ((), ())
        return pad_batch(rows, before=before, after=after, pad_id=self.pad_id, pad_side=side, max_length=max_length, pad_to=pad_to)

    def _row(self, text: str, token_ids: list[int], offsets: list[tuple[int, int]]) -> Row:
        ids = np.array(token_ids, dtype=np.int64)
        spans = np.array(offsets, dtype=np.int32).reshape(-1, 2)
        if self.run_id is not None and (ids == self.run_id).any():
            starts = {run.end(): run.start() for run in _N_RUN.finditer(text)}
            for i in np.flatnonzero(ids == self.run_id):
                spans[i, 0] = starts.get(int(spans[i, 1]), spans[i, 0])
        return ids, spans

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments but the text, JSON-ready."""
        return {"pad_side": self.pad_side}

    def save(self, folder: Path) -> None:
        """Write tokenizer.json as it was read."""
        with atomic_path(Path(folder) / TOKENIZER_FILE) as temporary:
            temporary.write_bytes(self.text.encode())

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> "BpeTokenizer":
        """Return the tokenizer of the tokenizer.json in `folder` with `settings`."""
        unknown = set(settings) - {"pad_side"}
        if unknown:
            raise BasewiseError(f"unknown byte-pair tokenizer settings {', '.join(sorted(unknown))} in {folder}; known: pad_side")
        file = Path(folder) / TOKENIZER_FILE
        try:
            text = file.read_bytes().decode()
        except FileNotFoundError as error:
            raise BasewiseError(f"no {TOKENIZER_FILE} in {folder}; put the published one of this model beside config.json") from error
        except UnicodeDecodeError as error:
            raise BasewiseError(f"{file} is not UTF-8 text; use the published file") from error
        return cls(text, **settings)

    @classmethod
    def from_official(cls, folder: str | Path) -> "BpeTokenizer":
        """Return the tokenizer of a published folder."""
        return cls.load(Path(folder), {})
