"""Figures: the numbers behind them by hand, what the SVG says, the same bytes twice, and no state left behind."""

import math
import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
import sklearn.metrics as sk

from basewise.report import curves, explain_figures, figures
from basewise.report.style import PINK, short_count, short_name

COUNTS = np.random.default_rng(0).integers(0, 50, (101, 4))
CURVE = curves.Curve(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.6, 0.2]))
DRAWN = {
    "bars": lambda: figures.chromosome_bars(["chr1", "chr2"], {"candidates": [5000, 0], "candidates in genes": [40, 0], "sites": [1, 0]}),
    "bars, linear": lambda: figures.chromosome_bars(["chr1"], {"candidates": [5]}, log=False),
    "logo": lambda: figures.sequence_logo(COUNTS, 50, (-1, 0)),
    "logo, one panel": lambda: figures.sequence_logo(COUNTS[:9], 4),
    "composition": lambda: figures.composition_profile(COUNTS, 50),
    "hexamers": lambda: figures.hexamer_bars(["AATAAA", "ATTAAA"], {"candidates": [0.5, 0.5], "sites": [0.9, 0.1]}),
    "offsets": lambda: figures.offset_histogram(range(10, 36), {"candidates": [1 / 26] * 26, "sites": [0.0] * 26}),
    "probabilities": lambda: figures.probability_histogram(np.linspace(0, 1, 5), {"candidates": np.array([100, 10, 0, 1])}, 0.7),
    "precision-recall": lambda: curves.precision_recall_plot({"model": CURVE}, 0.2),
    "roc": lambda: curves.roc_plot({"model": CURVE}),
    "reliability": lambda: curves.reliability_plot(np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.array([10, 5])),
    "training": lambda: curves.training_curves({"loss": CURVE}, "loss (bce)", best=0.5),
    "mispredictions": lambda: explain_figures.misprediction_bars([0, 0.5, 1], [0, 0, 0]),
    "comparison": lambda: curves.comparison_plot(["a", "b"], [0.9, 0.8], [(0.85, 0.95), None], "AUROC"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
def test_a_figure_is_clean_svg_twice_the_same(draw):
    before = dict(mpl.rcParams)
    svg = draw()
    assert dict(mpl.rcParams) == before
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert "viewBox" in root.attrib
    assert not [e for e in root.iter() if "style" in e.attrib or e.tag in ("style", "metadata", "script", "image")]
    assert "http" not in svg
    assert not re.search(r"\b(nan|inf|NaN)\b", svg)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(ids)
    assert draw() == svg


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bars", ["chr1", "chr2", "5,000", "candidates in genes", "number (logarithmic scale)"]),
        ("logo", ["information (bits)", "position relative to the cleavage base (nt)", "−50", "+50"]),
        ("hexamers", ["AATAAA", "share (%)"]),
        ("offsets", ["first base of the hexamer to cleavage base (nt)"]),
        ("probabilities", ["threshold 0.7", "probability given by the model"]),
        ("precision-recall", ["recall (share of positives found)", "guessing (0.2)"]),
        ("training", ["training step", "loss (bce)", "kept"]),
    ],
)
def test_axes_are_labelled(name, words):
    text = " ".join(ET.fromstring(DRAWN[name]()).itertext())
    assert [word for word in words if word not in text] == []


def test_information_by_hand():
    counts = np.array([[1000, 0, 0, 0], [500, 500, 0, 0], [250, 250, 250, 250], [0, 0, 0, 0], [2, 0, 0, 0]])
    heights = figures.information(counts)
    correction = 3 / (2 * math.log(2) * 1000)
    np.testing.assert_allclose(heights[0], [2 - correction, 0, 0, 0])
    np.testing.assert_allclose(heights[1], [(1 - correction) / 2] * 2 + [0, 0])
    np.testing.assert_allclose(heights[2:4], 0)  # equal shares, and no sequence at all
    np.testing.assert_allclose(heights[4], [2 - 3 / (4 * math.log(2)), 0, 0, 0])


def test_names_from_data_are_drawn_as_they_are():
    svg = figures.chromosome_bars(["<b>$x_1$&"], {"sites": [1]})
    assert "<b>$x_1$&" in " ".join(ET.fromstring(svg).itertext())


def test_curves_equal_sklearn():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 300), rng.integers(0, 40, 300) / 40  # ties
    precision, recall, _ = sk.precision_recall_curve(y, p)
    ours = curves.precision_recall(y, p)
    np.testing.assert_allclose(ours.x, recall[:-1][::-1])
    np.testing.assert_allclose(ours.y, precision[:-1][::-1])
    fpr, tpr, _ = sk.roc_curve(y, p, drop_intermediate=False)
    ours = curves.roc(y, p)
    np.testing.assert_allclose(ours.x, fpr)
    np.testing.assert_allclose(ours.y, tpr)


def test_long_curves_are_thinned_but_keep_their_ends():
    rng = np.random.default_rng(2)
    y, p = rng.integers(0, 2, 20_000), rng.random(20_000)
    curve = curves.roc(y, p)
    assert len(curve.x) <= curves.CURVE_POINTS + 2
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert abs(np.trapezoid(curve.y, curve.x) - sk.roc_auc_score(y, p)) < 0.005


def test_reliability_by_hand():
    mean, observed, n = curves.reliability_bins([0, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], bins=2)
    np.testing.assert_allclose(mean, [0.1, 0.9])
    np.testing.assert_allclose(observed, [0, 0.5])
    assert n.tolist() == [2, 2]
    constant = curves.reliability_bins([0, 1], [0.3, 0.3])
    assert constant[2].tolist() == [2]


def test_wilson_interval_of_a_textbook():
    low, high = curves.wilson(np.array([0.1, 0.0]), np.array([10, 10]))
    np.testing.assert_allclose(low, [0.0179, 0], atol=1e-4)  # 1 of 10: 0.0179-0.4042
    np.testing.assert_allclose(high, [0.4042, 0.2775], atol=1e-4)


def test_short_texts():
    assert [short_count(v) for v in (0, 7, 950, 1200, 30_000, 4e6)] == ["0", "7", "950", "1.2k", "30k", "4M"]
    assert short_name("chr22") == "chr22"
    assert short_name("chr22_20000001_21000000") == "chr22_2000…_21000000"


def test_bars_of_mispredictions_start_at_zero():
    """Heights of the bars are as the counts: 92 beside 115 looks like 0.8 of it, not like a fifth."""
    counts = [92, 103, 115]
    root = ET.fromstring(explain_figures.misprediction_bars([0, 0.5, 1], counts))
    bars = [node for node in root.iter("path") if PINK in node.get("style", "") + node.get("fill", "")]
    ys = [[float(y) for y in re.findall(r"[ML] ?[-\d.]+ ([-\d.]+)", node.get("d"))] for node in bars]
    heights = [max(y) - min(y) for y in ys]
    np.testing.assert_allclose(np.array(heights) / heights[-1], np.array(counts) / counts[-1], rtol=1e-3)
