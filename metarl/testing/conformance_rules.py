"""The rules that an adapter of an arm must keep to, each a function whose docstring is its claim.

A rule gets a factory of adapters and a way to make their doubles fail. It raises ArmError where it
is broken, and Unchecked where it cannot be seen.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.robot.arm import (
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Mode,
    NotAcknowledged,
    OperatorAck,
    Rejected,
    Stale,
    Unsupported,
    Vector,
)

Factory = Callable[[], ArmAdapter]  # an adapter, not connected, on a double of its own
Inject = Callable[[ArmAdapter, str], None]  # makes its double fail from now on; "" heals it
WIRE_FAULTS = ("late", "lost", "duplicated", "reordered", "corrupt", "frozen", "nan")
_ACK = OperatorAck("conformance suite", "this is a double")
_ON = (ArmMode.HOLDING, ArmMode.STREAMING)
_NEAR = 0.1  # rad, that an arm may sag when it takes up its weight
_SLACK = 0.3  # s, beyond a deadline, for a busy machine
_STILL = 0.3  # s, watched for motion
_PERIOD = 0.02  # s, between commands, where the arm takes them that often
_STEP = 0.07  # rad, more for each joint than for the one before, so that a swap shows
_WATCHDOG = 0.3  # s


class Unchecked(Exception):
    """A check that this adapter leaves no way to make; the text says why."""


# Parts.


def _demand(condition: object, problem: str) -> None:
    if not condition:
        raise ArmError(problem)


@contextmanager
def _connected(factory: Factory, on: bool = False) -> Iterator[ArmAdapter]:
    """A fresh arm, with torque on where asked, closed in the end."""
    arm = factory()
    try:
        arm.connect()
        if on:
            arm.enable(_ACK)
        yield arm
    finally:
        arm.close()


def _read(arm: ArmAdapter, timeout_s: float = 0.5) -> ArmState:
    """A state, for which a slow sample may be waited."""
    return arm.read(timeout_s)


def _refuses(act: Callable[[], object], kind: type[Exception], what: str) -> None:
    try:
        act()
    except kind:
        return
    except ArmError as error:
        raise ArmError(f"{what} must raise {kind.__name__}, not {type(error).__name__}: "
                       f"{error}") from None
    raise ArmError(f"{what} must raise {kind.__name__}, and raises nothing")


def _still(spec: ArmSpec, state: ArmState) -> tuple[Mode, Vector]:
    """The command to stay here."""
    if Mode.JOINT_POSITION in spec.modes:
        return Mode.JOINT_POSITION, state.q.copy()
    return Mode.JOINT_VELOCITY, np.zeros(len(spec.joints))


def _stream(arm: ArmAdapter, goal: Vector, seconds: float, seq: int = 0) -> int:
    """Bring the arm to a place at an even pace; the seq of the next command."""
    start = _read(arm).q
    period = max(_PERIOD, 1 / arm.spec.rate_hz[1])
    steps = round(seconds / period)
    for i in range(1, steps + 1):
        began = time.monotonic()
        way = min(1.0, 1.5 * i / steps)  # and stay there for the last third
        if Mode.JOINT_POSITION in arm.spec.modes:
            mode, value = Mode.JOINT_POSITION, start + way * (goal - start)
        else:
            mode, value = Mode.JOINT_VELOCITY, 5.0 * (start + way * (goal - start) - _read(arm).q)
        arm.send(Command(seq, mode, value, time.monotonic() + 0.2))
        seq += 1
        time.sleep(max(0.0, began + period - time.monotonic()))
    return seq


def _watch(arm: ArmAdapter, seconds: float) -> ArmState:
    """The last state after a while of reading."""
    end = time.monotonic() + seconds
    state = _read(arm)
    while time.monotonic() < end:
        state = _read(arm)
    return state


def _moved(before: ArmState, after: ArmState) -> float:
    return float(np.abs(after.q - before.q).max())


# The rules.


def _spec(factory: Factory, faults: Inject) -> None:
    """Its spec can be read with no connection, and is the same every time."""
    one, other = factory(), factory()
    _demand(isinstance(one.spec, ArmSpec), "`spec` is no ArmSpec")
    _demand(one.spec.digest() == other.spec.digest(), "two of it have different specs")
    _demand(one.spec.modes, "it takes no commands at all: `modes` is empty")
    _demand({"q", "dq"} <= one.spec.senses, "`senses` must name q and dq")


def _unconnected(factory: Factory, faults: Inject) -> None:
    """Before it is connected, reading it raises Disconnected."""
    _refuses(lambda: factory().read(0.1), Disconnected, "reading an arm that is not connected")


def _connecting(factory: Factory, faults: Inject) -> None:
    """connect opens the transport and does nothing else; doing it again is harmless."""
    arm = factory()
    try:
        first = arm.connect()
        _demand(first.mode is ArmMode.READY_OFF,
                f"a fresh arm is {first.mode} once connected, where torque should be off")
        again = arm.connect()
        _demand(again.mode is first.mode, f"connected again, it is {again.mode}")
        moved = _moved(first, _watch(arm, _STILL))
        _demand(moved < _NEAR, f"it moves by {moved:.2f} rad once connected")
    finally:
        arm.close()


def _measuring(factory: Factory, faults: Inject) -> None:
    """A state has finite float64 vectors for what is sensed, None for what is not, a seq that
    grows, and the time when it was captured."""
    with _connected(factory) as arm:
        joints, last = len(arm.spec.joints), _read(arm)
        for _ in range(5):
            began = time.monotonic()
            state = _read(arm)
            for name in ("q", "dq", "tau", "wrench", "temperature", "current"):
                value = getattr(state, name)
                sensed = name in arm.spec.senses
                _demand((value is not None) == sensed,
                        f"{name} is {'None' if sensed else 'given'}, but `senses` "
                        f"{'names' if sensed else 'does not name'} it")
                if value is not None:
                    shape = (6,) if name == "wrench" else (joints,)
                    _demand(isinstance(value, np.ndarray) and value.dtype == np.float64
                            and value.shape == shape and np.isfinite(value).all(),
                            f"{name} must be {shape} finite float64 numbers")
            _demand(state.seq > last.seq, f"seq {state.seq} comes after {last.seq}")
            _demand(began - 1.0 < state.t_host <= time.monotonic(),
                    "t_host is not the monotonic time of capture")
            last = state


def _acknowledged(factory: Factory, faults: Inject) -> None:
    """Torque on, torque off and clearing faults need an operator's acknowledgement."""
    with _connected(factory) as arm:
        for verb in ("enable", "release", "clear_faults"):
            _refuses(lambda verb=verb: getattr(arm, verb)(None), NotAcknowledged,
                     f"{verb} without an acknowledgement")


def _enabling(factory: Factory, faults: Inject) -> None:
    """enable holds the pose that is measured."""
    with _connected(factory) as arm:
        before = _read(arm)
        after = arm.enable(_ACK)
        _demand(after.mode in _ON, f"after enable it is {after.mode}")
        moved = _moved(before, _watch(arm, _STILL))
        _demand(moved < _NEAR, f"enable moves it by {moved:.2f} rad")


def _torqueless(factory: Factory, faults: Inject) -> None:
    """With torque off, a command is refused and switches nothing on."""
    with _connected(factory) as arm:
        mode, value = _still(arm.spec, _read(arm))
        _refuses(lambda: arm.send(Command(0, mode, value, time.monotonic() + 1)), ArmError,
                 "a command with torque off")
        _demand(_read(arm).mode is ArmMode.READY_OFF, "the command has switched torque on")


def _rejecting(factory: Factory, faults: Inject) -> None:
    """What is not finite, has another width, is old or repeated, or has expired is rejected, never
    clamped."""
    with _connected(factory, on=True) as arm:
        mode, value = _still(arm.spec, _read(arm))

        def send(seq: int, value: Any, expires: float = 1.0) -> None:
            arm.send(Command(seq, mode, value, time.monotonic() + expires))

        send(5, value)
        nan, inf = value.copy(), value.copy()
        nan[-1], inf[0] = np.nan, np.inf
        bad: list[tuple[str, Callable[[], None]]] = [
            ("NaN", lambda: send(6, nan)),
            ("infinity", lambda: send(6, inf)),
            ("a joint too many", lambda: send(6, np.append(value, 0.0))),
            ("a joint too few", lambda: send(6, value[:-1])),
            ("a matrix", lambda: send(6, value[None])),
            ("float32", lambda: send(6, value.astype(np.float32))),
            ("a repeated seq", lambda: send(5, value)),
            ("an old seq", lambda: send(4, value)),
            ("an expired command", lambda: send(6, value, -0.01)),
            ("a command that expires at no time", lambda: send(6, value, np.nan)),
        ]
        for what, act in bad:
            _refuses(act, Rejected, what)
        send(7, value)


def _applying(factory: Factory, faults: Inject) -> None:
    """Applied says what was written, after every clamp, and why it is not what was asked for."""
    with _connected(factory, on=True) as arm:
        if Mode.JOINT_POSITION not in arm.spec.modes:
            raise Unchecked("it takes no positions")
        wanted = _read(arm).q
        said = arm.send(Command(3, Mode.JOINT_POSITION, wanted, time.monotonic() + 1))
        _demand(said.seq == 3 and np.array_equal(said.requested, wanted),
                "Applied does not repeat the seq and the value of its command")
        _demand(said.applied.shape == wanted.shape
                and np.abs(said.applied - wanted).max() < 0.01,
                "a target inside the joints' ranges was changed")
        far = wanted.copy()
        far[0] = arm.spec.q_max[0] + 1.0
        try:
            said = arm.send(Command(4, Mode.JOINT_POSITION, far, time.monotonic() + 1))
        except ArmError:
            return  # refused: that will do
        finally:
            arm.hold()
        _demand(said.applied[0] <= arm.spec.q_max[0] + 1e-9 and said.limits,
                f"asked for {far[0]:.2f} rad, beyond {arm.spec.joints[0]}'s range, it says that "
                f"{said.applied[0]:.2f} rad were applied")


def _moving(factory: Factory, faults: Inject) -> None:
    """Every joint goes where it is told: radians, in the spec's order and sense."""
    with _connected(factory, on=True) as arm:
        start = _watch(arm, _STILL).q
        middle = (np.array(arm.spec.q_min) + np.array(arm.spec.q_max)) / 2
        wanted = _STEP * np.arange(1, len(start) + 1) * np.where(start > middle, -1.0, 1.0)
        _stream(arm, start + wanted, 1.8)
        went = _read(arm).q - start
        for name, asked, done in zip(arm.spec.joints, wanted, went, strict=True):
            _demand(abs(done - asked) < 0.45 * _STEP,
                    f"{name} was told to move by {asked:+.2f} rad and moved by {done:+.2f}")


def _holding(factory: Factory, faults: Inject) -> None:
    """hold is legal at any time and again, and keeps torque and pose."""
    with _connected(factory) as arm:
        arm.hold()
        arm.enable(_ACK)
        start = _read(arm).q
        _stream(arm, start + 0.1 * np.where(start > 0, -1, 1), 0.6)
        before = _read(arm)
        arm.hold()
        arm.hold()
        after = _watch(arm, _STILL)
        _demand(after.mode is ArmMode.HOLDING, f"after hold it is {after.mode}")
        moved = _moved(before, after)
        _demand(moved < 0.5 * _NEAR, f"it moves by {moved:.2f} rad while it holds")


def _watchdog(factory: Factory, faults: Inject) -> None:
    """The watchdog is the one that the spec claims: it stops an arm that streams when no command
    comes, and lets an arm that holds alone."""
    with _connected(factory, on=True) as arm:
        if arm.spec.watchdog == "guard-only":
            _refuses(lambda: arm.arm_watchdog(_WATCHDOG), Unsupported, "arming no watchdog")
            return
        arm.arm_watchdog(_WATCHDOG)
        seq = _stream(arm, _read(arm).q, 0.2)
        arm.hold()
        mode = _watch(arm, 3 * _WATCHDOG).mode
        _demand(mode is ArmMode.HOLDING, f"an arm that holds is {mode} after its watchdog's time")
        _stream(arm, _read(arm).q, 0.2, seq)
        mode = _watch(arm, 3 * _WATCHDOG).mode
        _demand(mode is not ArmMode.STREAMING, "no command came, and it streams on")


def _releasing(factory: Factory, faults: Inject) -> None:
    """release switches torque off, and says so."""
    with _connected(factory, on=True) as arm:
        arm.release(_ACK)
        mode = _read(arm).mode
        _demand(mode is ArmMode.READY_OFF, f"after release it is {mode}")


def _forgiving(factory: Factory, faults: Inject) -> None:
    """Where there is no fault, clearing one is refused, so that none is cleared in advance."""
    with _connected(factory, on=True) as arm:
        _refuses(lambda: arm.clear_faults(_ACK), ArmError, "clearing no fault")


def _closing(factory: Factory, faults: Inject) -> None:
    """close holds and leaves torque on; again, it is harmless; connected again, the arm still
    holds its pose."""
    arm = factory()
    try:
        arm.connect()
        arm.enable(_ACK)
        before = _watch(arm, _STILL)
        arm.close()
        arm.close()
        _refuses(lambda: arm.read(0.1), Disconnected, "reading a closed arm")
        after = arm.connect()
        _demand(after.mode is ArmMode.HOLDING, f"connected again, it is {after.mode}")
        _demand(_moved(before, after) < _NEAR, "it has moved while it was closed")
    finally:
        arm.close()


def _latching(factory: Factory, faults: Inject) -> None:
    """A fault shows, refuses commands, lets hold be, and stays until it is cleared."""
    with _connected(factory, on=True) as arm:
        _inject(faults, arm, "overload")
        end = time.monotonic() + 2
        while not (state := _read(arm)).faults:
            _demand(time.monotonic() < end, "an overload shows no fault in 2 s")
        mode, value = _still(arm.spec, state)
        _refuses(lambda: arm.send(Command(9, mode, value, time.monotonic() + 1)), ArmError,
                 "a command during a fault")
        arm.hold()
        _inject(faults, arm, "")
        _demand(_watch(arm, _STILL).faults, "the fault has gone by itself")
        arm.clear_faults(_ACK)
        _demand(not _read(arm).faults, "the fault is still there once cleared")


def _inject(faults: Inject, arm: ArmAdapter, fault: str) -> None:
    try:
        faults(arm, fault)
    except (UserError, NotImplementedError, KeyError):
        raise Unchecked(f"its double knows no fault {fault!r}") from None


def wire(fault: str, factory: Factory, faults: Inject) -> None:
    with _connected(factory, on=True) as arm:
        last = _watch(arm, _STILL / 2)
        _inject(faults, arm, fault)
        told = 0
        for _ in range(10):
            began = time.monotonic()
            try:
                state = arm.read(0.03)
            except (Stale, BusError, Disconnected):
                state = None
            took = time.monotonic() - began
            _demand(took < 0.03 + _SLACK, f"read(0.03) took {took:.2f} s")
            if state is not None:
                told += 1
                _newer(last, state)
                last = state
        # Between replies that come twice there may be new ones.
        _demand(fault not in ("lost", "frozen", "nan") or told <= 2,
                f"{told} of 10 reads gave a state")
        _inject(faults, arm, "")
        end = time.monotonic() + 2
        while True:
            try:
                _newer(last, _read(arm))
                return
            except (Stale, BusError, Disconnected):
                _demand(time.monotonic() < end, "2 s after the wire was mended it is still down")


def _newer(last: ArmState, state: ArmState) -> None:
    _demand(np.isfinite(state.q).all() and np.isfinite(state.dq).all(), "a state holds NaN")
    moved = _moved(last, state)
    _demand(moved < _NEAR, f"an arm at rest is said to have moved by {moved:.2f} rad")
    _demand(state.seq > last.seq, f"state {state.seq} comes after {last.seq}")
    if state.t_robot is not None and last.t_robot is not None:
        _demand(state.t_robot > last.t_robot, "a state is not newer than the one before")


RULES = (_spec, _unconnected, _connecting, _measuring, _acknowledged, _enabling, _torqueless,
         _rejecting, _applying, _moving, _holding, _watchdog, _releasing, _forgiving, _closing,
         _latching)
