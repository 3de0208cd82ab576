"""From a dataset folder to numbers, through the command line; the files are opened and the numbers computed again."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from basewise.backbones.classifier import load_classifier
from basewise.datasets.folder import open_dataset
from basewise.evaluation.baselines import kmer_frequencies
from basewise.evaluation.scoring import score_logits
from basewise.recipes.schema import load_recipe, recipe_from
from basewise.testing.datasets import MOTIF, planted_dataset
from basewise.training.baselines import train_baseline
from basewise.training.train import train

CONVNET = {"name": "convnet", "config": {"width": 16, "stem_kernel": 9, "blocks": [{"kernel": 3}]}}
HYENA = {
    "name": "hyenadna",
    "config": {"d_model": 32, "n_layer": 2, "d_inner": 64, "l_max": 42, "embed_dropout": 0.0, "filter_order": 16},
}


@pytest.fixture(scope="module")
def motif(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("data") / "motif", n=2000)


@pytest.fixture(scope="module")
def motif_bases(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("data") / "bases", n=500, kind="base")


@pytest.fixture
def here(monkeypatch):
    """Run the command line in this process: fast, and our own code all the same."""

    def run(*arguments):
        from basewise.cli.main import app

        monkeypatch.setattr(sys, "argv", ["basewise", *map(str, arguments)])
        app([str(a) for a in arguments], standalone_mode=False)

    return run


def toml(path, backbone, **train_settings):
    from basewise.recipes.schema import recipe_to_toml

    table = {"name": "toy", "task": "motif", "backbone": backbone, "train": {"epochs": 6, "lr": 1e-2, "batch_size": 32, **train_settings}}
    path.write_text(recipe_to_toml(recipe_from(table, "toy")))
    return path


@pytest.mark.parametrize(("backbone", "lr", "epochs"), [(CONVNET, 1e-2, 6), (HYENA, 5e-3, 5)], ids=["convnet", "hyenadna"])
def test_a_planted_motif_is_learnt(motif, tmp_path, backbone, lr, epochs):
    table = {"name": "toy", "backbone": backbone, "train": {"epochs": epochs, "lr": lr, "batch_size": 32}, "evaluate": {"bootstrap": 0}}
    r = recipe_from(table, "toy")
    result = train(r, open_dataset(motif), tmp_path / "run")
    assert result["splits"]["test"]["metrics"]["auroc"]["value"] > 0.99


def test_planted_bases_are_found_from_both_sides(motif_bases, tmp_path):
    head = {"kind": "base"}
    r = recipe_from(
        {"name": "toy", "backbone": CONVNET, "head": head, "train": {"epochs": 8, "lr": 1e-2, "batch_size": 16, "metric": "auprc"}}, "t"
    )
    result = train(r, open_dataset(motif_bases), tmp_path / "run")
    verdict = result["splits"]["test"]
    assert verdict["n"] == 100 * 41
    assert verdict["metrics"]["auroc"]["value"] > 0.99
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    test = table[table["split"] == "test"]
    y, p = np.concatenate(test["label"].to_list()), np.concatenate(test["probability"].to_list())
    assert verdict["metrics"]["auprc"]["value"] == pytest.approx(sk.average_precision_score(y, p), abs=1e-6)


def test_run_folder_and_evaluate(motif, tmp_path, here, capsys):
    run = tmp_path / "run"
    recipe = toml(tmp_path / "r.toml", CONVNET)
    here("train", recipe, "--data", motif, "-o", run, "--set", "evaluate.bootstrap=50", "--set", "train.seed=3")
    shown = capsys.readouterr()
    assert "auroc" in shown.out
    assert sorted(p.name for p in run.iterdir() if p.name != ".basewise") == [
        "README.md", "events.out.tfevents.basewise", "log.jsonl", "model", "predictions.parquet", "recipe.toml", "results.json", "run.json",
    ]  # fmt: skip

    resolved = load_recipe(run / "recipe.toml")
    assert (resolved.train.seed, resolved.evaluate.bootstrap, resolved.data.path) == (3, 50, str(motif))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 6 * -(-1200 // 32)
    assert {"loss", "lr", "seconds"} <= set(log[0])
    assert log[-2]["loss"] < log[0]["loss"]

    results = json.loads((run / "results.json").read_text())
    table = pd.read_parquet(run / "predictions.parquet")
    assert set(table["split"]) == {"val", "test"}
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    calibration = results["calibration"]
    again = 1 / (1 + np.exp(-(table["logit"].to_numpy(np.float64) / calibration["temperature"] + calibration["bias"])))
    np.testing.assert_allclose(table["probability"], again, atol=1e-6)
    # the threshold is the one with the best F1 on validation
    p, y = val["probability"].to_numpy(np.float64), val["label"].to_numpy()
    best = max(sk.f1_score(y, p >= t) for t in np.unique(p))
    assert sk.f1_score(y, p >= results["threshold"]) == pytest.approx(best)

    classifier = load_classifier(run)
    assert classifier.config.threshold == results["threshold"]
    logits = score_logits(classifier, open_dataset(motif).examples["sequence"].iloc[table["example"]].tolist())
    np.testing.assert_allclose(np.concatenate(logits), table["logit"], atol=1e-5)

    about = json.loads((run / "run.json").read_text())
    assert about["model_sha256"] == classifier.sha256
    assert about["seed"] == 3
    card = (run / "README.md").read_text()
    assert f"{results['splits']['test']['metrics']['auroc']['value']:.4f}" in card
    assert (run / "model" / "README.md").read_text() == card

    out = tmp_path / "evaluation.json"
    here("evaluate", run, "--data", motif, "-o", out, "--bootstrap", 20, "--by", "chrom")
    evaluation = json.loads(out.read_text())
    p, y = test["probability"].to_numpy(np.float64), test["label"].to_numpy()
    hard = (p >= results["threshold"]).astype(int)
    wanted = {
        "accuracy": sk.accuracy_score(y, hard), "precision": sk.precision_score(y, hard), "recall": sk.recall_score(y, hard),
        "f1": sk.f1_score(y, hard), "mcc": sk.matthews_corrcoef(y, hard), "auroc": sk.roc_auc_score(y, p),
        "auprc": sk.average_precision_score(y, p), "brier": sk.brier_score_loss(y, p),
    }  # fmt: skip
    for name, value in wanted.items():
        entry = evaluation["overall"]["metrics"][name]
        assert entry["value"] == pytest.approx(value, abs=1e-6), name
        assert results["splits"]["test"]["metrics"][name]["value"] == pytest.approx(value, abs=1e-6), name
        assert entry["low"] <= entry["high"]
    assert list(evaluation["groups"]) == ["chr5"]
    assert evaluation["provenance"]["model_sha256"] == classifier.sha256

    here("evaluate", run, "--data", motif, "-o", out, "--bootstrap", 0, "--prevalence", 0.01, "--split", "all", "--threshold", 0.5)
    rare = json.loads(out.read_text())["overall"]
    assert rare["n"] == 2000
    assert rare["threshold"] == 0.5
    assert rare["prevalence"] == 0.01
    p = classifier.probabilities(np.stack(score_logits(classifier, open_dataset(motif).examples["sequence"].tolist())))
    y = open_dataset(motif).examples["label"].to_numpy()
    w = np.where(y == 1, 1.0, 99.0)
    assert rare["metrics"]["auprc"]["value"] == pytest.approx(sk.average_precision_score(y, p, sample_weight=w), abs=1e-6)


def test_default_recipe_from_data_and_backbone_and_weights_of_another_run(motif, tmp_path, here):
    common = ("--data", motif, "--set", "train.steps=5", "--set", "evaluate.bootstrap=0")
    here("train", *common, "--backbone", "convnet", "-o", tmp_path / "first", "--set", "backbone.config.width=8")
    here("train", *common, "--backbone", "convnet", "--init", tmp_path / "first", "-o", tmp_path / "second", "--set", "train.lr=1e-12")
    first, second = load_classifier(tmp_path / "first"), load_classifier(tmp_path / "second")
    assert second.backbone.config == first.backbone.config
    same = first.backbone.members[0].stem.conv.weight - second.backbone.members[0].stem.conv.weight
    assert float(same.detach().abs().max()) < 1e-6


def test_wrong_recipe_is_one_line_that_lists_everything(motif, tmp_path, basewise):
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "x"\n[backbone]\nnam = "convnet"\n[train]\nepochs = 1\nlearning_rate = 1\nscheduler = "cosin"\n')
    done = basewise("train", recipe, "--data", motif, "-o", tmp_path / "run", code=1)
    assert len(done.stderr.strip().splitlines()) == 1
    for part in ("4 problems", "'backbone.nam'. Did you mean 'name'?", "'backbone.name' is missing", "learning_rate", "'train.scheduler'"):
        assert part in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "-o", "run"), "give a recipe, or --data"),
        (("train", "polya_glm/hyenadna_gene_gene", "-o", "run"), "names no dataset"),
        (("train", "--backbone", "convnett", "--data", "DATA", "-o", "run"), "Did you mean 'convnet'"),
        (("train", "--backbone", "convnet", "--init", "nowhere", "--data", "DATA", "-o", "run"), "path of a folder"),
        (("train", "--backbone", "hyenadna-tiny-1k", "--set", "backbone.config.l_max=9", "--data", "DATA", "-o", "run"), "takes at most 9"),
        (("evaluate", "nowhere", "--data", "DATA"), "no model 'nowhere'"),
        (("baseline", "kmer-rl", "--data", "DATA", "-o", "run"), "Did you mean 'kmer-lr'"),
    ],
)
def test_mistakes_on_the_command_line(motif, tmp_path, monkeypatch, here, arguments, said):
    from basewise.errors import BasewiseError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(BasewiseError, match=said):
        here(*[motif if a == "DATA" else a for a in arguments])
    assert not (tmp_path / "run").exists()


def test_evaluate_mistakes(motif, motif_bases, tmp_path, here):
    from basewise.errors import BasewiseError

    here("baseline", "kmer-lr", "--data", motif, "-o", tmp_path / "run", "--set", "evaluate.bootstrap=0", "--set", "backbone.config.ks=[2]")
    with pytest.raises(BasewiseError, match="Did you mean 'chrom'"):
        here("evaluate", tmp_path / "run", "--data", motif, "--by", "crhom")
    with pytest.raises(BasewiseError, match="there are: test, train, val"):
        here("evaluate", tmp_path / "run", "--data", motif, "--split", "tset")
    with pytest.raises(BasewiseError, match='of kind "base"'):
        here("evaluate", tmp_path / "run", "--data", motif_bases)
    with pytest.raises(BasewiseError, match="use the cnn baseline"):
        here("baseline", "kmer-lr", "--data", motif_bases, "-o", tmp_path / "other")


@pytest.mark.parametrize("bins", [1, 3])
def test_kmer_baseline_is_sklearns_model_behind_our_interface(motif, tmp_path, here, bins):
    from sklearn.linear_model import LogisticRegression

    run = tmp_path / "run"
    here("baseline", "kmer-lr", "--data", motif, "-o", run, "--set", f"backbone.config.bins={bins}", "--set", "backbone.config.ks=[2, 4]")
    examples = open_dataset(motif).examples
    train_part, test = (examples[examples["split"] == split] for split in ("train", "test"))
    x = kmer_frequencies(train_part["sequence"].tolist(), (2, 4), bins)
    assert x.shape == (len(train_part), bins * (16 + 256))
    assert x[0].sum() == pytest.approx((40 + 38) / 41)
    scale = np.sqrt((x.toarray() ** 2).mean(0))
    scale[scale == 0] = 1
    strength = json.loads((run / "results.json").read_text())["best"]["strength"]
    oracle = LogisticRegression(C=strength, max_iter=1000).fit(x.toarray() / scale, train_part["label"])
    logits = oracle.decision_function(kmer_frequencies(test["sequence"].tolist(), (2, 4), bins).toarray() / scale)
    table = pd.read_parquet(run / "predictions.parquet")
    np.testing.assert_allclose(table[table["split"] == "test"]["logit"], logits, atol=2e-3)
    here("evaluate", run, "--data", motif, "--bootstrap", 0, "-o", tmp_path / "e.json")
    value = json.loads((tmp_path / "e.json").read_text())["overall"]["metrics"]["auroc"]["value"]
    assert value == pytest.approx(sk.roc_auc_score(test["label"], logits), abs=1e-3)


def test_cnn_and_random_init_baselines_and_the_window(motif, tmp_path, here):
    small = ("--set", "train.steps=4", "--set", "evaluate.bootstrap=0", "--set", "backbone.config.width=4")
    here("baseline", "cnn", "--data", motif, "-o", tmp_path / "cnn", "--window", 21, *small)
    model = load_classifier(tmp_path / "cnn")
    assert model.config.window == 21
    sequence = "A" * 10 + "ACGTACGTACTTACGTACGTA" + "C" * 10  # 41 bases: only the 21 in the middle are read
    whole, middle = score_logits(model, [sequence, sequence[10:31]])
    np.testing.assert_allclose(whole, middle, atol=1e-6)
    tiny = [f"backbone.config.{key}={value}" for key, value in {"d_model": 8, "n_layer": 1, "d_inner": 16}.items()]
    settings = [*tiny, "train.steps=2", "evaluate.bootstrap=0", 'backbone.init="elsewhere"']
    train_baseline("random-init", open_dataset(motif), tmp_path / "control", settings=settings)
    assert load_recipe(tmp_path / "control" / "recipe.toml").backbone.init == "random"


def test_kmer_counts_by_hand():
    x = kmer_frequencies(["ACNAC", MOTIF], (2,), bins=2).toarray() * [[5], [8]]
    assert x[0].nonzero()[0].tolist() == [1, 17]  # AC in the first half (place 0) and in the second (place 3)
    assert x[1].sum() == 7
