"""A LeRobot robot as an arm: numbers, their units and their order; nothing here needs LeRobot."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from metarl.robot.arm import (
    ArmError,
    ArmMode,
    BusError,
    Command,
    Disconnected,
    Mode,
    OperatorAck,
    Rejected,
    Stale,
    Unsupported,
)
from metarl.robot.joints import Joints
from metarl.robot.lerobot import FromLeRobot, LeRobotArm, spec_named
from metarl.robot.registry import make_arm
from metarl.testing.conformance import Verdict, checks, judge
from metarl.testing.lerobot_body import NAMES, BodyRobot

ACK = OperatorAck("Ada", "workspace clear, stop in reach")
SPEC = spec_named("so101")
HOME = np.array([0.0, -0.4, 0.4, 1.2, 0.0])  # rad


def arm_of(robot: BodyRobot, gripper: str = "", rate: float = 50.0, **words: str) -> FromLeRobot:
    return FromLeRobot(lambda: robot, SPEC, Joints.of(SPEC, **words), gripper, rate)


def command(seq: int, value: np.ndarray, gripper: float | None = None) -> Command:
    return Command(seq, Mode.JOINT_POSITION, value, time.monotonic() + 10, gripper)


@pytest.fixture
def robot() -> BodyRobot:
    return BodyRobot()


@pytest.fixture
def arm(robot: BodyRobot) -> Iterator[FromLeRobot]:
    arm = arm_of(robot)
    yield arm
    robot.inject("")
    arm.close()


def settle(robot: BodyRobot, arm: FromLeRobot, target: np.ndarray) -> np.ndarray:
    """Where the body really is a second after a target was sent from there."""
    arm.send(command(arm._after + 1, target))
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        arm.read(0.5)
    return robot.body.data.qpos[:5].copy()


# The mapping, by hand.


def test_degrees_become_radians_in_the_arms_order_and_sense() -> None:
    # Their elbow turns the other way and tells 90 where our angle is 0.
    joints = Joints.of(SPEC, "-elbow_flex shoulder_pan wrist_flex wrist_roll shoulder_lift",
                       zeros="90 0 0 0 0")
    said = {"shoulder_pan.pos": 180.0, "shoulder_lift.pos": -45.0, "elbow_flex.pos": 30.0,
            "wrist_flex.pos": 0.0, "wrist_roll.pos": 60.0, "gripper.pos": 7.0}
    q = joints.angles(said)
    # -(30 - 90) = 60 degrees, then 180, 0, 60 and -45.
    np.testing.assert_allclose(q, np.pi * np.array([1 / 3, 1, 0, 1 / 3, -1 / 4]))
    back = joints.numbers(q)
    assert back == pytest.approx({key: said[key] for key in back})
    assert "gripper.pos" not in back


def test_without_words_the_joints_are_an_so101s_in_degrees() -> None:
    joints = Joints.of(SPEC)
    assert joints.names == NAMES and joints.unit == "degrees"
    assert joints.numbers(HOME)["wrist_flex.pos"] == pytest.approx(1.2 * 180 / math.pi)


@pytest.mark.parametrize(("words", "said"), [
    ({"unit": "normalised"}, "shares of a calibrated range"),
    ({"names": "a b c d"}, "5 different joints"),
    ({"names": "a b c d -a"}, "5 different joints"),
    ({"zeros": "1 2"}, "5 different joints"),
    ({"zeros": "a b c d e"}, "numbers in degrees"),
])
def test_a_mapping_that_makes_no_sense_is_refused(words: dict[str, str], said: str) -> None:
    with pytest.raises(ArmError, match=said):
        Joints.of(SPEC, **words)


@pytest.mark.parametrize("said", [{}, {"elbow_flex.pos": math.nan}, {"elbow_flex.pos": None},
                                  {"elbow_flex.pos": "up"}])
def test_a_number_that_is_none_is_an_error_and_no_zero(said: dict[str, object]) -> None:
    whole = {f"{name}.pos": 0.0 for name in NAMES if name != "elbow_flex"}
    with pytest.raises(BusError, match=r"elbow_flex\.pos"):
        Joints.of(SPEC).angles(whole | said)


# The arm.


def test_connecting_tells_the_bodys_angles_and_sends_nothing(
    robot: BodyRobot, arm: FromLeRobot
) -> None:
    with pytest.raises(Disconnected):
        arm.read(0.1)
    state = arm.connect()
    np.testing.assert_allclose(state.q, HOME, atol=0.1)  # it sags
    assert state.mode == ArmMode.READY_OFF and robot.sent == 0
    assert state.t_robot is None and state.tau is None and state.gripper is None
    with pytest.raises(ArmError, match="not enabled"):
        arm.send(command(0, HOME))


def test_each_joint_of_the_body_moves_by_the_radians_that_were_asked_for(
    robot: BodyRobot, arm: FromLeRobot
) -> None:
    # Seen from the body, for a mapping that errs the same way both ways looks right from within.
    arm.connect()
    arm.enable(ACK)
    before = settle(robot, arm, HOME)
    wanted = np.array([0.1, -0.2, 0.3, -0.4, 0.5])
    went = settle(robot, arm, HOME + wanted) - before
    np.testing.assert_allclose(went, wanted, atol=0.04)  # its servos sag under its weight


def test_what_libraries_print_is_kept_from_the_guards_output(
    arm: FromLeRobot, capsys: pytest.CaptureFixture[str]
) -> None:
    arm.connect()
    said = capsys.readouterr()
    assert said.out == "" and "hello from a library" in said.err


def test_a_robot_without_a_calibration_is_left_alone(
    robot: BodyRobot, arm: FromLeRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BodyRobot, "is_calibrated", False)
    with pytest.raises(Disconnected, match="lerobot-calibrate"):
        arm.connect()
    assert not robot.is_connected and robot.torque, "and nothing falls"


def test_an_arm_beyond_its_stops_is_not_enabled(robot: BodyRobot) -> None:
    # Told 0, of which 150 are the zero: 150 degrees, where the stop is at 110.
    arm = arm_of(robot, zeros="-150 0 0 0 0")
    arm.connect()
    with pytest.raises(ArmError, match=r"joint1 of so101 is at 2\.6"):
        arm.enable(ACK)
    assert robot.sent == 0
    arm.close()


def test_speeds_are_those_of_the_body(robot: BodyRobot, arm: FromLeRobot) -> None:
    arm.connect()
    arm.enable(ACK)
    before = settle(robot, arm, HOME)
    told, real, start = [], [], time.monotonic()
    for _ in range(25):
        ahead = np.array([0.5, 0, 0, 0, 0]) * (time.monotonic() - start)  # 0.5 rad/s
        arm.send(command(arm._after + 1, before + ahead))
        told.append(arm.read(0.5).dq[0])
        real.append(robot.body.data.qvel[0])
        time.sleep(0.045)
    assert np.median(told[8:]) == pytest.approx(0.5, rel=0.15)
    assert np.median(real[8:]) == pytest.approx(0.5, rel=0.15)


def test_a_robot_that_tells_shares_of_a_range_is_refused() -> None:
    with pytest.raises(ArmError, match=r"range_m100_100, not in degrees.*use_degrees"):
        arm_of(BodyRobot("range_m100_100")).connect()
    robot = BodyRobot("range_m100_100", bus=False)
    robot.config = SimpleNamespace(use_degrees=False)
    with pytest.raises(ArmError, match="no angles"):
        arm_of(robot).connect()


def test_a_robot_with_other_joints_is_refused_and_told_apart(robot: BodyRobot) -> None:
    with pytest.raises(ArmError, match=r"no hip\.pos; it tells shoulder_pan\.pos"):
        arm_of(robot, names="hip shoulder_pan elbow_flex wrist_flex wrist_roll").connect()


def test_what_the_robot_says_that_it_sent_is_what_was_applied(
    robot: BodyRobot, arm: FromLeRobot, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm.connect()
    arm.enable(ACK)
    sent: list[float] = []

    def modest(action: dict[str, float]) -> dict[str, float]:
        sent.append(action["elbow_flex.pos"])
        return action | {"elbow_flex.pos": 5.0}  # degrees, its own limit

    monkeypatch.setattr(robot, "send_action", modest)
    said = arm.send(command(0, HOME))
    assert sent == [pytest.approx(math.degrees(0.4))]
    assert said.applied[2] == pytest.approx(math.radians(5)) and said.limits == ("robot joint3",)
    beyond = arm.send(command(1, np.array([9.0, 0, 0.0873, 0, 0])))
    assert beyond.applied[0] == pytest.approx(1.91986) and "position joint1" in beyond.limits
    monkeypatch.setattr(robot, "send_action", lambda action: {})
    with pytest.raises(BusError, match="no number"):
        arm.send(command(2, HOME))


def test_the_gripper_goes_from_0_to_1_and_stays_when_it_is_not_named(robot: BodyRobot) -> None:
    arm = arm_of(robot, gripper="gripper")
    assert arm.spec.gripper and "gripper" in arm.spec.senses
    robot._opening = 30.0
    assert arm.connect().gripper == 0.3
    arm.enable(ACK)
    arm.send(command(0, HOME, gripper=0.8))
    assert robot._opening == 80.0
    arm.send(command(1, HOME))
    assert robot._opening == 80.0 and arm.read(0.5).gripper == 0.8
    arm.close()


def test_closing_keeps_torque_and_releasing_lets_go(robot: BodyRobot, arm: FromLeRobot) -> None:
    arm.connect()
    arm.enable(ACK)
    arm.close()
    assert robot.torque and not robot.is_connected
    assert arm.connect().mode == ArmMode.HOLDING
    arm.enable(ACK)
    arm.release(ACK)
    assert not robot.torque and arm.read(0.5).mode == ArmMode.READY_OFF
    arm.enable(ACK)
    assert robot.torque


def test_an_answer_that_does_not_come_is_stale_in_time_and_its_number_is_old(
    robot: BodyRobot, arm: FromLeRobot
) -> None:
    arm.connect()
    robot.inject("late")
    asked = time.monotonic()
    with pytest.raises(Stale):
        arm.read(0.02)
    state = arm.read(1.0)
    assert state.t_host < asked + 0.02, "it tells of when it was asked, not of when it came"


def test_a_command_waits_no_longer_than_it_lives(robot: BodyRobot, arm: FromLeRobot) -> None:
    arm.connect()
    arm.enable(ACK)
    sent = robot.sent
    robot.inject("late")
    with pytest.raises(Stale):
        arm.read(0.02)  # the robot is busy with this
    with pytest.raises(Stale):
        arm.send(Command(0, Mode.JOINT_POSITION, HOME, time.monotonic() + 0.05))
    arm.read(1.0)
    robot.inject("")
    arm.read(1.0)
    assert robot.sent == sent, "nobody hears of a command that has expired"


def test_a_robot_that_is_gone_is_disconnected(robot: BodyRobot, arm: FromLeRobot) -> None:
    arm.connect()
    robot.inject("gone")
    with pytest.raises(Disconnected):
        arm.read(0.5)
    with pytest.raises(Disconnected):
        arm.read(0.5)


def test_there_is_no_watchdog_and_no_fault_to_clear(arm: FromLeRobot) -> None:
    assert arm.spec.watchdog == "guard-only"
    with pytest.raises(Unsupported):
        arm.arm_watchdog(0.1)
    with pytest.raises(ArmError, match="no faults"):
        arm.clear_faults(ACK)


def test_nonsense_is_rejected_and_never_reaches_the_robot(
    robot: BodyRobot, arm: FromLeRobot
) -> None:
    arm.connect()
    arm.enable(ACK)
    sent = robot.sent
    for value in (np.full(5, np.nan), np.zeros(6), np.zeros(5, np.float32)):
        with pytest.raises(Rejected):
            arm.send(command(0, value))
    assert robot.sent == sent


def test_lerobot_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lerobot.robots", None)
    arm = make_arm("lerobot", {"config": "robot.yaml"})
    assert isinstance(arm, LeRobotArm) and arm.spec.model == "so101"
    with pytest.raises(Unsupported, match=r"pip install 'metarl\[lerobot\]'"):
        arm.connect()


def test_an_arm_that_is_not_known_comes_from_a_file(tmp_path) -> None:
    file = tmp_path / "arm.json"
    file.write_text(SPEC.to_json())
    made = make_arm("lerobot", {"config": "robot.yaml", "arm": str(file), "rate": 60.0})
    assert made.spec.q_max == SPEC.q_max and made.spec.rate_hz == (1.0, 60.0)
    with pytest.raises(ArmError, match="so102 is neither"):
        make_arm("lerobot", {"config": "robot.yaml", "arm": "so102"})


# The whole contract.


def verdicts(make: Callable[[], FromLeRobot]) -> list[Verdict]:
    """Of every check, on a double of its own; they mostly wait."""
    def faults(arm: object, fault: str) -> None:
        assert isinstance(arm, FromLeRobot)
        arm._robot.inject(fault)

    with ThreadPoolExecutor(4) as pool:
        return [*pool.map(lambda check: judge(check, make, faults), checks())]


@pytest.mark.parametrize("bus", [True, False], ids=["with a bus", "without"])
def test_a_lerobot_robot_keeps_the_contract_of_an_arm(bus: bool) -> None:
    found = verdicts(lambda: arm_of(BodyRobot(bus=bus)))
    assert [(v.name, v.problem) for v in found if v.problem] == []
    # It answers questions without a number or a time: what comes again cannot be told from news.
    assert {v.name for v in found if v.unchecked} == {
        "latching", "duplicated", "reordered", "frozen"}


@pytest.mark.parametrize(("told", "taken"), [("degrees", "radians"), ("radians", "degrees")])
def test_a_unit_taken_for_the_other_breaks_the_contract(told: str, taken: str) -> None:
    found = verdicts(lambda: arm_of(BodyRobot(told, bus=False), unit=taken))
    broken = {v.name for v in found if v.problem}
    # 1.2 rad told as 69 is beyond every stop; 4 degrees taken for 4 rad run into one.
    assert ("enabling" if told == "degrees" else "moving") in broken
