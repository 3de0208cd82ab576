"""What is explained: which label, and for models of bases at which of them. The answer is a weight for every logit.

    "LABEL" or "predicted"                              models of sequences and of individuals
    "[LABEL@]WHERE", WHERE one of                       models of bases
        center      base length // 2
        120         base 120, counted from 0
        100-140     bases 100 to 139
        all         all bases
        predicted   bases the model calls LABEL
        tp          bases the model calls LABEL and that are labelled so (true positives)

F is the sum of LABEL's logits there. A binary model with one logit has minus that logit for ``labels[0]``.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.errors import BasewiseError, did_you_mean

PREDICTED = "predicted"
_WORDS = ("center", "all", PREDICTED, "tp")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
Labels = npt.NDArray[np.int64]


class Target(NamedTuple):
    """`label` is a name or "predicted" (the class each sequence is given); `where` is empty but for models of bases."""

    label: str
    where: str = ""

    @property
    def needs_labels(self) -> bool:
        """True when true labels decide what is explained."""
        return self.where == "tp"

    def __str__(self) -> str:
        return f"{self.label}@{self.where}" if self.where else self.label


def parse_target(text: str | None, config: ClassifierConfig) -> Target:
    """Return the Target that `text` spells for a classifier; None: ``labels[1]`` or, of several labels, the predicted one, at the center.

    Raises BasewiseError for an unknown label, a place for a model without places, or an empty range.
    """
    default = config.labels[1] if len(config.labels) == 2 else PREDICTED
    if config.kind != "base":
        label = default if text is None else text
        if label not in (*config.labels, PREDICTED):
            known = ", ".join((*config.labels, PREDICTED))
            raise BasewiseError(
                f"target {label!r} is no label of this model of {config.kind}s; known: {known}.{did_you_mean(label, config.labels)}"
            )
        return Target(label)
    text = "center" if text is None else text
    label, separator, where = text.rpartition("@")
    if not separator and text in config.labels:
        label, where = text, "center"
    label = label or default
    if label not in (*config.labels, PREDICTED):
        raise BasewiseError(
            f"target {text!r} names the label {label!r}; known: {', '.join(config.labels)}.{did_you_mean(label, config.labels)}"
        )
    span = _RANGE.fullmatch(where)
    if where not in _WORDS and span is None:
        raise BasewiseError(f"target {text!r}: {where!r} is no place; expected {', '.join(_WORDS)}, a base (120) or bases (100-140)")
    if span is not None and span[2] is not None and int(span[2]) <= int(span[1]):
        raise BasewiseError(f"target {text!r} holds no base; expected START-END with START < END")
    if label == PREDICTED and where in ("tp", PREDICTED):
        raise BasewiseError(f"target {text!r} needs a label before @{where}; known: {', '.join(config.labels)}")
    return Target(label, where)


def predicted_classes(classifier: Classifier, logits: Tensor) -> npt.NDArray[np.int64]:
    """Return the class each logit vector (..., C) is called, by the threshold where the question is binary; ties go to the positive."""
    answers = classifier.answers(logits)
    if len(classifier.config.labels) == 2:
        return (answers >= classifier.config.threshold).astype(np.int64)
    return answers.argmax(-1).astype(np.int64)


def weights_of(classifier: Classifier, target: Target, logits: Tensor, labels: Labels | None = None) -> Tensor | None:
    """Return float32 weights, of the shape of one example's `logits` (C,) or (L, C); None when no base meets the target.

    Raises BasewiseError when a range lies beyond the sequence, or true labels are needed and missing or of another length.
    """
    names = classifier.config.labels
    if not target.where:
        index = int(predicted_classes(classifier, logits)) if target.label == PREDICTED else names.index(target.label)
        return _class_weights(classifier, index)
    L = len(logits)
    called = predicted_classes(classifier, logits)
    if target.label == PREDICTED:
        inside = torch.from_numpy(_places(target, L, None, called, labels))
        rows = [_class_weights(classifier, int(one)) for one in called]
        return torch.stack(rows) * inside[:, None]
    index = names.index(target.label)
    inside = torch.from_numpy(_places(target, L, index, called, labels))
    return _class_weights(classifier, index) * inside[:, None] if inside.any() else None


def _class_weights(classifier: Classifier, index: int) -> Tensor:
    if classifier.config.outputs == 1:
        return torch.tensor([1.0 if index else -1.0])
    return torch.eye(classifier.config.outputs)[index]


def _places(target: Target, L: int, index: int | None, called: Labels, labels: Labels | None) -> npt.NDArray[np.bool_]:
    inside = np.zeros(L, dtype=bool)
    if target.where == "center":
        inside[L // 2] = True
    elif target.where == "all":
        inside[:] = True
    elif target.where == PREDICTED:
        inside = called == index
    elif target.where == "tp":
        if labels is None:
            raise BasewiseError("target tp needs a label for every base: add a column `label`, or choose another target")
        if len(labels) != L:
            raise BasewiseError(f"a sequence of {L} bases has {len(labels)} labels, expected one a base")
        inside = (called == index) & (labels == index)
    else:
        first, _, last = target.where.partition("-")
        low, high = int(first), int(last) if last else int(first) + 1
        if high > L:
            raise BasewiseError(f"target {target} reaches base {high - 1}, but a sequence has {L} bases (0 to {L - 1})")
        inside[low:high] = True
    return inside
