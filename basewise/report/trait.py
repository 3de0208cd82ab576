"""Figures and page of `basewise trait`: accuracy against depth, and the contigs whose chunks decided."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.files import atomic_path

EXPLANATION = """
<p>Each individual is called from K groups of chunks: the share of groups that vote for the second label is held against a threshold
from the validation individuals. <b>oracle</b>: the best that telling the informative contigs apart can give at that depth (the chance
that K groups hold at least one such chunk). <b>read depth</b>: the class whose mean shares of chunks by contig make the observed counts
most likely, what a mapper that knows the reference would say. It may pass the oracle, since it also weighs contigs both classes have.</p>
<p>Rows "beyond the pool": K groups need more chunks than each individual's pool holds, or than groups were made of it. Repeats then share
their chunks: the spread is too small, and the mean carries the luck of the pool. Raise --pool and --groups.</p>
"""


def curve_figure(table: pd.DataFrame, path: Path) -> None:
    """Write accuracy against K as SVG: mean and one sd of every genome and species, with oracle and read-depth baseline of each species."""
    figure, axes = _axes(6.4, 4.2)
    several = table["species"].nunique() > 2
    for (genome, species), part in table.groupby(["genome", "species"], sort=False):
        if several and species == "all":
            continue
        name = f"{genome}, {species}" if several else str(genome)
        (line,) = axes.plot(part["K"], part["mean"], marker="o", markersize=4, label=name)
        axes.fill_between(part["K"], part["mean"] - part["sd"], part["mean"] + part["sd"], color=line.get_color(), alpha=0.15, linewidth=0)
        if genome == table["genome"].iloc[0] and part["oracle"].notna().all():
            axes.plot(part["K"], part["oracle"], linestyle="--", color=line.get_color(), label="oracle", linewidth=1)
            axes.plot(part["K"], part["baseline"], linestyle=":", color=line.get_color(), label="read depth", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("K, groups of chunks an individual")
    axes.set_ylabel("accuracy over test individuals")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def evidence_figure(contigs: pd.DataFrame, labels: Sequence[str], path: Path) -> None:
    """Write the enrichment of every contig as bars, one row of bars a label, as SVG; 1 is no more than its share of chunks."""
    names = list(dict.fromkeys(contigs.sort_values("enrichment", ascending=False)["contig"]))[:40]
    figure, axes = _axes(6.4, 1.2 + 0.28 * len(names) * contigs["label"].nunique() ** 0.5)
    found = sorted(contigs["label"].unique().tolist())
    height = 0.8 / len(found)
    for place, label in enumerate(found):
        part = contigs[contigs["label"] == label].set_index("contig")["enrichment"].reindex(names).fillna(0.0)
        axes.barh(
            [i + place * height for i in range(len(names))], part.to_numpy(), height, label=labels[label] if label >= 0 else "unknown"
        )
    axes.axvline(1.0, color="0.4", linewidth=0.8)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of all effect / share of chunks")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def curve_page(table: pd.DataFrame, figure: Path, path: Path, about: dict[str, Any]) -> None:
    """Write report.html: the figure inside, the table, what the columns mean, where it comes from; one file, nothing fetched."""
    shown = table.to_html(index=False, float_format=lambda value: f"{value:.4f}", na_rep="-", border=0)
    facts = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in about.items() if k != "libraries")
    picture = figure.read_text(encoding="utf-8").partition("<svg")
    style = "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    style += "td,th{padding:.2em .7em;text-align:right}dt{font-weight:bold}"
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Accuracy against depth</title><style>{style}</style></head>"
        f"<body><h1>Accuracy against depth</h1><svg{picture[2]}{EXPLANATION}{shown}<h2>Origin</h2><dl>{facts}</dl></body></html>"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
