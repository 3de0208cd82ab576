"""What is optimised and how: parameter groups, their learning rates over time, and a running mean of weights."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from basewise.recipes.schema import Phase, Train
from basewise.training.schedules import factor

NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.RMSNorm)


def decays(module_name: str, module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Tell whether weight decay applies: not to biases, norms, single numbers and vectors, and the implicit filters of Hyena."""
    in_filter = any(part in ("filter_fn", "filter") for part in module_name.split("."))
    return parameter.ndim > 1 and name != "bias" and not isinstance(module, NORMS) and not in_filter


def make_optimizer(
    classifier: nn.Module, settings: Train, phase: Phase | None = None, trainable: Container[str] | None = None
) -> torch.optim.AdamW:
    """Return AdamW over up to four groups, backbone and head, with and without weight decay; each group keeps its `base_lr`.

    `phase` gives rates and freezing in place of `settings`. Only those named in `trainable` are trained (None: all).
    """
    now = phase or settings
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    seen: set[int] = set()
    for module_name, module in classifier.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            where = "backbone" if f"{module_name}.".startswith("backbone.") else "head"
            whole = f"{module_name}.{name}" if module_name else name
            parameter.requires_grad_((trainable is None or whole in trainable) and not (now.freeze_backbone and where == "backbone"))
            if parameter.requires_grad and id(parameter) not in seen:  # tied weights come once
                seen.add(id(parameter))
                groups.setdefault((where, decays(module_name, module, name, parameter)), []).append(parameter)
    rates = {"backbone": now.lr, "head": now.head_lr or now.lr}
    table: list[dict[str, Any]] = [
        {"params": parameters, "lr": rates[where], "base_lr": rates[where], "weight_decay": settings.weight_decay * decay}
        for (where, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(table, betas=settings.betas)


def set_rates(optimizer: torch.optim.Optimizer, scheduler: str, step: int, total: int, warmup: int, cut: float) -> float:
    """Set every group's rate for optimizer step `step` (0-based) and return the factor; `cut` is that of a plateau, else 1."""
    now = factor(scheduler, step, total, warmup) * cut
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * now
    return now


class MovingAverage:
    """Running mean of weights and floating-point buffers (batch statistics), decay warmed up as min(decay, (1 + n) / (10 + n)).

    Source of the warm-up: TensorFlow's ExponentialMovingAverage with num_updates.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.mean = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the weights after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.mean[name].lerp_(tensor.to(self.mean[name].dtype), 1 - decay)
            else:
                self.mean[name].copy_(tensor)


@contextmanager
def using(module: nn.Module, average: MovingAverage | None) -> Iterator[None]:
    """Run a block with the averaged weights in place; the weights themselves come back afterwards, also after an error."""
    if average is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(average.mean)
    try:
        yield
    finally:
        module.load_state_dict(own)
