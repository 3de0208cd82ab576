"""What a run says of itself when it is over: intervals that respect neighbours, a card that says where its threshold comes from."""

import numpy as np
import pytest
from typer.testing import CliRunner

from basewise.backbones.classifier import save_classifier
from basewise.cli.main import app
from basewise.cli.train import resolve
from basewise.datasets.folder import open_dataset
from basewise.errors import BasewiseError
from basewise.evaluation.evaluate import evaluate_model
from basewise.evaluation.judge import judge_bases
from basewise.evaluation.scoring import score_logits, scored_labels
from basewise.files import prepare_output_folder
from basewise.recipes.schema import recipe_from
from basewise.testing.datasets import planted_dataset, planted_motif
from basewise.testing.models import tiny_classifier
from basewise.training.finish import judge_complete, model_card

TOY = {"name": "toy", "backbone": {"name": "convnet"}, "train": {"epochs": 1}}


def test_bases_of_split_complete_are_resampled_by_their_group():
    """Bases are no independent observations: taken one by one, the interval would be several times too narrow."""
    recipe = recipe_from({**TOY, "head": {"kind": "base"}, "evaluate": {"bootstrap": 40}}, "toy")
    classifier = tiny_classifier(kind="base")
    examples = planted_motif(n=60, kind="base").assign(split="complete")
    examples["group"] = [f"g{i // 10}" for i in range(len(examples))]
    found = judge_complete(recipe, classifier, examples, 32)
    assert found is not None
    labels, flat, source = scored_labels(examples, score_logits(classifier, examples["sequence"].tolist()), "base")
    groups = examples["group"].to_numpy(dtype=object)[source]
    expected, alone = (
        judge_bases(examples, labels, classifier.answers(flat), source, classifier.config.threshold, bootstrap=40, seed=0, groups=g)
        for g in (groups, None)
    )
    assert found == expected
    assert found["metrics"]["auroc"] != alone["metrics"]["auroc"]


@pytest.mark.parametrize(
    ("sections", "splits", "said"),
    [
        ({}, ("val", "test"), "- threshold 0.5 (max_f1, chosen on the validation split)"),
        ({}, ("test",), "- threshold 0.5 (no validation split to choose it on)"),
        ({"evaluate": {"threshold": 0.5}}, ("val",), "- threshold 0.5 (given)"),
        ({"head": {"kind": "individual"}}, ("val",), "- threshold 0.5 on the probability of a group, a vote"),
    ],
)
def test_the_card_says_where_the_threshold_comes_from(sections, splits, said):
    recipe = recipe_from({**TOY, **sections}, "toy")
    results = {"parameters": 1, "best": {"step": 1, "metric": "auroc"}, "steps": 1, "expected": []}
    results["splits"] = {split: {"metrics": {}} for split in splits}
    assert said in model_card(recipe, tiny_classifier(), results, {}).splitlines()


def test_the_card_of_several_classes_has_no_threshold():
    recipe = recipe_from({**TOY, "head": {"labels": ["a", "b", "c"]}}, "toy")
    results = {"parameters": 1, "best": {"step": 1, "metric": "mcc"}, "steps": 1, "expected": [], "splits": {}}
    card = model_card(recipe, tiny_classifier(labels=("a", "b", "c")), results, {})
    assert "threshold" not in card
    assert "- probability = softmax(logits / 1)" in card


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": 1.5}, "expected a probability"),
        ({"threshold": float("nan")}, "expected a probability"),
        ({"bootstrap": -1}, "bootstrap is -1"),
    ],
)
def test_numbers_that_cannot_be_are_not_evaluated_with(tmp_path, settings, said):
    dataset = open_dataset(planted_dataset(tmp_path / "d", n=20))
    save_classifier(tiny_classifier(), tmp_path / "m")
    with pytest.raises(BasewiseError, match=said):
        evaluate_model(tmp_path / "m", dataset, **settings)


@pytest.mark.parametrize("settings", [{"threshold": 0.3}, {"prevalence": 0.1}])
def test_several_classes_have_neither_threshold_nor_prevalence(tmp_path, settings):
    dataset = open_dataset(planted_dataset(tmp_path / "d", n=20))
    save_classifier(tiny_classifier(labels=("a", "b", "c")), tmp_path / "m")
    with pytest.raises(BasewiseError, match="for two labels"):
        evaluate_model(tmp_path / "m", dataset, **settings)
    assert np.isfinite(evaluate_model(tmp_path / "m", dataset, bootstrap=0)["overall"]["metrics"]["accuracy"]["value"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--backbone", "convnet", "--data", "d", "--fold-by", "group"), "--fold-by says how --folds divides"),
        (("perturb", "m", "s.csv", "-o", "out", "--reach", "5"), "--reach is about motifs put in: add --insert"),
        (("kmers", "a", "b", "-o", "out.tsv", "--bootstrap", "5"), "--bootstrap is for the k-mers of one folder"),
        (("build", "broken", "--genome", "g.fa", "-o", "out", "--copies", "3"), "--copies says how often each of --sequences"),
        (("report", "d", "--genome", "g.fa"), "--genome and --model are of scans"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    planted_dataset(tmp_path / "d", n=20)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 1
    assert said in str(done.exception)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_a_failed_command_left_empty_is_not_in_the_way(tmp_path):
    prepare_output_folder(tmp_path / "out")
    prepare_output_folder(tmp_path / "out")
    (tmp_path / "out" / "work").touch()
    with pytest.raises(BasewiseError, match="is not empty"):
        prepare_output_folder(tmp_path / "out")


@pytest.mark.parametrize(("backbone", "kind"), [("kmers", "sequence"), ("rules", "base")])
def test_the_default_recipe_of_what_is_fitted_asks_for_nothing_that_is_trained(tmp_path, backbone, kind):
    recipe = resolve(None, tmp_path, backbone, None, [], kind_of=lambda _: {"kind": kind, "task": "toy"})
    assert (recipe.train.steps, recipe.kind) == (1, kind)
