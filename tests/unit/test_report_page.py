"""The page builder: escaping, accessibility, no network, tables; and what it refuses."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from basewise.errors import BasewiseError
from basewise.report.page import Chapter, Fact, Facts, Figure, Note, Points, Prose, Section, Tile, Tiles, render_page, write_page
from basewise.report.tables import FIRST_ROWS, Column, Table, render_table, shown

EVIL = '<script>alert("x")</script>&\'$title'
SVG = '<svg viewBox="0 0 1 1"><defs><path id="m1" d="M0 0"/></defs><use href="#m1"/><g clip-path="url(#m1)"/></svg>'
VOID = {"meta", "link", "input", "br"}


class Outline(HTMLParser):
    """Tags in order, their attributes, and a check that they close."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def chapter(title="Title", rows=((EVIL, 1.5), ("b", None))):
    blocks = (
        Prose(EVIL),
        Note(EVIL),
        Points((EVIL,)),
        Facts((Fact(EVIL, EVIL, code=True),)),
        Tiles((Tile(EVIL, EVIL, EVIL),)),
        Figure(EVIL, SVG, EVIL, EVIL),
        Figure("again", SVG, "alt", "caption", wide=True),
        Table(EVIL, (Column(EVIL, "locus"), Column("n", "number", 2)), rows, EVIL),
    )
    return Chapter(EVIL, title, EVIL, (Section("one", EVIL, blocks), Section("two", "Two", (Prose("p"),))))


@pytest.mark.parametrize("chapters", [(chapter(EVIL),), (chapter(EVIL), chapter("b"))], ids=["one chapter", "two"])
def test_everything_from_data_is_escaped(chapters):
    page = render_page(chapters)
    outline = Outline(page)
    assert [a.get("type") for a in outline.all("script")] == ["application/json"] * len(chapters) + [None]
    assert '<script>alert("x")' not in page
    assert EVIL in "".join(outline.text)
    assert [a["aria-label"] for a in outline.all("svg")] == [EVIL, "alt"] * len(chapters)


def test_a_page_is_whole_and_asks_nothing_of_a_network():
    page = render_page((chapter(), chapter("other")))
    outline = Outline(page)
    for _, attrs in outline.tags:
        for name in ("src", "href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:,"))
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert target in ids
    policy = next(a["content"] for a in outline.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert not [a for _, a in outline.tags if "style" in a or any(name.startswith("on") for name in a)]


def test_a_page_can_be_read_without_seeing_it():
    outline = Outline(render_page((chapter(),)))
    assert outline.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert len(outline.all("figure")) == len(outline.all("figcaption")) == len([a for a in outline.all("svg") if a["role"] == "img"]) == 2
    assert {a["scope"] for a in outline.all("th")} == {"col", "row"}
    assert next(a["href"] for a in outline.all("a")) == "#main"
    assert len(outline.all("main")) == len(outline.all("nav")) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: render_page(()), "at least one chapter"),
        (lambda: render_page((Chapter("k", "t", "", (Section("a", "A", ()), Section("a", "B", ()))),)), "names of their own"),
        (lambda: render_page((Chapter("k", "t", "", (Section("a", "A", (Figure("f", SVG, " ", "c"),)),)),)), "needs an alt text"),
        (lambda: render_table(Table("c", (Column("a"),), [("x", "y")]), "n"), "has 2 cells, expected 1"),
        (lambda: render_table(Table("c", (Column("a", "number"),), [("x",)]), "n"), "holds numbers, got 'x'"),
        (lambda: render_table(Table("c", (Column("a", "number"),), [(float("inf"),)]), "n"), "holds numbers, got inf"),
    ],
)
def test_what_makes_no_page_is_refused(make, message):
    with pytest.raises(BasewiseError, match=message):
        make()


def test_rows_beyond_the_first_travel_as_json():
    rows = [(f"r{i}</script>", i + 0.126, None) for i in range(10_000)]
    html = render_table(Table("caption", (Column("name"), Column("x", "number", 2), Column("none", "number")), rows), "t")
    outline = Outline(html)
    assert len([a for a in outline.all("th") if a["scope"] == "row"]) == FIRST_ROWS
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])
    assert len(data["rows"]) == 10_000
    assert data["rows"][9_999] == ["r9999</script>", 9999.13, None]
    assert data["columns"][1] == {"kind": "number", "digits": 2}
    assert "10,000 rows" in html
    assert len(outline.all("input")) == 1


def test_a_short_table_has_no_search_field():
    html = render_table(Table("caption", (Column("name"),), [("a",)]), "t")
    assert Outline(html).all("input") == []
    assert "application/json" not in html


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (1234.5678, Column("x", "number", 2), "1,234.57"),
        (1234567, Column("x", "number"), "1,234,567"),
        (None, Column("x", "number"), "–"),
        ("chr1:5", Column("x", "locus"), "chr1:5"),
    ],
)
def test_cells_as_text(cell, column, text):
    assert shown(cell, column) == text


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(BasewiseError, match="cannot write"):
        write_page([chapter()], tmp_path / "missing" / "report.html")
    with pytest.raises(BasewiseError, match="names of their own"):
        write_page([Chapter("k", "t", "", (Section("a", "A", ()), Section("a", "B", ())))], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
