import numpy as np
import pytest
import torch

from basewise.backbones import kmers
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier, save_classifier
from basewise.backbones.registry import build_backbone
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.evaluation.baselines import KmerModel, kmer_frequencies
from basewise.evaluation.scoring import score_logits
from basewise.training.baselines import set_kmer_weights

SEQUENCES = ["ACGTTGCANACGT", "TTTTCCAAGG", "G", "NNNN", "gattacagattacaGATT"]


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    size = 3 * (4 + 64)
    return KmerModel(rng.normal(size=size), 0.3, 1.0)


@pytest.fixture
def classifier(model):
    backbone = kmers.Model(kmers.Config(ks=(1, 3), bins=3))
    made = Classifier(ClassifierConfig(task="t", pool="mean"), backbone, CharacterTokenizer("none"))
    set_kmer_weights(made, model)
    return made.eval()


def test_logits_are_those_of_the_frequencies_whatever_the_batch(classifier, model, tmp_path):
    wanted = kmer_frequencies(SEQUENCES, (1, 3), 3) @ model.weights + model.intercept
    for batch_size in (1, 3, 10):
        np.testing.assert_allclose(np.concatenate(score_logits(classifier, SEQUENCES, batch_size=batch_size)), wanted, atol=1e-5)
    save_classifier(classifier, tmp_path / "m")
    np.testing.assert_allclose(np.concatenate(score_logits(load_classifier(tmp_path / "m"), SEQUENCES)), wanted, atol=1e-5)


def test_left_padding_changes_nothing(classifier):
    left = classifier.tokenizer.tokenize(SEQUENCES, pad_side="left")
    right = classifier.tokenizer.tokenize(SEQUENCES, pad_side="right")
    with torch.no_grad():
        torch.testing.assert_close(classifier(left), classifier(right))


def test_scoring_leaves_the_model_as_it_was_also_after_an_error():
    config = {"d_model": 4, "n_layer": 1, "d_inner": 8, "l_max": 20, "filter_order": 4}
    made = Classifier(ClassifierConfig(task="t"), build_backbone("hyenadna", config), CharacterTokenizer("hub"))
    made.train()
    made.head.eval()
    modes = [m.training for m in made.modules()]
    score_logits(made, ["ACGT"])
    with pytest.raises(BasewiseError, match="at most 20"):
        score_logits(made, ["A" * 21])
    assert modes == [m.training for m in made.modules()]
    assert all(p.requires_grad for p in made.parameters())
