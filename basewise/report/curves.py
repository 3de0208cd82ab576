"""Figures of an evaluation: precision-recall, ROC, reliability and training curves. Numbers in, one SVG string out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from basewise.report.style import BLUE, HALF, INK, LINE, MUTED, SERIES, new_axes, short_name, style, to_svg

Floats = npt.NDArray[np.float64]
CURVE_POINTS = 400  # a curve of a million predictions is drawn through this many points


class Curve(NamedTuple):
    """Points of a line: x (n,), y (n,)."""

    x: Floats
    y: Floats


def precision_recall(y: npt.ArrayLike, p: npt.ArrayLike) -> Curve:
    """Return recall (x) and precision (y) at each distinct probability, ties called together; needs at least one positive."""
    tp, called = _cumulative(y, p)
    return _thin(tp / tp[-1], tp / called)


def roc(y: npt.ArrayLike, p: npt.ArrayLike) -> Curve:
    """Return false positive rate (x) and recall (y) at each distinct probability, from (0, 0); needs both classes."""
    tp, called = _cumulative(y, p)
    fp = called - tp
    return _thin(np.append(0.0, fp / fp[-1]), np.append(0.0, tp / tp[-1]))


def _cumulative(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Floats, Floats]:
    labels, values = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    return np.cumsum(labels[order])[ends], (ends + 1).astype(np.float64)


def _thin(x: Floats, y: Floats) -> Curve:
    """Keep points evenly spaced along x, always the first and the last."""
    if len(x) <= CURVE_POINTS:
        return Curve(x, y)
    keep = np.unique(np.append(np.searchsorted(x, np.linspace(x[0], x[-1], CURVE_POINTS)), (0, len(x) - 1)))
    return Curve(x[keep], y[keep])


def reliability_bins(y: npt.ArrayLike, p: npt.ArrayLike, bins: int = 10) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return mean probability, observed share of positives and count of each bin that is not empty.

    Bins hold equal numbers of examples (ties stay together), so that rare high probabilities are not lost in one wide bin.
    """
    labels, values = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, values, side="right")
    n = np.bincount(bin_of, minlength=len(edges) + 1)
    full = n > 0
    mean = np.bincount(bin_of, values, minlength=len(n))[full] / n[full]
    observed = np.bincount(bin_of, labels, minlength=len(n))[full] / n[full]
    return mean, observed, n[full]


def precision_recall_plot(curves: Mapping[str, Curve], prevalence: float) -> str:
    """Draw precision against recall, one line a name, with the prevalence (0-1: what guessing reaches) as a line."""
    with style():
        figure, ax = new_axes(HALF, 3.5)
        ax.axhline(prevalence, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)), label=f"guessing ({prevalence:.3g})")
        for colour, (name, curve) in zip(SERIES, curves.items(), strict=False):
            ax.step(curve.x, curve.y, where="pre", color=colour, label=name)
        _unit_square(ax)
        ax.set_xlabel("recall (share of true sites found)")
        ax.set_ylabel("precision (share of calls that are true)")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure)


def roc_plot(curves: Mapping[str, Curve]) -> str:
    """Draw recall against the false positive rate, one line a name, with the diagonal of guessing."""
    with style():
        figure, ax = new_axes(HALF, 3.5)
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)), label="guessing")
        for colour, (name, curve) in zip(SERIES, curves.items(), strict=False):
            ax.plot(curve.x, curve.y, color=colour, label=name)
        _unit_square(ax)
        ax.set_xlabel("false positive rate (share of negatives called)")
        ax.set_ylabel("recall (share of true sites found)")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure)


def reliability_plot(mean: Floats, observed: Floats, counts: npt.NDArray[np.int64]) -> str:
    """Draw the observed share of positives against the mean probability of a bin, with 95 % intervals (Wilson) and the diagonal."""
    low, high = wilson(observed, counts)
    with style():
        figure, ax = new_axes(HALF, 3.5)
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)), label="perfectly calibrated")
        ax.errorbar(
            mean,
            observed,
            yerr=np.stack([observed - low, high - observed]),
            color=BLUE,
            linewidth=1.2,
            marker="o",
            markersize=4.5,
            label="model",
        )
        _unit_square(ax)
        ax.set_xlabel("mean probability given by the model")
        ax.set_ylabel("observed share of positives")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure)


def wilson(share: Floats, n: npt.NDArray[np.int64], z: float = 1.96) -> tuple[Floats, Floats]:
    """Return the Wilson score interval of shares (B,) seen in `n` (B,) trials. Source: Wilson 1927."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.minimum(middle - reach, share), np.maximum(middle + reach, share)


def training_curves(lines: Mapping[str, Curve], ylabel: str, best: float | None = None) -> str:
    """Draw values over training steps, one line a name; `best` (a step) marks the weights that were kept."""
    with style():
        figure, ax = new_axes(HALF, 3.0)
        for colour, (name, curve) in zip(SERIES, lines.items(), strict=False):
            ax.plot(curve.x, curve.y, color=colour, label=name, marker="o" if len(curve.x) < 3 else "", markersize=4)
        if best is not None:
            ax.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
            ax.annotate("kept", (best, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top", fontsize=8.5)
        ax.grid(axis="y")
        ax.set_xlabel("training step")
        ax.set_ylabel(ylabel)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure)


def comparison_plot(names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float] | None], xlabel: str) -> str:
    """Draw one value a name as a dot with its interval where there is one, the first name on top."""
    with style():
        figure, ax = new_axes(HALF, 0.9 + 0.32 * len(names))
        for i, (value, interval) in enumerate(zip(values, intervals, strict=True)):
            if interval is not None:
                ax.plot(interval, (i, i), color=SERIES[0] if i == 0 else MUTED, linewidth=1.6, solid_capstyle="butt")
            ax.plot([value], [i], "o", color=SERIES[0] if i == 0 else MUTED, markersize=6)
            ax.annotate(f"{value:.3f}", (value, i), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set_yticks(range(len(names)), [short_name(name, 26) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.7)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="both", color=LINE)
        ax.set_xlabel(xlabel)
        return to_svg(figure)


def _unit_square(ax: Axes) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.02)
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ax.grid()
