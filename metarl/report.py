"""One self-contained HTML page: no network, no files beside it."""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metarl.documents import whole
from metarl.look import CARD, GRID, INK, MUTED

# What figures paint with, and the colours of the page that it becomes.
THEME = {INK: "ink", MUTED: "muted", GRID: "grid", CARD: "card"}
_STYLE = """
:root { color-scheme: light dark; --ink: #22303c; --muted: #66727e; --grid: #e4e8ec;
        --card: #ffffff; --page: #f5f6f8; --soft: #eef1f4; --warn: #fff6e0; --edge: #e0a83a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --muted: #98a4b0; --grid: #333c46; --card: #1b2128; --page: #12161b;
          --soft: #262e37; --warn: #33290f; --edge: #b0832a; } }
body { font: 16px/1.6 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
       background: var(--page); margin: 0; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .4rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
h2.part { font-size: 1.5rem; margin: 2.6rem 0 .2rem; }
section { background: var(--card); border: 1px solid var(--grid); border-radius: 12px;
          padding: 1.4rem 1.6rem; margin: 1.2rem 0; overflow-x: auto; }
p { margin: .4rem 0 .8rem; max-width: 48rem; } p.note { color: var(--muted); font-size: .92rem; }
p.warn { background: var(--warn); border-left: 4px solid var(--edge); padding: .6rem .9rem;
         border-radius: 0 6px 6px 0; }
img, video { max-width: 100%; border-radius: 6px; }
svg { max-width: 100%; height: auto; display: block; margin: .4rem 0; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", sans-serif !important; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0;
        font-size: .95rem; }
th, td { padding: .38rem .8rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; color: var(--muted); border-bottom: 2px solid var(--grid);
     white-space: normal; vertical-align: bottom; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--muted); white-space: nowrap; vertical-align: top; }
.why { display: inline-block; white-space: normal; min-width: 16rem; text-align: left;
       color: #d1495b; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
       margin-right: .55em; }
.range { color: var(--muted); font-size: .85em; display: block; line-height: 1.2; }
.better { color: #2a9d6e; font-weight: 600; } .worse { color: #d1495b; font-weight: 600; }
code, pre { font: .88em ui-monospace, monospace; background: var(--soft); border-radius: 5px; }
code { padding: .1em .35em; } pre { padding: .7rem .9rem; white-space: pre-wrap; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--muted); }
.films { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 20rem; } figcaption { font-size: .9rem; color: var(--muted); }
footer { color: var(--muted); font-size: .88rem; }
"""


@dataclass
class Page:
    """A page that grows section by section."""

    title: str
    lead: str
    _parts: list[str] = field(default_factory=list)

    def section(self, heading: str, *parts: str) -> None:
        """Append a section of HTML parts."""
        self._parts.append(f"<section><h2>{html.escape(heading)}</h2>{''.join(parts)}</section>")

    def part(self, heading: str, *parts: str) -> None:
        """Begin a part of the page, of several sections."""
        self._parts.append(f'<h2 class="part">{html.escape(heading)}</h2>{"".join(parts)}')

    def write(self, path: Path, footer: str = "") -> None:
        """Write the page: an older one stays where that fails. Raises OSError."""
        title = html.escape(self.title)
        text = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
            f"<p>{html.escape(self.lead)}</p>{''.join(self._parts)}"
            f"<footer>{html.escape(footer)}</footer></main></body></html>\n"
        )
        with whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def paragraph(text: str, kind: str = "") -> str:
    """Text as HTML: plain, or of the kind `note` or `warn`."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def code(text: str) -> str:
    """A command, or several lines of it."""
    return f"<pre>{html.escape(text)}</pre>"


def folded(summary: str, *parts: str) -> str:
    """Parts that are shown when somebody asks for them."""
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], markup: bool = False) -> str:
    """A table; the first column is aligned to the left. With `markup`, cells are HTML already."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell if markup else html.escape(cell)}</td>" for cell in row)
        + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """What is so, by name."""
    body = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
                   for name, value in rows)
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def picture(figure: Any, description: str) -> str:
    """A matplotlib figure as inline SVG in the colours of the page; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    # Text stays text, in the page's own font; equal figures give equal bytes.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "metarl"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    drawn = buffer.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    for colour, name in THEME.items():
        drawn = drawn.replace(colour, f"var(--{name})")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)


def film(path: Path, caption: str) -> str:
    """An mp4 file as an inline video."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (f'<figure><video autoplay loop muted playsinline controls '
            f'src="data:video/mp4;base64,{data}"></video>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>")


def films(parts: Sequence[str]) -> str:
    """Videos side by side."""
    return f'<div class="films">{"".join(parts)}</div>'
