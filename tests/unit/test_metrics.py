import logging

import numpy as np
import pytest
import sklearn.metrics as sk

from basewise.errors import BasewiseError
from basewise.evaluation.bootstrap import bootstrap_ci, bootstrap_metrics
from basewise.evaluation.metrics import (
    BINARY_METRICS,
    MULTICLASS_METRICS,
    binary_metrics,
    calibration_error,
    multiclass_metrics,
    precision_at_prevalence,
    precision_at_recall,
    prevalence_weights,
)


def data(n=400, seed=0, decimals=2):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    p = np.round(1 / (1 + np.exp(-(2 * y - 1 + rng.normal(0, 1.5, n)))), decimals)  # rounded: many ties
    return y, p


@pytest.mark.parametrize("prevalence", [None, 0.01])
def test_binary_metrics_equal_sklearn(prevalence):
    y, p = data()
    w = prevalence_weights(y, prevalence)
    hard = (p >= 0.4).astype(int)
    got = binary_metrics(y, p, 0.4, prevalence=prevalence)
    wanted = {
        "accuracy": sk.accuracy_score(y, hard, sample_weight=w),
        "precision": sk.precision_score(y, hard, sample_weight=w),
        "recall": sk.recall_score(y, hard, sample_weight=w),
        "specificity": sk.recall_score(y, hard, sample_weight=w, pos_label=0),
        "f1": sk.f1_score(y, hard, sample_weight=w),
        "mcc": sk.matthews_corrcoef(y, hard, sample_weight=w),
        "auroc": sk.roc_auc_score(y, p, sample_weight=w),
        "auprc": sk.average_precision_score(y, p, sample_weight=w),
        "auc_hard": sk.roc_auc_score(y, hard, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
        "precision_macro": sk.precision_score(y, hard, sample_weight=w, average="macro"),
        "f1_macro": sk.f1_score(y, hard, sample_weight=w, average="macro"),
    }
    assert set(got) == set(BINARY_METRICS)
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


def test_calibration_error_by_hand():
    # bins of 1/2: (0.1, 0.3) holds labels 0, 1: |0.5 - 0.2|; (0.9,) holds 1: |1 - 0.9|
    assert calibration_error([0, 1, 1], [0.1, 0.3, 0.9], bins=2) == pytest.approx((2 * 0.3 + 1 * 0.1) / 3)


def test_prevalence_weights_give_the_prevalence():
    y, p = data()
    w = prevalence_weights(y, 0.005)
    assert (w * y).sum() / w.sum() == pytest.approx(0.005)
    recall, specificity = binary_metrics(y, p, 0.7)["recall"], binary_metrics(y, p, 0.7)["specificity"]
    assert precision_at_prevalence(y, p, 0.7, 0.005) == pytest.approx(recall * 0.005 / (recall * 0.005 + (1 - specificity) * 0.995))


@pytest.mark.parametrize(
    ("y", "p", "undefined"),
    [
        ([0, 0], [0.1, 0.2], {"precision", "recall", "f1", "mcc", "auroc", "auprc", "auc_hard", "precision_macro", "f1_macro"}),
        ([1, 1], [0.6, 0.7], {"specificity", "mcc", "auroc", "auc_hard", "precision_macro", "f1_macro"}),
        ([0, 1], [0.1, 0.2], {"precision", "mcc", "precision_macro"}),
    ],
)
def test_undefined_metrics_are_none(y, p, undefined):
    got = binary_metrics(y, p)
    assert {name for name, value in got.items() if value is None} == undefined


def test_constant_predictions_warn(caplog):
    with caplog.at_level(logging.WARNING):
        assert binary_metrics([0, 1], [0.5, 0.5])["auroc"] == 0.5
    assert "all 2 predictions equal 0.5" in caplog.text


@pytest.mark.parametrize(("y", "p"), [([0, 2], [0.1, 0.2]), ([0, 1], [0.1, float("nan")]), ([0, 1], [0.1, 1.2]), ([0, 1], [0.1])])
def test_bad_input_is_refused(y, p):
    with pytest.raises(BasewiseError):
        binary_metrics(y, p)


def test_precision_at_recall_equals_a_brute_force_over_thresholds():
    y, p = data(200)
    for recall, value in precision_at_recall(y, p, (0.1, 0.3, 0.5, 1.0)).items():
        threshold = max(t for t in set(p) if y[p >= t].sum() >= recall * y.sum())
        assert value == y[p >= threshold].mean()


def test_multiclass_equals_sklearn():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 200)
    y = np.where(rng.random(200) < 0.5, p.argmax(1), rng.integers(0, 3, 200))
    got, called = multiclass_metrics(y, p), p.argmax(1)
    assert set(got) == set(MULTICLASS_METRICS)
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(y, called))
    assert got["f1_macro"] == pytest.approx(sk.f1_score(y, called, average="macro"))
    assert got["precision_macro"] == pytest.approx(sk.precision_score(y, called, average="macro"))
    assert got["recall_macro"] == pytest.approx(sk.recall_score(y, called, average="macro"))
    assert got["mcc"] == pytest.approx(sk.matthews_corrcoef(y, called))


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_fast_bootstrap_equals_the_plain_one(prevalence):
    y, p = data(120)
    groups = np.arange(120) // 4
    fast = bootstrap_metrics(y, p, 0.5, n=60, seed=3, groups=groups, prevalence=prevalence, recalls=(0.3,))
    for name in ("auroc", "auprc", "f1", "ece", "precision"):
        plain = bootstrap_ci(
            lambda a, b, name=name: binary_metrics(a, b, 0.5, prevalence=prevalence, warn=False)[name], y, p, n=60, seed=3, groups=groups
        )
        assert fast[name] == pytest.approx(plain, abs=1e-9)
    plain = bootstrap_ci(lambda a, b: precision_at_recall(a, b, (0.3,), prevalence=prevalence)[0.3], y, p, n=60, seed=3, groups=groups)
    assert fast["precision_at_recall_0.3"] == pytest.approx(plain, abs=1e-9)


def test_bootstrap_of_a_mean_matches_the_normal_interval_and_groups_widen_it():
    x = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_ci(lambda a: float(a.mean()), x, n=2000, seed=1)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.01)
    doubled, groups = np.repeat(x, 4), np.repeat(np.arange(400), 4)
    grouped = bootstrap_ci(lambda a: float(a.mean()), doubled, n=2000, seed=1, groups=groups)
    naive = bootstrap_ci(lambda a: float(a.mean()), doubled, n=2000, seed=1)
    assert grouped[1] - grouped[0] == pytest.approx(high - low, rel=1e-6)
    assert naive[1] - naive[0] < 0.6 * (high - low)
