"""Trainings that are killed on purpose, and the weights they end with: for tests of exact resume."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from basewise.training.loop import Event


class KilledError(Exception):
    """Raised by `killer`."""


def killer(at: int) -> Callable[[Event], None]:
    """Return a `progress` that raises KilledError once `at` steps are taken."""

    def report(event: Event) -> None:
        if event.step >= at:
            raise KilledError

    return report


def weights(run: Path) -> dict[str, Tensor]:
    """Return the weights that a run folder ended with."""
    return load_file(run / "model" / "model.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two sets of weights agree to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
