"""The classifier and its folder: what is saved comes back bit for bit, and what is wrong is named in one line."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from basewise import zoo
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier, save_classifier
from basewise.backbones.registry import build_backbone
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.files import sha256_of
from basewise.genome.alphabet import reverse_complement
from basewise.testing.models import tiny_classifier, tiny_hyenadna

TEXTS = ["ACGTTGCANNACGTAGCATCGAT", "GGC", "ACGTACGTTTGCACGTAGGGATCAACGT"]


@pytest.fixture
def saved(tmp_path):
    return save_classifier(tiny_classifier(), tmp_path / "model")


def change(folder, edit):
    """Rewrite config.json (edit returns nothing) or model.safetensors of a folder by a function on its contents."""
    if edit.__name__.startswith("config"):
        config = json.loads((folder / "config.json").read_text())
        edit(config)
        (folder / "config.json").write_text(json.dumps(config))
    else:
        state = load_file(folder / "model.safetensors")
        edit(state)
        save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("family", ["convnet", "hyenadna"])
@pytest.mark.parametrize("kind", ["sequence", "base", "individual"])
def test_round_trip_is_bit_identical(tmp_path, family, kind):
    settings = {
        "kind": kind,
        "pool": "mean",
        "threshold": 0.3,
        "calibration": {"temperature": 1.5, "bias": -0.2},
        "provenance": {"seed": 3},
    }
    classifier = tiny_classifier(family=family, **settings)
    folder = save_classifier(classifier, tmp_path / "deep" / "model", card="# Tiny\n")
    again = load_classifier(folder)
    assert again.config == classifier.config
    assert again.sha256 == classifier.sha256 == sha256_of(folder / "model.safetensors")
    assert not again.training
    assert (folder / "README.md").read_text() == "# Tiny\n"
    tokens = classifier.tokenize(TEXTS)
    chunks = 3 if kind == "individual" else None
    with torch.inference_mode():
        assert torch.equal(again(tokens, chunks=chunks), classifier(tokens, chunks=chunks))
    save_classifier(again, tmp_path / "second")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"deep", "second"}


def test_model_means_zoo_name_run_folder_or_model_folder(tmp_path, monkeypatch):
    run = tmp_path / "run"
    sha = load_classifier(save_classifier(tiny_classifier(), run / "model")).sha256
    shutil.copytree(run / "model", tmp_path / "zoo" / "polya")
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    assert load_classifier(str(run)).sha256 == load_classifier(run / "model").sha256 == load_classifier("polya").sha256 == sha
    with pytest.raises(BasewiseError, match=r"no model 'ploya'.*embedded model \(polya\)\. Did you mean 'polya'\?"):
        load_classifier("ploya")
    with pytest.raises(BasewiseError, match="was the training finished"):
        load_classifier(tmp_path)
    with pytest.raises(BasewiseError, match=r"no embedded model 'polyb'; there are: polya\. Did you mean"):
        zoo.folder("polyb")


def config_unknown(config):
    config["classifier"]["treshold"] = 0.4


def config_wrong(config):
    config["classifier"]["threshold"] = 4


def config_family(config):
    config["backbone"]["family"] = "conv_net"


def config_backbone(config):
    config["backbone"]["withd"] = 3


def config_format(config):
    config["format"] = "other"


def config_extra(config):
    config["notes"] = "x"


def weights_missing(state):
    del (
        state["members.0.stem.conv.weight" if "members.0.stem.conv.weight" in state else "backbone.members.0.stem.conv.weight"],
        state["head.linear.bias"],
    )


def weights_left_over(state):
    state["backbone.extra.weight"] = torch.zeros(1)


def weights_shape(state):
    state["head.linear.weight"] = torch.zeros(1, 9)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (config_unknown, r"unknown key treshold Did you mean 'threshold'\?"),
        (config_wrong, "threshold = 4: Input should be less than or equal to 1"),
        (config_family, r"unknown backbone family 'conv_net'; known: convnet, pyramid, hyenadna.*Did you mean 'convnet'\?"),
        (config_backbone, r"unknown key withd Did you mean 'width'\?"),
        (config_format, "has format 'other', expected 'basewise classifier 1'"),
        (config_extra, r"unknown \['notes'\]"),
        (weights_missing, "2 missing: backbone.members.0.stem.conv.weight, head.linear.bias"),
        (weights_left_over, "1 left over: backbone.extra.weight"),
        (weights_shape, r"1 of the wrong shape: head.linear.weight \(1, 9\) instead of \(1, 8\)"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line(saved, edit, message):
    change(saved, edit)
    with pytest.raises(BasewiseError, match=message) as caught:
        load_classifier(saved)
    assert "\n" not in str(caught.value)


def test_damaged_files(saved):
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[:-5], whole[:100], b"", b"not weights"):
        weights.write_bytes(broken)
        with pytest.raises(BasewiseError, match=r"model\.safetensors is damaged or no safetensors file") as caught:
            load_classifier(saved)
        assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(BasewiseError, match=r"model\.safetensors does not exist"):
        load_classifier(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(BasewiseError, match="not valid JSON"):
        load_classifier(saved)


def test_saving_replaces_models_only_and_leaves_nothing_half_written(tmp_path, saved, monkeypatch):
    stranger = tmp_path / "thesis"
    stranger.mkdir()
    (stranger / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BasewiseError, match="no model folder of basewise"):
        save_classifier(tiny_classifier(), stranger)
    before = (saved / "model.safetensors").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("basewise.backbones.classifier.save_file", full)
        with pytest.raises(BasewiseError, match="No space left on device"):
            save_classifier(tiny_classifier(seed=5), saved)
    assert (saved / "model.safetensors").read_bytes() == before
    save_classifier(tiny_classifier(seed=5), saved)
    assert (saved / "model.safetensors").read_bytes() != before
    assert {p.name for p in tmp_path.iterdir()} == {"thesis", "model"}


def test_probabilities_by_hand():
    classifier = tiny_classifier(calibration={"temperature": 2.0, "bias": 0.5})
    got = classifier.probabilities(torch.tensor([[0.0], [-1.0], [-5000.0], [5000.0]]))
    np.testing.assert_allclose(got, [1 / (1 + np.exp(-0.5)), 0.5, 0.0, 1.0], rtol=1e-6)
    assert (got.dtype, got.shape) == (np.float32, (4,))
    three = tiny_classifier(labels=("a", "b", "c"), calibration={"temperature": 2.0})
    logits = np.array([[0.0, 2.0, 4.0], [1e4, 0, 0]])
    np.testing.assert_allclose(three.probabilities(logits)[0], np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), rtol=1e-6)
    assert three.probabilities(logits)[1].tolist() == [1, 0, 0]
    assert three(three.tokenize(TEXTS)).shape == (3, 3)


@pytest.mark.parametrize(
    ("labels", "pool", "outputs"), [(("n", "y"), "mean", 1), (("n", "y"), "official", 2), (("a", "b", "c"), "last", 3)]
)
def test_number_of_logits(labels, pool, outputs):
    classifier = tiny_classifier(family="hyenadna", labels=labels, pool=pool)
    assert classifier(classifier.tokenize(TEXTS)).shape == (3, outputs)


def test_both_strands_see_the_reverse_complement():
    classifier = tiny_classifier(family="hyenadna", kind="base", strands="both")
    text = "ACGTTGCAACCN"
    with torch.inference_mode():
        there = classifier.hidden(classifier.tokenize([text]))[0, :12]  # the last token is [SEP]
        back = classifier.hidden(classifier.tokenize([reverse_complement(text)]))[0, :12]
    assert there.shape == (12, 16)
    torch.testing.assert_close(there[:, :8], back.flip(0)[:, 8:], rtol=0, atol=1e-5)
    torch.testing.assert_close(there[:, 8:], back.flip(0)[:, :8], rtol=0, atol=1e-5)


def test_both_strands_and_the_last_token_read_both_ends():
    classifier = tiny_classifier(family="hyenadna", pool="last", strands="both", special_tokens=False)
    text = "ACGTTGCAACCT"

    def last(sequence):
        tokens = classifier.tokenizer.tokenize([sequence], special_tokens=False)
        return classifier.backbone.encode(classifier.backbone.embed(tokens.ids), tokens.mask)[0, -1]

    with torch.inference_mode():
        hidden = classifier.hidden(classifier.tokenize([text]))[0, -1]
        torch.testing.assert_close(hidden, torch.cat([last(text), last(reverse_complement(text))]))


def test_both_strands_need_a_causal_backbone():
    with pytest.raises(BasewiseError, match="causal backbones"):
        tiny_classifier(strands="both")


def test_published_heads_belong_to_their_family():
    with pytest.raises(BasewiseError, match="published head that convnet does not have"):
        tiny_classifier(pool="official")


def test_embeddings_may_be_replaced():
    for family in ("convnet", "hyenadna"):
        classifier = tiny_classifier(family=family)
        tokens = classifier.tokenize(TEXTS)
        embedded = classifier.backbone.embed(tokens.ids).detach().requires_grad_()
        logits = classifier(tokens, embedded=embedded)
        assert torch.equal(logits, classifier(tokens))
        logits.sum().backward()
        assert embedded.grad.abs().sum() > 0


def test_individuals_need_whole_groups():
    classifier = tiny_classifier(family="hyenadna", kind="individual")
    tokens = classifier.tokenize(TEXTS * 2)
    assert classifier(tokens, chunks=3).shape == (2, 1)
    for chunks in (None, 4):
        with pytest.raises(BasewiseError, match="do not divide into individuals"):
            classifier(tokens, chunks=chunks)


def test_unsaved_buffers_survive_loading(tmp_path, monkeypatch):
    """Families may keep constants outside the state dict; loading, which builds without memory, must still have them."""

    class Model(type(tiny_hyenadna())):
        def __init__(self, config):
            super().__init__(config)
            self.register_buffer("twice", torch.full((1,), 2.0), persistent=False)

        def encode(self, embedded, mask):
            return super().encode(embedded, mask) * self.twice

    monkeypatch.setattr("basewise.backbones.hyenadna.Model", Model)
    shape = tiny_hyenadna().config.model_dump()
    classifier = Classifier(ClassifierConfig(task="t"), build_backbone("hyenadna", shape), CharacterTokenizer()).eval()
    tokens = classifier.tokenize(TEXTS)
    assert torch.equal(load_classifier(save_classifier(classifier, tmp_path / "m"))(tokens), classifier(tokens))
