"""Tables of a page: plain HTML that a script makes sortable and searchable, usable at 10,000 rows.

The first rows are written as HTML (they show without scripts and on paper); all rows travel as JSON in the page, from which
the script draws the rest in pieces while the reader scrolls.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, NamedTuple

from basewise.errors import BasewiseError

Cell = str | int | float | None
FIRST_ROWS = 25
SEARCHABLE = 12  # a table with more rows than this gets a search field


class Column(NamedTuple):
    """A column: `kind` "text", "number" (right-aligned, sorted by value, `digits` decimals) or "locus" (text with a copy button)."""

    label: str
    kind: Literal["text", "number", "locus"] = "text"
    digits: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells under `columns`; the first column heads its row. None is an absent value and always sorts last."""

    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    label: str = "table"


def render_table(table: Table, name: str) -> str:
    """Return the HTML of `table` with anchor `name`; BasewiseError when a row does not fit the columns."""
    width = len(table.columns)
    for row in table.rows:
        if len(row) != width:
            raise BasewiseError(f"a row of table {table.label!r} has {len(row)} cells, expected {width}: {str(tuple(row))[:120]}")
    clean = [[_value(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]
    head = "".join(
        f'<th scope="col" class="{column.kind}" aria-sort="none"><button type="button">{escape(column.label)}</button></th>'
        for column in table.columns
    )
    body = "\n".join(_row(row, table.columns) for row in clean[:FIRST_ROWS])
    search = ""
    if len(clean) > SEARCHABLE:
        search = (
            f'<p class="tools"><label>Filter rows <input type="search" autocomplete="off" spellcheck="false" placeholder="words, '
            f'e.g. {escape(_example(clean))}"></label> <span class="count" role="status">{len(clean):,} rows</span></p>'
        )
    data = ""
    if len(clean) > 1:
        facts = {"columns": [{"kind": c.kind, "digits": c.digits} for c in table.columns], "rows": clean}
        data = f'<script type="application/json">{_json(facts)}</script>'
    left = len(clean) - FIRST_ROWS
    more = f'<p class="more">The first {FIRST_ROWS} of {len(clean):,} rows.</p>' if left > 0 else ""
    return (
        f'<div class="table" id="{name}">{search}<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}-caption"><table>'
        f'<caption id="{name}-caption"><span>{escape(table.caption)}</span></caption><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>{more}{data}</div>"
    )


def shown(cell: Cell, column: Column) -> str:
    """Return a cell as text: numbers with thousands separators and `digits` decimals, an en dash for an absent value."""
    if cell is None:
        return "–"
    return f"{cell:,.{column.digits}f}" if column.kind == "number" else str(cell)


def _value(cell: Cell, column: Column) -> Cell:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if column.kind != "number":
        return str(cell)
    if isinstance(cell, str) or not math.isfinite(cell):
        raise BasewiseError(f"column {column.label!r} of a report holds numbers, got {cell!r}")
    return round(float(cell), column.digits) if column.digits else int(cell)


def _row(row: Sequence[Cell], columns: Sequence[Column]) -> str:
    cells = []
    for i, (cell, column) in enumerate(zip(row, columns, strict=True)):
        tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
        text = escape(shown(cell, column))
        inner = f"<code>{text}</code>" if column.kind == "locus" and cell is not None else text
        cells.append(f'<{tag}{scope} class="{column.kind}">{inner}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def _example(rows: list[list[Cell]]) -> str:
    """Return a word from the table that a reader might search for."""
    words = [cell for cell in rows[0] if isinstance(cell, str) and 1 < len(cell) < 20]
    return words[-1] if words else "a name"


def _json(value: Any) -> str:
    """Return JSON that no HTML parser can take for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
