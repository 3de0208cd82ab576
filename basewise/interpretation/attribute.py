"""Attributions of any classifier by any method, under one contract."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, as_bases
from basewise.inference.asking import refuse_individuals
from basewise.interpretation.base import TOKENS_A_BATCH, Attribution, Bucket, Example, make_buckets, studying
from basewise.interpretation.baselines import baseline_of, check_baseline
from basewise.interpretation.integrated_gradients import Steps, integrated_gradients
from basewise.interpretation.mutagenesis import mutagenesis
from basewise.interpretation.smoothgrad import input_x_gradient, smooth_integrated_gradients, smoothgrad
from basewise.interpretation.targets import PREDICTED, Labels, Target, parse_target, predicted_classes, weights_of

Method = Literal["ig", "smoothgrad", "ig-smoothgrad", "inputxgrad", "ism"]
DEFAULT_SD = {"smoothgrad": 0.1, "ig-smoothgrad": 0.02}  # source: HyenaDNA DNA-structures paper, algorithms 5 and 3


@dataclass(frozen=True)
class Settings:
    """How attributions are computed; each method reads its own part.

    Attributes
    ----------
    baseline
        Of ig and ig-smoothgrad: zero, pad, mask, n or shuffled (see `baselines`).
    steps, tolerance
        Gauss-Legendre points, or "auto": panels of the path, halved until the completeness error is below `tolerance` times the difference
        of the logits.
    samples, sd
        Noisy copies and their standard deviation; `sd` None: 0.1 for smoothgrad, 0.02 for ig-smoothgrad.
    signed
        smoothgrad of the gradient instead of its size.
    around
        ism of the bases at most so far from the center base only.
    """

    baseline: str = "zero"
    steps: Steps = "auto"
    tolerance: float = 1e-3
    samples: int = 50
    sd: float | None = None
    signed: bool = False
    around: int | None = None
    seed: int = 0
    batch_size: int = 64

    def check(self) -> None:
        """Raise BasewiseError for a value that no method could work with."""
        check_baseline(self.baseline)
        if self.steps != "auto" and self.steps < 1:
            raise BasewiseError(f"steps is {self.steps}, expected auto or 1 and more")
        for name, least in (("samples", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise BasewiseError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if self.tolerance <= 0 or (self.sd is not None and self.sd < 0) or (self.around is not None and self.around < 0):
            raise BasewiseError("tolerance must be above 0, sd and around 0 or more")


class Answer(NamedTuple):
    """What the model says of one sequence: its probabilities, the class it is called, and for models of bases the class of each base."""

    probability: npt.NDArray[np.float32]  # () or (C,); for bases that of the center base
    predicted: int
    predicted_bases: npt.NDArray[np.int64] | None


def check_method(name: str) -> Method:
    """Return `name`; BasewiseError when there is no such method."""
    for known in get_args(Method):
        if name == known:
            return known
    raise BasewiseError(f"unknown method {name!r}; known: {', '.join(get_args(Method))}.{did_you_mean(name, get_args(Method))}")


def attribute(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    method: str = "ig",
    *,
    target: str | None = None,
    labels: Sequence[Labels | None] | None = None,
    groups: Sequence[object] | None = None,
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    advance: Callable[[int], None] | None = None,
) -> list[Attribution | None]:
    """Return why each sequence got its logit, order kept; None where no base meets the target (see `targets`).

    Parameters
    ----------
    sequences
        5' to 3' as the model reads them; any lengths.
    labels
        For the target tp: the label of every base, int (L,), -1 where there is none.
    groups
        For models of individuals: which individual each sequence (chunk) belongs to; what is explained is the individual's logit.
    advance
        Is told how many sequences are done, now and then.

    Raises
    ------
    BasewiseError
        An unknown method, target or baseline, an empty sequence, missing labels or groups.
    """
    settings = settings or Settings()
    settings.check()
    name = check_method(method)
    goal = parse_target(target, classifier.config)
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    out: list[Attribution | None] = [None] * len(rows)
    with studying(classifier, device):
        examples = list(_examples(classifier, rows, goal, labels, groups, settings.batch_size))
        for places, answers in _run(classifier, examples, name, str(goal), settings):
            for place, answer in answers:
                out[place] = answer
            if advance is not None:
                advance(places)
    return out


def ask(
    classifier: Classifier, sequences: Sequence[str | Bases], *, batch_size: int = 64, device: str | torch.device = "cpu"
) -> list[Answer]:
    """Return what the classifier says of each sequence, order kept (models of sequences and of bases)."""
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    out: list[Answer | None] = [None] * len(rows)
    with studying(classifier, device):
        for places, logits in _logits(classifier, rows, [[i] for i in range(len(rows))], batch_size):
            for (place,), one in zip(places, logits, strict=True):
                called = predicted_classes(classifier, one)
                if classifier.config.kind == "base":
                    center = len(rows[place]) // 2
                    out[place] = Answer(classifier.probabilities(one)[center], int(called[center]), called)
                else:
                    out[place] = Answer(classifier.probabilities(one), int(called), None)
    return [answer for answer in out if answer is not None]


def target_logits(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    target: str | None = None,
    *,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float64]:
    """Return F (B,) of each sequence, order kept (models of sequences and of bases).

    Raises BasewiseError for a target that depends on the answer.
    """
    goal = parse_target(target, classifier.config)
    if PREDICTED in goal or goal.needs_labels:
        raise BasewiseError(f"target {goal} differs from sequence to sequence; name a label and a place")
    refuse_individuals(classifier)
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    out = np.empty(len(rows))
    with studying(classifier, device):
        for places, logits in _logits(classifier, rows, [[i] for i in range(len(rows))], batch_size):
            for (place,), one in zip(places, logits, strict=True):
                weights = weights_of(classifier, goal, one)
                out[place] = float((one * weights).sum()) if weights is not None else np.nan
    return out


def check_rows(rows: Sequence[Bases]) -> None:
    """Raise BasewiseError for an empty sequence (its number, counted from 1)."""
    for i, row in enumerate(rows, 1):
        if not len(row):
            raise BasewiseError(f"sequence {i} is empty, expected at least one base; leave it out")


def _examples(
    classifier: Classifier,
    rows: list[Bases],
    target: Target,
    labels: Sequence[Labels | None] | None,
    groups: Sequence[object] | None,
    batch_size: int,
) -> Iterator[Example]:
    """Yield what is to be explained, with the weights the target gives its logits."""
    members: dict[object, list[int]] = {}
    if classifier.config.kind == "individual":
        if groups is None:
            raise BasewiseError("this model answers about individuals: say which one each sequence belongs to (column `group`)")
        for i, group in enumerate(groups):
            members.setdefault(group, []).append(i)
    else:
        members = {i: [i] for i in range(len(rows))}
    for places, logits in _logits(classifier, rows, list(members.values()), batch_size):
        for place, one in zip(places, logits, strict=True):
            weights = weights_of(classifier, target, one, None if labels is None else labels[place[0]])
            if weights is not None:
                yield Example(tuple(place), tuple(rows[i] for i in place), weights.float())


def _logits(
    classifier: Classifier, rows: list[Bases], members: list[list[int]], batch_size: int
) -> Iterator[tuple[list[list[int]], list[torch.Tensor]]]:
    """Yield batches of places and their logits, on the CPU, cut to the length of each sequence."""
    individual = classifier.config.kind == "individual"
    order = sorted(range(len(members)), key=lambda i: (-len(members[i]), -max(len(rows[j]) for j in members[i]), i))
    low = 0
    while low < len(order):
        first = members[order[low]]
        most = max(1, min(batch_size, TOKENS_A_BATCH // max(1, len(first) * max(len(rows[j]) for j in first))))
        batch = [members[i] for i in order[low : low + most] if len(members[i]) == len(first)]
        tokens = classifier.tokenize([rows[j] for places in batch for j in places])
        logits = classifier(tokens, chunks=len(first) if individual else None).float().cpu()
        cut = [one[: len(rows[places[0]])] if logits.dim() == 3 else one for one, places in zip(logits, batch, strict=True)]
        yield batch, cut
        low += len(batch)


def _run(
    classifier: Classifier, examples: list[Example], method: Method, target: str, settings: Settings
) -> Iterator[tuple[int, list[tuple[int, Attribution]]]]:
    if method == "ism":
        for example in examples:
            yield (
                len(example.rows),
                mutagenesis(classifier, example, target, around=settings.around, batch_size=settings.batch_size),
            )
        return
    for bucket in make_buckets(classifier, examples, settings.batch_size):
        yield bucket.tokens.ids.shape[0] * bucket.tokens.ids.shape[1], list(_explain(classifier, bucket, method, target, settings))


def _explain(classifier: Classifier, bucket: Bucket, method: Method, target: str, settings: Settings) -> Iterator[tuple[int, Attribution]]:
    size = settings.batch_size
    sd = DEFAULT_SD.get(method, 0.0) if settings.sd is None else settings.sd
    if method == "inputxgrad":
        return input_x_gradient(classifier, bucket, target, batch_size=size)
    if method == "smoothgrad":
        return smoothgrad(
            classifier, bucket, target, samples=settings.samples, sd=sd, signed=settings.signed, seed=settings.seed, batch_size=size
        )
    baseline = baseline_of(classifier, bucket, check_baseline(settings.baseline), settings.seed)
    steps, tolerance = settings.steps, settings.tolerance
    if method == "ig":
        return integrated_gradients(classifier, bucket, baseline, target, steps=steps, tolerance=tolerance, batch_size=size)
    return smooth_integrated_gradients(
        classifier,
        bucket,
        baseline,
        target,
        steps=steps,
        tolerance=tolerance,
        samples=settings.samples,
        sd=sd,
        seed=settings.seed,
        batch_size=size,
    )
