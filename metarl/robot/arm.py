"""The contract between metarl and a robot arm.

Everything on this side of the line is SI: radians, metres, newtons, seconds, quaternions wxyz,
float64, joints in the order of `ArmSpec.joints`. An adapter converts once, inside itself. What it
does not measure is None: a zero that nobody measured looks like "no contact".

Times are those of `time.monotonic()`, which only processes of one host can compare.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.errors import UserError

Vector = NDArray[np.float64]
Watchdog = Literal["device", "driver", "guard-only"]
SENSES = frozenset({"q", "dq", "tau", "wrench", "temperature", "current", "gripper"})


class ArmError(UserError):
    """What an arm or its adapter refused or failed to do, in one line."""


class Disconnected(ArmError):
    """The transport is not open, or broke."""


class Stale(ArmError):
    """No state fresher than the last one arrived within its deadline."""


class BusError(ArmError):
    """The device answered nonsense: a bad checksum, a short frame, an impossible number."""


class Rejected(ArmError):
    """A command that is not finite, has another width, is old or repeated, or has expired."""


class Unsupported(ArmError):
    """The device has no such thing."""


class NotAcknowledged(ArmError):
    """Something that may hurt was asked for without an operator's acknowledgement."""


class Mode(StrEnum):
    """What a command's numbers mean."""

    JOINT_POSITION = "joint position"  # rad
    JOINT_VELOCITY = "joint velocity"  # rad/s


class ArmMode(StrEnum):
    """What an arm is doing."""

    DISCONNECTED = "disconnected"
    READY_OFF = "ready, torque off"
    HOLDING = "holding"  # torque on, not moving
    STREAMING = "streaming"  # follows commands
    STOPPED = "stopped"  # by its own watchdog or a stop; needs clearing
    FAULT = "fault"


@dataclass(frozen=True)
class Fault:
    """A fault that the device reports; it stays until a person clears it."""

    code: str  # short, the same every time: "overload joint3"
    text: str  # one line for people


@dataclass(frozen=True)
class OperatorAck:
    """A person's word that an act which may hurt is safe now."""

    operator: str  # who
    statement: str  # what they saw: "workspace clear, stop in reach"

    def __post_init__(self) -> None:
        if not self.operator.strip() or not self.statement.strip():
            raise NotAcknowledged("an acknowledgement names the operator and what they checked")


def tuples(value: Any) -> Any:
    """What JSON gives, with tuples in place of lists."""
    if isinstance(value, list):
        return tuple(map(tuples, value))
    return {k: tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Chain:
    """Where the joints are: joint i is a hinge about z of frame i, which lies in frame i - 1; the
    last frame is the flange's. Frame -1 is the base, which `base` turns into the world."""

    frames: tuple[tuple[float, ...], ...]  # (J + 1, 12): place [m], then the rotation by rows
    base: tuple[float, ...]  # (9,) the rotation by rows

    def __post_init__(self) -> None:
        if any(len(frame) != 12 for frame in self.frames) or len(self.base) != 9:
            raise ArmError("a chain's frames have 12 numbers each and its base has 9")


@dataclass(frozen=True)
class ArmSpec:
    """What an arm is, readable with no connection; hashed into every bundle and log.

    Raises ArmError for limits that are missing, not finite, or not positive.
    """

    model: str
    joints: tuple[str, ...]  # their order is part of the contract
    q_min: tuple[float, ...]  # rad
    q_max: tuple[float, ...]  # rad
    dq_max: tuple[float, ...]  # rad/s
    ddq_max: tuple[float, ...]  # rad/s^2
    jerk_max: tuple[float, ...] | None  # rad/s^3; None: the vendor publishes none
    tau_max: tuple[float, ...] | None  # N m; None: the vendor publishes none
    chain: Chain
    modes: frozenset[Mode]
    rate_hz: tuple[float, float]  # of commands that it accepts, lowest and highest
    watchdog: Watchdog
    senses: frozenset[str]  # of SENSES
    gripper: bool = False

    def __post_init__(self) -> None:
        joints = len(self.joints)
        vectors = {"q_min": self.q_min, "q_max": self.q_max, "dq_max": self.dq_max,
                   "ddq_max": self.ddq_max, "jerk_max": self.jerk_max, "tau_max": self.tau_max}
        for name, values in vectors.items():
            if values is None:
                continue
            if len(values) != joints or not all(map(math.isfinite, values)):
                raise ArmError(f"{name} of {self.model} needs {joints} finite numbers")
            if name not in ("q_min", "q_max") and min(values) <= 0:
                raise ArmError(f"{name} of {self.model} must be above zero")
        if any(low >= high for low, high in zip(self.q_min, self.q_max, strict=True)):
            raise ArmError(f"{self.model} has a joint whose q_min is not below its q_max")
        if len(self.chain.frames) != joints + 1:
            raise ArmError(f"the chain of {self.model} needs {joints + 1} frames")
        low, high = self.rate_hz
        if not 0 < low <= high < math.inf:
            raise ArmError(f"rate_hz of {self.model} must be two rates above zero, in order")
        if unknown := self.senses - SENSES:
            raise ArmError(f"{self.model} claims to sense {sorted(unknown)}; "
                           f"known: {sorted(SENSES)}")

    def to_json(self) -> str:
        """All that the spec says, the same text every time."""
        said = asdict(self) | {"modes": sorted(self.modes), "senses": sorted(self.senses)}
        return json.dumps(said, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ArmSpec":
        """A spec from its text. Raises ArmError for one that makes no sense."""
        try:
            said = tuples(json.loads(text))
            said["chain"] = Chain(**said["chain"])
            said["modes"] = frozenset(map(Mode, said["modes"]))
            return ArmSpec(**said | {"senses": frozenset(said["senses"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ArmError(f"this is no spec of an arm: {error}") from None

    def digest(self) -> str:
        """SHA-256 of all that the spec says, as hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class ArmState:
    """One sample of an arm."""

    seq: int  # grows with every new sample
    t_host: float  # s, monotonic, when it was captured
    t_robot: float | None  # s, the device's own clock
    q: Vector  # (J,) rad
    dq: Vector  # (J,) rad/s
    mode: ArmMode
    tau: Vector | None = None  # (J,) N m
    wrench: Vector | None = None  # (6,) N, then N m, at the flange
    temperature: Vector | None = None  # (J,) degrees Celsius
    current: Vector | None = None  # (J,) A
    gripper: float | None = None  # 0 closed ... 1 open
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Command:
    """What to do until `expires`."""

    seq: int  # grows with every command
    mode: Mode
    value: Vector  # (J,) rad or rad/s
    expires: float  # s, monotonic
    gripper: float | None = None  # 0 closed ... 1 open; None: as it is


@dataclass(frozen=True)
class Applied:
    """What became of a command: read back from what was written, after every clamp."""

    seq: int
    requested: Vector  # (J,)
    applied: Vector  # (J,)
    limits: tuple[str, ...]  # why they differ
    t_sent: float  # s, monotonic


def needs_ack(ack: object) -> None:
    """Raises NotAcknowledged unless a person's word is given."""
    if not isinstance(ack, OperatorAck):
        raise NotAcknowledged("this may hurt: it needs an OperatorAck")


class ArmAdapter(ABC):
    """One arm. Not thread-safe: one process owns the port, the guard.

    An adapter is made from keyword arguments that are strings, numbers or booleans, so that the
    guard's process can make it; making one opens nothing.
    """

    spec: ArmSpec
    vendor: ClassVar[tuple[str, str] | None] = None  # the vendor's module, and metarl's extra

    @abstractmethod
    def connect(self) -> ArmState:
        """Open the transport, and nothing else: no motion, no torque, no goal is written.
        Doing it again is harmless. Raises Disconnected."""

    @abstractmethod
    def enable(self, ack: OperatorAck) -> ArmState:
        """Torque on, holding the *measured* pose: a goal left in a register would snap the arm.
        Raises ArmError outside the joints' limits or with a fault."""

    @abstractmethod
    def read(self, timeout_s: float) -> ArmState:
        """The newest sample. Raises Stale or BusError, in not much more than `timeout_s`."""

    @abstractmethod
    def send(self, command: Command) -> Applied:
        """Pass a command on, in bounded time. Raises Rejected for one that is not finite, has
        another width, is old or repeated, or has expired: it is never clamped; ArmError while
        stopped, in fault or with torque off."""

    @abstractmethod
    def arm_watchdog(self, timeout_s: float) -> None:
        """Let the device stop by itself when no command comes. Raises Unsupported."""

    @abstractmethod
    def hold(self) -> None:
        """Stop and keep torque, at the last applied target; after a contact or an overload at the
        measured pose. Always legal; doing it again is harmless. Nothing need be sent while an arm
        holds: its watchdog waits for the next command."""

    @abstractmethod
    def release(self, ack: OperatorAck) -> None:
        """Torque off: the arm may fall. Never implied by anything else."""

    @abstractmethod
    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear the faults that there are now. Raises ArmError where there are none, so that no
        fault is cleared in advance."""

    @abstractmethod
    def close(self) -> None:
        """Hold, then drop the transport; torque stays as it is. Doing it again is harmless."""


def check_command(command: Command, spec: ArmSpec, after: int, now: float) -> None:
    """What every adapter checks before it passes a command on. `after` is the seq of the last one.

    Raises Rejected.
    """
    value = command.value
    if command.mode not in spec.modes:
        raise Rejected(f"{spec.model} takes no {command.mode} commands")
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        raise Rejected("a command's value must be a float64 array")
    if value.shape != (len(spec.joints),):
        raise Rejected(f"a command for {spec.model} has shape ({len(spec.joints)},), "
                       f"not {value.shape}")
    if not np.isfinite(value).all():
        raise Rejected("a command holds NaN or infinity")
    if command.gripper is not None and not 0 <= command.gripper <= 1:
        raise Rejected("a gripper command lies between 0 (closed) and 1 (open)")
    if command.seq <= after:
        raise Rejected(f"command {command.seq} comes after command {after}")
    if not now < command.expires < math.inf:
        raise Rejected(f"command {command.seq} has expired")
