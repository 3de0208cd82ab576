"""Training on individuals with adapters and with less memory: what changes, what must not, and what is stored."""

import os
import subprocess
import sys

import pytest
import torch

from basewise.backbones.classifier import load_classifier
from basewise.errors import BasewiseError
from basewise.recipes.schema import Recipe, apply_overrides, recipe_from, recipe_to_toml
from basewise.testing.published import write_published
from basewise.testing.runs import weights
from basewise.training.batches import Batch
from basewise.training.individuals import train_individuals
from basewise.training.train import beginner

LORA = {"placements": ["attention", "mlp"], "rank": 2, "alpha": 8.0}


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny GENA-LM in published form: byte-pair tokens, 40 positions."""
    return write_published(tmp_path / "gena", "gena_lm")


def _recipe(checkpoint, **sections) -> Recipe:
    train = {
        "steps": 4,
        "batch_size": 2,
        "accumulation": 2,
        "lr": 1e-2,
        "validate_every": 4,
        "weight_decay": 0.0,
        **sections.pop("train", {}),
    }
    return recipe_from(
        {
            "name": "adapted",
            "backbone": {"name": "gena_lm", "init": str(checkpoint)},
            "head": {"kind": "individual", "labels": ["male", "female"], "pool": "cls"},
            "chunks": {"count": 3, "length": 60, "pool": 12, "validation_groups": 2},
            "train": train,
            "evaluate": {"bootstrap": 0, "calibrate": "none"},
            **sections,
        },
        "test",
    )


def test_adapters_and_head_learn_and_plain_weights_are_stored(checkpoint, tmp_path, planted):
    recipe, cohort = _recipe(checkpoint, lora=LORA), planted(people=8)
    before = beginner(apply_overrides(recipe, []).model_copy(update={"lora": None}), 60)[0].state_dict()
    results = train_individuals(recipe, cohort, tmp_path / "run")
    after = weights(tmp_path / "run")
    assert after.keys() == before.keys()  # no adapters in the file
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    adapted = {f"backbone.layers.{n}.{part}.weight" for n in (0, 1) for part in (
        "attention.query", "attention.key", "attention.value", "attention.output", "mlp.inner", "mlp.outer")}  # fmt: skip
    assert {name for name in changed if not name.startswith("head.")} == adapted
    assert {name for name in before if name.startswith("head.")} - changed <= {"head.key.bias"}  # softmax does not see it
    assert results["parameters"] == sum(t.numel() for t in before.values())
    assert results["trainable"] < 0.5 * results["parameters"]
    for name in adapted:  # what was added has the rank of the adapters
        assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) == 2
    assert load_classifier(tmp_path / "run").config.kind == "individual"


def test_a_killed_training_with_adapters_resumes_to_the_sameweights(checkpoint, tmp_path, planted):
    recipe = _recipe(checkpoint, lora=LORA, train={"validate_every": 2, "gradient_checkpointing": True})
    cohort = planted(people=8)
    train_individuals(recipe, cohort, tmp_path / "whole")

    class Killed(Exception):  # noqa: N818
        pass

    def kill(event) -> None:
        if event.step >= 3 or event.step == 2:
            raise Killed

    with pytest.raises(Killed):
        train_individuals(recipe, cohort, tmp_path / "cut", progress=kill)
    train_individuals(recipe, cohort, tmp_path / "cut", resume=True)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("lora", [None, LORA])
def test_checkpointing_changes_no_gradient(checkpoint, tmp_path, planted, lora):
    recipe = _recipe(checkpoint, **({"lora": lora} if lora else {}))
    cohort = planted(people=8)
    gradients = []
    for saving in (False, True):
        now = apply_overrides(recipe, [f"train.gradient_checkpointing={str(saving).lower()}"])
        classifier, _ = beginner(now, 60)
        calls: list[int] = []
        classifier.backbone.layers[0].mlp_norm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        classifier.train()
        torch.manual_seed(1)  # dropout
        tokens = classifier.tokenize([bytes(cohort.genome(0).read(0, 7 * i, 60)).decode() for i in range(6)])
        classifier(tokens, chunks=3).sum().backward()
        assert len(calls) == (2 if saving else 1)
        gradients.append({name: p.grad for name, p in classifier.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(name.startswith("backbone.") for name in gradients[0])
    for name, one in gradients[0].items():
        assert torch.allclose(one, gradients[1][name], rtol=1e-5, atol=1e-7), name


def test_checkpointing_gives_the_same_run(checkpoint, tmp_path, planted):
    cohort = planted(people=8)
    for name, saving in (("plain", "false"), ("saving", "true")):
        train_individuals(apply_overrides(_recipe(checkpoint), [f"train.gradient_checkpointing={saving}"]), cohort, tmp_path / name)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "saving")
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-4, atol=1e-5), name


def test_bf16_with_adapters_and_checkpointing(checkpoint, tmp_path, planted):
    recipe = _recipe(checkpoint, lora=LORA, train={"precision": "bf16", "gradient_checkpointing": True})
    train_individuals(recipe, planted(people=8), tmp_path / "run")
    assert all(tensor.dtype is torch.float32 and tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_what_cannot_be_combined_is_one_line(checkpoint, tmp_path, planted):
    with pytest.raises(BasewiseError, match=r"\[lora\] trains adapters in the backbone, which train.freeze_backbone keeps") as caught:
        apply_overrides(_recipe(checkpoint, lora=LORA), ["train.freeze_backbone=true"])
    assert "\n" not in str(caught.value)
    small = apply_overrides(_recipe(checkpoint), ['backbone.init="random"', 'backbone.name="convnet"', 'head.pool="mean"'])
    with pytest.raises(BasewiseError, match="convnet cannot be trained with gradient_checkpointing"):
        train_individuals(apply_overrides(small, ["train.gradient_checkpointing=true"]), planted(people=8), tmp_path / "run")


def test_a_chunk_of_too_many_tokens_loses_its_end(checkpoint):
    classifier, _ = beginner(_recipe(checkpoint), 60)
    long, short = "GATTACAGCATG" * 10, "ACGT" * 5
    tokens = classifier.tokenize([long, short])
    assert tokens.ids.shape == (2, 40)
    assert tokens.mask[0].all()
    assert tokens.ids[0, -1] == tokens.ids[1, int(tokens.mask[1].sum()) - 1]  # [SEP] stays
    assert torch.isfinite(classifier(tokens, chunks=2)).all()


def test_the_shares_of_processes_are_whole_groups():
    batch = Batch(list(range(12)), torch.arange(4).numpy(), chunks=3)
    parts = [batch.share(rank, 3) for rank in range(3)]
    assert [part.sequences for part in parts] == [[0, 1, 2, 9, 10, 11], [3, 4, 5], [6, 7, 8]]
    assert [part.labels.tolist() for part in parts] == [[0, 3], [1], [2]]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA])
def test_two_processes_equal_one(checkpoint, tmp_path, planted, lora):
    cohort = planted(people=8)
    recipe = _recipe(checkpoint, train={"batch_size": 3, "steps": 4}, **({"lora": lora} if lora else {}))
    config = checkpoint / "config.json"  # dropout off: each process has a generator of its own
    config.write_text(config.read_text().replace('_dropout_prob": 0.1', '_dropout_prob": 0.0'))
    train_individuals(recipe, cohort, tmp_path / "one")
    (tmp_path / "r.toml").write_text(recipe_to_toml(recipe))
    script = tmp_path / "two.py"
    script.write_text(
        "from basewise.datasets.cohort import open_cohort\n"
        "from basewise.recipes.schema import load_recipe\n"
        "from basewise.training.individuals import train_individuals\n"
        f"train_individuals(load_recipe({str(tmp_path / 'r.toml')!r}), open_cohort({str(cohort.path)!r}), {str(tmp_path / 'two')!r})\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-4)
