"""One self-contained HTML page: no network, no files beside it."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.statistics import interquartile_mean, interval

BLUE, ORANGE, GREY, GREEN, INK = "#2f6fb2", "#d9822b", "#9aa3ad", "#3a8f5c", "#22303c"
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #22303c; background: #f6f7f9; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .3rem; }
section { background: #fff; border: 1px solid #e2e6ea; border-radius: 10px;
          padding: 1.3rem 1.5rem; margin: 1.2rem 0; overflow-x: auto; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
img, video { max-width: 100%; border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .8rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #e8ebee; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; border-bottom: 2px solid #c9d0d6; }
code, pre { font: .88em ui-monospace, monospace; background: #eef1f4; border-radius: 4px; }
code { padding: .1em .35em; } pre { padding: .7rem .9rem; white-space: pre-wrap; }
.films { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 20rem; } figcaption { font-size: .9rem; color: #5b6875; }
footer { color: #5b6875; font-size: .88rem; }
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

    def write(self, path: Path, footer: str = "") -> None:
        """Write the page."""
        title = html.escape(self.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
            f"<p>{html.escape(self.lead)}</p>{''.join(self._parts)}"
            f"<footer>{html.escape(footer)}</footer></main></body></html>\n"
        )


def paragraph(text: str) -> str:
    """Text as HTML."""
    return f"<p>{html.escape(text)}</p>"


def code(text: str) -> str:
    """A command, or several lines of it."""
    return f"<pre>{html.escape(text)}</pre>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is aligned to the left."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(figure: Any, description: str) -> str:
    """A matplotlib figure as an inline SVG image; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    return _image("image/svg+xml", buffer.getvalue(), description)


def film(path: Path, caption: str) -> str:
    """An mp4 file as an inline video."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (f'<figure><video autoplay loop muted playsinline controls '
            f'src="data:video/mp4;base64,{data}"></video>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>")


def films(parts: Sequence[str]) -> str:
    """Videos side by side."""
    return f'<div class="films">{"".join(parts)}</div>'


def learning_curve(metrics: Sequence[Mapping[str, Any]], levels: Mapping[str, float]) -> Any:
    """Test return of the first and the last episode against env steps, with level lines."""
    figure, axes = _axes("env steps", "return on test tasks")
    points = [m for m in metrics if m.get("eval/return_pre") is not None]
    steps = [m["env_steps"] for m in points]
    axes.plot(steps, [m["eval/return_pre"] for m in points], color=ORANGE, lw=2, marker="o", ms=4,
              label="first episode, before adaptation")
    axes.plot(steps, [m["eval/return_post"] for m in points], color=BLUE, lw=2, marker="o", ms=4,
              label="last episode, after adaptation")
    _levels(axes, levels)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e6 else f"{x / 1e3:g} k")
    _legend(axes)
    return figure


def shot_curve(
    curves: Mapping[str, NDArray[np.floating]], levels: Mapping[str, float], quantity: str
) -> Any:
    """The k-shot curve: a quantity (K, M) of each label against the episode, its interquartile
    mean with a 95 % interval over tasks, and level lines."""
    figure, axes = _axes("episode in the new variant", quantity)
    for (label, values), colour in zip(curves.items(), (BLUE, GREY, ORANGE), strict=False):
        episodes = np.arange(1, len(values) + 1)
        bounds = np.array([interval(row[None]) for row in values])
        axes.fill_between(episodes, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.2, lw=0)
        axes.plot(episodes, [interquartile_mean(row) for row in values], "o-", color=colour, lw=2,
                  label=label)
    axes.set_xticks(np.arange(1, max(len(v) for v in curves.values()) + 1))
    _levels(axes, levels)
    _legend(axes)
    return figure


def _axes(x: str, y: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.size": 11, "axes.edgecolor": "#b6bec6", "axes.labelcolor": INK,
                     "xtick.color": INK, "ytick.color": INK, "svg.fonttype": "path"}
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6eaee")
    axes.set_axisbelow(True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _levels(axes: Any, levels: Mapping[str, float]) -> None:
    for (label, value), colour in zip(levels.items(), (GREEN, GREY), strict=False):
        axes.axhline(value, color=colour, lw=1.5, ls="--", label=label)


def _legend(axes: Any) -> None:
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _image(kind: str, data: bytes, description: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(description)}" src="data:{kind};base64,{encoded}">'
