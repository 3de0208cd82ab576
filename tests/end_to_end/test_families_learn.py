"""Every backbone family, at toy size, learns to tell sequences with a planted motif from random ones."""

import json

import pytest

from basewise.backbones.registry import FAMILIES
from basewise.datasets.folder import open_dataset, write_dataset
from basewise.recipes.schema import recipe_from
from basewise.testing.datasets import MOTIF, planted_motif
from basewise.testing.published import KINDS, write_published
from basewise.training.baselines import fit

BPE_MOTIF = "TTAACGTTTA"  # three tokens of the toy BPE where its neighbours leave it alone
BLOCKS = [{"kernel": 5, "dilation": 1}, {"kernel": 5, "dilation": 2}]
PYRAMID = {"width": 16, "stem_kernel": 9, "dilations": [1, 2], "join": 1, "coarse_widths": [8], "coarse_dilations": [1], "spread": 4}
SHAPES = {
    "convnet": ({"width": 16, "stem_kernel": 9, "blocks": BLOCKS}, {"steps": 100}),
    "pyramid": ({**PYRAMID, "dropout": 0.0}, {"steps": 80}),
    "hyenadna": ({"d_model": 16, "n_layer": 2, "d_inner": 32, "l_max": 34}, {"steps": 180}),
    "kmers": ({"ks": [4, 6], "bins": 1}, {"steps": 1}),
}
PUBLISHED = [kind for kind in KINDS if kind != "hyenadna"]


def auroc(tmp_path, backbone, motif=MOTIF, **train):
    examples = planted_motif(n=2000, length=21, motif=motif)
    dataset = open_dataset(write_dataset(tmp_path / "data", examples, {"task": "motif", "window": 21}).path)
    steps = train["steps"]
    trained = {} if backbone["name"] == "kmers" else {"batch_size": 48, "lr": 6e-3, "scheduler": "cosine", "validate_every": steps}
    settings = {**trained, **train}
    recipe = recipe_from({"name": "toy", "backbone": backbone, "train": settings, "evaluate": {"bootstrap": 0}}, "the toy recipe")
    return fit(recipe, dataset, tmp_path / "run")["splits"]["test"]["metrics"]["auroc"]["value"]


@pytest.mark.parametrize("family", SHAPES)
def test_family_of_ours_learns_a_planted_motif(family, tmp_path):
    config, train = SHAPES[family]
    rate = {"lr": 4e-3} if family == "hyenadna" else {}
    assert auroc(tmp_path, {"name": family, "config": config}, **train, **rate) > 0.99


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_family_learns_a_planted_motif(kind, tmp_path):
    folder = write_published(tmp_path / "checkpoint", kind)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    family, motif = kind.removesuffix("_v1").removesuffix("_v2"), MOTIF if kind.startswith("nucleotide") else BPE_MOTIF
    assert auroc(tmp_path, {"name": family, "init": str(folder)}, motif, steps=240) > 0.99


def test_no_family_is_left_out():
    shown = {*SHAPES, *(kind.removesuffix("_v1").removesuffix("_v2") for kind in PUBLISHED)}
    assert set(FAMILIES) - shown == {"rules"}, "rules learn nothing"
