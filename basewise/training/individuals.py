"""Training on individuals: an example is a group of chunks of one genome, drawn anew for every step.

Nothing is stored: which individuals a step sees, and which chunks, are functions of (seed, step). With a frozen backbone every training
individual's pool of chunks is embedded once and groups are made of those, so that a step is the head's alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.datasets.chunks import choose_individuals, draw_chunks, key_of, uniforms
from basewise.datasets.cohort import Cohort
from basewise.errors import BasewiseError
from basewise.evaluation.judge import judge
from basewise.inference.trait import Floats, Pool, chunk_settings, chunk_vectors, curve, curve_inputs, head_probabilities, pool_outputs
from basewise.recipes.schema import Recipe
from basewise.training import finish, loop, runs
from basewise.training.batches import Batch
from basewise.training.placement import Placement
from basewise.training.train import beginner, best_of, write_run

VERDICT_DEPTHS = (10, 50, 300)
VERDICT_REPEATS = 200
VERDICT_GROUPS = 2000


class GroupSource:
    """Groups of chunks for training and validation; see `basewise.training.loop.Groups`."""

    def __init__(self, recipe: Recipe, cohort: Cohort, classifier: Classifier, device: torch.device) -> None:
        self.recipe, self.cohort = recipe, cohort
        self.members, self.checked = cohort.members("train"), _members_or_none(cohort, "val")
        self.labels = cohort.samples["label"].to_numpy(np.int64)
        self.settings = chunk_settings(recipe, cohort, force=recipe.chunks.force_train)
        self.checking = chunk_settings(recipe, cohort, force=True)
        self.frozen = recipe.train.freeze_backbone
        self._pools: dict[int, Floats] = {}
        self._embedded: dict[int, Floats] = {}
        if self.frozen:
            for row in self.members.tolist():
                pool = pool_outputs(classifier, cohort.genome(row), self.settings, recipe.chunks.pool, recipe.train.seed, device=device)
                self._pools[row] = pool.vectors

    @property
    def epoch(self) -> int:
        """As many groups as there are training individuals, times 16: a round number to count epochs by."""
        return 16 * len(self.members)

    def batches(self, step: int) -> list[Batch]:
        """Return the batches of optimizer step `step`: species, individual and chunks by (seed, group number)."""
        t, N = self.recipe.train, self.settings.count
        batches = []
        for part in range(t.accumulation):
            first = (step * t.accumulation + part) * t.batch_size
            draws = np.arange(first, first + t.batch_size)
            who = choose_individuals(self.cohort, self.members, t.seed, draws)
            labels = self.labels[who]
            if self.frozen:
                u = uniforms(draws[:, None], np.arange(N)[None], 0, key_of(t.seed, "pool"))[..., 0]
                pools = [self._pools[row] for row in who.tolist()]
                vectors = np.stack([pool[(u[i] * len(pool)).astype(np.int64)] for i, pool in enumerate(pools)])
                batches.append(Batch([], labels, N, vectors))
                continue
            sequences: list[npt.NDArray[np.uint8]] = []
            for row, draw in zip(who.tolist(), draws.tolist(), strict=True):
                # validation draws are the first groups of an individual: training begins far behind them
                sequences += draw_chunks(self.cohort.genome(row), self.settings, t.seed, [draw + (1 << 40)]).sequences()
            batches.append(Batch(sequences, labels, N))
        return batches

    def validation_logits(self, classifier: Classifier) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return labels and logits of the same `validation_groups` groups of each validation individual, every time."""
        groups, N = self.recipe.chunks.validation_groups, self.checking.count
        labels, logits = [], []
        for row in self.checked.tolist():
            if row in self._embedded:
                vectors = self._embedded[row]
            else:
                chunks = draw_chunks(self.cohort.genome(row), self.checking, self.recipe.train.seed, np.arange(groups))
                vectors = chunk_vectors(classifier, chunks.sequences())
                if self.frozen:
                    self._embedded[row] = vectors
            with torch.no_grad():
                table = torch.from_numpy(vectors).to(classifier.device).unflatten(0, (groups, N))
                training = classifier.head.training
                classifier.head.eval()
                logits.append(classifier.head(table).float().cpu().numpy())
                classifier.head.train(training)
            labels.append(np.full(groups, self.labels[row]))
        return np.concatenate(labels), np.concatenate(logits)


def _members_or_none(cohort: Cohort, split: str) -> npt.NDArray[np.int64]:
    there = (cohort.samples["split"] == split) & (cohort.samples["label"] >= 0)
    return np.flatnonzero(there.to_numpy())


def check_cohort(recipe: Recipe, cohort: Cohort) -> None:
    """Refuse a recipe of another kind, other labels or contigs that are not there, and splits with one class only."""
    if recipe.kind != "individual":
        raise BasewiseError(f'{cohort.path} is a cohort of individuals, but the recipe\'s head is of kind "{recipe.kind}"; set head.kind')
    if tuple(recipe.head.labels) != cohort.labels:
        found, wanted = ", ".join(cohort.labels), ", ".join(recipe.head.labels)
        raise BasewiseError(f"{cohort.path} has labels {found}, the recipe {wanted}; set head.labels to the cohort's")
    for split in ("train", "val"):
        rows = cohort.members(split) if split == "train" else _members_or_none(cohort, split)
        classes = np.unique(cohort.samples["label"].to_numpy(np.int64)[rows])
        if len(rows) and len(classes) < 2:
            raise BasewiseError(f"split {split!r} of {cohort.path} holds one class only ({cohort.labels[classes[0]]}); both must be there")
    chunk_settings(recipe, cohort, force=True)  # contigs that match nothing


def train_individuals(
    recipe: Recipe,
    cohort: Cohort,
    run_folder: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "cpu",
    progress: Callable[[loop.Event], None] | None = None,
) -> dict[str, Any]:
    """Train on a cohort and write the run folder, as `basewise.training.train.train` does for datasets; returns what results.json holds."""
    loop.check_metric(recipe)
    check_cohort(recipe, cohort)
    known = cohort.samples[cohort.samples["label"] >= 0]
    loop.check_examples(recipe, known)
    placement = Placement(device, recipe.train.precision)
    folder = Path(run_folder)
    classifier, total = beginner(recipe, recipe.chunks.length)  # before the folder is begun: what cannot be built leaves none
    found = runs.begin(folder, recipe, resume=resume, force=force, first=placement.rank == 0)
    if found is not None:
        return found
    placement.wait()
    source = GroupSource(recipe, cohort, classifier, placement.device)
    trainer = loop.start(recipe, classifier, known, folder, placement, source)
    loop.run(trainer, progress)
    return _finish(trainer, cohort, total) if placement.rank == 0 else {}


def _finish(trainer: loop.Trainer, cohort: Cohort, total: int) -> dict[str, Any]:
    """Judge single groups of val and test, and individuals at a few depths; write the run folder."""
    recipe, done = trainer.recipe, trainer.progress
    classifier, counts = best_of(trainer)
    settings = chunk_settings(recipe, cohort)
    verdicts: dict[str, Any] = {}
    tables = []
    for split in ("val", "test"):
        rows = _members_or_none(cohort, split)
        if not len(rows):
            continue
        part = _groups_of(classifier, cohort, rows, recipe, trainer.placement.device)
        tables.append(part.assign(split=split))
        p = np.stack(part["probability"].tolist()) if isinstance(part["probability"].iloc[0], list) else part["probability"].to_numpy()
        verdicts[split] = judge(
            part["label"].to_numpy(),
            p,
            0.5,
            bootstrap=recipe.evaluate.bootstrap,
            seed=recipe.train.seed,
            groups=part["sample"].to_numpy(dtype=object),
        )
    depth: list[dict[str, Any]] = []
    if {"val", "test"} <= set(verdicts):
        inputs = curve_inputs(
            classifier,
            cohort,
            settings,
            pool=recipe.chunks.pool,
            groups=VERDICT_GROUPS,
            seed=recipe.train.seed,
            device=str(classifier.device),
        )
        table = curve(inputs, VERDICT_DEPTHS, VERDICT_REPEATS, recipe.train.seed)
        plain = table.astype(object).where(table.notna(), None)
        depth = [dict(zip(plain.columns, line, strict=True)) for line in plain.itertuples(index=False, name=None)]
    results = {
        "recipe": recipe.name,
        "kind": recipe.kind,
        "parameters": total,
        **counts,
        "steps": done.step,
        "stopped_early": done.stopped,
        "best": {"step": done.best_step, "metric": recipe.train.metric, "value": done.best_value},
        "threshold": 0.5,
        "calibration": classifier.config.calibration.model_dump(),
        "splits": verdicts,
        "individuals": depth,
        "expected": finish.compare(recipe, verdicts),
    }
    empty = pd.DataFrame({"sample": [], "label": [], "group": [], "probability": [], "split": []})
    predictions = pd.concat(tables, ignore_index=True) if tables else empty
    return write_run(trainer.folder, recipe, classifier, results, predictions, cohort, seconds=done.seconds)


def _groups_of(classifier: Classifier, cohort: Cohort, rows: npt.NDArray[np.int64], recipe: Recipe, device: torch.device) -> pd.DataFrame:
    """Return one row a group, unforced: sample, label, group, probability (a list for several labels)."""
    settings, groups = chunk_settings(recipe, cohort), recipe.chunks.validation_groups
    parts = []
    for row in rows.tolist():
        genome = cohort.genome(row)
        pool: Pool = pool_outputs(classifier, genome, settings, groups * settings.count, recipe.train.seed, first=groups, device=device)
        p = head_probabilities(classifier, pool.vectors, np.arange(groups * settings.count).reshape(groups, -1))
        table = pd.DataFrame({"sample": genome.sample, "label": int(cohort.samples["label"].iloc[row]), "group": np.arange(groups)})
        parts.append(table.assign(probability=p if p.ndim == 1 else p.tolist()))
    return pd.concat(parts, ignore_index=True)
