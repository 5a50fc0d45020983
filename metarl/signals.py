"""Stop in good order: signals raise a flag, and the loops look at it.

Work inside a handler hangs and tears; a flag that only one loop polls is never seen. So a handler
sets the flag, says so, and does nothing else, and collecting polls it, step by step. In training an
update is finished first, so that what is saved is always a whole iteration, with its line of
metrics, of which a resumed run repeats none; an evaluation is given up, and made when the run goes
on.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "resume me"
_TOLD = b"\nstopping as soon as all is saved (a second Ctrl-C kills, and loses what is new)\n"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stop:
    """Callable: whether somebody asked the program to stop, by signal `number`."""

    number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise the flag. From now on a Ctrl-C kills, whatever the program is doing."""
        self.number = number
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, _TOLD)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A `stop` that SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 make true; main thread only."""
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
