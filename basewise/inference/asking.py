"""How a classifier is asked: in evaluation mode, without gradients, on a device, and given back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from basewise.backbones.base import Backbone, Tokens
from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, as_bases, codes

# Every base code (A C G T N) beside every other one, in both cases, with U and an IUPAC code: enough to see whether ids depend on context.
_PROBE = "ACGTNAGTCNNCATGACCTTGGAANTAACGGCTCNGTacgtnRUACGAATT"


def check_device(name: str) -> torch.device:
    """Return the torch device called `name` (cpu, cuda, cuda:1); BasewiseError when it is unknown or not there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BasewiseError(f"unknown device {name!r}, expected cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise BasewiseError(f"unknown device {name!r}, expected cpu or cuda")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise BasewiseError(
            f"device {name!r} is not there: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


@contextmanager
def answering(classifier: nn.Module, device: torch.device) -> Iterator[None]:
    """Put `classifier` in evaluation mode on `device`, without gradients; modes and device are restored, also after an error."""
    training = [module for module in classifier.modules() if module.training]
    first = next(classifier.parameters(), None)
    home = first.device if first is not None else device
    try:
        classifier.eval()
        classifier.to(device)
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
        classifier.to(home)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: several processes then do not fight, and sums are added in the same order on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_individuals(classifier: Classifier) -> None:
    """Raise BasewiseError, naming the verb for it, when a model answers about individuals where sequences are to be answered."""
    if classifier.config.kind == "individual":
        raise BasewiseError(
            f"this model ({classifier.config.task}) answers about individuals, not single sequences or positions; ask it "
            "about a cohort with `basewise trait predict RUN COHORT`, `trait curve` or `trait evidence`"
        )


def central_window(bases: Bases, classifier: Classifier) -> Bases:
    """Return the part of a sequence that a classifier of kind "sequence" was trained to see: `window` bases around its center base."""
    window = classifier.config.window
    if classifier.config.kind != "sequence" or window is None or len(bases) <= window:
        return bases
    start = len(bases) // 2 - window // 2
    return bases[start : start + window]


def check_tokens(backbone: Backbone, tokens: int, what: str, advice: str) -> None:
    """Raise BasewiseError where `what` makes more tokens than `backbone` takes; `advice` says what to do."""
    if backbone.max_tokens is not None and tokens > backbone.max_tokens:
        raise BasewiseError(f"{what} makes {tokens} tokens, {backbone.family} takes at most {backbone.max_tokens}; {advice}")


class BaseTokens(NamedTuple):
    """A tokenizer with one token a base, as a table: ids are a gather, no Python loop over bases.

    Attributes
    ----------
    table : uint8 or int64 numpy (256,)
        Id of each ASCII byte.
    prefix, suffix : tuple of int
        Special tokens before and after the bases.
    """

    table: npt.NDArray[np.int64]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def tokens(self, ids: Tensor) -> Tokens:
        """Return Tokens for base ids (B, L) on any device, special tokens added, nothing padded."""
        B, L = ids.shape
        before, after = (torch.tensor(part, device=ids.device).expand(B, len(part)) for part in (self.prefix, self.suffix))
        whole = torch.cat((before.to(ids.dtype), ids, after.to(ids.dtype)), dim=1)
        spans = torch.zeros(whole.shape[1], 2, dtype=torch.int32, device=ids.device)
        base = torch.arange(L, dtype=torch.int32, device=ids.device)
        spans[len(self.prefix) : len(self.prefix) + L] = torch.stack((base, base + 1), dim=1)
        return Tokens(whole, torch.ones_like(whole, dtype=torch.bool), spans.expand(B, -1, 2))


def base_tokens(classifier: Classifier) -> BaseTokens | None:
    """Return the table of a tokenizer with one context-free token a base; None for k-mers and BPE.

    Found by asking the tokenizer about a probe, so it holds for any tokenizer that keeps the contract.
    """
    probe = as_bases(_PROBE)
    ids, _, spans = (part[0].cpu().numpy() for part in classifier.tokenize([probe]))
    inner = np.flatnonzero(spans[:, 1] > spans[:, 0])
    one_a_base = np.stack((np.arange(len(probe)), np.arange(len(probe)) + 1), axis=1)
    if len(inner) != len(probe) or inner[-1] - inner[0] + 1 != len(probe) or not np.array_equal(spans[inner], one_a_base):
        return None
    by_code = ids[inner[:5]]  # the probe starts with A C G T N
    if not np.array_equal(ids[inner], by_code[codes(probe)]):
        return None
    table = by_code[codes(np.arange(256, dtype=np.uint8))].astype(np.int64)
    return BaseTokens(table, tuple(ids[: inner[0]].tolist()), tuple(ids[inner[-1] + 1 :].tolist()))
