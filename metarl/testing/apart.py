"""A double in a process of its own, whose physics no lock of this process's can stop.

Started by hand, it serves until its input ends, or, where that is closed or /dev/null, until it is
stopped; and says how to reach it:

    python -m metarl.testing.servo_bus --payload 0.1      an SO-101 on a pseudo-terminal
    python -m metarl.testing.rtde --payload 1             a UR5e's controller
    python -m metarl.testing.fr3 --payload 1              an FR3 (franky-sim)
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

from metarl.robot.registry import Option

Told = dict[str, Any]


class Apart:
    """A double that runs inside a `with`; `options` are what its adapter is made from."""

    def __init__(self, module: str, *words: str) -> None:
        self._command = [sys.executable, "-m", module, *words]
        self.options: dict[str, Option] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.options = self._hear()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **said: Any) -> Any:
        """What it answers, once it has done what it was told."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def announce(arm: str, options: dict[str, Option]) -> None:
    """Say how to reach this double: to a program, or to a person at a terminal."""
    if not sys.stdout.isatty():
        print(json.dumps(options), flush=True)
        return
    words = " ".join(f"{name}={json.dumps(value) if isinstance(value, bool) else value}"
                     for name, value in options.items())
    end = "Ctrl-D" if is_told() else "Ctrl-C"
    print(f"until {end}:  --arm {arm} --option {words}", flush=True)


def listen(answer: Callable[[Told], Any]) -> None:
    """Answer what is told, line by line, until the input ends."""
    with contextlib.suppress(KeyboardInterrupt):
        if not is_told():
            threading.Event().wait()
        for line in sys.stdin:
            if (said := understood(line)) is not None:
                print(json.dumps(answer(said)), flush=True)


def understood(line: str | bytes) -> Told | None:
    """What a line says; None for an empty one, and for one that is no JSON object, of which the
    person who wrote it is told."""
    if not line.strip():
        return None
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    print(f"{line!r:.60} is no JSON object", file=sys.stderr)
    return None


def is_told() -> bool:
    """Whether somebody may say something, and end it by ending that. In the background of a shell
    script nobody does: the input is /dev/null, whose end is no word to stop."""
    return sys.stdin is not None and not os.path.samestat(
        os.fstat(sys.stdin.fileno()), os.stat(os.devnull))
