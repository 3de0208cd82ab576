"""Which sequences an optimizer step sees: a function of recipe and step alone, so that resuming needs no sampler state."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.recipes.schema import Phase, Recipe, Train
from basewise.training.augment import Corpus, CorpusKey, Draw, draw_augmentation, epoch_order, gather
from basewise.training.crops import draw_crops
from basewise.training.schedules import warmup_steps


@dataclass(frozen=True)
class Plan:
    """How long: everything that follows from the recipe and the number of examples an epoch takes."""

    group: int  # sequences an optimizer step
    steps_per_epoch: int
    total: int
    warmup: int
    validate_every: int
    phases: "tuple[PhasePlan, ...]"


class PhasePlan(NamedTuple):
    """Steps [start, end) of a phase, and how many of them warm up."""

    start: int
    end: int
    warmup: int
    settings: Phase


class Batch(NamedTuple):
    """Sequences for one forward pass."""

    sequences: list[npt.NDArray[np.uint8]]
    labels: npt.NDArray[np.int64]  # (B,) or (B, L) padded with -1
    chunks: int = 1  # sequences of each label: N for groups of kind "individual"
    vectors: npt.NDArray[np.float32] | None = None  # (B, N, D) chunk embeddings in place of sequences, where the backbone is frozen

    def share(self, rank: int, processes: int) -> "Batch":
        """Return the part of process `rank`; where none is left, one sequence that is not scored keeps the processes in step."""
        if processes == 1:
            return self
        labels, part = self.labels[rank::processes], slice(rank, None, processes)
        if not len(labels):
            labels, part = np.full_like(self.labels[:1], -1), slice(0, 1)
        groups = [self.sequences[i : i + self.chunks] for i in range(0, len(self.sequences), self.chunks)]
        mine = [sequence for group in groups[part] for sequence in group]
        return Batch(mine, labels, self.chunks, None if self.vectors is None else self.vectors[part])


def make_plan(recipe: Recipe, epoch_examples: int) -> Plan:
    """Return the plan for epochs of `epoch_examples` sequences; the last step of an epoch may hold fewer than the others."""
    t = recipe.train
    group = t.batch_size * t.accumulation
    per_epoch = math.ceil(epoch_examples / group)
    if t.phases:
        phases = _plan_phases(t, per_epoch)
    else:
        total = t.steps if t.steps is not None else max(1, math.ceil(per_epoch * (t.epochs or 0)))
        whole = Phase.model_construct(lr=t.lr, head_lr=t.head_lr, freeze_backbone=t.freeze_backbone, scheduler=None)
        phases = (PhasePlan(0, total, warmup_steps(total, t.warmup), whole),)
    return Plan(group, per_epoch, phases[-1].end, phases[0].warmup, t.validate_every or per_epoch, phases)


def _plan_phases(train: Train, per_epoch: int) -> tuple[PhasePlan, ...]:
    plans, start = [], 0
    for phase in train.phases:
        steps = max(1, math.ceil(per_epoch * phase.epochs))
        plans.append(PhasePlan(start, start + steps, warmup_steps(steps, train.warmup), phase))
        start += steps
    return tuple(plans)


def phase_at(plan: Plan, step: int) -> PhasePlan:
    """Return the phase that optimizer step `step` (0-based) belongs to; the last one beyond the end."""
    return next((phase for phase in plan.phases if step < phase.end), plan.phases[-1])


def step_batches(corpus: Corpus, recipe: Recipe, plan: Plan, step: int) -> list[Batch]:
    """Return the `accumulation` batches (fewer at the end of an epoch) of optimizer step `step` (0-based), augmented."""
    t = recipe.train
    if t.crop is not None:
        rng = np.random.default_rng([t.seed, step, 2])
        return [Batch(*draw_crops(corpus, t, t.batch_size, rng)) for _ in range(t.accumulation)]
    epoch, place = divmod(step, plan.steps_per_epoch)
    order = _order(CorpusKey(corpus), t.seed, epoch, t.negatives_per_positive)
    rows = order[place * plan.group : (place + 1) * plan.group]
    draw = draw_augmentation(t.augment, len(rows), corpus.lengths[rows], np.random.default_rng([t.seed, step, 1]))
    batches = []
    for first in range(0, len(rows), t.batch_size):
        part = slice(first, first + t.batch_size)
        chosen = Draw(draw.turn[part], draw.shift[part], draw.left[part], draw.right[part], draw.label_shift[part])
        batches.append(Batch(*gather(corpus, rows[part], chosen)))
    return batches


@lru_cache(maxsize=2)
def _order(key: CorpusKey, seed: int, epoch: int, negatives_per_positive: float | None) -> npt.NDArray[np.int64]:
    return epoch_order(key.corpus, seed, epoch, negatives_per_positive)
