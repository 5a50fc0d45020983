"""The figures of a page's table with the intervals that others publish."""

import html
from collections.abc import Sequence

from metarl.cli.doubts import Agents
from metarl.report import folded, paragraph, table
from metarl.scoreboard import SUCCESS, as_published


def published(agents: Agents, asked: Sequence[str]) -> list[str]:
    """A table, folded away: each agent's quantities with stratified bootstrap intervals; nothing
    where no agent has two seeds."""
    columns = [(q, split) for q in asked for split in ("test", "ood")]
    rows = [[html.escape(name), *(_cell(as_published(each, split, q), q) for q, split in columns)]
            for name, each in agents.items()]
    if all(cell == "-" for _, *cells in rows for cell in cells):
        return []
    return [folded(
        "The same with intervals as others publish them",
        paragraph("95 % stratified bootstrap intervals over seeds and tasks (Agarwal et al. 2021, "
                  "rliable): each task's scores are drawn anew among its seeds. For comparison "
                  "with intervals made so. What a training is better or worse by on all tasks at "
                  "once averages out in them: with few seeds, as many trainings again would often "
                  "fall outside."),
        table(["agent", *(f"{q}, {split}" for q, split in columns)], rows, markup=True))]


def _cell(found: tuple[float, tuple[float, float]] | None, quantity: str) -> str:
    if found is None:
        return "-"
    value, bounds = found
    low, high = (number(bound, quantity) for bound in bounds)
    return f'{number(value, quantity)} <span class="range">[{low}, {high}]</span>'


def number(value: float, quantity: str) -> str:
    """As in the tables of a page."""
    return f"{100 * value:.0f} %" if quantity == SUCCESS else f"{value:,.1f}"
