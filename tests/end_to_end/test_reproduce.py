"""Recipes listed, copied and checked; tables assembled; a paper's recipe run and compared, its files opened."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from basewise.datasets.folder import open_dataset, write_dataset
from basewise.errors import BasewiseError
from basewise.recipes.results import load_results, table, update_page
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


def polya_sets(folder, n=160):
    """Write a toy dataset that says it is the published Gene-Gene."""
    examples = planted_motif(n=n, length=101).assign(split="")
    write_dataset(folder, examples, {"task": "polya", "negatives": "gene", "variant": "published", "window": 101})
    return examples


def test_few_shot_and_rule_and_k_mer_recipes_are_run_as_what_they_are(here, tmp_path):
    polya_sets(tmp_path / "polya")
    here("reproduce", "polya_glm/fewshot_hyenadna_gene_gene", "--data", "polya", "--init", "random", "--quick", "-o", "out")
    few = json.loads((tmp_path / "out" / "fewshot_hyenadna_gene_gene.results.json").read_text())
    runs = json.loads((tmp_path / "out" / "fewshot_hyenadna_gene_gene" / "fewshot.json").read_text())
    assert {row["method"] for row in runs["runs"]} == {"prototype"}
    assert few["metrics"]["auroc"]["value"] == runs["summary"][0]["metrics"]["auroc"]["mean"]
    assert few["expected"][0]["reached"] == few["metrics"]["accuracy"]["value"]

    here("reproduce", "polya_glm/kmer_lr_gene_gene", "--data", "polya", "-o", "out")
    kmers = json.loads((tmp_path / "out" / "kmer_lr_gene_gene.results.json").read_text())
    folds = json.loads((tmp_path / "out" / "kmer_lr_gene_gene" / "folds.json").read_text())
    assert kmers["cost"]["runs"] == 5
    assert kmers["metrics"]["auroc"] == {"value": folds["metrics"]["auroc"]["mean"], "sd": folds["metrics"]["auroc"]["sd"]}

    bases = planted_motif(n=100, length=100, kind="base")
    write_dataset(tmp_path / "zdna", bases, {"task": "zdna", "window": 100, "split": "chromosome"})
    here("reproduce", "held_out/zdna_100_zscore", "--data", "zdna", "--set", "evaluate.bootstrap=5", "-o", "out")
    rule = json.loads((tmp_path / "out" / "zdna_100_zscore.results.json").read_text())
    own = json.loads((tmp_path / "out" / "zdna_100_zscore" / "results.json").read_text())["splits"]["test"]["metrics"]
    assert rule["metrics"]["auprc"]["value"] == pytest.approx(own["auprc"]["value"], abs=1e-6)
    assert rule["status"].startswith("run: a rule")
    stamp = (tmp_path / "out" / "zdna_100_zscore" / "run.json").stat().st_mtime_ns
    here("reproduce", "held_out/zdna_100_zscore", "--data", "zdna", "--set", "evaluate.bootstrap=5", "-o", "out")
    assert (tmp_path / "out" / "zdna_100_zscore" / "run.json").stat().st_mtime_ns == stamp


def test_transfer_asks_the_models_of_one_species_about_another(here, tmp_path):
    examples = polya_sets(tmp_path / "human", n=400)
    turned = examples.assign(label=1 - examples["label"])
    write_dataset(tmp_path / "mouse", turned, {"task": "polya", "negatives": "gene", "variant": "published", "window": 101})
    simple = ("--set", "backbone.config.bins=1", "--set", "backbone.config.ks=[4]")
    here("reproduce", "polya_glm/kmer_lr_gene_gene", "--data", "human", "--transfer", "mouse", "-o", "out", *simple)
    result = json.loads((tmp_path / "out" / "kmer_lr_gene_gene.results.json").read_text())
    assert result["data"]["transfer"]["path"] == "mouse"
    assert result["metrics"]["auroc"]["value"] > 0.8
    assert result["metrics"]["transfer.auroc"]["value"] < 0.2  # the same sequences, labels turned around
    assert result["metrics"]["transfer.auroc"]["sd"] < 0.2


def test_results_name_no_folder_of_the_machine(here, tmp_path):
    write_dataset(tmp_path / "zdna", planted_motif(n=60, length=100, kind="base"), {"task": "zdna", "window": 100, "split": "random"})
    small = [("--set", f"backbone.config.{key}={value}") for key, value in {"d_model": 8, "n_layer": 1, "d_inner": 16}.items()]
    common = ("--data", tmp_path / "zdna", "--set", "train.steps=2", "--set", "evaluate.bootstrap=0")
    recipe = ("reproduce", "hyenadna_structures/zdna_electra_head")
    here(*recipe, *common, *sum(small, ()), "--init", "random", "-o", "first")
    here(*recipe, *common, "--init", tmp_path / "first" / "zdna_electra_head", "-o", "second")
    text = (tmp_path / "second" / "zdna_electra_head.results.json").read_text()
    assert str(tmp_path) not in text
    result = json.loads(text)
    assert result["status"] == "run from the local checkpoint zdna_electra_head"
    assert 'backbone.init="zdna_electra_head"' in result["settings"]
    assert result["cost"]["cpu_seconds"] > 0
    assert result["cost"]["steps"] == 2


def test_tables_hold_what_the_results_say(here, tmp_path, capsys):
    write_dataset(tmp_path / "zdna", planted_motif(n=60, length=100, kind="base"), {"task": "zdna", "window": 100, "split": "random"})
    small = [("--set", f"backbone.config.{key}={value}") for key, value in {"d_model": 8, "n_layer": 1, "d_inner": 16}.items()]
    here("reproduce", "hyenadna_structures/zdna_two_phase", "--data", "zdna", "--init", "random", "-o", "out", *sum(small, ()), "--set",
         "train.steps=2", "--set", "evaluate.bootstrap=5")  # fmt: skip
    capsys.readouterr()
    names = ("hyenadna_structures/zdna_two_phase", "hyenadna_structures/zdna_5fold")
    here("recipes", "table", *names, "--columns", "f1,paper:f1,parameters,trainable,seconds,init,settings", "--results", "out")
    heading, _, run, absent = capsys.readouterr().out.splitlines()
    assert heading == "| recipe | f1 | expected f1 | parameters | trainable % | CPU s | weights | settings |"
    result = json.loads((tmp_path / "out" / "zdna_two_phase.results.json").read_text())
    f1 = result["metrics"]["f1"]
    cells = [cell.strip() for cell in run.strip("|").split("|")]
    assert cells[0] == "`hyenadna_structures/zdna_two_phase`"
    assert cells[1] == f"{f1['value']:.3f} ({f1['low']:.3f}-{f1['high']:.3f})"
    assert cells[2:5] == ["0.6401", f"{result['cost']['parameters']:,}", "100.00"]
    assert cells[6] == "random weights"
    assert cells[7] == "`backbone.config.d_model=8`, `backbone.config.n_layer=1`, `backbone.config.d_inner=16`, `train.steps=2`"
    assert absent == "| `hyenadna_structures/zdna_5fold` | not run | 0.6378 |  |  |  |  |  |"

    page = tmp_path / "page.md"
    page.write_text(f"# A page\n<!-- results {' '.join(names)} | f1 paper:f1 -->\nstale\n<!-- /results -->\nThe end\n")
    here("recipes", "table", "--update", page, "--results", "out")
    first = page.read_text()
    assert "stale" not in first
    assert first.startswith("# A page\n<!-- results ")
    assert first.endswith("<!-- /results -->\nThe end\n")
    assert f"| {cells[1]} | 0.6401 |" in first
    assert update_page(first, tmp_path / "out") == first
    for arguments, said in ((("recipes", "table"), "--update PAGE"), (("recipes", "table", "nothing/such"), "no shipped recipe matches")):
        with pytest.raises(BasewiseError, match=said):
            here(*arguments)


def test_kept_results_belong_to_their_recipes_and_pages_are_up_to_date(repo):
    kept = {name: load_results(name) for name in shipped_recipes()}
    for name, result in kept.items():
        recipe = load_recipe(name)
        told = [e.status.startswith("not run") for e in recipe.expected]
        if result is None:
            assert all(told), f"{name} says it was run, but has no results beside it"
            continue
        assert result["recipe"] == name
        assert not any(told), f"{name} says it was not run, but has results beside it"
        assert not result["status"].startswith("quick")
        assert "/" not in "".join(result["settings"]), "a folder of some machine"
        for row, expected in zip(result["expected"], recipe.expected, strict=True):
            assert (row["metric"], row["value"], row["tolerance"]) == (expected.metric, expected.value, expected.tolerance)
            assert row["reached"] == result["metrics"].get(row["metric"], {}).get("value")
    for page in ("README.md", "docs/results.md"):
        text = (repo / page).read_text(encoding="utf-8")
        assert "<!-- results " in text
        assert update_page(text) == text, f"basewise recipes table --update {page}"
    assert np.isfinite([result["metrics"]["auroc"]["value"] for result in kept.values() if result]).all()
    assert "not run" in table(["hyenadna_structures/zdna_5fold"], ["f1"]) or kept["hyenadna_structures/zdna_5fold"] is not None
