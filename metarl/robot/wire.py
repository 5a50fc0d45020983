"""What crosses the guard's socket: binary frames whose bytes cannot be anything but numbers and
short texts.

A frame is a magic word, its kind, its length, its body and a CRC-32 of all that. What is no frame
is skipped and counted, byte by byte, until one begins.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

import numpy as np

from metarl.robot.arm import ArmError, ArmMode, ArmState, Fault, Mode, Vector
from metarl.robot.limits import REASONS, reasons
from metarl.robot.link import Phase, Report

JOINTS = 16  # at most
_MAGIC = b"mtG\x01"
_HEAD = struct.Struct("<4sBH")  # magic, kind, length of the body
_CRC = struct.Struct("<I")
_MODES, _PHASES, _ARM_MODES = tuple(Mode), tuple(Phase), tuple(ArmMode)
_REQUEST = struct.Struct(f"<qddd BB {JOINTS}d 64s 128s")
_REPORT = struct.Struct(f"<qqqqqq ddd BBBBI d {6 * JOINTS}d 6d {JOINTS}d 120s 240s")
_LONGEST = 1 << 15  # bytes of a body
_SENSED = ("tau", "temperature", "current", "wrench")


class Kind(IntEnum):
    """What a frame is."""

    COMMAND = 1
    HOLD = 2
    UNLATCH = 3
    ENABLE = 4
    RELEASE = 5
    CLEAR_FAULTS = 6
    LEAVE = 7  # the policy goes, and means it
    HELLO = 16  # from here on the guard's: the arm's spec, limits and settings as JSON
    REPORT = 17
    ANSWER = 18


OPERATIONS = {Kind.UNLATCH, Kind.ENABLE, Kind.RELEASE, Kind.CLEAR_FAULTS}


@dataclass(frozen=True)
class Request:
    """What a policy or an operator asks of the guard."""

    kind: Kind
    seq: int
    sent: float = 0.0  # s, monotonic, when it was asked
    expires_in_s: float = 0.0
    mode: Mode = Mode.JOINT_VELOCITY
    value: Vector | None = None  # (J,)
    gripper: float | None = None
    operator: str = ""
    statement: str = ""


def frame(kind: Kind, body: bytes) -> bytes:
    """A body as it crosses the socket."""
    whole = _HEAD.pack(_MAGIC, kind, len(body)) + body
    return whole + _CRC.pack(zlib.crc32(whole))


class Reader:
    """Finds frames in what arrives. `ignored` counts the bytes that belonged to none."""

    def __init__(self) -> None:
        self.ignored = 0
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The kind and the body of each frame that is whole now."""
        held = self._bytes
        held += data
        while True:
            start = held.find(_MAGIC)
            if start < 0:  # all but what may be the beginning of a magic word
                self._drop(max(0, len(held) - len(_MAGIC) + 1))
                return
            self._drop(start)
            if len(held) < _HEAD.size:
                return
            _, kind, length = _HEAD.unpack_from(held)
            end = _HEAD.size + length
            if length > _LONGEST:
                self._drop(1)
                continue
            if len(held) < end + _CRC.size:
                return
            if zlib.crc32(held[:end]) != _CRC.unpack_from(held, end)[0]:
                self._drop(1)
                continue
            body = bytes(held[_HEAD.size: end])
            del held[: end + _CRC.size]
            yield kind, body

    def _drop(self, count: int) -> None:
        self.ignored += count
        del self._bytes[:count]


def _wide(vector: Vector | None) -> list[float]:
    filled = [0.0] * JOINTS
    if vector is not None:
        filled[: len(vector)] = vector.tolist()
    return filled


def _text(text: str, room: int) -> bytes:
    return text.encode()[:room].decode(errors="ignore").encode()


def _said(text: bytes) -> str:
    return text.rstrip(b"\0").decode(errors="replace")


def pack_request(request: Request) -> bytes:
    """A request as a frame."""
    value = request.value
    if value is not None and (value.ndim != 1 or len(value) > JOINTS):
        raise ArmError(f"a command has one number for each joint, not the shape {value.shape}")
    gripper = math.nan if request.gripper is None else request.gripper
    return frame(request.kind, _REQUEST.pack(
        request.seq, request.sent, request.expires_in_s, gripper, _MODES.index(request.mode),
        0 if value is None else len(value), *_wide(value), _text(request.operator, 64),
        _text(request.statement, 128)))


def unpack_request(kind: int, body: bytes) -> Request | None:
    """A request; None for what is none."""
    if kind not in set(Kind) or kind >= Kind.HELLO or len(body) != _REQUEST.size:
        return None
    seq, sent, expires_in, gripper, mode, count, *rest = _REQUEST.unpack(body)
    if mode >= len(_MODES) or count > JOINTS:
        return None
    return Request(Kind(kind), seq, sent, expires_in, _MODES[mode],
                   np.array(rest[:count], np.float64), None if math.isnan(gripper) else gripper,
                   _said(rest[JOINTS]), _said(rest[JOINTS + 1]))


def pack_report(report: Report) -> bytes:
    """A report as a frame."""
    state, bits = report.state, sum(1 << REASONS.index(name) for name in report.limits)
    sensed = [getattr(state, name) for name in _SENSED]
    flags = sum(1 << i for i, value in enumerate(sensed) if value is not None)
    faults = "\x1e".join(f"{fault.code}\x1f{fault.text}" for fault in state.faults)
    wrench = [0.0] * 6 if state.wrench is None else state.wrench.tolist()
    return frame(Kind.REPORT, _REPORT.pack(
        report.tick, state.seq, report.seq, report.rejected, report.ignored,
        report.unlogged, state.t_host,
        math.nan if state.t_robot is None else state.t_robot, report.t,
        _PHASES.index(report.phase), _ARM_MODES.index(state.mode), len(state.q), flags, bits,
        math.nan if state.gripper is None else state.gripper,
        *_wide(state.q), *_wide(state.dq), *_wide(state.tau), *_wide(state.temperature),
        *_wide(state.current), *_wide(report.requested), *wrench, *_wide(report.applied),
        _text(report.reason, 120), _text(faults, 240)))


def unpack_report(body: bytes) -> Report:
    """A report from a frame's body."""
    (tick, state_seq, seq, rejected, ignored, unlogged, t_host, t_robot, t, phase, mode, joints,
     flags, bits, gripper, *rest) = _REPORT.unpack(body)
    numbers = np.array(rest[:-2], np.float64)
    q, dq, tau, temperature, current, requested = (
        numbers[i * JOINTS: i * JOINTS + joints] for i in range(6))
    wrench = numbers[6 * JOINTS: 6 * JOINTS + 6]
    applied = numbers[6 * JOINTS + 6: 6 * JOINTS + 6 + joints]
    sensed = {name: value for i, (name, value)
              in enumerate(zip(_SENSED, (tau, temperature, current, wrench), strict=True))
              if flags >> i & 1}
    text = _said(rest[-1])
    faults = tuple(Fault(*part.split("\x1f", 1)) for part in text.split("\x1e") if "\x1f" in part)
    state = ArmState(
        state_seq, t_host, None if math.isnan(t_robot) else t_robot, q, dq, _ARM_MODES[mode],
        gripper=None if math.isnan(gripper) else gripper, faults=faults, **sensed)
    return Report(tick, state, _PHASES[phase], _said(rest[-2]), seq, requested, applied,
                  reasons(bits), rejected, t, ignored, unlogged)


def read_log(file: BinaryIO) -> Iterator[Report]:
    """The reports in a log of the guard."""
    reader = Reader()
    while data := file.read(1 << 16):
        for kind, body in reader.feed(data):
            if kind == Kind.REPORT:
                yield unpack_report(body)
