"""Recipes listed, copied and checked; tables assembled; a paper's recipe run and compared, its files opened."""

import json
import sys

import pandas as pd
import pytest

from basewise.datasets.folder import open_dataset, write_dataset
from basewise.errors import BasewiseError
from basewise.recipes.schema import load_recipe, shipped_recipes
from basewise.testing.datasets import planted_motif
from basewise.training.reproduce import recipes_of


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Run the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        from basewise.cli.main import app

        monkeypatch.setattr(sys, "argv", ["basewise", *map(str, arguments)])
        app([str(a) for a in arguments], standalone_mode=False)

    return run


def test_recipes_list_show_copy_check(here, tmp_path, capsys):
    here("recipes", "list", "hyenadna_structures")
    listed = capsys.readouterr().out
    assert all(name in listed for name in shipped_recipes() if name.startswith("hyenadna_structures/"))
    here("recipes", "show", "basewise/zdna")
    assert "basewise build zdna" in capsys.readouterr().out
    here("recipes", "copy", "basewise/zdna", "mine.toml")
    assert load_recipe("mine.toml") == load_recipe("basewise/zdna")
    with pytest.raises(BasewiseError, match="--force"):
        here("recipes", "copy", "basewise/zdna", "mine.toml")
    (tmp_path / "bad.toml").write_text((tmp_path / "mine.toml").read_text().replace("ema =", "emma ="))
    with pytest.raises(BasewiseError, match="1 of 2"):
        here("recipes", "check", "mine.toml", "bad.toml")
    said = capsys.readouterr().out
    assert "mine.toml: fine" in said
    assert "Did you mean 'ema'" in said


def test_recipes_of_the_structure_study_say_what_it_says():
    two = load_recipe("hyenadna_structures/zdna_two_phase")
    first, second = two.train.phases
    assert (first.epochs, first.lr, first.freeze_backbone) == (3, 1e-3, True)
    assert (second.epochs, second.lr, second.head_lr, second.freeze_backbone) == (6, 1e-5, 5e-4, False)
    assert (two.train.loss, two.train.class_weights, two.train.batch_size) == ("weighted_ce", (0.7, 2.0), 64)
    assert {e.metric: e.value for e in two.expected} == {
        "f1": 0.6401,
        "auc_hard": 0.8046,
        "mcc": 0.6226,
        "precision": 0.655,
        "recall": 0.6257,
    }
    runs = [load_recipe(f"hyenadna_structures/promoter_run{n}").train for n in (1, 2, 3, 4)]
    assert [(t.lr, t.batch_size, t.scheduler, t.epochs) for t in runs] == [
        (6e-4, 64, "linear", 10), (5e-4, 32, "linear", 10), (2e-5, 64, "cosine", 10), (5e-4, 8, "linear", 10),
    ]  # fmt: skip
    assert load_recipe("polya_glm/nt_500m_gene_gene").folds == 5
    with pytest.raises(BasewiseError, match="Did you mean"):
        recipes_of("hyenadna_structure")


def test_tables_become_a_dataset_without_twins(here, tmp_path):
    pd.DataFrame(
        {"sequence": ["ACGTAC", "GGGGGA", "TCCCCC", "ATATAT", "CCATGA", "CCATGA", "GATTAC", "TTTTTC"], "label": [0, 1] * 4}
    ).to_csv("train.csv", index=False)
    pd.DataFrame({"sequence": ["GTACGT", "CACACA"], "label": [0, 1]}).to_csv("dev.csv", index=False)
    arguments = ("--train", "train.csv", "--test", "dev.csv", "--task", "promoter", "--val-fraction", "0.25")
    here("build", "table", *arguments, "-o", "all")
    assert open_dataset("all").examples["split"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 2}
    here("build", "table", *arguments, "-o", "unique", "--unique")
    dataset = open_dataset("unique")
    kept = set(dataset.examples.loc[dataset.examples["split"] != "test", "sequence"])
    assert "ACGTAC" not in kept  # the reverse complement of a test sequence
    assert len({"GGGGGA", "TCCCCC"} & kept) == 1
    assert len(dataset.examples) == 2 + 5
    assert sum(dataset.manifest["dropped"].values()) == 3


def test_reproduce_runs_compares_and_goes_on(here, tmp_path):
    examples = planted_motif(n=200, length=100, kind="base")
    write_dataset(tmp_path / "sets" / "zdna", examples, {"task": "zdna", "window": 100, "split": "random"})
    write_dataset(tmp_path / "sets" / "g4", examples, {"task": "g4", "window": 100, "split": "random"})
    arguments = ("reproduce", "hyenadna_structures/zdna_two_phase", "--data", "sets", "--init", "random", "-o", "out", "--quick")
    here(*arguments, "--set", "train.steps=3")
    result = json.loads((tmp_path / "out" / "zdna_two_phase.results.json").read_text())
    assert result["data"]["path"] == "zdna"
    assert result["status"].startswith("quick")
    reached = json.loads((tmp_path / "out" / "zdna_two_phase" / "results.json").read_text())["splits"]["test"]["metrics"]
    rows = {row["metric"]: row for row in result["expected"]}
    assert rows["f1"]["value"] == 0.6401
    assert rows["f1"]["reached"] == reached["f1"]["value"]
    assert rows["f1"]["within"] is None
    stamp = (tmp_path / "out" / "zdna_two_phase" / "run.json").stat().st_mtime_ns
    here(*arguments, "--set", "train.steps=3")
    assert (tmp_path / "out" / "zdna_two_phase" / "run.json").stat().st_mtime_ns == stamp
    with pytest.raises(BasewiseError, match="no dataset fits"):
        here("reproduce", "polya_glm/hyenadna_gene_gene", "--data", "sets", "--quick", "-o", "out")
