"""Answers known by hand, targets, baselines, and the model left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from basewise.backbones import convnet
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.genome.alphabet import to_str
from basewise.genome.fasta import open_genome
from basewise.interpretation import integrated_gradients as module
from basewise.interpretation.attribute import Settings, attribute, target_logits
from basewise.interpretation.panels import PANELS
from basewise.interpretation.targets import parse_target
from basewise.testing.families import FAMILIES, tiny_family

BASE_WEIGHTS = torch.tensor([1.0, -2.0, 3.0, 0.5])  # A C G T


class Toy(nn.Module):
    """One token a base; hidden = one-hot, or its square summed into one channel: F is known by hand."""

    family, width, max_tokens, causal, config = "toy", 4, None, False, None

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(BASE_WEIGHTS.clone())
        self.power = power

    def embed(self, ids):
        return (ids[..., None] == torch.arange(7, 11)).float()

    def encode(self, embedded, mask):
        return (self.scale * embedded) ** self.power * mask[..., None]


def toy(power=1, **settings):
    classifier = Classifier(ClassifierConfig(task="toy", kind="base", **settings), Toy(power), CharacterTokenizer("none"))
    with torch.no_grad():
        classifier.head.linear.weight.fill_(1.0)
        classifier.head.linear.bias.fill_(0.25)
    return classifier.eval()


@pytest.mark.parametrize("method", ["ig", "inputxgrad"])
def test_linear_model(method):
    (answer,) = attribute(toy(), ["ACGTN"], method, target="all")
    np.testing.assert_allclose(answer.scores, [1, -2, 3, 0.5, 0], atol=1e-6)
    assert answer.logit == pytest.approx(2.5 + 5 * 0.25)
    assert answer.special == 0


def test_squares():
    """F = sum of squares: the path integral gives the squares, the gradient at the input twice as much."""
    classifier = toy(2)
    (ig,) = attribute(classifier, ["ACGT"], "ig", target="all", settings=Settings(steps=1))
    np.testing.assert_allclose(ig.scores, [1, 4, 9, 0.25], atol=1e-5)  # one midpoint is exact for squares
    assert ig.completeness_error < 1e-5
    (gradient,) = attribute(classifier, ["ACGT"], "inputxgrad", target="all")
    np.testing.assert_allclose(gradient.scores, [2, 8, 18, 0.5], atol=1e-5)
    assert np.isnan(gradient.completeness_error)


def test_panels_are_halved_until_the_sum_holds():
    """F = 4 t^400 rises at the very end of the path: few even points miss it, panels there find it."""
    classifier = toy(400)
    with torch.no_grad():
        classifier.backbone.scale.fill_(1.0)
    (few,) = attribute(classifier, ["ACGT"], target="all", settings=Settings(steps=4))
    assert few.completeness_error > 0.01
    points = []
    for tolerance in (1e-2, 1e-4):
        (auto,) = attribute(classifier, ["ACGT"], target="all", settings=Settings(tolerance=tolerance))
        points.append(auto.steps)
        assert auto.completeness_error <= tolerance * 4
        np.testing.assert_allclose(auto.scores, 1.0, atol=tolerance)
        assert auto.completeness_error == pytest.approx(abs(auto.scores.sum() - 4), abs=1e-6)
    assert 17 < points[0] < points[1] < 100


def test_a_line_takes_the_first_points_only():
    (auto,) = attribute(toy(), ["ACGT"], target="all", settings=Settings(tolerance=1e-6))
    assert auto.steps == 2 * PANELS + 1
    np.testing.assert_allclose(auto.scores, [1, -2, 3, 0.5], atol=1e-6)


class Kinked(Toy):
    """Two layers: F = sum over bases of relu(weight of the base - 0.6)."""

    def encode(self, embedded, mask):
        return torch.relu(self.scale * embedded - 0.6) * mask[..., None]


def test_kinks_known_by_hand():
    """A: bends at 0.6, ends at 0.4; G at 0.2, 2.4; C (weight -2) and T (0.5) never reach their kink. Zero baseline: F = 0."""
    classifier = Classifier(ClassifierConfig(task="toy", kind="base"), Kinked(), CharacterTokenizer("none"))
    with torch.no_grad():
        classifier.head.linear.weight.fill_(1.0)
        classifier.head.linear.bias.fill_(0.0)
    (auto,) = attribute(classifier.eval(), ["ACGT"], target="all", settings=Settings(tolerance=1e-5))
    np.testing.assert_allclose(auto.scores, [0.4, 0, 2.4, 0], atol=1e-4)
    assert auto.completeness_error <= 1e-5 * 2.8
    assert auto.steps < 17 + 2 * 2 * 2 * 20  # two kinks, two panels each at most, 20 halvings
    (even,) = attribute(classifier, ["ACGT"], target="all", settings=Settings(steps=auto.steps))
    assert even.completeness_error > 10 * auto.completeness_error


def test_the_cap_on_points_leaves_an_honest_error(monkeypatch):
    """A tolerance that cannot be met: no more points than allowed, and the error that is left is said."""
    monkeypatch.setattr(module, "MOST_POINTS", 25)
    classifier = toy(400)
    with torch.no_grad():
        classifier.backbone.scale.fill_(1.0)
    (auto,) = attribute(classifier, ["ACGT"], target="all", settings=Settings(tolerance=1e-9))
    assert auto.steps in (24, 25)
    assert auto.completeness_error > 1e-3
    assert auto.completeness_error == pytest.approx(abs(auto.scores.sum() - (auto.logit - auto.baseline_logit)), abs=1e-6)


@pytest.mark.parametrize("model", ["zdna", "g4", "polya", "promoter"])
def test_embedded_models_reach_the_tolerance_on_real_windows(model, repo):
    """Rectifiers bend the path of the pyramids everywhere; windows of the shipped megabase, the models' own targets."""
    with open_genome(repo / "examples" / "chr22_20-21Mb.fa.gz") as genome:
        places = {"promoter": range(300_000, 500_000, 25_000)}.get(model, (300_000,))
        windows = [to_str(genome.fetch(next(iter(genome.contigs)), place, place + 70)) for place in places]
    answers = attribute(load_classifier(model), windows)
    for answer in answers:
        assert 0 < answer.completeness_error <= 1e-3 * abs(answer.logit - answer.baseline_logit)
        missing = abs(answer.scores.sum(dtype=float) + answer.special - (answer.logit - answer.baseline_logit))
        assert missing == pytest.approx(answer.completeness_error, abs=1e-4)
        assert np.abs(answer.scores).max() > 0.05


def test_mutagenesis():
    (answer,) = attribute(toy(), ["AN"], "ism", target="all")
    np.testing.assert_allclose(answer.effects, [[0, -3, 2, -0.5], [1, -2, 3, 0.5]], atol=1e-6)
    np.testing.assert_allclose(answer.scores, [0.5, -0.625], atol=1e-6)
    (near,) = attribute(toy(), ["AAAAA"], "ism", target="all", settings=Settings(around=1))
    np.testing.assert_allclose(near.scores, [0, 0.5, 0.5, 0.5, 0], atol=1e-6)


def test_signed_and_unsigned_smoothgrad():
    (size,) = attribute(toy(), ["CC"], "smoothgrad", target="all", settings=Settings(samples=3))
    (signed,) = attribute(toy(), ["CC"], "smoothgrad", target="all", settings=Settings(samples=3, signed=True))
    np.testing.assert_allclose(size.scores, [6.5, 6.5], atol=1e-5)  # 1 + 2 + 3 + 0.5: every channel has a gradient
    np.testing.assert_allclose(signed.scores, [2.5, 2.5], atol=1e-5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [0, 0, 3, 0]),  # base 4 // 2
        ("1", [0, -2, 0, 0]),
        ("1-3", [0, -2, 3, 0]),
        ("negative@1-3", [0, 2, -3, 0]),
        ("predicted", [1, 0, 3, 0.5]),
        ("tp", [0, 0, 3, 0.5]),
        ("positive", [0, 0, 3, 0]),
    ],
)
def test_targets_of_bases(target, expected):
    (answer,) = attribute(toy(), ["ACGT"], target=target, labels=[np.array([0, 1, 1, 1])])
    np.testing.assert_allclose(answer.scores, expected, atol=1e-6)


def test_no_base_meets_the_target():
    assert attribute(toy(), ["CCC", "GGG"], target="tp", labels=[np.ones(3, int)] * 2)[0] is None
    assert attribute(toy(), ["CCC", "GGG"], target="tp", labels=[np.ones(3, int)] * 2)[1] is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "tpp"}, "no place"),
        ({"target": "purple@tp"}, "label 'purple'"),
        ({"target": "5-5"}, "holds no base"),
        ({"target": "90"}, "reaches base 90"),
        ({"target": "tp"}, "needs a label"),
        ({"method": "igg"}, "Did you mean 'ig'"),
        ({"settings": Settings(baseline="zeros")}, "Did you mean 'zero'"),
        ({"settings": Settings(steps=0)}, "steps is 0"),
        ({"settings": Settings(samples=0)}, "samples is 0"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(BasewiseError, match=message):
        attribute(toy(), ["ACGT"], settings.pop("method", "ig"), **settings)
    with pytest.raises(BasewiseError, match="sequence 2 is empty"):
        attribute(toy(), ["A", ""])


def test_sequence_targets():
    classifier = tiny_family("convnet", labels=("a", "b", "c"))
    assert parse_target(None, classifier.config).label == "predicted"
    sequence = "ACGTTTACGGATTACAGGTAACC"
    logits = [target_logits(classifier, [sequence], label)[0] for label in "abc"]
    (predicted,) = attribute(classifier, [sequence])
    assert predicted.logit == pytest.approx(max(logits), abs=1e-6)
    binary = tiny_family("convnet")
    (yes,), (no,) = (attribute(binary, [sequence], target=label) for label in ("positive", "negative"))
    np.testing.assert_allclose(yes.scores, -no.scores, atol=1e-6)
    with pytest.raises(BasewiseError, match="no label of this model"):
        attribute(binary, [sequence], target="pos")
    with pytest.raises(BasewiseError, match="differs from sequence"):
        target_logits(classifier, [sequence], "predicted")


@pytest.mark.parametrize("baseline", ["zero", "pad", "mask", "n"])
@pytest.mark.parametrize("family", FAMILIES)
def test_baselines(family, baseline):
    """The logit of the baseline is that of the tokens it claims to be made of."""
    classifier = tiny_family(family)
    (answer,) = attribute(classifier, ["ACGTTTACGGATTACAGG"], settings=Settings(baseline=baseline))
    tokens = classifier.tokenize(["ACGTTTACGGATTACAGG"])
    covering = tokens.spans[..., 1] > 0
    single = int(classifier.tokenizer.tokenize(["N"], special_tokens=False).ids[0, 0])
    token = {"zero": 0, "n": single}.get(baseline, getattr(classifier.tokenizer, f"{baseline}_id", None))
    embedded = classifier.embed(tokens._replace(ids=torch.where(covering, token, tokens.ids)))
    embedded = torch.where(covering[..., None], embedded, classifier.embed(tokens))
    if baseline == "zero":
        embedded = torch.zeros_like(embedded)
    assert answer.baseline_logit == pytest.approx(float(classifier(tokens, embedded)[0, 0].detach()), abs=1e-6)
    assert answer.scores.sum() + answer.special == pytest.approx(answer.logit - answer.baseline_logit, abs=3e-3)
    if baseline != "zero":
        assert answer.special == pytest.approx(0, abs=1e-6)


def test_shuffled_baseline():
    classifier = tiny_family("convnet")
    sequence = "ACGTTTACGGATTACAGGTAACC"
    answers = [attribute(classifier, [sequence], settings=Settings(baseline="shuffled", seed=seed))[0] for seed in (0, 0, 1)]
    assert answers[0].baseline_logit == answers[1].baseline_logit != answers[2].baseline_logit
    with pytest.raises(BasewiseError, match="makes other tokens"):
        attribute(tiny_family("dnabert2"), ["ACGTTTACGGATTACAGGTTTAACGT" * 2], settings=Settings(baseline="shuffled"))


def test_convnet_zero_is_n():
    assert isinstance(tiny_family("convnet").backbone, convnet.Model)
    (answer,) = attribute(tiny_family("convnet"), ["ACGTTTACGGA"])
    assert answer.baseline_logit == pytest.approx(target_logits(tiny_family("convnet"), ["N" * 11])[0], abs=1e-6)
