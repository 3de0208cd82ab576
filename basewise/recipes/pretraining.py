"""What [pretrain] of a recipe says: which windows of a genome a language model reads, and which of their bases it is asked for."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class Pretrain(BaseModel):
    """Next-nucleotide pretraining on the genome `data.path`; contigs of `data.val_chroms` and `data.test_chroms` give no training window.

    Every base of a window is asked for from those before it in the window: the first one never, and N (or any IUPAC code) never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    length: int = Field(default=1024, ge=2)
    """Bases a window, each one token; contigs shorter than this give no window."""
    strands: Literal["both", "forward"] = "both"
    """"both": every window is turned with probability 1/2."""
    max_n: Share = 0.1
    """Windows with a larger share of N are drawn again."""
    soft_mask: Literal["keep", "mask", "skip"] = "keep"
    """Lower-case bases: "keep" reads and asks for them as any other, "mask" reads them but never asks for them, "skip" is "mask" and draws
    windows with a larger share of them than `max_masked` again."""
    max_masked: Share = 0.5
    validation_windows: int | None = Field(default=None, gt=0)
    """Windows that choose the weights, spread evenly over the validation contigs, the same ones every time; None: all of them."""
    markov_order: int = Field(default=5, ge=0, le=10)
    """Order of the Markov chain that stands beside the model in results.json."""
    half: bool = False
    """Store the weights as float16; the closing numbers are those of the stored weights."""

    @model_validator(mode="after")
    def _masked_share_is_read(self) -> "Pretrain":
        if self.soft_mask != "skip" and self.max_masked != type(self).model_fields["max_masked"].default:
            raise ValueError('pretrain.max_masked is for pretrain.soft_mask "skip": leave it out, or skip masked windows')
        return self
