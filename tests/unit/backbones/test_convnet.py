"""The convolution network: its reach is exactly what it says, and nothing tells it where a sequence was cut."""

import pytest
import torch
from torch import nn

from basewise.backbones import rules as rules_model
from basewise.backbones.configs import parse_config
from basewise.backbones.convnet import BlockConfig, Config, Model
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.testing.models import tiny_classifier, tiny_convnet

TOKENIZER = CharacterTokenizer("none")


def bases(length, seed=0):
    return "".join("ACGT"[i] for i in torch.randint(4, (length,), generator=torch.Generator().manual_seed(seed)))


def hidden(model, sequence, pad_side="right"):
    tokens = TOKENIZER.tokenize([sequence], pad_side=pad_side)
    with torch.inference_mode():
        return model.encode(model.embed(tokens.ids), tokens.mask)[0]


def test_reach_is_tight():
    model = tiny_convnet()
    assert model.reach == 2 + 1 + 2 + 6
    text = bases(61)
    other = text[:30] + ("A" if text[30] != "A" else "C") + text[31:]
    changed = (hidden(model, text) != hidden(model, other)).any(dim=1).nonzero()[:, 0]
    assert (changed.min(), changed.max()) == (30 - model.reach, 30 + model.reach)


def test_shift_equivariance_and_n_beyond_the_ends():
    model = tiny_convnet()
    text = bases(80)
    whole = hidden(model, text)
    torch.testing.assert_close(hidden(model, text[20:60])[11:-11], whole[31:49], rtol=0, atol=1e-5)
    around = hidden(model, "N" * 15 + text[20:60] + "N" * 15)
    torch.testing.assert_close(hidden(model, text[20:60]), around[15:-15], rtol=0, atol=1e-5)
    assert hidden(model, "").shape == (0, 8)


def test_only_bases_reach_the_network():
    model = tiny_convnet()
    embedded = model.embed(torch.arange(12)[None])[0]
    assert embedded[:7].abs().sum() == 0
    assert torch.equal(embedded[7:11], torch.eye(4))
    assert embedded[11].abs().sum() == 0


def test_folded_batch_norm_equals_the_layers():
    model = tiny_convnet()
    stem, x = model.members[0].stem, torch.randn(2, 4, 1, 40, generator=torch.Generator().manual_seed(1))
    norm = stem.norm
    plain = nn.functional.batch_norm(stem.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(stem(x), plain)


def test_members_stand_side_by_side():
    pair, single = tiny_convnet(members=2), tiny_convnet()
    single.members[0].load_state_dict(pair.members[1].state_dict())
    assert pair.width == 16
    assert torch.equal(hidden(pair, bases(40))[:, 8:], hidden(single, bases(40)))
    assert not torch.equal(hidden(pair, bases(40))[:, :8], hidden(single, bases(40)))


def test_center_of_windows_equals_dense_encoding():
    classifier = tiny_classifier()
    text = bases(70)
    with torch.inference_mode():
        tokens = classifier.tokenize([text])
        dense = classifier.head.score(classifier.hidden(tokens))[0, 11:-11, 0]
        windows = classifier(classifier.tokenize([text[i : i + 23] for i in range(48)]))[:, 0]
    torch.testing.assert_close(windows, dense, rtol=0, atol=1e-5)
    assert classifier.dense
    assert not tiny_classifier(window=21).dense
    assert not tiny_classifier(family="hyenadna").dense


@pytest.mark.parametrize(
    ("values", "message"),
    [({"stem_kernel": 4}, "odd kernels"), ({"widht": 8}, "Did you mean 'width'"), ({"blocks": [{"kernel": 2}]}, "odd kernels")],
)
def test_wrong_config(values, message):
    with pytest.raises(BasewiseError, match=message):
        parse_config(Config, values, "test")


def test_training_moves_every_parameter():
    model = tiny_convnet(dropout=0.1).train()
    tokens = TOKENIZER.tokenize([bases(30, seed) for seed in range(4)])
    model.encode(model.embed(tokens.ids), tokens.mask).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_rules_are_further_channels_and_reach_as_far_as_they_do():
    model = Model(Config(width=8, stem_kernel=5, blocks=(BlockConfig(kernel=3, dilation=2),), rules=("zscore", "g4-regex"))).eval()
    rules = [rules_model.Model(rules_model.Config(rule=rule)) for rule in ("zscore", "g4-regex")]
    assert model.reach == 2 + 2 + max(rule.reach for rule in rules)
    text = bases(300).replace("T", "G")
    tokens = TOKENIZER.tokenize([text])
    embedded = model.embed(tokens.ids)
    assert embedded.shape == (1, 300, 6)
    for channel, rule in enumerate(rules, start=4):
        torch.testing.assert_close(embedded[..., channel : channel + 1], rule.encode(rule.embed(tokens.ids), tokens.mask))
    assert embedded[..., 4:].std(dim=1).min() > 0.01
    middle = hidden(model, text)[150]
    torch.testing.assert_close(hidden(model, text[150 - model.reach : 151 + model.reach])[model.reach], middle, rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden(model, "N" * 9 + text + "N" * 9)[9:-9], hidden(model, text), rtol=0, atol=1e-5)
