"""Figures of a genome scan: numbers in, one SVG string out. What the axes say is all a figure knows; captions are the caller's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from basewise.report.style import (
    BASE_COLOURS,
    BLUE,
    HALF,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PINK,
    WIDE,
    count_ticks,
    new_axes,
    short_name,
    style,
    to_svg,
)

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BASES = "ACGT"
LOG_FLOOR = 0.8  # where bars on a logarithmic axis start, so that a count of 1 is a visible bar
_COUNT_COLOURS = (BLUE, ORANGE, PINK)  # the order and colours of figure 6 of the poly(A) paper, in safe shades
_PAIR_COLOURS = (MUTED, PINK)


def chromosome_bars(names: Sequence[str], series: Mapping[str, Sequence[int]], *, log: bool = True) -> str:
    """Draw up to three counts a chromosome as bars, with the numbers at their ends (figure 6 of the poly(A) paper).

    `series` maps a label to one count a name. On the logarithmic axis a count of 0 has no bar.
    """
    with style():
        thickness = 0.8 / len(series)
        figure, ax = new_axes(WIDE, 0.9 + len(names) * (0.14 * len(series) + 0.1))
        rows = np.arange(len(names))
        top = max((max(values, default=0) for values in series.values()), default=0)
        for i, (label, values) in enumerate(series.items()):
            y = rows - 0.4 + thickness * (i + 0.5)
            counts = np.asarray(values, dtype=np.float64)
            left = LOG_FLOOR if log else 0.0
            ax.barh(y, np.maximum(counts - left, 0), thickness * 0.92, left=left, color=_COUNT_COLOURS[i % 3], label=label)
            for place, value in zip(y, counts, strict=True):
                ax.annotate(f"{int(value):,}", (max(value, left), place), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
        if log:
            ax.set_xscale("log")
            ax.set_xlim(LOG_FLOOR, max(top, 1) * 4)
        else:
            ax.set_xlim(0, max(top, 1) * 1.15)
        count_ticks(ax.xaxis)
        ax.set_yticks(rows, [short_name(name) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
        ax.set_xlabel("number" + (" (logarithmic scale)" if log else ""))
        figure.legend(loc="outside upper left", ncols=len(series))
        return to_svg(figure)


def information(counts: Counts) -> Floats:
    """Return letter heights in bits (L, 4) for base counts (L, 4): frequency times information content of the position.

    Information is 2 - entropy - 3 / (2 n ln 2), never below 0; the last term corrects for few sequences, so a handful of sites
    does not look conserved. Positions without a count are 0. Source: Schneider & Stephens 1990.
    """
    n = counts.sum(axis=1, keepdims=True).astype(np.float64)
    share = np.divide(counts, n, out=np.zeros(counts.shape), where=n > 0)
    entropy = -np.where(share > 0, share * np.log2(np.where(share > 0, share, 1.0)), 0.0).sum(axis=1, keepdims=True)
    correction = np.divide(3 / (2 * np.log(2)), n, out=np.full(n.shape, 2.0), where=n > 0)
    return share * np.maximum(2 - entropy - correction, 0.0)


def sequence_logo(counts: Counts, center: int, fixed: Sequence[int] = ()) -> str:
    """Draw the logo of base counts (L, 4) in two panels: whole (0-2 bits), and enlarged without the columns `fixed`.

    `center` is the column at position 0; `fixed` are positions relative to it whose bases were demanded by a rule and therefore
    say nothing about the sites. Figure 7 of the poly(A) paper, by information content.
    """
    heights = information(counts)
    positions = np.arange(len(counts)) - center
    free = heights.copy()
    free[np.isin(positions, fixed)] = 0.0
    with style():
        figure = Figure(figsize=(WIDE, 3.7 if fixed else 2.2), layout="constrained")
        if not fixed:
            _draw_logo(figure.add_subplot(), heights, positions, 2.0)
            return to_svg(figure)
        whole, zoom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
        _draw_logo(whole, heights, positions, 2.0)
        whole.set_xlabel("")
        _draw_logo(zoom, free, positions, max(float(free.sum(axis=1).max()) * 1.08, 0.05))
        for position in fixed:
            zoom.axvspan(position - 0.5, position + 0.5, color=LINE)
        return to_svg(figure)


def _draw_logo(ax: Axes, heights: Floats, positions: npt.NDArray[np.int64], top: float) -> None:
    import logomaker
    import pandas as pd

    # letters thinner than a hair are left out: they cannot be seen and double the size of the page
    table = pd.DataFrame(np.where(heights < top / 250, 0.0, heights), index=positions, columns=list(BASES))
    logomaker.Logo(
        table, ax=ax, color_scheme=BASE_COLOURS, font_name="DejaVu Sans", font_weight="bold", show_spines=False, baseline_width=0
    )
    for patch in [patch for patch in ax.patches if patch.get_extents().height <= 0]:
        patch.remove()
    ax.spines[["left", "bottom"]].set(visible=True, linewidth=0.8, edgecolor=MUTED)
    ax.tick_params(width=0.8, length=3)
    ax.set_ylim(0, top)
    ax.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
    ax.set_ylabel("information (bits)")
    _position_axis(ax)


def _position_axis(ax: Axes) -> None:
    ax.set_xlabel("position relative to the cleavage base (nt)")
    low, high = ax.get_xlim()
    ticks = [tick for tick in range(-1000, 1001, 10) if low <= tick <= high]
    ax.set_xticks(ticks, [f"+{tick}" if tick > 0 else f"{tick}".replace("-", "−") for tick in ticks])


def composition_profile(counts: Counts, center: int) -> str:
    """Draw the share of each base (percent) at each position for base counts (L, 4); lines are named at their right end."""
    n = counts.sum(axis=1, keepdims=True)
    share = 100 * np.divide(counts, n, out=np.zeros(counts.shape), where=n > 0)
    positions = np.arange(len(counts)) - center
    with style():
        figure, ax = new_axes(WIDE, 2.9)
        ax.axvline(0, color=MUTED, linewidth=0.8)
        for i, base in enumerate(BASES):
            ax.plot(positions, share[:, i], color=BASE_COLOURS[base], linewidth=1.5, label=base)
        ax.set_xlim(positions[0], positions[-1])
        ax.set_ylim(0, 100)
        ax.set_ylabel("share of sites (%)")
        ax.grid(axis="y")
        _position_axis(ax)
        figure.legend(loc="outside upper left", ncols=4)
        return to_svg(figure)


def hexamer_bars(hexamers: Sequence[str], shares: Mapping[str, Sequence[float]]) -> str:
    """Draw for each hexamer its share (0-1) in one or two groups, e.g. candidates beside sites, as bars in percent."""
    with style():
        thickness = 0.8 / len(shares)
        figure, ax = new_axes(HALF, 0.9 + 0.185 * len(hexamers))
        rows = np.arange(len(hexamers))
        colours = _PAIR_COLOURS if len(shares) == 2 else _COUNT_COLOURS
        for i, (label, values) in enumerate(shares.items()):
            percent = 100 * np.asarray(values, dtype=np.float64)
            ax.barh(rows - 0.4 + thickness * (i + 0.5), percent, thickness * 0.92, color=colours[i % len(colours)], label=label)
        ax.set_yticks(rows, list(hexamers), family="monospace")
        ax.set_ylim(len(hexamers) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("share (%)")
        ax.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=len(shares))
        return to_svg(figure)


def offset_histogram(offsets: Sequence[int], shares: Mapping[str, Sequence[float]]) -> str:
    """Draw the distribution of distances (nt) from the first base of the hexamer to the cleavage base, one share (0-1) an offset."""
    x = np.asarray(offsets)
    with style():
        figure, ax = new_axes(HALF, 3.0)
        colours = _PAIR_COLOURS if len(shares) == 2 else _COUNT_COLOURS
        for i, (label, values) in enumerate(shares.items()):
            percent = 100 * np.asarray(values, dtype=np.float64)
            filled: dict[str, Any] = (
                {"fill": True, "alpha": 0.85} if i == len(shares) - 1 else {"fill": False, "linewidth": 1.5, "zorder": 3}
            )
            ax.stairs(percent, np.append(x - 0.5, x[-1] + 0.5), color=colours[i % len(colours)], label=label, **filled)
        ax.set_xlim(x[0] - 0.5, x[-1] + 0.5)
        ax.set_ylim(0)
        ax.set_xlabel("first base of the hexamer to cleavage base (nt)")
        ax.set_ylabel("share (%)")
        ax.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=len(shares))
        return to_svg(figure)


def probability_histogram(edges: Floats, series: Mapping[str, Counts], threshold: float) -> str:
    """Draw counts by probability on a logarithmic axis, the first label behind the second, with the threshold as a line.

    `edges` (B + 1,) bound the bins; each label has B counts. A bin without a count has no bar.
    """
    with style():
        figure, ax = new_axes(HALF, 3.0)
        for (label, counts), colour in zip(series.items(), (BLUE, PINK), strict=False):
            heights = np.maximum(np.asarray(counts, dtype=np.float64) - LOG_FLOOR, 0)
            ax.bar(edges[:-1], heights, np.diff(edges) * 0.94, bottom=LOG_FLOOR, align="edge", color=colour, label=label)
        ax.set_yscale("log")
        top = max(int(np.max(counts, initial=1)) for counts in series.values())
        ax.set_ylim(LOG_FLOOR, top * 3)
        ax.set_xlim(edges[0], edges[-1])
        ax.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (3, 2)))
        right = threshold < 0.6
        ax.annotate(
            f"threshold {threshold:.3g}",
            (threshold, 0.98),
            (4 if right else -4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top",
            fontsize=8.5,
        )
        count_ticks(ax.yaxis)
        ax.grid(axis="y")
        ax.set_xlabel("probability given by the model")
        ax.set_ylabel("number (logarithmic scale)")
        figure.legend(loc="outside upper left", ncols=len(series))
        return to_svg(figure)


def length_bars(names: Sequence[str], counts: Sequence[int]) -> str:
    """Draw how many intervals have which length, one bar a bin of lengths, with the numbers at their ends."""
    with style():
        figure, ax = new_axes(HALF, 3.0)
        places = np.arange(len(names))
        ax.bar(places, counts, 0.86, color=BLUE)
        for place, count in zip(places, counts, strict=True):
            if count:
                ax.annotate(f"{count:,}", (place, count), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        ax.set_xticks(places, list(names), rotation=45, ha="right", rotation_mode="anchor")
        ax.set_ylim(0, max(*counts, 1) * 1.12)
        ax.set_xlabel("length (bases)")
        ax.set_ylabel("intervals")
        count_ticks(ax.yaxis)
        ax.grid(axis="y")
        return to_svg(figure)
