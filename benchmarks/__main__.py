"""Run every benchmark (or those named) and write docs/benchmarks.md and docs/benchmarks.json.

    python -m benchmarks [--quick] [candidate_rule ...]

A benchmark is a module of this folder with `main() -> {"title": str, "rows": [{column: value}]}`; it prints what it measures.
Benchmarks not run this time keep their last result in the JSON and in the page. With --quick those that can are run on less, to see that
they work, and nothing is written.
"""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError, did_you_mean
from basewise.files import atomic_path, read_json, write_json

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def cell(value: Any) -> str:
    return (
        f"{value:,.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}" if isinstance(value, float) else str(value)
    )


def section(result: dict[str, Any]) -> str:
    columns = list(dict.fromkeys(column for row in result["rows"] for column in row))
    lines = [f"## {result['title']}", "", f"{result['when']}, {result['machine']}", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in result["rows"]]
    return "\n".join(lines) + "\n"


def page(results: dict[str, dict[str, Any]]) -> str:
    head = "# Benchmarks\n\nWritten by `python -m benchmarks`. Machines are shared and noisy: read the ratios, measured side by side.\n"
    return "\n".join([head, *(section(results[name]) for name in sorted(results))])


def main(wanted: list[str], docs: Path = DOCS, *, quick: bool = False) -> None:
    known = names()
    for name in wanted:
        if name not in known:
            raise BasewiseError(f"no benchmark {name!r}; choose among {', '.join(known)}.{did_you_mean(name, known)}")
    stored = docs / "benchmarks.json"
    results = read_json(stored) if stored.exists() else {}
    results = {name: result for name, result in results.items() if name in known}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for name in wanted or known:
        print(f"== {name}", flush=True)
        run = import_module(f"benchmarks.{name}").main
        if quick:
            print(section({**(run(quick=True) if "quick" in signature(run).parameters else run()), "when": "quick", "machine": machine}))
            continue
        result = run()
        results[name] = {**result, "when": datetime.now(UTC).date().isoformat(), "machine": machine}
        write_json(stored, json.loads(json.dumps(results)))
        with atomic_path(docs / "benchmarks.md") as temporary:
            temporary.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    try:
        main([word for word in sys.argv[1:] if word != "--quick"], quick="--quick" in sys.argv)
    except BasewiseError as error:
        sys.exit(f"error: {error}")
