"""What every backbone and tokenizer promises: bases in, hidden states out, and which bases a token covers.

A backbone never sees text; a tokenizer never sees weights. Shapes: B sequences, T tokens, D width.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from basewise.genome.alphabet import Bases

Policy = Literal["official", "normalize"]


class Tokens(NamedTuple):
    """A batch of tokenized sequences.

    Attributes
    ----------
    ids : Tensor (B, T) int64
        Vocabulary ids, padding included.
    mask : Tensor (B, T) bool
        True at tokens (special tokens included), False at padding.
    spans : Tensor (B, T, 2) int32
        Bases [start, end) of the sequence that the token covers; (0, 0) for special tokens and padding.
    """

    ids: Tensor
    mask: Tensor
    spans: Tensor


@runtime_checkable
class Tokenizer(Protocol):
    """Turns sequences into `Tokens`; ids equal those of the family's official tokenizer under ``policy="official"``."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids the tokenizer can emit."""
        ...

    def tokenize(self, sequences: Sequence[str | Bases], *, special_tokens: bool | str = True, policy: Policy = "normalize") -> Tokens:
        """Return padded Tokens for `sequences`, order kept; `special_tokens` as the family documents them."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """A genome language model without a head (an ``nn.Module``).

    The hidden state of a token never depends on padding, on the batch size or on its neighbours in the batch.
    """

    @property
    def family(self) -> str:
        """Registry name: hyenadna, convnet, pyramid, dnabert2, nucleotide_transformer or gena_lm."""
        ...

    @property
    def width(self) -> int:
        """D, the size of a hidden state."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Longest input in tokens, special tokens included; None where there is no limit."""
        ...

    @property
    def causal(self) -> bool:
        """True when a token sees only what stands before it."""
        ...

    def embed(self, ids: Tensor) -> Tensor:
        """Return (B, T, D) for ids (B, T): the whole input embedding, before the first layer."""
        ...

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (B, T, D) after the family's final norm, for embeddings (B, T, D) and a bool mask (B, T)."""
        ...
