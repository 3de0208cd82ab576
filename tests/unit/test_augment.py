import numpy as np
import pandas as pd
import pytest

from basewise.errors import BasewiseError
from basewise.genome.alphabet import reverse_complement, to_str
from basewise.recipes.schema import Augment
from basewise.training.augment import Draw, draw_augmentation, epoch_order, gather, make_corpus

SEQUENCES = ["ACGTTGCAn", "TTTTCC", "GATTACAGATTACA"]


def corpus(kind="base"):
    labels = [[i % 3 - 1 for i in range(len(s))] for s in SEQUENCES] if kind == "base" else [0, 1, 0]
    return make_corpus(pd.DataFrame({"sequence": SEQUENCES, "label": pd.Series(labels, dtype=object)}), kind)


def draw(n, turn=False, shift=0, left=-1, right=-1, label_shift=0):
    return Draw(np.full(n, turn), np.full(n, shift), np.full(n, left), np.full(n, right), np.full(n, label_shift))


def test_gather_returns_the_examples():
    sequences, labels = gather(corpus(), np.array([2, 0]))
    assert [to_str(s) for s in sequences] == [SEQUENCES[2], SEQUENCES[0]]
    assert labels.shape == (2, 14)
    assert labels[1].tolist() == [i % 3 - 1 for i in range(9)] + [-1] * 5


def test_turning_is_the_reverse_complement_with_mirrored_labels():
    sequences, labels = gather(corpus(), np.array([0, 2]), draw(2, turn=True))
    assert [to_str(s) for s in sequences] == [reverse_complement(SEQUENCES[0]), reverse_complement(SEQUENCES[2])]
    assert labels[0, :9].tolist() == [i % 3 - 1 for i in range(9)][::-1]


def test_an_interval_annotated_one_base_early_is_so_in_a_turned_sequence_too():
    sequence, label = "AATGGGTCAA", [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]  # GGG, and the base before it
    made = make_corpus(pd.DataFrame({"sequence": [sequence], "label": pd.Series([label], dtype=object)}), "base")
    assert draw_augmentation(Augment(reverse_complement=1, mirror_shift=-1), 1, made.lengths, np.random.default_rng(0)).label_shift == -1
    (turned,), labels = gather(made, np.array([0]), draw(1, turn=True, label_shift=-1))
    assert to_str(turned) == "TTGACCCATT"
    assert labels[0].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, -1]  # CCC, and the base before it; the last base's label is not known
    straight = draw_augmentation(Augment(mirror_shift=-1), 5, made.lengths, np.random.default_rng(0))
    assert not straight.label_shift.any()


@pytest.mark.parametrize(("shift", "turn", "expected"), [(2, False, "TTCCNN"), (-2, False, "NNTTTT"), (1, True, "GAAAAN")])
def test_shift_moves_and_fills_with_n(shift, turn, expected):
    sequences, labels = gather(corpus(), np.array([1]), draw(1, turn=turn, shift=shift))
    assert to_str(sequences[0]) == expected
    assert all(label == -1 for base, label in zip(expected, labels[0], strict=True) if base == "N")


def test_n_mask_keeps_the_middle():
    sequences, labels = gather(corpus(), np.array([2]), draw(1, left=3, right=2))
    assert to_str(sequences[0]) == "NNNN" + SEQUENCES[2][4:10] + "NNNN"
    assert (labels[0, [0, 1, 2, 3, 10, 11, 12, 13]] == -1).all()


def test_draws_follow_the_settings():
    rng = np.random.default_rng(0)
    lengths = np.full(4000, 201)
    d = draw_augmentation(Augment(reverse_complement=0.5, shift=3, n_mask=0.25, n_mask_keep=20), 4000, lengths, rng)
    assert abs(d.turn.mean() - 0.5) < 0.04
    assert set(d.shift.tolist()) == set(range(-3, 4))
    assert abs((d.left >= 0).mean() - 0.25) < 0.04
    assert d.left[d.left >= 0].min() == d.right[d.right >= 0].min() == 20
    assert d.left.max() == 100
    nothing = draw_augmentation(Augment(), 100, lengths[:100], rng)
    assert not nothing.turn.any()
    assert (nothing.shift == 0).all()
    assert (nothing.left == -1).all()


def test_epoch_order_depends_on_seed_and_epoch_alone():
    c = corpus("sequence")
    assert sorted(epoch_order(c, 0, 0)) == [0, 1, 2]
    assert epoch_order(c, 0, 5).tolist() == epoch_order(c, 0, 5).tolist()
    assert len({tuple(epoch_order(c, 0, e)) for e in range(20)}) > 1
    assert all(1 in epoch_order(c, 0, e, 1.0) and len(epoch_order(c, 0, e, 1.0)) == 2 for e in range(5))
    assert {int(r) for e in range(20) for r in epoch_order(c, 0, e, 1.0)} == {0, 1, 2}


def test_labels_of_the_wrong_length_are_refused():
    with pytest.raises(BasewiseError, match="one a base"):
        make_corpus(pd.DataFrame({"sequence": ["ACG"], "label": pd.Series([[0, 1]], dtype=object)}), "base")
