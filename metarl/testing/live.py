"""A body that lives in step with a clock, for a double that answers from its own thread."""

import time
from collections.abc import Callable

from metarl.testing.body import Body

Clock = Callable[[], float]  # s


class Live:
    """A body and the clock that it follows: the real one, or one that a test turns by hand."""

    def __init__(self, body: Body, clock: Clock = time.monotonic) -> None:
        self._body, self._clock = body, clock
        self._birth = clock() - body.time

    def now(self) -> Body:
        """The body, as old as the clock says."""
        self._body.advance(self._clock() - self._birth - self._body.time)
        return self._body


class HandClock:
    """A clock that moves only when it is told."""

    def __init__(self) -> None:
        self.time = 0.0  # s

    def __call__(self) -> float:
        return self.time
