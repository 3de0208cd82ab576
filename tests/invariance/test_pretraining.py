"""What must not change a pretraining: being killed, accumulation, the number of processes, the caller's random numbers."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from basewise.errors import BasewiseError
from basewise.recipes.schema import apply_overrides, load_recipe, recipe_from, recipe_to_toml
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.runs import KilledError, killer, same, sigkilled, weights
from basewise.training.pretrain import pretrain

HYENA = {"name": "hyenadna", "config": {"d_model": 8, "n_layer": 1, "d_inner": 16, "l_max": 66, "filter_order": 8}}


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    contigs = random_genome(5, {"a": 6000, "b": 3000, "v": 1500, "t": 1500}, n_runs=20, soft_mask=0.3, at=0.8)
    return write_fasta(tmp_path_factory.mktemp("g") / "g.fa", contigs)


def recipe(fasta, pretrain=None, backbone=None, **settings):
    train = {"steps": 24, "batch_size": 6, "lr": 1e-2, "validate_every": 7, "metric": "loss", **settings}
    data = {"path": str(fasta), "val_chroms": ["v"], "test_chroms": ["t"]}
    table = {"name": "toy", "data": data, "backbone": backbone or HYENA, "pretrain": {"length": 64, **(pretrain or {})}, "train": train}
    return recipe_from(table, "toy")


@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bf16", "scheduler": "plateau", "plateau_patience": 0}, {"ema": 0.9, "accumulation": 2}], ids=str
)
def test_interrupted_and_resumed_equals_one_go(fasta, tmp_path, settings):
    r = recipe(fasta, **settings)
    whole = pretrain(r, tmp_path / "whole")
    for stop in (5, 10):  # before the first checkpoint, and after it
        with pytest.raises(KilledError):
            pretrain(r, tmp_path / "cut", resume=True, progress=killer(stop))
    assert not (tmp_path / "cut" / "run.json").exists()
    resumed = pretrain(r, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert resumed == whole
    logs = [[json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in ("whole", "cut")]
    for log in logs:
        for line in log:
            line.pop("seconds", None)
    # resuming at step 7 begins a new mean of the last steps' losses; everything validated is the same
    assert [line for line in logs[0] if "validation" in line] == [line for line in logs[1] if "validation" in line]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    assert not (tmp_path / "cut" / "checkpoints").exists()
    stamp = (tmp_path / "cut" / "run.json").stat().st_mtime_ns
    assert pretrain(r, tmp_path / "cut", resume=True) == json.loads(json.dumps(whole))
    assert (tmp_path / "cut" / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(BasewiseError, match=r"train\.lr was 0.01, is 0.02"):
        pretrain(apply_overrides(r, ["train.lr=0.02"]), tmp_path / "cut", resume=True)


def test_sigkill_at_a_random_moment_then_resume_is_bit_identical(fasta, tmp_path):
    r = recipe(fasta, steps=200, validate_every=10, pretrain={"validation_windows": 4})
    path = tmp_path / "r.toml"
    path.write_text(recipe_to_toml(r))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain(r, tmp_path / "whole")
        cut = tmp_path / "cut"
        code = sigkilled(["pretrain", path, "-o", cut], cut, 120)
        assert code == -signal.SIGKILL, "the training ended before it could be killed"
        assert not (cut / "run.json").exists()
        pretrain(r, cut, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert same(weights(tmp_path / "whole"), weights(cut))
    assert not list(cut.glob(".partial*"))


def test_accumulation_is_one_large_batch(fasta, tmp_path):
    plain = {"name": "hyenadna", "config": {**HYENA["config"], "embed_dropout": 0.0}}
    for name, shape in (("one", {"batch_size": 8}), ("four", {"batch_size": 2, "accumulation": 4})):
        pretrain(recipe(fasta, backbone=plain, steps=6, pretrain={"soft_mask": "mask"}, **shape), tmp_path / name)
    one, four = weights(tmp_path / "one"), weights(tmp_path / "four")
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-4, atol=1e-5)


def test_the_callers_generator_is_left_alone_and_the_seed_matters(fasta, tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    pretrain(recipe(fasta, steps=4), tmp_path / "a")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    pretrain(recipe(fasta, steps=4), tmp_path / "b")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    pretrain(recipe(fasta, steps=4, seed=1), tmp_path / "c")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize(
    "change",
    ['pretrain.strands="forward"', 'pretrain.soft_mask="mask"', "pretrain.max_n=1.0", "pretrain.length=32", "train.ema=0.5"],
)
def test_every_setting_reaches_the_weights(fasta, tmp_path, change):
    base = recipe(fasta, steps=8, validate_every=8)
    pretrain(base, tmp_path / "base")
    pretrain(apply_overrides(base, [change]), tmp_path / "changed")
    assert not same(weights(tmp_path / "base"), weights(tmp_path / "changed"))


@pytest.mark.slow
def test_two_processes_equal_one(fasta, tmp_path):
    plain = {"name": "hyenadna", "config": {**HYENA["config"], "embed_dropout": 0.0}}
    r = recipe(fasta, backbone=plain, steps=12, batch_size=5)  # an odd batch: the processes get unequal shares
    one = pretrain(r, tmp_path / "one")
    (tmp_path / "r.toml").write_text(recipe_to_toml(r))
    assert load_recipe(tmp_path / "r.toml") == r
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "basewise"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = ["pretrain", tmp_path / "r.toml", "-o", tmp_path / "two"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["splits"]["val"]["n"] == one["splits"]["val"]["n"]
    assert two["best"]["value"] == pytest.approx(one["best"]["value"], abs=1e-4)
