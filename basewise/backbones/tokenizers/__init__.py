"""Tokenizers: sequences in, `Tokens` out, each token knowing the bases it covers.

Every tokenizer class offers, beside the `Tokenizer` contract: ``settings() -> dict`` (JSON-ready keyword arguments of its constructor),
``save(folder)`` (its vocabulary files, none for a character tokenizer) and ``load(folder, settings)``.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from basewise.backbones.base import Tokenizer
from basewise.errors import BasewiseError, did_you_mean

TOKENIZERS: dict[str, str] = {
    "character": "basewise.backbones.tokenizers.character:CharacterTokenizer",
    "kmer": "basewise.backbones.tokenizers.kmer:KmerTokenizer",
    "bpe": "basewise.backbones.tokenizers.bpe:BpeTokenizer",
}


def load_tokenizer(kind: str, settings: dict[str, Any], folder: str | Path) -> Tokenizer:
    """Return the tokenizer `kind` with `settings`, its vocabulary files read from `folder`."""
    if kind not in TOKENIZERS:
        raise BasewiseError(f"unknown tokenizer {kind!r} in {folder}; known: {', '.join(TOKENIZERS)}.{did_you_mean(kind, TOKENIZERS)}")
    module, name = TOKENIZERS[kind].split(":")
    tokenizer: Tokenizer = getattr(import_module(module), name).load(Path(folder), settings)
    return tokenizer


def tokenizer_kind(tokenizer: Tokenizer) -> str:
    """Return the registry name of a tokenizer object."""
    spelled = f"{type(tokenizer).__module__}:{type(tokenizer).__name__}"
    for kind, target in TOKENIZERS.items():
        if target == spelled:
            return kind
    raise BasewiseError(f"tokenizer {spelled} is not in the registry; known: {', '.join(TOKENIZERS)}")
