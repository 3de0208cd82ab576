"""Embeddings equal the direct call, whatever the batch; files hold them in order; every option changes what it says."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from basewise.backbones.checkpoints import load_official, load_official_classifier
from basewise.backbones.classifier import save_classifier
from basewise.errors import BasewiseError
from basewise.inference import embed as module
from basewise.inference.embed import embed_file, embed_sequences, load_embedder
from basewise.inference.inputs import open_inputs
from basewise.testing.models import tiny_classifier
from basewise.testing.published import KINDS, write_published

SEQUENCES = ["ACGTNACGTT", "GATTACA", "T", "acgtrACGTACGTAC", "CCCCGGGGTTTTAAAACC", "NNNN"]
every = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def embedder(kind, tmp_path):
    return load_embedder(write_published(tmp_path / "model", kind))


def by_hand(embedder, sequence, layer=None):
    """(L, D): each base has the state of the token that covers it."""
    tokens = embedder.tokenizer.tokenize([sequence])
    with torch.inference_mode():
        embedded = embedder.backbone.embed(tokens.ids)
        hidden, layers = embedder.backbone.encode(embedded, tokens.mask, layers=True)
    states = (hidden if layer is None else [embedded, *layers][layer])[0]
    out = np.full((len(sequence), states.shape[1]), np.nan, dtype=np.float32)
    for (start, end), state in zip(tokens.spans[0].tolist(), states.numpy(), strict=True):
        out[start:end] = state
    return out


@every
@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_equals_the_direct_call_at_any_batch_size(embedder, layer):
    expected = [by_hand(embedder, sequence, layer) for sequence in SEQUENCES]
    for batch_size in (1, 2, 64):
        bases = embed_sequences(embedder, SEQUENCES, level="base", layer=layer, batch_size=batch_size)
        means = embed_sequences(embedder, SEQUENCES, layer=layer, batch_size=batch_size)
        for base, mean, want in zip(bases, means, expected, strict=True):
            assert base.dtype == mean.dtype == np.float32
            assert base.shape == want.shape
            assert np.abs(base - want).max() < 1e-5
            assert np.abs(mean - want.mean(axis=0)).max() < 1e-5


@every
def test_modes_and_gradients_are_given_back(embedder):
    embedder.backbone.train()
    embed_sequences(embedder, SEQUENCES[:2])
    assert embedder.backbone.training
    assert all(p.requires_grad for p in embedder.backbone.parameters())


@pytest.mark.parametrize("kind", ["gena_lm"])
def test_bad_requests_are_one_line(embedder, tmp_path):
    for options, match in (({"layer": 3}, "expected 0 .input embedding. to 2"), ({"batch_size": 0}, "batch size is 0")):
        with pytest.raises(BasewiseError, match=match):
            embed_sequences(embedder, SEQUENCES, **options)
    with pytest.raises(BasewiseError, match="sequence 2 is empty"):
        embed_sequences(embedder, ["A", ""])
    with pytest.raises(BasewiseError, match="takes at most 40"):
        embed_sequences(embedder, ["ACGATC" * 30])
    (tmp_path / "x.csv").write_text("sequence,embedding\nACGT,1\n")
    with pytest.raises(BasewiseError, match="already has a column 'embedding'"):
        embed_file(embedder, open_inputs(tmp_path / "x.csv"), tmp_path / "x.parquet")
    with pytest.raises(BasewiseError, match=r"expected \.parquet or \.npz"):
        embed_file(embedder, open_inputs(tmp_path / "x.csv"), tmp_path / "x.h5")
    (tmp_path / "y.csv").write_text("sequence\nACGT\n" + "ACGATC" * 30 + "\n")
    with pytest.raises(BasewiseError, match=r"y.csv, rows 1 to 2: a sequence of up to 180 bases"):
        embed_file(embedder, open_inputs(tmp_path / "y.csv"), tmp_path / "y.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "x.csv", "y.csv"]


def test_layers_of_a_convolution_network(tmp_path):
    classifier = tiny_classifier()
    embedder = module.Embedder(classifier.backbone, classifier.tokenizer)
    width = embedder.backbone.embed(embedder.tokenizer.tokenize(["A"]).ids).shape[-1]
    assert embed_sequences(embedder, ["ACGT"], layer=0)[0].shape == (width,) != (8,)
    (tmp_path / "in.csv").write_text("sequence\nACGT\nTT\n")
    assert embed_file(embedder, open_inputs(tmp_path / "in.csv"), tmp_path / "x.npz", level="base", layer=0) == (2, width)
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["embedding"].shape == (6, width)
    with pytest.raises(BasewiseError, match="last hidden state only"):
        embed_sequences(embedder, ["ACGT"], layer=1)


@pytest.mark.parametrize("kind", ["dnabert2"])
@pytest.mark.parametrize("level", ["sequence", "base"])
def test_files_hold_the_same_numbers_in_order(embedder, level, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "VALUES_A_PIECE", 24 * 30)  # so that a piece is a few sequences
    table = pd.DataFrame({"id": [f"s{i}" for i in range(30)], "sequence": SEQUENCES * 5, "n": range(30)})
    table.to_csv(tmp_path / "in.tsv", sep="\t", index=False)
    want = embed_sequences(embedder, list(table["sequence"]), level=level)
    inputs = open_inputs(tmp_path / "in.tsv", rows=7)
    for suffix in ("parquet", "npz"):
        done = embed_file(embedder, inputs, tmp_path / f"out.{suffix}", level=level, batch_size=3)
        assert done == (30, 24)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups >= 5
    got = pd.read_parquet(tmp_path / "out.parquet")
    assert list(got.columns) == ["id", "n", *(["length"] if level == "base" else []), "embedding"]
    assert list(got["id"]) == list(table["id"])
    assert list(got["n"]) == list(range(30))
    for value, expected in zip(got["embedding"], want, strict=True):
        assert np.abs(value.reshape(expected.shape) - expected).max() < 1e-5
    with np.load(tmp_path / "out.npz") as archive:
        flat = archive["embedding"]
        assert flat.dtype == np.float32
        assert list(archive["id"]) == list(table["id"])
        if level == "base":
            offset = archive["offset"]
            assert list(np.diff(offset)) == [len(s) for s in table["sequence"]] == list(got["length"])
            pieces = [flat[a:b] for a, b in pairwise(offset)]
        else:
            pieces = list(flat)
    assert max(np.abs(a - b).max() for a, b in zip(pieces, want, strict=True)) < 1e-5


def test_command_on_classifier_and_checkpoint(basewise, tmp_path):
    checkpoint = write_published(tmp_path / "published", "dnabert2", classes=2)
    save_classifier(load_official_classifier(checkpoint), tmp_path / "model")
    (tmp_path / "in.fa").write_text(">a\nACGTACGTTT\n>b\nGATTACA\n")
    basewise("embed", checkpoint, tmp_path / "in.fa", "-o", tmp_path / "a.npz")
    basewise(
        "embed",
        tmp_path / "model",
        tmp_path / "in.fa",
        "-o",
        tmp_path / "b.parquet",
        "--level",
        "base",
        "--layer",
        "1",
        "--batch-size",
        "1",
    )
    embedder = module.Embedder(*load_official(checkpoint))
    with np.load(tmp_path / "a.npz") as archive:
        assert np.abs(archive["embedding"] - np.stack(embed_sequences(embedder, ["ACGTACGTTT", "GATTACA"]))).max() < 1e-5
    got = pd.read_parquet(tmp_path / "b.parquet")
    assert list(got["length"]) == [10, 7]
    assert np.abs(got["embedding"][1].reshape(7, 24) - embed_sequences(embedder, ["GATTACA"], level="base", layer=1)[0]).max() < 1e-5
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    bad = basewise("embed", checkpoint, tmp_path / "in.fa", "-o", tmp_path / "c.npz", code=1)
    assert "missing: layers.2" in bad.stderr
    assert not (tmp_path / "c.npz").exists()
