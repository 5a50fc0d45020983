"""A thread for calls that may hang."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Calls:
    """A thread that calls a robot, one call after the other, so that none can keep the guard."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue())
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, act: Callable[[], Result]) -> "Future[Result]":
        """What a call will give; it may be cancelled until it begins."""
        future: Future[Result] = Future()
        self._jobs.put((future, act))
        return future

    def end(self) -> None:
        """Let it finish."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, act = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(act())
                except BaseException as error:
                    future.set_exception(error)
