"""What must not change a training: being killed, the way a batch is cut, the caller's random numbers."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from basewise.datasets.folder import open_dataset
from basewise.errors import BasewiseError
from basewise.recipes.schema import apply_overrides, load_recipe, recipe_from, recipe_to_toml
from basewise.testing.datasets import planted_dataset
from basewise.testing.runs import KilledError, killer, same, sigkilled, weights
from basewise.training.train import train

CONVNET = {"name": "convnet", "config": {"width": 8, "stem_kernel": 9, "blocks": [{"kernel": 3}], "dropout": 0.1}}
HYENA = {"name": "hyenadna", "config": {"d_model": 8, "n_layer": 1, "d_inner": 16, "l_max": 66, "filter_order": 8}}


def recipe(backbone=None, head=None, **settings):
    table = {"epochs": 3, "batch_size": 16, "lr": 1e-2, "validate_every": 7, **settings}
    return recipe_from(
        {"name": "toy", "backbone": backbone or CONVNET, "head": head or {}, "train": table, "evaluate": {"bootstrap": 20}}, "toy"
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(planted_dataset(tmp_path_factory.mktemp("d") / "motif", n=240))


FULL = {
    "ema": 0.9,
    "accumulation": 2,
    "augment": {"shift": 3, "n_mask": 0.3, "n_mask_keep": 5},
    "scheduler": "plateau",
    "plateau_patience": 0,
}


@pytest.mark.parametrize("backbone", [CONVNET, HYENA], ids=["convnet", "hyenadna"])
def test_interrupted_and_resumed_equals_one_go(dataset, tmp_path, backbone):
    r = recipe(backbone, **FULL)
    whole = train(r, dataset, tmp_path / "whole")
    for stop in (5, 10):  # before the first checkpoint, and after it
        with pytest.raises(KilledError):
            train(r, dataset, tmp_path / "cut", resume=True, progress=killer(stop))
    assert not (tmp_path / "cut" / "run.json").exists()
    resumed = train(r, dataset, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert resumed == whole
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_sigkill_at_a_random_moment_then_resume_is_bit_identical(dataset, tmp_path):
    r = recipe(epochs=25, validate_every=3, ema=0.9, scheduler="cosine")
    path = tmp_path / "r.toml"
    path.write_text(recipe_to_toml(r))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(apply_overrides(r, [f'data.path="{dataset.path}"']), dataset, tmp_path / "whole")
        cut = tmp_path / "cut"
        code = sigkilled(["train", path, "--data", dataset.path, "-o", cut], cut, 60)
        assert code == -signal.SIGKILL, "the training ended before it could be killed"
        assert not (cut / "run.json").exists()
        train(apply_overrides(r, [f'data.path="{dataset.path}"']), dataset, cut, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert same(weights(tmp_path / "whole"), weights(cut))
    assert not list(cut.glob(".partial*"))


def test_accumulation_is_one_large_batch(dataset, tmp_path):
    plain = {"name": "hyenadna", "config": {**HYENA["config"], "embed_dropout": 0.0}}  # batch norm and dropout would see smaller batches
    train(recipe(plain, batch_size=16, steps=6, epochs=None), dataset, tmp_path / "one")
    train(recipe(plain, batch_size=4, accumulation=4, steps=6, epochs=None), dataset, tmp_path / "four")
    one, four = weights(tmp_path / "one"), weights(tmp_path / "four")
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-4, atol=1e-5)


def test_the_callers_generator_is_left_alone_and_does_not_matter(dataset, tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    train(recipe(), dataset, tmp_path / "a")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    train(recipe(), dataset, tmp_path / "b")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(recipe(seed=1), dataset, tmp_path / "c")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_resume_refuses_another_recipe_and_leaves_a_finished_run_alone(dataset, tmp_path):
    done = train(recipe(), dataset, tmp_path / "r")
    stamp = (tmp_path / "r" / "run.json").stat().st_mtime_ns
    assert train(recipe(), dataset, tmp_path / "r", resume=True) == json.loads(json.dumps(done))
    assert (tmp_path / "r" / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(BasewiseError, match=r"train\.lr was 0.01, is 0.02"):
        train(recipe(lr=2e-2), dataset, tmp_path / "r", resume=True)
    with pytest.raises(BasewiseError, match="--force"):
        train(recipe(), dataset, tmp_path / "r")


def test_a_threshold_out_of_reach_costs_no_training(dataset, tmp_path):
    r = recipe(epochs=1)
    with pytest.raises(BasewiseError, match=r"reaches precision 1\.0 .*--resume finishes it"):
        train(apply_overrides(r, ['evaluate.threshold="precision=1.0"', 'train.metric="loss"']), _shuffled(dataset), tmp_path / "run")
    trained = (tmp_path / "run" / "log.jsonl").read_text()
    again = train(apply_overrides(r, ['train.metric="loss"']), _shuffled(dataset), tmp_path / "run", resume=True)
    assert again["steps"] == 18
    assert (tmp_path / "run" / "log.jsonl").read_text() == trained  # no step was taken again
    assert load_recipe(tmp_path / "run" / "recipe.toml").evaluate.threshold == "max_f1"
    with pytest.raises(BasewiseError, match=r"evaluate\.threshold was 'max_f1', is 'max_mcc'"):
        train(apply_overrides(r, ['train.metric="loss"', "evaluate.threshold=max_mcc"]), dataset, tmp_path / "run", resume=True)


def _shuffled(dataset):
    """Return the dataset with a negative of every positive's sequence: no threshold is always right."""
    twins = dataset.examples.assign(label=1 - dataset.examples["label"])
    return replace(dataset, examples=pd.concat([dataset.examples, twins], ignore_index=True))


@pytest.mark.parametrize(
    "backbone", [{"name": "convnett"}, {"name": "convnet", "config": {"width": 0}}, {"name": "convnet", "init": "nope"}]
)
def test_what_cannot_be_built_leaves_no_folder_in_the_way(dataset, tmp_path, backbone):
    with pytest.raises(BasewiseError):
        train(recipe(backbone), dataset, tmp_path / "run")
    with pytest.raises(BasewiseError, match='no example in split "train"'):
        train(recipe(), replace(dataset, examples=dataset.examples.assign(split="val")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_said(dataset, tmp_path):
    with pytest.raises(KilledError):
        train(recipe(), dataset, tmp_path / "r", progress=killer(8))
    checkpoint = tmp_path / "r" / "checkpoints" / "last.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(BasewiseError, match="cannot be read"):
        train(recipe(), dataset, tmp_path / "r", resume=True)


def test_patience_stops_and_the_best_weights_are_kept(dataset, tmp_path):
    result = train(recipe(epochs=40, validate_every=1, patience=2, lr=0.3, scheduler="constant"), dataset, tmp_path / "r")
    assert result["stopped_early"]
    rows = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["validation"]["auroc"] for row in rows if "validation" in row}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert result["best"] == {"step": best, "metric": "auroc", "value": scores[best]}
    assert result["steps"] == best + 2
    assert result["splits"]["val"]["metrics"]["auroc"]["value"] == pytest.approx(scores[best], abs=1e-6)


def test_frozen_backbone_and_decay_groups(dataset, tmp_path):
    from basewise.training.build import new_classifier
    from basewise.training.optimizer import make_optimizer

    r = recipe(HYENA, head_lr=0.5, weight_decay=0.1)
    classifier = new_classifier(r, 41)
    optimizer = make_optimizer(classifier, r.train)
    group_of = {id(p): (g["base_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    found = {name: group_of[id(p)] for name, p in classifier.named_parameters()}
    assert found["head.linear.weight"] == (0.5, 0.1)
    assert found["head.linear.bias"] == (0.5, 0.0)
    assert found["backbone.layers.0.mlp.fc1.weight"] == (0.01, 0.1)
    for name, group in found.items():
        if "filter_fn" in name or "norm" in name or name.endswith("bias") or "ln_f" in name:
            assert group[1] == 0.0, name
    start = {k: v.clone() for k, v in new_frozen(r, dataset, tmp_path).items()}
    trained = weights(tmp_path / "frozen")
    assert all(torch.equal(start[k], trained[k]) for k in start if k.startswith("backbone."))
    assert not torch.equal(start["head.linear.weight"], trained["head.linear.weight"])


def new_frozen(r, dataset, tmp_path):
    from basewise.training.build import new_classifier

    frozen = apply_overrides(r, ["train.freeze_backbone=true"])
    train(frozen, dataset, tmp_path / "frozen")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return new_classifier(frozen, 41).state_dict()


@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_bf16_through_accelerate_learns_too(dataset, tmp_path):
    full = train(recipe(epochs=8), dataset, tmp_path / "fp32")
    half = train(recipe(precision="bf16", epochs=8), dataset, tmp_path / "bf16")
    auroc = [result["splits"]["test"]["metrics"]["auroc"]["value"] for result in (full, half)]
    assert min(auroc) > 0.75
    assert auroc[0] == pytest.approx(auroc[1], abs=0.05)
    assert not same(weights(tmp_path / "fp32"), weights(tmp_path / "bf16"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "aurocc"}, "Did you mean 'auroc'"),
        ({"precision": "fp16"}, "needs a CUDA device"),
        ({"lr": 1e30, "clip": None, "scheduler": "constant"}, "diverged"),
    ],
)
def test_bad_settings_are_one_line(dataset, tmp_path, settings, said):
    with pytest.raises(BasewiseError, match=said):
        train(recipe(**settings), dataset, tmp_path / "r")


def test_data_that_do_not_fit_are_refused(dataset, tmp_path):
    three = replace(dataset, examples=dataset.examples.assign(label=2))
    with pytest.raises(BasewiseError, match=r"labels \[2\] are outside 0..1"):
        train(recipe(), three, tmp_path / "r")
    with pytest.raises(BasewiseError, match='of kind "sequence"'):
        train(recipe(head={"kind": "base"}), dataset, tmp_path / "r")
    with pytest.raises(BasewiseError, match='no example in split "train"'):
        train(recipe(), replace(dataset, examples=dataset.examples[dataset.examples["split"] == "val"]), tmp_path / "r2")
    other = recipe_from({**recipe().model_dump(), "data": {"variant": "clean"}}, "r")
    with pytest.raises(BasewiseError, match="variant"):
        train(other, replace(dataset, manifest={**dataset.manifest, "variant": "published"}), tmp_path / "r3")


def test_negatives_per_positive_and_unknown_labels(dataset, tmp_path):
    examples = dataset.examples.copy()
    examples.loc[examples.index[:10], "label"] = -1
    result = train(recipe(negatives_per_positive=0.5, epochs=1), replace(dataset, examples=examples), tmp_path / "r")
    positives = int(((examples["split"] == "train") & (examples["label"] == 1)).sum())
    assert result["steps"] == -(-(positives + round(positives / 2)) // 16)
    predicted = pd.read_parquet(Path(tmp_path / "r" / "predictions.parquet"))
    assert (predicted["label"] >= 0).all()


@pytest.mark.slow
def test_two_processes_equal_one(dataset, tmp_path):
    backbone = {"name": "hyenadna", "config": {**HYENA["config"], "embed_dropout": 0.0}}
    r = recipe(backbone, epochs=None, steps=12, batch_size=15)  # an odd batch: the processes get unequal shares
    train(r, dataset, tmp_path / "one")
    script = tmp_path / "two.py"
    script.write_text(
        "from basewise.datasets.folder import open_dataset\n"
        "from basewise.recipes.schema import load_recipe\n"
        "from basewise.training.train import train\n"
        f"train(load_recipe({str(tmp_path / 'r.toml')!r}), open_dataset({str(dataset.path)!r}), {str(tmp_path / 'two')!r})\n"
    )
    (tmp_path / "r.toml").write_text(recipe_to_toml(r))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)
    losses = [[row["loss"] for row in log_rows(tmp_path / name) if "loss" in row] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def log_rows(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
