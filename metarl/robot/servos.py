"""STS3215 servos on one serial bus: exchanges with deadlines, and ticks that become angles.

The vendor's SDK (feetech-servo-sdk, `scservo_sdk`) packs and checks the frames; deadlines, order of
answers and retries are ours, because the SDK waits by the wall clock, lets a late answer pass for
the next one and fills what did not arrive with old bytes. Registers: Feetech, "Magnetic encoder STS
servo, memory table". 4096 ticks per turn, little-endian, signs apart from magnitudes.
"""

import json
import math
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from metarl.errors import DamagedFile
from metarl.robot.arm import BusError, Disconnected, Stale
from metarl.robot.driver import extra

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
TICKS = 4096  # per turn
STS3215 = 777
ATTEMPTS = 3  # of an exchange: two retries
PATIENCE = 0.1  # s, for an exchange outside the control loop
# Registers: address, width in bytes.
MODEL, MIN_POSITION, MAX_POSITION, OFFSET = (3, 2), (9, 2), (11, 2), (31, 2)
OPERATING_MODE, TORQUE, GOAL = (33, 1), (40, 1), (42, 2)
MOTION = (41, 7)  # acceleration, goal position, goal time, goal speed
PRESENT = (56, 15)  # position, speed, load, voltage, temperature, ..., status at 65, current at 69
CURRENT_UNIT = 0.0065  # A
STATUS = {1: "voltage", 2: "angle sensor", 4: "overheat", 8: "over-current", 32: "overload"}
Result = TypeVar("Result")


def signed(word: int, sign_bit: int) -> int:
    """A number whose sign is one bit of its own."""
    magnitude = word & ((1 << sign_bit) - 1)
    return -magnitude if word >> sign_bit & 1 else magnitude


def unsigned(number: int, sign_bit: int) -> int:
    """The word for it."""
    return (1 << sign_bit) | -number if number < 0 else number


@dataclass(frozen=True)
class Servo:
    """One servo, and how its ticks become an angle."""

    name: str
    id: int
    sign: int  # 1, or -1 where it turns the other way
    offset: int  # ticks that it takes off what its encoder says
    low: int  # ticks, the range that its EEPROM allows
    high: int

    @property
    def zero(self) -> float:
        """Ticks at angle 0, the middle of the range."""
        return (self.low + self.high) / 2

    def angle(self, ticks: float) -> float:
        """rad."""
        return self.sign * (ticks - self.zero) * 2 * math.pi / TICKS

    def ticks(self, angle: float, least: float, most: float) -> int:
        """The nearest position inside two angles [rad] and inside the EEPROM's range, at whose
        ends the firmware would stop too."""
        wanted, *ends = (self.zero + self.sign * it * TICKS / (2 * math.pi)
                         for it in (angle, least, most))
        low, high = max(self.low, math.ceil(min(ends))), min(self.high, math.floor(max(ends)))
        return min(max(round(wanted), low), high)


def read_calibration(path: str | Path) -> tuple[Servo, ...]:
    """The servos of a calibration file as `lerobot-calibrate` writes it: for each name an id,
    drive_mode (0, or 1 for the other way), homing_offset, range_min and range_max [ticks]. Angle 0
    is the middle of the range. Raises DamagedFile."""
    try:
        said = json.loads(Path(path).read_text())
        servos = tuple(
            Servo(name, int(it["id"]), -1 if it["drive_mode"] else 1, int(it["homing_offset"]),
                  int(it["range_min"]), int(it["range_max"]))
            for name, it in ((name, said[name]) for name in NAMES if name in said)
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedFile(f"{path} is no calibration of an SO-101: {error!r}") from error
    if [servo.name for servo in servos[:5]] != [*NAMES[:5]]:
        raise DamagedFile(f"{path} does not calibrate all of {', '.join(NAMES[:5])}")
    if any(not 0 <= servo.low < servo.high < TICKS for servo in servos):
        raise DamagedFile(f"{path} has a range that is not inside 0 to {TICKS - 1} ticks")
    return servos


class Bus:
    """Exchanges on the serial bus, each within a deadline on the monotonic clock. Raises Stale
    where no answer came, BusError where it made no sense."""

    def __init__(self, port: str) -> None:
        sdk = extra("scservo_sdk", "feetech")
        self._sdk, self._packets = sdk, sdk.PacketHandler(0)
        self._port = _port(sdk, port)

    def close(self) -> None:
        self._port.closePort()

    def read(self, servos: Sequence[Servo], register: tuple[int, int],
             timeout_s: float = PATIENCE) -> list[bytes]:
        """A register of several servos at once, each with the error byte of its answer in front."""
        address, width = register
        ids = [servo.id for servo in servos]

        def exchange() -> list[bytes]:
            self._sent(self._packets.syncReadTx(self._port, address, width, ids, len(ids)))
            found = [self._answer(servo, width) for servo in servos]
            if self._port.getBytesAvailable():
                raise BusError("more answers than servos that were asked")
            return found

        return self._try(exchange, timeout_s)

    def write(self, servo: Servo, register: tuple[int, int], value: int) -> None:
        """A register of one servo, confirmed by its answer."""
        address, width = register

        def exchange() -> None:
            self._port.is_using = False
            data = [*value.to_bytes(width, "little")]
            self._sent(self._packets.writeTxOnly(self._port, servo.id, address, width, data))
            self._answer(servo, 0)

        self._try(exchange, PATIENCE)

    def write_all(self, register: tuple[int, int], values: dict[int, bytes]) -> None:
        """A register of several servos at once; they do not answer."""
        address, width = register
        data = [byte for id, value in values.items() for byte in (id, *value)]
        self._port.is_using = False
        self._sent(self._packets.syncWriteTxOnly(self._port, address, width, data, len(data)))

    def _answer(self, servo: Servo, width: int) -> bytes:
        packet, result = self._packets.rxPacket(self._port)
        if result == self._sdk.COMM_RX_TIMEOUT:
            raise Stale(f"{servo.name} did not answer")
        if result != self._sdk.COMM_SUCCESS:
            raise BusError(f"the answer of {servo.name} is corrupt")
        if packet[2] != servo.id or len(packet) != width + 6:
            raise BusError(f"another answer than that of {servo.name}")
        return bytes(packet[4:-1])

    def _sent(self, result: int) -> None:
        if result != self._sdk.COMM_SUCCESS:
            raise BusError("the bus takes no bytes")

    def _try(self, exchange: Callable[[], Result], timeout_s: float) -> Result:
        deadline = time.monotonic() + timeout_s
        for left in reversed(range(ATTEMPTS)):
            now = time.monotonic()
            self._port.deadline = now + max(deadline - now, 0.0) / (left + 1)
            self._port.is_using = False
            try:
                return exchange()
            except (Stale, BusError):
                if not left or time.monotonic() >= deadline:
                    raise
                self._port.quiet(deadline)
        raise AssertionError("unreachable")


def _port(sdk: ModuleType, name: str) -> Any:
    """The SDK's port, open, with one deadline for an exchange and no bytes of an earlier one."""

    class Port(sdk.PortHandler):
        deadline = 0.0  # s, monotonic

        def clearPort(self) -> None:
            while waiting := self.ser.in_waiting:
                self.ser.read(waiting)

        def setPacketTimeout(self, packet_length: int) -> None: ...

        def isPacketTimeout(self) -> bool:
            return time.monotonic() >= self.deadline

        def readPort(self, length: int) -> bytes:
            left = self.deadline - time.monotonic()
            select.select([self.ser], [], [], max(left, 0.0))
            return self.ser.read(length)

        def quiet(self, deadline: float) -> None:
            """Wait until nothing arrives any more, so that a late answer answers nothing: for 1 ms,
            or longer where there is time, as adapters and busy computers deliver in bursts."""
            pause = max(0.001, (deadline - time.monotonic()) / 10)
            while time.monotonic() < deadline and select.select([self.ser], [], [], pause)[0]:
                self.clearPort()

    port = Port(name)
    try:
        port.openPort()
        port.ser.exclusive = True
        port.ser.write_timeout = PATIENCE
    except OSError as error:
        raise Disconnected(f"cannot open {name}: {error}") from error
    return port
