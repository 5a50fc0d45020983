"""The rules that an adapter of an arm must keep to, each a function whose docstring is its claim.

A rule gets a factory of adapters and a way to make their doubles fail. It raises ArmError where it
is broken, and Unchecked where it cannot be seen.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from metarl.robot.arm import (
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Mode,
    NotAcknowledged,
    Rejected,
    Stale,
    Unsupported,
)
from metarl.testing.conformance_parts import (
    ACK,
    NEAR,
    ON,
    SLACK,
    STEP,
    STILL,
    WATCHDOG,
    Factory,
    Inject,
    Unchecked,
    connected,
    demand,
    distance,
    inject,
    read,
    refuses,
    still,
    stream,
    watch,
)


def _spec(factory: Factory, faults: Inject) -> None:
    """Its spec can be read with no connection, and is the same every time."""
    one, other = factory(), factory()
    demand(isinstance(one.spec, ArmSpec), "`spec` is no ArmSpec")
    demand(one.spec.digest() == other.spec.digest(), "two of it have different specs")
    demand(one.spec.modes, "it takes no commands at all: `modes` is empty")
    demand({"q", "dq"} <= one.spec.senses, "`senses` must name q and dq")


def _unconnected(factory: Factory, faults: Inject) -> None:
    """Before it is connected, reading it raises Disconnected."""
    refuses(lambda: factory().read(0.1), Disconnected, "reading an arm that is not connected")


def _connecting(factory: Factory, faults: Inject) -> None:
    """connect opens the transport and does nothing else; doing it again is harmless."""
    arm = factory()
    try:
        first = arm.connect()
        demand(first.mode is ArmMode.READY_OFF,
                f"a fresh arm is {first.mode} once connected, where torque should be off")
        again = arm.connect()
        demand(again.mode is first.mode, f"connected again, it is {again.mode}")
        moved = distance(first, watch(arm, STILL))
        demand(moved < NEAR, f"it moves by {moved:.2f} rad once connected")
    finally:
        arm.close()


def _measuring(factory: Factory, faults: Inject) -> None:
    """A state has finite float64 vectors for what is sensed, None for what is not, a seq that
    grows, and the time when it was captured."""
    with connected(factory) as arm:
        joints, last = len(arm.spec.joints), read(arm)
        for _ in range(5):
            began = time.monotonic()
            state = read(arm)
            for name in ("q", "dq", "tau", "wrench", "temperature", "current"):
                value = getattr(state, name)
                sensed = name in arm.spec.senses
                demand((value is not None) == sensed,
                        f"{name} is {'None' if sensed else 'given'}, but `senses` "
                        f"{'names' if sensed else 'does not name'} it")
                if value is not None:
                    shape = (6,) if name == "wrench" else (joints,)
                    demand(isinstance(value, np.ndarray) and value.dtype == np.float64
                            and value.shape == shape and np.isfinite(value).all(),
                            f"{name} must be {shape} finite float64 numbers")
            demand(state.seq > last.seq, f"seq {state.seq} comes after {last.seq}")
            demand(began - 1.0 < state.t_host <= time.monotonic(),
                    "t_host is not the monotonic time of capture")
            last = state


def _acknowledged(factory: Factory, faults: Inject) -> None:
    """Torque on, torque off and clearing faults need an operator's acknowledgement."""
    with connected(factory) as arm:
        for verb in ("enable", "release", "clear_faults"):
            refuses(lambda verb=verb: getattr(arm, verb)(None), NotAcknowledged,
                     f"{verb} without an acknowledgement")


def _enabling(factory: Factory, faults: Inject) -> None:
    """enable holds the pose that is measured."""
    with connected(factory) as arm:
        before = read(arm)
        after = arm.enable(ACK)
        demand(after.mode in ON, f"after enable it is {after.mode}")
        moved = distance(before, watch(arm, STILL))
        demand(moved < NEAR, f"enable moves it by {moved:.2f} rad")


def _torqueless(factory: Factory, faults: Inject) -> None:
    """With torque off, a command is refused and switches nothing on."""
    with connected(factory) as arm:
        mode, value = still(arm.spec, read(arm))
        refuses(lambda: arm.send(Command(0, mode, value, time.monotonic() + 1)), ArmError,
                 "a command with torque off")
        demand(read(arm).mode is ArmMode.READY_OFF, "the command has switched torque on")


def _rejecting(factory: Factory, faults: Inject) -> None:
    """What is not finite, has another width, is old or repeated, or has expired is rejected, never
    clamped."""
    with connected(factory, on=True) as arm:
        mode, value = still(arm.spec, read(arm))

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
            refuses(act, Rejected, what)
        send(7, value)


def _applying(factory: Factory, faults: Inject) -> None:
    """Applied says what was written, after every clamp, and why it is not what was asked for."""
    with connected(factory, on=True) as arm:
        if Mode.JOINT_POSITION not in arm.spec.modes:
            raise Unchecked("it takes no positions")
        wanted = read(arm).q
        said = arm.send(Command(3, Mode.JOINT_POSITION, wanted, time.monotonic() + 1))
        demand(said.seq == 3 and np.array_equal(said.requested, wanted),
                "Applied does not repeat the seq and the value of its command")
        demand(said.applied.shape == wanted.shape
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
        demand(said.applied[0] <= arm.spec.q_max[0] + 1e-9 and said.limits,
                f"asked for {far[0]:.2f} rad, beyond {arm.spec.joints[0]}'s range, it says that "
                f"{said.applied[0]:.2f} rad were applied")


def _moving(factory: Factory, faults: Inject) -> None:
    """Every joint goes where it is told: radians, in the spec's order and sense."""
    with connected(factory, on=True) as arm:
        start = watch(arm, STILL).q
        middle = (np.array(arm.spec.q_min) + np.array(arm.spec.q_max)) / 2
        wanted = STEP * np.arange(1, len(start) + 1) * np.where(start > middle, -1.0, 1.0)
        stream(arm, start + wanted, 1.8)
        went = read(arm).q - start
        for name, asked, done in zip(arm.spec.joints, wanted, went, strict=True):
            demand(abs(done - asked) < 0.45 * STEP,
                    f"{name} was told to move by {asked:+.2f} rad and moved by {done:+.2f}")


def _holding(factory: Factory, faults: Inject) -> None:
    """hold is legal at any time and again, and keeps torque and pose."""
    with connected(factory) as arm:
        arm.hold()
        arm.enable(ACK)
        start = read(arm).q
        stream(arm, start + 0.1 * np.where(start > 0, -1, 1), 0.6)
        before = read(arm)
        arm.hold()
        arm.hold()
        after = watch(arm, STILL)
        demand(after.mode is ArmMode.HOLDING, f"after hold it is {after.mode}")
        moved = distance(before, after)
        demand(moved < 0.5 * NEAR, f"it moves by {moved:.2f} rad while it holds")


def _watchdog(factory: Factory, faults: Inject) -> None:
    """The watchdog is the one that the spec claims: it stops an arm that streams when no command
    comes, and lets an arm that holds alone."""
    with connected(factory, on=True) as arm:
        if arm.spec.watchdog == "guard-only":
            refuses(lambda: arm.arm_watchdog(WATCHDOG), Unsupported, "arming no watchdog")
            return
        arm.arm_watchdog(WATCHDOG)
        seq = stream(arm, read(arm).q, 0.2)
        arm.hold()
        mode = watch(arm, 3 * WATCHDOG).mode
        demand(mode is ArmMode.HOLDING, f"an arm that holds is {mode} after its watchdog's time")
        stream(arm, read(arm).q, 0.2, seq)
        mode = watch(arm, 3 * WATCHDOG).mode
        demand(mode is not ArmMode.STREAMING, "no command came, and it streams on")


def _releasing(factory: Factory, faults: Inject) -> None:
    """release switches torque off, and says so."""
    with connected(factory, on=True) as arm:
        arm.release(ACK)
        mode = read(arm).mode
        demand(mode is ArmMode.READY_OFF, f"after release it is {mode}")


def _forgiving(factory: Factory, faults: Inject) -> None:
    """Where there is no fault, clearing one is refused, so that none is cleared in advance."""
    with connected(factory, on=True) as arm:
        refuses(lambda: arm.clear_faults(ACK), ArmError, "clearing no fault")


def _closing(factory: Factory, faults: Inject) -> None:
    """close holds and leaves torque on; again, it is harmless; connected again, the arm still
    holds its pose."""
    arm = factory()
    try:
        arm.connect()
        arm.enable(ACK)
        before = watch(arm, STILL)
        arm.close()
        arm.close()
        refuses(lambda: arm.read(0.1), Disconnected, "reading a closed arm")
        after = arm.connect()
        demand(after.mode is ArmMode.HOLDING, f"connected again, it is {after.mode}")
        demand(distance(before, after) < NEAR, "it has moved while it was closed")
    finally:
        arm.close()


def _latching(factory: Factory, faults: Inject) -> None:
    """A fault shows, refuses commands, lets hold be, and stays until it is cleared."""
    with connected(factory, on=True) as arm:
        inject(faults, arm, "overload")
        end = time.monotonic() + 2
        while not (state := read(arm)).faults:
            demand(time.monotonic() < end, "an overload shows no fault in 2 s")
        mode, value = still(arm.spec, state)
        refuses(lambda: arm.send(Command(9, mode, value, time.monotonic() + 1)), ArmError,
                 "a command during a fault")
        arm.hold()
        inject(faults, arm, "")
        demand(watch(arm, STILL).faults, "the fault has gone by itself")
        arm.clear_faults(ACK)
        demand(not read(arm).faults, "the fault is still there once cleared")


def wire(fault: str, factory: Factory, faults: Inject) -> None:
    with connected(factory, on=True) as arm:
        last = watch(arm, STILL / 2)
        inject(faults, arm, fault)
        told, times = 0, []
        for _ in range(10):
            began = time.monotonic()
            try:
                state = arm.read(0.03)
            except (Stale, BusError, Disconnected):
                state = None
            times.append(time.monotonic() - began)
            if state is not None:
                told += 1
                _newer(last, state)
                last = state
        # A busy machine may leave a process alone for a second, but not in one read after another.
        late = [took for took in times if took > 0.03 + SLACK]
        demand(len(late) <= 2, f"{len(late)} of 10 times read(0.03) was late: it took up to "
                               f"{max(times):.2f} s")
        # Between replies that come twice there may be new ones.
        demand(fault not in ("lost", "frozen", "nan") or told <= 2,
                f"{told} of 10 reads gave a state")
        inject(faults, arm, "")
        end = time.monotonic() + 2
        while True:
            try:
                _newer(last, read(arm))
                return
            except (Stale, BusError, Disconnected):
                demand(time.monotonic() < end, "2 s after the wire was mended it is still down")


def _newer(last: ArmState, state: ArmState) -> None:
    demand(np.isfinite(state.q).all() and np.isfinite(state.dq).all(), "a state holds NaN")
    moved = distance(last, state)
    demand(moved < NEAR, f"an arm at rest is said to have moved by {moved:.2f} rad")
    demand(state.seq > last.seq, f"state {state.seq} comes after {last.seq}")
    if state.t_robot is not None and last.t_robot is not None:
        demand(state.t_robot > last.t_robot, "a state is not newer than the one before")


RULES = (_spec, _unconnected, _connecting, _measuring, _acknowledged, _enabling, _torqueless,
         _rejecting, _applying, _moving, _holding, _watchdog, _releasing, _forgiving, _closing,
         _latching)
