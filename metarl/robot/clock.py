"""The time that an arm lives in: the host's, or a rehearsal's."""

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
