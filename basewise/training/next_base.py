"""How well the next base is foreseen: the loss of a language model in nats a base, and of a Markov chain on the very same bases."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.base import Backbone, Tokenizer
from basewise.errors import BasewiseError
from basewise.evaluation.markov import MarkovChain
from basewise.genome.alphabet import N_CODE, Bases, codes
from basewise.genome.fasta import Genome
from basewise.inference.asking import answering
from basewise.recipes.pretraining import Pretrain
from basewise.training.windows import batches, is_asked

UNIFORM = math.log(4)  # nats a base of who knows nothing: 1.386
NOT_ASKED = -100  # in place of a target: no loss there
Window = tuple[str, int, int]


class LanguageModel(nn.Module):
    """A backbone asked for the next base: ids (B, T) -> logits (B, T, V), those at t being for the token at t + 1."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (B, T, V) in float32."""
        backbone: Any = self.backbone
        hidden = backbone.encode(backbone.embed(ids), torch.ones_like(ids, dtype=torch.bool))
        logits: Tensor = backbone.lm_logits(hidden).float()
        return logits


class Foreseen(NamedTuple):
    """Sums over the bases that were asked for."""

    nats: float
    right: int
    bases: int

    def __add__(self, other: "Foreseen") -> "Foreseen":  # type: ignore[override]
        return Foreseen(self.nats + other.nats, self.right + other.right, self.bases + other.bases)

    def metrics(self) -> dict[str, float | None]:
        """Return nats and bits a base, perplexity and accuracy; None where no base was asked for."""
        if not self.bases:
            return {"nats": None, "bits": None, "perplexity": None, "accuracy": None}
        nats = self.nats / self.bases
        return {"nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(nats), "accuracy": self.right / self.bases}


def targets(bases: Bases, ids: Tensor, settings: Pretrain) -> Tensor:
    """Return (B, T - 1) ids of the next token, NOT_ASKED where it is not asked for, of windows (B, T) of bases."""
    asked = torch.from_numpy(is_asked(bases, settings)[:, 1:])
    return torch.where(asked, ids[:, 1:], torch.full((), NOT_ASKED, dtype=ids.dtype))


def loss_sum(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the sum of -ln p(next base) over the whole vocabulary, logits (B, T, V), wanted (B, T - 1) NOT_ASKED left out."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), ignore_index=NOT_ASKED, reduction="sum")


def foresee(
    model: LanguageModel,
    tokenizer: Tokenizer,
    genome: Genome,
    windows: Sequence[Window],
    settings: Pretrain,
    *,
    batch_size: int,
    device: torch.device,
) -> Foreseen:
    """Return how well the bases of windows (plus strand) are foreseen, each from those before it in its window.

    The first base of a window is never asked for; which others are is said by `is_asked`. Precision is that of the caller's autocast.
    """
    total = Foreseen(0.0, 0, 0)
    with answering(model, device):
        for batch in batches(genome, windows, batch_size):
            for rows in _of_one_length([bases for _, _, bases in batch]):
                ids = tokenizer.tokenize(list(rows), special_tokens=False).ids
                wanted = targets(rows, ids, settings).to(device)
                logits = model(ids.to(device))
                best = logits[:, :-1].argmax(-1)
                nats = float(loss_sum(logits, wanted))
                total += Foreseen(nats, int((best == wanted).sum()), int((wanted >= 0).sum()))
    return total


def _of_one_length(rows: Sequence[Bases]) -> list[Bases]:
    """Return stacks (B, L) of rows of one length, so that nothing is padded."""
    lengths = sorted({len(row) for row in rows if len(row) > 1})
    return [np.stack([row for row in rows if len(row) == length]) for length in lengths]


def markov_foresees(chain: MarkovChain, genome: Genome, windows: Sequence[Window], settings: Pretrain) -> Foreseen:
    """Return how well a chain foresees the bases that `foresee` asks for; it may look back over the start of a window."""
    total = Foreseen(0.0, 0, 0)
    for name, start, end in windows:
        before = min(chain.order, start)
        bases = genome.fetch(name, start - before, end)
        log_p = chain.log_probabilities(bases)[before + 1 :]
        window = bases[before:]
        asked = is_asked(window, settings)[1:]
        base: npt.NDArray[np.int64] = codes(window)[1:].astype(np.int64)
        rows = np.flatnonzero(asked & (base != N_CODE))
        right = int((log_p[rows].argmax(1) == base[rows]).sum())
        total += Foreseen(-float(log_p[rows, base[rows]].sum()), right, len(rows))
    return total


def check_family(family: str, source: object) -> None:
    """Refuse a family that does not foresee the next token."""
    if family != "hyenadna":
        raise BasewiseError(f"pretraining is for family hyenadna, which foresees the next base; {source} is of {family}")


def as_language_model(backbone: Backbone, source: object) -> LanguageModel:
    """Return the language model of a backbone; BasewiseError for families that do not foresee the next token."""
    check_family(backbone.family, source)
    return LanguageModel(backbone)  # type: ignore[arg-type]
