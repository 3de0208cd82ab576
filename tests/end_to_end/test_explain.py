"""`basewise explain`, `kmers`, `perturb`, `attention` and `report` as a user runs them: numbers in the files, every flag, errors."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from basewise.backbones.classifier import load_classifier, save_classifier
from basewise.cli.main import app
from basewise.genome.alphabet import reverse_complement
from basewise.genome.fasta import open_genome
from basewise.genome.tracks import read_bigwig
from basewise.interpretation.attribute import Settings, attribute
from basewise.testing.families import tiny_family
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    save_classifier(tiny_classifier(0), folder / "conv")
    save_classifier(tiny_family("hyenadna", kind="base"), folder / "bases")
    save_classifier(tiny_family("nucleotide_transformer"), folder / "nt")
    save_classifier(tiny_family("hyenadna", kind="individual"), folder / "people")
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 41)) for _ in range(8)]
    sequences = [text[:9] + "AATAAA" + text[15:] for text in sequences[:6]] + sequences[6:]
    labels = [1, 1, 1, 1, 0, 0, 0, 0]
    pd.DataFrame({"id": [f"s{i}" for i in range(8)], "sequence": sequences, "label": labels}).to_csv(folder / "s.csv", index=False)
    pd.DataFrame({"sequence": sequences[:2], "label": [1, 0]}).to_csv(folder / "few.csv", index=False)
    pd.DataFrame({"sequence": sequences[:3], "label": ["01" * 20 + "1", "1" * 41, "0" * 41]}).to_csv(folder / "b.csv", index=False)
    pd.DataFrame({"sequence": sequences[:4], "group": ["x", "y", "x", "y"]}).to_csv(folder / "p.csv", index=False)
    write_fasta(folder / "g.fa", random_genome(1, {"chr1": 300, "chr2": 60}))
    (folder / "i.bed").write_text("chr1\t100\t101\ta\t0\t+\nchr1\t105\t106\tb\t0\t-\nchr2\t2\t3\tc\t0\t-\n")
    return folder


def run(*args, code=0):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if code == 0:
        assert result.exit_code == 0, (result.output, result.exception)
    else:
        assert result.exit_code != 0
    return result


def test_attributions_of_a_table(place, tmp_path):
    out = tmp_path / "why"
    run("explain", place / "conv", place / "s.csv", "--steps", 20, "-o", out)
    table = pq.read_table(out / "attributions.parquet").to_pandas()
    assert table["id"].tolist() == [f"s{i}" for i in range(8)]
    classifier = load_classifier(place / "conv")
    for row, answer in zip(table.to_dict("records"), attribute(classifier, table["sequence"], settings=Settings(steps=20)), strict=True):
        np.testing.assert_allclose(row["scores"], answer.scores, atol=1e-6)
        assert row["scores"].dtype == np.float32
        assert row["logit"] == pytest.approx(answer.logit, abs=1e-6)
        assert abs(row["scores"].sum() + row["special"] - row["logit"] + row["baseline_logit"]) == pytest.approx(
            row["completeness_error"], abs=1e-5
        )
        assert row["target"] == "positive"
    said = json.loads((out / "explain.json").read_text())
    assert said["counts"]["sequences"] == said["counts"]["explained"] == 8
    assert said["completeness"]["max_absolute"] == pytest.approx(table["completeness_error"].max())
    assert said["model"]["sha256"] == classifier.sha256
    assert not (out / "attributions.bw").exists()
    page = (out / "report.html").read_text()
    assert "Completeness error" in page
    assert page.count("<svg") >= 8
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)


def test_intervals_become_a_track(place, tmp_path):
    out = tmp_path / "why"
    run("explain", place / "conv", place / "i.bed", "-g", place / "g.fa", "-o", out)
    table = pq.read_table(out / "attributions.parquet").to_pandas()
    assert table["id"].tolist() == ["a", "b", "c"]
    assert table["start"].tolist() == [89, 94, -9]  # window 23: 11 bases on either side
    sums, counts = {}, {}
    with open_genome(place / "g.fa") as genome:
        for row in table.to_dict("records"):
            bases = genome.window(row["chrom"], row["start"], row["end"])
            text = bytes(reverse_complement(bases) if row["strand"] == "-" else bases).decode()
            assert row["sequence"] == text
            for i, score in enumerate(row["scores"]):
                position = row["end"] - 1 - i if row["strand"] == "-" else row["start"] + i
                if position >= 0:
                    sums[row["chrom"], position] = sums.get((row["chrom"], position), 0) + score
                    counts[row["chrom"], position] = counts.get((row["chrom"], position), 0) + 1
    found = {
        (chrom, position): value
        for chrom, positions, values in read_bigwig(out / "attributions.bw")
        for position, value in zip(positions.tolist(), values.tolist(), strict=True)
    }
    assert found.keys() == sums.keys()
    assert max(counts.values()) == 2
    for key, value in found.items():
        assert value == pytest.approx(sums[key] / counts[key], abs=1e-6)


def test_a_table_without_coordinates_numbers_its_sequences(place, tmp_path):
    """Data sets of sequences alone hold chrom "." and start 0: no place on any genome, and no name."""
    table = pd.read_csv(place / "few.csv").drop(columns="id", errors="ignore")
    table.assign(chrom=".", start=0, end=41, strand=".").to_csv(tmp_path / "t.csv", index=False)
    run("explain", place / "conv", tmp_path / "t.csv", "--steps", 8, "-o", tmp_path / "why")
    found = pq.read_table(tmp_path / "why" / "attributions.parquet").to_pandas()
    assert found["id"].tolist() == ["1", "2"]
    assert "chrom" not in found
    assert not (tmp_path / "why" / "attributions.bw").exists()


def test_tolerance_sets_the_points_and_the_error(place, tmp_path):
    """The transformer of random weights needs more points the less error is allowed; each answer keeps to what was allowed."""
    tables = {}
    for tolerance in (0.5, 1e-4):
        out = tmp_path / f"why{tolerance}"
        run("explain", place / "nt", place / "few.csv", "--tolerance", tolerance, "-o", out)
        tables[tolerance] = table = pq.read_table(out / "attributions.parquet").to_pandas()
        relative = table["completeness_error"] / (table["logit"] - table["baseline_logit"]).abs()
        assert (relative <= tolerance).all()
        said = json.loads((out / "explain.json").read_text())
        assert said["completeness"]["tolerance"] == tolerance
        assert said["counts"]["not_complete"] == 0
    loose, strict = tables[0.5], tables[1e-4]
    assert (strict["steps"] > loose["steps"]).all()
    assert (strict["completeness_error"] < loose["completeness_error"]).all()


CHANGES = [
    ("conv", "s.csv", ["--method", "smoothgrad"]),
    ("conv", "s.csv", ["--method", "ig-smoothgrad", "--samples", 2]),
    ("conv", "s.csv", ["--method", "inputxgrad"]),
    ("conv", "s.csv", ["--method", "ism"]),
    ("conv", "s.csv", ["--target", "negative"]),
    ("conv", "s.csv", ["--baseline", "shuffled"]),
    ("conv", "s.csv", ["--steps", "3"]),
    ("conv", "s.csv", ["--only-tp"]),
    ("bases", "b.csv", ["--target", "tp"]),
    ("bases", "b.csv", ["--target", "3-9"]),
]


@pytest.mark.parametrize(("model", "data", "flags"), CHANGES)
def test_flags_change_the_scores(place, tmp_path, model, data, flags):
    data = data.replace("s.csv", "few.csv")
    run("explain", place / model, place / data, "-o", tmp_path / "a", "--steps", 8)
    steps = [] if {"smoothgrad", "inputxgrad", "ism"} & set(flags) else ["--steps", 8]  # those have no steps
    run("explain", place / model, place / data, "-o", tmp_path / "b", *steps, *flags)
    one, other = (pq.read_table(tmp_path / name / "attributions.parquet").to_pandas() for name in "ab")
    assert one["sequence"].tolist() == other["sequence"].tolist()
    assert any(b is None or not np.allclose(a, b, atol=1e-6) for a, b in zip(one["scores"], other["scores"], strict=True))
    assert ("effects" in other) == ("ism" in flags)


@pytest.mark.parametrize(
    ("base", "flags"),
    [
        (["--method", "smoothgrad", "--samples", 3], ["--seed", 5]),
        (["--method", "smoothgrad", "--samples", 3], ["--sd", 0.5]),
        (["--method", "smoothgrad", "--samples", 3], ["--samples", 4]),
        (["--method", "smoothgrad", "--samples", 3], ["--signed"]),
        (["--method", "ism"], ["--around", 2]),
    ],
)
def test_finer_flags(place, tmp_path, base, flags):
    common = ("explain", place / "conv", place / "few.csv")
    run(*common, *base, "-o", tmp_path / "a", "--batch-size", 3)
    run(*common, *base, *flags, "-o", tmp_path / "b", "--device", "cpu")
    one, other = (pq.read_table(tmp_path / name / "attributions.parquet").to_pandas() for name in "ab")
    assert any(not np.array_equal(a, b) for a, b in zip(one["scores"], other["scores"], strict=True))


def test_only_true_positives_and_kmers(place, tmp_path):
    out = tmp_path / "why"
    run("explain", place / "conv", place / "s.csv", "--only-tp", "-o", out)
    table = pq.read_table(out / "attributions.parquet").to_pandas()
    tp = (table["label"] == 1) & (table["predicted"] == 1)
    assert 0 < tp.sum() < 8
    assert (table["scores"].notna() == tp).all()
    run("kmers", out, "-k", 3, "--restrict", "tp", "-o", tmp_path / "k.tsv")
    kmers = pd.read_csv(tmp_path / "k.tsv", sep="\t").set_index("kmer")
    scores, places = [], 0
    for row in table.to_dict("records"):
        for i in range(len(row["sequence"]) - 2):
            if row["sequence"][i : i + 3] == "AAA":
                places += 1
                if row["scores"] is not None:
                    scores.append(np.mean(row["scores"][i : i + 3], dtype=np.float64))
    assert kmers.loc["AAA", "count"] == len(scores)
    assert kmers.loc["AAA", "mean_score"] == pytest.approx(np.mean(scores), rel=1e-5)
    assert kmers.loc["AAA", "occurrences"] == places
    assert kmers.loc["AAA", "importance"] == pytest.approx(len(scores) / places, rel=1e-5)
    assert kmers["mean_score"].is_monotonic_decreasing
    text = (tmp_path / "k.tsv").read_text()
    for flags in (["-k", 4], ["--of", "sum"], ["--min-count", 3], ["--merge-strands"], ["--normalize"], ["--bootstrap", 20]):
        run("kmers", out, "-k", 3, "--restrict", "tp", *flags, "-o", tmp_path / "other.tsv")
        assert (tmp_path / "other.tsv").read_text() != text
    run("kmers", out, "-k", 3, "--bootstrap", 20, "--seed", 1, "-o", tmp_path / "one.tsv")
    run("kmers", out, "-k", 3, "--bootstrap", 20, "--seed", 2, "--meme", tmp_path / "m.meme", "-o", tmp_path / "two.tsv")
    assert (tmp_path / "one.tsv").read_text() != (tmp_path / "two.tsv").read_text()
    assert (tmp_path / "m.meme").read_text().startswith("MEME version 4")


def test_consensus_of_two_folders(place, tmp_path):
    for name, method in (("ig", "ig"), ("gradient", "inputxgrad")):
        run("explain", place / "conv", place / "s.csv", "--method", method, "-o", tmp_path / name)
    run("kmers", tmp_path / "ig", tmp_path / "gradient", "-k", 2, "-o", tmp_path / "c.tsv")
    table = pd.read_csv(tmp_path / "c.tsv", sep="\t").set_index("kmer")
    for name in ("ig", "gradient"):
        run("kmers", tmp_path / name, "-k", 2, "-o", tmp_path / "one.tsv")
        one = pd.read_csv(tmp_path / "one.tsv", sep="\t").set_index("kmer")["mean_score"]
        deviation = 100 * (one - one.mean()) / abs(one.mean())
        np.testing.assert_allclose(table[f"deviation_{name}"], deviation[table.index], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(table["mean_deviation"], (table["deviation_ig"] + table["deviation_gradient"]) / 2, rtol=1e-4, atol=1e-4)


def test_true_positives_of_bases(place, tmp_path):
    out = tmp_path / "why"
    run("explain", place / "bases", place / "b.csv", "--target", "tp", "-o", out)
    table = pq.read_table(out / "attributions.parquet").to_pandas()
    assert [list(labels) for labels in table["labels"]] == [[0, 1] * 20 + [1], [1] * 41, [0] * 41]
    assert table["scores"].isna().tolist() == [False, False, True]
    classifier = load_classifier(place / "bases")
    logits = classifier(classifier.tokenize([table["sequence"][1]]))[0, :, 0]
    called = classifier.probabilities(logits[:, None]) >= classifier.config.threshold
    assert table["predicted_bases"][1].tolist() == called.astype(int).tolist()
    assert table["logit"][1] == pytest.approx(float(logits[called].sum().detach()), abs=1e-4)
    run("kmers", out, "-k", 1, "--restrict", "tp", "-o", tmp_path / "k.tsv")
    kmers = pd.read_csv(tmp_path / "k.tsv", sep="\t")
    inside = sum(int((np.array(p) & np.array(q)).sum()) for p, q in zip(table["labels"], table["predicted_bases"], strict=True))
    assert kmers["tp"].sum() == inside
    letters = "".join(table["sequence"])
    assert kmers["occurrences"].tolist() == [letters.count(letter) for letter in kmers["kmer"]]


def test_individuals(place, tmp_path):
    out = tmp_path / "why"
    run("explain", place / "people", place / "p.csv", "-o", out)
    table = pq.read_table(out / "attributions.parquet").to_pandas()
    assert table["group"].tolist() == ["x", "y", "x", "y"]
    for _, part in table.groupby("group"):
        assert len(set(part["logit"])) == 1
        total = sum(scores.sum() for scores in part["scores"]) + part["special"].sum()
        assert abs(total - part["logit"].iloc[0] + part["baseline_logit"].iloc[0]) == pytest.approx(
            part["completeness_error"].iloc[0], abs=1e-5
        )


def test_perturb(place, tmp_path):
    out = tmp_path / "p"
    run("perturb", place / "conv", place / "s.csv", "--levels", "0:1:0.5", "--insert", "AATAAA", "--reach", 5, "-o", out)
    said = json.loads((out / "perturb.json").read_text())
    assert (said["sequences"], said["left_out"], said["with_motif"]) == (4, 4, 4)
    table = pd.read_parquet(out / "perturbed.parquet")
    assert table.groupby("level")["replaced"].sum().iloc[[0, 2]].tolist() == [0, 4]
    levels = pd.read_csv(out / "levels.tsv", sep="\t")
    for row in levels.to_dict("records"):
        part = table[table["level"] == row["level"]]["probability"]
        assert row["mispredicted"] == (part < said["threshold"]).sum()
        assert row["median"] == pytest.approx(part.median(), rel=1e-4)
    curve = pd.read_csv(out / "insertion.tsv", sep="\t")
    assert curve["offset"].tolist() == list(range(-5, 6))
    assert (curve["sequences"] == 4).all()
    assert "Motifs put in" in (out / "report.html").read_text()
    one = (out / "perturbed.parquet").read_bytes()
    changes = [["--seed", 1], ["--motifs", "AATAA"], ["--replacement", "shuffled"], ["--replacement", "CCCCCC"], ["--zone", "0:5"]]
    changes += [["--label", "negative"], ["--levels", "0,1"]]
    for flags in changes:
        run("perturb", place / "conv", place / "s.csv", "--levels", "0:1:0.5", *flags, "-o", out, "--force", "--batch-size", 3)
        assert (out / "perturbed.parquet").read_bytes() != one
        assert not (out / "insertion.tsv").exists()
    run("perturb", place / "conv", place / "s.csv", "--threshold", 0.999999, "-o", out, "--force")
    assert json.loads((out / "perturb.json").read_text())["levels"][0]["mispredicted"] == 4
    texts = set()
    for flags in ([], ["--neutral", "motifless"], ["--reach", 6], ["--backgrounds", 2]):
        run("perturb", place / "conv", place / "s.csv", "--insert", "AATAAA", "--reach", 5, *flags, "-o", out, "--force")
        texts.add((out / "insertion.tsv").read_text())
    assert len(texts) == 4


def test_attention(place, tmp_path):
    out = tmp_path / "a"
    run("attention", place / "nt", place / "s.csv", "--top", 3, "-o", out)
    said = json.loads((out / "attention.json").read_text())
    negatives = pd.read_csv(place / "s.csv").query("label == 0")["sequence"]
    assert said["groups"] == {"positive": 4, "negative": int(negatives.str.contains("AATAAA|ATTAAA").sum())}
    assert said["left_out"] == int((~negatives.str.contains("AATAAA|ATTAAA")).sum()) == 1
    table = pd.read_csv(out / "attention_kmers.tsv", sep="\t", dtype={"head": str})
    assert set(table["head"]) == {"0", "1", "mean"}
    tokens = pd.read_parquet(out / "attended.parquet")
    mean = table[(table["head"] == "mean") & (table["group"] == "positive")].set_index("kmer")
    assert mean["top"].sum() == 12
    assert mean["top1"].sum() == 4
    first = tokens[(tokens["group"] == "positive") & (tokens["rank"] == 1)]["kmer"].value_counts()
    assert {kmer: count for kmer, count in mean["top1"].items() if count} == first.to_dict()
    assert "most attended" in (out / "report.html").read_text()
    text = (out / "attention_kmers.tsv").read_text()
    for flags in (["--layer", 0], ["--rollout"], ["--top", 4], ["--motifs", ""]):
        run("attention", place / "nt", place / "s.csv", "--top", 3, *flags, "-o", out, "--force", "--batch-size", 2)
        assert (out / "attention_kmers.tsv").read_text() != text


def test_one_page_of_several(place, tmp_path):
    run("explain", place / "conv", place / "s.csv", "--method", "inputxgrad", "-o", tmp_path / "a")
    run("perturb", place / "conv", place / "s.csv", "--levels", "0,1", "-o", tmp_path / "b")
    run("report", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Input × gradient" in page
    assert "Motifs taken out" in page


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["explain", "conv", "i.bed"], "add -g GENOME"),
        (["explain", "conv", "s.csv", "--steps", "many"], "expected auto or a number"),
        (["explain", "bases", "s.csv", "--target", "tp"], "a label for every base"),
        (["explain", "conv", "s.csv", "--target", "Positive"], "Did you mean 'positive'"),
        (["explain", "people", "s.csv"], "no column `group`"),
        (["explain", "conv", "s.csv", "--device", "tpu"], "unknown device"),
        (["perturb", "conv", "s.csv", "--zone", "5"], "expected FIRST:LAST"),
        (["attention", "conv", "s.csv"], "no attention to look at"),
        (["kmers", "conv"], "explain.json"),
    ],
)
def test_errors_in_one_line(place, tmp_path, args, message):
    verb, *files = args
    paths = [place / part if (place / str(part)).exists() else part for part in files]
    result = run(verb, *paths, "-o", tmp_path / "out", code=1)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()
