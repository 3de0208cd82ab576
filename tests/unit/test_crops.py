"""Training crops of base-level regions: placed around anchors, labelled right, hidden and mutated as asked."""

import numpy as np
import pandas as pd
import pytest

from basewise.errors import BasewiseError
from basewise.genome.alphabet import to_str
from basewise.recipes.schema import Train
from basewise.training.augment import make_corpus
from basewise.training.crops import draw_crops


def corpus(rows: int = 4, length: int = 400):
    rng = np.random.default_rng(0)
    labels, sequences = [], []
    for _ in range(rows):
        letters = rng.choice(list("ACGT"), length)
        label = np.full(length, -1, np.int8)
        label[50:350:10] = 0
        label[200] = 1
        letters[label >= 0] = "A"
        sequences.append("".join(letters))
        labels.append(label)
    return make_corpus(pd.DataFrame({"sequence": sequences, "label": labels}), "base")


def settings(**values):
    return Train.model_validate({"steps": 1, "crop": 64, "flank": 100, **values})


def test_a_crop_holds_its_anchor_with_the_labels_of_its_bases() -> None:
    made = corpus()
    sequences, labels = draw_crops(made, settings(positive_share=1.0), 50, np.random.default_rng(1))
    text = made.bases.tobytes()
    for sequence, label in zip(sequences, labels, strict=True):
        assert len(sequence) == 264
        assert (label[:100] == -1).all()
        assert (label[164:] == -1).all()
        assert (label == 1).sum() == 1
        inner = sequence[100:164].tobytes()
        start = text.index(inner)
        assert np.array_equal(label[100:164], made.base_labels[start : start + 64])
        low, high = start // 400 * 400, start // 400 * 400 + 400  # flanks are the region's own bases, N beyond it
        flank = np.full(100, ord("N"), np.uint8)
        there = text[max(low, start - 100) : start]
        flank[100 - len(there) :] = np.frombuffer(there, np.uint8)
        assert np.array_equal(sequence[:100], flank)
        assert start + 64 <= high


def test_turned_crops_carry_mirrored_labels_moved_as_asked() -> None:
    """Intervals are GGG and the base before it, in whatever direction a crop is read; C stands nowhere else."""
    rng = np.random.default_rng(3)
    text = rng.choice(list("AT"), 400)
    label = np.zeros(400, np.int8)
    for place in range(20, 380, 25):
        text[place : place + 3] = "G"
        label[place - 1 : place + 3] = 1
    made = make_corpus(pd.DataFrame({"sequence": ["".join(text)], "label": pd.Series([label], dtype=object)}), "base")

    def drawn(**augment: float) -> list[tuple[str, list[int]]]:
        found = draw_crops(made, settings(crop=64, flank=32, augment=augment), 40, np.random.default_rng(4))
        return [(to_str(bases), row.tolist()) for bases, row in zip(*found, strict=True)]

    turned = 0
    for bases, row in drawn(reverse_complement=0.5, mirror_shift=-1):
        letter = "C" if "C" in bases else "G"
        turned += letter == "C"
        for i in range(33, 95):
            known = row[i] >= 0
            assert not known or row[i] == (letter in (bases[i], bases[i + 1]))
        assert sum(value >= 0 for value in row) >= 63
    assert 10 < turned < 30
    unmoved = drawn(reverse_complement=1)
    assert all("C" in bases for bases, _ in unmoved)
    for bases, row in unmoved:
        assert all(row[i] == ("C" in (bases[i], bases[i - 1])) for i in range(33, 95))


def test_the_share_of_positive_crops_is_kept() -> None:
    made = corpus(rows=40)
    share = [
        (draw_crops(made, settings(positive_share=p, crop=8), 400, np.random.default_rng(2))[1] == 1).any(1).mean() for p in (0.0, 0.5, 1.0)
    ]
    assert share[0] < 0.1
    assert 0.4 < share[1] < 0.65
    assert share[2] == 1.0


def test_the_same_generator_gives_the_same_crops() -> None:
    one, two = (draw_crops(corpus(), settings(augment={"mutate": 0.1, "n_mask": 0.5}), 9, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    assert np.array_equal(one[1], two[1])


def test_mutations_stay_where_they_were_asked_for() -> None:
    plain, _ = draw_crops(corpus(), settings(), 30, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    for row in range(30):  # one crop at a time: mutating draws numbers of its own
        state = rng.bit_generator.state
        mutated, _ = draw_crops(corpus(), settings(augment={"mutate": 0.2, "mutate_scored": 0.0}), 1, rng)
        rng.bit_generator.state = state
        again, _ = draw_crops(corpus(), settings(), 1, rng)
        assert np.array_equal(mutated[0][100:164], again[0][100:164]), row
    assert len(plain) == 30
    changed, _ = draw_crops(corpus(), settings(augment={"mutate": 0.5}), 1, np.random.default_rng(5))
    same, _ = draw_crops(corpus(), settings(), 1, np.random.default_rng(5))
    assert not np.array_equal(changed[0][:100], same[0][:100])


def test_hidden_context_is_n_and_labels_near_its_edge_are_not_scored() -> None:
    sequences, labels = draw_crops(
        corpus(), settings(positive_share=1.0, augment={"n_mask": 1.0, "n_mask_keep": 20}), 200, np.random.default_rng(6)
    )
    shortest = 264
    for sequence, label in zip(sequences, labels, strict=True):  # anchors lie so that no crop reaches over its region's ends: N is hiding
        seen, scored = np.flatnonzero(sequence != ord("N")), np.flatnonzero(label >= 0)
        assert (np.diff(seen) == 1).all()
        assert (label == 1).sum() == 1
        assert seen[0] == 0 or scored[0] >= seen[0] + 20
        assert seen[-1] == 263 or scored[-1] <= seen[-1] - 20
        shortest = min(shortest, len(seen))
    assert shortest < 100


def test_a_corpus_without_positives_is_refused() -> None:
    bare = make_corpus(pd.DataFrame({"sequence": ["ACGT"], "label": [np.array([-1, 0, 0, -1], np.int8)]}), "base")
    with pytest.raises(BasewiseError, match="holds none"):
        draw_crops(bare, settings(), 1, np.random.default_rng(0))
