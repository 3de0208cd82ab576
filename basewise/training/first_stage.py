"""A first stage learnt from its full model: what the full model says of the candidates of a genome is the only label.

Contigs are divided in three: on some the network learns, on others its cut is chosen, on the last it is measured; what a scan may trust
is the last. No list of true sites is needed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from basewise.backbones.classifier import find_model, load_classifier
from basewise.errors import BasewiseError
from basewise.genome.contigs import check_contigs
from basewise.genome.fasta import Genome
from basewise.inference.asking import answering, check_device, one_thread
from basewise.inference.engine import CHUNK, Scorer, scorer
from basewise.inference.first_stage import WANTED, Config, FirstStage, Measured, save_first_stage
from basewise.inference.staged import log_odds
from basewise.tasks.pas_rule import WINDOW, candidates_of_block

_BATCH = 1024
_RATE = 4e-3
_BELOW = 2.0  # logits below the threshold over which an error loses most of its weight
_LEAST_CALLS = 200  # fewer than these say nothing about 99.5 %

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How much of everything.

    ``candidates``: to learn from, at most; ``measured``: to choose the cut with, and to measure with, at most each; ``steps``: of 1024
    candidates; ``aim``: share of calls that the cut keeps where it is chosen, somewhat above what is wanted elsewhere; ``window``: bases
    that the network reads (odd).
    """

    candidates: int = 300_000
    measured: int = 500_000
    steps: int = 1500
    aim: float = 0.998
    window: int = 129
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """Candidates: windows of base codes uint8 (N, W), context float32 (N, D), D = 0 without, and the full model's log-odds (N,)."""

    windows: npt.NDArray[np.uint8]
    context: Floats
    said: Floats


def train_first_stage(
    model: str,
    genome: Genome,
    *,
    choose: Sequence[str],
    hold_out: Sequence[str],
    train: Sequence[str] = (),
    settings: Settings | None = None,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> FirstStage:
    """Train a first stage for MODEL, measure it, store it in the model's folder, and return it.

    Parameters
    ----------
    choose, hold_out
        Contigs on which the cut is chosen, and on which recall is measured; best those that the model's own training did not see.
    train
        Contigs to learn from; empty: all others.
    say
        Told what is going on, a line at a time.

    Raises
    ------
    BasewiseError
        A contig is unknown or in two of the lists, there are too few calls to choose or measure, or the model scores no candidates in
        a way that a first stage helps.
    """
    settings, say = settings or Settings(), say or (lambda _: None)
    names = [*train, *choose, *hold_out]
    check_contigs(names, genome, "--train, --choose and --hold-out")
    if len(set(names)) < len(names) or not choose or not hold_out:
        raise BasewiseError("every contig may be in one of --train, --choose and --hold-out, and the last two need at least one each")
    train = list(train) or [name for name in genome.contigs if name not in names]
    classifier, where = load_classifier(model), check_device(device)
    with genome, one_thread(), answering(classifier, where):
        ready = scorer(classifier, device=where)
        if ready.reach is not None and ready.fast is None:
            raise BasewiseError(
                f"{classifier.backbone.family} on {where.type} reads whole stretches at once: a first stage saves it nothing"
            )
        looks = partial(_look, ready, genome, settings)
        say(f"learning from {', '.join(train)}")
        learnt = looks(train, settings.candidates)
        threshold = classifier.config.threshold
        lowest = float(log_odds(np.array(threshold)))
        stage = _fit(learnt, lowest, settings).eval()
        say(f"choosing the cut on {', '.join(choose)}")
        chosen = looks(choose, settings.measured)
        guessed = _guess(stage, chosen)
        calls = guessed[chosen.said >= lowest]
        _enough(len(calls), choose)
        cut = float(np.sort(calls)[int(np.floor(len(calls) * (1 - settings.aim)))])
        config = stage.config.model_copy(update={"cut": cut, "threshold": threshold, "model_sha256": classifier.sha256})
        say(f"measuring on {', '.join(hold_out)}")
        held = looks(hold_out, settings.measured)
        told = _measure(_guess(stage, held), held.said, lowest, cut, hold_out)
        _enough(told.calls, hold_out)
        stage.config = config.model_copy(
            update={"chosen_on": _measure(guessed, chosen.said, lowest, cut, choose), "held_out": told},
        )
    save_first_stage(stage, find_model(model))
    say(
        f"keeps {told.recall:.2%} of {told.calls:,} calls and {told.kept:.2%} of {told.candidates:,} candidates on held-out contigs: "
        + ("scans use it" if stage.config.holds else f"scans do not use it, {WANTED:.1%} are wanted")
    )
    return stage


def _enough(calls: int, contigs: Sequence[str]) -> None:
    if calls < _LEAST_CALLS:
        raise BasewiseError(
            f"the model calls {calls} candidates on {', '.join(contigs)}, expected at least {_LEAST_CALLS}; name more contigs"
        )


def _measure(guessed: Floats, said: Floats, lowest: float, cut: float, contigs: Sequence[str]) -> Measured:
    called, kept = said >= lowest, guessed >= cut
    recall = float(kept[called].mean()) if called.any() else None
    return Measured(contigs=tuple(contigs), candidates=len(said), calls=int(called.sum()), recall=recall, kept=float(kept.mean()))


class _Recorder:
    """Stands where a first stage does, keeps everything, and remembers what it was shown."""

    def __init__(self, window: int) -> None:
        self.config = Config(window=window)
        self.windows: list[npt.NDArray[np.uint8]] = []
        self.context: list[Floats] = []

    def keeps(self, windows: npt.NDArray[np.uint8], context: torch.Tensor | None, device: torch.device) -> npt.NDArray[np.bool_]:
        self.windows.append(windows)
        self.context.append(np.empty((len(windows), 0), np.float32) if context is None else context.float().cpu().numpy())
        return np.ones(len(windows), dtype=bool)


def _look(ready: Scorer, genome: Genome, settings: Settings, contigs: Sequence[str], most: int) -> Seen:
    """Score about `most` candidates of chunks drawn from `contigs`, all of them if there are no more."""
    recorder = _Recorder(settings.window)
    recording = replace(ready, first=cast(FirstStage, recorder))
    said = []
    for chrom, positions, strands in _drawn(genome, contigs, most, settings.seed):
        fetch = partial(genome.window, chrom)
        said.append(log_odds(recording.score(fetch, positions, strands, genome.contigs[chrom])).astype(np.float32))
    if not said:
        raise BasewiseError(f"there is no candidate on {', '.join(contigs)}; name other contigs")
    return Seen(np.concatenate(recorder.windows), np.concatenate(recorder.context), np.concatenate(said))


def _drawn(
    genome: Genome, contigs: Sequence[str], most: int, seed: int
) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int8]]]:
    """Yield (contig, positions, strands) of chunks in random order, each strand by itself, until `most` candidates were had."""
    chunks = [(chrom, start) for chrom in contigs for start in range(0, genome.contigs[chrom], CHUNK)]
    had = 0
    for index in np.random.default_rng(seed).permutation(len(chunks)):
        chrom, start = chunks[index]
        length = genome.contigs[chrom]
        low, high = max(start - WINDOW, 0), min(start + CHUNK + WINDOW, length)
        positions, strands = candidates_of_block(genome.fetch(chrom, low, high), low, length, start, min(start + CHUNK, length))
        for strand in (1, -1):
            mine = strands == strand
            if mine.any():
                yield chrom, positions[mine], strands[mine]
        had += len(positions)
        if had >= most:
            return


def _fit(seen: Seen, lowest: float, settings: Settings) -> FirstStage:
    """Return a network fitted to what the full model said; errors far below the threshold count little."""
    with torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(settings.seed)
        stage = FirstStage(Config(window=settings.window, context=seen.context.shape[1]))
        if stage.config.context:
            stage.mean.copy_(torch.from_numpy(seen.context.mean(0)))
            stage.scale.copy_(1 / torch.from_numpy(seen.context.std(0) + 1e-4))
        optimizer = torch.optim.AdamW(stage.parameters(), lr=_RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=settings.steps)
        weight = np.exp(np.clip((seen.said - lowest) / _BELOW, -3.0, 0.0)).astype(np.float32)
        rng = np.random.default_rng(settings.seed)
        for _ in range(settings.steps):
            rows = rng.integers(0, len(seen.said), _BATCH)
            windows, context, said, heavy = (torch.from_numpy(x[rows]) for x in (seen.windows, seen.context, seen.said, weight))
            guess = stage(windows, context if stage.config.context else None)
            loss: Any = (heavy * F.smooth_l1_loss(guess, said, reduction="none")).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return stage


def _guess(stage: FirstStage, seen: Seen) -> Floats:
    parts = []
    for low in range(0, len(seen.said), _BATCH):
        part = slice(low, low + _BATCH)
        context = torch.from_numpy(seen.context[part]) if stage.config.context else None
        parts.append(stage(torch.from_numpy(seen.windows[part]), context).numpy())
    return np.concatenate(parts)
