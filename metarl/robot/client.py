"""Starting a guard, and talking to one."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl.robot.arm import (
    ArmError,
    ArmSpec,
    Disconnected,
    Mode,
    OperatorAck,
    Stale,
    Vector,
    needs_ack,
    tuples,
)
from metarl.robot.limits import Limits
from metarl.robot.link import Link, Phase, Report
from metarl.robot.registry import Option
from metarl.robot.wire import Kind, Reader, Request, pack_request, unpack_report

_START = 60.0  # s, that a guard may take to connect its arm
_PARKED = 5e-3  # rad, from the pose to the target
_ANSWER = 10.0  # s, that an operation may take


class GuardLink:
    """A policy's, or an operator's, end of a guard's socket (see metarl.robot.link.Link)."""

    def __init__(self, place: str | Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader, self._seq = Reader(), -1
        self._newest: Report | None = None
        self._answers: dict[int, str] = {}
        self._hello: dict[str, Any] | None = None
        try:
            self._socket.settimeout(1.0)
            self._socket.connect(str(place))
            deadline = time.monotonic() + _ANSWER
            while self._hello is None:
                self._receive(deadline)
        except OSError as error:
            self._socket.close()
            raise Disconnected(f"no guard listens at {place}: {error}") from None
        except ArmError:
            self._socket.close()
            raise
        self.spec = ArmSpec.from_json(json.dumps(self._hello["spec"]))
        self.limits = Limits(**tuples(self._hello["limits"]))
        self.live = bool(self._hello["live"])  # False: a dry run
        self.period = float(self._hello["period"])  # s, of the guard
        self.lifetime = float(self._hello["lifetime"])  # s, that a command lives at most
        self.unmonitored = tuple(self._hello["unmonitored"])  # what the arm does not sense

    # A policy's.

    def report(self, timeout_s: float) -> Report:
        """The newest report that was not returned before. Raises Stale."""
        deadline = time.monotonic() + timeout_s
        while self._receive(time.monotonic()):  # what has come already
            pass
        while self._newest is None:
            self._receive(deadline)
            if self._newest is None and time.monotonic() >= deadline:
                raise Stale(f"the guard said nothing for {timeout_s:g} s")
        newest, self._newest = self._newest, None
        return newest

    def command(self, mode: Mode, value: Vector, expires_in_s: float,
                gripper: float | None = None) -> int:
        """Ask for something; its seq."""
        self._seq += 1
        self._send(Request(Kind.COMMAND, self._seq, time.monotonic(), expires_in_s, mode, value,
                           gripper))
        return self._seq

    def hold(self) -> None:
        """Stop, and keep torque."""
        self._send(Request(Kind.HOLD, 0))

    def close(self) -> None:
        """Leave; the guard holds."""
        try:
            self._send(Request(Kind.LEAVE, 0))
        except Disconnected:
            pass
        finally:
            self._socket.close()

    # An operator's.

    def enable(self, ack: OperatorAck) -> None:
        """Torque on, where the arm is."""
        self._operate(Kind.ENABLE, ack)

    def unlatch(self, ack: OperatorAck) -> None:
        """Go on after a latch. Raises ArmError while its cause stands."""
        self._operate(Kind.UNLATCH, ack)

    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear the arm's faults; the guard stays latched."""
        self._operate(Kind.CLEAR_FAULTS, ack)

    def release(self, ack: OperatorAck) -> None:
        """Torque off: the arm may fall."""
        self._operate(Kind.RELEASE, ack)

    def _operate(self, kind: Kind, ack: OperatorAck) -> None:
        needs_ack(ack)
        self._seq += 1
        self._send(Request(kind, self._seq, operator=ack.operator, statement=ack.statement))
        deadline = time.monotonic() + _ANSWER
        while self._seq not in self._answers:
            if not self._receive(deadline) and time.monotonic() >= deadline:
                raise Stale("the guard did not answer")
        if problem := self._answers.pop(self._seq):
            raise ArmError(problem)

    # The socket.

    def _send(self, request: Request) -> None:
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(pack_request(request))
        except OSError as error:
            raise Disconnected(f"the guard is gone: {error}") from None

    def _receive(self, deadline: float) -> bool:
        """Take in what comes before a time; whether anything did."""
        try:
            if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
            data = self._socket.recv(1 << 16)
        except (OSError, ValueError) as error:
            raise Disconnected(f"the guard is gone: {error}") from None
        if not data:
            raise Disconnected("the guard is gone")
        for kind, body in self._reader.feed(data):
            if kind == Kind.REPORT:
                self._newest = unpack_report(body)
            elif kind == Kind.ANSWER:
                said = json.loads(body)
                self._answers[said["seq"]] = said["problem"]
                self._newest = None  # it tells of the time before
            elif kind == Kind.HELLO:
                self._hello = json.loads(body)
        return True


class GuardProcess:
    """A guard that this process started. It outlives the links, not `stop`."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process, self.place = process, folder / "guard.sock"
        self._folder = folder

    def link(self) -> GuardLink:
        """A new link to it."""
        return GuardLink(self.place)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let it hold, leave the arm and end."""
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ArmError(f"the guard, process {self.process.pid}, does not end; the arm may "
                           "still be moving: use the hardware stop") from None
        finally:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "GuardProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_guard(
    arm: str, options: Mapping[str, Option] | None = None, *,
    live: bool = False,  # False: a dry run, in which nothing is sent to the arm
    limits: Mapping[str, Any] | None = None,  # tighter ones, and `margin`, `tool`, `jerk`
    rate_hz: float = 125.0, policy_hz: float = 20.0,
    log: Path | None = None,  # where all reports go, as frames (metarl.robot.wire.read_log)
) -> GuardProcess:
    """A guard in a process of its own, connected to its arm, with torque as it was.

    Raises ArmError with what the guard says where it cannot start.
    """
    folder = Path(tempfile.mkdtemp(prefix="metarl-guard-"))  # for its owner alone
    settings = {"arm": arm, "options": dict(options or {}), "live": live,
                "limits": dict(limits or {}), "rate_hz": rate_hz, "policy_hz": policy_hz,
                "socket": str(folder / "guard.sock"), "log": str(log.absolute()) if log else ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "metarl.robot.guard"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None and process.stdout is not None
    problem = "it ended before it was ready"
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], _START)[0]:
            problem = f"not ready after {_START:g} s"
        elif line := process.stdout.readline():
            problem = json.loads(line)["problem"]
    except BrokenPipeError:
        pass
    guard = GuardProcess(process, folder)
    if problem:
        guard.stop()
        raise ArmError(f"the guard of {arm}: {problem}")
    return guard


def park(link: Link, pose: Vector, timeout_s: float = 60.0) -> None:
    """Bring the arm to a pose [rad] and hold there. Ctrl-C does not abandon it half-way. Raises
    ArmError where it does not arrive; the arm holds then, too."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end = time.monotonic() + timeout_s
        while True:
            report = link.report(1.0)
            if report.phase in (Phase.OFF, Phase.LATCHED):
                raise ArmError(f"the arm does not park: the guard is {report.phase} "
                               f"{report.reason}".rstrip())
            if np.abs(report.applied - pose).max() < _PARKED:
                return
            if time.monotonic() > end:
                raise ArmError(f"the arm did not arrive where it parks in {timeout_s:g} s")
            link.command(Mode.JOINT_POSITION, pose, 0.2)
    finally:
        link.hold()
        if before is not None:
            signal.signal(signal.SIGINT, before)
