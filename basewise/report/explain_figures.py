"""Figures of explanations: numbers in, one SVG string out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from basewise.genome.alphabet import as_bases, codes
from basewise.report.style import BASE_COLOURS, BLUE, HALF, LINE, MUTED, PINK, SERIES, WIDE, count_ticks, new_axes, style, to_svg

Floats = npt.NDArray[np.float64]
BASES = "ACGT"
LOGO_BASES = 90  # as many letters are still read on a page
LOGO_LEAST, LOGO_MARGIN = 40, 3


def logo_window(scores: Floats, width: int = LOGO_BASES) -> tuple[int, int]:
    """Return [first, last) of what a logo shows: where scores are worth drawing, at most the `width` bases that hold most of their size."""
    size = np.abs(scores)
    high = np.flatnonzero(size > 0.01 * size.max()) if len(size) else np.empty(0, np.int64)
    low, top = (int(high[0]), int(high[-1]) + 1) if len(high) else (0, len(scores))
    margin = max(LOGO_MARGIN, (LOGO_LEAST - (top - low) + 1) // 2)
    low, top = max(0, low - margin), min(len(scores), top + margin)
    if top - low > width:
        low += int(np.convolve(size[low:top], np.ones(width), "valid").argmax())
        top = low + width
    return low, top


def attribution_logo(sequence: str, scores: Floats, first: int, center: int) -> str:
    """Draw bases as letters as high as their scores, below the line where they speak against; N is left out.

    `first` is the place of the first letter in its sequence, `center` that of base 0 of the axis.
    """
    import logomaker
    import pandas as pd

    text = codes(as_bases(sequence))
    heights = np.zeros((len(text), 4))
    known = text < 4
    heights[np.flatnonzero(known), text[known]] = scores[known]
    top = float(np.abs(heights).max()) or 1.0
    positions = np.arange(len(text)) + first - center
    with style():
        figure, ax = new_axes(WIDE, 1.7)
        table = pd.DataFrame(np.where(np.abs(heights) < top / 200, 0.0, heights), index=positions, columns=list(BASES))
        logomaker.Logo(
            table,
            ax=ax,
            color_scheme=BASE_COLOURS,
            font_name="DejaVu Sans",
            font_weight="bold",
            show_spines=False,
            baseline_width=0,
            flip_below=False,
            shade_below=0.0,
        )
        for patch in [patch for patch in ax.patches if abs(patch.get_extents().height) < 1e-9]:
            patch.remove()
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.spines[["left", "bottom"]].set(visible=True, color=MUTED, linewidth=0.8)
        ax.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
        low, high = min(0.0, float(heights.min())), max(0.0, float(heights.max()))
        ax.set_ylim(low - 0.05 * top, high + 0.05 * top)
        ax.set_ylabel("score (logits)")
        ax.set_xlabel("base, counted from the center")
        return to_svg(figure)


def mean_profile(offsets: npt.NDArray[np.int64], mean: Floats, low: Floats, high: Floats) -> str:
    """Draw the mean score at each place from the center with its middle half (25th to 75th percentile)."""
    with style():
        figure, ax = new_axes(WIDE, 2.4)
        ax.fill_between(offsets, low, high, color=BLUE, alpha=0.2, linewidth=0)
        ax.plot(offsets, mean, color=BLUE, linewidth=1.3)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.axvline(0, color=LINE, linewidth=1.0)
        ax.set_xlim(offsets[0], offsets[-1])
        ax.set_xlabel("base, counted from the center")
        ax.set_ylabel("score (logits)")
        ax.grid(axis="y")
        return to_svg(figure)


def level_boxes(levels: Sequence[float], values: Sequence[Floats], threshold: float) -> str:
    """Draw the distribution of probabilities at each level as boxes: median, quartiles, 5th and 95th percentile (figure 3)."""
    with style():
        figure, ax = new_axes(HALF, 3.0)
        stats = [
            dict(zip(("whislo", "q1", "med", "q3", "whishi"), np.percentile(part, [5, 25, 50, 75, 95]).tolist(), strict=True))
            for part in values
        ]
        drawn = ax.bxp(stats, showfliers=False, widths=0.65, patch_artist=True, medianprops={"color": PINK, "linewidth": 1.6})
        for box in drawn["boxes"]:
            box.set(facecolor=BLUE, alpha=0.35, edgecolor=BLUE, linewidth=0.8)
        for part in ("whiskers", "caps"):
            for line in drawn[part]:
                line.set(color=BLUE, linewidth=0.8)
        ax.axhline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
        ax.set_xticks(range(1, len(levels) + 1), [f"{level:g}" for level in levels])
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("share of motifs replaced")
        ax.set_ylabel("probability")
        ax.grid(axis="y")
        return to_svg(figure)


def misprediction_bars(levels: Sequence[float], counts: Sequence[int]) -> str:
    """Draw mispredictions at each level as bars from zero, numbers on top (figure 4)."""
    with style():
        figure, ax = new_axes(HALF, 3.0)
        ax.bar(range(len(levels)), counts, 0.7, color=PINK)
        for i, count in enumerate(counts):
            ax.annotate(f"{count:,}", (i, count), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7)
        ax.set_ylim(0, 1.12 * max(*counts, 1))
        ax.locator_params(axis="y", integer=True)
        ax.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        count_ticks(ax.yaxis)
        ax.set_xlabel("share of motifs replaced")
        ax.set_ylabel("mispredicted sequences")
        ax.grid(axis="y")
        return to_svg(figure)


def insertion_curves(curves: Mapping[str, Mapping[str, Floats]]) -> str:
    """Draw for each motif the mean change of the logit at each offset with its interval.

    `curves` holds offset, mean_change, low and high by the name of the motif.
    """
    with style():
        figure, ax = new_axes(WIDE, 2.8)
        for i, (motif, curve) in enumerate(curves.items()):
            colour = SERIES[i % len(SERIES)]
            if np.isfinite(curve["low"]).all():
                ax.fill_between(curve["offset"], curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(curve["offset"], curve["mean_change"], color=colour, label=motif, linewidth=1.4)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.axvline(0, color=LINE, linewidth=1.0)
        ax.set_xlabel("first base of the motif, counted from the center")
        ax.set_ylabel("change of the logit")
        ax.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=6)
        return to_svg(figure)


def kmer_bars(kmers: Sequence[str], values: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw one or two groups of values a k-mer as bars, k-mers from the top."""
    with style():
        figure, ax = new_axes(HALF, 0.9 + 0.2 * len(kmers))
        thickness = 0.8 / len(values)
        rows = np.arange(len(kmers))
        colours = (PINK, MUTED, BLUE)
        for i, (group, numbers) in enumerate(values.items()):
            ax.barh(rows - 0.4 + thickness * (i + 0.5), numbers, thickness * 0.92, color=colours[i % 3], label=group)
        ax.set_yticks(rows, list(kmers), family="monospace")
        ax.set_ylim(len(kmers) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.axvline(0, color=MUTED, linewidth=0.8)
        ax.set_xlabel(label)
        ax.grid(axis="x")
        if len(values) > 1:
            figure.legend(loc="outside upper left", ncols=len(values))
        return to_svg(figure)


def as_floats(column: Any) -> Floats:
    """Return a column of a table as float64."""
    return np.asarray(column, dtype=np.float64)
