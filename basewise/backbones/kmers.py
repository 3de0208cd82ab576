"""A backbone that only counts: the hidden state of a base is the weight of the k-mers that start there; their mean is a linear model.

With `SequenceHead(pool="mean")` of weight 1 and bias b the logit is  b + sum over k-mers of weight * count / length, which is logistic
regression on k-mer frequencies behind the same interface as every other model. With `bins` > 1 each stretch of the sequence has
weights of its own. A k-mer with N counts as none.
"""

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from basewise.backbones.tokenizers.character import one_hot


class Config(BaseModel):
    """Which k-mers are counted, and in how many equal stretches of the sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ks: Annotated[tuple[Annotated[int, Field(ge=1, le=10)], ...], Field(min_length=1)] = (3, 4, 5, 6)
    bins: Annotated[int, Field(ge=1)] = 1


class Model(nn.Module):
    """One weight for each (bin, k-mer), all zero at the start. Attributes of the Backbone contract."""

    family = "kmers"
    width = 1
    max_tokens: int | None = None
    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.ParameterDict({f"k{k}": nn.Parameter(torch.zeros(config.bins, 4**k)) for k in config.ks})

    def embed(self, ids: Tensor) -> Tensor:
        """Return the one-hot input (B, T, 4) in the order A C G T; everything else is zeros."""
        return one_hot(ids).float()

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (B, T, 1): the summed weights of the k-mers whose first base stands there."""
        digit = embedded.argmax(-1)  # (B, T)
        known = (embedded.sum(-1) > 0.5) & mask
        place = mask.long().cumsum(1) - 1
        length = mask.sum(1, keepdim=True).clamp_min(1)
        stretch = (place * self.config.bins // length).clamp(0, self.config.bins - 1)
        hidden = embedded.new_zeros(digit.shape)
        for k in self.config.ks:
            starts = digit.shape[1] - k + 1
            if starts < 1:
                continue
            index = sum(digit[:, i : i + starts] * 4 ** (k - 1 - i) for i in range(k))
            whole = known.unfold(1, k, 1).all(-1)  # (B, starts)
            score = self.weights[f"k{k}"][stretch[:, :starts], index] * whole
            hidden = hidden + nn.functional.pad(score, (0, k - 1))
        return hidden[..., None]
