"""Next-nucleotide pretraining: a genome in, a backbone out; killed at any step and resumed, the same weights to the bit on the CPU.

The windows of a step and its dropout are functions of (seed, step), so that a checkpoint holds weights, optimizer and counters only.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basewise.backbones import catalog
from basewise.backbones.base import Backbone, Tokenizer
from basewise.backbones.registry import FAMILIES
from basewise.errors import BasewiseError
from basewise.genome.fasta import Genome, open_genome
from basewise.recipes.pretraining import Pretrain
from basewise.recipes.schema import Recipe
from basewise.training import runs
from basewise.training.batches import Plan, make_plan
from basewise.training.build import new_backbone
from basewise.training.loop import LOG_EVERY, Event, check_loss, generator_of_its_own, seed_of
from basewise.training.next_base import (
    NOT_ASKED,
    Foreseen,
    LanguageModel,
    Window,
    as_language_model,
    check_family,
    foresee,
    loss_sum,
    targets,
)
from basewise.training.optimizer import MovingAverage, make_optimizer, set_rates, using
from basewise.training.placement import Placement
from basewise.training.pretrain_results import finish
from basewise.training.windows import WindowSource, evenly, split_contigs, tiles


@dataclass
class Pretraining:
    """The moving parts of one pretraining."""

    recipe: Recipe
    settings: Pretrain
    folder: Path
    model: LanguageModel
    tokenizer: Tokenizer
    placement: Placement
    genome: Genome
    contigs: dict[str, tuple[str, ...]]
    source: WindowSource
    plan: Plan
    optimizer: torch.optim.AdamW
    average: MovingAverage | None
    progress: runs.Progress
    log: runs.Log | None  # in the first process
    validation: list[Window] = field(default_factory=list)

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that is optimised."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def eval_batch_size(self) -> int:
        """Windows at a time where no gradient is needed."""
        return self.recipe.train.eval_batch_size or 2 * self.recipe.train.batch_size


def pretrain(
    recipe: Recipe,
    run_folder: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Pretrain the backbone of a recipe with [pretrain] on the genome `data.path`, write the run folder, return what results.json holds.

    RUN/model is a backbone folder, which `backbone.init` takes (RUN too). The weights kept are those of the lowest loss on the validation
    contigs, the last ones without any. Deterministic given recipe, genome and device; with `resume` a killed run goes on from its last
    checkpoint to the same weights, and a finished one is left as it is. Under `accelerate launch` the processes share each batch, the
    first writes the files and returns results, the others return {}.

    Raises
    ------
    BasewiseError
        for a recipe without [pretrain] or genome, a backbone that is not HyenaDNA or too short for `pretrain.length`, contigs that are not
        there, a genome without usable window, and a loss that is no number.
    """
    settings, genome = _checked(recipe)
    if recipe.backbone.name in catalog.entries():
        check_family(catalog.family_of(recipe.backbone.name), recipe.backbone.name)
    elif recipe.backbone.name in FAMILIES:
        check_family(recipe.backbone.name, recipe.backbone.name)
    placement = Placement(device, recipe.train.precision)
    folder = Path(run_folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        backbone, tokenizer = new_backbone(recipe.backbone)
    model = as_language_model(backbone, recipe.backbone.name)
    _check_length(backbone, settings.length)
    contigs = split_contigs(genome, recipe.data.val_chroms or (), recipe.data.test_chroms or (), settings.length)
    found = runs.begin(folder, recipe, resume=resume, force=force, first=placement.rank == 0)
    if found is not None:
        return found
    placement.wait()
    state = _start(recipe, settings, folder, model, tokenizer, placement, genome, contigs)
    with genome:
        _run(state, progress)
        return finish(state) if placement.rank == 0 else {}


def _checked(recipe: Recipe) -> tuple[Pretrain, Genome]:
    if recipe.pretrain is None:
        raise BasewiseError(f"recipe {recipe.name} has no section [pretrain]: it is one for `basewise train`")
    if recipe.data.path is None:
        raise BasewiseError("the recipe names no genome: give --genome FASTA, or data.path in the recipe")
    return recipe.pretrain, open_genome(recipe.data.path)


def _check_length(backbone: Backbone, length: int) -> None:
    most = backbone.max_tokens
    if most is not None and length > most:
        raise BasewiseError(f"pretrain.length is {length}, but this {backbone.family} takes at most {most} tokens; lower it")


def _start(
    recipe: Recipe,
    settings: Pretrain,
    folder: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    placement: Placement,
    genome: Genome,
    contigs: dict[str, tuple[str, ...]],
) -> Pretraining:
    """Return the training at its last checkpoint, or at step 0 where there is none."""
    t = recipe.train
    source = WindowSource(genome, contigs["train"], settings, t.seed)
    model.to(placement.device).train()
    if t.gradient_checkpointing:
        model.backbone.gradient_checkpointing = True  # type: ignore[assignment]
    average = MovingAverage(model, t.ema) if t.ema else None
    found = runs.load_checkpoint(folder)
    progress = found[0] if found is not None else runs.Progress()
    optimizer = make_optimizer(model, t)
    if found is not None:
        runs.restore(found[1], model, optimizer, placement, average)
    plan = make_plan(recipe, source.bases // settings.length)
    log = runs.Log(folder / "log.jsonl", progress.step) if placement.rank == 0 else None
    validation = evenly(tiles(genome, contigs["val"], settings.length), settings.validation_windows)
    return Pretraining(
        recipe, settings, folder, model, tokenizer, placement, genome, contigs, source, plan, optimizer, average, progress, log, validation
    )


def _run(state: Pretraining, report: Callable[[Event], None] | None) -> None:
    """Train from where the state stands to the end, or until patience runs out; writes checkpoints and log.jsonl."""
    t, plan, now = state.recipe.train, state.plan, state.progress
    call = state.placement.wrap(state.model)
    plateau = runs.new_plateau(state.recipe, now.plateau, higher_is_better=False)
    clock = time.perf_counter() - now.seconds
    losses: list[Tensor] = []
    with generator_of_its_own(state.placement.device):
        while now.step < plan.total and not now.stopped:
            cut = plateau.factor if t.scheduler == "plateau" else 1.0
            factor = set_rates(state.optimizer, t.scheduler, now.step, plan.total, plan.warmup, cut)
            losses.append(_optimizer_step(state, call))
            now.step += 1
            last, validate = now.step == plan.total, now.step % plan.validate_every == 0
            if now.step % LOG_EVERY == 0 or last or validate:
                loss = float(torch.stack(losses).mean())
                losses.clear()
                now.seconds = time.perf_counter() - clock
                check_loss(loss, now.step)
                if state.log is not None:
                    bases = now.step * plan.group * state.settings.length
                    state.log.write(step=now.step, bases=bases, loss=loss, lr=t.lr * factor, seconds=now.seconds)
                scores = None
                if last or validate:
                    scores = _validation_round(state)
                    if scores is not None:
                        plateau.update(scores["loss"])
                    _save(state, asdict(plateau))
                if report is not None:
                    report(Event(now.step, plan.total, loss, scores))


def _optimizer_step(state: Pretraining, call: Callable[..., Tensor]) -> Tensor:
    """Take one optimizer step and return its loss (on the device): nats a base over the whole accumulated batch, all processes together."""
    t, place, step = state.recipe.train, state.placement, state.progress.step
    torch.manual_seed(seed_of(t.seed, step, place.rank))
    parts = []
    for number in range(t.accumulation):
        first = step * state.plan.group + number * t.batch_size
        windows = state.source.draw(np.arange(first, first + t.batch_size))
        ids = state.tokenizer.tokenize(list(windows.bases), special_tokens=False).ids
        parts.append((ids, targets(windows.bases, ids, state.settings)))
    asked = sum(int((wanted >= 0).sum()) for _, wanted in parts)
    total = torch.zeros((), device=place.device)
    for part in parts:
        ids, wanted = _share(*part, place.rank, place.processes)
        with place.autocast():
            logits = call(ids.to(place.device))
        loss = loss_sum(logits, wanted.to(place.device)) / asked
        place.backward(loss * place.processes)  # processes average their gradients; the loss is a sum
        total += loss.detach()
    place.step(state.optimizer, state.parameters, t.clip)
    if state.average is not None:
        state.average.update(state.model)
    return place.sum(total)


def _share(ids: Tensor, wanted: Tensor, rank: int, processes: int) -> tuple[Tensor, Tensor]:
    """Return the windows of process `rank`; where none is left, one that it is not asked about keeps the processes in step."""
    if rank >= len(ids):
        return ids[:1], torch.full_like(wanted[:1], NOT_ASKED)
    return ids[rank::processes], wanted[rank::processes]


def _validation_round(state: Pretraining) -> dict[str, float | None] | None:
    """Validate and keep the weights when they are the best so far; returns the scores, None without validation contigs."""
    t, now, place = state.recipe.train, state.progress, state.placement
    scores: dict[str, float | None] | None = None
    better = True
    with using(state.model, state.average):
        if state.validation:
            foreseen = _validate(state)
            if not foreseen.bases:
                raise BasewiseError("the validation contigs hold no base that is asked for; choose others")
            value = foreseen.nats / foreseen.bases
            if not math.isfinite(value):
                raise BasewiseError(f"the model gives NaN or infinity at step {now.step}: training diverged; lower train.lr")
            scores = {"loss": value, **foreseen.metrics()}
            better = now.best_value is None or value < now.best_value
            now.bad = 0 if better else now.bad + 1
            now.stopped = t.patience is not None and now.bad >= t.patience
            now.best_value = value if better else now.best_value
        if better:
            now.best_step = now.step
            if place.rank == 0:
                runs.save_best(state.folder, now.step, state.model.backbone.state_dict())
    if state.log is not None and scores is not None:
        state.log.write(step=now.step, best_step=now.best_step, validation=scores)
    return scores


def _validate(state: Pretraining) -> Foreseen:
    """Return how well the validation windows are foreseen, each process taking its share of them."""
    place = state.placement
    mine = state.validation[place.rank :: place.processes]
    with place.autocast():
        foreseen = foresee(
            state.model, state.tokenizer, state.genome, mine, state.settings, batch_size=state.eval_batch_size, device=place.device
        )
    nats, right, bases = place.sum(torch.tensor(foreseen, dtype=torch.float64, device=place.device)).tolist()
    return Foreseen(nats, int(right), int(bases))


def _save(state: Pretraining, plateau: dict[str, Any]) -> None:
    """Write a checkpoint in the first process; the others wait."""
    now, place = state.progress, state.placement
    now.plateau = plateau
    if place.rank == 0:
        content = runs.training_state(state.model, state.optimizer, place, state.average)
        runs.save_checkpoint(state.folder, now, content, keep=state.recipe.train.keep_checkpoints)
    place.wait()
