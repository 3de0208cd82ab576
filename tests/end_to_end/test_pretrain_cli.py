"""From a FASTA to a pretrained backbone and on to what starts from it, as a user would do it."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from basewise import zoo
from basewise.backbones import catalog
from basewise.backbones.checkpoints import load_official, load_pretrained
from basewise.genome.fasta import open_genome
from basewise.recipes.pretraining import Pretrain
from basewise.recipes.schema import load_recipe
from basewise.testing.datasets import planted_dataset
from basewise.testing.genomes import write_fasta
from basewise.training.next_base import as_language_model, foresee
from basewise.training.windows import evenly, tiles

EMBEDDED = "hyenadna-tiny-hg19"
SHAPE = "backbone.config={d_model=16, n_layer=1, d_inner=32, l_max=130, filter_order=16}"
QUICK = [
    part
    for setting in (SHAPE, "pretrain.length=64", "train.steps=80", "train.lr=1e-2", "train.validate_every=40", "pretrain.half=true")
    for part in ("--set", setting)
]


def periodic(seed, length, motif="ACGTTGCAAATC", errors=0.05):
    """Return a repeated motif with errors: order-0 entropy near ln 4, the next base almost certain from the ones before."""
    rng = np.random.default_rng(seed)
    bases = np.frombuffer((motif * (length // len(motif) + 1))[:length].encode(), np.uint8).copy()
    wrong = rng.random(length) < errors
    bases[wrong] = rng.choice(np.frombuffer(b"ACGT", np.uint8), int(wrong.sum()))
    return bases.tobytes()


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    contigs = {"one": periodic(1, 8000), "two": b"N" * 500 + periodic(2, 4000), "val": periodic(3, 1000), "test": periodic(4, 1500)}
    return write_fasta(tmp_path_factory.mktemp("g") / "genome.fa", contigs)


def test_pretrain_then_embed_fewshot_and_train(basewise, genome, tmp_path):
    run = tmp_path / "run"
    how = ["--genome", genome, "--config", "hyenadna", "--val-chroms", "val", "--test-chroms", "test", *QUICK]
    said = basewise("pretrain", *how, "-o", run)
    results = json.loads((run / "results.json").read_text())
    test = results["splits"]["test"]
    counts = np.unique(np.frombuffer(periodic(4, 1500), np.uint8), return_counts=True)[1] / 1500
    order0 = -(counts * np.log(counts)).sum()
    assert test["metrics"]["nats"]["value"] < order0 - 0.05
    assert f"test: {test['metrics']['nats']['value']:.4f} nats a base" in said.stdout
    assert test["n"] == 1500 - math.ceil(1500 / 64)  # the first base of each window is not asked for
    assert test["markov"]["nats"] < order0
    assert test["uniform"] == math.log(4)
    assert results["bases_read"] == 80 * 16 * 64
    assert results["genome"]["contigs"] == {"train": ["one", "two"], "val": ["val"], "test": ["test"]}
    assert {p.name for p in run.iterdir()} >= {"recipe.toml", "log.jsonl", "model", "results.json", "README.md", "run.json"}
    assert any("tfevents" in p.name for p in run.iterdir())
    assert all(tensor.dtype is torch.float16 for tensor in load_file(run / "model" / "model.safetensors").values())
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines() if "loss" in json.loads(line)]
    assert losses[-1] < losses[0]
    backbone, tokenizer = load_official(run / "model")
    with open_genome(genome) as g:  # the number in the file is that of the stored weights
        windows = [("test", s, min(s + 64, 1500)) for s in range(0, 1500, 64)]
        model, settings = as_language_model(backbone, run), Pretrain(length=64)
        again = foresee(model, tokenizer, g, windows, settings, batch_size=3, device=torch.device("cpu"))
    assert again.nats / again.bases == pytest.approx(test["metrics"]["nats"]["value"], abs=1e-6)

    basewise("report", run, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"{test['metrics']['nats']['value']:.4f}" in page
    assert f"{test['markov']['nats']:.4f}" in page
    basewise("pretrain", *how, "-o", run, code=1)  # it is there
    assert basewise("pretrain", *how, "-o", run, "--resume").stdout == said.stdout
    dataset = planted_dataset(tmp_path / "motif", n=60)
    basewise("embed", run, genome_as_queries(tmp_path), "-o", tmp_path / "v.parquet")
    assert len(pd.read_parquet(tmp_path / "v.parquet")["embedding"][0]) == 16
    few = ["--methods", "prototype", "--repeats", 1, "--folds", 3, "--shots", 1]
    basewise("fewshot", "--data", dataset, "--backbones", run, *few, "-o", tmp_path / "few")
    basewise("train", "--data", dataset, "--backbone", "hyenadna", "--init", run, "--set", "train.steps=1", "-o", tmp_path / "tuned")
    frozen = ["--set", "train.freeze_backbone=true", "--set", "train.steps=1"]
    basewise("train", "--data", dataset, "--backbone", "hyenadna", "--init", run, *frozen, "-o", tmp_path / "frozen")
    trained = load_file(tmp_path / "frozen" / "model" / "model.safetensors")
    for name, tensor in load_file(run / "model" / "model.safetensors").items():
        assert torch.equal(trained[f"backbone.{name}"], tensor.float())


def genome_as_queries(folder):
    return write_fasta(folder / "queries.fa", {"q1": "ACGTACGTTGCA", "q2": "TTGACA" * 4})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "dnabert2-117m"], "hyenadna"),
        (["--config", "convnet"], "is of convnet"),
        (["--config", "hyenadna-tiny-1kk"], "Did you mean 'hyenadna-tiny-1k'"),
        (
            ["--config", "hyenadna-tiny-1k", "--set", "pretrain.length=2000"],
            "pretrain.length is 2000, but this hyenadna takes at most 1026",
        ),
        (["--config", "hyenadna-tiny-1k", "--val-chroms", "nowhere"], "nowhere"),
        (["--config", "hyenadna-tiny-1k", "--set", "pretrain.lenght=8", "--set", "pretrain.max_n=2"], "2 problems"),
        (["--config", "hyenadna-tiny-1k", "--set", "train.crop=8"], "leave out train.crop"),
        (["--config", "hyenadna-tiny-1k", "--set", "train.metric=auroc"], 'train.metric is "loss"'),
        ([], "give a recipe"),
        (["basewise/cnn"], "no section [pretrain]"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(basewise, genome, tmp_path, arguments, said):
    done = basewise("pretrain", *arguments, "--genome", genome, "-o", tmp_path / "run", code=1)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_pretraining_recipe(basewise, tmp_path):
    data = planted_dataset(tmp_path / "motif", n=40)
    done = basewise("train", "basewise/pretrain_tiny_hg19", "--data", data, "-o", tmp_path / "run", code=1)
    assert "basewise pretrain" in done.stderr


def test_the_embedded_backbone_is_offline_everywhere(basewise, tmp_path, monkeypatch):
    monkeypatch.setenv("BASEWISE_MODELS", str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert EMBEDDED in zoo.backbones()
    assert EMBEDDED not in zoo.names()
    row = next(line for line in basewise("models", "list").stdout.splitlines() if line.startswith(EMBEDDED))
    assert "embedded" in row
    assert str(zoo.folder(EMBEDDED)) in row
    assert "nothing to fetch" in basewise("models", "fetch", EMBEDDED, code=1).stderr
    queries = genome_as_queries(tmp_path)
    basewise("embed", EMBEDDED, queries, "-o", tmp_path / "v.parquet")
    vectors = np.stack(pd.read_parquet(tmp_path / "v.parquet")["embedding"])
    assert vectors.shape == (2, 128)
    assert "answers no question yet" in basewise("predict", EMBEDDED, queries, "-o", tmp_path / "p.tsv", code=1).stderr
    dataset = planted_dataset(tmp_path / "motif", n=60)
    few = ["--methods", "prototype", "--repeats", 1, "--folds", 3, "--shots", 1]
    basewise("fewshot", "--data", dataset, "--backbones", EMBEDDED, *few, "-o", tmp_path / "few")
    summary = json.loads((tmp_path / "few" / "fewshot.json").read_text())["summary"]
    assert [row["backbone"] for row in summary] == [EMBEDDED]
    stored = load_file(zoo.folder(EMBEDDED) / "model.safetensors")
    for number, (name, init) in enumerate([(EMBEDDED, "pretrained"), ("hyenadna", EMBEDDED)]):
        chosen = ["--set", f"backbone.name={name}", "--set", f"backbone.init={init}"]
        quick = ["--set", "train.steps=1", "--set", "train.freeze_backbone=true", "--set", "evaluate.bootstrap=0"]
        out = tmp_path / f"tuned{number}"
        basewise("train", "--data", dataset, "--backbone", "hyenadna", *chosen, *quick, "-o", out)
        trained = load_file(out / "model" / "model.safetensors")
        assert all(torch.equal(trained[f"backbone.{key}"], tensor.float()) for key, tensor in stored.items())


def test_the_embedded_backbone_is_small_and_says_where_it_comes_from():
    folder = zoo.folder(EMBEDDED)
    assert sum(p.stat().st_size for p in folder.iterdir()) < 4e6
    results = json.loads((folder / "results.json").read_text())
    recipe = load_recipe(folder / "recipe.toml")
    assert load_recipe("basewise/pretrain_tiny_hg19") == recipe
    test = results["splits"]["test"]
    assert test["metrics"]["nats"]["value"] < test["markov"]["nats"] < test["uniform"]
    assert f"{test['metrics']['nats']['value']:.4f}" in (folder / "README.md").read_text()
    backbone, _ = load_pretrained(EMBEDDED)
    assert backbone.config.model_dump().items() >= catalog.config_of(EMBEDDED).items()


@pytest.mark.data
def test_the_embedded_backbone_foresees_chr19_as_its_card_says(shared):
    results = json.loads((zoo.folder(EMBEDDED) / "results.json").read_text())
    real = load_official(shared / "golden" / "real" / "hyenadna-tiny-1k")  # trained weights of others: compared with, never started from
    nats = {}
    with open_genome(shared / "data" / "genome" / "hg19_pieces.fa.gz") as genome:
        windows = evenly(tiles(genome, ["chr19_50000001_59128983"], 1024), 200)
        for name, (backbone, tokenizer) in {"own": load_pretrained(EMBEDDED), "real": real}.items():
            model = as_language_model(backbone, name)
            found = foresee(model, tokenizer, genome, windows, Pretrain(), batch_size=32, device=torch.device("cpu"))
            nats[name] = found.nats / found.bases
    assert nats["own"] == pytest.approx(results["splits"]["test"]["metrics"]["nats"]["value"], abs=0.06)
    assert nats["real"] == pytest.approx(1.235, abs=0.06)  # measured over 500 windows; its README says about 1.26 on human DNA
