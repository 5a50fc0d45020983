"""UR e-Series arms through ur_rtde: state over RTDE, and servoj in the program that it uploads.

To connect only opens RTDE for reading. The program starts when the arm is enabled and ends when it
is closed; the arm then stands by itself. servoj ignores speeds and accelerations: whoever sends
targets (the guard) limits them. The watchdog is the controller's own (`rtde_set_watchdog`): a
program that hears nothing in time ends in a protective stop, which a person has to clear.
"""

import contextlib
import math
import time
from collections.abc import Callable
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
    check_command,
    needs_ack,
)
from metarl.robot.driver import clamped, extra, refuse_outside
from metarl.robot.specs import spec_of

RATE = 125.0  # Hz, of RTDE
TOLD = ["timestamp", "actual_q", "actual_qd", "actual_current", "joint_temperatures",
        "ft_raw_wrench", "robot_mode", "safety_mode", "robot_status_bits", "safety_status_bits"]
LOOKAHEAD, GAIN = 0.05, 300.0  # s and none, of servoj: within 0.03 to 0.2, and 100 to 2000
DECELERATION = 10.0  # rad/s^2, of servoj's stop
RUNNING = 7  # robot mode, with power on and brakes off
PROTECTIVE_STOP = 3  # safety mode
SAFETY = {3: "protective stop", 4: "recovery", 5: "safeguard stop", 6: "emergency stop",
          7: "emergency stop", 8: "safety violation", 9: "safety fault"}  # 1, 2: all is well
PATIENCE, POWERING = 1.0, 30.0  # s, for a fresh state and for power or brakes
POLL = 0.0005  # s


class Ur5e(ArmAdapter):
    """A UR5e at a host, in remote control."""

    vendor = ("rtde_receive", "ur")

    def __init__(self, host: str) -> None:
        self.spec = spec_of(
            "ur5e", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10.0, RATE),
            watchdog="device", senses=frozenset({"q", "dq", "current", "temperature", "wrench"}))
        self._host = host
        self._state: Any = None  # RTDEReceiveInterface
        self._control: Any = None  # RTDEControlInterface, while the program runs
        self._mode = ArmMode.DISCONNECTED
        self._faults: tuple[Fault, ...] = ()
        self._told = -math.inf  # s, the device's clock
        self._seq = self._after = -1
        self._watchdog: float | None = None  # s
        self.cleared = 0  # faults that a person cleared

    def connect(self) -> ArmState:
        """Read only."""
        if self._state is None:
            library = extra("rtde_receive", "ur")
            try:
                self._state = library.RTDEReceiveInterface(self._host, RATE, TOLD)
            except RuntimeError as error:
                raise Disconnected(f"no RTDE at {self._host}: {error}") from error
            self._told = -math.inf
            on = self._state.getRobotMode() == RUNNING
            self._mode = ArmMode.HOLDING if on else ArmMode.READY_OFF
        return self.read(PATIENCE)

    def enable(self, ack: OperatorAck) -> ArmState:
        """Power on, brakes off, and the program running; it moves only when it is told to."""
        needs_ack(ack)
        state = self.read(PATIENCE)
        if self._faults:
            raise ArmError(f"{self._faults[0].text}; clear it before the arm is enabled")
        refuse_outside(self.spec, state.q)
        if self._state.getRobotMode() != RUNNING:
            with self._dashboard() as dashboard:
                dashboard.powerOn()
                dashboard.brakeRelease()
            self._wait(lambda: self._state.getRobotMode() == RUNNING, "power and brakes")
        self.hold()
        self._start()
        return self.read(PATIENCE)

    def read(self, timeout_s: float) -> ArmState:
        """The newest packet."""
        state, deadline = self._open(), time.monotonic() + timeout_s
        while True:
            stamp = state.getTimestamp()
            if stamp > self._told:
                found = self._sample(state, stamp)
                if state.getTimestamp() == stamp:  # no packet came between
                    break
            elif time.monotonic() >= deadline:
                raise Stale(f"{self._host} told nothing new in {timeout_s:g} s")
            else:
                time.sleep(POLL)
        self._told = stamp
        if not all(np.isfinite(it).all() for it in (found.q, found.dq)):
            raise BusError(f"{self._host} told NaN")
        self._seq += 1
        if self._control is not None and self._mode is ArmMode.HOLDING and not self._faults:
            self._control.kickWatchdog()  # nothing moves: it waits for the next command
        return found

    def send(self, command: Command) -> Applied:
        """servoj."""
        self._open()
        check_command(command, self.spec, self._after, time.monotonic())
        if self._control is None:
            raise ArmError("the arm is not enabled")
        self._notice()
        if self._faults:
            raise ArmError(self._faults[0].text)
        applied, limits = clamped(self.spec, command.value)
        if not self._control.servoJ(applied.tolist(), 0.0, 0.0, 1 / RATE, LOOKAHEAD, GAIN):
            raise BusError(f"{self._host} did not take command {command.seq}")
        self._after, self._mode = command.seq, ArmMode.STREAMING
        return Applied(command.seq, command.value, applied, limits, time.monotonic())

    def arm_watchdog(self, timeout_s: float) -> None:
        """Protective stop where no command comes in `timeout_s`; while holding, to read will do."""
        self._open()
        if self._control is None:
            raise ArmError("the watchdog belongs to the program: enable the arm first")
        if not self._control.setWatchdog(1 / timeout_s):
            raise BusError(f"{self._host} did not take the watchdog")
        self._watchdog = timeout_s

    def hold(self) -> None:
        """servoj's stop."""
        if self._control is None or self._mode is not ArmMode.STREAMING:
            return
        self._notice()
        if not self._faults and not self._control.servoStop(DECELERATION):
            raise BusError(f"{self._host} did not confirm the stop")
        self._mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        """Power off: the brakes close."""
        needs_ack(ack)
        self._open()
        self._end()
        with self._dashboard() as dashboard:
            dashboard.powerOff()
        self._wait(lambda: self._state.getRobotMode() != RUNNING, "the brakes")
        self._mode = ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        """Unlock a protective stop, and start the program again where it ran."""
        needs_ack(ack)
        self._open()
        self._notice()
        if not self._faults:
            raise ArmError("there is no fault to clear")
        if self._state.getSafetyMode() == PROTECTIVE_STOP:
            with self._dashboard() as dashboard:
                dashboard.unlockProtectiveStop()
            self._wait(lambda: self._state.getSafetyMode() != PROTECTIVE_STOP, "the unlocking")
        safety = self._state.getSafetyMode()
        if safety in SAFETY:
            raise ArmError(f"{SAFETY[safety]}: its cause still stands")
        count, self._faults = len(self._faults), ()
        if self._control is not None:
            self._end()
            if self._state.getRobotMode() == RUNNING:
                self._start()
        self.cleared += count

    def close(self) -> None:
        """The program ends; the arm stands."""
        if self._state is None:
            return
        try:
            self.hold()
        finally:
            self._end()
            self._state, self._mode = None, ArmMode.DISCONNECTED  # to let go of it disconnects

    # Parts.

    def _start(self) -> None:
        """The program, fresh: one that was stopped is not trusted to come back."""
        if self._control is None:
            library = extra("rtde_control", "ur")
            try:
                self._control = library.RTDEControlInterface(self._host, RATE)
            except RuntimeError as error:
                raise ArmError(f"{self._host} does not run the program: {error}") from error
            if self._watchdog is not None:
                self.arm_watchdog(self._watchdog)
        self._mode = ArmMode.HOLDING

    def _end(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            with contextlib.suppress(RuntimeError):
                control.stopScript()  # to let go of it disconnects

    def _sample(self, state: Any, stamp: float) -> ArmState:
        now = time.monotonic()
        self._notice()
        mode = self._mode
        if self._faults:
            stopped = any(fault.code in ("protective stop", "program") for fault in self._faults)
            mode = ArmMode.STOPPED if stopped else ArmMode.FAULT
        return ArmState(
            seq=self._seq + 1, t_host=now, t_robot=stamp, q=np.array(state.getActualQ()),
            dq=np.array(state.getActualQd()), mode=mode, faults=self._faults,
            current=np.array(state.getActualCurrent()), wrench=np.array(state.getFtRawWrench()),
            temperature=np.array(state.getJointTemperatures()))

    def _notice(self) -> None:
        """Keep what stopped the arm, until a person clears it."""
        found = {fault.code: fault for fault in self._faults}
        safety = self._state.getSafetyMode()
        if safety in SAFETY:
            what = SAFETY[safety]
            found.setdefault(what, Fault(what, f"the arm is in {what}"))
        elif self._control is not None and not found:
            if self._state.getRobotMode() != RUNNING:
                found["power"] = Fault("power", "the arm lost power")
            elif not self._control.isProgramRunning():
                found["program"] = Fault("program", "the arm's program stopped")
        self._faults = tuple(found.values())

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + POWERING
        while not done():
            if time.monotonic() >= deadline:
                raise ArmError(f"{self._host}: {what} took more than {POWERING:g} s")
            time.sleep(POLL)

    @contextlib.contextmanager
    def _dashboard(self) -> Any:
        """The dashboard, which switches power and clears stops."""
        dashboard = extra("dashboard_client", "ur").DashboardClient(self._host)
        try:
            dashboard.connect(2000)  # ms
            if not dashboard.isInRemoteControl():
                raise ArmError(f"{self._host} is not in remote control; set it at the pendant")
            yield dashboard
        except RuntimeError as error:
            raise ArmError(f"{self._host} refuses: {str(error).strip()}") from error
        finally:
            with contextlib.suppress(RuntimeError):
                dashboard.disconnect()

    def _open(self) -> Any:
        if self._state is None:
            raise Disconnected("the arm is not connected")
        if not self._state.isConnected():
            self._state, self._control, self._mode = None, None, ArmMode.DISCONNECTED
            raise Disconnected(f"{self._host} is gone")
        return self._state
