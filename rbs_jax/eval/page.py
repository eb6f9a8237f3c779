"""One page of results: the same sections as lines for a terminal and as one HTML file.

What a page shows was written by others: text is escaped, what cannot be seen is shown as
an escape (a terminal obeys control characters), and the file asks for nothing outside itself.
"""

import base64
import html
import io
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that steer or hide text instead of being seen."""
WIDTH = 96
"""Of a paragraph in a terminal [characters]."""
STYLE = """
:root { color-scheme: light dark; --faint: rgb(128 128 128 / 25%); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--faint) }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: .8rem 0;
  font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--faint); text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
tbody th { font-weight: normal; opacity: .8 }
.figures th, .figures td { overflow-wrap: break-word }
.figures th:not(:first-child), .figures td:not(:first-child) { text-align: right }
figure { margin: 1.2rem 0 }
figcaption { font-size: .9rem; opacity: .8 }
img { max-width: 100% }
pre { background: var(--faint); border-radius: .3rem; padding: .6rem .8rem; margin: .2rem 0;
  font: .85rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
"""


class Note(NamedTuple):
    """A paragraph."""

    text: str

    def lines(self) -> list[str]:
        return textwrap.wrap(visible(self.text), WIDTH)

    def html(self) -> str:
        return f"<p>{_escaped(self.text)}</p>"


class Table(NamedTuple):
    """Rows of cells, with a head where the columns after the first are figures."""

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()

    def lines(self) -> list[str]:
        rows = [[visible(cell) for cell in row] for row in (self.head, *self.rows) if row]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        others = str.rjust if self.head else str.ljust
        return [
            "  ".join([row[0].ljust(widths[0]), *map(others, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{_escaped(cell)}</th>' for cell in self.head)
        rows = "".join(
            f'<tr><th scope="row">{_escaped(name)}</th>'
            + "".join(f"<td>{_escaped(cell)}</td>" for cell in cells)
            + "</tr>\n"
            for name, *cells in self.rows
        )
        head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
        kind = ' class="figures"' if head else ""
        return f"<table{kind}>\n{head}<tbody>\n{rows}</tbody></table>"


class Quote(NamedTuple):
    """A text as it stands, under what it is."""

    caption: str
    text: str

    def lines(self) -> list[str]:
        return [visible(self.caption), *("  | " + line for line in visible(self.text).split("\n"))]

    def html(self) -> str:
        caption = f"<figcaption>{_escaped(self.caption)}</figcaption>"
        # The parser drops one line break after <pre>, which may be the text's own.
        return f"<figure>{caption}<pre>\n{_escaped(self.text)}</pre></figure>"


class Plot(NamedTuple):
    """A drawing, and lines that say the same."""

    caption: str
    draw: Callable[[Axes], None]
    """Draws on empty axes, in colours that the style gives."""
    text: Sequence[str]
    height: float = 2.6
    """Of the drawing [inches]; it is 7 wide."""

    def lines(self) -> list[str]:
        return [visible(line) for line in (self.caption, *self.text)]

    def html(self) -> str:
        light, dark = self._image("default"), self._image("dark_background")
        return (
            f"<figure><figcaption>{_escaped(self.caption)}</figcaption><picture>"
            f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img alt="{_escaped(self.caption)}" src="{light}"></picture></figure>'
        )

    def _image(self, style: str) -> str:
        """A data URI of the drawing, the same for the same drawing."""
        svg = io.BytesIO()
        # Names are shown as they are, a $ in them too.
        own = {"svg.hashsalt": "rbs", "font.size": 9, "text.parse_math": False}
        with matplotlib.style.context([style, own]):
            figure = Figure(figsize=(7, self.height), layout="constrained")
            axes = figure.add_subplot()
            axes.spines[["top", "right"]].set_visible(False)
            self.draw(axes)
            figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode()


Part = Note | Table | Quote | Plot
"""What a section holds: each can say itself as lines for a terminal and as HTML."""


class Section(NamedTuple):
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


def as_text(name: str, sections: Sequence[Section]) -> str:
    """The page as lines for a terminal."""
    said = [visible(name)]
    for title, parts in sections:
        said += ["", visible(title)]
        for number, part in enumerate(parts):
            said += [""] * (number > 0) + ["  " + line for line in part.lines()]
    return "\n".join(line.rstrip() for line in said)


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The page as one HTML file that needs no other."""
    body = "\n".join(
        "\n".join([f"<h2>{_escaped(title)}</h2>", *(part.html() for part in parts)])
        for title, parts in sections
    )
    # Nothing outside is loaded and no script runs, whatever a text may have slipped in.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n<h1>{_escaped(title)}</h1>\n{body}\n</body></html>\n"
    )


def visible(text: str) -> str:
    r"""The text with an escape such as \x1b for each character that steers or hides.

    Line breaks and tabs stay.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if char not in "\n\t" and unicodedata.category(char) in UNSEEN
        else char
        for char in text
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))
