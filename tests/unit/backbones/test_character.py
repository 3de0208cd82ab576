"""The character tokenizer: ids, spans, padding and policies, by hand and on random text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basewise.backbones.tokenizers import load_tokenizer, tokenizer_kind
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError


@pytest.mark.parametrize(
    ("dialect", "side", "ids", "starts"),
    [
        ("hub", "right", [[7, 8, 1], [9, 1, 4]], [[0, 1, 0], [0, 0, 0]]),
        ("hub", "left", [[7, 8, 1], [4, 9, 1]], [[0, 1, 0], [0, 0, 0]]),
        ("standalone", "right", [[0, 7, 8, 1], [0, 9, 1, 4]], [[0, 0, 1, 0], [0, 0, 0, 0]]),
        ("none", "left", [[7, 8], [4, 9]], [[0, 1], [0, 0]]),
    ],
)
def test_ids_by_hand(dialect, side, ids, starts):
    tokens = CharacterTokenizer(dialect, side).tokenize(["AC", "G"])
    assert tokens.ids.tolist() == ids
    assert tokens.mask.tolist() == [[i != 4 for i in row] for row in ids]
    assert tokens.spans[..., 0].tolist() == starts
    assert (tokens.spans[..., 1] - tokens.spans[..., 0]).tolist() == [[int(i >= 7) for i in row] for row in ids]


def test_policies():
    text = "AaNnRrUu-"
    tokenizer = CharacterTokenizer("none")
    assert tokenizer.tokenize([text]).ids[0].tolist() == [7, 7, 11, 11, 11, 11, 10, 10, 11]
    assert tokenizer.tokenize([text], policy="official").ids[0].tolist() == [7, 6, 11, 6, 6, 6, 6, 6, 6]


def test_special_token_inside_a_text_covers_its_characters():
    tokens = CharacterTokenizer("none").tokenize(["A[MASK]C", "G"], policy="official", pad_side="left")
    assert tokens.ids.tolist() == [[7, 3, 8], [4, 4, 9]]
    assert tokens.spans[0].tolist() == [[0, 1], [1, 7], [7, 8]]
    assert tokens.spans[1].tolist() == [[0, 0], [0, 0], [0, 1]]


@given(
    st.lists(st.text("ACGTNacgtnRYU-", max_size=12), max_size=5),
    st.sampled_from(["hub", "standalone", "none"]),
    st.sampled_from(["left", "right"]),
)
def test_spans_tile_every_sequence_and_arrays_read_as_text(sequences, dialect, side):
    tokens = CharacterTokenizer(dialect, side).tokenize(sequences)
    for i, sequence in enumerate(sequences):
        covered = [(int(a), int(b)) for a, b in tokens.spans[i] if b > a]
        assert covered == [(j, j + 1) for j in range(len(sequence))]
    arrays = [np.frombuffer(s.encode(), dtype=np.uint8) for s in sequences]
    for a, b in zip(tokens, CharacterTokenizer(dialect, side).tokenize(arrays), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"special_tokens": "hubb"}, "Did you mean 'hub'"),
        ({"policy": "norm"}, "official or normalize"),
        ({"pad_side": "middle"}, "left or right"),
        ({"max_length": 0}, "no room"),
    ],
)
def test_wrong_arguments(arguments, hint):
    with pytest.raises(BasewiseError, match=hint):
        CharacterTokenizer().tokenize(["A"], **arguments)


def test_settings_travel(tmp_path):
    tokenizer = CharacterTokenizer("standalone", "left")
    again = load_tokenizer(tokenizer_kind(tokenizer), tokenizer.settings(), tmp_path)
    assert again.settings() == {"special_tokens": "standalone", "pad_side": "left"}
    with pytest.raises(BasewiseError, match="unknown character tokenizer settings case"):
        load_tokenizer("character", {"case": "upper"}, tmp_path)
    with pytest.raises(BasewiseError, match="Did you mean 'character'"):
        load_tokenizer("charcter", {}, tmp_path)
