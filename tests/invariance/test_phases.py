"""Phases, adapters and memory: what moves when, against closed forms; being killed in between changes nothing."""

import json

import pytest
import torch

from basewise.datasets.folder import open_dataset
from basewise.errors import BasewiseError
from basewise.recipes.schema import apply_overrides, load_recipe, recipe_from, recipe_to_toml
from basewise.testing.datasets import planted_dataset
from basewise.testing.runs import KilledError, killer, weights
from basewise.training.build import new_classifier
from basewise.training.memory import checkpoint_layers
from basewise.training.train import train

CONVNET = {"name": "convnet", "config": {"width": 8, "stem_kernel": 9, "blocks": [{"kernel": 3}], "dropout": 0.1}}
HYENA = {"name": "hyenadna", "config": {"d_model": 8, "n_layer": 2, "d_inner": 16, "l_max": 66, "filter_order": 8}}
TWO = [
    {"epochs": 2, "freeze_backbone": True, "lr": 1e-2, "scheduler": "constant"},
    {"epochs": 3, "lr": 1e-3, "head_lr": 5e-3, "scheduler": "linear"},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(planted_dataset(tmp_path_factory.mktemp("d") / "motif", n=160))  # 96 to train on: 6 steps an epoch


def recipe(backbone=CONVNET, lora=None, **settings):
    table = {"batch_size": 16, **settings}
    extra = {"lora": lora} if lora else {}
    return recipe_from({"name": "toy", "backbone": backbone, "train": table, "evaluate": {"bootstrap": 0}, **extra}, "toy")


def start_of(r):
    with torch.random.fork_rng():
        torch.manual_seed(r.train.seed)
        return {k: v.clone() for k, v in new_classifier(r, 41).state_dict().items()}


def test_a_frozen_phase_moves_the_head_alone_and_rates_follow_each_phase(dataset, tmp_path):
    frozen = recipe(phases=TWO[:1])
    train(frozen, dataset, tmp_path / "one")
    start, one = start_of(frozen), weights(tmp_path / "one")
    assert all(torch.equal(start[k], one[k]) for k in start if k.startswith("backbone."))  # batch statistics too
    assert not torch.equal(start["head.linear.weight"], one["head.linear.weight"])

    result = train(recipe(phases=TWO, validate_every=1), dataset, tmp_path / "two")
    assert result["steps"] == 30
    rates = [json.loads(line)["lr"] for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines() if "lr" in json.loads(line)]
    linear = [1e-3 * (i / 2 if i < 2 else (18 - i) / 16) for i in range(18)]  # 10 % of 18 steps, rounded up, warm up
    assert rates == pytest.approx([1e-2] * 12 + linear)


@pytest.mark.parametrize("backbone", [CONVNET, HYENA], ids=["convnet", "hyenadna"])
def test_killed_in_either_phase_and_at_the_border(dataset, tmp_path, backbone):
    r = recipe(backbone, phases=TWO, validate_every=4, ema=0.9)
    whole = train(r, dataset, tmp_path / "whole")
    for stop in (6, 12, 13, 22):
        with pytest.raises(KilledError):
            train(r, dataset, tmp_path / "cut", resume=True, progress=killer(stop))
    assert train(r, dataset, tmp_path / "cut", resume=True) == whole
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_phases_in_toml_and_overrides(tmp_path):
    r = recipe(phases=TWO)
    (tmp_path / "r.toml").write_text(recipe_to_toml(r))
    assert load_recipe(tmp_path / "r.toml") == r
    assert apply_overrides(r, ["train.steps=5"]).train.phases == ()
    with pytest.raises(BasewiseError, match="those of each phase"):
        recipe(phases=TWO, head_lr=0.1)
    with pytest.raises(BasewiseError, match="plateau"):
        recipe(phases=[{"epochs": 1, "lr": 1}], scheduler="plateau")
    with pytest.raises(BasewiseError, match=r"train\.phases\.0\.lrate.*lr"):
        recipe(phases=[{"epochs": 1, "lr": 1, "lrate": 1}])


def test_adapters_train_what_they_say_and_the_run_holds_plain_weights(dataset, tmp_path):
    rank = 4
    r = recipe(HYENA, lora={"placements": ["mixer"], "rank": rank, "alpha": 8}, epochs=2, lr=1e-2)
    result = train(r, dataset, tmp_path / "lora")
    added = 2 * rank * ((8 + 24) + (8 + 8))  # two layers: in_proj 8 -> 24, out_proj 8 -> 8
    assert result["trainable"] == added + 9  # and the head: 8 weights, 1 bias
    assert result["trainable_percent"] == pytest.approx(100 * (added + 9) / (result["parameters"] + added))
    start, done = start_of(r), weights(tmp_path / "lora")
    assert start.keys() == done.keys()
    moved = {k for k in start if not torch.equal(start[k], done[k])}
    adapted = {f"backbone.layers.{i}.mixer.{n}_proj.weight" for i in (0, 1) for n in ("in", "out")}
    assert moved == adapted | {"head.linear.weight", "head.linear.bias"}
    change = done["backbone.layers.0.mixer.in_proj.weight"] - start["backbone.layers.0.mixer.in_proj.weight"]
    assert torch.linalg.matrix_rank(change, tol=1e-5) <= rank
    with pytest.raises(KilledError):
        train(r, dataset, tmp_path / "cut", progress=killer(8))
    assert train(r, dataset, tmp_path / "cut", resume=True) == result
    assert all(torch.equal(done[k], v) for k, v in weights(tmp_path / "cut").items())


def test_checkpointed_layers_give_the_same_training(dataset, tmp_path):
    backbone = {**HYENA, "config": {**HYENA["config"], "resid_dropout": 0.1}}
    train(recipe(backbone, epochs=1), dataset, tmp_path / "plain")
    train(recipe(backbone, epochs=1, gradient_checkpointing=True), dataset, tmp_path / "less")
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "less")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(BasewiseError, match="convnet cannot"):
        checkpoint_layers(new_classifier(recipe(epochs=1), 41))


def test_the_last_checkpoints_stay_with_their_best_weights(dataset, tmp_path):
    r = recipe(epochs=3, validate_every=3, keep_checkpoints=2)
    with pytest.raises(KilledError):
        train(r, dataset, tmp_path / "r", progress=killer(15))
    here = tmp_path / "r" / "checkpoints"
    copies = sorted(here.glob("step-*.pt"))
    assert [int(c.name.split("-")[1]) for c in copies] == [12, 15]
    assert all((here / f"best-{c.stem.rpartition('-')[2]}.safetensors").exists() for c in copies)
    copies[0].replace(here / "last.pt")  # training goes on from the older one
    again = train(r, dataset, tmp_path / "r", resume=True)
    assert again == train(r, dataset, tmp_path / "whole")
