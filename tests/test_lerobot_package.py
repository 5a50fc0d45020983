"""LeRobot itself: its robots as our arms, and our arms as its robots."""

import contextlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what LeRobot imports
    pytest.importorskip("lerobot.robots", reason="the extra `lerobot` is not installed")
    import draccus  # pyright: ignore[reportMissingImports]
    from lerobot.configs.parser import load_plugin  # pyright: ignore[reportMissingImports]
    from lerobot.robots import (  # pyright: ignore[reportMissingImports]
        Robot,
        RobotConfig,
        make_robot_from_config,
    )

from metarl.__main__ import main
from metarl.robot.arm import (
    ArmError,
    ArmMode,
    BusError,
    Command,
    Disconnected,
    Mode,
    OperatorAck,
)
from metarl.robot.registry import make_arm
from metarl.testing.servo_bus import So101Bus

pytestmark = pytest.mark.filterwarnings("ignore")
ACK = OperatorAck("Ada", "workspace clear, stop in reach")
DOUBLE = "metarl.testing.follower"
Result = TypeVar("Result")


@dataclass
class Program:
    """What LeRobot's commands are parsed into, as far as robots go."""

    robot: RobotConfig


def configuration(folder: Path, **said: Any) -> str:
    file = folder / "robot.yaml"
    file.write_text(json.dumps(said | {"calibration_dir": str(folder)}))
    return str(file)


def patiently(act: Callable[[], Result]) -> Result:
    """What comes at last: LeRobot gives up at a first answer that is late."""
    for _ in range(20):
        with contextlib.suppress(BusError, Disconnected):
            return act()
    return act()


# Theirs as ours.


def test_a_robot_of_lerobots_kind_keeps_the_contract(tmp_path: Path) -> None:
    config = configuration(tmp_path, type="metarl_follower")
    assert main(["robot", "check", "lerobot", "--yes", "--option", f"config={config}",
                 f"plugin={DOUBLE}"]) == 0


def test_one_whose_degrees_are_taken_for_radians_does_not(tmp_path: Path) -> None:
    # Its bus says what it tells, so this ends where it connects.
    config = configuration(tmp_path, type="metarl_follower")
    arm = make_arm("lerobot", {"config": config, "plugin": DOUBLE, "unit": "radians"})
    with pytest.raises(ArmError, match="in degrees, not in radians"):
        arm.connect()


@pytest.mark.parametrize("sense", [-1.0, 1.0])
def test_lerobots_so101_on_a_servo_bus_moves_as_it_is_told(tmp_path: Path, sense: float) -> None:
    # LeRobot's degrees do not know `drive_mode`: the double's shoulder_lift turns the other way.
    lift = "-shoulder_lift" if sense < 0 else "shoulder_lift"
    with So101Bus() as bus:
        (tmp_path / "double.json").write_text(
            Path(str(bus.options["calibration"])).read_text())
        config = configuration(tmp_path, type="so101_follower", id="double",
                               port=bus.options["port"], use_degrees=True)
        arm = make_arm("lerobot", {"config": config, "rate": 50.0, "joints":
                                   f"shoulder_pan {lift} elbow_flex wrist_flex wrist_roll"})
        assert patiently(arm.connect).mode == ArmMode.READY_OFF
        start = patiently(lambda: arm.enable(ACK)).q
        before, wanted = np.array(bus.ask()), np.array([0.3, 0.2, -0.3, -0.4, 0.5])
        np.testing.assert_allclose(start, before * [1, -sense, 1, 1, 1], atol=0.05)
        for seq in range(70):
            target = start + min(1, seq / 45) * wanted
            patiently(lambda seq=seq, target=target: arm.send(
                Command(seq, Mode.JOINT_POSITION, target, time.monotonic() + 0.5)))
            told = patiently(lambda: arm.read(0.5)).q
            time.sleep(0.02)
        real = np.array(bus.ask())
        arm.close()
        time.sleep(0.3)
        np.testing.assert_allclose(bus.ask(), real, atol=0.02)  # closed, it stands
    np.testing.assert_allclose(told - start, wanted, atol=0.05)  # from within, all is well
    assert (real[1] - before[1] > 0) == (sense < 0), "seen from outside, one sense is wrong"
    np.testing.assert_allclose(np.delete(real - before, 1), np.delete(wanted, 1), atol=0.05)


@pytest.mark.parametrize(("said", "problem"), [
    ({"type": "so102_follower"}, "so102_follower"),
    ({"type": "so101_follower"}, "port"),
    ({"type": "so101_follower", "port": "x", "ports": "y"}, "ports"),
    ({"port": "x"}, "type"),
])
def test_a_configuration_that_lerobot_does_not_take_is_one_line(
    tmp_path: Path, said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ArmError, match=problem) as told:
        make_arm("lerobot", {"config": configuration(tmp_path, **said)}).connect()
    assert "\n" not in str(told.value)


def test_normalised_positions_are_refused(tmp_path: Path) -> None:
    config = configuration(tmp_path, type="so101_follower", port="none", use_degrees=False)
    with pytest.raises(ArmError, match="use_degrees"):
        make_arm("lerobot", {"config": config}).connect()


def test_a_port_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    config = configuration(tmp_path, type="so101_follower", port=str(tmp_path / "none"))
    with pytest.raises(ArmError, match="no LeRobot robot"):
        make_arm("lerobot", {"config": config}).connect()


# Ours as theirs.


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Any]:
    load_plugin("metarl.robot.lerobotplugin")  # as --robot.discover_packages_path does
    config = draccus.decode(RobotConfig, {
        "type": "metarl", "arm": "twin", "options": {"arm": "so101"}, "least_fps": 10.0,
        "limits": {"q_max": [1.8, 1.6, 1.6, 1.6, 0.5]},
        "calibration_dir": str(tmp_path)})
    robot = make_robot_from_config(config)
    assert isinstance(robot, Robot) and "metarl.robot.guarded" in sys.modules
    yield robot
    robot.disconnect()


def test_lerobot_makes_our_arm_and_moves_it_through_the_guard(robot: Any) -> None:
    robot.connect()
    start = robot.get_observation()
    assert set(start) == set(robot.observation_features) == set(robot.action_features)
    sent = {}
    for goal in ({"shoulder_pan.pos": 10.0}, {"wrist_roll.pos": 500.0}):
        for _ in range(30):
            sent = robot.send_action(start | {"shoulder_pan.pos": 10.0} | goal)
            time.sleep(0.03)
        assert robot.get_observation()["shoulder_pan.pos"] == pytest.approx(10, abs=1)
    assert 28 < sent["wrist_roll.pos"] <= math.degrees(0.5) + 1e-6  # 28.65


def test_lerobots_command_line_makes_it(tmp_path: Path) -> None:
    load_plugin("metarl.robot.lerobotplugin")
    config = draccus.parse(Program, args=[
        "--robot.type=metarl", "--robot.arm=so101", "--robot.live=true", "--robot.operator=Ada",
        "--robot.options={port: /dev/x, calibration: a.json}", "--robot.limits={speed: 0.1}",
        f"--robot.calibration_dir={tmp_path}"]).robot
    robot = make_robot_from_config(config)
    assert config.options == {"port": "/dev/x", "calibration": "a.json"} and config.live
    assert config.limits == {"speed": 0.1}
    assert "shoulder_pan.pos" in robot.action_features and not robot.is_connected
