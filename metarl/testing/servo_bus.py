"""A serial bus of STS3215 servos on a pseudo-terminal, with an arm behind it.

Written from the protocol (Feetech, "Magnetic encoder STS servo, memory table") and from what users
report of the firmware: a goal written to a servo without torque switches its torque on, and a goal
outside the EEPROM's range is limited while its register keeps what was written.
"""

import contextlib
import json
import math
import os
import select
import tempfile
import threading
import time
import tty
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import tyro

from metarl.robot.clock import hurry
from metarl.testing.apart import Apart, Told, announce, listen
from metarl.testing.body import FLAWLESS, Body, Flaws
from metarl.testing.live import HASTE, Clock, Live
from metarl.testing.witness import Witness

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
RADIAN = 4096 / (2 * math.pi)  # ticks
STALL_CURRENT = 370  # of 6.5 mA
TORQUE = 3.35  # N m, of a servo that stalls
HAND_SPEED = 2000.0  # ticks/s
# What happens to an answer: it is lost, one of its bits turns over, it comes `delay` seconds late,
# twice, or without its end.
Trouble = Literal["drop", "corrupt", "late", "duplicate", "short"]


@dataclass
class Calibration:
    """Of one servo; angle 0 lies in the middle of its range."""

    id: int
    low: int  # ticks
    high: int
    offset: int = 0
    reversed: bool = False

    def ticks(self, angle: float) -> int:
        """Where the servo says that it is, at an angle [rad]."""
        turned = -angle if self.reversed else angle
        return round((self.low + self.high) / 2 + turned * RADIAN)

    def angle(self, ticks: int) -> float:
        """rad."""
        turned = (ticks - (self.low + self.high) / 2) / RADIAN
        return -turned if self.reversed else turned


def calibrations(body: Body) -> list[Calibration]:
    """One per joint, and the gripper's: ranges a little off the middle, one servo reversed."""
    found = []
    for i, (least, most) in enumerate(body.model.jnt_range):
        reach, middle = int(max(abs(least), most) * RADIAN), 2047 + 5 * i
        found.append(Calibration(i + 1, middle - reach, middle + reach, 100 * i - 200, i == 1))
    return [*found, Calibration(len(found) + 1, 1900, 3300)]


class ServoBus:
    """The bus. It answers on `port` from its own thread between `with` and the end of it.

    `writes` lists what was written to any servo: (id, address, bytes).
    """

    def __init__(self, body: Body, clock: Clock = time.monotonic) -> None:
        self.calibrations = calibrations(body)
        self.writes: list[tuple[int, int, bytes]] = []
        self.delay = 0.05  # s, of a late answer
        self.gap = 0.0  # s, before each answer to a question that several servos were asked
        self.witness = Witness()
        self._live, self._clock = Live(body, clock), clock
        self._lock = threading.RLock()
        self._trouble: list[Trouble | None] = []  # of the next answers
        self._late: list[tuple[float, bytes]] = []  # when, what
        self._stuck: set[int] = set()  # ids
        self._hand, self._moved = float(self.calibrations[-1].low), clock()  # ticks, s
        self._memory = {it.id: _memory(it) for it in self.calibrations}
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake, self._bell = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._live_on()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._bell, b"x")
        self._thread.join()
        for file in (self._master, self._slave, self._wake, self._bell):
            os.close(file)

    # What a test may do to it.

    @property
    def body(self) -> Body:
        """The arm, as old as the clock says."""
        with self._lock:
            return self._live_on()

    def save_calibration(self, path: Path) -> str:
        """Write the file that a driver reads, as `lerobot-calibrate` does; its path."""
        path.write_text(json.dumps({
            name: {"id": it.id, "drive_mode": int(it.reversed), "homing_offset": it.offset,
                   "range_min": it.low, "range_max": it.high}
            for name, it in zip(NAMES, self.calibrations, strict=True)
        }))
        return str(path)

    def peek(self, id: int, address: int, width: int = 1) -> int:
        """A register."""
        with self._lock:
            return int.from_bytes(self._memory[id][address : address + width], "little")

    def poke(self, id: int, address: int, value: int, width: int = 1) -> None:
        """Set a register behind the driver's back: status 65, or temperature 63, for one."""
        with self._lock:
            self._memory[id][address : address + width] = value.to_bytes(width, "little")

    def spoil(self, kind: Trouble, answers: int = 1, after: int = 0) -> None:
        """Make trouble with the next answers, after so many that are well."""
        with self._lock:
            self._trouble = [None] * after
            self._trouble.extend(kind for _ in range(answers))

    def stick(self, id: int) -> None:
        """Let an encoder go on telling where it is now."""
        with self._lock:
            self._live_on()
            self._stuck.add(id)

    # The thread.

    def _run(self) -> None:
        data = b""
        while True:
            ready = select.select([self._master, self._wake], [], [], 0.005)[0]
            if self._wake in ready:
                return
            with self._lock, contextlib.suppress(OSError):
                if self._master in ready:
                    data = self._parse(data + os.read(self._master, 4096))
                self._live_on()
                for late in [it for it in self._late if it[0] <= time.monotonic()]:
                    self._late.remove(late)
                    os.write(self._master, late[1])

    def _parse(self, data: bytes) -> bytes:
        """Obey the whole packets in the bytes; what is left of them."""
        while (start := data.find(b"\xff\xff")) >= 0 and len(data) > start + 3:
            end = start + 4 + data[start + 3]
            if len(data) < end:
                return data[start:]
            packet, data = data[start + 2 : end], data[end:]
            if packet[-1] == _checksum(packet[:-1]):
                self._obey(packet[0], packet[2], packet[3:-1])
        return data

    def _obey(self, id: int, instruction: int, said: bytes) -> None:
        self._live_on()
        if instruction == PING:
            self._answer(id)
        elif instruction == READ:
            self._answer(id, bytes(self._memory[id][said[0] : said[0] + said[1]]))
        elif instruction == WRITE:
            self._write(id, said[0], said[1:])
            self._answer(id)
        elif instruction == SYNC_READ:
            for each in said[2:]:
                time.sleep(self.gap)
                self._answer(each, bytes(self._memory[each][said[0] : said[0] + said[1]]))
        elif instruction == SYNC_WRITE:
            width = said[1]
            for i in range(2, len(said), width + 1):
                self._write(said[i], said[0], said[i + 1 : i + 1 + width])

    def _write(self, id: int, address: int, data: bytes) -> None:
        self.writes.append((id, address, data))
        self._memory[id][address : address + len(data)] = data
        if address <= 43 and address + len(data) > 42:  # a goal
            self._memory[id][40] = 1
        self._live_on()

    def _answer(self, id: int, data: bytes = b"") -> None:
        if id not in self._memory:
            return
        packet = bytes([id, len(data) + 2, self._memory[id][65]]) + data
        packet = b"\xff\xff" + packet + bytes([_checksum(packet)])
        trouble = self._trouble.pop(0) if self._trouble else None
        if trouble == "late":
            self._late.append((time.monotonic() + self.delay, packet))
        elif trouble != "drop":
            if trouble == "corrupt":
                packet = packet[:-2] + bytes([packet[-2] ^ 4]) + packet[-1:]
            os.write(self._master, packet[:-2] if trouble == "short" else
                     packet * (2 if trouble == "duplicate" else 1))

    # The arm.

    def _live_on(self) -> Body:
        """Let the arm follow the goals until now, and tell the servos where it is."""
        body, now = self._live.now(), self._clock()
        q, dq, tau = body.measure()
        joints = self.calibrations[: len(q)]
        on = np.array([self._memory[it.id][40] == 1 for it in joints])
        body.torque(on)
        self._live.resting &= not on.any()
        goals = np.array([it.angle(self._goal(it)) for it in joints])
        body.aim(goals)
        self.witness.told(goals)
        self.witness.looked(dq)
        for i, it in enumerate(joints):
            turned = -1 if it.reversed else 1
            self._tell(it.id, it.ticks(q[i]), turned * dq[i] * RADIAN, turned * tau[i] / TORQUE)
        hand, left = self.calibrations[-1], (now - self._moved) * HAND_SPEED
        if self._memory[hand.id][40] == 1:
            self._hand += min(max(self._goal(hand) - self._hand, -left), left)
        self._moved = now
        self._tell(hand.id, round(self._hand), 0.0, 0.0)
        return body

    def _goal(self, it: Calibration) -> int:
        """Ticks that a servo really goes to."""
        word = self.peek(it.id, 42, 2)
        goal = -(word & 0x7FFF) if word & 0x8000 else word
        return min(max(goal, self.peek(it.id, 9, 2)), self.peek(it.id, 11, 2))

    def _tell(self, id: int, ticks: int, speed: float, load: float) -> None:
        """Fill in the registers of what is measured; `load` is a share of what it can carry."""
        if id not in self._stuck:
            self.poke(id, 56, _word(ticks, 15), 2)
            self.poke(id, 58, _word(round(speed), 15), 2)
        self.poke(id, 60, _word(round(1000 * load), 10), 2)
        self.poke(id, 69, _word(round(STALL_CURRENT * load), 15), 2)


def _memory(it: Calibration) -> bytearray:
    """The registers of a servo that some other program left without torque, its goal at 2048."""
    memory = bytearray(128)
    for address, value, width in (
        (0, 3, 1), (1, 10, 1), (3, 777, 2), (5, it.id, 1), (9, it.low, 2), (11, it.high, 2),
        (31, _word(it.offset, 11), 2), (42, 2048, 2), (48, 1000, 2), (55, 1, 1), (62, 74, 1),
        (63, 30, 1),
    ):
        memory[address : address + width] = value.to_bytes(width, "little")
    return memory


def _word(number: int, sign_bit: int) -> int:
    """A number whose sign is one bit of its own."""
    return min(abs(number), (1 << sign_bit) - 1) | (number < 0) << sign_bit


def _checksum(packet: bytes) -> int:
    return ~sum(packet) & 0xFF


class So101Bus(Apart):
    """A bus in a process of its own; `ask` tells where its joints really are [rad], or its
    witness's `account`."""

    def __init__(self, flaws: Flaws = FLAWLESS) -> None:
        super().__init__(__name__, *(f"--{name}={it}" for name, it in asdict(flaws).items()))


def main(
    flaws: Annotated[Flaws, tyro.conf.arg(name="")] = FLAWLESS,
) -> None:
    """Serve until the standard input ends."""
    bus = ServoBus(Body("so101", flaws))
    hurry(HASTE)
    with tempfile.TemporaryDirectory() as folder, bus:
        file = bus.save_calibration(Path(folder) / "calibration.json")
        announce("so101", {"port": bus.port, "calibration": file})

        def answer(said: Told) -> Any:
            q = bus.body.measure()[0].tolist()
            return bus.witness.account() if "account" in said else q

        listen(answer)


if __name__ == "__main__":
    tyro.cli(main)
