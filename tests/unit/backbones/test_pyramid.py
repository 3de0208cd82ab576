"""The pyramid backbone: what it reaches, what the grid changes, and members side by side."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from basewise.backbones import pyramid
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier, save_classifier
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.recipes.schema import Backbone
from basewise.testing.models import randomize
from basewise.training.build import new_backbone
from basewise.training.ensemble import join

TINY = {
    "width": 6,
    "stem_kernel": 5,
    "kernel": 3,
    "dilations": [1, 2],
    "join": 1,
    "coarse_widths": [8, 8],
    "coarse_dilations": [1, 2],
    "spread": 3,
}


def tiny(seed: int = 0, **settings: object) -> pyramid.Model:
    return randomize(pyramid.Model(pyramid.Config.model_validate({**TINY, **settings})), seed)


def tiny_classifier(seed: int) -> Classifier:
    config = ClassifierConfig(task="tiny", kind="base", special_tokens=False)
    made = Classifier(config, tiny(seed), CharacterTokenizer("none"))
    randomize(made.head, seed + 100)
    return made.eval()


def one_hot(length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.one_hot(torch.randint(0, 4, (1, length), generator=generator), 4).float()


def test_reach_and_grid_follow_from_the_shape() -> None:
    config = pyramid.Config.model_validate(TINY)
    assert config.grid == 64
    assert config.fine_reach == 2 + 1 + 2 + 3
    assert config.reach == 384  # (1 + 2) * (16 + 64) + 2 * 64 = 368, rounded up to the grid
    assert pyramid.Config().reach % pyramid.Config().grid == 0


@torch.inference_mode()
def test_rules_are_further_channels_within_the_reach() -> None:
    model, plain = tiny(rules=["zscore", "pqs"], spread=0), tiny(spread=0)
    assert plain.reach == 384
    assert model.reach == 768  # 392 bases more for potential quadruplexes: 760, rounded up to the grid
    generator, tokenizer = torch.Generator().manual_seed(0), CharacterTokenizer("none")
    text = "".join("ACGG"[i] for i in torch.randint(0, 4, (4000,), generator=generator))
    embedded = model.embed(tokenizer.tokenize([text]).ids)
    assert embedded.shape == (1, 4000, 6)
    assert embedded[..., 5].max() > 1
    start, end = 1024 - model.reach, 1100 + model.reach  # on the grid
    alone = model.encode_valid(model.embed(tokenizer.tokenize([text[start:end]]).ids))
    torch.testing.assert_close(alone, model.encode_valid(embedded)[:, start : end - 2 * model.reach], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_start_may_differ_in_what_changes_no_weight(tmp_path: Path) -> None:
    """Channels of rules that the weights do not know start at zero, the network answers as before; rules it knows must come first."""
    save_classifier(tiny_classifier(0), tmp_path / "start")
    before = tiny_classifier(0).backbone
    section = Backbone(name="pyramid", init=str(tmp_path / "start"), config={"rules": ["zscore", "zhunt"]})
    told, tokenizer = new_backbone(section)
    tokens = tokenizer.tokenize(["ACGCGCGCGGTTGACA" * 40])
    assert told.embed(tokens.ids).shape[-1] == 6
    asked = [model.eval().encode(model.embed(tokens.ids), tokens.mask) for model in (before, told)]
    torch.testing.assert_close(asked[0][:, 200:-200], asked[1][:, 200:-200])
    section = Backbone(name="pyramid", init=str(tmp_path / "start"), config={"dropout": 0.5, "spread": 0})
    changed, _ = new_backbone(section)
    assert (changed.config.dropout, changed.config.spread) == (0.5, 0)
    assert all(torch.equal(weights, before.state_dict()[name]) for name, weights in changed.state_dict().items())
    for change in ({"stem_kernel": 7}, {"rules": ["zscore"], "width": 7}):
        with pytest.raises(BasewiseError, match="weights of one shape cannot take another"):
            new_backbone(section.model_copy(update={"config": change}))
    classifier = Classifier(ClassifierConfig(task="tiny", kind="base", special_tokens=False), told, tokenizer)
    save_classifier(classifier, tmp_path / "told")
    with pytest.raises(BasewiseError, match="rules = \\['zhunt'\\] instead of \\['zscore', 'zhunt'\\]"):
        new_backbone(Backbone(name="pyramid", init=str(tmp_path / "told"), config={"rules": ["zhunt"]}))


@torch.inference_mode()
def test_nothing_beyond_the_reach_changes_a_hidden_state() -> None:
    model, x = tiny(), one_hot(2000)
    before = model.encode_valid(x)
    changed = x.clone()
    changed[:, : 1000 - model.reach] = 0.25
    changed[:, 1000 + model.reach + 1 :] = 0.25
    after = model.encode_valid(changed)
    assert torch.equal(before[:, 1000 - model.reach], after[:, 1000 - model.reach])
    assert not torch.allclose(before, after)


@torch.inference_mode()
def test_context_far_beyond_the_fine_tower_is_seen() -> None:
    model, x = tiny(), one_hot(1000)
    changed = x.clone()
    changed[:, 600:700] = 0
    at = 500 - model.reach
    assert not torch.allclose(model.encode_valid(x)[:, at], model.encode_valid(changed)[:, at], atol=1e-4)


@torch.inference_mode()
def test_a_shift_by_whole_grid_cells_changes_nothing_and_the_ends_are_n() -> None:
    model, x = tiny(), one_hot(1500)
    whole = model.encode(x, torch.ones(1, 1500, dtype=torch.bool))
    shifted = model.encode_valid(torch.nn.functional.pad(x[:, model.grid :], (0, 0, 0, model.reach)))  # starts a grid cell later
    torch.testing.assert_close(shifted, whole[:, model.grid + model.reach :], rtol=0, atol=1e-5)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 37))
    mask = torch.ones(1, 1537, dtype=torch.bool)
    mask[:, 1500:] = False
    torch.testing.assert_close(model.encode(padded, mask)[:, :1500], whole, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_folding_the_norms_changes_nothing() -> None:
    model, x = tiny(), one_hot(1000)
    folded = model.encode_valid(x)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # keeps the running statistics
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    kept = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]
    outputs = []
    hooks = [m.register_forward_hook(lambda *_: outputs.append(1)) for m in norms]
    model.encode_valid(x)
    for hook in hooks:
        hook.remove()
    assert 0 < len(outputs) < len(norms)  # those behind a convolution are folded into it
    assert all(torch.equal(m.running_mean, a) and torch.equal(m.running_var, b) for m, (a, b) in zip(norms, kept, strict=True))
    assert folded.shape == (1, 1000 - 2 * model.reach, 6)


@torch.inference_mode()
def test_members_are_independent_networks() -> None:
    model, x = tiny(members=2), one_hot(1000)
    alone = tiny()
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith("members.0.")})
    assert model.width == 12
    torch.testing.assert_close(model.encode_valid(x)[..., :6], alone.encode_valid(x), rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("half", [False, True])
def test_joined_logits_are_the_mean_and_survive_a_save(half, tmp_path) -> None:
    parts = [tiny_classifier(seed) for seed in (1, 2, 3)]
    joined = join(parts, half=half)
    sequences = ["ACGTTTGACCAGTNACGT" * 20, "GATTACA" * 30]
    wanted = torch.stack([part(part.tokenize(sequences)) for part in parts]).mean(0)
    got = joined(joined.tokenize(sequences))
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-2 if half else 1e-5)
    folder = save_classifier(joined, tmp_path / "model", half=half)
    again = load_classifier(folder)
    assert torch.equal(again(again.tokenize(sequences)), got)  # float16 weights read back exactly as they were judged
    saved = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values() if tensor.is_floating_point()}
    assert saved == {torch.float16 if half else torch.float32}


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(BasewiseError, match="at least two"):
        join([tiny_classifier(0)])
    other = tiny_classifier(1)
    other.config = other.config.model_copy(update={"labels": ("a", "b")})
    with pytest.raises(BasewiseError, match="differ in architecture"):
        join([tiny_classifier(0), other])
