import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basewise.datasets.splits import choose_chroms, chromosome_split, fold, random_split
from basewise.errors import BasewiseError


def examples(labels, groups=None, chroms=None):
    n = len(labels)
    return pd.DataFrame(
        {
            "chrom": chroms or ["c1"] * n,
            "start": 0,
            "end": 4,
            "strand": "+",
            "label": labels,
            "split": "",
            "group": groups or [f"g{row}" for row in range(n)],
            "sequence": "ACGT",
        }
    )


labels = st.lists(st.integers(0, 2), min_size=1, max_size=120)


@given(labels=labels, seed=st.integers(0, 1000))
def test_random_split_keeps_every_class_in_proportion(labels, seed):
    table = examples(labels)
    split = random_split(table, seed)
    assert set(table["split"]) == {""}  # the caller's table is left alone
    for label in set(labels):
        n = labels.count(label)
        counts = split[split["label"] == label]["split"].value_counts()
        for name, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(counts.get(name, 0) - fraction * n) <= 1
    assert split["split"].tolist() == random_split(table, seed)["split"].tolist()


def test_seeds_differ():
    table = examples([0, 1] * 50)
    assert random_split(table, 0)["split"].tolist() != random_split(table, 1)["split"].tolist()


@given(
    groups=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=80),
    seed=st.integers(0, 99),
    n_folds=st.integers(3, 6),
    data=st.data(),
)
def test_groups_are_never_divided(groups, seed, n_folds, data):
    table = examples([0] * len(groups), groups)
    for split in (random_split(table, seed, by="group"), fold(table, data.draw(st.integers(0, n_folds - 1)), n_folds, seed, by="group")):
        assert all(len(set(part["split"])) == 1 for _, part in split.groupby("group"))


@pytest.mark.parametrize("by", ["row", "group"])
@given(labels=st.lists(st.integers(0, 1), min_size=5, max_size=60), seed=st.integers(0, 99), n_folds=st.integers(3, 6))
def test_every_example_is_tested_once_and_validated_once(by, labels, seed, n_folds):
    table = examples(labels, [f"g{row // 3}" for row in range(len(labels))])
    rounds = [fold(table, k, n_folds, seed, by=by)["split"].to_numpy() for k in range(n_folds)]
    for name in ("test", "val"):
        assert (np.sum([split == name for split in rounds], axis=0) == 1).all()


def test_five_folds_are_60_20_20_in_each_class():
    table = examples([0] * 100 + [1] * 50)
    counts = fold(table, 2).groupby(["label", "split"]).size()
    assert counts.to_dict() == {(0, "test"): 20, (0, "train"): 60, (0, "val"): 20, (1, "test"): 10, (1, "train"): 30, (1, "val"): 10}


def test_chromosome_split():
    table = examples([0, 1, 0, 1], chroms=["c1", "c2", "c3", "c1"])
    assert chromosome_split(table, ["c2"], ["c3"])["split"].tolist() == ["train", "test", "val", "train"]
    assert chromosome_split(table, ["c2"])["split"].tolist() == ["train", "test", "train", "train"]
    for arguments, message in (
        ((["c2"], ["c2"]), "choose one"),
        ((["chrom2"],), "'chrom2' has no examples; there are c1, c2, c3"),
        ((["c1", "c2"], ["c3"]), "nothing is left to train on"),
    ):
        with pytest.raises(BasewiseError, match=message):
            chromosome_split(table, *arguments)


@given(st.dictionaries(st.text("ab", min_size=1), st.integers(1, 1000), min_size=3, max_size=12))
def test_chosen_chromosomes_leave_none_empty_and_forget_the_order(counts):
    test, val = choose_chroms(counts)
    assert test
    assert val
    assert not set(test) & set(val)
    assert len(test) + len(val) < len(counts)
    assert choose_chroms(dict(reversed(counts.items()))) == (test, val)


def test_chosen_chromosomes_come_near_the_fractions():
    test, val = choose_chroms({f"c{i}": 10 for i in range(10)})
    assert (len(test), len(val)) == (2, 2)
    with pytest.raises(BasewiseError, match="use a random split"):
        choose_chroms({"a": 3, "b": 1})


def test_bad_requests_are_refused():
    table = examples([0, 1])
    for call, message in (
        (lambda: random_split(table, 0, (0.5, 0.2, 0.2)), "sum to 1"),
        (lambda: random_split(table, 0, stratify="labl"), "Did you mean 'label'"),
        (lambda: random_split(table, 0, by="gene"), "'row' or 'group'"),
        (lambda: fold(table, 5), "fold 5 of 5"),
    ):
        with pytest.raises(BasewiseError, match=message):
            call()
