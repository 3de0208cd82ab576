"""Losses as (summed loss, summed weight), so that accumulated and distributed batches give exactly the mean of the whole batch."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from basewise.errors import BasewiseError, did_you_mean

LOSSES = ("bce", "weighted_ce", "focal")
IGNORED = -1  # the label of a base that is not scored


class LossSettings(NamedTuple):
    """Which loss, and its constants."""

    name: str = "bce"
    pos_weight: float = 1.0
    """bce: torch's `pos_weight`; what a positive counts, the mean staying over all examples."""
    class_weights: tuple[float, ...] = (1.0, 1.0)
    """weighted_ce: weight of label 0, 1, ...; the mean is over weights, as torch's CrossEntropyLoss has it."""
    gamma: float = 2.0
    alpha: float | None = None
    """focal: (1 - p_true) ** gamma, times alpha for positives and 1 - alpha for negatives when given. Source: Lin et al. 2017."""


def check_loss(name: str) -> None:
    """Refuse a loss that does not exist."""
    if name not in LOSSES:
        raise BasewiseError(f"unknown loss {name!r}, expected one of {', '.join(LOSSES)}.{did_you_mean(name, LOSSES)}")


def label_weights(labels: Tensor, settings: LossSettings) -> Tensor:
    """Return float32 weights (...,) that the mean is taken over: 0 for ignored labels."""
    scored = labels != IGNORED
    if settings.name != "weighted_ce":
        return scored.to(torch.float32)
    weights = torch.tensor(settings.class_weights, dtype=torch.float32, device=labels.device)
    return weights[labels.clamp(min=0)] * scored


def loss_sum(logits: Tensor, labels: Tensor, settings: LossSettings) -> Tensor:
    """Return the summed loss of logits (..., C) against integer labels (...,); IGNORED labels add nothing. C = 1 is a binary question.

    Divide by `label_weights(...).sum()` of the whole batch for the mean. Computed in float32 whatever the logits' precision.
    """
    logits, scored = logits.float(), labels != IGNORED
    target = labels.clamp(min=0)
    if logits.shape[-1] == 1:
        z, t = logits[..., 0], target.float()
        log_p, log_q = F.logsigmoid(z), F.logsigmoid(-z)
        pos_weight = settings.pos_weight if settings.name == "bce" else 1.0
        losses = -(pos_weight * t * log_p + (1 - t) * log_q)
    else:
        losses = -torch.log_softmax(logits, -1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
        if settings.name == "bce" and settings.pos_weight != 1.0:
            raise BasewiseError("pos_weight is for binary questions; use loss 'weighted_ce' with class_weights for more than two labels")
    if settings.name == "weighted_ce":
        losses = losses * label_weights(labels, settings)
    if settings.name == "focal":
        losses = losses * (1 - torch.exp(-losses)).clamp(min=0) ** settings.gamma
        if settings.alpha is not None:
            losses = losses * torch.where(target == 1, settings.alpha, 1 - settings.alpha)
    return torch.where(scored, losses, 0.0).sum()
