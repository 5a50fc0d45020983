"""What the keeper makes of sensors that fail, and of an arm that comes on where it must not be."""

from dataclasses import replace

import numpy as np
import pytest
from test_guard import ACK, HOME, Rig, failing

from metarl.robot.arm import ArmError, BusError
from metarl.robot.link import Phase

NAN = np.array([1.0, np.nan, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("broken", [
    {"tau": NAN}, {"temperature": NAN}, {"current": NAN}, {"temperature": np.full(5, np.inf)},
    {"wrench": np.full(6, np.nan)}, {"dq": NAN},
])
def test_a_sensor_that_tells_no_number_is_a_faulty_one(broken: dict[str, np.ndarray]) -> None:
    rig = Rig(frozenset({"q", "dq", "tau", "temperature", "current", "wrench"})).on()
    rig.drive()
    failing(lambda state: replace(state, **broken))(rig)
    assert rig.drive(2).phase is Phase.STREAMING
    report = rig.drive(1)
    assert report.phase is Phase.LATCHED and report.reason == "no state of the arm for 3 ticks"
    rig.ticks(40)
    assert rig.keeper.shaper.at_rest and rig.arm.calls[-1] == "hold"
    failing(lambda state: state)(rig)
    rig.ticks()
    rig.keeper.unlatch(ACK)


def test_a_gripper_that_tells_no_number_is_one_that_is_not_sensed() -> None:
    rig = Rig().on()
    failing(lambda state: replace(state, gripper=np.nan))(rig)
    report = rig.drive()
    assert report.phase is Phase.STREAMING and report.state.gripper is None


def test_an_arm_that_comes_on_outside_its_limits_is_held_latched_until_it_is_released() -> None:
    rig = Rig()
    rig.arm.q = HOME + np.array([9.0, 0, 0, 0, 0])  # the puppet turns torque on wherever it is
    with pytest.raises(ArmError, match="outside its joints' limits: torque is on, and the guard"):
        rig.keeper.enable(ACK)
    report = rig.drive()
    assert report.phase is Phase.LATCHED and "outside its joints' limits" in report.reason
    assert rig.arm.calls[-1] == "hold" and rig.arm.sent == []
    with pytest.raises(ArmError, match="release it, and enable it anew"):
        rig.keeper.unlatch(ACK)
    rig.keeper.release(ACK)
    assert rig.ticks().phase is Phase.OFF and rig.arm.calls[-1] == "release"
    rig.arm.q = HOME.copy()  # by hand
    assert rig.on().drive().phase is Phase.STREAMING


def test_an_arm_whose_watchdog_fails_is_held_latched_until_it_is_released(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()

    def broken(timeout_s: float) -> None:
        raise BusError("a checksum is wrong")

    with monkeypatch.context() as patch:
        patch.setattr(rig.arm, "arm_watchdog", broken)
        with pytest.raises(ArmError, match="a checksum is wrong: torque is on"):
            rig.keeper.enable(ACK)
    assert rig.ticks().phase is Phase.LATCHED
    with pytest.raises(ArmError, match="enable it anew"):
        rig.keeper.unlatch(ACK)
    rig.keeper.release(ACK)
    assert rig.on().drive().phase is Phase.STREAMING


def test_an_arm_that_comes_on_and_tells_no_place_is_outside_its_limits() -> None:
    rig = Rig()
    failing(lambda state: replace(state, q=np.full(5, np.nan)))(rig)
    with pytest.raises(ArmError, match="outside its joints' limits"):
        rig.keeper.enable(ACK)
    failing(lambda state: state)(rig)
    assert rig.ticks(5).phase is Phase.LATCHED and rig.arm.sent == []
