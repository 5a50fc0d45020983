"""A dry run: an arm that is only looked at, and a shadow of it that follows every target."""

import time
from dataclasses import replace

import numpy as np

from metarl.robot.arm import (
    Applied,
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmState,
    Command,
    Mode,
    OperatorAck,
    check_command,
    needs_ack,
)

_LAG = 0.05  # s, that the shadow is behind


class Rehearsal(ArmAdapter):
    """Reads the arm, and tells it nothing. While it moves, q and dq are the shadow's; all else
    that is measured is the arm's."""

    def __init__(self, arm: ArmAdapter) -> None:
        self.arm, self.spec = arm, arm.spec
        self._q = self._dq = self._target = np.zeros(len(arm.spec.joints))
        self._mode, self._seq, self._lived = ArmMode.READY_OFF, -1, 0.0

    def connect(self) -> ArmState:
        """Connect the arm."""
        return self.arm.connect()

    def enable(self, ack: OperatorAck) -> ArmState:
        """Let the shadow stand where the arm does; the arm's torque stays as it is."""
        needs_ack(ack)
        state = self.arm.read(0.5)
        self._q = self._target = state.q.copy()
        self._dq = np.zeros_like(state.q)
        self._mode, self._lived = ArmMode.HOLDING, time.monotonic()
        return self._shadowed(state)

    def read(self, timeout_s: float) -> ArmState:
        """The arm's newest state, with the shadow's pose."""
        state = self.arm.read(timeout_s)
        return state if self._mode is ArmMode.READY_OFF else self._shadowed(state)

    def send(self, command: Command) -> Applied:
        """Let the shadow follow a target."""
        now = time.monotonic()
        if self._mode is ArmMode.READY_OFF:
            raise ArmError("torque is off")
        check_command(command, self.spec, self._seq, now)
        self._follow(now)
        self._seq, self._mode = command.seq, ArmMode.STREAMING
        if command.mode is Mode.JOINT_VELOCITY:
            self._target = self._q + _LAG * command.value
        else:
            self._target = command.value.copy()
        return Applied(command.seq, command.value, command.value, (), now)

    def arm_watchdog(self, timeout_s: float) -> None:
        """A shadow needs none."""

    def hold(self) -> None:
        """Let the shadow stand."""
        if self._mode is ArmMode.STREAMING:
            self._mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        """Give the shadow up."""
        needs_ack(ack)
        self._mode = ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        """A dry run clears nothing."""
        raise ArmError("a dry run clears no faults of the arm")

    def close(self) -> None:
        """Drop the transport."""
        self.arm.close()

    def _shadowed(self, state: ArmState) -> ArmState:
        self._follow(time.monotonic())
        return replace(state, q=self._q.copy(), dq=self._dq.copy(), mode=self._mode)

    def _follow(self, now: float) -> None:
        share = 1 - np.exp(-(now - self._lived) / _LAG)
        self._dq = (self._target - self._q) / _LAG
        self._q = self._q + share * (self._target - self._q)
        self._lived = now
