"""Duplicates across splits, homology clusters and folds, against all pairs compared one by one and scipy."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from basewise.datasets.folder import open_dataset
from basewise.datasets.leakage import canonical_kmers, homology_groups, homology_split, leakage, similar_pairs
from basewise.errors import BasewiseError
from basewise.genome.alphabet import reverse_complement
from basewise.recipes.schema import recipe_from
from basewise.testing.datasets import planted_dataset
from basewise.training.folds import aggregate, over_folds, train_folds

RNG = np.random.default_rng(5)


def random_dna(n):
    return "".join(RNG.choice(list("ACGT"), n))


def mutated(sequence, n):
    letters = list(sequence)
    for place in RNG.choice(len(letters), n, replace=False):
        letters[place] = {"A": "C", "C": "G", "G": "T", "T": "A"}[letters[place]]
    return "".join(letters)


def table(rows):
    return pd.DataFrame(
        [
            {"chrom": "c", "start": 0, "end": len(s), "strand": "+", "label": y, "split": split, "group": f"g{i}", "sequence": s}
            for i, (s, split, y) in enumerate(rows)
        ]
    )


def naive_kmers(sequence, k):
    found = {sequence[i : i + k] for i in range(len(sequence) - k + 1)}
    return {min(kmer, reverse_complement(kmer)) for kmer in found if set(kmer) <= set("ACGT")}


def test_kmers_and_pairs_against_sets():
    base = random_dna(80)
    sequences = [
        random_dna(80),
        base,
        mutated(base, 2),
        reverse_complement(base)[5:60],
        base[:40] + random_dna(40),
        "ACGN" * 20,
        random_dna(9),
    ]
    for sequence in sequences:
        assert len(canonical_kmers(sequence, 11)) == len(naive_kmers(sequence, 11))
        assert np.array_equal(canonical_kmers(sequence, 11), canonical_kmers(reverse_complement(sequence), 11))
    sets = [naive_kmers(s, 11) for s in sequences]
    expected = {
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if sets[i] & sets[j] and len(sets[i] & sets[j]) >= 0.4 * min(len(sets[i]), len(sets[j]))
    }
    i, j = similar_pairs(sequences, k=11, share=0.4)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected
    assert (1, 3) in expected


def test_leakage_counts_each_kind_once():
    a, b, c, d = (random_dna(70) for _ in range(4))
    rows = [(a, "train", 1), (b, "train", 0), (c, "train", 1), (random_dna(70), "train", 0)]
    rows += [(a.lower(), "test", 0), (reverse_complement(b), "test", 0), (mutated(c, 1), "test", 1), (d, "test", 1), (d, "val", 1)]
    found = leakage(table(rows))["pairs"]
    assert found["train/test"] == {
        "sequences": 4, "exact": 1, "reverse_complement": 1, "near": 1, "other_label": 1, "share_of_later": 0.75,
    }  # fmt: skip
    assert found["train/val"]["exact"] == 0
    assert found["val/test"]["exact"] == 1


def test_a_homology_split_leaks_nothing_a_random_one_does():
    families = [random_dna(90) for _ in range(40)]
    rows = [(mutated(family, 1), "", i % 2) for family in families for i in range(4)] + [("ACGT", "", 0), ("ACGT", "", 0)]
    split = homology_split(table(rows), seed=0)
    assert split["group"].iloc[:160].nunique() == 40
    assert split["group"].iloc[160] == split["group"].iloc[161]
    assert split["split"].value_counts()["train"] == pytest.approx(97, abs=8)
    assert all(row["share_of_later"] == 0 for row in leakage(split)["pairs"].values())
    shuffled = split.assign(split=["train", "test"] * 81)
    assert leakage(shuffled)["pairs"]["train/test"]["near"] > 70
    assert len(np.unique(homology_groups([f[:50] for f in families]))) == 40


def test_mean_sd_and_interval_against_scipy():
    values = [0.7, 0.75, 0.72, 0.8, 0.77]
    row = aggregate([{"f1": v, "mcc": None} for v in values])
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert row["f1"] == pytest.approx({"mean": np.mean(values), "sd": np.std(values, ddof=1), "low": low, "high": high, "n": 5})
    assert row["mcc"] == {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    assert aggregate([{"f1": 0.5}])["f1"]["low"] is None


def test_seeds_of_a_fold_count_as_one_observation():
    values = [[0.7, 0.8], [0.6, 0.64], [0.9, 0.7]]
    rows = [{"fold": k, "seed": s, "metrics": {"f1": v, "mcc": None}} for k, fold in enumerate(values) for s, v in enumerate(fold)]
    means, every = np.mean(values, axis=1), np.ravel(values)
    low, high = stats.t.interval(0.95, 2, loc=means.mean(), scale=stats.sem(means))
    expected = {"mean": means.mean(), "sd": means.std(ddof=1), "low": low, "high": high, "n": 3, "sd_of_runs": every.std(ddof=1)}
    assert over_folds(rows)["f1"] == pytest.approx(expected)
    alone = [row for row in rows if row["seed"] == 0]
    assert over_folds(alone) == aggregate([row["metrics"] for row in alone])


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_shares_that_cannot_be_are_refused(share):
    with pytest.raises(BasewiseError, match="above 0 and at most 1"):
        leakage(table([("ACGT", "train", 1), ("ACGA", "test", 0)]), share=share)


def test_fewer_examples_than_folds(tmp_path):
    dataset = open_dataset(planted_dataset(tmp_path / "motif", n=4))
    recipe = recipe_from({"name": "toy", "backbone": {"name": "convnet"}, "train": {"epochs": 1}}, "toy")
    with pytest.raises(BasewiseError, match="4 examples do not make 5 folds"):
        train_folds(recipe, dataset, tmp_path / "a", 5)


def test_folds_are_runs_and_go_on_one_by_one(tmp_path):
    dataset = open_dataset(planted_dataset(tmp_path / "motif", n=120))
    backbone = {"name": "convnet", "config": {"width": 4, "stem_kernel": 9, "blocks": [{"kernel": 3}]}}
    train = {"epochs": 1, "batch_size": 16, "lr": 1e-2}
    recipe = recipe_from({"name": "toy", "backbone": backbone, "train": train, "evaluate": {"bootstrap": 0}}, "toy")
    whole = train_folds(recipe, dataset, tmp_path / "a", 3)
    seen = []
    for k in range(3):
        predictions = pd.read_parquet(tmp_path / "a" / f"fold{k}" / "predictions.parquet")
        seen += predictions.loc[predictions["split"] == "test", "example"].tolist()
    assert sorted(seen) == list(range(120))
    runs = [json.loads((tmp_path / "a" / f"fold{k}" / "results.json").read_text()) for k in range(3)]
    accuracy = [run["splits"]["test"]["metrics"]["accuracy"]["value"] for run in runs]
    assert whole["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))

    class StopError(Exception):
        pass

    def stop(event):
        if (tmp_path / "b" / "fold1").exists():
            raise StopError

    with pytest.raises(StopError):
        train_folds(recipe, dataset, tmp_path / "b", 3, progress=stop)
    stamp = (tmp_path / "b" / "fold0" / "run.json").stat().st_mtime_ns
    again = train_folds(recipe, dataset, tmp_path / "b", 3, resume=True)
    assert (tmp_path / "b" / "fold0" / "run.json").stat().st_mtime_ns == stamp
    assert again["metrics"] == whole["metrics"]
    with pytest.raises(BasewiseError, match="folds was 3, is 4"):
        train_folds(recipe, dataset, tmp_path / "b", 4, resume=True)
    with pytest.raises(BasewiseError, match="do not make 9 folds"):
        train_folds(recipe, dataset, tmp_path / "c", 9, by="chromosome")
