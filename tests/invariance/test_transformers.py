"""Padding, batch size, order and place in the batch change no hidden state; fused and step-by-step attention agree; gradients agree."""

import copy

import pytest
import torch

from basewise.backbones.checkpoints import read_official
from basewise.errors import BasewiseError
from basewise.testing.published import KINDS, write_published

SAME = 1e-5  # largest absolute difference; hidden states are of the order of 1
TRANSFORMERS = tuple(kind for kind in KINDS if kind != "hyenadna")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {kind: read_official(write_published(folder / kind, kind)).backbone for kind in KINDS}


@pytest.fixture
def model(models, request):
    return copy.deepcopy(models[request.param])


every = pytest.mark.parametrize("model", TRANSFORMERS, indirect=True)


def rows(model, lengths, seed=0):
    """Ids of the given lengths, first token special where the family has one, none of them padding."""
    generator = torch.Generator().manual_seed(seed)
    low = 7  # above every special token of the tiny vocabularies
    return [torch.randint(low, model.config.vocab_size - 1, (n,), generator=generator) for n in lengths]


def pad(model, sequences, width, side="right", seed=None):
    """Padded ids and mask; with a seed the padding sides are mixed."""
    pad_id = getattr(model.config, "pad_token_id", 3)
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    for i, row in enumerate(sequences):
        left = width - len(row) if side == "left" or (seed is not None and (i + seed) % 2) else 0
        ids[i, left : left + len(row)] = row
        mask[i, left : left + len(row)] = True
    return ids, mask


def hidden(model, sequences, width, **options):
    ids, mask = pad(model, sequences, width, **options)
    with torch.inference_mode():
        out = model.encode(model.embed(ids), mask)
    assert out.dtype == torch.float32
    assert out.shape == (*ids.shape, model.width)
    assert not out[~mask].any()
    return [out[i, mask[i]] for i in range(len(sequences))]


@every
def test_padding_and_batch_change_nothing(model):
    sequences = rows(model, [1, 9, 20, 13, 30])
    alone = [hidden(model, [row], len(row))[0] for row in sequences]
    assert max(h.abs().max() for h in alone) > 0.5
    for width, options in ((30, {}), (40, {}), (40, {"side": "left"}), (36, {"seed": 0})):
        for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [2, 2, 2, 1]):
            together = hidden(model, [sequences[i] for i in order], width, **options)
            for i, got in zip(order, together, strict=True):
                assert (got - alone[i]).abs().max() < SAME


@every
def test_a_row_of_nothing_but_padding_is_zeros_and_harms_no_other(model):
    row = rows(model, [12])[0]
    empty, full = hidden(model, [row[:0], row], 12)
    assert len(empty) == 0
    assert (full - hidden(model, [row], 12)[0]).abs().max() < SAME


@every
def test_every_token_sees_both_sides(model):
    """No causal mask by accident, and no token is left out."""
    row = rows(model, [16])[0]
    base = hidden(model, [row], 16)[0]
    for changed in (0, 8, 15):
        other = row.clone()
        other[changed] = 7 + (row[changed] - 6) % (model.config.vocab_size - 8)
        moved = (hidden(model, [other], 16)[0] - base).abs().amax(-1)
        assert (moved > 1e-6).all()


@every
def test_fused_and_step_by_step_attention_agree(model):
    ids, mask = pad(model, rows(model, [30, 18, 5]), 30)
    with torch.inference_mode():
        embedded = model.embed(ids)
        final, layers = model.encode(embedded, mask, layers=True)
        seen = model.attentions(embedded, mask)
        assert torch.equal(final, model.encode(embedded, mask))
        assert len(layers) == len(seen) == model.config.num_hidden_layers
        # replay each layer step by step on the fused output of the one before
        before = embedded * mask[..., None]
        for layer, after, attention in zip(model.layers, layers, seen, strict=True):
            bias = (
                model._bias(mask, torch.float32)
                if hasattr(model, "_bias")
                else torch.zeros(3, 1, 1, 30).masked_fill(~mask[:, None, None], -1e9)
            )
            weights = []
            got = layer(before, bias, weights)
            assert (got - after)[mask].abs().max() < SAME
            rows_of = mask[:, None, :, None].expand_as(attention)
            assert (weights[0] - attention)[rows_of].abs().max() < SAME
            before = after
    for attention in seen:
        assert (attention.sum(-1) - 1).abs().max() < 1e-5
        assert not attention[1, ..., 18:].any()
        assert not attention[2, ..., 5:].any()


def gradients(model, ids, mask, seed=0):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    out = model.encode(model.embed(ids), mask)
    target = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out.dtype)
    (out * target)[mask].sum().backward()
    return {name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None}


@every
@pytest.mark.parametrize("dropout", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(model, dropout):
    ids, mask = pad(model, rows(model, [20, 11]), 20)
    model.train()
    if not dropout:
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
            for name in ("dropout", "attention_dropout"):
                if isinstance(getattr(part, name, None), float):
                    setattr(part, name, 0.0)
    plain = gradients(model, ids, mask)
    other = gradients(model, ids, mask, seed=1)
    assert dropout == any((plain[name] - other[name]).abs().max() > 1e-3 for name in plain)
    model.gradient_checkpointing = True
    again = gradients(model, ids, mask)
    assert plain.keys() == again.keys()
    assert any("layers" in name for name in plain)
    for name, gradient in plain.items():
        assert (gradient - again[name]).abs().max() <= 1e-5 * max(1.0, gradient.abs().max()), name


@every
def test_bfloat16_gradients_point_the_same_way(model):
    """Stated tolerance: cosine over 0.99 and length within 5 percent of the float32 gradient of all weights together."""
    ids, mask = pad(model, rows(model, [20, 11]), 20)
    full = torch.cat([g.flatten() for g in gradients(model, ids, mask).values()])
    half = torch.cat([g.flatten() for g in gradients(copy.deepcopy(model).to(torch.bfloat16), ids, mask).values()])
    assert torch.isfinite(half).all()
    assert torch.cosine_similarity(full, half, dim=0) > 0.99
    assert 0.95 < half.norm() / full.norm() < 1.05


@every
def test_padding_receives_no_gradient(model):
    ids, mask = pad(model, rows(model, [20, 11]), 20)
    embedded = model.embed(ids).detach().requires_grad_()
    out = model.encode(embedded, mask)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(5))).sum().backward()
    assert not embedded.grad[~mask].any()
    assert (embedded.grad[mask].abs().amax(-1) > 0).all()


@pytest.mark.parametrize(("model", "limit"), [("nucleotide_transformer_v1", 40), ("gena_lm", 40)], indirect=["model"])
def test_too_many_tokens_is_one_clear_line(model, limit):
    assert model.max_tokens == limit
    model.embed(rows(model, [limit])[0][None])
    with pytest.raises(BasewiseError, match=f"{limit + 1} tokens.*positions for {limit}"):
        model.embed(rows(model, [limit + 1])[0][None])


def test_lengths_without_limit(models):
    assert models["dnabert2"].max_tokens is None
    assert models["nucleotide_transformer_v2"].max_tokens == 40
    row = rows(models["dnabert2"], [700])[0]  # beyond the 512 of the published start buffer
    assert torch.isfinite(hidden(models["dnabert2"], [row], 700)[0]).all()
