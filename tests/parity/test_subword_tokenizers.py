"""Ids, offsets, padding and truncation equal to the published tokenizers of NT, DNABERT-2 and GENA-LM."""

import json
import re

import pytest

from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.backbones.tokenizers.kmer import KmerTokenizer

NAMES = ("nt_v1", "nt_v2", "dnabert2", "gena_bert_base", "gena_t2t")
pytestmark = pytest.mark.data


@pytest.fixture(scope="session")
def official(shared):
    def tokenizer(name):
        folder = shared / "golden/tokenizer_files" / name
        return (KmerTokenizer if name.startswith("nt") else BpeTokenizer).from_official(folder)

    loaded = {name: tokenizer(name) for name in NAMES}
    return loaded.__getitem__


def whole_run(sequence, offset):
    """The library gives the last N of a run; ours is the run."""
    for run in re.finditer("N{10,}", sequence):
        if offset == [run.end() - 1, run.end()]:
            return [run.start(), run.end()]
    return offset


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_offsets(name, official, shared):
    cases = json.loads((shared / f"golden/dev/tokenizers/{name}.json").read_text())
    assert len(cases) == 60
    tokens = official(name).tokenize([case["sequence"] for case in cases], policy="official")
    for i, case in enumerate(cases):
        length = int(tokens.mask[i].sum())
        assert tokens.ids[i, :length].tolist() == case["ids"], case
        assert not tokens.mask[i, length:].any()
        if "offsets" in case:
            expected = case["offsets"]
            if name == "gena_t2t":
                expected = [whole_run(case["sequence"], offset) for offset in expected]
            assert tokens.spans[i, :length].tolist() == expected, case


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_truncation(name, official, shared):
    batch = json.loads((shared / f"golden/dev/tokenizers/{name}.batch.json").read_text())
    assert batch["padding_side"] == batch["truncation_side"] == "right"
    longest = official(name).tokenize(batch["sequences"], policy="official")
    assert longest.ids.tolist() == batch["padding_longest"]["input_ids"]
    assert longest.mask.int().tolist() == batch["padding_longest"]["attention_mask"]
    cut = batch["padding_max_length_truncation"]
    fixed = official(name).tokenize(batch["sequences"], policy="official", max_length=cut["max_length"], pad_to=cut["max_length"])
    assert fixed.ids.tolist() == cut["input_ids"]
    assert fixed.mask.int().tolist() == cut["attention_mask"]


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_again(name, official, shared, tmp_path):
    tokenizer = official(name)
    tokenizer.save(tmp_path)
    again = type(tokenizer).load(tmp_path, tokenizer.settings())
    probe = ["ACGTNNNNNNNNNNNNACGTACGTTTGACA", "acgtr"]
    assert again.tokenize(probe).ids.equal(tokenizer.tokenize(probe).ids)
    file = "vocab.txt" if name.startswith("nt") else "tokenizer.json"
    published = (shared / "golden/tokenizer_files" / name / file).read_text()
    assert (tmp_path / file).read_text().split() == published.split()
