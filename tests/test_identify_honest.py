"""Identification's intervals contain what is true, friction and backlash or not."""

import numpy as np
import pytest

from metarl.envs.arms import ArmName
from metarl.robot.identify import (
    PARAMETERS,
    Motion,
    _aligned,
    excite,
    fit,
    half_widths,
    lasting,
    played,
    slopes,
)
from metarl.testing.body import Body, Flaws
from metarl.testing.direct import Direct

NOISE = 2e-4  # rad


@pytest.mark.parametrize(("arm", "flaws"), [
    ("fr3", Flaws(payload=1.5, friction=0.3, backlash=1e-3, noise=NOISE)),
    ("so101", Flaws(payload=0.1, gain=1.2, friction=0.05, noise=NOISE)),
])
def test_the_truth_lies_inside_the_intervals(arm: ArmName, flaws: Flaws) -> None:
    link = Direct(Body(arm, flaws))
    link.sleep(1.0)
    found = fit(arm, excite(link, link, seconds=6.0))
    off = {name: abs(found.values[name] - getattr(flaws, name)) / found.spread[name]
           for name in PARAMETERS}
    # Of five intervals at 95 %, one may just miss: no more, and not by much.
    assert sum(x > 1 for x in off.values()) <= 1 and max(off.values()) < 1.5, off
    assert found.spread["damping"] < 0.05 and found.spread["gain"] < 0.01  # and they say something
    assert found.after < 1.2 * NOISE


def test_targets_are_a_staircase_of_the_guard_s_periods() -> None:
    # Told every 20 ms of targets that the guard moves every 10 ms, at 1 rad/s.
    told = np.array([0.0, 0.02, 0.04])
    motion = Motion(told, told[:, None], told, told[:, None], told[:, None], 0.01)
    _, times, targets = _aligned(motion, 0.005)
    np.testing.assert_allclose(times, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035], atol=1e-9)
    np.testing.assert_allclose(
        targets[:, 0], [0, 0, 0.01, 0.01, 0.02, 0.02, 0.03, 0.03], atol=1e-9)


def test_an_encoder_behind_a_play_follows_late_and_stays_when_it_turns() -> None:
    # A play of 0.2 lets it be 0.1 away: it starts at 0, is pulled along, and stays on the way back.
    angles = np.array([[0.05], [0.3], [0.25], [0.15], [0.0]])
    shown = played(angles, np.zeros(1), 0.2)[:, 0]
    np.testing.assert_allclose(shown, [0, 0.2, 0.2, 0.2, 0.1], atol=1e-12)
    np.testing.assert_allclose(played(angles, np.ones(1), 0.0), angles)


def test_errors_that_last_four_samples_count_as_a_quarter_of_them() -> None:
    white = np.random.default_rng(0).choice([-1.0, 1.0], 1_000)
    # Each four times: correlations of 3/4, 2/4 and 1/4, and 1 + 2 * 1.5 = 4.
    assert lasting(white) == pytest.approx(1, abs=0.3)
    assert lasting(np.repeat(white, 4)) == pytest.approx(4, rel=0.25)
    assert lasting(np.zeros(9)) == 1 and lasting(np.array([1.0, -1.0] * 9)) == 1


def test_a_mean_s_interval_is_1_96_standard_errors_of_its_own_sensor() -> None:
    # Two sensors of a mean each, n = 2,500: 1.96 s / sqrt(n), with s = 1 and s = 3; and where
    # each error lasts four samples, twice as wide.
    n, random = 2_500, np.random.default_rng(1)
    residuals = random.choice([-1.0, 1.0], (n, 2)) * [1.0, 3.0]
    jacobian = np.tile(np.eye(2), (n, 1))
    np.testing.assert_allclose(half_widths(residuals, jacobian), [0.0392, 0.1176], rtol=0.1)
    slow = np.repeat(residuals[: n // 4], 4, 0)
    np.testing.assert_allclose(half_widths(slow, jacobian), [0.0784, 0.2352], rtol=0.25)


def test_slopes_are_secants_inside_the_bounds() -> None:
    # |x| at 0 has a kink: between -0.001 and 0.001 its slope is 0; at a bound one side is left.
    low, high = np.array([-0.5, 0.0]), np.array([0.5, 1.0])
    found = slopes(lambda x: np.array([abs(x[0]), x[1] ** 2]), np.zeros(2), low, high)
    np.testing.assert_allclose(found, [[0, 0], [0, 0.001]], atol=1e-12)
