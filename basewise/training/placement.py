"""Where and how precisely the model runs. One CPU in float32 is plain torch; everything else is accelerate's."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from basewise.errors import BasewiseError


class Placement:
    """Device, autocast, gradient scaling and, under `accelerate launch`, the processes that share each batch."""

    def __init__(self, device: str, precision: str) -> None:
        try:
            wanted = torch.device(device)
        except RuntimeError as error:
            raise BasewiseError(f"unknown device {device!r}, expected cpu, cuda or cuda:N") from error
        if wanted.type == "cuda" and not torch.cuda.is_available():
            raise BasewiseError(f"device {device!r} was asked for but torch sees no CUDA device; use --device cpu")
        if precision == "fp16" and wanted.type == "cpu":
            raise BasewiseError('precision "fp16" needs a CUDA device; use --set train.precision=bf16 or fp32')
        self.accelerator: Any = None
        self.device = wanted
        if wanted.type != "cpu" or precision != "fp32" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self._accelerate(wanted, precision)

    def _accelerate(self, wanted: torch.device, precision: str) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            AcceleratorState._reset_state(True)  # noqa: SLF001  (accelerate keeps one precision a process; an earlier run may have had another)
        self.accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision), cpu=wanted.type == "cpu")
        if self.accelerator.num_processes > 1 or wanted.index is None:
            self.device = self.accelerator.device

    @property
    def rank(self) -> int:
        """Number of this process; 0 writes the files."""
        return int(self.accelerator.process_index) if self.accelerator else 0

    @property
    def processes(self) -> int:
        """How many processes share each batch."""
        return int(self.accelerator.num_processes) if self.accelerator else 1

    def wrap(self, module: nn.Module) -> Callable[..., Tensor]:
        """Return what is called in training: the module, or in several processes the module with averaged gradients."""
        if self.processes == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        unused = any("lm_head" in name for name, _ in module.named_parameters())  # a classifier never asks the LM head
        return nn.parallel.DistributedDataParallel(module, device_ids=ids, find_unused_parameters=unused)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the model is called."""
        return self.accelerator.autocast() if self.accelerator else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, scaled in fp16."""
        if self.accelerator:
            self.accelerator.backward(loss)
        else:
            loss.backward()

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor], clip: float | None) -> None:
        """Clip the whole gradient's norm, step, and clear gradients; a step with overflow in fp16 is skipped."""
        scaler = self.accelerator.scaler if self.accelerator else None
        if scaler is not None:
            scaler.unscale_(optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Return the gradient scaler's state, empty without one."""
        scaler = self.accelerator.scaler if self.accelerator else None
        return dict(scaler.state_dict()) if scaler is not None else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        scaler = self.accelerator.scaler if self.accelerator else None
        if scaler is not None and state:
            scaler.load_state_dict(state)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of `value` over all processes."""
        return self.accelerator.reduce(value, "sum") if self.processes > 1 else value

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.processes > 1:
            self.accelerator.wait_for_everyone()
