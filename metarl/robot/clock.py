"""The time that an arm lives in: the host's, or a rehearsal's."""

import contextlib
import os
import time
from typing import Protocol


class Clock(Protocol):
    """The time that an arm lives in."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Monotonic:
    """The host's own."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


HOST = Monotonic()


def hurry(priority: int) -> None:
    """Let this thread be scheduled before everything ordinary, and before those of less priority
    that ask for the same, where the system lets a user ask for that."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
