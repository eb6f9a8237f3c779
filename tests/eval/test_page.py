import base64
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from rbs_jax.eval.page import Note, Plot, Quote, Section, Table, as_html, as_text, visible

HOSTILE = (
    "\n</pre></style><script>alert(1)</script><img src=http://x/ onerror=a()>"
    "&lt;\" onload='x' \x00\x07\x1b[2J\x1b]0;t\x07\x9b\r\u202eevil\u2028\ud800 $x_1$ é"
)
SEEN = (
    "\n</pre></style><script>alert(1)</script><img src=http://x/ onerror=a()>"
    "&lt;\" onload='x' \\x00\\x07\\x1b[2J\\x1b]0;t\\x07\\x9b\\r\\u202eevil\\u2028\\ud800 $x_1$ é"
)
PARTS = [
    Note(HOSTILE),
    Table([(HOSTILE, HOSTILE)]),
    Table([(HOSTILE, HOSTILE)], (HOSTILE, HOSTILE)),
    Quote(HOSTILE, HOSTILE),
    Plot(HOSTILE, lambda axes: axes.plot([1, 2]), [HOSTILE]),
]


class Read(HTMLParser):
    """What a browser would find: tags with their attributes, and the text of each element."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = set(), [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else None, []).append(data)


@pytest.fixture(scope="module")
def page():
    return as_html(HOSTILE, [Section(HOSTILE, PARTS)])


def test_a_page_holds_no_tag_or_attribute_that_a_text_brought(page):
    read = Read(page)
    assert not read.tags & {"script", "iframe", "object", "link", "a"}
    names = {name for name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")}
    for name, value in read.attributes:
        if name in ("src", "srcset", "href"):
            assert value.startswith("data:image/svg+xml;base64,")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in read.attributes


def test_a_page_shows_every_text_as_it_stands(page):
    texts = Read(page).texts
    for tag in ("title", "h1", "h2", "p", "th", "td", "figcaption"):
        assert SEEN in texts[tag], tag
    # A browser drops the first line break of a <pre>; the text's own is the second.
    assert texts["pre"] == ["\n" + SEEN]
    assert dict(Read(page).attributes)["alt"] == SEEN


def test_nothing_steers_a_terminal_or_hides(page):
    for said in (page, as_text(HOSTILE, [Section(HOSTILE, PARTS)])):
        unseen = {char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl")}
        assert unseen == {"\n"}
    assert visible("a\tb\n") == "a\tb\n"


def test_a_quote_in_a_terminal_is_set_off_line_by_line():
    assert Quote("said", "one\n\ntwo").lines() == ["said", "  | one", "  | ", "  | two"]


def test_a_plot_is_drawn_for_light_and_dark_and_the_same_each_time():
    plot = Plot("growth", lambda axes: axes.plot([1, 3]), [])
    images = [value for name, value in Read(plot.html()).attributes if name in ("src", "srcset")]
    dark, light = (base64.b64decode(image.split(",")[1]) for image in images)
    assert dark != light
    for image in (dark, light):
        assert ElementTree.fromstring(image).tag.endswith("svg")
    assert plot.html() == plot.html()


def test_figures_stand_under_their_heads():
    table = Table([("words", "7", "0.5"), ("ids", "1,234", "0.25")], ("", "n", "share"))
    assert table.lines() == [
        "           n  share",
        "words      7    0.5",
        "ids    1,234   0.25",
    ]
    assert Table([("a", "b"), ("long", "c")]).lines() == ["a     b", "long  c"]
    assert 'class="figures"' in table.html()
    assert "thead" not in Table([("a", "b")]).html()


def test_the_terminal_gets_titles_and_parts_in_order():
    sections = [Section("First", [Note("one"), Note("two")]), Section("Second", [Note("three")])]
    assert as_text("title", sections) == ("title\n\nFirst\n  one\n\n  two\n\nSecond\n  three")


def test_a_dollar_in_a_name_is_no_formula():
    plot = Plot("costs", lambda axes: axes.set_title("a$x^{_$b"), ["a"])
    assert plot.html().count("data:image/svg+xml") == 2
