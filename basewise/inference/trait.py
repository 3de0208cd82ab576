"""Traits of individuals from groups of chunks: votes of groups, thresholds, curves over depth, and which chunks decided.

Two ways to get the votes of K groups. Fresh: K groups are drawn (`fresh_predictions`), exact at any K. Banked: a pool of P chunks an
individual is embedded once, G groups are put together from it, and repeats at K draw K of the G votes (`pool_outputs`, `group_bank`).
The second asks about a genome that consists of those P chunks and G groups: what repeats scatter around is off from the individual's own
ratio by a luck, the same in every repeat, of about N / P + 1 / G times the variance of a vote, where drawing K votes has 1 / K. So it is
statistically the first while K (N / P + 1 / G) is small. `curve` gives the luck's part of the whole variance in column `shared` (a half
at K * N = P with many groups) and names depths that need more than P chunks or G groups "beyond the pool".
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.backbones.heads import pool_hidden
from basewise.datasets.chunks import Chunks, ChunkSettings, draw_chunks, matching
from basewise.datasets.cohort import Cohort, IndividualGenome
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases
from basewise.inference.asking import answering, base_tokens, check_device
from basewise.recipes.schema import Recipe

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rule = Literal["median", "midpoint"]
Advance = Callable[[int], None]

BASES_A_BATCH = {"cpu": 1 << 15, "cuda": 1 << 18}  # on a CPU a larger batch spends its time in getting memory: 5 times slower at 1 << 18
VECTORS_A_BATCH = 1 << 16
PSEUDO_SHARE = 1e-4  # of a contig nobody of a class showed: mapping errors happen


class Pool(NamedTuple):
    """P chunks of an individual, embedded."""

    contig: npt.NDArray[Any]  # (P,) names, "." for reads
    copy: npt.NDArray[np.int64]  # (P,)
    start: npt.NDArray[np.int64]  # (P,) in the copy's own positions
    length: npt.NDArray[np.int64]  # (P,) bases
    vectors: Floats  # (P, D)

    def shares(self, contigs: Sequence[str]) -> Doubles:
        """Return the share of chunks from each of `contigs`."""
        return np.array([(self.contig == name).mean() for name in contigs], np.float64)


def chunk_settings(recipe: Recipe, cohort: Cohort | None = None, *, drop: Sequence[str] = (), force: bool = False) -> ChunkSettings:
    """Return what a run draws: its recipe's chunks, contigs in `drop` left out as well; `force` as the recipe says, else nothing forced."""
    c = recipe.chunks
    names = [] if cohort is None else cohort.contigs
    dropped = {*(matching(drop, names, "--drop-contigs") if drop else ()), *(matching(c.drop, names, "chunks.drop") if c.drop else ())}
    forced = matching(c.force, names, "chunks.force") if force and c.force else set()
    return ChunkSettings(c.count, c.length, c.max_n, c.short, tuple(sorted(forced)), tuple(sorted(dropped)))


def chunk_vectors(classifier: Classifier, sequences: Sequence[Bases], device: torch.device | None = None) -> Floats:
    """Return the pooled hidden state of each sequence, float32 (B, D); the classifier's mode and device are left as they were."""
    head: Any = classifier.head
    out = np.empty((len(sequences), head.queries.shape[1]), np.float32)
    with answering(classifier, device or classifier.device):
        table = base_tokens(classifier)
        order = np.argsort([-len(s) for s in sequences], kind="stable")
        low = 0
        while low < len(order):
            size = max(1, BASES_A_BATCH.get(classifier.device.type, 1 << 18) // max(1, len(sequences[order[low]])))
            rows = order[low : low + size]
            batch = [sequences[row] for row in rows]
            if table is not None and len({len(b) for b in batch}) == 1:
                tokens = table.tokens(torch.from_numpy(table.table[np.stack(batch)]).to(classifier.device))
            else:
                tokens = classifier.tokenize(batch)
            tokens = type(tokens)(*(part.to(classifier.device) for part in tokens))
            out[rows] = pool_hidden(classifier.hidden(tokens), tokens, classifier.config.pool).float().cpu().numpy()
            low += size
    return out


def pool_outputs(
    classifier: Classifier,
    genome: IndividualGenome,
    settings: ChunkSettings,
    size: int,
    seed: int,
    *,
    first: int = 0,
    device: torch.device | None = None,
    advance: Advance | None = None,
) -> Pool:
    """Return about `size` chunks of an individual (whole groups), drawn as groups `first`, first + 1, ... and embedded once."""
    groups = -(-size // settings.count)
    step = max(1, (1 << 25) // (settings.count * settings.length))
    parts: list[tuple[Chunks, Floats]] = []
    for low in range(first, first + groups, step):
        chunks = draw_chunks(genome, settings, seed, np.arange(low, min(low + step, first + groups)))
        parts.append((chunks._replace(bases=chunks.bases[:0]), chunk_vectors(classifier, chunks.sequences(), device)))
        if advance is not None:
            advance(chunks.copy.size)
    copy = np.concatenate([chunks.copy.ravel() for chunks, _ in parts])
    start = np.concatenate([chunks.start.ravel() for chunks, _ in parts])
    length = np.concatenate([chunks.lengths.ravel() for chunks, _ in parts])
    return Pool(genome.contigs[copy], copy, start, length, np.concatenate([vectors for _, vectors in parts]))


def head_probabilities(classifier: Classifier, vectors: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Return the probabilities of groups (G, N) of rows of `vectors` (P, D): (G,) of labels[1] for two labels, else (G, C)."""
    answers = []
    with answering(classifier, classifier.device):
        table = torch.from_numpy(vectors).to(classifier.device)
        step = max(1, VECTORS_A_BATCH // groups.shape[1])
        for low in range(0, len(groups), step):
            picked = torch.from_numpy(groups[low : low + step]).to(classifier.device)
            answers.append(classifier.answers(classifier.head(table[picked])))
    return np.concatenate(answers)


def group_bank(classifier: Classifier, pool: Pool, count: int, groups: int, seed: int) -> Floats:
    """Return the probabilities of `groups` groups of `count` chunks drawn from the pool with replacement."""
    rng = np.random.default_rng([seed, len(pool.vectors)])
    return head_probabilities(classifier, pool.vectors, rng.integers(len(pool.vectors), size=(groups, count)))


def votes(probabilities: Floats) -> Doubles:
    """Return the vote of each group as (G, C') float: P(labels[1]) > 0.5 as one column, or one column a label, 1 at the most probable."""
    if probabilities.ndim == 1:
        return (probabilities > 0.5).astype(np.float64)[:, None]
    return (probabilities == probabilities.max(1, keepdims=True)).astype(np.float64)


def choose_ratio(ratios: Doubles, labels: npt.NDArray[np.int64], rule: Rule = "median") -> float:
    """Return the threshold on the ratio of groups that vote for labels[1], from validation individuals.

    "median": of all of them, as published, which is right where the two classes are equally many. "midpoint": half way between the
    medians of the two classes, whatever their numbers.
    """
    if not len(ratios):
        raise BasewiseError("the threshold of a trait comes from validation individuals, and there is none; give some split = val")
    if rule == "median":
        return float(np.median(ratios))
    if set(np.unique(labels)) != {0, 1}:
        raise BasewiseError("threshold rule 'midpoint' needs validation individuals of both classes; use 'median'")
    return float((np.median(ratios[labels == 0]) + np.median(ratios[labels == 1])) / 2)


def call(ratios: Doubles, threshold: float | None) -> npt.NDArray[np.int64]:
    """Return the label of each individual from its ratios (S, C'): at or above the threshold, or the label with most votes."""
    if ratios.shape[1] == 1:
        return (ratios[:, 0] >= (0.5 if threshold is None else threshold)).astype(np.int64)
    return ratios.argmax(1).astype(np.int64)


def fresh_predictions(
    classifier: Classifier,
    cohort: Cohort,
    settings: ChunkSettings,
    rows: npt.NDArray[np.int64],
    groups: int,
    seed: int,
    *,
    device: str = "cpu",
    advance: Advance | None = None,
) -> tuple[Doubles, Doubles]:
    """Return (probability, ratio), (S, C') each, of individuals `rows` from `groups` groups drawn for each: nothing is used twice."""
    probability, ratio = [], []
    for row in rows.tolist():
        pool = pool_outputs(
            classifier, cohort.genome(row), settings, groups * settings.count, seed, device=check_device(device), advance=advance
        )
        p = head_probabilities(classifier, pool.vectors, np.arange(groups * settings.count).reshape(groups, settings.count))
        probability.append(np.atleast_1d(p.mean(0, dtype=np.float64)))
        ratio.append(votes(p).mean(0))
    return np.stack(probability), np.stack(ratio)


def informative(cohort: Cohort) -> dict[int, tuple[str, ...]]:
    """Return for each label the contigs that labelled individuals of that label have and those of the others never do."""
    seen: dict[int, set[str]] = {}
    for row in cohort.members("all").tolist():
        entry = cohort.manifest["individuals"][row]
        seen.setdefault(int(cohort.samples["label"].iloc[row]), set()).update(piece["contig"] for piece in entry["copies"])
    return {
        label: tuple(sorted(own - set().union(*(other for name, other in seen.items() if name != label)))) for label, own in seen.items()
    }


def ceiling(shares: Doubles, labels: npt.NDArray[np.int64], chunks: int) -> float:
    """Return the best accuracy that telling the informative contigs apart can give with `chunks` chunks an individual.

    `shares` (S,) is the chance that a chunk comes from a contig only the individual's class has. Who has such a contig is found with chance
    ``1 - (1 - share) ** chunks`` and else mistaken; a class without one is told by absence, several such classes by a guess among them.
    Never below the share of the largest class, which a guess gives.
    """
    classes, counts = np.unique(labels, return_counts=True)
    unmarked = sum(not (shares[labels == c] > 0).any() for c in classes)
    found = -np.expm1(chunks * np.log1p(-np.minimum(shares, 1 - 1e-12)))
    marked = np.isin(labels, [c for c in classes if (shares[labels == c] > 0).any()])
    right = np.where(marked, found, 1 / max(unmarked, 1))
    return float(max(right.mean(), counts.max() / counts.sum()))


def expected_shares(genome: IndividualGenome, settings: ChunkSettings, pool: Pool, contigs: Sequence[str]) -> Doubles:
    """Return the chance of a chunk to come from each contig: exact by lengths, or the pool's shares where chunks are redrawn for N."""
    if settings.max_n < 1 or not genome.mapped:
        return pool.shares(contigs)
    usable = np.array([name not in settings.drop for name in genome.contigs]) & (
        (genome.lengths >= settings.length) | (settings.short != "drop")
    )
    total = float(genome.lengths[usable].sum())
    return np.array([genome.lengths[usable & (genome.contigs == name)].sum() / total for name in contigs])


def depth_calls(
    shares: Doubles, fit: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], chunks: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return what read depth alone would say of each individual (S,), from `chunks` mapped chunks of each.

    Counts by contig are drawn at the individuals' `shares` (S, contigs); the class is that whose mean shares over individuals `fit`
    (indices) make the counts most likely: the best a mapper could do that knows the reference, for classes that differ in what they have.
    """
    classes = np.unique(labels[fit])
    profiles = np.stack([shares[fit][labels[fit] == c].mean(0) for c in classes]) + PSEUDO_SHARE
    profiles /= profiles.sum(1, keepdims=True)
    counts = rng.multinomial(chunks, shares / shares.sum(1, keepdims=True))
    return classes[(counts @ np.log(profiles).T).argmax(1)]


class CurveInputs(NamedTuple):
    """What a curve is made of, an entry an individual."""

    labels: npt.NDArray[np.int64]  # (S,)
    split: npt.NDArray[Any]  # (S,) "val" or "test"
    species: npt.NDArray[Any]  # (S,)
    vote: list[Doubles]  # of each individual (G, C'), the votes of its bank
    own: Doubles  # (S,) chance of a chunk from a contig only its class has
    shares: Doubles | None  # (S, contigs), None where chunks have no known origin
    pool: int  # chunks an individual
    chunks: int  # N


def curve_inputs(
    classifier: Classifier,
    cohort: Cohort,
    settings: ChunkSettings,
    *,
    pool: int,
    groups: int,
    seed: int,
    device: str = "cpu",
    advance: Advance | None = None,
) -> CurveInputs:
    """Embed a pool of chunks of every labelled individual of splits val and test and let groups made of them vote."""
    rows = np.concatenate([cohort.members("val"), cohort.members("test")])
    marks = informative(cohort)
    labels = cohort.samples["label"].to_numpy(np.int64)[rows]
    contigs = [c for c in cohort.contigs if c not in settings.drop]
    vote, own, shares = [], [], []
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        genome = cohort.genome(row)
        made = pool_outputs(classifier, genome, settings, pool, seed, device=check_device(device), advance=advance)
        vote.append(votes(group_bank(classifier, made, settings.count, groups, seed)))
        known = [c for c in marks.get(label, ()) if c not in settings.drop]
        share = expected_shares(genome, settings, made, contigs)
        own.append(float(sum(value for name, value in zip(contigs, share, strict=True) if name in known)))
        shares.append(share)
    mapped = bool(contigs) and all(cohort.genome(row).mapped for row in rows.tolist())
    return CurveInputs(
        labels,
        cohort.samples["split"].to_numpy(dtype=object)[rows],
        cohort.samples["species"].to_numpy(dtype=object)[rows],
        vote,
        np.array(own),
        np.stack(shares) if mapped else None,
        len(made.vectors),
        settings.count,
    )


class Drawn(NamedTuple):
    """Calls of every individual in every repeat at one depth."""

    calls: npt.NDArray[np.int64]  # (repeats, S)
    threshold: float | None  # mean over repeats; None with several labels


def draw_calls(inputs: CurveInputs, K: int, repeats: int, rng: np.random.Generator, rule: Rule = "median") -> Drawn:
    """Call all individuals `repeats` times: K votes of each are drawn from its bank, the threshold comes from the validation ones."""
    val = inputs.split == "val"
    means = np.stack([vote.mean(0) for vote in inputs.vote])  # (S, C')
    if means.shape[1] > 1:
        drawn = np.stack([rng.multinomial(K, m / m.sum(), size=repeats) for m in means], axis=1) / K
        return Drawn(np.stack([call(d, None) for d in drawn]), None)
    ratios = rng.binomial(K, means[:, 0], size=(repeats, len(means)))[..., None] / K
    thresholds = [choose_ratio(d[val, 0], inputs.labels[val], rule) for d in ratios]
    return Drawn(np.stack([call(d, t) for d, t in zip(ratios, thresholds, strict=True)]), float(np.mean(thresholds)))


def curve(inputs: CurveInputs, depths: Sequence[int], repeats: int, seed: int, rule: Rule = "median") -> pd.DataFrame:
    """Return accuracy over test individuals against K, a row a depth and species ("all" first).

    Columns: species K mean sd threshold oracle baseline baseline_sd individuals shared banked; see the top of this module for the last two.
    `oracle` is `ceiling` at K * N chunks, `baseline` the accuracy of `depth_calls`; both None where origins are not known.
    """
    fit, bank = np.flatnonzero(inputs.split == "val"), len(inputs.vote[0])
    lines = []
    for K in depths:
        rng = np.random.default_rng([seed, K])
        drawn = draw_calls(inputs, K, repeats, rng, rule)
        right = drawn.calls == inputs.labels  # (repeats, S)
        depth = None
        if inputs.shares is not None:
            depth = np.stack(
                [depth_calls(inputs.shares, fit, inputs.labels, K * inputs.chunks, rng) == inputs.labels for _ in range(repeats)]
            )
        for name, rows in _test_rows(inputs):
            accuracy = right[:, rows].mean(1)
            line: dict[str, Any] = {"species": name, "K": K, "mean": accuracy.mean(), "sd": accuracy.std(), "threshold": drawn.threshold}
            line["oracle"] = ceiling(inputs.own[rows], inputs.labels[rows], K * inputs.chunks) if depth is not None else None
            line["baseline"] = None if depth is None else depth[:, rows].mean(1).mean()
            line["baseline_sd"] = None if depth is None else depth[:, rows].mean(1).std()
            line["individuals"] = int(rows.sum())
            luck = inputs.chunks / inputs.pool + 1 / bank
            line["shared"] = luck / (luck + 1 / K)
            line["banked"] = "beyond the pool" if K * inputs.chunks > inputs.pool or bank < K else "within the pool"
            lines.append(line)
    return pd.DataFrame(lines)


def confusion(
    inputs: CurveInputs, depths: Sequence[int], repeats: int, seed: int, names: Sequence[str], rule: Rule = "median"
) -> pd.DataFrame:
    """Return who is called what in the repeats of `curve`: species K truth called individuals (their mean number over repeats)."""
    lines = []
    for K in depths:
        calls = draw_calls(inputs, K, repeats, np.random.default_rng([seed, K]), rule).calls
        for species, rows in _test_rows(inputs):
            for truth, called in np.ndindex(len(names), len(names)):
                number = (calls[:, rows & (inputs.labels == truth)] == called).sum(1).mean()
                line = {"species": species, "K": K, "truth": names[truth], "called": names[called], "individuals": number}
                lines.append(line)
    return pd.DataFrame(lines)


def _test_rows(inputs: CurveInputs) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    test = inputs.split == "test"
    return [(name, test & ((inputs.species == name) | (name == "all"))) for name in ("all", *sorted(set(inputs.species[test])))]


def ablated(settings: ChunkSettings, cohort: Cohort, contigs: Sequence[str]) -> ChunkSettings:
    """Return `settings` with contigs left out as well; BasewiseError for a pattern that matches none."""
    return replace(settings, drop=tuple(sorted({*settings.drop, *matching(contigs, cohort.contigs, "--drop-contigs")})))
