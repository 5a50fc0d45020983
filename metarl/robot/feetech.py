"""SO-101 and SO-100: five STS3215 servos, and a sixth for a gripper, on one serial bus.

The servos have no watchdog: the guard is the only one.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

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
    Unsupported,
    Vector,
    check_command,
    needs_ack,
)
from metarl.robot.driver import clamped, refuse_outside, stopping
from metarl.robot.servos import (
    CURRENT_UNIT,
    GOAL,
    MAX_POSITION,
    MIN_POSITION,
    MODEL,
    MOTION,
    NAMES,
    OFFSET,
    OPERATING_MODE,
    PATIENCE,
    PRESENT,
    STATUS,
    STS3215,
    TICKS,
    TORQUE,
    Bus,
    Servo,
    read_calibration,
    signed,
    unsigned,
)
from metarl.robot.specs import spec_of

PUSHING = ("over-current", "overload")  # faults after which the old target keeps pushing
SENSES = frozenset({"q", "dq", "temperature", "current"})
Result = TypeVar("Result")


class So101(ArmAdapter):
    """An SO-101, or an SO-100 with the same joints.

    `calibration` is the file that `lerobot-calibrate` wrote. It must say what the servos say:
    nothing here writes their EEPROM.
    """

    vendor = ("scservo_sdk", "feetech")

    def __init__(self, port: str, calibration: str, gripper: bool = False) -> None:
        self.spec = spec_of(
            "so101", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(1.0, 125.0),
            watchdog="guard-only", gripper=gripper,
            senses=SENSES | {"gripper"} if gripper else SENSES,
        )
        self._port, self._calibration = port, calibration
        self._bus: Bus | None = None
        self._servos: tuple[Servo, ...] = ()
        self._mode = ArmMode.DISCONNECTED
        self._enabled = False  # by a person, in this session
        self._faults: tuple[Fault, ...] = ()
        self._seq = self._after = -1
        self._target = np.zeros(len(self.spec.joints))  # rad, the last that was written
        self.cleared = 0  # faults that a person cleared

    def connect(self) -> ArmState:
        if self._bus is None:
            servos = read_calibration(self._calibration)
            if self.spec.gripper and len(servos) < len(NAMES):
                raise ArmError(f"{self._calibration} calibrates no gripper")
            self._servos = servos if self.spec.gripper else servos[:5]
            self._bus = Bus(self._port)
            try:
                self._check_servos(self._bus)
            except ArmError:
                self._drop()
                raise
        return self.read(PATIENCE)

    def enable(self, ack: OperatorAck) -> ArmState:
        needs_ack(ack)
        bus, state = self._open(), self.read(PATIENCE)
        if self._faults:
            raise ArmError(f"{self._faults[0].text}; clear it before the arm is enabled")
        refuse_outside(self.spec, state.q, slack=2 * math.pi / TICKS)
        self._stay(bus)  # first: to write a goal may switch torque on
        for servo in self._servos:
            bus.write(servo, TORQUE, 1)
        self._mode, self._enabled = ArmMode.HOLDING, True
        return self.read(PATIENCE)

    def read(self, timeout_s: float) -> ArmState:
        answers = self._do(lambda bus: bus.read(self._servos, PRESENT, timeout_s))
        now = time.monotonic()
        words = [[int.from_bytes(a[i : i + 2], "little") for i in (1, 3, 14)] for a in answers]
        ticks = [signed(word[0], 15) for word in words]
        if any(abs(position) >= 2 * TICKS for position in ticks):
            raise BusError("a servo says that it is more than a turn away")
        self._latch(answers)
        arm = len(self.spec.joints)
        q = [servo.angle(t) for servo, t in zip(self._servos, ticks, strict=True)]
        dq = [s.sign * signed(w[1], 15) * 2 * math.pi / TICKS
              for s, w in zip(self._servos, words, strict=True)]
        self._seq += 1
        return ArmState(
            seq=self._seq, t_host=now, t_robot=None, q=np.array(q[:arm]), dq=np.array(dq[:arm]),
            mode=ArmMode.FAULT if self._faults else self._mode, faults=self._faults,
            temperature=np.array([float(a[8]) for a in answers[:arm]]),
            current=np.array([signed(w[2], 15) * CURRENT_UNIT for w in words[:arm]]),
            gripper=self._opening(ticks[arm]) if self.spec.gripper else None,
        )

    def send(self, command: Command) -> Applied:
        self._open()
        check_command(command, self.spec, self._after, time.monotonic())
        if self._faults or not self._enabled:
            raise ArmError(self._faults[0].text if self._faults else "the arm is not enabled")
        inside, limits = clamped(self.spec, command.value)
        applied = self._write(inside, command.gripper)
        # Up to a tick is rounding, inward at a limit; more is the EEPROM's range.
        off = np.abs(applied - inside) > 1.01 * 2 * math.pi / TICKS
        limits += tuple(f"range {name}" for name, beyond
                        in zip(self.spec.joints, off, strict=True) if beyond)
        self._after, self._mode = command.seq, ArmMode.STREAMING
        return Applied(command.seq, command.value, applied, limits, time.monotonic())

    def arm_watchdog(self, timeout_s: float) -> None:
        raise Unsupported("STS3215 servos have no watchdog: only the guard stops this arm")

    def hold(self) -> None:
        if self._bus is None or not self._enabled:
            return
        if any(fault.code.startswith(PUSHING) for fault in self._faults):
            self._do(self._stay)
        elif self._mode is ArmMode.STREAMING:
            state = self.read(PATIENCE)
            self._write(stopping(self.spec, self._target, state.q, state.dq))
        self._mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        self._open()
        self._enabled = False
        for servo in self._servos:
            self._do(lambda bus, servo=servo: bus.write(servo, TORQUE, 0))
        self._mode = ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        self._open()
        if not self._faults:
            raise ArmError("there is no fault to clear")
        if self._enabled:
            self._do(self._stay)
        faults, self._faults = self._faults, ()
        try:
            standing = self.read(PATIENCE).faults
        except ArmError:
            self._faults = faults
            raise
        if standing:
            self._faults = faults
            raise ArmError(f"{standing[0].text}: its cause still stands")
        self.cleared += len(faults)
        self._mode = ArmMode.HOLDING if self._enabled else self._mode

    def close(self) -> None:
        if self._bus is not None:
            try:
                self.hold()
            finally:
                self._drop()

    # Parts.

    def _check_servos(self, bus: Bus) -> None:
        """That the servos are those of the calibration; only reads."""
        wanted = {MODEL: lambda s: STS3215, OPERATING_MODE: lambda s: 0,
                  MIN_POSITION: lambda s: s.low, MAX_POSITION: lambda s: s.high,
                  OFFSET: lambda s: unsigned(s.offset, 11)}
        for register, value in wanted.items():
            for servo, answer in zip(self._servos, bus.read(self._servos, register), strict=True):
                found = int.from_bytes(answer[1:], "little")
                if found != value(servo):
                    raise ArmError(
                        f"register {register[0]} of {servo.name} holds {found}, "
                        f"{self._calibration} says {value(servo)}: another arm's calibration?")
        on = all(answer[1] == 1 for answer in bus.read(self._servos, TORQUE))
        self._mode = ArmMode.HOLDING if on else ArmMode.READY_OFF

    def _stay(self, bus: Bus) -> None:
        """Write the measured pose as the goal, with no old speed or time beside it, and see that
        it arrived."""
        answers = bus.read(self._servos, PRESENT)
        motion = {
            # Acceleration 0, goal, time 0, speed 0: as fast as the goal asks.
            servo.id: bytes([0, *min(max(signed(int.from_bytes(answer[1:3], "little"), 15), 0),
                                     TICKS - 1).to_bytes(2, "little"), 0, 0, 0, 0])
            for servo, answer in zip(self._servos, answers, strict=True)
        }
        bus.write_all(MOTION, motion)
        written = bus.read(self._servos, MOTION)
        for servo, answer in zip(self._servos, written, strict=True):
            if answer[1:] != motion[servo.id]:
                raise BusError(f"{servo.name} did not take its own pose as the goal")

    def _write(self, q: Vector, gripper: float | None = None) -> Vector:
        """Write goals for angles (J,); the angles that they are."""
        arm = self._servos[: len(q)]
        goals = [servo.ticks(angle, least, most) for servo, angle, least, most
                 in zip(arm, q, self.spec.q_min, self.spec.q_max, strict=True)]
        self._target = np.array([s.angle(t) for s, t in zip(arm, goals, strict=True)])
        if self.spec.gripper and gripper is not None:
            hand = self._servos[-1]
            goals.append(round(hand.low + gripper * (hand.high - hand.low)))
        self._do(lambda bus: bus.write_all(GOAL, {
            servo.id: goal.to_bytes(2, "little")
            for servo, goal in zip(self._servos, goals, strict=False)
        }))
        return self._target

    def _latch(self, answers: Sequence[bytes]) -> None:
        """Keep the faults of error bytes and status registers until a person clears them."""
        known = {fault.code: fault for fault in self._faults}
        for i, (servo, answer) in enumerate(zip(self._servos, answers, strict=True)):
            status = answer[0] | answer[10]
            joint = self.spec.joints[i] if i < len(self.spec.joints) else "gripper"
            for bit in (1 << n for n in range(8) if status >> n & 1):
                what = STATUS.get(bit, f"status bit {bit}")
                code = f"{what} {joint}"
                known.setdefault(code, Fault(code, f"servo {servo.id} ({servo.name}): {what}"))
        self._faults = tuple(known.values())

    def _opening(self, ticks: int) -> float:
        hand = self._servos[-1]
        return min(max((ticks - hand.low) / (hand.high - hand.low), 0.0), 1.0)

    def _open(self) -> Bus:
        if self._bus is None:
            raise Disconnected("the arm is not connected")
        return self._bus

    def _do(self, exchange: Callable[[Bus], Result]) -> Result:
        bus = self._open()
        try:
            return exchange(bus)
        except OSError as error:  # the adapter was unplugged
            self._drop()
            raise Disconnected(f"{self._port}: {error}") from error

    def _drop(self) -> None:
        if self._bus is not None:
            with contextlib.suppress(OSError):  # it may be gone already
                self._bus.close()
        self._bus, self._mode, self._enabled = None, ArmMode.DISCONNECTED, False
