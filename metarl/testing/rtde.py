"""A Universal Robots controller with an arm behind it: RTDE, dashboard and script ports.

Written from the protocol (Universal Robots, "Real-Time Data Exchange guide"; "Dashboard Server
e-Series") and from the registers by which ur_rtde's uploaded script is spoken to. The script itself
is not run: this exercises a client, its wire and a driver, not Polyscope.

The client holds Python's lock while it waits, so the controller is a process of its own, told what
to do by lines of JSON; the ports are fixed, so it has a loopback address of its own.
"""

import contextlib
import json
import math
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro

from metarl.robot.clock import hurry
from metarl.testing.apart import Apart, Told, announce, is_told, understood
from metarl.testing.body import FLAWLESS, Body, Flaws
from metarl.testing.controller import TICK, Controller
from metarl.testing.live import HASTE

RTDE, DASHBOARD, SCRIPT = 30004, 29999, 30003
TYPES = {"BOOL": "?", "UINT8": "B", "UINT32": "I", "UINT64": "Q", "INT32": "i", "DOUBLE": "d",
         "VECTOR3D": "3d", "VECTOR6D": "6d", "VECTOR6INT32": "6i"}
FIELDS = {  # the types of what can be asked for, registers apart
    "VECTOR6D": """target_q target_qd target_qdd target_current target_moment actual_q actual_qd
        actual_current joint_control_output actual_TCP_pose actual_TCP_speed actual_TCP_force
        target_TCP_pose target_TCP_speed joint_temperatures actual_joint_voltage ft_raw_wrench
        payload_inertia external_force_torque""",
    "VECTOR6INT32": "joint_mode", "VECTOR3D": "actual_tool_accelerometer payload_cog",
    "INT32": "robot_mode safety_mode", "UINT64": "actual_digital_input_bits "
    "actual_digital_output_bits", "UINT32": """runtime_state robot_status_bits safety_status_bits
        speed_slider_mask""",
    "DOUBLE": """timestamp actual_execution_time speed_scaling target_speed_fraction
        actual_momentum actual_main_voltage actual_robot_voltage actual_robot_current
        standard_analog_input0 standard_analog_input1 standard_analog_output0
        standard_analog_output1 standard_analog_output_0 standard_analog_output_1 payload
        speed_slider_fraction""",
    "UINT8": """standard_digital_output_mask standard_digital_output standard_analog_output_mask
        standard_analog_output_type configurable_digital_output_mask configurable_digital_output
        tool_digital_output_mask tool_digital_output""",
}
KINDS = {name: kind for kind, names in FIELDS.items() for name in names.split()}
TROUBLES = ("", "lost", "late", "frozen", "nan", "duplicated", "reordered", "overload")


def kind_of(name: str) -> str:
    """The type of a field."""
    for start, kind in (("put_int_register_", "INT32"), ("put_double_register_", "DOUBLE"),
                        ("put_bit_register", "BOOL")):
        if start in name:
            return kind
    return KINDS.get(name, "NOT_FOUND")


@dataclass
class Recipe:
    """What a client set up to be told, or to tell."""

    names: list[str]
    layout: struct.Struct


@dataclass
class Client:
    """A connection to RTDE."""

    socket: socket.socket
    data: bytes = b""
    inputs: list[Recipe] = field(default_factory=list)
    output: Recipe | None = None
    period: float = TICK  # s, between what it is told
    due: float = math.inf  # s, monotonic


class Server:
    """The three ports, and the standard input if anybody is there, in one loop."""

    def __init__(self, fresh: Callable[[], Controller], host: str) -> None:
        self._fresh, self._controller = fresh, fresh()
        self._select = selectors.PollSelector()  # a file may be the input: epoll takes none
        self._trouble, self._since = "", 0.0
        self._sent = self._kept = b""  # the last data, and what comes after its successor
        self._clients: list[Client] = []
        self._ending, self._begun = False, b""  # of a line that is told
        for port, serve in ((RTDE, self._rtde), (DASHBOARD, self._dashboard),
                            (SCRIPT, self._script)):
            listener = socket.create_server((host, port))
            self._watch(listener, lambda it, serve=serve: serve(it.accept()[0]))
        if is_told():
            self._watch(sys.stdin.buffer, lambda _: self._told())

    def run(self) -> None:
        """Serve until the standard input ends."""
        hurry(HASTE)
        while not self._ending:
            for key, _ in self._select.select(TICK / 4):
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)
            self._controller.tick()
            self._publish()

    def _watch(self, file: Any, act: Callable[[Any], None]) -> None:
        self._select.register(file, selectors.EVENT_READ, act)

    def _told(self) -> None:
        # Not by `readline`, which would keep the lines after the first where no poll sees them.
        data = os.read(sys.stdin.fileno(), 65536)
        self._ending = not data
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            if (said := understood(line)) is not None:
                self._obey(said)

    def _obey(self, said: Told) -> None:
        if "registers" in said:  # another day
            self._controller = self._fresh()
            self._controller.registers |= said["registers"]
        if "trouble" in said:
            self._trouble, self._since = said["trouble"], time.monotonic()
            if self._trouble == "overload":
                self._controller.protective_stop()
        report = self._controller.report() | {"written": self._controller.written}
        if "account" in said:
            report = self._controller.witness.account()
        answer = {name: np.asarray(value).tolist() for name, value in report.items()}
        print(json.dumps(answer), flush=True)

    def _script(self, peer: socket.socket) -> None:
        text = bytearray()

        def more(it: socket.socket) -> None:
            got = it.recv(65536)
            text.extend(got)
            if not got or text.endswith(b"end\n"):
                if text:
                    self._controller.run_script()
                    text.clear()
                if not got:
                    self._select.unregister(it)

        self._watch(peer, more)

    def _dashboard(self, peer: socket.socket) -> None:
        peer.sendall(b"Connected: Universal Robots Dashboard Server\n")

        def more(it: socket.socket) -> None:
            got = it.recv(4096)
            if not got:
                self._select.unregister(it)
            for line in got.decode().splitlines():
                it.sendall(self._controller.dashboard(line).encode() + b"\n")

        self._watch(peer, more)

    # RTDE.

    def _rtde(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(peer)
        self._clients.append(client)

        def more(it: socket.socket) -> None:
            got = it.recv(65536)
            if not got:
                self._select.unregister(it)
                self._clients.remove(client)
            client.data += got
            while len(client.data) >= 3 and len(client.data) >= (
                size := int.from_bytes(client.data[:2], "big")
            ):
                packet, client.data = client.data[:size], client.data[size:]
                answer = self._answer(client, packet[2], packet[3:])
                if answer is not None:
                    self._send(client, packet[2], answer)

        self._watch(peer, more)

    def _answer(self, client: Client, kind: int, said: bytes) -> bytes | None:
        if kind == 86:  # the protocol's version
            return b"\x01"
        if kind == 118:  # the controller's
            return struct.pack(">4I", 5, 11, 0, 108249)
        if kind == 79:  # what it wants to be told
            client.period = max(1 / struct.unpack(">d", said[:8])[0], TICK / 4)
            client.output, kinds = _recipe(said[8:])
            return b"\x01" + kinds
        if kind == 73:  # what it will tell
            recipe, kinds = _recipe(said)
            client.inputs.append(recipe)
            return bytes([len(client.inputs)]) + kinds
        if kind in (83, 80):  # start, pause
            client.due = time.monotonic() if kind == 83 else math.inf
            return b"\x01"
        if kind == 85:
            recipe = client.inputs[said[0] - 1]
            values = recipe.layout.unpack(said[1:])
            # Vectors are told but not used: registers are single numbers.
            self._controller.obey(dict(zip(recipe.names, values, strict=False)))
        return None

    def _publish(self) -> None:
        now = time.monotonic()
        for client in self._clients:
            if client.output is not None and client.due <= now:
                client.due = max(client.due + client.period, now)
                with contextlib.suppress(OSError):
                    self._tell(client, client.output, now)

    def _tell(self, client: Client, recipe: Recipe, now: float) -> None:
        report = self._controller.report()
        if self._trouble == "nan":
            report["actual_q"] = np.full(6, np.nan)
        data = b"\x01" + recipe.layout.pack(*_numbers(recipe, report))
        told = "actual_q" in recipe.names  # trouble is for those who ask where it is
        if told and (self._trouble == "lost"
                     or (self._trouble == "late" and now - self._since < 0.19)):
            return
        if told and self._trouble == "frozen" and self._sent:
            data = self._sent
        if told and self._trouble == "reordered" and not self._kept:
            self._kept = data  # until the next one
            return
        for each in (data, data if self._trouble == "duplicated" else self._kept):
            if each:
                self._send(client, 85, each)
        self._sent, self._kept = data if told else self._sent, b""

    def _send(self, client: Client, kind: int, said: bytes) -> None:
        client.socket.sendall(struct.pack(">HB", len(said) + 3, kind) + said)


def _recipe(said: bytes) -> tuple[Recipe, bytes]:
    """The recipe for comma-separated names, and their types as a client is told them."""
    names = [name for name in said.decode().split(",") if name]
    kinds = [kind_of(name) for name in names]
    layout = struct.Struct(">" + "".join(TYPES.get(kind, "") for kind in kinds))
    return Recipe(names, layout), ",".join(kinds).encode()


def _numbers(recipe: Recipe, report: dict[str, Any]) -> list[float]:
    """What a recipe asks for, one number after another."""
    numbers = []
    for name in recipe.names:
        layout = TYPES.get(kind_of(name), "")
        count = int(layout[:-1]) if layout[:-1] else len(layout)
        value = np.broadcast_to(report.get(name, 0), count).tolist()
        numbers += value if layout[-1:] == "d" else map(int, value)
    return numbers


class Ur(Apart):
    """A controller in a process of its own, reachable at `host` inside a `with`.

    `ask` tells what the controller knows of itself, after it was told to make `trouble`, one of
    TROUBLES, or to start anew with what a client left in its `registers`; or its witness's
    `account`.
    """

    def __init__(self, flaws: Flaws = FLAWLESS, unlock_after: float = 5.0) -> None:
        super().__init__(__name__, f"--unlock-after={unlock_after}",
                         *(f"--{name}={value}" for name, value in asdict(flaws).items()))

    @property
    def host(self) -> str:
        """Its address."""
        return str(self.options["host"])


def main(
    flaws: Annotated[Flaws, tyro.conf.arg(name="")] = FLAWLESS,
    unlock_after: float = 5.0,  # s, for which a protective stop cannot be unlocked
) -> None:
    """Serve on a loopback address that no other process has."""
    number = os.getpid()
    host = f"127.{1 + number // 62500 % 250}.{1 + number // 250 % 250}.{1 + number % 250}"
    server = Server(lambda: Controller(Body("ur5e", flaws), unlock_after), host)
    announce("ur5e", {"host": host})
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


if __name__ == "__main__":
    tyro.cli(main)
