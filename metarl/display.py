"""What training shows: a live panel on a terminal, one plain line per iteration elsewhere.

All of it goes to standard error, so that standard output holds results alone.
"""

import math
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl.signals import let_go

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 40  # iterations of the little curve
_BEFORE = "return before adaptation"
_MARGIN, _GAP = 2, 2  # blanks beside a panel's body, and between its columns


@dataclass(frozen=True)
class Progress:
    """Where a training run is."""

    iteration: int
    step: int  # env steps so far
    total: int  # env steps in all
    before: float  # mean return of the first episode of a trial; NaN if unknown
    after: float  # mean return of the last one
    rate: float  # env steps per second
    checkpoint: int | None = None  # env step of the newest checkpoint
    more: Mapping[str, float] = field(default_factory=dict)  # other numbers worth a line

    @property
    def percent(self) -> float:
        """Of the steps; the last iteration may go beyond them."""
        return min(100 * self.step / max(self.total, 1), 100.0)

    @property
    def gain(self) -> float:
        return self.after - self.before

    @property
    def seconds_left(self) -> float:
        return (self.total - self.step) / self.rate if self.rate > 0 else math.nan

    @property
    def line(self) -> str:
        """All of it in one line of text."""
        return (
            f"iteration {self.iteration}  step {self.step:,}/{self.total:,} ({self.percent:.0f}%)  "
            f"return {number(self.before)} -> {number(self.after)} "
            f"(gain {number(self.gain, sign=True)})  "
            f"{self.rate:,.0f} steps/s  {duration(self.seconds_left)} left"
        )


class Screen(Console):
    """A console on which a run goes on when its reader has left: rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        let_go(cast(TextIO, self.file))


class Display:
    """Shows progress; a context manager, so that the terminal is left as it was."""

    def __init__(self, title: str, where: str, console: Console | None = None) -> None:
        """`title` says what is trained, `where` is the run directory."""
        self.title, self.where = title, where
        self.console = console or Screen(stderr=True)
        self.live: Live | None = None
        self._before: deque[float] = deque(maxlen=_HISTORY)
        self._after: deque[float] = deque(maxlen=_HISTORY)
        self._began = time.monotonic()
        self._newest: Progress | None = None

    def __enter__(self) -> "Display":
        if is_lively(self.console):
            waiting = Text("  collecting the first trial …", style="dim")
            live = Live(self._panel(waiting), console=self.console, refresh_per_second=4)
            live.start()
            self.live = live
            # A second Ctrl-C kills at once, and must not leave the terminal without a cursor.
            self.console.show_cursor(True)
        else:
            self.say(f"{self.title}, in {self.where}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, progress: Progress) -> None:
        """Show the newest iteration."""
        self._before.append(progress.before)
        self._after.append(progress.after)
        self._newest = progress
        if self.live is None:
            self.say(progress.line)
        else:
            self.live.update(self._panel(self._body(progress)))

    def saved(self, step: int) -> None:
        """A checkpoint was written at this env step; the last one after the last iteration."""
        if self._newest is not None and self.live is not None:
            self._newest = replace(self._newest, checkpoint=step)
            self.live.update(self._panel(self._body(self._newest)))

    def say(self, text: str) -> None:
        """One plain line, above the panel where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _panel(self, body: RenderableType) -> Panel:
        return Panel(
            body, title=Text(self.title, style="bold"), title_align="left",
            subtitle=Text(self.where, style="dim"), subtitle_align="right",
            border_style="cyan", padding=(1, _MARGIN), width=self._width,
        )

    @property
    def _width(self) -> int:
        return min(self.console.width, 88)

    @property
    def _inside(self) -> int:
        """Letters of a line inside the panel."""
        return self._width - 2 * (_MARGIN + 1)

    def _body(self, progress: Progress) -> RenderableType:
        return Group(self._bar(progress), Text(), self._returns(progress), Text(),
                     self._facts(progress))

    def _bar(self, progress: Progress) -> RenderableType:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(
            ProgressBar(total=max(progress.total, 1), completed=min(progress.step, progress.total),
                        complete_style="cyan", finished_style="green"),
            Text(f"{progress.percent:5.1f}%", style="bold"),
        )
        return grid

    def _returns(self, progress: Progress) -> RenderableType:
        low, high = _range([*self._before, *self._after])
        told = [number(progress.before), number(progress.after), number(progress.gain, sign=True)]
        # The newest part of the curves, as far as there is room beside the numbers.
        room = max(self._inside - len(_BEFORE) - max(map(len, told)) - 3 * _GAP, 0)
        curves = [spark([*values][-room:] if room else [], low, high)
                  for values in (self._before, self._after)]
        grid = Table.grid(padding=(0, _GAP))
        grid.add_column(style="dim")
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(_BEFORE, told[0], Text(curves[0], style="dim"))
        grid.add_row("return after adaptation", Text(told[1], style="bold"),
                     Text(curves[1], style="green"))
        style = "bold green" if progress.gain > 0 else "bold yellow"
        grid.add_row("gain", Text(told[2], style=style), Text())
        return grid

    def _facts(self, progress: Progress) -> RenderableType:
        saved = "none yet" if progress.checkpoint is None else f"step {progress.checkpoint:,}"
        pairs = [
            ("iteration", f"{progress.iteration:,}"),
            ("env steps", f"{progress.step:,} of {progress.total:,}"),
            ("speed", f"{progress.rate:,.0f} steps/s"),
            ("time left", duration(progress.seconds_left)),
            ("elapsed", duration(time.monotonic() - self._began)),
            ("last checkpoint", saved),
            *((name, number(value)) for name, value in progress.more.items()),
        ]
        rows = [[*chain(*pairs[i : i + 2])] for i in range(0, len(pairs), 2)]
        wide = sum(max(map(len, column)) + _GAP for column in zip_longest(*rows, fillvalue=""))
        styles = ("dim", "", "dim", "")
        if wide - _GAP > self._inside:
            rows, styles = pairs, styles[:2]
        grid = Table.grid(padding=(0, _GAP))
        for style in styles:
            grid.add_column(style=style)
        for row in rows:
            grid.add_row(*row)
        return grid


def is_lively(console: Console) -> bool:
    """Whether a panel may be redrawn: on a terminal that a person looks at."""
    return console.is_terminal and not console.is_dumb_terminal and "CI" not in os.environ


def spark(values: deque[float] | list[float], low: float, high: float) -> str:
    """A curve in one line of text; a blank where a value is not finite."""
    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        share = (value - low) / (high - low) if high > low else 0.5
        return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]

    return "".join(bar(value) for value in values)


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m05s, 2h10m or 1d04h."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def number(value: float, sign: bool = False) -> str:
    """A number with two decimals, or three digits where it is small: of metres, a height or a
    distance says nothing by its first two decimals. A dash where there is none."""
    if not math.isfinite(value):
        return "-"
    plus = "+" if sign else ""
    if 1e-5 < abs(value) < 0.0995:
        digits = 2 - math.floor(math.log10(abs(value)))
        return f"{value:{plus},.{digits}f}"
    return f"{round(value, 2) + 0.0:{plus},.2f}"  # + 0.0: no zero has a minus


def _range(values: list[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)
