"""Thresholds, ceilings, baselines and banks, against numbers worked out by hand or by fresh draws."""

import numpy as np
import pandas as pd
import pytest
import torch

from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.datasets.chunks import ChunkSettings
from basewise.errors import BasewiseError
from basewise.inference import trait
from basewise.inference.evidence import _weigh, evidence
from basewise.testing.models import randomize, tiny_convnet


def _classifier(labels=("male", "female")) -> Classifier:
    config = ClassifierConfig(task="t", kind="individual", labels=labels, pool="mean", window=40)
    classifier = Classifier(config, tiny_convnet(0), CharacterTokenizer("none"))
    randomize(classifier.head, 1)
    return classifier.eval()


def test_ceiling():
    shares, labels = np.array([0.01, 0.01, 0.0, 0.0]), np.array([0, 0, 1, 1])
    assert trait.ceiling(shares, labels, 100) == pytest.approx(0.5 + 0.5 * (1 - 0.99**100))
    assert trait.ceiling(shares, labels, 100_000) == pytest.approx(1.0)
    assert trait.ceiling(np.zeros(4), np.array([0, 0, 0, 1]), 100) == 0.75  # nothing to find: the larger class


def test_thresholds_and_calls():
    ratios, labels = np.array([0.2, 0.3, 0.9, 0.95, 1.0]), np.array([0, 0, 1, 1, 1])
    assert trait.choose_ratio(ratios, labels) == 0.9
    assert trait.choose_ratio(ratios, labels, "midpoint") == pytest.approx(0.6)
    assert trait.call(ratios[:, None], 0.9).tolist() == [0, 0, 1, 1, 1]
    assert trait.call(np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]]), None).tolist() == [1, 0]
    with pytest.raises(BasewiseError, match="comes from validation individuals"):
        trait.choose_ratio(np.empty(0), np.empty(0, np.int64))


def test_depth_tells_classes_with_other_shares_and_not_equal_ones():
    rng = np.random.default_rng(0)
    apart = np.array([[0.9, 0.08, 0.02], [0.85, 0.15, 0.0]] * 4)
    labels = np.array([0, 1] * 4)
    fit = np.arange(4)
    assert (trait.depth_calls(apart, fit, labels, 2000, rng) == labels).all()
    same = np.tile([[0.9, 0.1, 0.0]], (8, 1))
    calls = np.concatenate([trait.depth_calls(same, fit, labels, 50, rng) for _ in range(10)])
    assert len(set(calls.tolist())) == 1  # nothing differs: always the same class


def test_a_pool_is_what_was_drawn_and_groups_agree_with_the_model(planted):
    cohort, classifier, settings = planted(people=8), _classifier(), ChunkSettings(count=4, length=40)
    genome = cohort.genome(0)
    pool = trait.pool_outputs(classifier, genome, settings, 20, 0)
    assert pool.vectors.shape == (20, 8)
    sequences = [genome.read(int(c), int(s), 40) for c, s in zip(pool.copy, pool.start, strict=True)]
    with torch.no_grad():
        logits = classifier(classifier.tokenize(sequences), chunks=4)
    direct = classifier.probabilities(logits)
    mine = trait.head_probabilities(classifier, pool.vectors, np.arange(20).reshape(5, 4))
    assert np.allclose(mine, direct, atol=1e-6)
    probability, ratio = trait.fresh_predictions(classifier, cohort, settings, np.array([0]), 5, 0)
    assert probability[0, 0] == pytest.approx(direct.mean(), abs=1e-6)
    assert ratio[0, 0] == (direct > 0.5).mean()


def test_a_bank_votes_as_fresh_groups_do(planted):
    cohort, classifier, settings = planted(people=8), _classifier(), ChunkSettings(count=4, length=40)
    usual = trait.fresh_predictions(classifier, cohort, settings, np.array([0]), 200, 9)[0][0, 0]
    classifier.head.linear.bias.data -= float(np.log(usual / (1 - usual)))  # so that votes are divided
    pool = trait.pool_outputs(classifier, cohort.genome(0), settings, 4000, 1)
    banked = trait.votes(trait.group_bank(classifier, pool, 4, 4000, 0)).mean()
    fresh = trait.fresh_predictions(classifier, cohort, settings, np.array([0]), 1000, 2)[1][0, 0]
    assert 0.05 < fresh < 0.95
    assert banked == pytest.approx(fresh, abs=4 * (0.25 / 1000) ** 0.5)


def test_several_labels(planted):
    cohort, settings = planted(people=8), ChunkSettings(count=4, length=40)
    classifier = _classifier(("a", "b", "c"))
    probability, ratio = trait.fresh_predictions(classifier, cohort, settings, np.array([0, 1]), 6, 0)
    assert probability.shape == ratio.shape == (2, 3)
    assert np.allclose(probability.sum(1), 1, atol=1e-6)
    assert np.allclose(ratio.sum(1), 1)


def _inputs(q: list[float], labels: list[int], split: list[str], **settings) -> trait.CurveInputs:
    votes = [np.repeat([1.0, 0.0], [round(1000 * p), 1000 - round(1000 * p)])[:, None] for p in q]
    own = np.array([0.01 if label == 0 else 0.0 for label in labels])
    shares = np.array([[0.89, 0.1, 0.01] if label == 0 else [0.8, 0.2, 0.0] for label in labels])
    values = {"own": own, "shares": shares, "pool": 5000, "chunks": 4, **settings}
    return trait.CurveInputs(np.array(labels), np.array(split), np.array(["human"] * len(q)), votes, **values)


def test_curves_rise_to_what_the_votes_allow():
    labels, split = [0, 1] * 6, ["val"] * 6 + ["test"] * 6
    table = trait.curve(_inputs([0.7 if label == 0 else 0.95 for label in labels], labels, split), [2, 20, 300], 100, 0)
    everyone = table[table["species"] == "all"]
    assert everyone["mean"].is_monotonic_increasing
    assert everyone["mean"].iloc[-1] > 0.9
    assert everyone["oracle"].tolist() == pytest.approx([0.5 + 0.5 * (1 - 0.99 ** (4 * K)) for K in (2, 20, 300)])
    assert everyone["baseline"].iloc[-1] == 1.0
    assert everyone["banked"].tolist() == ["within the pool"] * 3
    luck = 4 / 5000 + 1 / 1000
    assert everyone["shared"].tolist() == pytest.approx([luck / (luck + 1 / K) for K in (2, 20, 300)])
    assert set(table["species"]) == {"all", "human"}
    same = trait.curve(_inputs([0.7 if label == 0 else 0.95 for label in labels], labels, split), [2, 20, 300], 100, 0)
    pd.testing.assert_frame_equal(table, same)
    beyond = trait.curve(_inputs([0.5] * 12, labels, split, shares=None), [2000], 50, 0)
    assert beyond["banked"].tolist() == ["beyond the pool"] * 2
    assert beyond["oracle"].isna().all()
    assert 0.3 < beyond["mean"].iloc[0] < 0.7


def test_evidence_finds_the_chunks_that_weigh(planted):
    cohort, classifier, settings = planted(people=8, share=0.2), _classifier(), ChunkSettings(count=4, length=40)
    found = evidence(classifier, cohort, settings, cohort.members("test"), pool=200, groups=300, seed=0)
    chunks, contigs = found
    assert {"sample", "contig", "copy", "start", "end", "reference_start", "attention", "effect"} <= set(chunks.columns)
    assert ((chunks["end"] - chunks["start"]) == 40).all()
    assert chunks["attention"].mean() == pytest.approx(1.0, abs=0.05)
    assert contigs.groupby("label")["weight"].sum().tolist() == pytest.approx([1.0] * contigs["label"].nunique())
    assert (contigs.loc[contigs["contig"] == "chrY", "label"] == 0).all()
    row = chunks.iloc[0]
    genome = cohort.genome(cohort.samples["sample"].tolist().index(row["sample"]))
    which = next(i for i, copy in enumerate(genome.copies) if (copy.contig, copy.number) == (row["contig"], row["copy"]))
    assert genome.reference_positions([which], [row["start"]])[0] == row["reference_start"]


def test_the_effect_is_the_gradient_times_the_difference_from_the_mean():
    classifier = _classifier()
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    chosen = np.array([[0, 1, 2]])
    attention, effect, seen = _weigh(classifier, vectors, chosen, 0)
    at = torch.tensor(vectors[[0, 1, 2]][None], requires_grad=True)
    (gradient,) = torch.autograd.grad(classifier.head(at).sum(), at)
    expected = (gradient[0].numpy() * (vectors[:3] - vectors.mean(0))).sum(1)
    assert np.allclose(effect[:3], expected, atol=1e-5)
    assert attention[:3].sum() == pytest.approx(3.0, abs=1e-5)
    assert seen.tolist() == [1, 1, 1, 0, 0, 0]


def test_the_luck_of_a_pool_is_as_large_as_said():
    """Pools of 40 groups drawn anew: the variance of what repeats scatter around, over that of a vote, is N / P + 1 / G."""
    rng = np.random.default_rng(0)
    N, P, G, share = 4, 160, 200, 0.1
    means = []
    for _ in range(3000):
        pool = rng.random(P) < share  # chunks that decide; a group votes by whether it holds one
        means.append(pool[rng.integers(P, size=(G, N))].any(1).mean())
    p = 1 - (1 - share) ** N
    assert np.var(means) / (p * (1 - p)) == pytest.approx(N / P + 1 / G, rel=0.2)


def test_confusion_counts_the_calls_of_the_curve():
    labels, split = [0, 1] * 6, ["val"] * 6 + ["test"] * 6
    inputs = _inputs([0.7 if label == 0 else 0.95 for label in labels], labels, split)
    table = trait.confusion(inputs, [5, 300], 100, 0, ["male", "female"])
    accuracy = trait.curve(inputs, [5, 300], 100, 0).query("species == 'all'").set_index("K")["mean"]
    for K in (5, 300):
        part = table[(table["K"] == K) & (table["species"] == "all")]
        assert part["individuals"].sum() == pytest.approx(6)
        assert part.groupby("truth")["individuals"].sum().tolist() == pytest.approx([3, 3])
        right = part.loc[part["truth"] == part["called"], "individuals"].sum()
        assert right / 6 == pytest.approx(accuracy[K])
