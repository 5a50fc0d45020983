"""Franka Research 3 through franky: at each joint target a new plan inside the arm's limits.

franky's own thread talks to the arm at 1 kHz in C++ and plans (Ruckig) towards the newest target,
inside a share of Franka's limits of speed, acceleration and jerk, and stands there. A plan always
ends at rest, so a moving target is followed with a lag: what is safe if no further one comes. If
this process dies or stands still, the arm stops by itself: it misses its 1 kHz of commands.

Streaming torques (franky's impedance tracker) lag less, but a step of 0.2 rad made them swing, and
to end them let an arm sink under a payload that it was not told of.

Franka's interface neither locks nor unlocks the brakes: Desk does, which a person works. Torque is
"off" here while the arm's own controller holds it and no control runs.
"""

import os
import time
from types import ModuleType
from typing import Any

import numpy as np

from metarl.robot.arm import (
    Applied,
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Fault,
    Mode,
    OperatorAck,
    Stale,
    Vector,
    check_command,
    needs_ack,
)
from metarl.robot.driver import clamped, extra, refuse_outside, stopping
from metarl.robot.specs import spec_of

PATIENCE = 1.0  # s, for a fresh state outside the control loop
POLL = 0.0005  # s
# Hz, of targets. A plan that is replaced at once never gets going: in the simulator at 0.3 rad/s
# and 200 Hz of its time it fell 0.15 rad behind, at 70 Hz 0.02.
RATES = (1.0, 40.0)
STOPS = {"Reflex": "reflex", "UserStopped": "user stop", "Guiding": "guiding",
         "Other": "not ready"}  # robot modes in which it takes no commands


class Fr3(ArmAdapter):
    """An FR3 at a host, unlocked and with its interface (FCI) active.

    `dynamics`: the share of Franka's limits that plans may use. `realtime`: insist on a kernel that
    keeps 1 kHz; only a simulator can do without.
    """

    vendor = ("franky", "franka")

    def __init__(self, host: str, dynamics: float = 1.0, realtime: bool = True) -> None:
        if not 0 < dynamics <= 1:
            raise ArmError("dynamics is a share, above 0 and up to 1")
        self.spec = spec_of(
            "fr3", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=RATES,
            watchdog="driver", senses=frozenset({"q", "dq", "tau"}))
        self._host, self._dynamics, self._realtime = host, float(dynamics), realtime
        self._franky: ModuleType | None = None
        self._robot: Any = None
        self._mode, self._enabled = ArmMode.DISCONNECTED, False
        self._faults: tuple[Fault, ...] = ()
        self._told = -1.0  # s, the device's clock
        self._seq = self._after = -1
        self._target = np.zeros(len(self.spec.joints))  # rad
        self._watchdog, self._fed = float("inf"), 0.0  # s
        self.cleared = 0  # faults that a person cleared

    def connect(self) -> ArmState:
        """State only: no control runs."""
        if self._robot is None:
            franky = self._franky = extra("franky", "franka")
            config = franky.RealtimeConfig
            policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
            try:
                self._robot = franky.Robot(
                    self._host, relative_dynamics_factor=self._dynamics,
                    realtime_config=config.Enforce if self._realtime else config.Ignore)
            except Exception as error:
                if not isinstance(error, self._errors()):
                    raise
                raise Disconnected(f"no FR3 at {self._host}: {error}") from error
            finally:
                if not self._realtime:
                    # libfranka puts this thread before all others where it may, and with it all
                    # that it starts: a simulator, among others, from which it keeps the processor.
                    os.sched_setscheduler(0, policy, priority)
            self._told = -1.0
            self._mode = ArmMode.HOLDING if self._enabled else ArmMode.READY_OFF
            self._enabled = False
        return self.read(PATIENCE)

    def enable(self, ack: OperatorAck) -> ArmState:
        """Control, towards the pose that is measured."""
        needs_ack(ack)
        state = self.read(PATIENCE)
        if self._faults:
            raise ArmError(f"{self._faults[0].text}; clear it before the arm is enabled")
        refuse_outside(self.spec, state.q)
        self._aim(state.q)
        self._mode, self._enabled = ArmMode.HOLDING, True
        return self.read(PATIENCE)

    def read(self, timeout_s: float) -> ArmState:
        """The newest state."""
        robot, deadline = self._open(), time.monotonic() + timeout_s
        while True:
            try:
                said = robot.state
            except self._errors() as error:
                self._drop()
                raise Disconnected(f"{self._host} is gone: {error}") from error
            stamp = said.time.to_sec()
            if stamp > self._told:
                break
            if time.monotonic() >= deadline:
                raise Stale(f"{self._host} told nothing new in {timeout_s:g} s")
            time.sleep(POLL)
        self._told = stamp
        self._notice(said)
        q, dq, tau = (np.array(it, np.float64) for it in (said.q, said.dq, said.tau_J))
        if not all(np.isfinite(it).all() for it in (q, dq, tau)):
            raise BusError(f"{self._host} told NaN")
        self._seq += 1
        return ArmState(self._seq, time.monotonic(), stamp, q, dq, self._mode, tau=tau,
                        faults=self._faults)

    def send(self, command: Command) -> Applied:
        """A new target for the plan."""
        self._open()
        check_command(command, self.spec, self._after, time.monotonic())
        if self._faults or not self._enabled:
            raise ArmError(self._faults[0].text if self._faults else "the arm is not enabled")
        applied, limits = clamped(self.spec, command.value)
        self._aim(applied)
        self._after, self._mode, self._fed = command.seq, ArmMode.STREAMING, time.monotonic()
        return Applied(command.seq, command.value, applied, limits, time.monotonic())

    def arm_watchdog(self, timeout_s: float) -> None:
        """Stay where it is, where no command comes in `timeout_s`: as soon as it is read."""
        self._open()
        self._watchdog = timeout_s

    def hold(self) -> None:
        """A plan that ends at the last target, or as soon as it can."""
        if self._mode is ArmMode.STREAMING:
            self._mode = ArmMode.HOLDING
            said = self._robot.state
            now, speed = (np.array(it, np.float64) for it in (said.q_d, said.dq_d))
            self._aim(stopping(self.spec, self._target, now, speed))

    def release(self, ack: OperatorAck) -> None:
        """End control; the arm's own controller holds it until Desk locks it."""
        needs_ack(ack)
        self._open()
        self._stop()
        self._enabled, self._mode = False, ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        """Franka's error recovery, and control at the measured pose where it ran."""
        needs_ack(ack)
        robot = self._open()
        if not self._faults:
            raise ArmError("there is no fault to clear")
        try:
            robot.recover_from_errors()
            said = robot.state
        except self._errors() as error:
            raise ArmError(f"{self._host} does not recover: {error}") from error
        if (name := said.robot_mode.name) in STOPS:
            raise ArmError(f"{STOPS[name]}: its cause still stands")
        count, self._faults = len(self._faults), ()
        if self._enabled:
            self._aim(np.array(said.q, np.float64))
        self._mode = ArmMode.HOLDING if self._enabled else ArmMode.READY_OFF
        self.cleared += count

    def close(self) -> None:
        """The arm's own controller holds it."""
        if self._robot is not None:
            enabled = self._enabled
            try:
                self._stop()
            finally:
                self._drop()
                self._enabled = enabled  # it still stands by its own torque

    # Parts.

    def _aim(self, q: Vector) -> None:
        """Plan towards targets (J,), and stand there: plain floats, which is all that it takes."""
        franky, robot = self._franky, self._open()
        assert franky is not None
        try:
            robot.poll_motion()  # raises what ended the last plan
            if robot.is_in_control and np.array_equal(q, self._target):
                return  # its plan goes there already, and no plan is as short as none
            robot.move(franky.JointMotion([float(x) for x in q], return_when_finished=False),
                       asynchronous=True)
        except self._errors() as error:
            self._add("control", f"control ended: {error}")
            raise ArmError(self._faults[-1].text) from error
        self._target = q

    def _stop(self) -> None:
        """Come to rest, and end control."""
        franky, robot = self._franky, self._open()
        assert franky is not None
        try:
            if robot.is_in_control:
                robot.move(franky.JointStopMotion(), asynchronous=True)
                robot.join_motion(PATIENCE)
        except self._errors() as error:
            self._add("control", f"control ended: {error}")

    def _notice(self, said: Any) -> None:
        """Keep what stopped the arm, until a person clears it."""
        name = said.robot_mode.name
        if name in STOPS:
            self._add(STOPS[name], f"the arm is in {STOPS[name]} {said.current_errors}")
        elif self._enabled and not self._faults and not self._robot.is_in_control:
            self._add("control", f"control ended {said.last_motion_errors}")
        late = time.monotonic() - self._fed > self._watchdog
        if self._mode is ArmMode.STREAMING and late and not self._faults:
            self._aim(np.array(said.q_d, np.float64))
            self._add("watchdog", "no command came in time")
            self._mode = ArmMode.STOPPED
        elif self._faults and self._mode is not ArmMode.STOPPED:
            self._mode = ArmMode.FAULT

    def _add(self, code: str, text: str) -> None:
        if all(fault.code != code for fault in self._faults):
            self._faults = (*self._faults, Fault(code, text.strip()))

    def _errors(self) -> tuple[type[Exception], ...]:
        """What franky raises; a plan that it cannot make is a bare RuntimeError."""
        return (RuntimeError, *(it for name, it in vars(self._franky).items()
                                if name.endswith("Exception") and isinstance(it, type)))

    def _open(self) -> Any:
        if self._robot is None:
            raise Disconnected("the arm is not connected")
        return self._robot

    def _drop(self) -> None:
        self._robot = None
        self._mode, self._enabled = ArmMode.DISCONNECTED, False
