import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from basewise.errors import BasewiseError
from basewise.evaluation.calibration import choose_threshold, fit_platt, fit_temperature
from basewise.evaluation.metrics import calibration_error


def scored(n=3000, temperature=2.5, bias=-1.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(logits / temperature + bias)))).astype(int)
    return logits, y


def test_platt_finds_the_truth_and_equals_logistic_regression_on_platts_targets():
    logits, y = scored()
    temperature, bias = fit_platt(logits, y)
    assert (temperature, bias) == pytest.approx((2.5, -1.0), rel=0.1)
    up, down = (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2)
    x = np.concatenate([logits, logits])[:, None]
    w = np.concatenate([np.where(y == 1, up, down), np.where(y == 1, 1 - up, 1 - down)])
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, np.repeat([1, 0], len(y)), sample_weight=w)
    assert 1 / temperature == pytest.approx(oracle.coef_[0, 0], abs=1e-5)
    assert bias == pytest.approx(oracle.intercept_[0], abs=1e-5)
    p = 1 / (1 + np.exp(-(logits / temperature + bias)))
    assert calibration_error(y, p) < 0.03 < calibration_error(y, 1 / (1 + np.exp(-logits)))


def test_temperature_minimises_the_log_loss():
    logits, y = scored(bias=0.0)
    sign = 2 * y - 1
    oracle = minimize(lambda a: np.logaddexp(0, -sign * a[0] * logits).sum(), [1.0], tol=1e-10).x[0]
    assert 1 / fit_temperature(logits, y) == pytest.approx(oracle, rel=1e-5)
    two = np.stack([np.zeros_like(logits), logits], 1)  # the same question as two classes
    assert fit_temperature(two, y) == pytest.approx(fit_temperature(logits, y), rel=1e-6)


def test_separable_and_huge_logits_stay_finite():
    temperature, bias = fit_platt([-500.0, -400.0, 400.0, 500.0], [0, 0, 1, 1])
    assert np.isfinite([temperature, bias]).all()
    assert temperature > 0


@pytest.mark.parametrize(("logits", "y"), [([0.1, 0.2], [1, 1]), ([2.0, 1.0, -1.0, -2.0], [0, 0, 1, 1])])
def test_useless_validation_data_leave_scores_as_they_are(logits, y, caplog):
    assert fit_platt(logits, y) == (1.0, 0.0)
    assert "uncalibrated" in caplog.text


def test_thresholds_by_rule():
    y, p = [1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.4, 0.1]
    assert choose_threshold(y, p, "max_f1") == 0.6
    assert choose_threshold(y, p, "max_mcc") == 0.8  # mcc 0.707 at 0.8 and 0.6: ties go up
    assert choose_threshold(y, p, "precision=1.0") == 0.8
    assert choose_threshold(y, p, "precision=0.75") == 0.6
    assert choose_threshold(y, p, "recall=0.3") == 0.9
    assert choose_threshold(y, p, "recall=0.5") == 0.8
    assert choose_threshold(y, p, "0.25") == choose_threshold(y, p, 0.25) == 0.25


def test_prevalence_moves_the_threshold_up():
    logits, y = scored()
    p = 1 / (1 + np.exp(-logits))
    assert choose_threshold(y, p, "max_f1", prevalence=0.01) > choose_threshold(y, p, "max_f1")


@pytest.mark.parametrize("rule", ["best", "precision=2", "recall=x", 1.5])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(BasewiseError, match="threshold rule"):
        choose_threshold([0, 1], [0.1, 0.9], rule if isinstance(rule, str) else str(rule))


def test_unreachable_precision_is_said():
    with pytest.raises(BasewiseError, match="no threshold reaches precision"):
        choose_threshold([1, 0], [0.1, 0.9], "precision=0.9")
