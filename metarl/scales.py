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


def apart(values: Array) -> tuple[float, float]:
    """The least and the most of values, with room around them where they are all the same."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    room = 0.0 if high - low > _SAME * largest else max(0.1 * largest, 0.5)
    return low - room, high + room
