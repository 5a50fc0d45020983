"""The guard: a process of its own that alone owns an arm's port, and listens on a socket.

    python -m metarl.robot.guard     settings as JSON on its first line of input (see link.py's
                                     other side, metarl.robot.client)

It goes on holding the arm when the policy, the learner or the terminal is gone; what is no arm, a
twin or a rehearsal, for a minute. SIGTERM makes it hold, leave the arm and end. It carries neither
torch nor, with a real arm, MuJoCo.
"""

import contextlib
import gc
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from metarl.errors import UserError
from metarl.plugins import own_line
from metarl.robot.arm import ArmError, Command, OperatorAck, tuples
from metarl.robot.clock import hurry
from metarl.robot.keeper import Keeper
from metarl.robot.limits import Limits
from metarl.robot.link import Phase
from metarl.robot.registry import make_arm
from metarl.robot.rehearsal import Rehearsal
from metarl.robot.wire import (
    OPERATIONS,
    Kind,
    Reader,
    Request,
    frame,
    pack_report,
    unpack_request,
)

_CLIENTS = 8
_PORTION = 1 << 14  # bytes read from a client in a tick, so that none can keep the guard busy
_FORGOTTEN = 60.0  # s that what is no arm is held for nobody
_BACKLOG = 1 << 16  # bytes that a client may leave unread before reports are left out


class _Client:
    """One who is connected."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket, self.reader = sock, Reader()
        self.pilot = self.gone = self.left = False
        self._unsent = bytearray()

    def receive(self) -> list[tuple[int, bytes]]:
        """The frames that came since the last time."""
        try:
            data = self.socket.recv(_PORTION)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.gone = not data
        return list(self.reader.feed(data))

    def send(self, data: bytes, droppable: bool = True) -> None:
        """Pass bytes on as far as they are taken; a frame is left out whole or not at all."""
        if not (droppable and len(self._unsent) > _BACKLOG):
            self._unsent += data
        try:
            sent = self.socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            return
        del self._unsent[:sent]


class _Log:
    """A file that a thread of its own writes: a disk that is slow or full keeps no tick waiting."""

    def __init__(self, file: BinaryIO) -> None:
        self.lost = 0  # reports that could not be written
        self._file: BinaryIO = file
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """How many reports are not yet written."""
        return self._queue.qsize()

    def put(self, report: bytes) -> None:
        """Write it as soon as may be."""
        self._queue.put(report)

    def close(self) -> None:
        """Write what is waiting, in a few seconds or never."""
        self._queue.put(None)
        self._writer.join(5.0)

    def _write(self) -> None:
        while (report := self._queue.get()) is not None:
            try:
                self._file.write(report)
            except OSError:  # it may find room again; what waits must not fill the memory
                self.lost += 1
        with contextlib.suppress(OSError):
            self._file.close()


class Guard:
    """A keeper, its clients and its clock."""

    def __init__(self, keeper: Keeper, listener: socket.socket, hello: bytes,
                 log: BinaryIO | None, parent: int | None, real: bool = True) -> None:
        self.keeper, self.ending = keeper, False
        self._real, self._seen = real, time.monotonic()  # when there was last anyone
        self._listener, self._hello, self._parent = listener, hello, parent
        self._clients: list[_Client] = []
        self._log = None if log is None else _Log(log)
        if self._log is not None:
            self._log.put(hello)

    def serve(self) -> None:
        """Tick until told to end, and then until the arm is at rest."""
        keeper = self.keeper
        due = time.monotonic()
        while not (self.ending and (keeper.phase is Phase.OFF or keeper.shaper.at_rest)):
            time.sleep(max(0.0, due - time.monotonic()))
            # After a late tick the next is a whole period off: targets in quick succession would
            # be faster than the limits.
            due = max(due, time.monotonic()) + keeper.period
            if self.ending:
                keeper.hold()
            self._listen()
            if self._log is not None:
                keeper.unlogged = self._log.lost
            report = pack_report(keeper.tick())
            for client in self._clients:
                client.send(report)
            if self._log is not None:
                self._log.put(report)
        with contextlib.suppress(ArmError):  # it does not answer any more
            keeper.close()
        if self._log is not None:
            self._log.close()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            if len(self._clients) < _CLIENTS:
                client = _Client(sock)
                client.send(self._hello, droppable=False)
                self._clients.append(client)
            else:
                sock.close()
        for client in self._clients:
            before = client.reader.ignored
            for kind, body in client.receive():
                request = unpack_request(kind, body)
                if request is None:
                    self.keeper.ignored += len(body)
                else:
                    self._obey(client, request)
            self.keeper.ignored += client.reader.ignored - before
        for client in [c for c in self._clients if c.gone]:
            self._part(client)
        if self._parent is not None and _ended(self._parent):
            self._parent = None
            self.keeper.latch("the process that started the guard is gone")
        now = time.monotonic()
        if self._parent is not None or self._clients:
            self._seen = now
        elif self.keeper.phase is Phase.OFF or (not self._real and now > self._seen + _FORGOTTEN):
            self.ending = True  # nobody is left, and nothing is held that could fall

    def _part(self, client: _Client) -> None:
        self._clients.remove(client)
        client.socket.close()
        if client.pilot or not self._clients:
            if client.left:
                self.keeper.hold()
            else:
                self.keeper.latch("the policy is gone")

    def _obey(self, client: _Client, request: Request) -> None:
        keeper = self.keeper
        if request.kind is Kind.COMMAND and request.value is not None:
            if not client.pilot and any(other.pilot for other in self._clients):
                keeper.rejected += 1
                return
            if not client.pilot:
                client.pilot = True
                keeper.new_policy()
            keeper.command(
                Command(request.seq, request.mode, request.value,
                        request.sent + request.expires_in_s, request.gripper), request.sent)
        elif request.kind is Kind.HOLD:
            keeper.hold()
        elif request.kind is Kind.LEAVE:
            client.left = True
        elif request.kind in OPERATIONS:
            problem = self._operate(request)
            said = {"seq": request.seq, "problem": problem}
            client.send(frame(Kind.ANSWER, json.dumps(said).encode()), droppable=False)

    def _operate(self, request: Request) -> str:
        """Do what an operator asks; what is wrong, if anything."""
        keeper = self.keeper
        verbs = {Kind.ENABLE: keeper.enable, Kind.UNLATCH: keeper.unlatch,
                 Kind.RELEASE: keeper.release, Kind.CLEAR_FAULTS: keeper.clear_faults}
        try:
            verbs[request.kind](OperatorAck(request.operator, request.statement))
        except ArmError as error:
            return str(error)
        return ""


def _ended(pipe: int) -> bool:
    return bool(select.select([pipe], [], [], 0)[0]) and not os.read(pipe, 4096)


def _listen_at(place: Path) -> socket.socket:
    """A socket for its owner alone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(place))
    finally:
        os.umask(before)
    listener.listen(_CLIENTS)
    listener.setblocking(False)
    return listener


def _prepare(settings: dict[str, Any]) -> tuple[Keeper, bytes]:
    """The keeper, and what is said to everyone who connects."""
    arm = make_arm(settings["arm"], settings["options"])
    limits = Limits.of(arm.spec, **tuples(settings["limits"]))
    low, high = arm.spec.rate_hz
    rate = min(settings["rate_hz"], high)
    if rate < low:
        raise ArmError(f"{arm.spec.model} wants at least {low:g} commands a second")
    if not settings["live"]:
        arm = Rehearsal(arm)
    keeper = Keeper(arm, limits, period=1 / rate, policy_period=1 / settings["policy_hz"],
                    clock=time.monotonic)
    said = {"spec": json.loads(arm.spec.to_json()), "limits": asdict(limits), "live":
            settings["live"], "period": keeper.period, "lifetime": keeper.lifetime,
            "unmonitored": keeper.unmonitored, "arm": settings["arm"]}
    return keeper, frame(Kind.HELLO, json.dumps(said).encode())


def main() -> None:
    """Read settings, connect the arm, say so on standard output, serve."""
    settings = json.loads(sys.stdin.buffer.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the policy's
    place = Path(settings["socket"])
    hurry(10)  # and with it the threads that a driver starts
    try:
        keeper, hello = _prepare(settings)
        listener = _listen_at(place)
        log = open(settings["log"], "ab") if settings["log"] else None  # noqa: SIM115
    except Exception as error:  # a driver of the user's own may raise anything
        known, line = isinstance(error, UserError | OSError), own_line(error)
        if not known and not line:
            raise
        told = str(error) if known else f"{type(error).__name__}: {error} (in {line})"
        print(json.dumps({"problem": told}), flush=True)
        sys.exit(2)
    real = settings["live"] and settings["arm"] != "twin"
    guard = Guard(keeper, listener, hello, log, sys.stdin.fileno(), real)

    def end(*_: object) -> None:
        guard.ending = True

    signal.signal(signal.SIGTERM, end)
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles; a collection would be a pause
    print(json.dumps({"problem": ""}), flush=True)
    try:
        guard.serve()
    finally:
        listener.close()
        place.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
