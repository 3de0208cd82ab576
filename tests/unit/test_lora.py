"""Adapters: what is trained, where, saved and loaded with the head to identical logits, merged into plain weights."""

import copy
import json

import pytest
import torch

from basewise.backbones.checkpoints import load_official
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier, save_classifier
from basewise.backbones.lora import PRESETS, LoraSettings, add_lora, load_adapter, merge_lora, plan_lora, save_adapter
from basewise.errors import BasewiseError
from basewise.testing.models import tiny_classifier
from basewise.testing.published import KINDS, write_published

SEQUENCES = ["ACGTTGCATTACG", "GATTACAGATTACA"]
every = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def classifier(kind, tmp_path):
    torch.manual_seed(0)
    backbone, tokenizer = load_official(write_published(tmp_path / "published", kind))
    return Classifier(ClassifierConfig(task="tiny", pool="mean"), backbone, tokenizer).eval()


def logits(classifier):
    with torch.no_grad():
        return classifier.eval()(classifier.tokenize(SEQUENCES))


def train_a_little(classifier, steps=3):
    classifier.train()
    trained = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        classifier(classifier.tokenize(SEQUENCES)).square().sum().backward()
        optimizer.step()
    return classifier.eval()


def trainable(classifier):
    return {name: p.numel() for name, p in classifier.named_parameters() if p.requires_grad}


@every
@pytest.mark.parametrize("place", ["attention", "mixer", "mlp", "embeddings", "biases"])
def test_placement_trains_what_the_plan_says(classifier, place):
    presets = PRESETS[classifier.backbone.family]
    if place not in (*presets, "biases"):
        with pytest.raises(BasewiseError, match=rf"no placement '{place}' in {classifier.backbone.family}; known: "):
            plan_lora(classifier, LoraSettings(placements=(place,)))
        return
    before = logits(classifier)
    frozen = {name: p.clone() for name, p in classifier.named_parameters()}
    settings = LoraSettings(placements=(place,), rank=2)
    plan = plan_lora(classifier, settings)
    assert not any("lora" in name for name, _ in classifier.named_parameters())
    assert add_lora(classifier, settings) == plan
    assert sum(trainable(classifier).values()) == plan.trainable
    assert plan.total == sum(p.numel() for p in frozen.values())
    assert f"{plan.trainable:,}  trainable" in str(plan)
    adapted = {name.split(".lora_")[0] for name in trainable(classifier) if "lora_" in name}
    assert adapted == {name for name, _ in plan.rows if name not in ("biases", "head")}
    assert torch.equal(logits(classifier), before)
    train_a_little(classifier)
    assert (logits(classifier) - before).abs().max() > 1e-4
    for name, parameter in classifier.named_parameters():
        plain = name.replace(".base_layer", "")
        if not parameter.requires_grad:
            assert torch.equal(parameter, frozen[plain]), name


@every
def test_saved_adapter_reloads_with_its_head_to_identical_logits(classifier, tmp_path):
    save_classifier(classifier, tmp_path / "base")
    presets = tuple(PRESETS[classifier.backbone.family])
    settings = LoraSettings(placements=(*presets, "biases"), rank=2, alpha=5, dropout=0.1)
    tuned = load_classifier(tmp_path / "base")
    add_lora(tuned, settings)
    train_a_little(tuned)
    want = logits(tuned)
    save_adapter(tuned, settings, tmp_path / "adapter")
    again = load_classifier(tmp_path / "base")
    assert not torch.equal(logits(again), want)
    assert load_adapter(again, tmp_path / "adapter") == settings
    assert torch.equal(logits(again), want)
    assert trainable(again) == trainable(tuned)

    merged = merge_lora(again)
    assert (logits(merged) - want).abs().max() < 1e-5
    assert merged.state_dict().keys() == load_classifier(tmp_path / "base").state_dict().keys()
    save_classifier(merged, tmp_path / "merged")
    assert (logits(load_classifier(tmp_path / "merged")) - want).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["dnabert2"])
def test_what_does_not_fit_is_refused(classifier, tmp_path):
    def settings(*placements):
        return LoraSettings(placements=placements)

    for placement, match in (
        (r"layers\.\d+\.attention\.query", "matches no layer in this dnabert2; layers are named as words"),
        (r"layers\.\d+", r"no linear layer or embedding: backbone\.layers\.0"),
        ("atention", "Did you mean 'attention'"),
    ):
        with pytest.raises(BasewiseError, match=match):
            plan_lora(classifier, settings(placement))
    only_one = plan_lora(classifier, settings(r"layers\.1\.attention\.qkv"))
    assert [name for name, _ in only_one.rows] == ["backbone.layers.1.attention.qkv", "head"]
    with pytest.raises(BasewiseError, match="no placement 'attention' in convnet; known: biases"):
        plan_lora(tiny_classifier(), settings("attention"))

    save_classifier(classifier, tmp_path / "base")
    tuned = copy.deepcopy(classifier)
    add_lora(tuned, settings("attention"))
    with pytest.raises(BasewiseError, match="adapters already"):
        add_lora(tuned, settings("mlp"))
    folder = save_adapter(tuned, settings("attention"), tmp_path / "adapter")
    other = copy.deepcopy(classifier)
    other.sha256 = "0" * 64
    with pytest.raises(BasewiseError, match=r"adapters of other weights"):
        load_adapter(other, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["settings"]["rank"] = 4
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BasewiseError, match=r"does not fit the model: .*lora_A"):
        load_adapter(copy.deepcopy(classifier), folder)
    config["base"]["family"] = "gena_lm"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BasewiseError, match="adapters of gena_lm"):
        load_adapter(copy.deepcopy(classifier), folder)
