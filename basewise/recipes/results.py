"""What recipes reached: the results files that `basewise reproduce` writes, kept beside the shipped recipes, and tables made of them.

A page asks for a table in a comment of its own and takes it between that comment and the closing one:

    <!-- results RECIPE ... | COLUMN ... -->
    <!-- /results -->

RECIPE is a name or a pattern (``held_out/zdna_100_*``), in the order of the rows. COLUMN is a metric (``f1``, ``complete.auprc``),
``paper:METRIC`` for the number the recipe is held against, or parameters, trainable, seconds, status, init, settings (what was set
otherwise than the recipe says).
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError, did_you_mean
from basewise.files import read_json
from basewise.recipes.schema import load_recipe, shipped_recipes

RESULTS = ".results.json"
NOT_RUN = "not run"
UNSAID = ("backbone.init=", "evaluate.bootstrap=", "train.precision=", "data.split=")  # settings that tables do not show
BLOCK = re.compile(r"(<!-- results (?P<rows>[^|>]+)\|(?P<columns>[^>]+)-->\n).*?(<!-- /results -->)", re.DOTALL)

Entry = dict[str, float | None]


def results_path(name: str, folder: Path | None = None) -> Path:
    """Return where the results of a shipped recipe are: beside it, or in a folder that `basewise reproduce` wrote."""
    recipe = shipped_recipes()[name]
    return (recipe.parent if folder is None else folder) / f"{recipe.stem}{RESULTS}"


def load_results(name: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Return what `basewise reproduce` wrote for a shipped recipe, None where it was not run."""
    path = results_path(name, folder)
    return dict(read_json(path)) if path.is_file() else None


def matching(patterns: Sequence[str]) -> list[str]:
    """Return the shipped recipes that `patterns` name, each once, in the order asked for."""
    shipped, found = shipped_recipes(), dict[str, None]()
    for pattern in patterns:
        names = [name for name in shipped if fnmatch(name, pattern) or name.split("/")[0] == pattern]
        if not names:
            raise BasewiseError(f"no shipped recipe matches {pattern!r}.{did_you_mean(pattern, shipped)}")
        found |= dict.fromkeys(names)
    return list(found)


def table(patterns: Sequence[str], columns: Sequence[str], folder: Path | None = None) -> str:
    """Return a Markdown table, a row a recipe; what was not measured is said to be so."""
    lines = ["| recipe | " + " | ".join(_heading(column) for column in columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in matching(patterns):
        results = load_results(name, folder)
        cells = [_cell(name, column, results) for column in columns]
        if results is None:
            cells[next((i for i, column in enumerate(columns) if not column.startswith("paper:")), 0)] = NOT_RUN
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def update_page(text: str, folder: Path | None = None) -> str:
    """Return a page with every results table in it made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{table(found['rows'].split(), found['columns'].split(), folder)}{found[4]}", text)


def _heading(column: str) -> str:
    metric = column.removeprefix("paper:")
    named = {"trainable": "trainable %", "seconds": "CPU s", "init": "weights"}.get(metric, metric.replace("_", " ").replace(".", " "))
    return f"expected {named}" if column.startswith("paper:") else named


def _cell(name: str, column: str, results: dict[str, Any] | None) -> str:
    if column.startswith("paper:"):
        metric = column.removeprefix("paper:")
        return next((f"{e.value:g}" for e in load_recipe(name).expected if e.metric == metric), "")
    if results is None:
        return ""
    cost = results["cost"]
    if column == "seconds":
        return f"{cost['cpu_seconds']:,.0f}" if "cpu_seconds" in cost else ""
    if column == "parameters":
        return f"{cost['parameters']:,}" if "parameters" in cost else ""
    if column == "trainable":
        return f"{cost['trainable_percent']:.2f}" if "trainable_percent" in cost else ""
    if column == "settings":
        return ", ".join(f"`{text}`" for text in results["settings"] if not text.startswith(UNSAID))
    if column in ("status", "init"):
        return str(results["status"]).removeprefix("run from ").removeprefix("run: ")
    return _measured(results["metrics"].get(column))


def _measured(entry: Entry | None) -> str:
    """Return a metric with its interval or, over folds, its sd."""
    value = (entry or {}).get("value")
    if entry is None or value is None:
        return ""
    low, high, sd = entry.get("low"), entry.get("high"), entry.get("sd")
    if low is not None and high is not None:
        return f"{value:.3f} ({low:.3f}-{high:.3f})"
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"
