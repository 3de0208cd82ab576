"""Trainings that are killed on purpose, and the weights they end with: for tests of exact resume."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
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


def sigkilled(arguments: Sequence[str | Path], run: Path, seconds: float) -> int:
    """Run `python -m basewise ARGUMENTS`, kill it at a random moment after its first checkpoint, and return its exit code.

    `seconds`: how long the checkpoint is waited for.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "basewise", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as victim:
        deadline = time.monotonic() + seconds
        while not (run / "checkpoints" / "last.pt").exists() and victim.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(float(np.random.default_rng().random()) * 0.3)
        victim.send_signal(signal.SIGKILL)
    return victim.returncode


def weights(run: Path) -> dict[str, Tensor]:
    """Return the weights that a run folder ended with."""
    return load_file(run / "model" / "model.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two sets of weights agree to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
