"""A robot with LeRobot's verbs, and an SO-101 in MuJoCo behind them; nothing of LeRobot's in it.

Like LeRobot's own it has torque on once it is connected, believes every number, and lets the arm
fall when it is disconnected, unless its configuration says otherwise.
"""

import math
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from metarl.errors import unknown
from metarl.robot.arm import Vector
from metarl.testing.body import Body, Flaws
from metarl.testing.live import Live

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
TROUBLES = ("", "late", "lost", "corrupt", "nan", "gone")
LATE, SILENCE = 0.19, 0.02  # s, of a late answer, and until it gives one up


class BodyRobot:
    """`unit` is what it tells; `bus` gives it a bus of motors, as LeRobot's own robots have."""

    name = "follower"

    def __init__(self, unit: str = "degrees", bus: bool = True, payload: float = 0.0) -> None:
        self.body = Body("so101", Flaws(payload=payload))
        self.config: Any = SimpleNamespace(disable_torque_on_disconnect=True)
        self.bus = SimpleNamespace(
            motors={name: SimpleNamespace(norm_mode=SimpleNamespace(value=unit))
                    for name in NAMES},
            enable_torque=lambda: self._torque(True), disable_torque=lambda: self._torque(False),
        ) if bus else None
        self.trouble, self.torque, self.sent = "", False, 0
        self._live, self._connected = Live(self.body), False
        self._radian = {"degrees": math.degrees(1), "radians": 1.0, "range_m100_100": 50.0}[unit]
        self._opening = 0.0

    @property
    def observation_features(self) -> dict[str, Any]:
        return {f"{name}.pos": float for name in (*NAMES, "gripper")}

    @property
    def action_features(self) -> dict[str, Any]:
        return self.observation_features

    @property
    def is_connected(self) -> bool:
        return self._connected and self.trouble != "gone"

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def connect(self, calibrate: bool = True) -> None:
        if self.trouble == "gone":
            raise ConnectionError("could not open its port")
        print("hello from a library")  # as some of them do
        self._connected = True
        if not self.torque:
            self.body.aim(self.body.measure()[0])
            self._torque(True)

    def get_observation(self) -> dict[str, Any]:
        self._fail()
        q = self._live.now().measure()[0]
        if self.trouble == "nan":
            q = q * np.nan
        said = (q * self._radian).tolist()
        return {f"{name}.pos": it for name, it in zip(NAMES, said, strict=True)} | {
            "gripper.pos": self._opening}

    def send_action(self, action: Mapping[str, Any]) -> dict[str, Any]:
        self._fail()
        q: Vector = np.array([action[f"{name}.pos"] for name in NAMES]) / self._radian
        self._live.now().aim(q)
        self._opening, self.sent = action["gripper.pos"], self.sent + 1
        return dict(action)

    def disconnect(self) -> None:
        self._connected = False
        if self.config.disable_torque_on_disconnect:
            self._torque(False)

    def inject(self, trouble: str) -> None:
        """Let it fail from now on; "" mends it."""
        if trouble not in TROUBLES:
            raise unknown("trouble", trouble, TROUBLES)
        self.trouble = trouble

    def _torque(self, on: bool) -> None:
        self._live.now().torque(on)
        self.torque, self._live.resting = on, False

    def _fail(self) -> None:
        if not self.is_connected:
            raise ConnectionError("the robot is not connected")
        if self.trouble == "late":
            time.sleep(LATE)
        elif self.trouble == "lost":
            time.sleep(SILENCE)
            raise ConnectionError("no status packet")
        elif self.trouble == "corrupt":
            raise ConnectionError("incorrect status packet")
