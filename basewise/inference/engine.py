"""The probability of positions of a contig, on either strand: what a scan spends its hours on.

Two ways with one meaning. Windows: the classifier's window is cut around each position, N beyond the contig's ends, the minus
strand turned, and classified. Dense: a backbone that knows its `reach` encodes whole chunks once a strand and the head reads the
hidden states at the positions. They agree within 1e-5; a backbone with a `grid` always goes the dense way, whose chunks start at
multiples of it, so that the grid lies alike for everybody.

Work is cut on a grid of contig coordinates anchored at base 0, and the arrays given to the model have the same shape whoever
asks, so that the same position gets the same bits whatever the tile, the number of workers or the batch size.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from basewise.backbones.base import Backbone, Tokens
from basewise.backbones.classifier import Classifier
from basewise.backbones.heads import SequenceHead
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, reverse_complement
from basewise.inference.asking import BaseTokens, answering, base_tokens, refuse_individuals
from basewise.inference.fast_hyena import DIRECT, FastHyena, fast_hyena
from basewise.inference.fast_pyramid import FastPyramid, fast_pyramid
from basewise.inference.first_stage import FirstStage, code_windows

CHUNK = 32768  # bases encoded together by the dense way: large enough that the halo of kilobases costs little
_PIECE = 8192  # bases of them at a time on a CPU where the halo is small: these stay in the cache
_CHUNKS_A_CELL = {"cpu": 2, "cuda": 16}
_SPAN_STEP = 256
_ROWS = 256  # hidden states that the head reads at a time
DROPPED = -1.0  # in place of a probability
_WINDOWS_A_GROUP = {"cpu": 32, "cuda": 2048}  # measured on CPUs: 16-32 windows stay in cache (SPEED notes); a GPU wants thousands

Fetch = Callable[[int, int], Bases]
Positions = npt.NDArray[np.int64]
Strands = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.float32]


def cell_size(device: torch.device) -> int:
    """Return the grid's step in bases: tiles that are multiples of it never change an answer."""
    return CHUNK * _CHUNKS_A_CELL[device.type]


@dataclass(frozen=True)
class Scorer:
    """A classifier made ready for many calls; use inside `answering(classifier, device)`."""

    classifier: Classifier
    device: torch.device
    batch_size: int
    layout: BaseTokens | None
    window: int
    reach: int | None
    fast: FastPyramid | None = None
    hyena: FastHyena | None = None
    half: Backbone | None = None  # a copy of the backbone in another precision, where neither fast form is taken
    first: FirstStage | None = None

    @property
    def halo(self) -> int:
        """How many bases beside a cell `fetch` may be asked for."""
        return max(self.window, self.reach or 0, 0 if self.first is None else self.first.config.window)

    def score(self, fetch: Fetch, positions: Positions, strands: Strands, length: int | None = None) -> Probabilities:
        """Return float32 probabilities (N,), see `score_positions`; `positions` ascending, `length` that of the contig.

        What a first stage drops is answered `DROPPED`.
        """
        answers = np.full(len(positions), DROPPED, dtype=np.float32)
        cell = cell_size(self.device)
        for inside in _runs(positions // cell):
            start = int(positions[inside.start]) // cell * cell
            if self.reach is None:
                at = np.arange(inside.start, inside.stop)
                if self.first is not None:
                    at = at[self.first.keeps(self._codes(fetch, positions[at], strands[at]), None, self.device)]
                answers[at] = self._score_windows(fetch, start, positions[at], strands[at])
            else:
                answers[inside] = self._score_dense(fetch, positions[inside], strands[inside], length)
        return answers

    def _codes(self, fetch: Fetch, positions: Positions, strands: Strands) -> npt.NDArray[np.uint8]:
        """Return the windows (N, window) of base codes that the first stage reads."""
        assert self.first is not None
        window = self.first.config.window
        low = int(positions.min()) - window // 2
        return code_windows(fetch(low, int(positions.max()) + window // 2 + 1), positions - low, strands, window)

    def _score_windows(self, fetch: Fetch, start: int, positions: Positions, strands: Strands) -> Probabilities:
        """Classify one window a position; all positions lie in the cell at `start`."""
        window = self.window
        stretch = fetch(start - window, start + cell_size(self.device) + window)
        turned = reverse_complement(stretch)
        offsets = positions - (start - window)
        # first base of the window in `stretch`, or in its reverse complement for the minus strand
        first = np.where(strands > 0, offsets, len(stretch) - 1 - offsets) - window // 2
        answers = np.empty(len(positions), dtype=np.float32)
        group = _WINDOWS_A_GROUP[self.device.type]
        at_once = max(group, self.batch_size // group * group)
        plus_view, minus_view = (
            sliding_window_view(row if self.layout is None else self.layout.table[row], window) for row in (stretch, turned)
        )
        for low in range(0, len(first), at_once):
            part = slice(low, low + at_once)
            rows, plus = first[part], strands[part] > 0
            # the last group is filled up: a matrix product of another shape may round differently
            filled = -(-len(rows) // group) * group
            windows = np.empty((filled, window), dtype=plus_view.dtype)
            windows[: len(rows)][plus] = plus_view[rows[plus]]
            windows[: len(rows)][~plus] = minus_view[rows[~plus]]
            windows[len(rows) :] = windows[0]
            answers[part] = np.concatenate([self._classify(windows[g : g + group]) for g in range(0, filled, group)])[: len(rows)]
        return answers

    def _classify(self, windows: npt.NDArray[np.int16] | Bases) -> Probabilities:
        """Return probabilities (B,) of windows (B, window): ids where a table is known, else bases."""
        if self.layout is None:
            tokens = self.classifier.tokenize(list(windows))
        else:
            tokens = self.layout.tokens(torch.from_numpy(windows).to(self.device).long())
        logits = self.classifier(tokens) if self.hyena is None else self.hyena_logits(self.hyena, tokens)
        if self.classifier.config.kind == "base":
            logits = logits[:, windows.shape[1] // 2]
        return self._probabilities(logits)

    def hyena_logits(self, hyena: FastHyena, tokens: Tokens) -> Tensor:
        """Return what the classifier answers for `tokens` without padding, by the fast forward."""
        head = self.classifier.head
        if self.classifier.config.pool == "last" and isinstance(head, SequenceHead):
            return head.score(hyena.last(tokens.ids).float())
        logits: Tensor = head(hyena.hidden(tokens.ids).float(), tokens)
        return logits

    def _score_dense(self, fetch: Fetch, positions: Positions, strands: Strands, length: int | None) -> Probabilities:
        """Encode the chunks of one cell that hold positions, each strand by itself, and read the hidden states there."""
        answers = np.full(len(positions), DROPPED, dtype=np.float32)
        stacked = 1 if self.device.type == "cpu" else _CHUNKS_A_CELL[self.device.type]
        for strand in (1, -1):
            asked = np.flatnonzero(strands == strand)
            chunks = [(int(positions[asked[run.start]]) // CHUNK, asked[run]) for run in _runs(positions[asked] // CHUNK)]
            for low in range(0, len(chunks), stacked):
                batch = chunks[low : low + stacked]
                span = CHUNK
                if length is not None and stacked == 1:  # the last chunk of a contig, or a small contig: no work far beyond its end
                    span = min(CHUNK, -(-(length - batch[0][0] * CHUNK) // _SPAN_STEP) * _SPAN_STEP)
                ids = self._chunk_ids(fetch, [number for number, _ in batch], stacked, span, strand)
                inside = [positions[at] - number * CHUNK for number, at in batch]
                where = [torch.from_numpy(p if strand > 0 else span - 1 - p).to(self.device) for p in inside]
                if self.fast is not None:
                    at = batch[0][1]
                    kept, states = self._fast_states(self.fast, ids, where[0], partial(self._codes, fetch, positions[at], strands[at]))
                    answers[at[kept]] = self._read(states)
                    continue
                hidden = self._hidden(ids)
                for row, (_, at) in enumerate(batch):
                    answers[at] = self._read(hidden[row, where[row]])
        return answers

    def _read(self, states: Tensor) -> Probabilities:
        """Return probabilities (N,) of hidden states (N, D), some at a time: products of one shape, whatever N, round alike."""
        parts = [np.empty(0, dtype=np.float32)]
        for rows in states.split(_ROWS) if len(states) else ():
            filled = torch.cat([rows, rows[:1].expand(_ROWS - len(rows), -1)]) if len(rows) < _ROWS else rows
            parts.append(self._probabilities(self.classifier.head.score(filled))[: len(rows)])  # type: ignore[operator]
        return np.concatenate(parts)

    def _fast_states(
        self, fast: FastPyramid, ids: Tensor, where: Tensor, windows: Callable[[], npt.NDArray[np.uint8]]
    ) -> tuple[npt.NDArray[np.intp], Tensor]:
        """Return which of the positions `where` the first stage keeps (all, without one), and their hidden states (N, D)."""
        embedded = self.classifier.backbone.embed(ids)
        coarse = fast.coarse(embedded)
        kept = np.arange(len(where))
        if self.first is not None:
            kept = np.flatnonzero(self.first.keeps(windows(), fast.context(coarse, where), self.device))
        return kept, fast.states(embedded, where[kept], coarse)

    def _chunk_ids(self, fetch: Fetch, numbers: list[int], stacked: int, span: int, strand: int) -> Tensor:
        """Return ids int64 (stacked, span + 2 * reach) of the chunks `numbers` on a strand; rows that are left over hold N."""
        assert self.layout is not None
        assert self.reach is not None
        ids = np.full((stacked, span + 2 * self.reach), self.layout.table[ord("N")], dtype=np.int64)
        for row, number in enumerate(numbers):
            bases = fetch(number * CHUNK - self.reach, number * CHUNK + span + self.reach)
            ids[row] = self.layout.table[bases if strand > 0 else reverse_complement(bases)]
        return torch.from_numpy(ids).to(self.device)

    def _hidden(self, ids: Tensor) -> Tensor:
        """Return hidden states (B, L - 2 * reach, D) of base ids (B, L): those whose neighbours are all there."""
        backbone, reach = self.half or self.classifier.backbone, self.reach or 0
        length = ids.shape[1] - 2 * reach
        if self.device.type == "cpu" and length > _PIECE > 2 * reach and getattr(backbone, "grid", 1) == 1:
            pieces = range(0, length, _PIECE)
            return torch.cat([self._hidden(ids[:, low : low + _PIECE + 2 * reach]) for low in pieces], dim=1)
        embedded = backbone.embed(ids)
        if hasattr(backbone, "encode_valid"):
            valid: Tensor = backbone.encode_valid(embedded)
            return valid.float()
        return backbone.encode(embedded, torch.ones_like(ids, dtype=torch.bool))[:, reach : ids.shape[1] - reach].float()

    def _probabilities(self, logits: Tensor) -> Probabilities:
        """Return the probability of the second label, float32 (B,), for logits (B, C)."""
        return self.classifier.answers(logits)


def scorer(
    classifier: Classifier,
    *,
    device: torch.device,
    batch_size: int = 4096,
    dense: bool | None = None,
    dtype: torch.dtype = torch.float32,
) -> Scorer:
    """Make `classifier` ready to score positions on `device`; it must already be there (`answering`).

    Parameters
    ----------
    batch_size
        Windows gathered at a time (rounded to whole groups); memory only, answers do not depend on it.
    dense
        Choose the way: None takes the dense way wherever it means the same as windows.
    dtype
        Precision of the work: torch.bfloat16 for HyenaDNA's short windows and for the dense way; answers then are off by some hundredths
        of a logit (see `staged`).

    Raises
    ------
    BasewiseError
        The classifier has several labels, no window, or cannot go the dense way it was told to, or has no form in `dtype`.
    """
    config, reach = classifier.config, getattr(classifier.backbone, "reach", None)
    window = config.window or (None if reach is None else 2 * reach + 1)
    refuse_individuals(classifier)
    if len(config.labels) != 2 or window is None:
        raise BasewiseError(
            f"model for {config.task!r} (kind {config.kind!r}, labels {', '.join(config.labels)}, window {config.window}) cannot score "
            "positions, expected a binary question about a sequence or a base, and a window; use predict"
        )
    layout = base_tokens(classifier)
    can = reads_dense(classifier, layout)
    grid = getattr(classifier.backbone, "grid", 1)
    if grid > 1 and (not can or dense is False or _SPAN_STEP % grid):
        raise BasewiseError(
            f"{classifier.backbone.family} with a grid of {grid} bases as configured cannot score positions, expected a grid that divides "
            f"{_SPAN_STEP} and a model that reads base by base"
        )
    if dense and not can:
        raise BasewiseError(f"{classifier.backbone.family} as configured cannot read hidden states of long stretches; leave dense out")
    goes = can and dense is not False
    short = layout is not None and config.strands == "forward" and window + len(layout.prefix + layout.suffix) <= DIRECT
    hyena = fast_hyena(classifier.backbone, dtype) if short else None
    fast = fast_pyramid(classifier.backbone, device, dtype)
    half = None
    if dtype != torch.float32 and hyena is None and fast is None:
        if not goes:
            raise BasewiseError(
                f"{classifier.backbone.family} as configured has no faster form in {str(dtype)[6:]}, expected HyenaDNA on windows of up to "
                f"{DIRECT} tokens, a convnet or a pyramid; use --precision fp32"
            )
        half = deepcopy(classifier.backbone).to(dtype)  # type: ignore[attr-defined]
    return Scorer(classifier, device, batch_size, layout, window, reach if goes else None, fast, hyena, half)


def reads_dense(classifier: Classifier, layout: BaseTokens | None) -> bool:
    """Return whether hidden states of long stretches mean the same as windows; `layout` is ``base_tokens(classifier)``."""
    plain = layout is not None and not layout.prefix and not layout.suffix
    return classifier.dense and plain and classifier.config.strands == "forward"


def score_positions(
    classifier: Classifier,
    fetch: Fetch,
    positions: Positions,
    strands: Strands,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 4096,
    dense: bool | None = None,
) -> Probabilities:
    """Return the probability of each position of a contig.

    Parameters
    ----------
    fetch
        ``fetch(start, end) -> bases``, N beyond the contig's ends (``Genome.window`` with the contig filled in).
    positions : int64 (N,)
        0-based bases, ascending (equal ones side by side); a position is base ``window // 2`` of its window as read on its strand.
    strands : int8 (N,)
        +1 or -1.

    Returns
    -------
    float32 (N,)
    """
    where = torch.device(device)
    with answering(classifier, where):
        ready = scorer(classifier, device=where, batch_size=batch_size, dense=dense)
        return ready.score(fetch, np.asarray(positions, np.int64), np.asarray(strands, np.int8))


def _runs(keys: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Yield the stretches of equal neighbours."""
    if not len(keys):
        return
    edges = np.flatnonzero(np.diff(keys)) + 1
    for low, high in zip([0, *edges.tolist()], [*edges.tolist(), len(keys)], strict=True):
        yield slice(low, high)
