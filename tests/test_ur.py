"""The UR5e's driver against an emulated controller: ur_rtde and our driver, as shipped."""

import dataclasses
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rtde_control", reason="the extra `ur` is not installed")

from metarl.robot.arm import (
    ArmError,
    ArmMode,
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
)
from metarl.robot.ur import Ur5e
from metarl.testing.rtde import Ur

ACK = OperatorAck("Ada", "workspace clear, stop in reach")
HOME = np.array([-0.3, -1.9, 2.1, -1.77, -math.pi / 2, 0.0])
# What the last client left: servoj to a pose that is far away.
OLD = {"input_int_register_0": 11.0, "input_double_register_9": 0.03,
       **{f"input_double_register_{i}": 0.5 for i in range(6)}}


@pytest.fixture(scope="module")
def controller() -> Iterator[Ur]:
    with Ur(unlock_after=0.5) as controller:
        yield controller


@pytest.fixture
def arm(controller: Ur) -> Iterator[Ur5e]:
    controller.ask(registers=OLD, trouble="")
    arm = Ur5e(controller.host)
    yield arm
    controller.ask(trouble="")
    arm.close()


def command(seq: int, value: np.ndarray, **changes: object) -> Command:
    plain = Command(seq, Mode.JOINT_POSITION, value, expires=time.monotonic() + 10)
    return dataclasses.replace(plain, **changes)


def stream(arm: Ur5e, seq: int, target: Callable[[float], np.ndarray], seconds: float
           ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where it was told to be at 100 Hz, and where it was."""
    found = []
    for step in range(round(seconds * 100)):
        wanted = target(step * 0.01)
        arm.send(command(seq + step, wanted))
        time.sleep(0.01)
        found.append((wanted, arm.read(1.0).q))
    return found


def read_for(arm: Ur5e, seconds: float) -> ArmState:
    for _ in range(round(seconds * 100)):
        time.sleep(0.01)
        arm.read(1.0)
    return arm.read(1.0)


def test_connecting_only_reads(arm: Ur5e, controller: Ur) -> None:
    state = arm.connect()
    np.testing.assert_allclose(state.q, HOME, atol=1e-9)
    assert state.mode == ArmMode.READY_OFF and state.tau is None and state.t_robot is not None
    assert arm.connect().seq > state.seq
    assert controller.ask()["written"] == 0


def test_nothing_moves_before_a_person_said_so(arm: Ur5e, controller: Ur) -> None:
    with pytest.raises(Disconnected):
        arm.read(0.1)
    arm.connect()
    with pytest.raises(ArmError, match="not enabled"):
        arm.send(command(0, HOME))
    with pytest.raises(NotAcknowledged):
        arm.enable(None)  # pyright: ignore[reportArgumentType]
    arm.hold()
    assert controller.ask()["written"] == 0


def test_enabling_stands_whatever_the_last_client_left_in_the_registers(arm: Ur5e) -> None:
    arm.connect()
    assert arm.enable(ACK).mode == ArmMode.HOLDING
    np.testing.assert_allclose(read_for(arm, 0.3).q, HOME, atol=1e-3)


def test_a_sine_is_followed(arm: Ur5e) -> None:
    arm.connect()
    arm.enable(ACK)
    found = np.array(stream(arm, 0, lambda t: HOME + 0.2 * np.sin(math.pi * t), 2.0))
    # Speeds up to 0.63 rad/s; servoj looks 0.05 s ahead and the joints lag by 0.1 s more.
    assert np.abs(found[:, 0] - found[:, 1]).max() < 0.15
    assert (np.ptp(found[:, 1], axis=0) > 0.3).all(), "0.4 from crest to crest"


def test_targets_beyond_the_limits_are_told(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    arm.enable(ACK)
    wanted = HOME.copy()
    wanted[2] = 4.0  # the elbow turns by pi
    applied = arm.send(command(0, wanted))
    assert applied.limits == ("position joint3",) and applied.applied[2] == math.pi
    time.sleep(0.1)
    told = controller.ask()
    np.testing.assert_array_equal(
        [told[f"input_double_register_{i}"] for i in range(6)], applied.applied)


def test_a_command_that_makes_no_sense_goes_nowhere(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    arm.enable(ACK)
    arm.send(command(3, HOME))
    time.sleep(0.05)
    before = controller.ask()["written"]
    for changes in ({"value": np.full(6, math.nan)}, {"value": np.zeros(5)}, {"seq": 3},
                    {"value": np.full(6, -math.inf)}, {"expires": 0.0},
                    {"mode": Mode.JOINT_VELOCITY}):
        with pytest.raises(Rejected):
            arm.send(dataclasses.replace(command(4, HOME), **changes))
    time.sleep(0.05)
    assert controller.ask()["written"] == before


def test_holding_stops_closing_stands_and_releasing_cuts_power(
    arm: Ur5e, controller: Ur
) -> None:
    arm.connect()
    arm.enable(ACK)
    stream(arm, 0, lambda t: HOME + min(t, 0.3), 0.3)
    arm.hold()
    arm.hold()
    first = read_for(arm, 0.4)
    assert first.mode == ArmMode.HOLDING
    np.testing.assert_allclose(read_for(arm, 0.3).q, first.q, atol=5e-3)
    arm.close()
    arm.close()
    told = controller.ask()
    assert told["robot_mode"] == 7 and told["runtime_state"] == 1 and told["safety_mode"] == 1
    assert arm.connect().mode == ArmMode.HOLDING
    np.testing.assert_allclose(arm.enable(ACK).q, first.q, atol=2e-3)
    arm.release(ACK)
    assert read_for(arm, 0.1).mode == ArmMode.READY_OFF
    assert controller.ask()["robot_mode"] == 3


def test_the_device_stops_when_no_command_comes(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    with pytest.raises(ArmError, match="enable"):
        arm.arm_watchdog(0.7)
    arm.enable(ACK)
    arm.arm_watchdog(0.7)
    assert read_for(arm, 1.0).mode == ArmMode.HOLDING, "it holds, and is read"
    stream(arm, 0, lambda t: HOME, 0.1)
    time.sleep(1.1)
    state = arm.read(1.0)
    assert controller.ask()["safety_mode"] == 3
    assert state.mode == ArmMode.STOPPED and state.faults[0].code == "protective stop"
    with pytest.raises(ArmError, match="protective stop"):
        arm.send(command(100, HOME))
    arm.hold()
    time.sleep(0.5)  # it unlocks half a second after the stop
    arm.clear_faults(ACK)
    assert arm.cleared == 1 and arm.read(1.0).mode == ArmMode.HOLDING
    stream(arm, 101, lambda t: HOME, 0.1)
    time.sleep(1.1)
    assert controller.ask()["safety_mode"] == 3, "the fresh program has a watchdog too"


def test_a_protective_stop_latches(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    arm.enable(ACK)
    with pytest.raises(ArmError, match="no fault"):
        arm.clear_faults(ACK)
    controller.ask(trouble="overload")
    with pytest.raises(ArmError):
        arm.clear_faults(ACK)  # too early for the controller, or not yet heard of
    assert read_for(arm, 0.2).mode == ArmMode.STOPPED
    time.sleep(0.5)
    assert arm.read(1.0).mode == ArmMode.STOPPED
    arm.clear_faults(ACK)
    arm.send(command(0, HOME))


def test_a_wire_that_fails_is_told_and_mends(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    for trouble, error in (("lost", Stale), ("late", Stale), ("frozen", Stale), ("nan", BusError)):
        controller.ask(trouble=trouble)
        with pytest.raises(error):
            for _ in range(10):
                arm.read(0.03)
        controller.ask(trouble="")
        time.sleep(0.1)
        np.testing.assert_allclose(arm.read(1.0).q, HOME, atol=1e-3, err_msg=trouble)


def test_a_packet_is_never_older_than_the_one_before(arm: Ur5e, controller: Ur) -> None:
    arm.connect()
    for trouble in ("duplicated", "reordered"):
        controller.ask(trouble=trouble)
        stamps = [arm.read(1.0).t_robot or 0.0 for _ in range(20)]
        assert stamps == sorted(set(stamps)), trouble


def test_a_controller_that_is_gone_is_told() -> None:
    with Ur() as controller:
        arm = Ur5e(controller.host)
        arm.connect()
    with pytest.raises((Disconnected, Stale)):
        for _ in range(100):
            arm.read(0.05)
    arm.close()
    with pytest.raises(Disconnected):
        Ur5e(controller.host).connect()


def test_a_missing_extra_is_one_line(arm: Ur5e, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rtde_receive", None)
    with pytest.raises(Unsupported, match=r"pip install 'metarl\[ur\]'"):
        arm.connect()


@pytest.mark.parametrize("module", ["rtde", "servo_bus"])
def test_a_double_that_nobody_talks_to_serves_until_it_is_stopped(module: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", f"metarl.testing.{module}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as double:
        assert double.stdout is not None and json.loads(double.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            double.wait(0.5)
        double.kill()


def test_a_slip_of_the_person_at_a_double_does_not_end_it(controller: Ur) -> None:
    assert controller._process.stdin is not None
    controller._process.stdin.write("\nwhat\n[1]\n")
    assert controller.ask(account=1)
