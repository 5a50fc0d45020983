"""What a double saw of its own arm, for whoever does not want to take the guard's word for it."""

import threading
import time
from collections import deque
from typing import Any

import numpy as np

from metarl.robot.arm import Vector

MOVING = 0.01  # rad/s, of the fastest joint
_KEPT = 1 << 14  # targets, some 16 s of the quickest double's


class Witness:
    """Keeps when the arm was told to be elsewhere, when it last moved, and how long at most the
    double itself had no processor; all times are the host's monotonic clock, s."""

    def __init__(self) -> None:
        self._targets: deque[list[float]] = deque(maxlen=_KEPT)
        self._newest = np.empty(0)
        self._lock = threading.Lock()
        self._moved, self._looked, self._gap = 0.0, time.monotonic(), 0.0

    def told(self, target: Vector) -> None:
        """The arm is to be there (J,) [rad]; only what differs from the target before is kept."""
        if not np.array_equal(target, self._newest):
            self._newest = np.array(target)
            with self._lock:
                self._targets.append([time.monotonic(), *self._newest.tolist()])

    def looked(self, dq: Vector) -> None:
        """The arm moves so fast (J,) [rad/s]; said as often as the double lives on."""
        now = time.monotonic()
        self._gap, self._looked = max(self._gap, now - self._looked), now
        if np.abs(dq).max() > MOVING:
            self._moved = now

    def account(self) -> dict[str, Any]:
        """What happened since the last account: `targets` as rows of time and (J,) angles, `moved`
        as the newest time at which the arm moved, `gap` as the longest time between two looks."""
        with self._lock:
            targets = list(self._targets)
            self._targets.clear()
        gap, self._gap = self._gap, 0.0
        return {"targets": targets, "moved": self._moved, "gap": gap}
