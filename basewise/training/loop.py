"""Training: batches in, the best weights out; killed at any step and resumed, the same weights to the bit on the same device.

Nothing that decides the result is hidden in a generator's state: order, augmentation and dropout of a step are functions of
(seed, epoch or step), so that a checkpoint holds weights, optimizer and counters only.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError, did_you_mean
from basewise.evaluation.metrics import BINARY_METRICS, MULTICLASS_METRICS, Metrics, binary_metrics, multiclass_metrics
from basewise.evaluation.scoring import one_logit, score_logits, scored_labels
from basewise.inference.asking import check_tokens
from basewise.recipes.schema import Recipe
from basewise.training import runs
from basewise.training.augment import Corpus, epoch_order, make_corpus
from basewise.training.batches import Batch, PhasePlan, Plan, make_plan, phase_at, step_batches
from basewise.training.losses import LossSettings, label_weights, loss_sum
from basewise.training.optimizer import MovingAverage, make_optimizer, set_rates, using
from basewise.training.placement import Placement
from basewise.training.schedules import Plateau

logger = logging.getLogger(__name__)

MINIMISED = ("loss", "brier", "ece")
LOG_EVERY = 10  # steps between lines of the log; reading a loss waits for the device


class Event(NamedTuple):
    """What `progress` is told: after logged steps and validations."""

    step: int
    total: int
    loss: float
    validation: Metrics | None


class Groups(Protocol):
    """Where the batches of kind "individual" come from; `basewise.training.individuals` makes one."""

    @property
    def frozen(self) -> bool:
        """True where batches hold chunk embeddings, so that only the head runs."""
        ...

    @property
    def epoch(self) -> int:
        """Groups that count as an epoch."""
        ...

    def batches(self, step: int) -> list[Batch]:
        """Return the batches of optimizer step `step`, a function of the step alone."""
        ...

    def validation_logits(self, classifier: Classifier) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return labels (S,) and logits (S, C) of the validation groups."""
        ...


@dataclass
class Trainer:
    """The moving parts of one training."""

    recipe: Recipe
    folder: Path
    classifier: Classifier
    placement: Placement
    corpus: Corpus
    validation: pd.DataFrame
    plan: Plan
    optimizer: torch.optim.AdamW
    average: MovingAverage | None
    progress: runs.Progress
    log: runs.Log | None  # in the first process
    trainable: frozenset[str]  # names of what may be trained: all, or adapters and head
    groups: Groups | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that is optimised."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def check_metric(recipe: Recipe) -> None:
    """Refuse a selection metric that this question does not have."""
    known = ("loss", *(BINARY_METRICS if len(recipe.head.labels) == 2 else MULTICLASS_METRICS))
    if recipe.train.metric not in known:
        hint = did_you_mean(recipe.train.metric, known)
        raise BasewiseError(f"train.metric is {recipe.train.metric!r}, expected one of {', '.join(known)}.{hint}")


def start(
    recipe: Recipe, classifier: Classifier, examples: pd.DataFrame, folder: Path, placement: Placement, groups: Groups | None = None
) -> Trainer:
    """Return a trainer at its last checkpoint, or at step 0 where there is none.

    `examples` have columns sequence, label and split; with `groups` (kind "individual") label and split, one row an individual.
    """
    train_part = examples[examples["split"] == "train"]
    corpus = make_corpus(train_part if groups is None else train_part.iloc[:0].assign(sequence=""), recipe.kind)
    order = epoch_order(corpus, recipe.train.seed, 0, recipe.train.negatives_per_positive) if groups is None else range(groups.epoch)
    plan = make_plan(recipe, len(order))
    classifier.to(placement.device)
    trainable = frozenset(name for name, parameter in classifier.named_parameters() if parameter.requires_grad)
    average = MovingAverage(classifier, recipe.train.ema) if recipe.train.ema else None
    found = runs.load_checkpoint(folder)
    progress = found[0] if found is not None else runs.Progress()
    phase = phase_at(plan, progress.step)
    optimizer = make_optimizer(classifier, recipe.train, phase.settings, trainable)
    if found is not None:
        begun = phase.start < progress.step  # else the checkpoint stands at the end of the phase before, whose optimizer is done
        runs.restore(found[1], classifier, optimizer if begun else None, placement, average)
    validation = examples[examples["split"] == "val"]
    if validation.empty:
        logger.warning('the dataset has no example in split "val": the last weights are kept, uncalibrated')
    log = runs.Log(folder / "log.jsonl", progress.step) if placement.rank == 0 else None
    return Trainer(recipe, folder, classifier, placement, corpus, validation, plan, optimizer, average, progress, log, trainable, groups)


def check_examples(recipe: Recipe, examples: pd.DataFrame) -> None:
    """Refuse a dataset without split "train", and labels outside those the head has."""
    if not (examples["split"] == "train").any():
        raise BasewiseError('the dataset has no example in split "train"')
    if recipe.kind == "base":
        values = np.unique(np.concatenate([np.unique(np.asarray(row)) for row in examples["label"]]))
    else:
        values = np.unique(examples["label"].to_numpy(np.int64))
    known = range(-1 if recipe.kind == "base" else 0, len(recipe.head.labels))
    strange = [int(v) for v in values if int(v) not in known]
    if strange:
        raise BasewiseError(
            f"labels {strange[:5]} are outside {known.start}..{known.stop - 1}: head.labels names {len(recipe.head.labels)} labels"
        )


def check_lengths(classifier: Classifier, examples: pd.DataFrame) -> None:
    """Refuse sequences of more tokens than the backbone takes; the longest one in bases stands for all."""
    longest = max(examples["sequence"], key=len)
    advice = "build the dataset with a shorter --window, or take a backbone of longer context"
    check_tokens(classifier.backbone, classifier.tokenize([longest]).ids.shape[1], f"the longest example, of {len(longest)} bases,", advice)


def run(trainer: Trainer, report: Callable[[Event], None] | None = None) -> None:
    """Train from where the trainer stands to the end, or until patience runs out; writes checkpoints and log.jsonl."""
    t, plan, now = trainer.recipe.train, trainer.plan, trainer.progress
    phase = phase_at(plan, now.step)
    call = _begin(trainer, phase)
    plateau = runs.new_plateau(trainer.recipe, now.plateau, higher_is_better=t.metric not in MINIMISED)
    settings = LossSettings(t.loss, t.pos_weight, tuple(t.class_weights), t.focal_gamma, t.focal_alpha)
    clock, cpu = time.perf_counter() - now.seconds, time.process_time() - now.cpu_seconds
    losses: list[Tensor] = []
    trainer.optimizer.zero_grad(set_to_none=True)
    with generator_of_its_own(trainer.placement.device):
        while now.step < plan.total and not now.stopped:
            if phase_at(plan, now.step) is not phase:
                phase = phase_at(plan, now.step)
                trainer.optimizer = make_optimizer(trainer.classifier, t, phase.settings, trainer.trainable)
                call = _begin(trainer, phase)
            schedule = phase.settings.scheduler or t.scheduler
            cut = plateau.factor if schedule == "plateau" else 1.0
            factor = set_rates(trainer.optimizer, schedule, now.step - phase.start, phase.end - phase.start, phase.warmup, cut)
            losses.append(_optimizer_step(trainer, call, settings))
            now.step += 1
            last, validate = now.step == plan.total, now.step % plan.validate_every == 0
            if now.step % LOG_EVERY == 0 or last or validate:
                loss = float(torch.stack(losses).mean())
                losses.clear()
                now.seconds, now.cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
                check_loss(loss, now.step)
                if trainer.log is not None:
                    trainer.log.write(
                        step=now.step, epoch=now.step / plan.steps_per_epoch, loss=loss, lr=phase.settings.lr * factor, seconds=now.seconds
                    )
                scores = _validation_round(trainer, plateau) if last or validate else None
                if report is not None:
                    report(Event(now.step, plan.total, loss, scores))


def _begin(trainer: Trainer, phase: PhasePlan) -> Callable[..., Tensor]:
    """Return what is called in a phase, in training mode; the batch statistics of a frozen backbone stay as they are."""
    trainer.classifier.train()
    if phase.settings.freeze_backbone:
        for module in trainer.classifier.backbone.modules():  # type: ignore[attr-defined]
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                module.eval()
    frozen = trainer.groups is not None and trainer.groups.frozen
    return trainer.placement.wrap(trainer.classifier.head if frozen else trainer.classifier)


def check_loss(loss: float, step: int) -> None:
    """Stop a training that diverged."""
    if not math.isfinite(loss):
        raise BasewiseError(f"the loss is {loss} at step {step}: training diverged; lower train.lr or set train.clip")


@contextmanager
def generator_of_its_own(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers alone."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _optimizer_step(trainer: Trainer, call: Callable[..., Tensor], settings: LossSettings) -> Tensor:
    """Take one optimizer step and return its loss (on the device): the mean over the whole accumulated batch, all processes together."""
    t, place, step = trainer.recipe.train, trainer.placement, trainer.progress.step
    torch.manual_seed(seed_of(t.seed, step, place.rank))
    groups = trainer.groups
    parts = step_batches(trainer.corpus, trainer.recipe, trainer.plan, step) if groups is None else groups.batches(step)
    weight = sum(float(label_weights(torch.from_numpy(part.labels), settings).sum()) for part in parts)
    total = torch.zeros((), device=place.device)
    flank = t.flank if t.crop is not None else 0
    for part in parts:
        mine = part.share(place.rank, place.processes)
        with place.autocast():
            logits = _call(trainer, call, mine, flank)
        labels = torch.from_numpy(mine.labels)
        labels = labels[:, flank : flank + logits.shape[1]] if labels.ndim == 2 else labels
        loss = loss_sum(logits, labels.to(place.device), settings) / max(weight, 1e-12)
        place.backward(loss * place.processes)  # processes average their gradients; the loss is a sum
        total += loss.detach()
    place.step(trainer.optimizer, trainer.parameters, t.clip)
    if trainer.average is not None:
        trainer.average.update(trainer.classifier)
    return place.sum(total)


def _call(trainer: Trainer, call: Callable[..., Tensor], batch: Batch, flank: int) -> Tensor:
    if batch.vectors is not None:
        return call(torch.from_numpy(batch.vectors).to(trainer.placement.device))
    tokens = trainer.classifier.tokenize(batch.sequences)
    return call(tokens, flank=flank) if trainer.groups is None else call(tokens, chunks=batch.chunks)


def seed_of(*numbers: int) -> int:
    """Return a seed that is a function of all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


def _validation_round(trainer: Trainer, plateau: Plateau) -> Metrics | None:
    """Validate, keep the weights when they are the best so far, write a checkpoint; returns the scores, None without validation data."""
    t, now, place = trainer.recipe.train, trainer.progress, trainer.placement
    scores: Metrics | None = None
    better = True  # without validation data the last weights are the best
    with using(trainer.classifier, trainer.average):
        if not trainer.validation.empty:
            scores = validation_scores(trainer)
            value = scores[t.metric]
            better = now.best_step is None or _is_better(value, now.best_value, t.metric)
            now.bad = 0 if better else now.bad + 1
            now.stopped = t.patience is not None and now.bad >= t.patience
            plateau.update(value)
            now.best_value = value if better else now.best_value
        if better:
            now.best_step = now.step
            if place.rank == 0:
                runs.save_best(trainer.folder, now.step, trainer.classifier.state_dict())
    now.plateau = asdict(plateau)
    if trainer.log is not None:
        if scores is not None:
            trainer.log.write(step=now.step, epoch=now.step / trainer.plan.steps_per_epoch, best_step=now.best_step, validation=scores)
        _save(trainer)
    place.wait()
    return scores


def _save(trainer: Trainer) -> None:
    state = runs.training_state(trainer.classifier, trainer.optimizer, trainer.placement, trainer.average)
    runs.save_checkpoint(trainer.folder, trainer.progress, state, keep=trainer.recipe.train.keep_checkpoints)


def _is_better(value: float | None, best: float | None, metric: str) -> bool:
    if value is None or best is None:
        return best is None and value is not None
    return value < best if metric in MINIMISED else value > best


def validation_scores(trainer: Trainer) -> Metrics:
    """Return `loss` (plain log loss, in nats) and all metrics at threshold 0.5 on the validation split, bases pooled for kind "base"."""
    t, kind = trainer.recipe.train, trainer.recipe.kind
    with trainer.placement.autocast():
        if trainer.groups is not None:
            labels, flat = trainer.groups.validation_logits(trainer.classifier)
        else:
            size = t.eval_batch_size or 4 * t.batch_size
            logits = score_logits(trainer.classifier, trainer.validation["sequence"].tolist(), batch_size=size)
            labels, flat, _ = scored_labels(trainer.validation, logits, kind)
    if not len(labels):
        raise BasewiseError('split "val" holds no scored label')
    if not np.isfinite(flat).all():
        raise BasewiseError(f"the model gives NaN or infinity at step {trainer.progress.step}: training diverged; lower train.lr")
    z = torch.tensor(one_logit(flat))
    loss = loss_sum(z, torch.tensor(labels), LossSettings("bce")) / len(labels)
    if z.shape[1] == 1:
        scores = binary_metrics(labels, torch.sigmoid(z[:, 0].double()).numpy())
    else:
        scores = multiclass_metrics(labels, torch.softmax(z.double(), -1).numpy())
    return {"loss": float(loss), **scores}
