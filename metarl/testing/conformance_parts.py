"""What the conformance rules are made of: arms on doubles, watched, told and made to fail."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from metarl.errors import UserError
from metarl.robot.arm import (
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    Command,
    Mode,
    OperatorAck,
    Vector,
)

Factory = Callable[[], ArmAdapter]  # an adapter, not connected, on a double of its own
Inject = Callable[[ArmAdapter, str], None]  # makes its double fail from now on; "" heals it
WIRE_FAULTS = ("late", "lost", "duplicated", "reordered", "corrupt", "frozen", "nan")
ACK = OperatorAck("conformance suite", "this is a double")
ON = (ArmMode.HOLDING, ArmMode.STREAMING)
NEAR = 0.1  # rad, that an arm may sag when it takes up its weight
SLACK = 0.3  # s, beyond a deadline, for a busy machine
STILL = 0.3  # s, watched for motion
PERIOD = 0.02  # s, between commands, where the arm takes them that often
STEP = 0.07  # rad, more for each joint than for the one before, so that a swap shows
WATCHDOG = 0.3  # s


class Unchecked(Exception):
    """A check that this adapter leaves no way to make; the text says why."""


def demand(condition: object, problem: str) -> None:
    if not condition:
        raise ArmError(problem)


@contextmanager
def connected(factory: Factory, on: bool = False) -> Iterator[ArmAdapter]:
    """A fresh arm, with torque on where asked, closed in the end."""
    arm = factory()
    try:
        arm.connect()
        if on:
            arm.enable(ACK)
        yield arm
    finally:
        arm.close()


def read(arm: ArmAdapter, timeout_s: float = 0.5) -> ArmState:
    """A state, for which a slow sample may be waited."""
    return arm.read(timeout_s)


def refuses(act: Callable[[], object], kind: type[Exception], what: str) -> None:
    try:
        act()
    except kind:
        return
    except ArmError as error:
        raise ArmError(f"{what} must raise {kind.__name__}, not {type(error).__name__}: "
                       f"{error}") from None
    raise ArmError(f"{what} must raise {kind.__name__}, and raises nothing")


def still(spec: ArmSpec, state: ArmState) -> tuple[Mode, Vector]:
    """The command to stay here."""
    if Mode.JOINT_POSITION in spec.modes:
        return Mode.JOINT_POSITION, state.q.copy()
    return Mode.JOINT_VELOCITY, np.zeros(len(spec.joints))


def stream(arm: ArmAdapter, goal: Vector, seconds: float, seq: int = 0) -> int:
    """Bring the arm to a place at an even pace; the seq of the next command."""
    start = read(arm).q
    period = max(PERIOD, 1 / arm.spec.rate_hz[1])
    steps = round(seconds / period)
    for i in range(1, steps + 1):
        began = time.monotonic()
        way = min(1.0, 1.5 * i / steps)  # and stay there for the last third
        if Mode.JOINT_POSITION in arm.spec.modes:
            mode, value = Mode.JOINT_POSITION, start + way * (goal - start)
        else:
            mode, value = Mode.JOINT_VELOCITY, 5.0 * (start + way * (goal - start) - read(arm).q)
        arm.send(Command(seq, mode, value, time.monotonic() + 0.2))
        seq += 1
        time.sleep(max(0.0, began + period - time.monotonic()))
    return seq


def watch(arm: ArmAdapter, seconds: float) -> ArmState:
    """The last state after a while of reading."""
    end = time.monotonic() + seconds
    state = read(arm)
    while time.monotonic() < end:
        state = read(arm)
    return state


def distance(before: ArmState, after: ArmState) -> float:
    return float(np.abs(after.q - before.q).max())


def inject(faults: Inject, arm: ArmAdapter, fault: str) -> None:
    try:
        faults(arm, fault)
    except (UserError, NotImplementedError, KeyError):
        raise Unchecked(f"its double knows no fault {fault!r}") from None
