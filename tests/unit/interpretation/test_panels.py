"""Panels of a path: sums known by hand, errors that are the true ones, halving where they are and nowhere else, and its ends."""

import numpy as np
import pytest

from basewise.interpretation import panels
from basewise.interpretation.panels import add_nodes, errors_of, next_places, no_nodes, weights_of_nodes


def halved(function, slope, limit, cap=1000):
    """Return the nodes of a path when nothing more is asked for, and how many were asked for each time."""
    nodes, asked = no_nodes(), []
    while len(places := next_places(nodes, limit, cap)):
        nodes = add_nodes(nodes, places, function(places), slope(places))
        asked.append(len(places))
    return nodes, asked


def test_a_line_needs_no_halving():
    nodes, asked = halved(lambda t: 3 * t - 1, lambda t: 3 + 0 * t, 1e-12)
    assert asked == [2 * panels.PANELS + 1]
    np.testing.assert_allclose(errors_of(nodes), 0, atol=1e-15)
    assert weights_of_nodes(nodes).sum() == pytest.approx(1)


def test_quartics_are_exact_and_quintics_err_as_simpson_does():
    """Simpson's error of a fourth derivative f over a width h: h^5 f / 2880."""
    nodes, _ = halved(lambda t: t**4, lambda t: 4 * t**3, 1e-12)
    np.testing.assert_allclose(errors_of(nodes), 0, atol=1e-15)
    nodes, asked = halved(lambda t: t**5, lambda t: 5 * t**4, 1.0)
    np.testing.assert_allclose(errors_of(nodes), (1 / panels.PANELS) ** 5 * 120 / 2880, rtol=1e-9)
    assert asked == [2 * panels.PANELS + 1]


@pytest.mark.parametrize("kink", [0.3, 0.5, 1 / 3, 0.9999])
def test_only_the_panel_of_a_kink_is_halved(kink):
    limit = 1e-6
    nodes, asked = halved(lambda t: np.maximum(t - kink, 0), lambda t: (t > kink).astype(float), limit)
    assert set(asked[1:]) <= {2, 4}  # at a place of its own the kink touches two panels
    assert asked[0] + sum(asked[1:]) == len(nodes.places) <= 17 + 4 * 22
    assert abs(errors_of(nodes).sum()) <= limit
    assert abs(weights_of_nodes(nodes) @ nodes.slopes - (1 - kink)) <= limit
    new = np.setdiff1d(nodes.places, np.linspace(0, 1, 17))
    assert np.abs(new - kink).max() < 1 / panels.PANELS


def test_a_start_as_steep_as_a_norm_out_of_zeros():
    """F = t / sqrt(t^2 + e): all of its change lies within some sqrt(e) of 0, which 512 even points do not see."""
    e = 1e-10
    nodes, _ = halved(lambda t: t / np.sqrt(t * t + e), lambda t: e / (t * t + e) ** 1.5, 1e-3)
    assert abs(weights_of_nodes(nodes) @ nodes.slopes - 1) <= 1e-3
    assert len(nodes.places) < 100


def test_sums_that_are_right_by_chance_are_not_believed():
    """Errors of both signs cancel in this path from its first sum on."""
    t = np.linspace(0, 1, 2001)
    wave = np.sin(40 * np.pi * t) * np.sign(t - 0.5 + 1e-9)
    total = np.concatenate([[0], np.cumsum((wave[1:] + wave[:-1]) / 2) / 2000])
    nodes, asked = halved(lambda x: np.interp(x, t, total) + x, lambda x: np.interp(x, t, wave) + 1, 1e-4)
    first = add_nodes(no_nodes(), p := np.linspace(0, 1, 17), np.interp(p, t, total) + p, np.interp(p, t, wave) + 1)
    assert np.abs(errors_of(first)).sum() > 100 * 1e-4
    assert len(asked) > 1
    assert np.abs(errors_of(nodes)).sum() <= panels.CANCELLING * 1e-4


def test_where_it_ends():
    """At the cap, and at panels too narrow for the float32 of a model; the error that is left is there to be read."""
    jump = (lambda t: (t > 0.3).astype(float), lambda t: 0 * t)
    nodes, _ = halved(*jump, 1e-3, cap=30)
    assert 28 <= len(nodes.places) <= 30
    assert errors_of(nodes).sum() == pytest.approx(-1)
    nodes, _ = halved(*jump, 1e-3)
    assert np.diff(nodes.places[::2]).min() >= panels.NARROWEST / 2
    assert errors_of(nodes).sum() == pytest.approx(-1)


def test_rounding_of_the_model_is_not_chased():
    """F is 2.8 in float32: its panels' errors stop falling at its rounding, and so does the halving, also short of the limit."""

    def rounded(t):
        return (2.8 + 0.008 * np.sqrt(t + 0.01)).astype(np.float32).astype(float)

    nodes, _ = halved(rounded, lambda t: 0.004 / np.sqrt(t + 0.01), 1e-9)
    assert len(nodes.places) < 100
    assert np.abs(errors_of(nodes)).max() <= panels.NOISE * 2.9


def test_order_says_when_a_node_came():
    places = np.linspace(0, 1, 17)
    nodes = add_nodes(no_nodes(), places, places**9, 9 * places**8)
    later = next_places(nodes, 1e-9, 1000)
    nodes = add_nodes(nodes, later, later**9, 9 * later**8)
    np.testing.assert_array_equal(np.concatenate([places, later])[nodes.order], nodes.places)
    np.testing.assert_array_equal(nodes.values, nodes.places**9)
    np.testing.assert_allclose(weights_of_nodes(nodes) @ nodes.slopes - 1, errors_of(nodes).sum(), atol=1e-14)
