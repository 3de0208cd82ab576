"""HyenaDNA beside its goldens: limits, masks, memory of filters, checkpoints that are wrong."""

import copy

import pytest
import torch

from basewise.backbones import hyenadna
from basewise.backbones.weights import assign_weights
from basewise.errors import BasewiseError
from basewise.testing.models import tiny_hyenadna

HUB = {"model_type": "hyenadna", "d_model": 8, "d_inner": 16, "n_layer": 2, "max_seq_len": 130, "emb_dim": 5, "activation_freq": 10}


def run(model, ids):
    return model.encode(model.embed(ids), torch.ones_like(ids, dtype=torch.bool))


def some_ids(rows, length, seed=0):
    return torch.randint(7, 11, (rows, length), generator=torch.Generator().manual_seed(seed))


def official(model, prefix="hyena.backbone."):
    """The model's weights as the hub file holds them, constants included."""
    config = model.config
    state = {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}
    z, t = hyenadna.position_features(config.l_max, config.emb_dim, config.l_max, "cpu")
    for i in range(config.n_layer):
        filter_fn = f"{prefix}layers.{i}.mixer.filter_fn."
        state |= {filter_fn + "pos_emb.z": z[None], filter_fn + "pos_emb.t": t[None]}
        state[filter_fn + "modulation.deltas"] = hyenadna.decay_rates(config.d_model)[None, None]
    return state


def test_causal():
    model = tiny_hyenadna()
    ids = some_ids(1, 40)
    other = ids.clone()
    other[0, 25] = 11
    with torch.inference_mode():
        a, b = run(model, ids), run(model, other)
    torch.testing.assert_close(a[:, :25], b[:, :25], rtol=0, atol=1e-5)
    assert (a[:, 25:] - b[:, 25:]).abs().amax(-1).min() > 1e-5


def test_too_long_is_refused_before_any_work():
    model = tiny_hyenadna()
    assert run(model, some_ids(1, 130)).shape == (1, 130, 8)
    with pytest.raises(BasewiseError, match="131 tokens, but this HyenaDNA was built for at most 130"):
        run(model, some_ids(1, 131))
    ids = torch.cat([torch.full((1, 50), 4), some_ids(1, 100)], dim=1)  # 150 columns, 100 tokens: fine
    hidden = model.encode(model.embed(ids), ids != 4)
    torch.testing.assert_close(hidden[:, 50:], run(model, ids[:, 50:]), rtol=0, atol=1e-5)
    assert hidden[:, :50].abs().sum() == 0


def test_padding_anywhere_changes_nothing_under_a_mask():
    model = tiny_hyenadna()
    ids = some_ids(1, 20)
    alone = run(model, ids)[0]
    rows = torch.full((4, 33), 4)
    places = [list(range(20)), list(range(13, 33)), list(range(5, 25)), list(range(10)) + list(range(20, 30))]
    for row, place in enumerate(places):
        rows[row, place] = ids[0]
    hidden, layers = model.encode(model.embed(rows), rows != 4, layers=True)
    for row, place in enumerate(places):
        torch.testing.assert_close(hidden[row, place], alone, rtol=0, atol=1e-5)
    assert len(layers) == 2
    assert all(layer.shape == hidden.shape for layer in layers)
    official_left = run(model, rows[1:2])[0, 13:]  # padding as tokens, as published, does change the answer
    assert (official_left - alone).abs().max() > 1e-3


def test_rows_without_tokens():
    model = tiny_hyenadna()
    ids = torch.full((2, 5), 4)
    assert model.encode(model.embed(ids), ids != 4).abs().sum() == 0
    ids[0, :3] = 7
    hidden = model.encode(model.embed(ids), ids != 4)
    assert hidden[0, :3].abs().sum() > 0
    assert hidden[1].abs().sum() == 0


def test_filter_memory_follows_the_weights():
    model = tiny_hyenadna()
    ids = some_ids(2, 30)
    with torch.inference_mode():
        first = run(model, ids)
        assert torch.equal(run(model, ids), first)
        filters = [layer.mixer.filter_fn for layer in model.layers]
        assert all(len(f._cache) == 1 for f in filters)
        for length in (10, 11, 12, 13, 14):
            run(model, ids[:, :length])
        assert all(len(f._cache) == 4 for f in filters)
    with torch.no_grad():
        model.layers[0].mixer.filter_fn.implicit_filter["0"].weight.mul_(1.5)
        changed = run(model, ids)
    assert (changed - first).abs().max() > 1e-3
    fresh = copy.deepcopy(model)
    assert all(not layer.mixer.filter_fn._cache for layer in fresh.layers)
    with torch.inference_mode():
        assert torch.equal(run(fresh, ids), changed)
        assert (run(model.bfloat16().float(), ids) - changed).abs().max() > 0  # converted weights are other weights
    model.train()
    with torch.no_grad():
        run(model, ids)
    assert all(not f._cache for f in filters)


def test_gradients_after_inference_mode_and_with_checkpointing():
    model = tiny_hyenadna()
    ids = some_ids(2, 30)
    with torch.inference_mode():
        run(model, ids)

    def gradients(saving):
        model.gradient_checkpointing = saving
        torch.manual_seed(0)
        model.zero_grad()
        model.lm_logits(run(model, ids)).square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    assert all(g.abs().sum() > 0 for g in gradients(False))
    model.train()
    for a, b in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    for parameter in model.eval().parameters():
        parameter.requires_grad_(False)
    embedded = model.embed(ids).requires_grad_()
    model.encode(embedded, torch.ones_like(ids, dtype=torch.bool)).sum().backward()
    assert embedded.grad.abs().sum() > 0


def test_bf16_autocast_is_close():
    model = tiny_hyenadna()
    ids = some_ids(2, 60)
    with torch.inference_mode():
        exact = run(model, ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = run(model, ids)
        pure = run(copy.deepcopy(model).bfloat16(), ids)
    scale = exact.abs().max()
    assert (rough - exact).abs().max() < 0.05 * scale  # bf16 keeps 8 bits: 0.4 % an operation, some tens of operations deep
    assert pure.dtype == torch.bfloat16
    assert (pure.float() - exact).abs().max() < 0.05 * scale


@pytest.mark.parametrize("head", ["tied", "separate"])
def test_language_model_head(head):
    model = tiny_hyenadna(lm_head=head)
    logits = model.lm_logits(run(model, some_ids(2, 9)))
    assert logits.shape == (2, 9, 16)
    assert ("lm_head.weight" in model.state_dict()) == (head == "separate")


def test_published_sizes():
    config = hyenadna.from_official({**HUB, "d_model": 128, "d_inner": 512, "max_seq_len": 1026})
    with torch.device("meta"):
        model = hyenadna.Model(config)
    trainable = sum(p.numel() for name, p in model.named_parameters() if name != "lm_head.weight")
    assert trainable == 436_096  # hyenadna-tiny-1k


def test_both_config_forms_give_one_config():
    layer = {"_name_": "hyena", "emb_dim": 5, "filter_order": 64, "local_order": 3, "l_max": 130, "modulate": True, "w": 10}
    original = hyenadna.from_official({"d_model": 8, "n_layer": 2, "d_inner": 16, "vocab_size": 12, "layer": layer})
    hub = hyenadna.from_official(HUB)
    assert original.lm_head == "tied"
    assert hub.lm_head == "separate"
    assert original.model_copy(update={"lm_head": "separate"}) == hub


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"model_type": "esm"}, "'esm' is not HyenaDNA's"),
        ({**HUB, "hyena_order": 3}, "hyena_order 3"),
        ({**HUB, "d_model": "wide"}, "d_model = 'wide'"),
        ({"model_type": "hyenadna", "d_model": 8}, "l_max is None"),
    ],
)
def test_configs_that_are_refused(raw, message):
    with pytest.raises(BasewiseError, match=message):
        hyenadna.from_official(raw)


def test_explicit_l_max_must_agree():
    assert hyenadna.from_official({k: v for k, v in HUB.items() if k != "max_seq_len"}, l_max=130).l_max == 130
    with pytest.raises(BasewiseError, match="130 in the config and 99 in the call"):
        hyenadna.from_official(HUB, l_max=99)


def test_official_names_round_trip():
    config = hyenadna.from_official(HUB)
    model = tiny_hyenadna(**config.model_dump())
    fresh = hyenadna.Model(config)
    state = official(model)
    state["lm_head.weight"] = state.pop("hyena.backbone.lm_head.weight")
    state |= {"train_torchmetrics.loss": torch.zeros(1), "decoder.0.output_transform.weight": torch.zeros(2, 8)}
    assign_weights(fresh, hyenadna.rename_official(state, config), "test")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True))


def damaged(name, change):
    state = official(tiny_hyenadna(lm_head="separate"))
    state[name] = change(state)
    return state


FREQ = "hyena.backbone.layers.1.mixer.filter_fn.implicit_filter.{}.freq"
GRID = "hyena.backbone.layers.0.mixer.filter_fn.pos_emb.z"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (FREQ.format(5), lambda s: s[FREQ.format(1)] + 1, "differs from another copy"),
        (GRID, lambda s: s[GRID][:, :100], "a grid of 100 points, but the config says 130"),
        (GRID, lambda s: s[GRID] + 0.01, "not the published constant"),
    ],
)
def test_checkpoints_that_contradict_themselves(name, change, message):
    with pytest.raises(BasewiseError, match=message):
        hyenadna.rename_official(damaged(name, change), hyenadna.from_official(HUB))


def test_two_different_heads_under_a_tied_config():
    state = official(tiny_hyenadna(lm_head="separate"))
    with pytest.raises(BasewiseError, match="ties the LM head"):
        hyenadna.rename_official(state, tiny_hyenadna().config)
