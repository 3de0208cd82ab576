"""One self-contained HTML file from plain blocks: what a run, a scan or an explanation has to say, to be shown to colleagues.

Nothing here knows what a scan is: `scan.py`, `run.py` and others fill chapters with blocks, `render_page` writes them. All text that
comes in is plain text and is escaped; only the SVG of `Figure` (made by `figures.py` and `curves.py`) passes through.
The page asks nothing of the network, and its Content-Security-Policy forbids it to.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple, TypeAlias

from basewise.errors import BasewiseError
from basewise.files import atomic_path
from basewise.report.tables import Table, render_table


class Fact(NamedTuple):
    """A term with its value; `code` for what is to be copied letter by letter (a command, a checksum)."""

    term: str
    value: str
    code: bool = False


class Tile(NamedTuple):
    """A key number: what it counts, its value as it is to be read, and one line beside it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of short statements."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """A paragraph set apart: what a reader must not miss."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Terms and values."""

    items: tuple[Fact, ...]


@dataclass(frozen=True)
class Tiles:
    """Key numbers side by side."""

    items: tuple[Tile, ...]


@dataclass(frozen=True)
class Figure:
    """A drawing: `alt` says what it shows to who cannot see it (with the numbers that matter), `caption` how to read it."""

    title: str
    svg: str
    alt: str
    caption: str
    wide: bool = False


Block: TypeAlias = Prose | Points | Note | Facts | Tiles | Figure | Table


@dataclass(frozen=True)
class Section:
    """A heading with blocks; `name` is its anchor, unique in its chapter."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Chapter:
    """What one folder has to say. `kind` names what it is ("Genome scan"), `lead` is the answer in one or two sentences."""

    kind: str
    title: str
    lead: str
    sections: tuple[Section, ...]


def write_page(chapters: Iterable[Chapter], path: str | Path) -> None:
    """Write `chapters` as one HTML file at `path`, whole or not at all."""
    page = render_page(tuple(chapters))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_page(chapters: tuple[Chapter, ...]) -> str:
    """Return the HTML of `chapters`: one gives a page of its own, several stand under one another with a list of contents.

    Raises BasewiseError when there is no chapter, a section's anchor is used twice, or a figure lacks alt text or caption.
    """
    if not chapters:
        raise BasewiseError("a report needs at least one chapter, got none")
    css, script = _resource("page.css"), _resource("page.js")
    single = len(chapters) == 1
    title = chapters[0].title if single else f"{len(chapters)} results side by side"
    body = [_chapter(chapter, f"c{i}-" if not single else "", "h2" if single else "h3") for i, chapter in enumerate(chapters, 1)]
    values = {
        "title": escape(title),
        "policy": f"default-src 'none'; style-src '{_digest(css)}'; script-src '{_digest(script)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        "style": css,
        "script": script,
        "kind": escape(chapters[0].kind if single else "Report"),
        "lead": f'<p class="lead">{escape(chapters[0].lead)}</p>' if single and chapters[0].lead else "",
        "contents": _contents(chapters),
        "body": "\n".join(body),
    }
    return Template(_resource("page.html")).substitute(values)


def _resource(name: str) -> str:
    return (files("basewise.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _contents(chapters: tuple[Chapter, ...]) -> str:
    if len(chapters) == 1:
        links = [(section.name, section.title) for section in chapters[0].sections]
    else:
        links = [(f"c{i}-", chapter.title) for i, chapter in enumerate(chapters, 1)]
    return "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in links)


def _chapter(chapter: Chapter, prefix: str, heading: str) -> str:
    names = [section.name for section in chapter.sections]
    if len(set(names)) < len(names):
        raise BasewiseError(f"sections of a report need names of their own, got {names}")
    sections = "\n".join(_section(section, prefix, heading) for section in chapter.sections)
    if not prefix:
        return sections
    head = f'<p class="kind">{escape(chapter.kind)}</p><h2>{escape(chapter.title)}</h2><p class="lead">{escape(chapter.lead)}</p>'
    return f'<article class="chapter" id="{prefix}">{head}\n{sections}</article>'


def _section(section: Section, prefix: str, heading: str) -> str:
    name = prefix + section.name
    blocks = "\n".join(_block(block, f"{name}-{i}", heading) for i, block in enumerate(section.blocks, 1))
    title = f'<{heading} id="{name}-title">{escape(section.title)}</{heading}>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{title}\n<div class="blocks">\n{blocks}\n</div></section>'


def _block(block: Block, name: str, heading: str) -> str:
    match block:
        case Prose(text):
            return f"<p>{escape(text)}</p>"
        case Note(text):
            return f'<p class="note" role="note">{escape(text)}</p>'
        case Points(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Facts(items):
            return '<dl class="facts">' + "".join(_fact(item) for item in items) + "</dl>"
        case Tiles(items):
            return '<dl class="tiles">' + "".join(_tile(item) for item in items) + "</dl>"
        case Figure():
            return _figure(block, name, heading)
        case Table():
            return render_table(block, name)


def _fact(fact: Fact) -> str:
    value = escape(fact.value)
    return f"<div><dt>{escape(fact.term)}</dt><dd>{f'<code>{value}</code>' if fact.code else value}</dd></div>"


def _tile(tile: Tile) -> str:
    note = f'<dd class="aside">{escape(tile.note)}</dd>' if tile.note else ""
    return f'<div><dt>{escape(tile.label)}</dt><dd class="value">{escape(tile.value)}</dd>{note}</div>'


def _figure(figure: Figure, name: str, heading: str) -> str:
    if not figure.alt.strip() or not figure.caption.strip():
        raise BasewiseError(f"figure {figure.title!r} needs an alt text and a caption")
    own_ids = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", figure.svg)  # two figures may hold the same marker
    svg = own_ids.replace("<svg", f'<svg role="img" aria-label="{escape(figure.alt)}"', 1)
    below = {"h2": "h3", "h3": "h4"}[heading]
    return (
        f'<figure id="{name}" class="{"wide" if figure.wide else "half"}"><{below}>{escape(figure.title)}</{below}>\n'
        f'<div class="drawing">{svg}</div><figcaption>{escape(figure.caption)}</figcaption></figure>'
    )
