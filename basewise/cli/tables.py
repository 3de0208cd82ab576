"""Results as a table on stdout."""

from typing import Any


def show_verdicts(verdicts: dict[str, Any]) -> None:
    """Print one row a metric and one column a verdict (split, group), with 95 % intervals where there are any."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for name, verdict in verdicts.items():
        table.add_column(f"{name} (n={verdict['n']:,})", justify="right")
    names = list(dict.fromkeys(metric for verdict in verdicts.values() for metric in verdict["metrics"]))
    for metric in names:
        table.add_row(metric, *(_cell(verdict["metrics"].get(metric, {"value": None})) for verdict in verdicts.values()))
    Console(width=max(80, 20 + 30 * len(verdicts))).print(table)


def _cell(entry: dict[str, float | None]) -> str:
    if entry["value"] is None:
        return "-"
    low, high = entry.get("low"), entry.get("high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{entry['value']:.4f}{interval}".replace("[", r"\[")
