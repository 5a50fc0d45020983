"""The figures of a page, drawn by matplotlib in colours that `metarl.report` turns into its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.look import CARD, GRID, INK, MUTED, plain, themed
from metarl.scales import apart, judged_once, measured, named
from metarl.scoreboard import SUCCESS, Array, Band, Learning, Range
from metarl.statistics import dependence, explained, principal, spread

_AGENTS = {
    "pearl": "#3b7dd8", "maml": "#e08a1e", "rl2": "#2a9d6e", "varibad": "#9a5fd0",
    "recurrent-sac": "#17a2b0", "reptile": "#c4a000",
    "finetune": "#d1495b", "blind": "#8d96a0", "scratch": "#b08968", "oracle": "#6b8e23",
    "scripted": "#6f7d8c",
}
_SPARE = ("#cc5fa8", "#5f7fa8", "#7fa85f", "#a87f5f")
_STYLES = {"finetune": (0, (5, 2)), "blind": (0, (5, 2)), "scratch": (0, (5, 2)),
           "oracle": (0, (1, 1.5)), "scripted": (0, (1, 1.5))}
MANY = 5  # seeds, from which on a learning curve shows their interval in place of each
_TILES = 5  # of a heat map along the training range of a parameter
_MAP = "viridis"


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label: the agent's own, or a spare one where that is taken."""
    found: dict[str, str] = {}
    spare = iter(_SPARE * len(labels))
    for label in labels:
        own = _AGENTS.get(label.split(" ")[0])
        found[label] = own if own and own not in found.values() else next(spare)
    return found


def shot_curves(
    rows: Mapping[str, Sequence[tuple[str, str, Mapping[str, Sequence[Band]]]]],
    first: Sequence[int],
) -> Any:
    """A panel for each row (a quantity) and column (title, label of the x axis, and the bands of
    each agent against the episode); `first` is the number of each column's first episode."""
    columns = max(len(panels) for panels in rows.values())
    figure, axes = _grid(len(rows), columns, (3.7, 2.7), sharey="row")
    labels = list(dict.fromkeys(n for panels in rows.values() for _, _, c in panels for n in c))
    paint = colours(labels)
    for i, (quantity, panels) in enumerate(rows.items()):
        for j, (title, x, curves) in enumerate(panels):
            ax = axes[i, j]
            ax.set_title(title if i == 0 else "", fontsize=10, color=INK)
            ax.set_xlabel(x if i + 1 == len(rows) else "")
            for label, bands in curves.items():
                _band(ax, np.arange(len(bands)) + float(first[j]), bands, label, paint[label])
            longest = max((len(b) for b in curves.values()), default=1)
            ax.set_xticks(np.arange(longest) + first[j])
        measured(axes[i], quantity)
    _legend(figure, axes)
    return figure


def switched_curves(
    panels: Sequence[tuple[str, int, Mapping[str, Sequence[Band]]]], quantity: str
) -> Any:
    """A panel (title, episodes between changes, bands of each agent) for each kind of trial, with a
    line wherever the hidden task becomes another."""
    figure, axes = _grid(1, len(panels), (5.2 if len(panels) < 3 else 3.7, 3.0), sharey="row")
    paint = colours(list(dict.fromkeys(name for *_, curves in panels for name in curves)))
    for ax, (title, every, curves) in zip(axes[0], panels, strict=True):
        longest = max(len(bands) for bands in curves.values())
        for change in range(every, longest, every):
            ax.axvline(change + 0.5, color=MUTED, lw=1, ls=(0, (3, 2)))
        for label, bands in curves.items():
            _band(ax, np.arange(len(bands)) + 1.0, bands, label, paint[label])
        ax.set_title(title, fontsize=10, color=INK)
        ax.set_xlabel("episode of the trial")
        ax.set_xticks(np.arange(longest) + 1)
    measured(axes[0], quantity)
    _legend(figure, axes)
    return figure


def learning_curves(runs: Mapping[str, Sequence[Learning]], quantity: str) -> Any:
    """Each agent's runs (env steps, wall time [s], quantity): lines, or an interval; their mean."""
    figure, axes = _grid(1, 2, (5.2, 3.0), sharey="row")
    paint = colours(list(runs))
    longest = max((wall[-1] for each in runs.values() for _, wall, _ in each if len(wall)),
                  default=0.0)
    unit, seconds = ("min", 60.0) if longest > 120 else ("s", 1.0)
    dots: list[tuple[Any, float, float]] = []
    for label, each in runs.items():
        kept = min((len(values) for _, _, values in each), default=0)
        if not kept:
            continue
        for ax, which, scale in ((axes[0, 0], 0, 1.0), (axes[0, 1], 1, seconds)):
            x = np.mean([run[which][:kept] for run in each], 0) / scale
            y = (earned := np.stack([run[2][:kept] for run in each])).mean(0)
            if len(each) >= MANY:
                low, high = y - spread(earned), y + spread(earned)
                ax.fill_between(x, low, high, color=paint[label], alpha=0.18, lw=0)
            for run in each if 1 < len(each) < MANY else ():
                ax.plot(run[which] / scale, run[2], color=paint[label], lw=1, alpha=0.35)
            ax.plot(x, y, color=paint[label], lw=2, label=label, ls=_style(label),
                    marker="o" if kept < 3 else None, ms=7 if kept == 1 else 4)
            if kept == 1:
                dots.append((ax, float(x[0]), float(y[0])))
    for dot in dots:  # once it is known how far all curves go
        judged_once(*dot)
    axes[0, 0].set_xlabel("env steps of training")
    axes[0, 1].set_xlabel(f"wall time of training [{unit}]")
    axes[0, 0].set_ylabel(quantity)
    axes[0, 0].xaxis.set_major_formatter(_steps)
    _legend(figure, axes)
    return figure


def heat_maps(
    agents: Mapping[str, tuple[Array, Array]], ranges: Sequence[Range], quantity: str
) -> tuple[Any, list[str]]:
    """What each agent earned (n,) in tasks (n, D) over the two parameters that it depends on most,
    mean of a tile, and the names of these; over the only one, as points and a line."""
    order = _telling(agents, ranges)
    if len(order) == 1:
        return _over_one(agents, ranges[order[0]], order[0], quantity), [ranges[order[0]].name]
    across, up = sorted(order[:2])
    every = np.concatenate([tasks for tasks, _ in agents.values()])
    edges = [_edges(every[:, d], ranges[d]) for d in (across, up)]
    columns = min(3, len(agents))
    figure, axes = _grid(-(-len(agents) // columns), columns, (3.5, 3.0), grid=False)
    earned = np.concatenate([values for _, values in agents.values()])
    low, high = (0.0, 1.0) if quantity == SUCCESS else apart(earned)
    mesh = None
    for ax, (label, (tasks, values)) in zip(axes.flat, agents.items(), strict=False):
        x, y = (_placed(tasks[:, d], ranges[d]) for d in (across, up))
        tiles = _tiles(x, y, values, edges)
        mesh = ax.pcolormesh(*edges, tiles, cmap=_MAP, vmin=low, vmax=high, edgecolors=CARD,
                             linewidth=1.2)
        _numbers(ax, edges, tiles, low, high)
        _trained(ax, ranges[across], ranges[up])
        ax.set_title(label, fontsize=10, color=INK)
        _worded(ax.xaxis, ranges[across])
        _worded(ax.yaxis, ranges[up])
    for ax in axes.flat[len(agents):]:
        ax.set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label(named(quantity))
    bar.outline.set_visible(False)
    return figure, [ranges[d].name for d in (across, up)]


def distance_curves(
    agents: Mapping[str, Sequence[tuple[float, Band]]], quantity: str
) -> Any:
    """Each agent's bands against the distance of the tasks from the training range."""
    figure, axes = _grid(1, 1, (7.0, 3.2))
    paint = colours(list(agents))
    for label, points in agents.items():
        _band(axes[0, 0], np.array([x for x, _ in points]), [b for _, b in points], label,
              paint[label])
    axes[0, 0].set_xlabel("distance from the training range [widths of the range]; 0: inside")
    measured(axes[0], quantity)
    _legend(figure, axes)
    return figure


def embeddings(
    agents: Mapping[str, tuple[Array, Array, NDArray[np.bool_]]], ranges: Sequence[Range],
    most: int = 3,
) -> Any:
    """A row of panels for each agent: its beliefs (n, E) about tasks (n, D), of which some are out
    of distribution (n,) bool, along their principal axes, coloured by true parameters: those that
    these axes tell best."""
    columns = min(most, len(ranges))
    figure, axes = _grid(len(agents), columns, (3.7, 3.1), grid=False)
    for row, (label, (vectors, tasks, outside)) in zip(axes, agents.items(), strict=True):
        points, shares = principal(vectors)
        told = [explained(tasks[:, d], points) for d in range(len(ranges))]
        for ax, d in zip(row, np.argsort(told)[::-1][:columns], strict=True):
            limits = {"vmin": tasks[:, d].min(), "vmax": tasks[:, d].max()}
            for mask, marker in ((~outside, "o"), (outside, "^")):
                drawn = ax.scatter(*points[mask].T, c=tasks[mask, d], cmap=_MAP, s=30,
                                   marker=marker, edgecolors=CARD, linewidths=0.5, **limits)
            ax.set_title(f"{label}: {ranges[d].name.replace('_', ' ')}, R² {told[d]:.2f}",
                         fontsize=10, color=INK)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlabel(f"axis 1, {100 * shares[0]:.0f} % of variance")
            bar = figure.colorbar(drawn, ax=ax, pad=0.02, aspect=30)
            bar.outline.set_visible(False)
            bar.set_label(ranges[d].title)
            if ranges[d].values:
                bar.set_ticks(list(ranges[d].values), labels=_words(ranges[d]))
        row[0].set_ylabel(f"axis 2, {100 * shares[1]:.0f} %")
    return figure


# Parts.


def _telling(agents: Mapping[str, tuple[Array, Array]], ranges: Sequence[Range]) -> list[int]:
    """The parameters, those first on which what agents earn depends most."""
    share = [
        np.mean([dependence(values, tasks[:, d]) for tasks, values in agents.values()])
        for d in range(len(ranges))
    ]
    return [int(d) for d in np.argsort(share)[::-1]]


def _over_one(
    agents: Mapping[str, tuple[Array, Array]], parameter: Range, column: int, quantity: str
) -> Any:
    figure, axes = _grid(1, 1, (7.0, 3.2))
    ax, paint = axes[0, 0], colours(list(agents))
    if not parameter.values:
        ax.axvspan(*parameter.train, color=GRID, alpha=0.5, lw=0, label="training range")
    for i, (label, (tasks, values)) in enumerate(agents.items()):
        x, line = _placed(tasks[:, column], parameter), _style(label)
        if parameter.values:  # agents side by side, and no line from one choice to another
            x, line = x + 0.5 * ((i + 0.5) / len(agents) - 0.5), ""
        order = np.argsort(x)
        ax.plot(x[order], values[order], "o", ms=3.5, lw=1.2, color=paint[label], ls=line,
                label=label)
    ax.margins(x=0.3 if parameter.values else None)
    _worded(ax.xaxis, parameter)
    measured(axes[0], quantity)
    _legend(figure, axes)
    return figure


def _worded(axis: Any, parameter: Range) -> None:
    """Name an axis after a parameter, and its places after the choices, if it is one."""
    axis.set_label_text(parameter.title)
    if parameter.values:
        axis.set_ticks(range(len(parameter.values)), _words(parameter))  # as `_placed` has them


def _words(parameter: Range) -> list[str]:
    return list(parameter.labels) or [f"{value:g}" for value in parameter.values]


def _edges(column: Array, parameter: Range) -> Array:
    """The edges of tiles along a parameter: one tile for each choice; or equal ones, of which the
    training range holds a whole number."""
    if parameter.values:
        return np.arange(len(parameter.values) + 1) - 0.5
    low, high = parameter.train
    width = (high - low) / _TILES or 1.0
    below = max(np.ceil((low - column.min()) / width - 1e-9), 0)
    above = max(np.ceil((column.max() - high) / width - 1e-9), 0)
    return low + width * np.arange(-below, _TILES + above + 1)


def _placed(column: Array, parameter: Range) -> Array:
    """Where values of a parameter (n,) lie among its tiles: of choices, each one's number."""
    if not parameter.values:
        return column
    return np.abs(column[:, None] - np.array(parameter.values)).argmin(1).astype(float)


def _tiles(x: Array, y: Array, values: Array, edges: Sequence[Array]) -> Array:
    """The mean in each tile (rows along y), NaN where there is no task."""
    count, total = (np.histogram2d(y, x, bins=(edges[1], edges[0]), weights=weights)[0]
                    for weights in (None, values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / count


def _numbers(ax: Any, edges: Sequence[Array], tiles: Array, low: float, high: float) -> None:
    """Each tile's mean, written into it."""
    digits = 2 if high - low <= 2 else 0
    centres = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    for (row, column), value in np.ndenumerate(tiles):
        if np.isfinite(value):
            bright = (value - low) > 0.6 * (high - low)
            ax.text(centres[0][column], centres[1][row], f"{value:.{digits}f}", ha="center",
                    va="center", fontsize=7, color="#101418" if bright else "#f4f6f8")


def _trained(ax: Any, across: Range, up: Range) -> None:
    """The outline of the training range, where both are numbers."""
    from matplotlib.patches import Rectangle

    if across.values or up.values:
        return
    corner = across.train[0], up.train[0]
    size = across.train[1] - across.train[0], up.train[1] - up.train[0]
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=INK, lw=1.4, ls=(0, (4, 2))))


def _band(ax: Any, x: Array, bands: Sequence[Band], label: str, colour: str) -> None:
    if not bands:
        return
    centre, low, high = np.array(bands).T
    ax.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
    ax.plot(x, centre, "o", ls=_style(label), color=colour, lw=2, ms=4.5, label=label)


def _style(label: str) -> Any:
    return _STYLES.get(label.split(" ")[0], "-")


def _steps(x: float, _: object = None) -> str:
    """Env steps in thousands or millions."""
    return f"{x / 1e6:g} M" if x >= 1e6 else f"{x / 1e3:g} k" if x >= 1e3 else f"{x:g}"


def _grid(
    rows: int, columns: int, size: tuple[float, float], grid: bool = True, **shared: Any
) -> tuple[Any, Any]:
    """A figure of panels of this size [inch], (rows, columns)."""
    plt = themed()
    figure, axes = plt.subplots(
        rows, columns, squeeze=False, figsize=(size[0] * columns, size[1] * rows), **shared)
    for ax in axes.flat:
        plain(ax, grid)
    return figure, axes


def _legend(figure: Any, axes: Any) -> None:
    """One legend for all panels, above them."""
    seen: dict[str, Any] = {}
    for ax in axes.flat:
        seen |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    if seen:
        figure.legend(seen.values(), seen.keys(), loc="outside upper left", frameon=False,
                      ncols=min(len(seen), 6), handlelength=2.4, columnspacing=1.6,
                      labelcolor=INK)
