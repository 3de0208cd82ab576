"""The probability of every base of a stretch of a contig: what a scan of bases spends its hours on.

Two ways. Dense: a backbone that knows its `reach` (convnet, pyramid) encodes long stretches once; the engine does it. Windows: any
other backbone reads windows of one length that overlap, and a base takes its answer from the window in which it stands most
centrally; a model of kind "sequence" answers a window as a whole, and its most central bases take that answer (with a stride of 1
each base that of the window whose base ``window // 2`` it is, as its strand reads: what `predict` says of a 1-bp interval).

Windows start at multiples of `stride` on every contig, the last one ends with the contig, and they are read in groups counted from the
contig's first base: a base gets the same bits whoever asks, whatever the tile.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.genome.alphabet import Bases, reverse_complement
from basewise.inference import engine
from basewise.inference.asking import BaseTokens, base_tokens, check_tokens
from basewise.inference.fast_hyena import FastHyena, fast_hyena

_WINDOWS_A_GROUP = {"cpu": 32, "cuda": 1024}
_BASES_A_GROUP = {"cpu": 1 << 16, "cuda": 1 << 21}  # long windows are read in smaller groups

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
Fetch = Callable[[int, int], Bases]


@dataclass(frozen=True)
class Stretch:
    """Bases ``[start, end)`` of a contig of `length` bases; `wanted` (end - start,) says which of them need an answer."""

    fetch: Fetch  # fetch(start, end) -> bases, N beyond the contig
    length: int
    start: int
    end: int
    wanted: Bools


Answer = Callable[[Stretch, int], Floats]  # (stretch, strand +1 or -1) -> probabilities (end - start,), NaN where not worked out


def open_answer(classifier: Classifier, device: torch.device, window: int | None, stride: int | None) -> Answer:
    """Return who answers stretches, for a classifier that is ready (`answering`); `window` None: the dense way."""
    if window is None:
        ready = engine.scorer(classifier, device=device, dense=True)
        return lambda stretch, strand: _dense(ready, engine.cell_size(device), stretch, strand)
    assert stride is not None
    group = max(1, min(_WINDOWS_A_GROUP[device.type], _BASES_A_GROUP[device.type] // window))
    layout = base_tokens(classifier)
    fast = fast_hyena(classifier.backbone) if layout is not None and classifier.config.strands == "forward" else None
    reader = Reader(classifier, device, window, stride, group, layout, fast)
    return reader.answer


def _dense(ready: engine.Scorer, cell: int, stretch: Stretch, strand: int) -> Floats:
    """Score all bases of the chunks that hold a wanted one: which bases are wanted changes no bit of the others' answers."""
    chunk = engine.CHUNK
    lows = [
        low for low in range(stretch.start, stretch.end, chunk) if stretch.wanted[low - stretch.start : low - stretch.start + chunk].any()
    ]
    answers = np.full(stretch.end - stretch.start, np.nan, np.float32)
    if not lows:
        return answers
    positions = np.concatenate([np.arange(low, min(low + chunk, stretch.end)) for low in lows])
    offset = stretch.start - ready.halo  # the engine works by whole cells
    bases = stretch.fetch(offset, -(-stretch.end // cell) * cell + ready.halo)
    strands = np.full(len(positions), strand, np.int8)
    answers[positions - stretch.start] = ready.score(lambda a, b: bases[a - offset : b - offset], positions, strands, stretch.length)
    return answers


class Windows:
    """Where the windows of a contig stand, and which bases each of them answers for.

    Of two windows in which a base stands equally centrally the later one answers, or the `earlier`.
    """

    def __init__(self, length: int, window: int, stride: int, *, earlier: bool = False) -> None:
        self.window, self.stride, self.last = window, stride, max(length - window, 0)
        self.earlier = earlier
        self.length = length
        self.count = 1 + -(-self.last // stride)

    def start(self, number: Positions) -> Positions:
        """Return the first base of windows; the last one ends with the contig."""
        return np.minimum(number * self.stride, self.last)

    def lower(self, number: Positions) -> Positions:
        """Return the first base that windows answer for, up to that of the next: those nearer to their center than to another's."""
        between = (self.start(number - 1) + self.start(number) + self.window + self.earlier) // 2
        return np.where(number <= 0, 0, np.where(number >= self.count, self.length, between))

    def over(self, start: int, end: int) -> tuple[int, int]:
        """Return (first, after) of the windows that answer for a base of ``[start, end)``."""
        guess = np.arange((start - self.window) // self.stride - 1, end // self.stride + 2).clip(0, self.count - 1)
        number = np.unique(guess)
        inside = number[(self.lower(number + 1) > start) & (self.lower(number) < end)]
        return int(inside[0]), int(inside[-1]) + 1


@dataclass(frozen=True)
class Reader:
    """A classifier that reads windows in groups."""

    classifier: Classifier
    device: torch.device
    window: int
    stride: int
    group: int
    layout: BaseTokens | None
    fast: FastHyena | None

    def answer(self, stretch: Stretch, strand: int) -> Floats:
        """Return the probability of each base of a stretch on a strand, NaN where no window of its group holds a wanted base."""
        # a window as a whole is about its base window // 2, as its strand reads
        earlier = self.classifier.config.kind == "sequence" and strand > 0
        windows = Windows(stretch.length, self.window, self.stride, earlier=earlier)
        first, after = windows.over(stretch.start, stretch.end)
        answers = np.full(stretch.end - stretch.start, np.nan, np.float32)
        for low in range(first // self.group * self.group, after, self.group):
            number = np.arange(low, min(low + self.group, windows.count))
            begin, stop = np.clip((windows.lower(number[:1])[0], windows.lower(number[-1:] + 1)[0]), stretch.start, stretch.end)
            if stretch.wanted[begin - stretch.start : stop - stretch.start].any():
                answers[begin - stretch.start : stop - stretch.start] = self._group(stretch, windows, number, strand, begin, stop)
        return answers

    def _group(self, stretch: Stretch, windows: Windows, number: Positions, strand: int, begin: int, stop: int) -> Floats:
        """Return the answers (stop - begin,) for bases ``[begin, stop)``, all of which windows `number` answer for."""
        starts, width = windows.start(number), min(self.window, stretch.length)
        bases = stretch.fetch(int(starts[0]), int(starts[-1]) + width)
        rows = np.stack([bases[start : start + width] for start in (starts - starts[0]).tolist()])
        if strand < 0:
            rows = np.ascontiguousarray(reverse_complement(rows.reshape(-1)).reshape(rows.shape)[::-1])
        answers = self._read(rows)
        place = np.arange(begin, stop)
        row = np.searchsorted(windows.lower(number), place, side="right") - 1
        if answers.ndim == 1:  # a window as a whole
            return answers[row]
        within = place - starts[row]
        return answers[row, within if strand > 0 else width - 1 - within]

    def _read(self, rows: Bases) -> Floats:
        """Return probabilities (B, width), or (B,) of kind "sequence", of windows of bases (B, width)."""
        classifier = self.classifier
        if self.layout is None:
            tokens = classifier.tokenize(list(rows))
            check_tokens(classifier.backbone, tokens.ids.shape[1], f"a window of {rows.shape[1]} bases", "choose a smaller --window")
        else:
            tokens = self.layout.tokens(torch.from_numpy(self.layout.table[rows]).to(self.device))
        logits = classifier(tokens) if self.fast is None else self._fast_logits(self.fast, tokens)
        return classifier.answers(logits)

    def _fast_logits(self, fast: FastHyena, tokens: Tokens) -> torch.Tensor:
        logits: torch.Tensor = self.classifier.head(fast.hidden(tokens.ids), tokens)
        return logits
