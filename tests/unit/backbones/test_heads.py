"""Heads against answers known by hand; tokens of several bases, special tokens and padding among them."""

import pytest
import torch

from basewise.backbones.base import Tokens
from basewise.backbones.heads import BaseHead, GroupHead, PoolerHead, SequenceHead, base_counts, mirror_tokens, pool_hidden, token_of_base
from basewise.errors import BasewiseError

# Row 0: [CLS] (0-3) (3-4) [SEP]; row 1: left pad, [CLS] (0-2) [SEP]
SPANS = torch.tensor([[[0, 0], [0, 3], [3, 4], [0, 0]], [[0, 0], [0, 0], [0, 2], [0, 0]]], dtype=torch.int32)
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]).bool()
TOKENS = Tokens(torch.tensor([[0, 7, 8, 1], [4, 0, 9, 1]]), MASK, SPANS)
HIDDEN = torch.tensor([[[1.0], [2.0], [6.0], [9.0]], [[50.0], [3.0], [4.0], [5.0]]])


def identity(head):
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
        if head.linear.bias is not None:
            head.linear.bias.zero_()
    return head.eval()


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("mean", [3.0, 4.0]),  # (3 * 2 + 6) / 4: a token of three bases counts three times
        ("last", [9.0, 5.0]),
        ("cls", [1.0, 3.0]),
        ("center", [2.0, 4.0]),  # bases 2 and 1
        ("official-pool", [4.5, 4.0]),
        ("official", [9.0, 5.0]),  # no pad, and a pad in front: the last position
    ],
)
def test_pools(pool, expected):
    assert identity(SequenceHead(1, 1, pool))(HIDDEN, TOKENS)[:, 0].tolist() == expected


def test_official_position_is_before_the_first_pad():
    tokens = Tokens(torch.tensor([[7, 8, 4, 4]]), torch.ones(1, 4).bool(), torch.zeros(1, 4, 2, dtype=torch.int32))
    assert pool_hidden(HIDDEN[:1], tokens, "official").tolist() == [[2.0]]


def test_a_row_without_bases_has_mean_zero():
    tokens = Tokens(torch.tensor([[0, 1]]), torch.ones(1, 2).bool(), torch.zeros(1, 2, 2, dtype=torch.int32))
    assert pool_hidden(torch.ones(1, 2, 3), tokens, "mean").tolist() == [[0.0, 0.0, 0.0]]
    assert token_of_base(tokens).shape == (1, 0)


def test_mean_is_exact_in_bf16():
    tokens = Tokens(
        torch.full((1, 1000), 7), torch.ones(1, 1000).bool(), torch.stack([torch.arange(1000), torch.arange(1000) + 1], -1).int()[None]
    )
    assert pool_hidden(torch.ones(1, 1000, 1).bfloat16(), tokens, "mean").item() == 1.0


def test_electra_predictor_equals_transformers():
    from transformers import ElectraConfig
    from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions

    torch.manual_seed(0)
    theirs = ElectraDiscriminatorPredictions(ElectraConfig(hidden_size=6)).eval()
    ours = BaseHead(6, 1, dropout=0.3, predictor="electra").eval()
    ours.dense.load_state_dict(theirs.dense.state_dict())
    ours.linear.load_state_dict(theirs.dense_prediction.state_dict())
    hidden = torch.randn(2, 5, 6)
    torch.testing.assert_close(ours.score(hidden)[..., 0], theirs(hidden), atol=0, rtol=0)
    spread = ours(torch.randn(2, 4, 6), TOKENS)
    assert spread.shape == (2, 4, 1)
    assert BaseHead(6, 1).dense is None


def test_every_base_takes_the_logits_of_its_token():
    assert base_counts(TOKENS).tolist() == [4, 2]
    assert token_of_base(TOKENS).tolist() == [[1, 1, 1, 2], [2, 2, -1, -1]]
    assert identity(BaseHead(1, 1))(HIDDEN, TOKENS)[..., 0].tolist() == [[2, 2, 2, 6], [4, 4, 0, 0]]


def test_interpolation_between_token_centers():
    got = identity(BaseHead(1, 1, interpolate=True))(HIDDEN, TOKENS)[0, :, 0]
    # centers 1.5 (value 2) and 3.5 (value 6): bases at 0.5 (nothing before it), 1.5, 2.5, 3.5
    assert got.tolist() == [2.0, 2.0, 4.0, 6.0]
    single = Tokens(TOKENS.ids, TOKENS.mask, torch.tensor([[[0, 0], [0, 1], [1, 2], [0, 0]]] * 2, dtype=torch.int32))
    plain, smooth = identity(BaseHead(1, 1)), identity(BaseHead(1, 1, interpolate=True))
    assert torch.equal(plain(HIDDEN, single), smooth(HIDDEN, single))


def test_mirror_is_its_own_inverse():
    mirror = mirror_tokens(TOKENS)
    assert mirror.tolist() == [[0, 2, 1, 3], [0, 1, 2, 3]]
    assert torch.equal(mirror.gather(1, mirror), torch.arange(4).expand(2, 4))


def test_group_head_ignores_order_and_absent_chunks():
    head = GroupHead(6, 2, queries=4).eval()
    chunks = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    logits = head(chunks)
    assert logits.shape == (3, 2)
    torch.testing.assert_close(head(chunks.flip(1)), logits)
    longer = torch.cat([chunks, torch.full((3, 2, 6), 100.0)], dim=1)
    mask = torch.arange(7).expand(3, 7) < 5
    torch.testing.assert_close(head(longer, mask), logits)
    assert (head(longer) - logits).abs().max() > 1e-3


def test_pooler_head_reads_the_first_token_only():
    head = PoolerHead(1, 2).eval()
    changed = HIDDEN.clone()
    changed[0, 1:] += 1
    changed[1, 2:] += 1
    assert torch.equal(head(HIDDEN, TOKENS), head(changed, TOKENS))
    assert not torch.equal(head(HIDDEN, TOKENS), head(HIDDEN + 1, TOKENS))


def test_unknown_pool():
    with pytest.raises(BasewiseError, match="Did you mean 'center'"):
        SequenceHead(4, 1, "centre")
