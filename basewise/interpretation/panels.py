"""A path integral whose error is known piece by piece: panels of Simpson's rule, halved where they are wrong.

One pass of the model at a place t of the path gives F(t) and dF/dt. The integral of dF/dt over a panel must be the difference of F at its
ends, so the error of every panel's sum is known, not estimated: only panels that are wrong are halved. Halves use both ends and the middle
of the whole, so no pass is wasted. Nothing is assumed of F: jumps of the slope (rectifiers), or a start as steep as a layer norm's out of
zeros, get the panels they need.

Nodes in order: end, middle, end, middle ... end of the panels, which cover [0, 1].
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
PANELS = 8  # to start with
SHARE = 0.25  # of the panels are halved at a time at most: more at once would overshoot
CANCELLING = 20  # times the limit: sizes of all panels' errors together, so that no sum is right by chance alone
NARROWEST = 2.0**-22  # places are float32 in the model
NOISE = 2.0**-22  # of the largest F: float32 values of F are not surer than that, nor is a panel's error


class Nodes(NamedTuple):
    """What is known of one path.

    Attributes
    ----------
    places : float64 (2 P + 1,)
        Of P panels, increasing from 0 to 1.
    values, slopes : float64 (2 P + 1,)
        F and dF/dt there.
    order : int64 (2 P + 1,)
        When each was evaluated, counted from 0: the caller's index of what else it keeps of the node.
    """

    places: Doubles
    values: Doubles
    slopes: Doubles
    order: npt.NDArray[np.int64]


def no_nodes() -> Nodes:
    """Return the path of which nothing is known."""
    nothing = np.empty(0)
    return Nodes(nothing, nothing, nothing, np.empty(0, dtype=np.int64))


def add_nodes(nodes: Nodes, places: Doubles, values: Doubles, slopes: Doubles) -> Nodes:
    """Return `nodes` with those of `next_places` in their order."""
    before = len(nodes.places)
    joined = np.concatenate([nodes.places, places])
    order = np.concatenate([nodes.order, np.arange(before, before + len(places))])
    index = np.argsort(joined, kind="stable")
    return Nodes(joined[index], np.concatenate([nodes.values, values])[index], np.concatenate([nodes.slopes, slopes])[index], order[index])


def errors_of(nodes: Nodes) -> Doubles:
    """Return the error (P,) of each panel's sum, signed; their sum is that of the whole."""
    width, slopes = np.diff(nodes.places[::2]), nodes.slopes
    return width / 6 * (slopes[:-2:2] + 4 * slopes[1::2] + slopes[2::2]) - np.diff(nodes.values[::2])


def weights_of_nodes(nodes: Nodes) -> Doubles:
    """Return the weight (2 P + 1,) of each node in the integral over [0, 1]."""
    width = np.diff(nodes.places[::2])
    weights = np.zeros(len(nodes.places))
    weights[1::2] = 4 * width / 6
    weights[:-2:2] += width / 6
    weights[2::2] += width / 6
    return weights


def next_places(nodes: Nodes, limit: float, cap: int) -> Doubles:
    """Return where to evaluate next, in order: nowhere (0,) when the path is done, or where there would be more than `cap` nodes.

    Done is a path whose errors sum to `limit` at most, their sizes to `CANCELLING` times that (and `NOISE` for each). Else those panels are
    halved that have the largest errors, above `NOISE`: until the sizes of the others' sum to `limit`, but not more than `SHARE` of all.
    """
    if not len(nodes.places):
        return np.linspace(0, 1, 2 * PANELS + 1)
    error, noise = errors_of(nodes), NOISE * np.abs(nodes.values).max()
    if abs(error.sum()) <= limit and np.abs(error).sum() <= CANCELLING * limit + noise * len(error):
        return np.empty(0)
    start, width = nodes.places[:-2:2], np.diff(nodes.places[::2])
    size = np.where((width > NARROWEST) & (np.abs(error) > noise), np.abs(error), 0.0)
    largest = np.argsort(-size, kind="stable")
    rest = size.sum() - np.cumsum(size[largest])
    most = min(1 + int((rest > limit).sum()), math.ceil(SHARE * len(size)), max(0, cap - len(nodes.places)) // 2)
    wrong = largest[:most][size[largest[:most]] > 0]
    return np.sort((start[wrong, None] + width[wrong, None] * np.array([0.25, 0.75])).ravel())
