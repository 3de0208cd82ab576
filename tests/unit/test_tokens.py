"""Base-level datasets from intervals, interval metrics and the rules, against counts by hand and naive loops."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from basewise.backbones.rules import Config, Model
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.datasets.folder import open_dataset
from basewise.errors import BasewiseError
from basewise.evaluation.spans import interval_metrics
from basewise.genome.alphabet import reverse_complement
from basewise.genome.fasta import open_genome
from basewise.tasks.tokens import TokenOptions, build_tokens
from basewise.testing.datasets import planted_dataset
from basewise.testing.genomes import random_genome, write_fasta
from basewise.training.baselines import train_baseline


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    bases = random_genome(0, {"a": 2000, "b": 1000, "c": 955})
    bases["c"] = b"N" * 100 + bases["c"][100:]
    with open_genome(write_fasta(tmp_path_factory.mktemp("g") / "g.fa", bases)) as opened:
        yield opened


INTERVALS = pd.DataFrame(
    {
        "chrom": ["a", "a", "a", "b", "c", "c"],
        "start": [10, 20, 190, 500, 300, 320],
        "end": [25, 30, 210, 520, 320, 330],  # 10-30 in one window, 190-210 over an edge, 300-330 in one
    }
)


def build(genome, **settings):
    return build_tokens(genome, INTERVALS, TokenOptions(**{"test_chroms": ("c",), "val_chroms": ("b",), **settings}))


def test_windows_labels_and_ratio(genome):
    examples, manifest = build(genome, complete=True)
    marks = {chrom: np.zeros(n, np.int8) for chrom, n in genome.contigs.items()}
    for row in INTERVALS.itertuples():
        marks[row.chrom][row.start : row.end] = 1
    marks["c"][:100] = -1
    for row in examples.itertuples():
        assert row.sequence == genome.fetch(row.chrom, row.start, row.end).tobytes().decode()
        assert np.array_equal(row.label, marks[row.chrom][row.start : row.end])
    positive = examples["label"].map(lambda x: bool((x == 1).any()))
    sampled = examples["split"] != "complete"
    assert positive[sampled].groupby(examples["chrom"]).sum().to_dict() == {"a": 3, "b": 1, "c": 1}
    assert ((~positive[sampled]).groupby(examples["chrom"]).sum() >= [9, 3, 2]).all()  # one drawn may be all N
    whole = examples[~sampled]
    assert sum(len(label) for label in whole["label"]) == 855  # contig c without its window of N
    assert sum(int((label == 1).sum()) for label in whole["label"]) == 30
    assert manifest["task"] == "tokens"
    assert manifest["test_chroms"] == ["c"]


def test_flanks_are_not_scored_and_end_at_the_contig(genome):
    examples, _ = build(genome, flank=30)
    first = examples[(examples["chrom"] == "a") & (examples["start"] == 0)].iloc[0]
    assert first["end"] == 130
    assert (first["label"][100:] == -1).all()
    assert int((first["label"] == 1).sum()) == 20
    inner = examples[(examples["chrom"] == "a") & (examples["start"] == 70)].iloc[0]
    assert (inner["label"] >= 0).tolist() == [False] * 30 + [True] * 100 + [False] * 30


@pytest.mark.parametrize(("overlap", "windows", "bases"), [("keep", 3, 40), ("ignore", 1, 20), ("drop", 1, 20)])
def test_intervals_cut_by_an_edge(genome, overlap, windows, bases):
    examples, manifest = build(genome, overlap=overlap)
    mine = examples[examples["chrom"] == "a"]
    ones = [int((label == 1).sum()) for label in mine["label"]]
    assert (sum(n > 0 for n in ones), sum(ones)) == (windows, bases)
    assert bool(manifest["dropped"].get("window: its edge cuts an interval")) == (overlap == "drop")
    if overlap == "ignore":
        assert sum(int((label == -1).sum()) for label in mine["label"]) == 20


def test_random_split_is_stratified_by_window(genome):
    many = pd.DataFrame({"chrom": "a", "start": np.arange(0, 2000, 200), "end": np.arange(0, 2000, 200) + 5})
    examples, _ = build_tokens(genome, many, TokenOptions(split="random", ratio=1))
    positive = examples["label"].map(lambda x: bool((x == 1).any()))
    assert examples.loc[positive, "split"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 2}
    assert examples.loc[~positive, "split"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 2}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"overlap": "kep"}, "Did you mean 'keep'"),
        ({"window": 0}, "window >= 1"),
        ({"ratio": float("nan")}, "ratio nan.*ratio >= 0"),
        ({"ratio": float("inf")}, "ratio inf"),
        ({"split": "random"}, "belong to split 'chromosome'"),
        ({"stride": 50, "complete": True}, "every base once"),
    ],
)
def test_options_that_cannot_be(genome, settings, said):
    with pytest.raises(BasewiseError, match=said):
        build(genome, **settings)


def test_intervals_beyond_the_contig_are_refused(genome):
    with pytest.raises(BasewiseError, match="beyond the end"):
        build_tokens(genome, pd.DataFrame({"chrom": ["b"], "start": [990], "end": [1001]}), TokenOptions())


def test_interval_metrics_by_hand():
    place = np.array([0, 1, 2, 3, 4, 10, 11, 12, 13, 20, 21])
    truth = np.array([1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1])  # 0-2, 11-13, 21-22
    calls = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1])  # 1-3 hit, 4-5, 10-11, 13-14 miss, 21-22 hit
    scores = interval_metrics(place, truth, calls)
    assert scores["interval_precision"]["value"] == pytest.approx(2 / 5)
    assert scores["interval_recall"]["value"] == pytest.approx(2 / 3)
    assert scores["interval_f1"]["value"] == pytest.approx(0.5)
    assert interval_metrics(place, truth, calls * 0)["interval_f1"] == {"value": 0.0}
    assert interval_metrics(place, truth * 0, calls * 0)["interval_f1"] == {"value": None}


def test_windows_side_by_side_are_one_interval():
    assert interval_metrics(np.arange(8), [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0])["interval_recall"] == {"value": 1.0}


def g4hunter(sequence, window):
    score, i = [0] * len(sequence), 0
    while i < len(sequence):
        j = i
        while j < len(sequence) and sequence[j] == sequence[i]:
            j += 1
        value = min(j - i, 4) * {"G": 1, "C": -1}.get(sequence[i], 0)
        score[i:j] = [value] * (j - i)
        i = j
    return score, window


def zscore(sequence, window):
    weights = dict.fromkeys(("CG", "GC"), 1.0) | dict.fromkeys(("CA", "TG", "AC", "GT"), 0.5) | dict.fromkeys(("TA", "AT"), 0.1)
    return [weights.get(sequence[i : i + 2], -1.0) for i in range(len(sequence) - 1)], window - 1


@pytest.mark.parametrize(("rule", "naive", "window"), [("g4hunter", g4hunter, 25), ("zscore", zscore, 12), ("g4-regex", g4hunter, 25)])
def test_rules_against_a_loop(rule, naive, window):
    rng = np.random.default_rng(3)
    sequence = "".join(rng.choice(list("ACGT"), 150, p=[0.1, 0.4, 0.4, 0.1])) + "NNGGGGGGTTGGGTTGGGGACGCGCGCGCGTATAN"
    padded = "N" * 40 + sequence + "N" * 40
    scores, width = naive(padded, window)
    means = [np.mean(scores[i : i + width]) for i in range(len(padded) - window + 1)]
    means = np.array(means) if rule == "zscore" else np.abs(means)
    expected = [means[i - window + 1 : i + 1].max() for i in range(40, 40 + len(sequence))]
    if rule == "g4-regex":
        expected = np.array(expected) / 4 + np.maximum(in_any_match(sequence, "G"), in_any_match(sequence, "C"))
    model, tokenizer = Model(Config(rule=rule)), CharacterTokenizer("none")

    def ask(*rows):
        tokens = tokenizer.tokenize(list(rows))
        return model.encode(model.embed(tokens.ids), tokens.mask)[..., 0]

    assert ask(sequence)[0].numpy() == pytest.approx(np.array(expected), abs=1e-5)
    assert torch.allclose(ask(reverse_complement(sequence))[0].flip(0), ask(sequence)[0], atol=1e-6)
    assert torch.allclose(ask(sequence, sequence[:50])[1, :50], ask(sequence[:50])[0], atol=1e-6)  # neighbours and padding do not matter


def in_any_match(sequence, base):
    """Return 1 for every base of every substring that is a match of the pattern, each found by Python's re."""
    pattern = re.compile(rf"{base}{{3,}}(?:[ACGT]{{1,7}}?{base}{{3,}}){{3,}}")
    inside = np.zeros(len(sequence))
    for start in range(len(sequence)):
        if sequence.startswith(3 * base, start):
            for end in range(start + 15, min(len(sequence), start + 80) + 1):
                if sequence.startswith(3 * base, end - 3) and pattern.fullmatch(sequence, start, end):
                    inside[start:end] = 1
    return inside


def test_the_g4_pattern_finds_the_bases_of_all_matches():
    regex, hunter, tokenizer = Model(Config(rule="g4-regex")), Model(Config(rule="g4hunter")), CharacterTokenizer("none")
    rng, covered = np.random.default_rng(0), 0.0
    fixed = ["GGGAGGGNGGGAGGGAGGG", "A" * 9 + "GGG" + "A" * 7 + "G" * 14 + "C" * 7 + "GGGTGGG" + "T" * 80, "TT" + "C" * 15 + "TT", "G" * 14]
    drawn = ["".join(rng.choice(list("ACGTN"), 90, p=p)) for p in 6 * [[0.09, 0.15, 0.55, 0.2, 0.01], [0.2, 0.5, 0.2, 0.1, 0.0]]]
    for sequence in fixed + drawn:
        tokens = tokenizer.tokenize([sequence])
        score, plain = (m.encode(m.embed(tokens.ids), tokens.mask)[0, :, 0].numpy() for m in (regex, hunter))
        expected = np.maximum(in_any_match(sequence, "G"), in_any_match(sequence, "C"))
        covered += expected.sum()
        np.testing.assert_allclose(score - plain / 4, expected, atol=1e-6)
    assert 200 < covered < 900  # neither none nor all


def test_potential_quadruplexes_of_both_strands_in_tetrads():
    model, tokenizer = Model(Config(rule="pqs")), CharacterTokenizer("none")
    plus, minus = "GGGTGGGTGGGTGGG", "CCCCTCCCCACCTCCACCCC"  # 73 and, with a bulge in the third run, 93
    tokens = tokenizer.tokenize([f"AA{plus}AA{minus}ANN", f"TA{plus}"])
    score = model.encode(model.embed(tokens.ids), tokens.mask)[..., 0]
    expected = [0] * 2 + [73 / 40] * 15 + [0] * 2 + [93 / 40] * 20 + [0] * 3
    assert score[0].tolist() == pytest.approx(expected)
    assert score[1].tolist() == pytest.approx([0] * 2 + [73 / 40] * 15 + [0] * 25)
    with pytest.raises(ValueError, match="window 20 is given, and rule pqs averages over none"):
        Config(rule="pqs", window=20)


def test_a_perfect_g_quadruplex_scores_as_published():
    model, tokenizer = Model(Config(rule="g4hunter")), CharacterTokenizer("none")
    tokens = tokenizer.tokenize(["A" * 30 + "GGGGGTTGGGGTTGGGGTTGGGGTT" + "A" * 30])  # 17 G of 4 each over 25
    assert model.encode(model.embed(tokens.ids), tokens.mask)[0, 40, 0].item() == pytest.approx(17 * 4 / 25)


def test_command_line_builds_and_judges_a_rule(tmp_path, monkeypatch):
    from basewise.cli.main import app

    rng = np.random.default_rng(0)
    bases, rows = random_genome(1, dict.fromkeys(("x", "y", "z"), 6000), at=0.7), []
    for chrom in bases:
        text = bytearray(bases[chrom])
        for place in rng.choice(50, 12, replace=False) * 110 + 30:
            text[place : place + 24] = b"GGGTTAGGGTTAGGGTTAGGGTTA"
            rows.append(f"{chrom}\t{place}\t{place + 21}\n")
        bases[chrom] = bytes(text)
    write_fasta(tmp_path / "g.fa", bases)
    (tmp_path / "g4.bed").write_text("".join(rows))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["basewise", *arguments])
        app(list(arguments), standalone_mode=False)

    chroms = ("--test-chroms", "z", "--val-chroms", "y")
    run(
        "build",
        "g4",
        "--genome",
        "g.fa",
        "--intervals",
        "g4.bed",
        "-o",
        "data",
        *chroms,
        "--complete-eval",
        "--window",
        "60",
        "--seed",
        "2",
    )
    dataset = open_dataset(tmp_path / "data")
    assert set(dataset.examples["split"]) == {"train", "val", "test", "complete"}
    run("baseline", "g4hunter", "--data", "data", "-o", "rule", "--set", "evaluate.bootstrap=20")
    results = json.loads((tmp_path / "rule" / "results.json").read_text())
    sampled, complete = results["splits"]["test"], results["complete"]
    assert complete["n"] == 6000
    assert sampled["n"] < 6000
    assert complete["prevalence"] < sampled["prevalence"]
    assert sampled["metrics"]["auroc"]["value"] > 0.95  # windows reach over the ends of what they find
    assert complete["metrics"]["interval_recall"]["value"] > 0.7
    assert complete["metrics"]["interval_f1"]["value"] > 0.7
    run("evaluate", "rule", "--data", "data", "--split", "complete", "-o", "again.json", "--bootstrap", "0")
    again = json.loads((tmp_path / "again.json").read_text())["overall"]["metrics"]
    assert again["interval_f1"]["value"] == pytest.approx(complete["metrics"]["interval_f1"]["value"])


def test_rules_are_for_bases(tmp_path):
    dataset = open_dataset(planted_dataset(tmp_path / "motif", n=20))
    with pytest.raises(BasewiseError, match="base-level"):
        train_baseline("zscore", dataset, tmp_path / "no")
