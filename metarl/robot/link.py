"""What a policy has of an arm: a link to the guard, which alone owns the port.

The guard (metarl.robot.guard) offers one over a socket, from its own process. A test, or a replay
without an arm, may offer another.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from metarl.robot.arm import ArmSpec, ArmState, Mode, OperatorAck, Vector


class Phase(StrEnum):
    """What the guard is doing."""

    OFF = "off"  # connected, torque off
    HOLDING = "holding"  # torque on, waiting for a command
    STREAMING = "streaming"  # following commands
    LATCHED = "latched"  # holding after a failure, until a person lets it go on


@dataclass(frozen=True)
class Report:
    """What the guard did at its newest tick."""

    tick: int
    state: ArmState
    phase: Phase
    reason: str  # why it is latched; "" otherwise
    seq: int  # of the newest command that it accepted; -1 before the first
    requested: Vector  # (J,) what that command asked for, rad/s or rad; NaN before the first
    applied: Vector  # (J,) rad, the target that was sent to the arm
    limits: tuple[str, ...]  # what changed the target at this tick
    rejected: int  # commands rejected since the start
    t: float = 0.0  # s, monotonic, when the tick began
    ignored: int = 0  # bytes on its socket that were no frames
    unlogged: int = 0  # reports that it could not write into its log


class Link(Protocol):
    """A policy's end. None of it can change a limit."""

    spec: ArmSpec
    period: float  # s, of the guard

    def report(self, timeout_s: float) -> Report:
        """The newest report that was not returned before. Raises Stale after `timeout_s`."""
        ...

    def command(self, mode: Mode, value: Vector, expires_in_s: float,
                gripper: float | None = None) -> int:
        """Ask for something; its seq. Nothing is answered: the next report tells."""
        ...

    def hold(self) -> None:
        """Stop, and keep torque."""
        ...

    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear the arm's faults. Raises ArmError where there are none."""
        ...

    def unlatch(self, ack: OperatorAck) -> None:
        """Go on after a latch: a person looked. Raises ArmError while its cause stands."""
        ...

    def close(self) -> None:
        """Leave; the guard holds."""
        ...
