"""Few-shot classification against sklearn, torch and closed forms."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from basewise.datasets.folder import open_dataset
from basewise.datasets.splits import fold
from basewise.errors import BasewiseError
from basewise.evaluation.metrics import binary_metrics
from basewise.inference.embed import Embedder, embed_sequences
from basewise.recipes.schema import Backbone, recipe_from
from basewise.testing.datasets import planted_dataset
from basewise.training.baselines import fit
from basewise.training.build import new_backbone
from basewise.training.fewshot import fewshot, prototype_probabilities
from basewise.training.train import train


@pytest.fixture(scope="module")
def motif(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("d") / "motif", n=150)


def test_prototypes_against_torch():
    rng = np.random.default_rng(0)
    queries, positive, negative = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 7), (7,), (7,)))
    similar = [torch.cosine_similarity(torch.tensor(queries), torch.tensor(v)[None]) for v in (negative, positive)]
    expected = torch.softmax(torch.stack(similar, 1), 1)[:, 1]
    assert prototype_probabilities(queries, positive, negative) == pytest.approx(expected.numpy(), abs=1e-6)
    assert prototype_probabilities(queries * 9, positive * 3, negative)[0] == pytest.approx(expected[0].item(), abs=1e-6)


def test_one_command_over_backbones_and_methods(motif, tmp_path, monkeypatch):
    from basewise.cli.main import app

    toy = {"name": "toy", "backbone": {"name": "convnet", "config": {"width": 6, "stem_kernel": 9, "blocks": [{"kernel": 3}]}}}
    toy |= {"train": {"steps": 3, "batch_size": 8}, "evaluate": {"bootstrap": 0}}
    train(recipe_from(toy, "toy"), open_dataset(motif), tmp_path / "run")
    arguments = ["fewshot", "--data", str(motif), "--backbones", f"{tmp_path / 'run'},hyenadna-tiny-1k", "--init", "random"]
    arguments += ["--repeats", "3", "--folds", "3", "--shots", "4", "-o", str(tmp_path / "few")]
    monkeypatch.setattr(sys, "argv", ["basewise", *arguments])
    app(arguments, standalone_mode=False)
    result = json.loads((tmp_path / "few" / "fewshot.json").read_text())
    assert [(last_part(row["backbone"]), row["method"]) for row in result["summary"]] == [
        (name, method) for name in ("run", "hyenadna-tiny-1k") for method in ("prototype", "knn", "probe")
    ]
    assert len(result["runs"]) == 2 * 3 * (3 + 1 + 1)
    mine = [r["metrics"]["f1"] for r in result["runs"] if r["backbone"] == "hyenadna-tiny-1k" and r["method"] == "prototype"]
    assert result["summary"][3]["metrics"]["f1"]["mean"] == pytest.approx(np.mean(mine))
    assert result["summary"][3]["metrics"]["f1"]["sd"] == pytest.approx(np.std(np.reshape(mine, (3, 3)).mean(1), ddof=1))

    examples = open_dataset(motif).examples
    with torch.random.fork_rng():
        torch.manual_seed(0)
        embedder = Embedder(*new_backbone(Backbone(name="hyenadna-tiny-1k")))
    x, y = np.stack(embed_sequences(embedder, examples["sequence"].tolist())), examples["label"].to_numpy()
    split = fold(examples, 1, 3, 0)["split"].to_numpy()
    probe = next(r for r in result["runs"] if r["backbone"] == "hyenadna-tiny-1k" and r["method"] == "probe" and r["fold"] == 1)
    scaler = StandardScaler().fit(x[split == "train"])
    model = LogisticRegression(C=probe["strength"], max_iter=1000).fit(scaler.transform(x[split == "train"]), y[split == "train"])
    p = model.predict_proba(scaler.transform(x[split == "test"]))[:, 1]
    assert probe["metrics"]["auroc"] == pytest.approx(binary_metrics(y[split == "test"], p)["auroc"], abs=2e-3)


def last_part(path):
    return path.rsplit("/", 1)[-1]


def test_separable_embeddings_are_classified(motif, tmp_path):
    from dataclasses import replace

    dataset = open_dataset(motif)
    rich = replace(
        dataset, examples=dataset.examples.assign(sequence=["GC" * 20 + "A" if y else "AT" * 20 + "A" for y in dataset.examples["label"]])
    )
    for row in fewshot(rich, ["hyenadna-tiny-1k"], tmp_path / "few", init="random", repeats=2, folds=3)["summary"]:
        assert row["metrics"]["accuracy"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shots": 1000}, "ask for fewer"),
        ({"methods": ["prob"]}, "Did you mean 'probe'"),
        ({"backbones": ["hyenadna-tiny"], "init": "pretrained"}, "hyenadna-tiny"),
        ({"init": "randm"}, "expected pretrained or random"),
        ({"backbones": ["some/run"]}, "init 'random' is for catalog names"),
    ],
)
def test_bad_questions_are_one_line(motif, tmp_path, settings, said):
    values = {"backbones": ["hyenadna-tiny-1k"], "init": "random", **settings}
    with pytest.raises(BasewiseError, match=said):
        fewshot(open_dataset(motif), values.pop("backbones"), tmp_path / "few", **values)


def test_one_class_alone_is_one_line(motif, tmp_path):
    dataset = open_dataset(motif)
    one = replace(dataset, examples=dataset.examples[dataset.examples["label"] == 1])
    with pytest.raises(BasewiseError, match=r"holds labels \[1\], expected examples of both 0 and 1"):
        fewshot(one, ["hyenadna-tiny-1k"], tmp_path / "few", init="random")
    assert not (tmp_path / "few").exists()


def test_a_few_shot_recipe_is_not_trained(motif, tmp_path):
    recipe = recipe_from({"name": "few", "backbone": {"name": "convnet"}, "train": {"epochs": 1}, "fewshot": {}}, "few")
    with pytest.raises(BasewiseError, match=r"section \[fewshot\] and trains nothing"):
        fit(recipe, open_dataset(motif), tmp_path / "run")
    assert not (tmp_path / "run").exists()
