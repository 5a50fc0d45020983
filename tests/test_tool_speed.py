"""The tool keeps to its speed by what is certified, not because the wish was slowed before."""

import numpy as np
import pytest
from test_limits import PERIOD, SPEED, joint, run, shaper_for

from metarl.envs.arms import ARMS, ArmName
from metarl.robot.limits import Kinematics, Shaper
from metarl.testing.audit import violations


@pytest.mark.parametrize("arm", ARMS)
def test_no_candidate_s_first_step_is_faster_than_the_tool_may_be(
    arm: ArmName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shaper, "_slowed", lambda shaper, speed: speed)  # a wish as it comes
    shaper, limits, spec = shaper_for(arm, speed=0.1)
    targets = run(shaper, joint(0, 2.0, len(ARMS[arm].joints)), 40)
    assert violations(limits, spec.chain, targets, PERIOD)["tool speed"] == 0
    points = Kinematics(spec.chain).points(targets)
    speeds = np.linalg.norm(np.diff(points, axis=0), axis=2).max(1) / PERIOD
    assert 0.05 < speeds.max() <= 0.1  # it does move, and in vain wants to go faster


def test_a_step_is_judged_from_where_the_target_is() -> None:
    shaper, _, spec = shaper_for()
    where = Kinematics(spec.chain)
    reach = np.linalg.norm(where.points(shaper.q[None])[0, :, :2], axis=1).max()  # m, off joint 1
    most = 0.25 * PERIOD / reach  # rad of joint 1 in a step at 0.25 m/s, its arc as its chord

    def allowed(*steps: float) -> bool:
        way = shaper.q + np.cumsum([joint(0, step) for step in steps], 0)
        return bool(shaper._allowed(way[None], where.points(way)[None])[0])

    assert allowed(0.99 * most, 0.5 * most) and allowed(0.5 * most, 0.99 * most)
    assert not allowed(1.01 * most, 0.5 * most) and not allowed(0.5 * most, 1.01 * most)
    assert not allowed(-1.01 * most)
    shaper.tick(shaper.q, joint(0, 0.1), SPEED)
    assert not allowed(1.01 * most) and allowed(0.99 * most)
