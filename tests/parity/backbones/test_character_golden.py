"""Ids of the character tokenizer equal the official ones on every golden string and batch."""

import json

import pytest

from basewise.backbones.tokenizers.character import CharacterTokenizer

pytestmark = pytest.mark.data
FORMS = [("hyenadna", "hub"), ("hyenadna_standalone", "standalone")]


@pytest.mark.parametrize(("name", "dialect"), FORMS)
def test_every_golden_string(shared, name, dialect):
    cases = json.loads((shared / f"golden/dev/tokenizers/{name}.json").read_text())
    assert len(cases) >= 50
    tokenizer = CharacterTokenizer(dialect)
    for case in cases:
        tokens = tokenizer.tokenize([case["sequence"]], policy="official")
        assert tokens.ids[0].tolist() == case["ids"], case["tag"]
        bare = tokenizer.tokenize([case["sequence"]], special_tokens=False, policy="official")
        assert bare.ids[0].tolist() == case["ids_no_special"], case["tag"]


@pytest.mark.parametrize(("name", "dialect"), FORMS)
def test_padding_and_truncation(shared, name, dialect):
    batch = json.loads((shared / f"golden/dev/tokenizers/{name}.batch.json").read_text())
    tokenizer = CharacterTokenizer(dialect, pad_side="left")
    longest = tokenizer.tokenize(batch["sequences"], policy="official")
    assert longest.ids.tolist() == batch["padding_longest"]["input_ids"]
    cut = batch["padding_max_length_truncation"]
    tokens = tokenizer.tokenize(batch["sequences"], policy="official", max_length=cut["max_length"], pad_to=cut["max_length"])
    assert tokens.ids.tolist() == cut["input_ids"]
    for got, want in ((longest, batch["padding_longest"]), (tokens, cut)):
        if "attention_mask" in want:
            assert got.mask.int().tolist() == want["attention_mask"]
