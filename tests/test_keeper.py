"""What the keeper makes of sensors that fail, and of an arm that comes on where it must not be."""

from dataclasses import replace

import numpy as np
import pytest
from test_guard import ACK, Rig, failing

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
