"""Any LeRobot robot that tells and takes joint positions, as an arm.

LeRobot's `Robot` promises little, and nothing is made up for it here: it tells no time, no speed
(speeds are differences of positions) and no fault, and it has no watchdog: if the guard's process
dies, the arm goes on to its last target and stays there. Its `connect` is not ours: most of its
robots set up their motors in it, with torque off and on again, so the arm must be at rest on its
stand by then. "Torque off" means here that nothing is passed on.

A mapping that is wrong in the same way in both directions looks right from within: before the
first live session, turn each joint by hand and compare what is told.
"""

import contextlib
import importlib
import pkgutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import yaml

from metarl.envs.arms import ARMS, ArmName
from metarl.robot.arm import (
    Applied,
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Mode,
    OperatorAck,
    Stale,
    Unsupported,
    Vector,
    check_command,
    needs_ack,
)
from metarl.robot.calls import Calls
from metarl.robot.driver import clamped, extra, refuse_outside, stopping
from metarl.robot.joints import GRIPPER, Joints, number
from metarl.robot.specs import spec_of

SPAN = 0.03  # s, that speeds are means over, at least
SLACK = 0.002  # rad, a little more than a tick of a servo
CONNECTING, PATIENCE = 30.0, 0.5  # s
Result = TypeVar("Result")


class Robot(Protocol):
    """What is used of `lerobot.robots.Robot`."""

    @property
    def observation_features(self) -> Mapping[str, Any]: ...
    @property
    def action_features(self) -> Mapping[str, Any]: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def is_calibrated(self) -> bool: ...
    def connect(self, calibrate: bool = True) -> None: ...
    def get_observation(self) -> Mapping[str, Any]: ...
    def send_action(self, action: dict[str, Any]) -> Mapping[str, Any]: ...
    def disconnect(self) -> None: ...


class FromLeRobot(ArmAdapter):
    """A robot that `make` makes, told of by a spec, of which it keeps what LeRobot can do."""

    def __init__(self, make: Callable[[], Robot], spec: ArmSpec, joints: Joints,
                 gripper: str = "", rate: float = 30.0) -> None:
        senses = {"q", "dq", "gripper"} if gripper else {"q", "dq"}
        self.spec = replace(
            spec, modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(1.0, rate),
            watchdog="guard-only", senses=frozenset(senses), gripper=bool(gripper))
        self._make, self._joints = make, joints
        self._gripper = f"{gripper}.pos" if gripper else ""
        self._robot: Any = None  # of Robot, and what LeRobot's own have beside
        self._calls: Calls | None = None  # while it is connected
        self._asked: Future[tuple[float, Mapping[str, Any]]] | None = None
        self._seen: deque[tuple[float, Vector]] = deque()  # s and rad
        self._others: dict[str, float] = {}  # what is sent beside the joints
        self._target = np.zeros(len(spec.joints))  # rad, the last that was sent
        self._mode, self._enabled = ArmMode.DISCONNECTED, False
        self._seq = self._after = -1

    def connect(self) -> ArmState:
        """LeRobot's connect, without calibrating."""
        if self._calls is None:
            with contextlib.redirect_stdout(sys.stderr):  # the guard's own output is an answer
                self._start()
            self._mode = ArmMode.HOLDING if self._enabled else ArmMode.READY_OFF
            self._enabled = False
            time.sleep(SPAN)
        return self.read(PATIENCE)

    def enable(self, ack: OperatorAck) -> ArmState:
        needs_ack(ack)
        self._open()
        _, q, said = self._sample(PATIENCE)
        refuse_outside(self.spec, q, SLACK)
        self._others = {key: number(said, key) for key in self._robot.action_features
                        if key not in self._joints.keys}
        self._aim(q)  # first: an old target would snap the arm
        self._torque("enable_torque")
        self._mode, self._enabled = ArmMode.HOLDING, True
        return self.read(PATIENCE)

    def read(self, timeout_s: float) -> ArmState:
        when, q, said = self._sample(timeout_s)
        seen = self._seen
        while len(seen) > 1 and when - seen[1][0] >= SPAN:
            seen.popleft()
        then, before = seen[0]
        seen.append((when, q))
        self._seq += 1
        return ArmState(
            seq=self._seq, t_host=when, t_robot=None, q=q, dq=(q - before) / (when - then),
            mode=self._mode, gripper=self._opening(said) if self._gripper else None)

    def send(self, command: Command) -> Applied:
        self._open()
        now = time.monotonic()
        check_command(command, self.spec, self._after, now)
        if not self._enabled:
            raise ArmError("the arm is not enabled")
        inside, limits = clamped(self.spec, command.value)
        if command.gripper is not None and self._gripper:
            self._others[self._gripper] = GRIPPER * command.gripper
        applied = self._aim(inside, min(command.expires - now, PATIENCE))
        limits += tuple(f"robot {name}" for name, off in zip(
            self.spec.joints, np.abs(applied - inside) > 1e-6, strict=True) if off)
        self._after, self._mode = command.seq, ArmMode.STREAMING
        return Applied(command.seq, command.value, applied, limits, time.monotonic())

    def arm_watchdog(self, timeout_s: float) -> None:
        raise Unsupported("LeRobot's robots have no watchdog: only the guard stops this arm")

    def hold(self) -> None:
        if self._calls is not None and self._mode is ArmMode.STREAMING:
            state = self.read(PATIENCE)
            self._aim(stopping(self.spec, self._target, state.q, state.dq))
            self._mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        """Torque off where LeRobot has a bus of motors; another robot holds itself by its own."""
        needs_ack(ack)
        self._open()
        self._torque("disable_torque")
        self._mode, self._enabled = ArmMode.READY_OFF, False

    def clear_faults(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        raise ArmError("LeRobot tells of no faults: there is none to clear")

    def close(self) -> None:
        if self._calls is not None:
            enabled = self._enabled
            try:
                self.hold()
            finally:
                self._drop()
                self._enabled = enabled  # it still stands by its own torque

    # Parts.

    def _start(self) -> None:
        if self._robot is None:
            robot = self._make()
            self._refuse(robot)
            self._robot = robot
        self._calls = Calls()
        try:
            self._do(lambda: self._robot.connect(calibrate=False), CONNECTING)
            if not self._robot.is_calibrated:
                raise ArmError("the robot is not calibrated; run lerobot-calibrate first")
            self._seen.clear()
            self._seen.append(self._sample(PATIENCE)[:2])
        except ArmError as error:
            self._drop()
            raise Disconnected(f"no LeRobot robot: {error}") from error

    def _refuse(self, robot: Any) -> None:
        """Raises ArmError for a robot that has not these joints, in this unit."""
        told, taken = robot.observation_features, robot.action_features
        wanted = [*self._joints.keys, *filter(None, [self._gripper])]
        for key in wanted:
            if key not in told or key not in taken:
                raise ArmError(f"the robot has no {key}; it tells {', '.join(told)} and takes "
                               f"{', '.join(taken)}")
        for key in taken:
            # A position can be kept as it was; a speed that goes on is a motion.
            if key not in told or not key.endswith(".pos"):
                raise ArmError(f"the robot takes {key}, for which there is nothing to send")
        motors = getattr(getattr(robot, "bus", None), "motors", {})
        for name in self._joints.names:
            mode = getattr(getattr(motors.get(name), "norm_mode", None), "value", None)
            if mode not in (None, self._joints.unit):
                raise ArmError(f"the robot tells {name} in {mode}, not in {self._joints.unit}: "
                               "set `use_degrees: true` in its configuration")
        config: Any = getattr(robot, "config", None)
        if getattr(config, "use_degrees", True) is False:
            raise ArmError("`use_degrees` of the robot is false: it tells shares of a range, "
                           "-100 to 100, and no angles; set it to true")
        if getattr(config, "disable_torque_on_disconnect", False):
            config.disable_torque_on_disconnect = False  # to close drops no arm

    def _sample(self, timeout_s: float) -> tuple[float, Vector, Mapping[str, Any]]:
        """When it was asked [s], angles (J,) [rad] and all that it told."""
        calls, robot = self._open(), self._robot
        if self._asked is None or self._asked.cancelled():
            # Stamped before: what comes late is old.
            self._asked = calls.ask(lambda: (time.monotonic(), robot.get_observation()))
        try:
            when, said = self._wait(self._asked, timeout_s)
        except Stale:
            raise  # it may still come, and is asked for once
        except ArmError:
            self._asked = None
            raise
        self._asked = None
        return when, self._joints.angles(said), said

    def _opening(self, said: Mapping[str, Any]) -> float:
        return min(max(number(said, self._gripper) / GRIPPER, 0.0), 1.0)

    def _aim(self, q: Vector, timeout_s: float = PATIENCE) -> Vector:
        """Send targets (J,); those that the robot says were sent."""
        action = self._others | self._joints.numbers(q)
        said = self._do(lambda: self._robot.send_action(action), timeout_s)
        self._target = self._joints.angles(said)
        return self._target

    def _torque(self, verb: str) -> None:
        act = getattr(getattr(self._robot, "bus", None), verb, None)
        if act is not None:
            self._do(act, PATIENCE)

    def _do(self, act: Callable[[], Result], timeout_s: float) -> Result:
        return self._wait(self._open().ask(act), timeout_s)

    def _wait(self, asked: "Future[Result]", timeout_s: float) -> Result:
        try:
            return asked.result(timeout_s)
        except Exception as error:  # a stranger's code may raise anything
            if not asked.done():
                asked.cancel()
                raise Stale(f"the robot did not answer in {timeout_s:g} s") from None
            if self._mode is not ArmMode.DISCONNECTED and not self._robot.is_connected:
                self._drop()
                raise Disconnected(f"the robot is gone: {error}") from error
            raise BusError(f"the robot fails: {type(error).__name__}: {error}") from error

    def _open(self) -> Calls:
        if self._calls is None:
            raise Disconnected("the arm is not connected")
        return self._calls

    def _drop(self) -> None:
        calls, self._calls, self._asked = self._calls, None, None
        self._mode, self._enabled = ArmMode.DISCONNECTED, False
        if calls is not None:
            if self._robot.is_connected:
                with contextlib.suppress(Exception):  # it may be gone already
                    calls.ask(self._robot.disconnect).result(PATIENCE)
            calls.end()


class LeRobotArm(FromLeRobot):
    """A robot that LeRobot makes from its own configuration.

    `config`: a YAML file with what LeRobot's command line calls `--robot`: `type`, `port`, `id`
    and so on, without cameras. `arm`: whose limits and kinematics it has, an arm of metarl's or the
    file of an ArmSpec (`spec.to_json()`). `joints`, `unit`, `zeros`: see Joints. `gripper`: the
    name of LeRobot's. `rate`: of commands [Hz]. `plugin`: a module that registers the type.
    """

    vendor = ("lerobot", "lerobot")

    def __init__(self, config: str, arm: str = "so101", joints: str = "", unit: str = "degrees",
                 zeros: str = "", gripper: str = "", rate: float = 30.0,
                 plugin: str = "") -> None:
        spec = spec_named(arm)
        super().__init__(partial(build, config, plugin), spec,
                         Joints.of(spec, joints, unit, str(zeros)), gripper, rate)


def build(config: str, plugin: str = "") -> Robot:
    """The robot of a configuration's file, not connected. Raises ArmError."""
    robots = extra("lerobot.robots", "lerobot")
    try:
        said = yaml.safe_load(Path(config).read_text())
        if plugin:
            importlib.import_module(plugin)
    except (OSError, yaml.YAMLError, ImportError) as error:
        raise ArmError(f"no robot from {plugin or config}: {error}") from None
    extra("lerobot.utils.import_utils", "lerobot").register_third_party_plugins()
    for found in pkgutil.iter_modules(robots.__path__, "lerobot.robots."):
        if found.ispkg:  # a type is known once its package was imported
            with contextlib.suppress(Exception):  # one that lacks a library of its own
                importlib.import_module(found.name)
    try:
        return robots.make_robot_from_config(
            extra("draccus", "lerobot").decode(robots.RobotConfig, said))
    except Exception as error:
        raise ArmError(f"LeRobot makes no robot from {config}: {error}") from error


def spec_named(arm: str) -> ArmSpec:
    names: dict[str, ArmName] = {name: name for name in ARMS}
    if arm in names:  # all of what a driver says is replaced
        return spec_of(names[arm], modes=frozenset(), rate_hz=(1.0, 1.0), watchdog="guard-only",
                       senses=frozenset())
    try:
        return ArmSpec.from_json(Path(arm).read_text())
    except OSError as error:
        raise ArmError(f"{arm} is neither of {', '.join(names)} nor the file of an ArmSpec: "
                       f"{error}") from None
