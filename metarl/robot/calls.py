"""A thread for calls that may hang."""

import contextlib
import os
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
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._policy = 0  # of scheduling, the ordinary one

    def ask(self, act: Callable[[], Result]) -> "Future[Result]":
        """What a call will give; it may be cancelled until it begins."""
        self._keep_up()
        future: Future[Result] = Future()
        self._jobs.put((future, act))
        return future

    def end(self) -> None:
        """Let it finish."""
        self._jobs.put(None)

    def _keep_up(self) -> None:
        """Be scheduled as the caller is: the guard goes before everything ordinary."""
        with contextlib.suppress(OSError, AttributeError):  # not every system has it
            policy = os.sched_getscheduler(0)
            if policy != self._policy and self._thread.native_id is not None:
                self._policy = policy
                os.sched_setscheduler(self._thread.native_id, policy, os.sched_getparam(0))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, act = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(act())
                except BaseException as error:
                    future.set_exception(error)
