"""An arm behind the guard with LeRobot's verbs; nothing here needs LeRobot."""

import math
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from metarl.robot.arm import ArmError, Disconnected, OperatorAck, Rejected
from metarl.robot.client import GuardLink
from metarl.robot.guarded import GuardedArm
from metarl.robot.link import Phase

FPS = 30.0  # Hz, of actions here


def made(**said: Any) -> GuardedArm:
    settings = {"arm": "twin", "options": {"arm": "so101"}, "limits": {}, "joints": "",
                "zeros": "", "least_fps": 10.0, "live": False, "operator": ""}
    return GuardedArm(SimpleNamespace(**settings | said))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def arm() -> Iterator[GuardedArm]:
    arm = made()
    arm.connect()
    yield arm
    arm.disconnect()


def drive(arm: GuardedArm, action: dict[str, float], seconds: float) -> list[dict[str, float]]:
    """What was sent, action by action, at a steady pace."""
    sent = []
    for _ in range(round(seconds * FPS)):
        sent.append(arm.send_action(action))
        time.sleep(1 / FPS)
    return sent


def measured(arm: GuardedArm) -> np.ndarray:
    """rad, from the guard itself."""
    assert arm._guard is not None
    link = arm._guard.link()
    q = link.report(1.0).state.q
    link.close()
    return q


def test_its_features_are_an_so101s_and_need_no_connection() -> None:
    arm = made(arm="so101", options={"port": "none", "calibration": "none", "gripper": True})
    assert [*arm.observation_features] == [
        "shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos",
        "wrist_roll.pos", "gripper.pos"]
    assert arm.action_features == arm.observation_features and not arm.is_connected
    assert next(iter(made(options={"arm": "fr3"}).action_features)) == "joint1.pos"
    with pytest.raises(Disconnected):
        arm.get_observation()


def test_ten_degrees_that_are_asked_for_are_ten_degrees_of_the_arm(arm: GuardedArm) -> None:
    start = arm.get_observation()
    assert start["wrist_flex.pos"] == pytest.approx(math.degrees(1.2), abs=2)
    before = measured(arm)
    sent = drive(arm, start | {"shoulder_pan.pos": 10.0}, 0.8)
    went = measured(arm) - before
    assert went[0] == pytest.approx(10 * math.pi / 180, abs=0.01)
    assert sent[-1]["shoulder_pan.pos"] == pytest.approx(10, abs=0.1)


def test_what_turns_the_other_way_does_so_both_ways() -> None:
    arm = made(joints="-pan lift elbow wrist roll", zeros="5 0 0 0 0")
    arm.connect()
    try:
        start = arm.get_observation()
        assert start["pan.pos"] == pytest.approx(5.0, abs=0.1)
        drive(arm, start | {"pan.pos": 15.0}, 0.8)
        assert measured(arm)[0] == pytest.approx(-10 * math.pi / 180, abs=0.01)
        assert arm.get_observation()["pan.pos"] == pytest.approx(15.0, abs=0.5)
    finally:
        arm.disconnect()


def test_the_guard_is_between_an_action_and_the_arm() -> None:
    arm = made(limits={"q_max": [1.8, 1.6, 1.6, 1.6, 0.5]})  # rad
    arm.connect()
    try:
        start = arm.get_observation()
        roll = [it["wrist_roll.pos"]
                for it in drive(arm, start | {"wrist_roll.pos": 500.0}, 1.0)]
    finally:
        arm.disconnect()
    # No jump: 20 rad/s^2 make 0.8 rad/s, 46 degrees/s, in a frame of 40 ms.
    assert roll[0] < 2.0
    # The limit is at 0.5 rad, 28.65 degrees.
    assert 28 < max(roll) <= math.degrees(0.5) + 1e-6


@pytest.mark.parametrize(("change", "said"), [
    ({"elbow_flex.pos": math.nan}, "not finite"), ({"elbow_flex.pos": "up"}, "no number"),
    ({"hip.pos": 1.0}, r"no hip\.pos"), ({"elbow_flex.pos": None}, "no number")])
def test_an_action_that_makes_no_sense_goes_nowhere(
    arm: GuardedArm, change: dict[str, Any], said: str
) -> None:
    start = arm.get_observation()
    with pytest.raises(Rejected, match=said):
        arm.send_action(start | change)
    assert arm._report().seq == -1


def test_a_pause_is_a_rest_and_the_next_action_goes_on(arm: GuardedArm) -> None:
    start = arm.get_observation()
    drive(arm, start | {"shoulder_pan.pos": 30.0}, 0.4)
    time.sleep(0.6)
    report = arm._report()
    assert report.phase is Phase.HOLDING and report.reason == ""
    there = arm.get_observation()["shoulder_pan.pos"]
    time.sleep(0.2)
    assert arm.get_observation()["shoulder_pan.pos"] == pytest.approx(there, abs=0.2)
    drive(arm, start, 0.8)
    assert arm.get_observation()["shoulder_pan.pos"] == pytest.approx(0, abs=1)


def test_a_process_that_stands_still_is_no_pause(arm: GuardedArm) -> None:
    start = arm.get_observation()
    drive(arm, start, 0.2)
    arm._ended.set()  # what watches for pauses stands still, too
    time.sleep(0.5)
    assert arm._report().phase is Phase.LATCHED
    with pytest.raises(ArmError, match="disconnect and connect again"):
        arm.send_action(start)


def test_a_fault_ends_the_loop_with_its_reason() -> None:
    arm = made(options={"arm": "so101", "fault": "overload", "fault_at": 0.2})
    arm.connect()
    try:
        start = arm.get_observation()
        with pytest.raises(ArmError, match="latched: fault: joint2 is overloaded"):
            drive(arm, start, 3.0)
    finally:
        arm.disconnect()


def test_nobody_moves_an_arm_without_a_name() -> None:
    arm = made(arm="so101", options={"port": "none", "calibration": "none"}, live=True)
    with pytest.raises(ArmError, match="operator=NAME"):
        arm.connect()
    assert not arm.is_connected


def test_an_arm_that_does_not_answer_leaves_no_guard_behind() -> None:
    arm = made(arm="so101", options={"port": "none", "calibration": "none"})
    with pytest.raises(ArmError):
        arm.connect()
    assert not arm.is_connected
    arm.disconnect()


def test_an_arm_that_is_not_enabled_leaves_no_guard_behind_either(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(link: GuardLink, ack: OperatorAck) -> None:
        raise ArmError("outside its limits")

    monkeypatch.setattr(GuardLink, "enable", refuse)
    arm = made()
    with pytest.raises(ArmError, match="outside"):
        arm.connect()
    assert not arm.is_connected


def test_it_connects_again_after_it_was_disconnected(arm: GuardedArm) -> None:
    arm.disconnect()
    assert not arm.is_connected
    arm.connect()
    assert arm.is_connected
    drive(arm, arm.get_observation(), 0.2)
    with pytest.raises(ArmError, match="already"):
        arm.connect()
