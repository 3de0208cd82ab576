"""Figures of traits: accuracy against depth, ablations, contigs and places that decided. Tables in, one SVG string out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from basewise.report.style import LINE, MUTED, SERIES, WIDE, count_ticks, new_axes, short_name, style, to_svg

DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))
CONTIGS = 40
DOTS = 2000  # chunks drawn a contig, those of the largest effect: a page stays a page


def depth_plot(table: pd.DataFrame) -> str:
    """Draw accuracy against K, one line a species with one sd around it, its oracle dashed and its read-depth baseline dotted.

    `table` is that of `basewise.inference.trait.curve` for one genome; with one species only, its rows "all" are drawn.
    """
    kinds = [name for name in dict.fromkeys(table["species"]) if name != "all"]
    named = kinds if len(kinds) > 1 else ["all"]
    with style():
        figure, ax = new_axes(WIDE, 3.4)
        for colour, name in zip(SERIES, named, strict=False):
            part = table[table["species"] == name].sort_values("K")
            label = "" if name == "all" else f", {short_name(name)}"
            _line(ax, part, colour, f"model (± 1 sd){label}")
            if part["oracle"].notna().all():
                ax.plot(part["K"], part["oracle"], color=colour, linewidth=1.1, linestyle=DASHED, label=f"oracle{label}")
                ax.plot(part["K"], part["baseline"], color=colour, linewidth=1.1, linestyle=DOTTED, label=f"read depth{label}")
        _depth_axes(ax, table)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure)


def ablation_plot(table: pd.DataFrame) -> str:
    """Draw accuracy over all test individuals against K, one line a genome: whole, and without the contigs that were left out."""
    everyone = table[table["species"] == "all"]
    with style():
        figure, ax = new_axes(WIDE, 3.4)
        for colour, name in zip(SERIES, dict.fromkeys(everyone["genome"]), strict=False):
            _line(ax, everyone[everyone["genome"] == name].sort_values("K"), colour, short_name(str(name), 40))
        _depth_axes(ax, table)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure)


def enrichment_plot(contigs: pd.DataFrame, labels: Sequence[str]) -> str:
    """Draw the enrichment of every contig (at most `CONTIGS`) as bars, one a label; 1 is no more than its share of chunks."""
    ordered = contigs.sort_values("enrichment", ascending=False, kind="stable")
    names = list(dict.fromkeys(ordered["contig"]))[:CONTIGS]
    found = sorted(contigs["label"].unique().tolist())
    height = 0.8 / len(found)
    with style():
        figure, ax = new_axes(WIDE, 1.0 + 0.2 * len(names) * len(found) ** 0.5)
        for place, label in enumerate(found):
            part = contigs[contigs["label"] == label].set_index("contig")["enrichment"].reindex(names).fillna(0.0)
            ax.barh(np.arange(len(names)) + place * height, part.to_numpy(), height, color=SERIES[place % len(SERIES)], label=labels[label])
        ax.axvline(1.0, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
        ax.set_yticks(np.arange(len(names)) + 0.4 - height / 2, [short_name(name, 30) for name in names])
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.grid(axis="x", color=LINE)
        ax.set_xlabel("share of all effect / share of chunks")
        figure.legend(loc="outside upper left", ncols=len(found))
        return to_svg(figure)


def effect_map(chunks: pd.DataFrame, contigs: Sequence[str], labels: Sequence[str]) -> str:
    """Draw the effect of chunks (`DOTS` a contig) at their places on the reference, one panel a contig, coloured by label."""
    with style():
        figure, first = new_axes(WIDE, 0.6 + 1.15 * len(contigs))
        figure.delaxes(first)
        panels = np.atleast_1d(figure.subplots(len(contigs), 1, sharey=True))
        for ax, contig in zip(panels, contigs, strict=True):
            here = chunks[chunks["contig"] == contig]
            here = here.iloc[np.argsort(-here["effect"].abs().to_numpy(), kind="stable")[:DOTS]]
            for label in sorted(here["label"].unique().tolist()):
                part = here[here["label"] == label]
                colour = SERIES[label % len(SERIES)]
                ax.plot(part["reference_start"], part["effect"], ".", color=colour, markersize=2.5, label=labels[label])
            ax.axhline(0.0, color=MUTED, linewidth=0.8)
            ax.set_title(short_name(contig, 40), fontsize=8.5, loc="left")
            count_ticks(ax.xaxis)
        panels[-1].set_xlabel("first base of the chunk on the reference")
        panels[len(contigs) // 2].set_ylabel("effect on the logit")
        handles = {text: handle for ax in panels for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=len(handles), markerscale=3)
        return to_svg(figure)


def _line(ax: Axes, part: pd.DataFrame, colour: str, label: str) -> None:
    mean, sd = part["mean"].to_numpy(np.float64), part["sd"].to_numpy(np.float64)
    ax.plot(part["K"], mean, color=colour, marker="o", markersize=4, label=label)
    ax.fill_between(part["K"], np.maximum(mean - sd, 0), np.minimum(mean + sd, 1), color=colour, alpha=0.15, linewidth=0)


def _depth_axes(ax: Axes, table: pd.DataFrame) -> None:
    ax.set_xscale("log")
    ax.set_xticks(sorted(table["K"].unique().tolist()))
    count_ticks(ax.xaxis)
    low = float((table["mean"] - table["sd"]).min())
    ax.set_ylim(min(0.4, np.floor(10 * max(low, 0.0)) / 10), 1.02)
    ax.axhline(0.5, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
    ax.grid(axis="y")
    ax.set_xlabel("K, groups of chunks an individual")
    ax.set_ylabel("accuracy over test individuals")
