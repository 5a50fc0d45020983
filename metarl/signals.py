"""Stop in good order: signals raise a flag, and the loops look at it.

Work inside a handler hangs and tears; a flag that only one loop polls is never seen. So a handler
sets the flag, says so, and does nothing else, and collecting polls it, step by step. In training an
update is finished first, so that what is saved is always a whole iteration, with its line of
metrics, of which a resumed run repeats none; an evaluation is given up, and made when the run goes
on.

Nobody to read what a run says is no reason to end it: `let_go` makes what is written to a pipe
whose reader has left, `head` say, or to a terminal that is gone, go nowhere.
"""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "resume me"
_TOLD = b"\nstopping as soon as all is saved (a second Ctrl-C kills, and loses what is new)\n"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Stop:
    """Callable: whether somebody asked the program to stop, by signal `number`."""

    number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise the flag. From now on a Ctrl-C kills, whatever the program is doing."""
        self.number = number
        if number == signal.SIGHUP:  # the terminal is gone: to write there fails from now on
            let_go(*(stream for stream in (sys.stdout, sys.stderr) if _is_device(stream)))
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, _TOLD)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_device(stream: TextIO) -> bool:
    """Whether it is a terminal, or was one: `isatty` says no of one that is gone."""
    with suppress(OSError, ValueError):
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return False


def let_go(*streams: TextIO) -> None:
    """From now on, what is written to these goes nowhere."""
    for stream in streams:
        with suppress(OSError, ValueError):  # of one that is no file, or is closed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A `stop` that SIGTERM, SIGINT (Ctrl-C), SIGUSR1 and SIGHUP (the terminal was closed) make
    true; main thread only. Under `nohup`, which ignores the last, it stays ignored."""
    stop = Stop()
    kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS
              if number not in kept}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
