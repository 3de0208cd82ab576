import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import (
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from basewise.errors import BasewiseError
from basewise.training.losses import LossSettings, check_loss, label_weights, loss_sum
from basewise.training.schedules import Plateau, factor, warmup_steps

TOTAL, WARM = 50, 7
ORACLES = {
    "linear": lambda o: get_linear_schedule_with_warmup(o, WARM, TOTAL),
    "cosine": lambda o: get_cosine_schedule_with_warmup(o, WARM, TOTAL),
    "constant": get_constant_schedule,
    "constant_with_warmup": lambda o: get_constant_schedule_with_warmup(o, WARM),
}


@pytest.mark.parametrize("name", ORACLES)
def test_schedules_equal_transformers(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = ORACLES[name](optimizer)
    for step in range(TOTAL):
        assert factor(name, step, TOTAL, WARM) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12), step
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("higher", [True, False])
def test_plateau_equals_torch(higher):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = ReduceLROnPlateau(optimizer, mode="max" if higher else "min", factor=0.5, patience=2)
    ours = Plateau(cut=0.5, patience=2, higher_is_better=higher)
    for value in np.random.default_rng(0).random(60):
        oracle.step(value)
        ours.update(float(value))
        assert ours.factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.factor < 0.5


def test_warmup_steps_round_up_and_unknown_schedules_are_refused():
    assert warmup_steps(101, 0.1) == 11
    with pytest.raises(BasewiseError, match="Did you mean 'cosine'"):
        factor("cosin", 0, 1, 0)


def binary(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(6, 9, 1, generator=g) * 3, torch.randint(-1, 2, (6, 9), generator=g)


def mean(logits, labels, settings):
    return loss_sum(logits, labels, settings) / label_weights(labels, settings).sum()


def test_bce_equals_torch():
    logits, labels = binary()
    keep = labels >= 0
    oracle = F.binary_cross_entropy_with_logits(logits[..., 0][keep], labels[keep].float(), pos_weight=torch.tensor(3.0))
    torch.testing.assert_close(mean(logits, labels, LossSettings("bce", pos_weight=3.0)), oracle)


def test_weighted_ce_equals_torch_binary_and_multiclass():
    logits, labels = binary()
    two = torch.cat([torch.zeros_like(logits), logits], -1)
    oracle = F.cross_entropy(two.reshape(-1, 2), labels.reshape(-1), weight=torch.tensor([0.7, 2.0]), ignore_index=-1)
    settings = LossSettings("weighted_ce", class_weights=(0.7, 2.0))
    torch.testing.assert_close(mean(logits, labels, settings), oracle)
    torch.testing.assert_close(mean(two, labels, settings), oracle)


def test_focal_equals_its_formula_and_gamma_0_is_bce():
    logits, labels = binary()
    keep = labels >= 0
    p, t = torch.sigmoid(logits[..., 0][keep]), labels[keep].float()
    p_true, alpha = p * t + (1 - p) * (1 - t), 0.25 * t + 0.75 * (1 - t)
    oracle = (-alpha * (1 - p_true) ** 2 * p_true.log()).mean()
    torch.testing.assert_close(mean(logits, labels, LossSettings("focal", gamma=2.0, alpha=0.25)), oracle)
    torch.testing.assert_close(mean(logits, labels, LossSettings("focal", gamma=0.0)), mean(logits, labels, LossSettings("bce")))


@pytest.mark.parametrize("name", ["bce", "weighted_ce", "focal"])
def test_gradients_are_finite_at_extreme_logits_and_zero_where_ignored(name):
    logits = torch.tensor([[100.0], [-100.0], [100.0], [3.0]], requires_grad=True)
    loss_sum(logits, torch.tensor([0, 1, 1, -1]), LossSettings(name)).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[3].item() == 0.0


def test_unknown_loss_is_refused():
    with pytest.raises(BasewiseError, match="Did you mean 'focal'"):
        check_loss("focale")
