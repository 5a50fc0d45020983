"""The scales of a page's figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.scoreboard import RETURN, SUCCESS, Array

_NAMES = {SUCCESS: "success rate", RETURN: "return of an episode"}
_SAME = 1e-6  # of values: a smaller spread is rounding


def named(quantity: str) -> str:
    """A quantity as on an axis; others than the scoreboard's name themselves."""
    return _NAMES.get(quantity, quantity)


def measured(axes: Sequence[Any], quantity: str) -> None:
    """Say what a row of panels measures, on a scale that means something: the whole one of a
    success rate; and returns that are all the same do not fill the height with their rounding."""
    axes[0].set_ylabel(named(quantity))
    if quantity == SUCCESS:
        axes[0].set_ylim(-0.02, 1.02)
        return
    spans = [ax.dataLim.intervaly for ax in axes if np.isfinite(ax.dataLim.intervaly).all()]
    if spans and not np.ptp(spans) > _SAME * np.abs(spans).max():
        axes[0].set_ylim(*apart(np.array(spans)))


def judged_once(ax: Any, x: float, y: float) -> None:
    """Say what a dot is where there is no curve, and from how far it came: from 0. The words stand
    on that side of it on which there is room."""
    end = max(ax.get_xlim()[1], 1.15 * x)
    ax.set_xlim(0, end)
    side, offset = ("right", -9) if x > end / 2 else ("left", 9)
    ax.annotate(f"judged once: {y:,.1f}", (x, y), (offset, 0), ha=side, va="center",
                textcoords="offset points", fontsize=8.5)


def apart(values: Array) -> tuple[float, float]:
    """The least and the most of values, with room around them where they are all the same."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    room = 0.0 if high - low > _SAME * largest else max(0.1 * largest, 0.5)
    return low - room, high + room
