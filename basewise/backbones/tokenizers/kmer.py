"""The non-overlapping k-mer tokenizer of the Nucleotide Transformer.

Rule, left to right: N is a token of its own; between Ns, k-mers while k bases are left, then single bases. <cls> stands first.

Source: the published description of the tokenizer and its vocabulary order; the code is ours (the published one is CC BY-NC-SA 4.0).
"""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from basewise.backbones.base import Policy, Tokens
from basewise.backbones.tokenizers.padding import PadSide, Row, check_options, normalized, pad_batch
from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.genome.alphabet import Bases, as_bases

Layout = Literal["v1", "v2"]
VOCABULARY_FILE = "vocab.txt"
MAX_K = 8

_ORDER = "ATCG"  # the vocabulary counts in this order, not alphabetically
_N, _STRANGE, _SPACE = 4, 5, 6  # after the four bases 0..3 in _ORDER
_KINDS: npt.NDArray[np.uint8] = np.full(256, _STRANGE, dtype=np.uint8)
for _kind, _letter in enumerate(b"ATCGN"):
    _KINDS[_letter] = _kind
_KINDS[list(b"\t\n\v\f\r\x1c\x1d\x1e\x1f ")] = _SPACE  # where Python's str.split() splits


def vocabulary(layout: Layout, k: int = 6) -> tuple[str, ...]:
    """Return the tokens of a layout, index = id.

    v1 ends with <eos> <bos>, which have no row in the published embedding tables and are never emitted; v2 has them in front.

    >>> vocabulary("v2", 1)[6:]
    ('A', 'T', 'C', 'G', 'N')
    """
    kmers = tuple("".join(letters) for letters in product(_ORDER, repeat=k)) if k > 1 else ()
    front: tuple[str, ...] = ("<unk>", "<pad>", "<mask>", "<cls>")
    ends = ("<eos>", "<bos>")
    singles = (*_ORDER, "N")
    return (*front, *kmers, *singles, *ends) if layout == "v1" else (*front, *ends, *kmers, *singles)


class KmerTokenizer:
    """Non-overlapping k-mers.

    Parameters
    ----------
    layout
        "v1" or "v2": where the ids begin (see `vocabulary`).
    k
        Bases a token, 6 in nearly all published models (one has 3).
    pad_side
        Side of <pad> where a batch is ragged; right as published.

    Notes
    -----
    Policy "normalize" (default): case folded, U read as T, every other character is N, so that each base lies in exactly one token and a
    soft-masked genome gets the same answer as one in upper case. Policy "official": as published; a run of characters outside the
    vocabulary (lower case and IUPAC included) becomes one <unk>, white space vanishes, "<mask>" and its kind inside a text is one token.
    """

    family = "kmer"
    pad_id = 1
    mask_id = 2

    def __init__(self, layout: Layout = "v2", k: int = 6, pad_side: PadSide = "right") -> None:
        if layout not in get_args(Layout) or not 1 <= k <= MAX_K:
            raise BasewiseError(f"k-mer tokenizer of layout {layout!r} and k = {k!r}: expected layout v1 or v2 and k from 1 to {MAX_K}")
        check_options(True, "official", pad_side)
        self.layout: Layout = layout
        self.k = k
        self.pad_side: PadSide = pad_side
        self.tokens = vocabulary(layout, k)
        self._first_kmer = 4 if layout == "v1" else 6
        self._first_single = self._first_kmer + (4**k if k > 1 else 0)
        self._in_text = {name: i for i, name in enumerate(self.tokens) if name.startswith("<")}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids the tokenizer can emit: rows that an embedding table needs."""
        return self._first_single + 5

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

        `max_length` counts <cls>; a longer row loses its end. `pad_to` is the least T. Raises BasewiseError for unknown options.
        """
        side = pad_side or self.pad_side
        check_options(special_tokens, policy, side)
        rows = [self._official(as_bases(s)) if policy == "official" else self._cut(normalized(as_bases(s))) for s in sequences]
        before = (3,) if special_tokens else ()
        return pad_batch(rows, before=before, after=(), pad_id=self.pad_id, pad_side=side, max_length=max_length, pad_to=pad_to)

    def _cut(self, bases: Bases) -> Row:
        """Return ids and spans of bases without names of special tokens; see the rule at the top."""
        kinds = _KINDS[bases]
        L, k = len(kinds), self.k
        if not L:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int32)
        group = np.maximum(kinds, 3)  # the four bases run together
        first = np.flatnonzero(np.diff(group, prepend=255))  # first base of each run
        run = np.cumsum(np.diff(group, prepend=group[0]) != 0)
        size = np.diff(first, append=L)[run]  # (L,) length of the run a base is in
        place = np.arange(L) - first[run]  # (L,) its place there
        is_base = kinds < _N
        is_kmer = is_base & (place % k == 0) & (place + k <= size) if k > 1 else np.zeros(L, dtype=bool)
        is_single = (is_base & (place >= size - size % k) if k > 1 else is_base) | (kinds == _N)
        is_strange = (kinds == _STRANGE) & (place == 0)

        starts = np.flatnonzero(is_kmer | is_single | is_strange)
        lengths = np.where(is_kmer, k, np.where(is_strange, size, 1))[starts]
        ids = np.where(is_strange, 0, self._first_single + kinds.astype(np.int64))[starts]
        kmers = starts[is_kmer[starts]]
        letters = kinds[kmers[:, None] + np.arange(k)].astype(np.int64)  # (n, k)
        ids[is_kmer[starts]] = self._first_kmer + letters @ (4 ** np.arange(k - 1, -1, -1, dtype=np.int64))
        return ids, np.stack([starts, starts + lengths], axis=1).astype(np.int32)

    def _official(self, bases: Bases) -> Row:
        """Return ids and spans of a text in which names such as <mask> stand for one token of as many characters."""
        if not (bases == ord("<")).any():
            return self._cut(bases)
        rows, done = [], 0
        text = bases.tobytes().decode("latin-1")
        for match in [*re.finditer("|".join(self._in_text), text), None]:
            stop = match.start() if match else len(text)
            ids, spans = self._cut(bases[done:stop])
            rows.append((ids, spans + np.int32(done)))
            if match:
                token, done = self._in_text[match.group()], match.end()
                if token >= self.vocabulary_size:
                    raise BasewiseError(
                        f"{match.group()} in a sequence has id {token}, which published {self.layout} weights have no row for"
                    )
                rows.append((np.array([token], dtype=np.int64), np.array([[stop, done]], dtype=np.int32)))
        return np.concatenate([ids for ids, _ in rows]), np.concatenate([spans for _, spans in rows])

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-ready."""
        return {"layout": self.layout, "k": self.k, "pad_side": self.pad_side}

    def save(self, folder: Path) -> None:
        """Write vocab.txt, one token a line, the line its id."""
        with atomic_path(Path(folder) / VOCABULARY_FILE) as temporary:
            temporary.write_text("\n".join(self.tokens) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> "KmerTokenizer":
        """Return the tokenizer with `settings`; a vocab.txt in `folder` must say the same."""
        unknown = set(settings) - {"layout", "k", "pad_side"}
        if unknown:
            raise BasewiseError(f"unknown k-mer tokenizer settings {', '.join(sorted(unknown))} in {folder}; known: layout, k, pad_side")
        tokenizer = cls(**settings)
        file = Path(folder) / VOCABULARY_FILE
        if file.exists() and read_vocabulary(file) != tokenizer.tokens:
            raise BasewiseError(
                f"{file} is not the vocabulary of layout {tokenizer.layout}, k = {tokenizer.k}; use the published vocab.txt"
            )
        return tokenizer

    @classmethod
    def from_official(cls, folder: str | Path) -> "KmerTokenizer":
        """Return the tokenizer that a published vocab.txt describes; BasewiseError when it follows neither layout."""
        file = Path(folder) / VOCABULARY_FILE
        if not file.exists():
            raise BasewiseError(f"no {VOCABULARY_FILE} in {folder}; a Nucleotide Transformer folder needs it beside config.json")
        tokens = read_vocabulary(file)
        for layout in get_args(Layout):
            for k in range(1, MAX_K + 1):
                if 4**k <= len(tokens) <= 4**k + 15 and tokens == vocabulary(layout, k):
                    return cls(layout, k)
        raise BasewiseError(f"{file} holds {len(tokens)} tokens that follow no known layout (v1, v2); use the published vocab.txt")


def read_vocabulary(file: Path) -> tuple[str, ...]:
    """Return the tokens of a vocab.txt, one a line."""
    try:
        return tuple(file.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise BasewiseError(f"{file} is not a text file of one token a line; use the published vocab.txt") from error
