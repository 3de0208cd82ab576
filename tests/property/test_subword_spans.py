"""Spans of the subword tokenizers are sorted, disjoint and tile the sequence; totals a base are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.backbones.tokenizers.kmer import KmerTokenizer
from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, codes

KMERS = [KmerTokenizer("v1"), KmerTokenizer("v2"), KmerTokenizer("v2", k=3), KmerTokenizer("v1", k=1)]
TEXT = st.text("ACGTNacgtnRYUu-", max_size=80) | st.builds(
    lambda a, n, b: a + "N" * n + b, st.text("ACGT", max_size=20), st.integers(0, 30), st.text("ACGT")
)


@pytest.fixture(scope="module")
def bpe():
    """Three small vocabularies of the published kinds: without N, with N and the run rule, with white-space splitting."""
    return [BpeTokenizer(text) for text in toy_bpe_files()]


def toy_bpe_files():
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    merges = [("A", "C"), ("G", "T"), ("AC", "GT"), ("T", "T"), ("TT", "A")]
    for letters, kind in (("ACGT", "plain"), ("ACGTN", "run"), ("ACGT", "white")):
        pieces = [*special, *(["-"] if kind == "run" else []), *letters, *(a + b for a, b in merges)]
        engine = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="[UNK]"))
        engine.add_special_tokens([*special, *(["-"] if kind == "run" else [])])
        if kind == "run":
            engine.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")])
            engine.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
        if kind == "white":
            engine.pre_tokenizer = pre_tokenizers.Whitespace()
        yield engine.to_str()


def check_tiling(tokenizer, sequences, policy, side):
    tokens = tokenizer.tokenize(sequences, policy=policy, pad_side=side)
    assert tokens.ids.shape == tokens.mask.shape == tokens.spans.shape[:2]
    assert tokens.ids.dtype == torch.int64
    assert tokens.mask.dtype == torch.bool
    assert tokens.spans.dtype == torch.int32
    assert int(tokens.ids.max()) < tokenizer.vocabulary_size
    for i, sequence in enumerate(sequences):
        spans = tokens.spans[i].numpy()
        assert not spans[~tokens.mask[i].numpy()].any()
        assert (tokens.ids[i][~tokens.mask[i]] == tokenizer.pad_id).all()
        covered = spans[spans[:, 1] > spans[:, 0]]
        edges = covered.reshape(-1)
        assert edges.tolist() == sorted(edges.tolist())
        assert (covered[1:, 0] == covered[:-1, 1]).all()
        if sequence:
            assert (covered[0, 0], covered[-1, 1]) == (0, len(sequence))
        # scores of bases summed by token and given back in equal parts: the total stays
        score = np.arange(len(sequence), dtype=float)
        assert sum(score[a:b].sum() for a, b in covered) == score.sum()


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.lists(TEXT, min_size=1, max_size=4),
    policy=st.sampled_from(["official", "normalize"]),
    side=st.sampled_from(["left", "right"]),
)
def test_kmer_spans_tile(sequences, policy, side):
    for tokenizer in KMERS:
        check_tiling(tokenizer, sequences, policy, side)


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.lists(TEXT, min_size=1, max_size=4),
    policy=st.sampled_from(["official", "normalize"]),
    side=st.sampled_from(["left", "right"]),
)
def test_bpe_spans_tile(bpe, sequences, policy, side):
    for tokenizer in bpe:
        check_tiling(tokenizer, sequences, policy, side)


def slow_kmers(sequence, tokenizer):
    """The rule, read aloud: for sequences of A, C, G, T, N."""
    out, i, k = [], 0, tokenizer.k
    while i < len(sequence):
        piece = sequence[i : i + k]
        n = k if len(piece) == k and "N" not in piece else 1
        out.append((tokenizer.tokens.index(sequence[i : i + n]), (i, i + n)))
        i += n
    return out


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=60))
def test_kmer_ids_follow_the_rule(sequence):
    for tokenizer in KMERS[:2]:
        tokens = tokenizer.tokenize([sequence], special_tokens=False)
        assert list(zip(tokens.ids[0].tolist(), map(tuple, tokens.spans[0].tolist()), strict=True)) == slow_kmers(sequence, tokenizer)


@settings(max_examples=40, deadline=None)
@given(st.text("ACGTNacgtnRYUu-. ", max_size=60))
def test_normalize_reads_every_base_as_its_code(bpe, sequence):
    plain = "".join("ACGTN"[c] for c in codes(as_bases(sequence)))
    for tokenizer in [*KMERS, *bpe]:
        ours = tokenizer.tokenize([sequence])
        assert ours.ids.equal(tokenizer.tokenize([plain], policy="official").ids)
        assert ours.ids.equal(tokenizer.tokenize([as_bases(sequence)]).ids)


def test_empty_batch_and_bad_options(bpe):
    for tokenizer in [KMERS[0], bpe[0]]:
        assert tokenizer.tokenize([]).ids.shape == (0, 0)
        for wrong in ({"policy": "upper"}, {"special_tokens": "hub"}, {"pad_side": "up"}, {"max_length": 0}):
            with pytest.raises(BasewiseError):
                tokenizer.tokenize(["ACGT"], **wrong)
    with pytest.raises(BasewiseError, match="layout"):
        KmerTokenizer("v3")
    with pytest.raises(BasewiseError, match="no row"):
        KmerTokenizer("v1").tokenize(["ACG<eos>"], policy="official")
    with pytest.raises(BasewiseError, match=r"tokenizer\.json"):
        BpeTokenizer("{}")


def test_vocabulary_of_another_layout_is_refused(tmp_path):
    KmerTokenizer("v1").save(tmp_path)
    assert KmerTokenizer.from_official(tmp_path).layout == "v1"
    with pytest.raises(BasewiseError, match="layout v2"):
        KmerTokenizer.load(tmp_path, {"layout": "v2"})
    (tmp_path / "vocab.txt").write_text("A\nC\n")
    with pytest.raises(BasewiseError, match="no known layout"):
        KmerTokenizer.from_official(tmp_path)
