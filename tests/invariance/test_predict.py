"""Predictions: the same whatever the order, batch, length of neighbours, case; and files in, files out."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from basewise.backbones.classifier import load_classifier
from basewise.cli.main import app
from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.inference import predict
from basewise.inference.engine import score_positions
from basewise.inference.inputs import open_inputs
from basewise.inference.predict import predict_bases, predict_file, predict_sequences
from basewise.testing.models import tiny_classifier


def sequences(count=30, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGTN"), rng.integers(1, 90))) for _ in range(count)]


def direct(classifier, sequence):
    """The classifier called by hand on one sequence, or on the 23 bases in its middle that a model of whole sequences was trained on."""
    assert classifier.config.window == 23
    if classifier.config.kind == "sequence" and len(sequence) > 23:
        sequence = sequence[len(sequence) // 2 - 11 : len(sequence) // 2 + 12]
    with torch.no_grad():
        logits = classifier(classifier.tokenize([sequence]))
    if classifier.config.kind == "base":
        logits = logits[:, len(sequence) // 2]
    return classifier.probabilities(logits)[0]


@pytest.mark.parametrize("settings", [{}, {"pool": "mean"}, {"kind": "base"}, {"labels": ("a", "b", "c")}])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_equals_the_direct_call_at_any_batch_size(settings, batch_size):
    classifier = tiny_classifier(**settings)
    given = sequences()
    answers = predict_sequences(classifier, given, batch_size)
    expected = np.array([direct(classifier, sequence) for sequence in given])
    assert answers.dtype == np.float32
    assert answers.shape == ((30, 3) if "labels" in settings else (30,))
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    assert answers.std() > 0.01


def test_long_sequences_make_small_batches(monkeypatch):
    monkeypatch.setattr(predict, "_BASES_A_BATCH", 100)
    classifier = tiny_classifier(kind="base")  # reads sequences whole
    sizes = []
    tokenize = classifier.tokenize
    monkeypatch.setattr(classifier, "tokenize", lambda rows: sizes.append(sum(map(len, rows))) or tokenize(rows), raising=False)
    predict_sequences(classifier, sequences(), 64)
    assert max(sizes) <= 100
    assert len(sizes) > 10


def test_case_and_iupac_are_read_as_documented():
    classifier = tiny_classifier()
    upper, odd = predict_sequences(classifier, ["ACGTNNTTACG", "acgtRyuUACG"])
    assert upper == odd


def test_bytes_and_text_are_the_same():
    classifier = tiny_classifier()
    assert predict_sequences(classifier, ["ACGTT"]) == predict_sequences(classifier, [np.frombuffer(b"ACGTT", np.uint8)])


def test_modes_and_gradients_are_as_before_also_after_an_error():
    classifier = tiny_classifier().train()
    classifier.head.eval()
    before = {name: module.training for name, module in classifier.named_modules()}
    predict_sequences(classifier, ["ACGT"])
    classifier.backbone.max_tokens = 10
    with pytest.raises(BasewiseError, match="a sequence of 11 bases makes 11 tokens, convnet takes at most 10"):
        predict_sequences(classifier, ["ACGT", "ACGTACGTACG"])
    assert {name: module.training for name, module in classifier.named_modules()} == before
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_no_sequence_no_answer():
    assert predict_sequences(tiny_classifier(), []).shape == (0,)
    assert predict_sequences(tiny_classifier(labels=("a", "b", "c")), []).shape == (0, 3)


def test_bad_requests():
    with pytest.raises(BasewiseError, match="sequence 2 is empty"):
        predict_sequences(tiny_classifier(), ["A", "", "C"])
    with pytest.raises(BasewiseError, match="batch size is 0"):
        predict_sequences(tiny_classifier(), ["A"], 0)
    with pytest.raises(BasewiseError, match="answers about individuals"):
        predict_sequences(tiny_classifier(kind="individual", pool="mean"), ["A"])


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
@pytest.mark.parametrize("rows", [4, 1000])
def test_file_in_file_out(tmp_path, suffix, rows):
    classifier, given = tiny_classifier(), sequences(10)
    pd.DataFrame({"code": [f"0{i}" for i in range(10)], "sequence": given, "label": range(10)}).to_csv(tmp_path / "in.csv", index=False)
    seen = []
    done = predict_file(classifier, open_inputs(tmp_path / "in.csv", rows=rows), tmp_path / f"out.{suffix}", advance=seen.append)
    assert done.rows == sum(seen) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", f"out.{suffix}"]
    if suffix == "tsv":
        table = pd.read_csv(tmp_path / "out.tsv", sep="\t", dtype={"code": str})
    else:
        assert str(pq.read_schema(tmp_path / "out.parquet").field("probability").type) == "float"
        table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert list(table.columns) == ["code", "sequence", "label", "probability"]
    assert table["code"].tolist() == [f"0{i}" for i in range(10)]
    assert table["label"].tolist() == list(range(10))
    np.testing.assert_allclose(table["probability"], predict_sequences(classifier, given), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_every_base_equals_the_direct_call(batch_size):
    classifier, given = tiny_classifier(kind="base"), sequences()
    for sequence, answers in zip(given, predict_bases(classifier, given, batch_size), strict=True):
        with torch.no_grad():
            expected = classifier.probabilities(classifier(classifier.tokenize([sequence])))[0]
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, expected, atol=1e-6)
    with pytest.raises(BasewiseError, match=r"of kind 'sequence' .* need kind \"base\" and two labels"):
        predict_bases(tiny_classifier(), ["ACG"])


@pytest.mark.parametrize("model", ["zdna", "endoquad"])
def test_every_base_of_intervals_is_answered_as_a_scan_does(tmp_path, model):
    """With their context on the contig, 5' to 3' on their strand; overlapping intervals agree."""
    example = Path(__file__).parents[2] / "examples" / "chr22_20-21Mb.fa.gz"
    with open_genome(example) as genome:
        (chrom,) = genome.contigs
    rows = [(128_300, 128_420, "+"), (128_300, 128_420, "-"), (128_350, 128_361, "-"), (40_000, 40_003, "+")]
    (tmp_path / "in.bed").write_text("".join(f"{chrom}\t{start}\t{end}\tx\t0\t{strand}\n" for start, end, strand in rows))
    done = CliRunner().invoke(
        app, ["predict", model, str(tmp_path / "in.bed"), "-g", str(example), "--every-base", "-o", str(tmp_path / "out.tsv")]
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    answers = [np.array([float(value) for value in row.split(",")]) for row in table["probabilities"]]
    assert [len(row) for row in answers] == [120, 120, 11, 3]
    np.testing.assert_array_equal(answers[1][::-1][50:61], answers[2][::-1])
    classifier = load_classifier(model)
    with open_genome(example) as genome:
        for (start, end, strand), found in zip(rows, answers, strict=True):
            at, sign = np.arange(start, end), np.full(end - start, -1 if strand == "-" else 1, np.int8)
            expected = score_positions(classifier, partial(genome.window, chrom), at, sign)[:: -1 if strand == "-" else 1]
            np.testing.assert_allclose(found, expected, rtol=1e-3)
    predict_file(classifier, open_inputs(tmp_path / "in.bed", example), tmp_path / "center.parquet")
    centers = pq.read_table(tmp_path / "center.parquet")["probability"].to_pylist()
    np.testing.assert_allclose(centers, [row[len(row) // 2] for row in answers], rtol=1e-3)


def test_every_base_in_parquet_is_a_list_column(tmp_path):
    (tmp_path / "in.fa").write_text(">a\nACGTTAGC\n>b\nAC\n")
    predict_file(tiny_classifier(kind="base"), open_inputs(tmp_path / "in.fa"), tmp_path / "out.parquet", every_base=True)
    table = pq.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("probabilities").type) == "list<element: float>"
    assert [len(row) for row in table["probabilities"].to_pylist()] == [8, 2]


def test_several_labels_make_several_columns(tmp_path):
    (tmp_path / "in.fa").write_text(">a\nACGTTAGC\n")
    predict_file(tiny_classifier(labels=("coding", "utr", "other")), open_inputs(tmp_path / "in.fa"), tmp_path / "out.tsv")
    table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    assert list(table.columns) == ["id", "sequence", "probability_coding", "probability_utr", "probability_other"]
    assert table.iloc[0, 2:].sum() == pytest.approx(1, abs=1e-4)


def test_sequences_of_n_alone_are_answered_and_counted(tmp_path, caplog):
    (tmp_path / "in.fa").write_text(">a\nNNNNrNN\n>b\nACG\n")
    with caplog.at_level(logging.WARNING):
        done = predict_file(tiny_classifier(), open_inputs(tmp_path / "in.fa"), tmp_path / "out.tsv")
    assert done == (2, 1)
    assert "1 of 2 sequences hold no A, C, G or T" in caplog.text
    assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["probability"].between(0, 1).all()


@pytest.mark.parametrize(
    ("text", "out", "message"),
    [
        (">a\nACG\n>b\n>c\nA\n", "out.tsv", r"in: sequence 2 \(b\) is empty"),
        ("sequence,probability\nA,1\n", "out.tsv", "already has a column 'probability'"),
        ("sequence\nA\n", "out.xlsx", "ends in '.xlsx', expected .parquet or .tsv"),
        ("sequence\nA\n", "no/out.tsv", "choose a folder that exists"),
    ],
)
def test_nothing_is_written_for_bad_files(tmp_path, text, out, message):
    (tmp_path / "in").write_text(text.replace(",", "\t"))
    name = tmp_path / "in.tsv" if text.startswith("sequence") else tmp_path / "in"
    (tmp_path / "in").rename(name)
    with pytest.raises(BasewiseError, match=message):
        predict_file(tiny_classifier(), open_inputs(name), tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == [name.name]
