"""A body that lives in step with a clock, for a double that answers from its own thread.

An arm does not wait until the computer beside it has nothing better to do: a double with a process
of its own hurries, all its threads alike, after the guard. One thread of a process alone must not:
it would wait for another that has Python's lock and no processor.
"""

import time
from collections.abc import Callable

from metarl.testing.body import Body

Clock = Callable[[], float]  # s
HASTE = 5  # of a double's thread; the guard's is 10


class Live:
    """A body and the clock that it follows: the real one, or one that a test turns by hand.

    It rests on its stand until it is told not to; from then on it falls without torque.
    """

    def __init__(self, body: Body, clock: Clock = time.monotonic) -> None:
        self.resting = True
        self._body, self._clock = body, clock
        self._lived = clock()

    def now(self) -> Body:
        """The body, as old as the clock says."""
        age = self._body.time
        if not self.resting:
            self._body.advance(self._clock() - self._lived)
        # Whole steps only: what is left of one waits for the next time.
        self._lived = self._clock() if self.resting else self._lived + self._body.time - age
        return self._body


class HandClock:
    """A clock that moves only when it is told."""

    def __init__(self) -> None:
        self.time = 0.0  # s

    def __call__(self) -> float:
        return self.time
