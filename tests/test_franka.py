"""The FR3's driver against franky-sim: franky, a third party's simulator, our driver, as shipped.

The simulator runs as fast as its machine lets it, so time here is the device's own.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("franky", reason="the extra `franka` is not installed")
pytest.importorskip("franky_sim", reason="the extra `franka-sim` is not installed")

from metarl.robot.arm import (
    ArmError,
    ArmMode,
    ArmState,
    Command,
    Disconnected,
    Mode,
    NotAcknowledged,
    OperatorAck,
    Rejected,
    Stale,
    Unsupported,
)
from metarl.robot.franka import Fr3
from metarl.testing.fr3 import FrankySim

ACK = OperatorAck("Ada", "workspace clear, stop in reach")
HOME = np.array([0, -math.pi / 4, 0, -3 * math.pi / 4, 0, math.pi / 2, math.pi / 4])


@pytest.fixture(scope="module")
def simulator() -> Iterator[FrankySim]:
    with FrankySim() as simulator:
        yield simulator


@pytest.fixture
def arm(simulator: FrankySim) -> Iterator[Fr3]:
    simulator.ask(payload=0.0)
    arm = Fr3(simulator.host, realtime=False)
    yield arm
    arm.close()


def command(seq: int, value: np.ndarray) -> Command:
    return Command(seq, Mode.JOINT_POSITION, value, expires=time.monotonic() + 10)


def clock(state: ArmState) -> float:
    assert state.t_robot is not None
    return state.t_robot


def read_for(arm: Fr3, seconds: float) -> ArmState:
    """The last state after a while of the device's time."""
    state = arm.read(5.0)
    end = clock(state) + seconds
    while clock(state) < end:
        time.sleep(0.005)
        state = arm.read(5.0)
    return state


def go(arm: Fr3, seq: int, target: np.ndarray) -> np.ndarray:
    """Where it is once it stands."""
    arm.send(command(seq, target))
    return read_for(arm, 1.5).q


def test_connecting_runs_no_control(arm: Fr3) -> None:
    state = arm.connect()
    np.testing.assert_allclose(state.q, HOME, atol=1e-3)
    assert state.mode == ArmMode.READY_OFF and state.wrench is None
    assert not arm._robot.is_in_control
    assert arm.connect().seq > state.seq


def test_a_simulator_is_not_connected_to_at_the_cost_of_others(arm: Fr3) -> None:
    before = os.sched_getscheduler(0)
    arm.connect()
    assert os.sched_getscheduler(0) == before, "whoever may would run in real time from here on"


def test_nothing_moves_before_a_person_said_so(arm: Fr3) -> None:
    with pytest.raises(Disconnected):
        arm.read(0.1)
    arm.connect()
    with pytest.raises(ArmError, match="not enabled"):
        arm.send(command(0, HOME))
    with pytest.raises(NotAcknowledged):
        arm.enable(True)  # pyright: ignore[reportArgumentType]
    arm.hold()
    assert not arm._robot.is_in_control


def test_a_sine_is_followed_from_a_pose_that_was_held(arm: Fr3) -> None:
    before = arm.connect().q
    assert arm.enable(ACK).mode == ArmMode.HOLDING
    state = read_for(arm, 0.3)
    np.testing.assert_allclose(state.q, before, atol=5e-3)
    start, found, seq = clock(state), [], 0
    while clock(state) < start + 3:
        target = before + 0.2 * np.sin(math.pi / 2 * (clock(state) - start))
        applied = arm.send(command(seq, target))
        np.testing.assert_array_equal(applied.applied, target)
        time.sleep(0.03)
        state, seq = arm.read(5.0), seq + 1
        found.append((target, state.q))
    reached = np.array(found)
    # Up to 0.31 rad/s; plans that end at rest, and the simulator's own servos, lag.
    assert np.abs(reached[:, 0] - reached[:, 1]).max() < 0.08
    assert (np.ptp(reached[:, 1], axis=0) > 0.25).all(), "0.4 from crest to crest"


def test_an_unknown_payload_is_felt(arm: Fr3, simulator: FrankySim) -> None:
    arm.connect()
    arm.enable(ACK)
    bare = go(arm, 0, HOME) - HOME
    simulator.ask(payload=3.0)
    loaded = go(arm, 1, HOME) - HOME
    # 3 kg half a metre out pull with some 15 N m at 4500 N m/rad: 3 mrad.
    assert 5e-4 < np.abs(loaded - bare).max() < 2e-2


def test_commands_that_make_no_sense_go_nowhere(arm: Fr3) -> None:
    arm.connect()
    arm.enable(ACK)
    before = go(arm, 3, HOME)
    for changes in ({"value": np.full(7, math.nan)}, {"value": np.zeros(6)}, {"seq": 3},
                    {"value": np.full(7, math.inf)}, {"expires": 0.0},
                    {"mode": Mode.JOINT_VELOCITY}):
        with pytest.raises(Rejected):
            arm.send(dataclasses.replace(command(4, HOME + 0.3), **changes))
    np.testing.assert_allclose(read_for(arm, 0.3).q, before, atol=5e-3)
    applied = arm.send(command(5, np.where(np.arange(7) == 3, 1.0, HOME)))  # the elbow, below 0
    assert applied.limits == ("position joint4",) and applied.applied[3] == -0.1518


def test_a_stream_that_ends_stops_and_latches(arm: Fr3) -> None:
    arm.connect()
    arm.enable(ACK)
    go(arm, 0, HOME)
    arm.hold()
    arm.arm_watchdog(0.2)
    time.sleep(0.3)
    assert arm.read(5.0).mode == ArmMode.HOLDING, "it holds, and waits"
    arm.send(command(1, HOME + 0.01))
    time.sleep(0.3)
    state = arm.read(5.0)
    assert state.mode == ArmMode.STOPPED and state.faults[0].code == "watchdog"
    with pytest.raises(ArmError, match="in time"):
        arm.send(command(2, HOME))
    arm.hold()
    assert arm.read(5.0).mode == ArmMode.STOPPED
    arm.clear_faults(ACK)
    assert arm.cleared == 1 and arm.read(5.0).mode == ArmMode.HOLDING
    with pytest.raises(ArmError, match="no fault"):
        arm.clear_faults(ACK)


def test_holding_stops_an_arm_that_was_sent_far_away(arm: Fr3) -> None:
    arm.connect()
    arm.enable(ACK)
    arm.send(command(0, HOME + np.array([1.5, 0, 0, 0, 0, 0, 0])))
    state = arm.read(5.0)
    while state.q[0] < 0.1:
        time.sleep(0.005)
        state = arm.read(5.0)
    arm.hold()
    assert read_for(arm, 1.5).q[0] < 1.0


def test_closing_stands_and_releasing_ends_control(arm: Fr3) -> None:
    arm.connect()
    arm.enable(ACK)
    stood = go(arm, 0, HOME)
    arm.close()
    arm.close()
    state = arm.connect()
    assert state.mode == ArmMode.HOLDING and state.faults == ()
    np.testing.assert_allclose(read_for(arm, 0.3).q, stood, atol=5e-3)
    arm.enable(ACK)
    arm.release(ACK)
    assert arm.read(5.0).mode == ArmMode.READY_OFF and not arm._robot.is_in_control


def test_a_missing_extra_is_one_line(arm: Fr3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "franky", None)
    with pytest.raises(Unsupported, match=r"pip install 'metarl\[franka\]'"):
        arm.connect()


def test_an_arm_that_is_gone_is_told(simulator: FrankySim) -> None:
    arm = Fr3(simulator.host, realtime=False)
    arm.connect()
    arm.enable(ACK)
    simulator.__exit__()  # the last test: no other can use it
    end = time.monotonic() + 10  # what is on its way still comes
    with pytest.raises((Disconnected, Stale)):
        while time.monotonic() < end:
            arm.read(0.1)
    arm.close()
    with pytest.raises(Disconnected):
        Fr3(simulator.host, realtime=False).connect()
