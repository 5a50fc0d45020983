"""An arm that is only numbers and lives by a clock that a test sets: it lags behind its targets,
and fails when told to."""

import dataclasses
from collections.abc import Callable

import numpy as np

from metarl.robot.arm import (
    Applied,
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    BusError,
    Command,
    Fault,
    OperatorAck,
    Stale,
    Vector,
    check_command,
    needs_ack,
)


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Puppet(ArmAdapter):
    """`sent` are all targets that it was given, `calls` the verbs; `fail` turns a state into
    another, or raises."""

    def __init__(self, spec: ArmSpec, home: Vector, clock: Clock, share: float = 0.3) -> None:
        self.spec, self.clock, self.share = spec, clock, share
        self.q, self.goal, self.mode = home.copy(), home.copy(), ArmMode.READY_OFF
        self.faults: tuple[Fault, ...] = ()
        self.sent: list[Vector] = []
        self.calls: list[str] = []
        self.fail: Callable[[ArmState], ArmState] = lambda state: state
        self.stuck = False
        self._told = self._seq = 0

    def connect(self) -> ArmState:
        """Its state."""
        self.calls.append("connect")
        return self.read(0.0)

    def enable(self, ack: OperatorAck) -> ArmState:
        """Torque on."""
        needs_ack(ack)
        self.calls.append("enable")
        self.goal, self.mode = self.q.copy(), ArmMode.HOLDING
        return self.read(0.0)

    def read(self, timeout_s: float) -> ArmState:
        """A new state every time, a share of the way to its goal further on."""
        if self.mode in (ArmMode.HOLDING, ArmMode.STREAMING) and not self.stuck:
            self.q = self.q + self.share * (self.goal - self.q)
        self._told += 1
        return self.fail(ArmState(self._told, self.clock(), None, self.q.copy(),
                                  np.zeros_like(self.q), self.mode, faults=self.faults))

    def send(self, command: Command) -> Applied:
        """Take a target as it is."""
        check_command(command, self.spec, self._seq, self.clock())
        if self.mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            raise ArmError(f"it is {self.mode}")
        self._seq, self.mode, self.goal = command.seq, ArmMode.STREAMING, command.value.copy()
        self.sent.append(self.goal)
        return Applied(command.seq, command.value, self.goal, (), self.clock())

    def arm_watchdog(self, timeout_s: float) -> None:
        """It has one, which never barks."""

    def hold(self) -> None:
        """Stay."""
        self.calls.append("hold")
        if self.mode is ArmMode.STREAMING:
            self.mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        """Torque off; it does not fall."""
        needs_ack(ack)
        self.calls.append("release")
        self.mode = ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear what there is."""
        needs_ack(ack)
        if not self.faults:
            raise ArmError("it has no fault")
        self.calls.append("clear_faults")
        self.faults, self.goal, self.mode = (), self.q.copy(), ArmMode.HOLDING

    def close(self) -> None:
        """Hold."""
        self.calls.append("close")

    # What can go wrong.

    def overload(self) -> None:
        """Fault."""
        self.faults, self.mode = (Fault("overload joint1", "joint1 is overloaded"),), ArmMode.FAULT


def silent(state: ArmState) -> ArmState:
    """No answer."""
    raise Stale("nothing new")


def garbled(state: ArmState) -> ArmState:
    """A wrong checksum."""
    raise BusError("a checksum is wrong")


def nan(state: ArmState) -> ArmState:
    """NaN in one joint."""
    return dataclasses.replace(state, q=np.where(np.arange(len(state.q)) == 1, np.nan, state.q))


def frozen(state: ArmState) -> ArmState:
    """The first state, for ever."""
    return dataclasses.replace(state, seq=1)


def old(state: ArmState) -> ArmState:
    """Captured a second ago."""
    return dataclasses.replace(state, t_host=state.t_host - 1)
