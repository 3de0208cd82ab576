"""One look for every figure: fonts, colours safe for colour-blind readers, and clean, repeatable SVG.

Figures are drawn in the light colours below; the page repaints them in the dark by their colour (see `page.css`), so a figure
must take every colour from here.
"""

import re
from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, LINE, PAPER = "#1c1e21", "#62676f", "#dfe2e6", "#ffffff"
# Source of the data colours: Okabe & Ito 2008, "Color universal design"
BLUE, ORANGE, PINK, GREEN, RED, SKY = "#0072b2", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#56b4e9"
BASE_COLOURS = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": RED}
SERIES = (BLUE, ORANGE, GREEN, PINK, RED, SKY)

RC: Any = {  # Any: the keys are plain strings, the stubs of matplotlib want a literal type of 300
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and takes the font of the page
    "svg.hashsalt": "basewise",  # repeatable ids: the same numbers give the same bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name from the data is a dollar
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.2,
    "lines.linewidth": 1.7,
    "patch.linewidth": 0.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
}
WIDE, HALF = 7.6, 4.6  # inches; the page scales figures to its columns
_STYLE = re.compile(r' style="([^"]*)"')
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r"#([\w.-]+)")


def style() -> Any:
    """Return the context manager in which every figure is made and saved."""
    return rc_context(RC)


def new_axes(width: float = HALF, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure of `width` x `height` inches with one axes; call inside ``with style():``."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure) -> str:
    """Return `figure` as one `<svg>` element to stand inside HTML; call inside ``with style():``.

    Only ids that are referred to are kept (the page makes them its own). Styles become presentation attributes, so that a
    strict Content-Security-Policy does not strip them and the style sheet can repaint them.
    """
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _STYLE.sub(lambda match: "".join(_attribute(item) for item in match[1].split(";")), svg)
    used = set(_REFERENCE.findall("".join(re.findall(r'href="[^"]*"|url\([^)]*\)', svg))))
    svg = _ID.sub(lambda match: match[0] if match[1] in used else "", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg {box[0] if box else ""} stroke-linejoin="round" stroke-linecap="butt" preserveAspectRatio="xMidYMid meet">'
    return head + re.sub(r"\s*\n\s*", " ", svg[svg.index(">") + 1 :]).strip() + "\n"


def _attribute(item: str) -> str:
    name, _, value = item.strip().partition(": ")
    return f' {name}="{value}"' if name and name != "font-family" else ""


def short_name(name: str, width: int = 20) -> str:
    """Return a name that fits beside an axis: the middle of a long one becomes an ellipsis."""
    if len(name) <= width:
        return name
    half = (width - 1) // 2
    return f"{name[: width - 1 - half]}…{name[-half:]}"


def short_count(value: float, _: object = None) -> str:
    """Write a count for an axis: 0, 950, 1.2k, 30k, 4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def count_ticks(axis: Any) -> None:
    """Write the ticks of `axis` as short counts, without powers of ten and minor ticks."""
    axis.set_major_formatter(FuncFormatter(short_count))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axis.set_tick_params(which="minor", length=0)
