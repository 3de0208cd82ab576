"""Scoring in stages: a first stage that drops most candidates, half precision for the rest, float32 again where a call depends on it.

What a scan calls stays what it was: every candidate whose logit in bfloat16 is above the threshold's less `MARGIN` is scored again in
float32, so that sites, their order and their probabilities are those of a scan in float32. Only candidates that nobody calls keep the
probability of half precision. Should the two ever differ by more than half the margin, the scan stops rather than guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.classifier import Classifier, find_model
from basewise.errors import BasewiseError
from basewise.files import sha256_of
from basewise.inference.engine import DROPPED, Fetch, Positions, Probabilities, Scorer, Strands, scorer
from basewise.inference.first_stage import FOLDER, WANTED, FirstStage, load_first_stage

MARGIN = 0.25  # logits before calibration
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class StageOptions:
    """What was asked for: the precision's name, whether the full model must see every candidate, and the threshold of a call."""

    precision: str
    exact: bool
    threshold: float


@dataclass(frozen=True)
class Staged:
    """Probabilities float32 (N,), NaN where the first stage dropped a candidate (bool (N,)); how many were scored again in float32, and
    the largest difference in logits found by that."""

    probability: Probabilities
    dropped: npt.NDArray[np.bool_]
    rescored: int
    difference: float


@dataclass(frozen=True)
class Stages:
    """A classifier made ready; use inside `answering(classifier, device)`."""

    exact: Scorer  # float32; with the first stage where nothing else comes before it
    rough: Scorer | None
    threshold: float

    @property
    def halo(self) -> int:
        """How many bases beside a cell `fetch` may be asked for."""
        return max(self.exact.halo, 0 if self.rough is None else self.rough.halo)

    def score(self, fetch: Fetch, positions: Positions, strands: Strands, length: int | None = None) -> Staged:
        """Score positions as `engine.Scorer.score` does."""
        answer = (self.rough or self.exact).score(fetch, positions, strands, length)
        dropped = answer == DROPPED
        answer[dropped] = np.nan
        if self.rough is None:
            return Staged(answer, dropped, 0, 0.0)
        temperature = self.exact.classifier.config.calibration.temperature
        lowest = log_odds(np.array(self.threshold)) - MARGIN / temperature
        near = np.flatnonzero(log_odds(answer) >= lowest)  # never what was dropped
        again = self.exact.score(fetch, positions[near], strands[near], length)
        moved = np.abs(log_odds(again) - log_odds(answer[near])) * temperature
        difference = float(moved.max(initial=0.0))
        if difference > MARGIN / 2:
            raise BasewiseError(
                f"this model's logits in bf16 are off by {difference:.2g}, more than half the margin of {MARGIN} that is scored again; "
                "calls could change, leave out --precision bf16"
            )
        answer[near] = again
        return Staged(answer, dropped, len(near), difference)


def make_stages(model: str, classifier: Classifier, device: torch.device, batch_size: int, asked: StageOptions) -> Stages:
    """Make `classifier`, loaded from `model`, ready on `device`. Raises BasewiseError where it has no form in that precision."""
    if asked.precision not in PRECISIONS:
        raise BasewiseError(f"--precision is {asked.precision!r}, expected fp32 or bf16")
    exact = scorer(classifier, device=device, batch_size=batch_size)
    first, _ = _usable(model, exact, asked)
    if first is not None:
        first = first.to(device)
    if asked.precision == "fp32":
        return Stages(replace(exact, first=first), None, asked.threshold)
    if first is not None and first.config.context:
        raise BasewiseError(
            f"model {model} has a first stage that reads its own coarse towers and saves more than bf16 does; "
            "leave out --precision bf16, or add --exact"
        )
    rough = scorer(classifier, device=device, batch_size=batch_size, dtype=PRECISIONS[asked.precision])
    return Stages(exact, replace(rough, first=first), asked.threshold)


def facts_of_stages(model: str, classifier: Classifier, device: torch.device, asked: StageOptions) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what decides the answers (for the plan) and what summary.json says: keys `precision` and `first_stage`.

    Counts are added by `count_stages`. Raises BasewiseError as `make_stages`.
    """
    make_stages(model, classifier, device, 1, asked)
    first, off = _usable(model, scorer(classifier, device=device), asked)
    facts = {} if asked.precision == "fp32" else {"precision": asked.precision}
    about: dict[str, Any] = {"precision": {"name": asked.precision, "margin": None if asked.precision == "fp32" else MARGIN}}
    if first is None:
        return facts, {**about, "first_stage": off and {"used": False, "why": off}}
    held_out = first.config.held_out
    assert held_out is not None
    facts["first stage sha256"] = sha256_of(find_model(model) / FOLDER / "config.json")
    told = {"used": True, "recall": held_out.recall, "calls": held_out.calls, "contigs": list(held_out.contigs)}
    return facts, {**about, "first_stage": told}


def count_stages(about: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, Any]:
    """Return the summary's `precision` and `first_stage` of `about`, with what a scan counted: dropped, rescored, difference."""
    precision, first = about["precision"], about["first_stage"]
    if precision["margin"] is not None:
        precision = {**precision, "rescored": int(counts["rescored"]), "largest_difference": counts["difference"]}
    if first is not None and first["used"]:
        first = {**first, "dropped": int(counts["dropped"])}
    return {"precision": precision, "first_stage": first}


def _usable(model: str, exact: Scorer, asked: StageOptions) -> tuple[FirstStage | None, str | None]:
    """Return the first stage that stands before the full model, or None and why it does not (None: the model has none)."""
    folder: Path = find_model(model)
    if not (folder / FOLDER / "config.json").is_file():
        return None, None
    if asked.exact:
        return None, "asked for --exact"
    first = load_first_stage(folder, exact.classifier.sha256)
    assert first is not None
    config = first.config
    if not config.holds:
        return None, f"kept {config.held_out and config.held_out.recall} of the calls on held-out contigs, {WANTED} are wanted"
    if asked.threshold < config.threshold:
        return None, f"threshold {asked.threshold:.6g} is below {config.threshold:.6g}, at which it was measured"
    if config.context and exact.fast is None:
        return None, f"it reads what only the fast form on a CPU computes, not {exact.device.type}"
    if not config.context and exact.reach is not None:
        return None, "this model reads whole stretches at once"
    return first, None


def log_odds(probability: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return log(p / (1 - p)) float64; 0 and 1 become very far, not infinite, so that differences stay numbers."""
    p = np.clip(probability.astype(np.float64), 1e-30, 1 - 1e-7)
    return np.asarray(np.log(p) - np.log1p(-p))
