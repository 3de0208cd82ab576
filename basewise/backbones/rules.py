"""Backbones without weights: published rules that score a base from the bases around it, behind the same interface as every model.

The hidden state (B, T, 1) of a base is the rule's score; a head of weight 1 and a fitted threshold make it a classifier. All rules read
both strands at once: the score of a sequence is the mirror of that of its reverse complement. Nothing here has a gradient of use.
`convnet` and `pyramid` read the scores of the rules they are told of beside the bases (`Channels`).

g4hunter
    Every G counts the length of its run of Gs, at most 4, every C minus that; the mean over `window` bases (25), without its sign; a base
    takes the best window it lies in. Source: Bedrat, Lacroix & Mergny 2016, Nucleic Acids Res. 44:1746, who call windows from 1.2 on.
g4-regex
    1 for a base in any match of ``(G{3,}[ACGT]{1,7}){3,}G{3,}`` (G3+N1-7) on either strand, overlapping matches included, plus a quarter of
    its g4hunter score: matches come first, and within and without them the better score. Source of the pattern: Huppert & Balasubramanian
    2005, Nucleic Acids Res. 33:2908.
pqs
    The score of the potential quadruplex (PQS) a base lies in, of both strands the better, in tetrads (that of pqsfinder over 40), 0
    outside. Imperfect runs count too; `window` has no part in it. Search, score and source: basewise/genome/quadruplexes.py.
zhunt
    How readily the best window of 12 bases that a base lies in turns left-handed, of both strands the better, in standard deviations from
    random windows, 0 below. `window` has no part in it. Numbers and source: basewise/genome/zhunt.py.
zscore
    Every step between neighbours that alternates purine and pyrimidine counts 1 (CG, GC), 0.5 (CA, TG, AC, GT) or 0.1 (TA, AT), every
    other step -1; the mean over the ``window - 1`` steps of `window` bases (12, a turn of Z-DNA); a base takes the best window it lies in.
    Source: alternation, Wang et al. 1979, Nature 282:680; the order of the steps, Ho et al. 1986, EMBO J. 5:2737. The numbers are ours.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.tokenizers.character import one_hot

WINDOWS = {"g4hunter": 25, "g4-regex": 25, "zscore": 12}
LONGEST = 4  # G4Hunter: longer runs count no more than this
TRACT, TRACTS, LOOP = 3, 4, 7  # G3+N1-7: shortest run of G, runs in a match, longest loop
LONGEST_TRACT = TRACTS * TRACT + TRACTS - 2  # a run of one more is a match by itself, its loops being Gs too
LONGEST_MATCH = TRACTS * LONGEST_TRACT + (TRACTS - 1) * LOOP  # every base of a longer match lies in one that is no longer than this
# rows: first base A C G T, columns: second
STEPS = ((-1.0, 0.5, -1.0, 0.1), (0.5, -1.0, 1.0, -1.0), (-1.0, 1.0, -1.0, 0.5), (0.1, -1.0, 0.5, -1.0))


Rule = Literal["g4hunter", "g4-regex", "pqs", "zhunt", "zscore"]


class Config(BaseModel):
    """Which rule, and how many bases it averages over (None: the published number)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule
    window: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.window is not None and self.rule not in WINDOWS:
            raise ValueError(f"window {self.window} is given, and rule {self.rule} averages over none")
        return self

    @property
    def size(self) -> int:
        """Bases a score is averaged over."""
        return self.window or WINDOWS[self.rule]

    @property
    def averaged(self) -> int:
        """Bases on either side that the best window a base lies in depends on."""
        return self.size - 1 + (0 if self.rule == "zscore" else LONGEST - 1)

    @property
    def reach(self) -> int:
        """Bases on either side that a score depends on."""
        if self.rule == "pqs":
            from basewise.genome.quadruplexes import REACH  # numba: half a second that other rules need not wait for

            return REACH
        if self.rule == "zhunt":
            from basewise.genome.zhunt import WINDOW

            return WINDOW - 1
        return max(self.averaged, LONGEST_MATCH - 1) if self.rule == "g4-regex" else self.averaged


class Model(nn.Module):
    """The rule. Attributes of the Backbone contract, and ``reach``: bases on either side that a score depends on."""

    family = "rules"
    width = 1
    max_tokens: int | None = None
    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.reach = config.reach

    def embed(self, ids: Tensor) -> Tensor:
        """Return the one-hot input (B, T, 4) in the order A C G T; everything else is zeros."""
        return one_hot(ids).float()

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return scores (B, T, 1); beyond the ends is N."""
        return self.encode_valid(F.pad(embedded * mask[..., None], (0, 0, self.reach, self.reach)))

    def encode_valid(self, embedded: Tensor) -> Tensor:
        """Return scores (B, T - 2 * reach, 1) of the bases of (B, T, 4) that have `reach` bases on both sides."""
        bases = embedded.transpose(1, 2).float()  # (B, 4, T)
        if self.config.rule in _SEARCHED:
            return _SEARCHED[self.config.rule](bases)[:, self.reach : bases.shape[-1] - self.reach, None]
        spare = self.reach - self.config.averaged
        near = bases[..., spare : bases.shape[-1] - spare]
        windows = self._zscore(near) if self.config.rule == "zscore" else self._g4hunter(near)
        score = F.max_pool1d(windows[:, None], self.config.size, stride=1).transpose(1, 2)  # of the windows a base lies in the best
        if self.config.rule != "g4-regex":
            return score
        known = bases.sum(1)  # (B, T) 1 for A, C, G, T
        matched = torch.maximum(_in_match(bases[:, 2], known), _in_match(bases[:, 1], known))
        return matched[:, self.reach : matched.shape[1] - self.reach, None] + score / LONGEST

    def _g4hunter(self, bases: Tensor) -> Tensor:
        """Return absolute window means (B, windows)."""
        score = _run_lengths(bases[:, 2]) - _run_lengths(bases[:, 1])
        return F.avg_pool1d(score[:, None], self.config.size, stride=1)[:, 0].abs()

    def _zscore(self, bases: Tensor) -> Tensor:
        """Return window means of step scores (B, windows); a step with N counts -1, as one that does not alternate."""
        weights = torch.tensor(STEPS, device=bases.device) + 1
        steps = torch.einsum("bit,ij,bjt->bt", bases[..., :-1], weights, bases[..., 1:]) - 1  # (B, T - 1)
        return F.avg_pool1d(steps[:, None], self.config.size - 1, stride=1)[:, 0]


@cache
def reach_of(rules: tuple[Rule, ...]) -> int:
    """Return the bases on either side that the scores of several rules depend on."""
    return max((Config(rule=rule).reach for rule in rules), default=0)


class Channels:
    """One-hot bases with the scores of rules behind them: the input of a network that is told of rules. ``reach`` as in `Model`."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = [Model(Config(rule=rule)) for rule in rules]  # no weights: no part of a state_dict
        self.reach = reach_of(tuple(rules))

    def embed(self, ids: Tensor) -> Tensor:
        """Return (B, T, 4 + R) float32: A C G T, then the rules; zeros for N, [PAD] and other special tokens. Beyond the ends is N."""
        bases = one_hot(ids).float()
        known, everywhere = bases.sum(-1, keepdim=True), torch.ones_like(ids, dtype=torch.bool)
        return torch.cat([bases, *(rule.encode(bases, everywhere) * known for rule in self.rules)], dim=-1)


def _pqs(bases: Tensor) -> Tensor:
    """Return the score (B, T), in tetrads, of the PQS a base of (B, 4, T) lies in."""
    from basewise.genome.quadruplexes import TETRAD, quadruplex_scores

    there = bases.detach().cpu().numpy() > 0.5
    scores = [np.maximum(quadruplex_scores(row[2]), quadruplex_scores(row[1, ::-1])[::-1]) for row in there]
    return torch.from_numpy(np.stack(scores) / TETRAD).to(bases)


def _zhunt(bases: Tensor) -> Tensor:
    """Return the score (B, T) of the best window that a base of (B, 4, T) lies in."""
    from basewise.genome.zhunt import zhunt_scores

    codes = torch.where(bases.sum(1) > 0.5, bases.detach().argmax(1), 4).to(torch.uint8).cpu().numpy()
    mirrored = np.where(codes < 4, 3 - codes, codes)[:, ::-1]
    scores = [
        np.maximum(zhunt_scores(row), zhunt_scores(np.ascontiguousarray(other))[::-1]) for row, other in zip(codes, mirrored, strict=True)
    ]
    return torch.from_numpy(np.stack(scores)).to(bases)


_SEARCHED: dict[str, Callable[[Tensor], Tensor]] = {"pqs": _pqs, "zhunt": _zhunt}  # on the CPU, base by base


def _run_lengths(there: Tensor) -> Tensor:
    """Return, for `there` (B, T) of 0 and 1, the length of the run a base lies in, at most LONGEST, without LONGEST - 1 at each end."""
    total = torch.zeros_like(there)
    for k in range(1, LONGEST + 1):
        starts = -F.max_pool1d(-there[:, None], k, stride=1)  # 1 where k in a row begin
        total = total + F.max_pool1d(F.pad(starts, (k - 1, k - 1)), k, stride=1)[:, 0]
    return total[:, LONGEST - 1 : total.shape[1] - (LONGEST - 1)]


def _in_match(there: Tensor, known: Tensor) -> Tensor:
    """Return (B, T) of 0 and 1: does a base lie in a match of G3+N1-7, for `there` (B, T), 1 at Gs, and `known`, 1 at bases that are not N.

    For every end the leftmost start of a chain of 1, 2, 3, 4 tracts is carried along, so that no match is listed. The pattern read
    backwards is itself: for the other strand pass the Cs.
    """
    place = torch.arange(there.shape[1], device=there.device).expand_as(there).float()
    nowhere = torch.full_like(place, float(there.shape[1]))
    run, clean = (place - torch.where(x > 0, -1.0, place).cummax(1).values for x in (there, known))  # Gs, bases known, up to here
    run = run.clamp_max(LONGEST_TRACT)
    start = torch.where(run >= TRACT, place - run + 1, nowhere)
    for _ in range(TRACTS - 1):
        best = nowhere
        for apart in range(TRACT + 1, LONGEST_TRACT + LOOP + 1):  # from the end of the tract before: a loop and this tract
            before = F.pad(start, (apart, 0), value=float(there.shape[1]))[:, : there.shape[1]]
            fits = (run >= TRACT) & (apart <= run + LOOP) & (apart <= clean)
            best = torch.where(fits, torch.minimum(best, before), best)
        start = best
    ahead = F.pad(start, (0, LONGEST_MATCH - 1), value=float(there.shape[1]))
    first = -F.max_pool1d(-ahead[:, None], LONGEST_MATCH, stride=1)[:, 0]  # leftmost start of the matches that end here or later
    return (first <= place).float()
