"""Motifs out and in, and attention tables, with a model whose answers are known."""

import itertools

import numpy as np
import pytest
import torch

from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, to_str
from basewise.interpretation.attention import Attended, attended, attention_table
from basewise.interpretation.insertion import insertion_curve, neutral_sequence
from basewise.interpretation.perturb import find_motifs, parse_levels, parse_motifs, perturb, replace_motifs, summary_of
from basewise.testing.families import tiny_family
from basewise.testing.models import tiny_convnet


def counts_of(letter, window=None):
    """A classifier whose logit is the number of `letter` in the sequence minus 3 (the hidden state is the one-hot, read by a mean)."""

    class Ones(torch.nn.Module):
        family, width, max_tokens, causal = "ones", 4, None, False

        def __init__(self):
            super().__init__()
            self.anchor = torch.nn.Parameter(torch.zeros(1))

        def embed(self, ids):
            return (ids[..., None] == torch.arange(7, 11)).float()

        def encode(self, embedded, mask):
            lengths = mask.sum(1)[:, None, None]
            return embedded * lengths + self.anchor

    classifier = Classifier(ClassifierConfig(task="count", window=window), Ones(), CharacterTokenizer("none"))
    with torch.no_grad():
        classifier.head.linear.weight.copy_(torch.tensor([[float(base == letter) for base in "ACGT"]]))
        classifier.head.linear.bias.fill_(-3.0)
    return classifier.eval()


SEQUENCES = ["CCAATAAACC", "CCAATAAATTAAACC", "CCCCCCCCCC"]


def test_find_and_parse():
    assert find_motifs(as_bases("ccaataaatTAAAcc"), ["AATAAA", "ATTAAA"]) == [(2, "AATAAA"), (7, "ATTAAA")]
    assert find_motifs(as_bases("AAAA"), ["AA"]) == [(0, "AA"), (1, "AA"), (2, "AA")]
    assert find_motifs(as_bases("AAAAAA"), ["AA"], (-1, 0)) == [(2, "AA"), (3, "AA")]
    assert parse_motifs("aauaaa, ATTAAA,AATAAA") == ("AATAAA", "ATTAAA")
    assert parse_levels("0:1:0.1").tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert parse_levels("0,0.5").tolist() == [0, 0.5]
    for text in ("0:2:1", "1:0:0.1", "a", "0:1", "0:1:0"):
        with pytest.raises(BasewiseError, match="levels"):
            parse_levels(text)
    for text in ("AANAAA", ",", ""):
        with pytest.raises(BasewiseError, match="expected words"):
            parse_motifs(text)


def test_replacements():
    fixed, replaced, there = replace_motifs(as_bases("ccAATAAAggAATAAA"), ["AATAAA"], 1.0, "GGGGGG")
    assert (to_str(fixed), replaced, there) == ("CCGGGGGGGGGGGGGG", 2, 2)
    shuffled, _, _ = replace_motifs(as_bases("CCAATAAAGG"), ["AATAAA"], 1.0, "shuffled", seed=1)
    assert sorted(to_str(shuffled)) == sorted("CCAATAAAGG")
    kept, replaced, there = replace_motifs(as_bases("CCAATAAAGG"), ["AATAAA"], 0.0)
    assert (to_str(kept), replaced, there) == ("CCAATAAAGG", 0, 1)


def test_levels_are_nested_and_their_share_is_right():
    """What goes at one level goes at the next, with the same bases; at level p about a share p of the motifs goes."""
    rng = np.random.default_rng(0)
    texts = [to_str(as_bases("".join(rng.choice(list("ACGT"), 20)))) + "AATAAA" for _ in range(400)]
    totals = []
    for text in texts:
        results = [replace_motifs(as_bases(text), ["AATAAA"], level) for level in (0.3, 0.6, 1.0)]
        counts = [replaced for _, replaced, _ in results]
        assert counts == sorted(counts)
        for one, other in itertools.pairwise(results):
            if one[1] == other[1]:
                assert to_str(one[0]) == to_str(other[0])
        totals.append(counts)
    share = np.mean(totals, axis=0)
    np.testing.assert_allclose(share / share[2], [0.3, 0.6, 1.0], atol=0.08)


def test_probabilities_by_hand():
    result = perturb(counts_of("A"), SEQUENCES, ["AATAAA", "ATTAAA"], np.array([0.0, 1.0]), replacement="CCCCCC", seed=2)
    sigmoid = 1 / (1 + np.exp(3.0 - np.array([[5, 8, 0], [0, 0, 0]])))
    np.testing.assert_allclose(result.probabilities, sigmoid, rtol=1e-5)
    assert result.replaced.tolist() == [[0, 0, 0], [1, 2, 0]]
    assert result.occurrences.tolist() == [1, 2, 0]
    first, last = summary_of(result, 0.5)
    assert (first["mispredicted"], last["mispredicted"], last["replaced"], last["sequences"]) == (1, 3, 3, 3)
    assert first["median"] == pytest.approx(sigmoid[0, 0])
    turned = perturb(counts_of("A"), SEQUENCES[::-1], ["AATAAA"], np.array([0.5]), seed=2, batch_size=1)
    straight = perturb(counts_of("A"), SEQUENCES, ["AATAAA"], np.array([0.5]), seed=2)
    np.testing.assert_allclose(turned.probabilities[:, ::-1], straight.probabilities, rtol=1e-6)
    negative = perturb(counts_of("A"), SEQUENCES, ["AATAAA"], np.array([0.0]), label="negative")
    np.testing.assert_allclose(negative.probabilities[0], 1 - sigmoid[0], atol=1e-6)
    with pytest.raises(BasewiseError, match="as many bases"):
        perturb(counts_of("A"), SEQUENCES, ["AATAAA"], np.array([0.0]), replacement="CC")
    with pytest.raises(BasewiseError, match="Did you mean 'positive'"):
        perturb(counts_of("A"), SEQUENCES, ["AATAAA"], np.array([0.0]), label="positiv")


def test_neutral_sequences():
    bases = as_bases("AATAAACCAATAAAGGTTAATAAATT")
    for neutral in ("shuffled", "motifless"):
        out = neutral_sequence(bases, ["AATAAA"], neutral, 3)
        assert b"AATAAA" not in out.tobytes()
        assert len(out) == len(bases)
    kept = neutral_sequence(bases, ["AATAAA"], "motifless", 3)
    assert to_str(kept)[6:8] == "CC"


def test_insertion_finds_where_the_model_looks():
    """A model that reads only 11 bases around the center answers to a motif there and nowhere else."""
    classifier = tiny_family("convnet", pool="center")
    reach = tiny_convnet().reach
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list("ACGT"), 81)) for _ in range(5)]
    table = insertion_curve(classifier, sequences, "GGGG", reach=30)
    assert table["offset"].tolist() == list(range(-30, 31))
    touched = (table["offset"] <= reach) & (table["offset"] + 3 >= -reach)
    assert (table.loc[~touched, "mean_change"].abs() < 1e-5).all()
    assert (table.loc[touched, "mean_change"].abs() > 1e-4).mean() > 0.9
    assert (table["low"] <= table["mean_change"]).all()
    counting = insertion_curve(counts_of("A"), ["C" * 20] * 2, "AAA", neutral="motifless", reach=100)
    assert counting["offset"].tolist() == list(range(-10, 8))
    np.testing.assert_allclose(counting["mean_change"], 3, atol=1e-5)
    with pytest.raises(BasewiseError, match="needs sequences of"):
        insertion_curve(classifier, ["AC"], "GGGG")


def test_attention_table_by_hand():
    one = Attended(["AAA", "CCC", "AAA"], np.array([0, 3, 6]), np.array([[0.1, 0.5, 0.2], [0.3, 0.1, 0.1], [0.2, 0.3, 0.15]], np.float32))
    two = Attended(["AAA", "GGG"], np.array([0, 3]), np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], np.float32))
    table = attention_table({"all": [one, two]}, top=2)
    mean = table[table["head"] == "mean"].set_index("kmer")
    assert mean["top1"].to_dict() == {"AAA": 1, "GGG": 0, "CCC": 1}  # of a tie the first token
    assert mean["top"].to_dict() == {"AAA": 2, "GGG": 1, "CCC": 1}
    np.testing.assert_allclose(mean.loc["AAA", ["background", "top_share", "enrichment"]].astype(float), [0.6, 0.5, 0.5 / 0.6])
    first = table[table["head"] == "0"].set_index("kmer")
    assert first["top1"].to_dict() == {"AAA": 1, "GGG": 0, "CCC": 1}
    assert set(table["head"]) == {"0", "1", "mean"}


@pytest.mark.parametrize("family", ["nucleotide_transformer", "dnabert2", "gena_lm"])
def test_attention_of_the_families(family):
    classifier = tiny_family(family)
    sequences = ["ACGTTTACGGATTACAGG", "ACGTT", "TTTACGATNACGACGATTT"]
    together = attended(classifier, sequences)
    tokens = classifier.tokenize([sequences[0]])
    weights = classifier.backbone.attentions(classifier.embed(tokens), tokens.mask)
    covering = (tokens.spans[0, :, 1] > 0).numpy()
    heads = weights[-1][0].mean(1).detach().numpy()[:, covering]
    np.testing.assert_allclose(together[0].received[:-1], heads, atol=1e-6)
    np.testing.assert_allclose(together[0].received[-1], heads.mean(0), atol=1e-6)
    assert "".join(together[0].kmers) == sequences[0]
    for i, sequence in enumerate(sequences):
        (alone,) = attended(classifier, [sequence], layer=1)
        np.testing.assert_allclose(alone.received, together[i].received, atol=1e-6)
    # rollout by hand: (A1 / 2 + I / 2) (A0 / 2 + I / 2), mean over queries
    (rolled,) = attended(classifier, sequences[:1], rollout=True)
    first, second = (0.5 * one[0].mean(0).detach() + 0.5 * torch.eye(len(covering)) for one in weights)
    np.testing.assert_allclose(rolled.received[0], (second @ first).mean(0).numpy()[covering], atol=1e-6)
    (below,) = attended(classifier, sequences[:1], layer=0)
    assert not np.allclose(below.received, together[0].received)
    with pytest.raises(BasewiseError, match="layer 2 is not there"):
        attended(classifier, sequences, layer=2)


def test_no_attention_in_a_convolution():
    with pytest.raises(BasewiseError, match="no attention"):
        attended(tiny_family("convnet"), ["ACGT"])
