"""An arm in MuJoCo that lives by the clock, behind the contract of a real one.

It is the families' arm with what they do not have: payload, friction, backlash, noise, and delays
of what it hears and of what it says. Its wire can be made to fail, as real ones do.
"""

import time
from collections import deque

import numpy as np

from metarl.envs.arms import ARMS, ArmName
from metarl.errors import unknown
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
from metarl.robot.specs import spec_of
from metarl.testing.body import TIMESTEP, Body, Flaws, check_amount

_SAMPLE = 0.004  # s, between the states that it tells
_STALL = 0.19  # s, of a late reply
_Sample = tuple[int, float, Vector, Vector, Vector]  # number, monotonic s, q, dq, tau
FAULTS = ("late", "lost", "duplicated", "reordered", "corrupt", "frozen", "nan", "overload")


def check_fault(name: str) -> None:
    """Raise UserError for a fault that no wire has; "" is none."""
    if name and name not in FAULTS:
        raise unknown("fault", str(name), FAULTS)


class Twin(ArmAdapter):
    """Physics advances when it is read or told something, up to now: no thread runs. Until torque
    is first on, it rests on its stand; once released, it falls."""

    def __init__(
        self, arm: str = "fr3", *, payload: float = 0.0, damping: float = 1.0, gain: float = 1.0,
        friction: float = 0.0, backlash: float = 0.0, noise: float = 0.0,
        latency: float = 0.0,  # s, of observations
        delay: float = 0.0,  # s, of commands
        seed: int = 0,
        fault: str = "", fault_at: float = 0.0,  # s after torque is on, when its wire fails
        fault_for: float = float("inf"),  # s
    ) -> None:
        names: dict[str, ArmName] = {name: name for name in ARMS}
        if arm not in names:
            raise unknown("arm of the twin", arm, names)
        check_fault(fault)
        for flaw, seconds in (("latency", latency), ("delay", delay), ("fault_at", fault_at)):
            check_amount(flaw, seconds)
        name = names[arm]
        self.spec = spec_of(name, modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10.0, 500.0),
                            watchdog="device", senses=frozenset({"q", "dq", "tau"}))
        self._body = Body(name, Flaws(payload, damping, gain, friction, backlash, noise), seed)
        self._latency, self._delay = latency, delay
        self._plan = (fault, fault_at, fault_for)
        self._fault, self._fault_since = "", 0.0
        self._mode, self._faults, self._open = ArmMode.READY_OFF, (), False
        self._resting, self._enabled_at = True, float("inf")
        self._lived = time.monotonic()
        self._samples: deque[_Sample] = deque(maxlen=256)
        self._count, self._told, self._seq = 0, -1, -1
        self._queue: deque[tuple[float, Vector]] = deque()
        self._target = self._body.setpoint
        self._watchdog, self._fed = float("inf"), 0.0
        self._random = np.random.default_rng(seed + 1)

    # The contract.

    def connect(self) -> ArmState:
        """Open it."""
        if not self._open:
            self._open = True
            self._lived = max(self._lived, time.monotonic() - 2 * _SAMPLE)
        return self.read(0.5)

    def enable(self, ack: OperatorAck) -> ArmState:
        """Torque on."""
        needs_ack(ack)
        state = self.read(0.5)
        if self._faults:
            raise ArmError(f"{self._faults[0].text}; clear it first")
        outside = (state.q < self.spec.q_min) | (state.q > self.spec.q_max)
        if outside.any():
            raise ArmError(f"{self.spec.joints[int(np.argmax(outside))]} is outside its limits")
        self._target = self._body.measure()[0]
        self._body.aim(self._target)
        self._body.torque(True)
        self._mode, self._resting = ArmMode.HOLDING, False
        self._enabled_at = time.monotonic()
        return self.read(0.5)

    def read(self, timeout_s: float) -> ArmState:
        """The newest sample that its wire lets through."""
        if not self._open:
            raise Disconnected("the twin is not connected")
        deadline = time.monotonic() + timeout_s
        while True:
            self._live()
            sample = self._hear()
            if sample is not None and sample[0] > self._told:
                return self._state(sample)
            if time.monotonic() + _SAMPLE / 4 > deadline:
                raise Stale(f"the twin said nothing new in {timeout_s:g} s")
            time.sleep(_SAMPLE / 4)

    def send(self, command: Command) -> Applied:
        """Pass a target on, inside the joints' ranges."""
        now = time.monotonic()
        if not self._open:
            raise Disconnected("the twin is not connected")
        check_command(command, self.spec, self._seq, now)
        self._live()
        if self._mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            raise ArmError(f"the twin takes no commands: {self._mode}")
        self._seq, self._fed = command.seq, now
        applied = np.clip(command.value, self.spec.q_min, self.spec.q_max)
        self._mode, self._target = ArmMode.STREAMING, applied
        self._queue.append((now + self._delay, applied))
        limits = ("range",) if (applied != command.value).any() else ()
        return Applied(command.seq, command.value, applied, limits, now)

    def arm_watchdog(self, timeout_s: float) -> None:
        """Stop where it is when it streams and no command comes."""
        self._watchdog = timeout_s

    def hold(self) -> None:
        """Stop and keep torque."""
        self._live()
        if self._mode is ArmMode.FAULT:
            self._stop()
        elif self._mode is ArmMode.STREAMING:
            self._mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        """Torque off; it falls."""
        needs_ack(ack)
        self._live()
        self._body.torque(False)
        self._mode = ArmMode.FAULT if self._faults else ArmMode.READY_OFF
        self._enabled_at = float("inf")

    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear what there is."""
        needs_ack(ack)
        self._live()
        if not self._faults:
            raise ArmError("the twin has no fault to clear")
        self._faults, self._fault = (), ""
        off = self._enabled_at == float("inf")
        self._mode = ArmMode.READY_OFF if off else ArmMode.HOLDING

    def close(self) -> None:
        """Hold, and leave."""
        if self._open:
            self.hold()
            self._open = False

    # Its life.

    def _live(self) -> None:
        now = time.monotonic()
        name, start, length = self._plan
        if name and start <= now - self._enabled_at:
            self.inject(name if now - self._enabled_at < start + length else "")
            if now - self._enabled_at >= start + length or name == "overload":
                self._plan = ("", 0.0, 0.0)
        if self._mode is ArmMode.STREAMING and now - self._fed > self._watchdog:
            self._stop()
            self._mode = ArmMode.STOPPED
            self._faults = (Fault("watchdog", "no command came in time"),)
        while self._lived + _SAMPLE <= now:
            for _ in range(round(_SAMPLE / TIMESTEP)):
                self._step()
            self._samples.append((self._count, self._lived, *self._body.measure()))
            self._count += 1

    def _step(self) -> None:
        # A target acts from that step on which begins nearest to when it came: from the beginning
        # of a sample that it came in, it would act before it was sent.
        while self._queue and self._queue[0][0] <= self._lived + TIMESTEP / 2:
            self._body.aim(self._queue.popleft()[1])
        if not self._resting:
            self._body.advance(TIMESTEP)
        self._lived += TIMESTEP

    def _stop(self) -> None:
        """Carry the pose that it has."""
        self._queue.clear()
        self._target = self._body.measure()[0]
        self._body.aim(self._target)

    def _state(self, sample: _Sample) -> ArmState:
        number, when, q, dq, tau = sample
        if not (np.isfinite(q).all() and np.isfinite(dq).all() and np.isfinite(tau).all()):
            raise BusError("the twin said NaN")
        self._told = number
        return ArmState(number, when, number * _SAMPLE, q.copy(), dq.copy(), self._mode,
                        tau=tau.copy(), faults=self._faults)

    # Its wire.

    def inject(self, fault: str) -> None:
        """Let its wire, or itself, fail from now on in one of FAULTS; "" heals the wire."""
        check_fault(fault)
        if fault == self._fault:
            return
        self._fault, self._fault_since = fault, time.monotonic()
        if fault == "overload" and not self._faults:
            self._faults = (Fault("overload joint2", "joint2 is overloaded"),)
            self._mode = ArmMode.FAULT
            self._stop()

    def _hear(self) -> _Sample | None:
        """The newest sample that has crossed the wire."""
        now, late = time.monotonic(), self._latency
        if self._fault == "late":
            late += _STALL
        heard = next((s for s in reversed(self._samples) if s[1] <= now - late), None)
        if heard is None or self._fault == "lost":
            return None
        if self._fault in ("frozen", "duplicated"):
            return next((s for s in reversed(self._samples) if s[1] <= self._fault_since), None)
        if self._fault == "reordered":  # an older one arrives after a newer one
            return self._samples[int(self._random.integers(len(self._samples)))]
        if self._fault == "corrupt":
            raise BusError("a checksum is wrong")
        if self._fault == "nan":
            return heard[0], heard[1], heard[2] * np.nan, heard[3], heard[4]
        return heard


