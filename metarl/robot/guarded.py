"""An arm behind metarl's guard with LeRobot's verbs; nothing of LeRobot's is imported here.

What a policy or a teleoperator sends goes to the guard, a process of its own, which keeps the arm's
limits (README, "On a real arm"). Numbers are LeRobot's: `<joint>.pos` in degrees, the gripper from
0 (closed) to 100.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from metarl.robot.arm import (
    ArmError,
    BusError,
    Disconnected,
    Mode,
    OperatorAck,
    Rejected,
    Vector,
)
from metarl.robot.client import GuardLink, GuardProcess, start_guard
from metarl.robot.joints import GRIPPER, Joints, number
from metarl.robot.link import Phase, Report
from metarl.robot.registry import Option, make_arm

GRIPPER_KEY = "gripper.pos"
PATIENCE = 1.0  # s, for a report of the guard


class Settings(Protocol):
    """What such an arm is made from."""

    arm: str  # a name of metarl robot list, or package.module:Name
    options: dict[str, Option]  # of its adapter
    limits: dict[str, Any]  # tighter than the arm's own
    joints: str  # LeRobot's names in the arm's order (metarl.robot.joints)
    zeros: str  # degrees that are told where the arm's angles are 0
    least_fps: float  # Hz, of actions, while there are any
    live: bool  # False: a dry run, in which nothing is sent to the arm
    operator: str  # who says: workspace clear, hardware stop in reach


class GuardedArm:
    """`connect` starts the guard and switches torque on; `disconnect` lets the arm hold, with
    torque as it is, and ends the guard.

    LeRobot's loops pause between episodes without a word. When no action has come for a period
    (of `least_fps`), the arm is brought to rest, and the next action lets it go on. If this process
    dies or stands still, the guard does so after two, and latches until a person comes.
    """

    def __init__(self, config: Settings) -> None:
        spec = make_arm(config.arm, config.options).spec
        self.config: Any = config
        self._joints = Joints.of(spec, config.joints, zeros=config.zeros)
        self._gripper = spec.gripper
        self._guard: GuardProcess | None = None
        self._link: GuardLink | None = None
        self._lock = threading.Lock()  # of the link's sending end
        self._ended, self._sent = threading.Event(), float("inf")  # s, the last action

    @property
    def observation_features(self) -> dict[str, type]:
        """The joints, and the gripper if there is one."""
        return dict.fromkeys([*self._joints.keys, *([GRIPPER_KEY] if self._gripper else [])],
                             float)

    @property
    def action_features(self) -> dict[str, type]:
        """The same."""
        return self.observation_features

    @property
    def is_connected(self) -> bool:
        """Whether the guard lives."""
        return self._guard is not None and self._guard.process.poll() is None

    @property
    def is_calibrated(self) -> bool:
        """Calibration is the adapter's."""
        return True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    def connect(self, calibrate: bool = True) -> None:
        """Start the guard, torque on where the arm is. Raises ArmError."""
        if self._guard is not None:
            raise ArmError("the arm is connected already")
        config, twin = self.config, self.config.arm == "twin"
        if config.live and not twin and not config.operator:
            raise ArmError("live moves an arm: say who stands beside it with operator=NAME, who "
                           "states: workspace clear, hardware stop in reach")
        ack = (OperatorAck(config.operator, "workspace clear, hardware stop in reach")
               if config.operator else OperatorAck("nobody", "a twin, or a dry run"))
        self._guard = start_guard(config.arm, config.options, live=config.live or twin,
                                  limits=config.limits, policy_hz=config.least_fps)
        try:
            self._link = self._guard.link()
            self._link.enable(ack)
        except ArmError:
            self.disconnect()
            raise
        self._ended.clear()
        threading.Thread(target=self._watch_for_pauses, daemon=True).start()

    def get_observation(self) -> dict[str, Any]:
        """Where the arm is, at the guard's next tick."""
        state = self._report().state
        said: dict[str, Any] = self._joints.numbers(state.q)
        if self._gripper:
            if state.gripper is None:
                raise BusError("the arm does not tell its gripper")
            said[GRIPPER_KEY] = GRIPPER * state.gripper
        return said

    def send_action(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the guard for a pose; the target that it gave the arm when it took this, which is
        on the way there. Raises ArmError where it does not take it, or does not move the arm any
        more."""
        q, hand = self._read(action)
        with self._lock:
            link = self._open()
            seq = link.command(Mode.JOINT_POSITION, q, link.lifetime, hand)
            self._sent = time.monotonic()
        deadline = time.monotonic() + link.lifetime
        report = self._report()
        while report.seq < seq and time.monotonic() < deadline:
            report = self._report()
        if report.phase in (Phase.LATCHED, Phase.OFF):
            raise ArmError(f"the guard is {report.phase}: {report.reason}; look at the arm, then "
                           "disconnect and connect again")
        if report.seq < seq:
            raise ArmError("the guard did not take the action")
        said: dict[str, Any] = self._joints.numbers(report.applied)
        return said | ({GRIPPER_KEY: action[GRIPPER_KEY]} if self._gripper else {})

    def disconnect(self) -> None:
        """The arm holds; torque stays as it is."""
        self._ended.set()
        with self._lock:
            guard, self._guard = self._guard, None
            link, self._link = self._link, None
            if link is not None:
                link.close()
        if guard is not None:
            guard.stop()

    def _read(self, action: Mapping[str, Any]) -> tuple[Vector, float | None]:
        """Angles [rad] and the gripper's opening. Raises Rejected, for what is not finite too."""
        if strange := sorted(set(action) - set(self.action_features)):
            raise Rejected(f"the arm has no {strange[0]}; it has {', '.join(self.action_features)}")
        try:
            q = self._joints.angles(action)
            hand = number(action, GRIPPER_KEY) / GRIPPER if self._gripper else None
        except ArmError as error:
            raise Rejected(str(error)) from None
        return q, None if hand is None else float(np.clip(hand, 0.0, 1.0))

    def _watch_for_pauses(self) -> None:
        period = 1 / self.config.least_fps
        while not self._ended.wait(period / 4):
            with self._lock:
                if self._link is not None and time.monotonic() - self._sent > period:
                    self._sent = float("inf")
                    try:
                        self._link.hold()
                    except ArmError:
                        return  # the guard is gone; whoever sends next is told

    def _report(self) -> Report:
        return self._open().report(PATIENCE)

    def _open(self) -> GuardLink:
        if self._link is None:
            raise Disconnected("the arm is not connected")
        return self._link
