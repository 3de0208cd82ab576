"""Learning rates over time: a factor on each group's own rate, as a pure function of the optimizer step."""

import math
from dataclasses import dataclass

from basewise.errors import BasewiseError, did_you_mean

SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "plateau")


def warmup_steps(total: int, fraction: float) -> int:
    """Return the number of warm-up steps: `fraction` of `total`, rounded up as transformers does."""
    return math.ceil(total * fraction)


def factor(schedule: str, step: int, total: int, warmup: int) -> float:
    """Return what the base learning rate is multiplied with at optimizer step `step` (0-based) of `total`.

    All but "constant" rise linearly from 0 at step 0 to 1 at step `warmup`. Then "linear" falls to 0 at `total`, "cosine" follows
    half a cosine to 0 at `total`, "constant_with_warmup" and "plateau" stay at 1 (a plateau's cuts are `Plateau`'s).
    Source: transformers.optimization get_*_schedule_with_warmup.
    """
    if schedule not in SCHEDULES:
        raise BasewiseError(f"unknown scheduler {schedule!r}, expected one of {', '.join(SCHEDULES)}.{did_you_mean(schedule, SCHEDULES)}")
    if schedule == "constant":
        return 1.0
    if step < warmup:
        return step / max(1, warmup)
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1.0 - done
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


@dataclass
class Plateau:
    """Cut the rate by `cut` after `patience` validations without improvement: torch's ReduceLROnPlateau, with a state that is saved.

    `factor` multiplies the rate; `bad` counts validations since the best; an improvement is one of more than 1e-4 of the best value.
    """

    cut: float = 0.1
    patience: int = 2
    higher_is_better: bool = True
    factor: float = 1.0
    best: float | None = None
    bad: int = 0

    def update(self, value: float | None) -> None:
        """Take the metric of a validation; an undefined one counts as no improvement."""
        if value is not None and (self.best is None or self._better(value, self.best)):
            self.best, self.bad = value, 0
            return
        self.bad += 1
        if self.bad > self.patience:
            self.factor, self.bad = self.factor * self.cut, 0

    def _better(self, value: float, best: float) -> bool:
        return value > best + 1e-4 * abs(best) if self.higher_is_better else value < best - 1e-4 * abs(best)
