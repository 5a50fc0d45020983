"""Targets never leave the limits, whatever is wanted and wherever the arm is said to be."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.kinematics import forward
from metarl.robot.arm import ArmError, ArmSpec, Mode
from metarl.robot.limits import REASONS, Kinematics, Limits, Shaper, reasons
from metarl.robot.specs import spec_of
from metarl.testing.audit import violations

PERIOD = 0.008  # s
SPEED, PLACE = Mode.JOINT_VELOCITY, Mode.JOINT_POSITION


def spec_for(arm: ArmName = "fr3") -> ArmSpec:
    return spec_of(arm, modes=frozenset({PLACE}), rate_hz=(10, 125), watchdog="guard-only",
                   senses=frozenset({"q", "dq"}))


def shaper_for(arm: ArmName = "fr3", **tighter: object) -> tuple[Shaper, Limits, ArmSpec]:
    spec = spec_for(arm)
    limits = Limits.of(spec, **tighter)  # pyright: ignore[reportArgumentType]
    shaper = Shaper(limits, spec.chain, PERIOD)
    shaper.start(np.array(ARMS[arm].home))
    return shaper, limits, spec


def run(shaper: Shaper, wanted: np.ndarray | None, ticks: int, mode: Mode = SPEED) -> np.ndarray:
    """Targets (ticks + 1, J) of an arm that is where it is told to be."""
    return np.array([shaper.q, *(shaper.tick(shaper.q, wanted, mode) for _ in range(ticks))])


def joint(index: int, value: float, joints: int = 7) -> np.ndarray:
    return value * np.eye(joints)[index]


# The limits themselves.


def test_limits_are_the_spec_s_inside_a_margin() -> None:
    limits = Limits.of(spec_for(), margin=0.1, tool=0.2)
    assert limits.q_min[0] == pytest.approx(-2.7437 + 0.1)
    assert limits.q_max[0] == pytest.approx(2.7437 - 0.1)
    assert (limits.speed, limits.tube, limits.tracking) == (0.25, 0.1, 0.2)
    assert limits.jerk_max == (5000.0,) * 7  # Franka publishes one
    assert Limits.of(spec_for("so101")).jerk_max == (1000.0,) * 5  # 20 rad/s^2 within 20 ms


@pytest.mark.parametrize("wider", [
    {"speed": 0.3}, {"tube": 0.2}, {"dq_max": (9.0,) * 7}, {"q_min": (-3.0,) * 7},
    {"q_max": (3.0,) * 7}, {"box": ((-9.0, -9.0, 0.0), (9.0, 9.0, 9.0))}, {"jerk": 6000.0},
    {"tau_max": None}, {"temperature": 90.0}, {"tracking": 0.5},
])
def test_limits_do_not_grow(wider: dict[str, object]) -> None:
    with pytest.raises(ArmError, match="only shrink"):
        Limits.of(spec_for(), **wider)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("nonsense", [
    {"speed": 0.0}, {"speed": np.nan}, {"tube": -0.1}, {"dq_max": (1.0,) * 6},
    {"ddq_max": (np.inf,) * 7}, {"box": ((0.0, 0.0, 0.0), (1.0, 1.0, -1.0))}, {"margin": np.nan},
    {"margin": 3.0}, {"jerk": 0.0}, {"tool": -0.1}, {"box": ((np.nan,) * 3, (1.0,) * 3)},
    {"sped": 0.1},
])
def test_a_limit_that_limits_nothing_is_refused(nonsense: dict[str, object]) -> None:
    with pytest.raises(ArmError):
        Limits.of(spec_for(), **nonsense)  # pyright: ignore[reportArgumentType]


def test_shrunk_limits_shrink_on() -> None:
    slow = Limits.of(spec_for()).shrunk(speed=0.1)
    assert slow.shrunk(speed=0.05).speed == 0.05
    with pytest.raises(ArmError, match="only shrink"):
        slow.shrunk(speed=0.25)
    with pytest.raises(ArmError, match="tool"):
        slow.shrunk(tool=0.1)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("tool", [0.0, 0.1])
def test_points_are_where_the_family_s_kinematics_say(arm: ArmName, tool: float) -> None:
    q = np.random.default_rng(0).uniform(-1, 1, (4, len(ARMS[arm].joints)))
    points = Kinematics(spec_for(arm).chain, tool).points(q)
    tip = forward(ARMS[arm], q, tool).position
    np.testing.assert_allclose(points[:, -1], tip, atol=1e-12)


# What becomes of what is wanted.


def test_a_joint_speeds_up_at_its_acceleration_and_no_faster() -> None:
    shaper, _, _ = shaper_for()
    # 10 rad/s^2 for 8 ms is 0.08 rad/s; 0.2 rad/s takes 0.08, 0.16, 0.2.
    speeds = np.diff(run(shaper, joint(6, 0.2), 4)[:, 6]) / PERIOD
    np.testing.assert_allclose(speeds, [0.08, 0.16, 0.2, 0.2], rtol=1e-6)


def test_the_speed_cap_keeps_the_direction() -> None:
    shaper, limits, spec = shaper_for()
    wanted = np.array([2.0, 0.5, 0.0, -0.5, 0.0, 1.0, 0.0])
    targets = run(shaper, wanted, 40)
    ahead = targets[-1] - targets[-2]
    np.testing.assert_allclose(ahead / ahead[0], wanted / wanted[0], atol=1e-9)
    points = Kinematics(spec.chain).points(targets[-2:])
    speed = np.linalg.norm(points[1] - points[0], axis=1).max() / PERIOD
    assert 0.2 < speed <= limits.speed
    assert "tool speed" in reasons(shaper.limited)


def test_a_goal_is_reached_along_a_straight_line_and_kept() -> None:
    shaper, _, _ = shaper_for()
    way = np.array([0.3, -0.2, 0.1, 0.0, 0.2, 0.1, -0.4])
    start = shaper.q
    targets = run(shaper, start + way, 500, PLACE)
    np.testing.assert_allclose(targets[-1], start + way, atol=1e-8)
    done = (targets - start) @ way / (way @ way)
    np.testing.assert_allclose(targets - start, done[:, None] * way, atol=1e-3)
    assert shaper.at_rest


def test_a_joint_at_its_stop_does_not_stop_the_others() -> None:
    shaper, limits, _ = shaper_for()
    run(shaper, joint(6, 0.5), 1000)
    assert limits.q_max[6] - shaper.q[6] < 1e-3
    before = shaper.q
    run(shaper, joint(6, 0.5) + joint(0, 0.1), 100)
    assert shaper.q[0] - before[0] == pytest.approx(0.08, abs=0.005)  # 0.1 rad/s for 0.8 s


def test_the_tool_stops_above_the_floor_and_comes_back() -> None:
    shaper, _, spec = shaper_for(tool=0.1)
    targets = run(shaper, joint(1, 0.3), 1200)
    heights = Kinematics(spec.chain, 0.1).points(targets)[:, -1, 2]
    assert 0 <= heights[-1] < 0.02 and heights.min() >= 0
    assert "workspace" in reasons(shaper.limited)
    run(shaper, joint(1, -0.3), 100)
    assert Kinematics(spec.chain, 0.1).points(shaper.q[None])[0, -1, 2] > 0.02


def test_a_target_does_not_run_away_from_an_arm_that_is_stuck() -> None:
    shaper, limits, _ = shaper_for()
    stuck = shaper.q
    for _ in range(500):
        shaper.tick(stuck, joint(0, 0.3), SPEED)
    assert 0.09 < shaper.q[0] - stuck[0] <= limits.tube
    assert "tube" in reasons(shaper.limited)


def test_nothing_wanted_brings_it_to_rest_at_full_deceleration() -> None:
    shaper, _, _ = shaper_for()
    run(shaper, joint(6, 0.4), 10)
    # 0.4 rad/s less 0.08 a tick.
    speeds = np.diff(run(shaper, None, 6)[:, 6]) / PERIOD
    np.testing.assert_allclose(speeds, [0.32, 0.24, 0.16, 0.08, 0, 0], atol=1e-6)
    assert shaper.at_rest


def test_an_arm_found_beyond_a_margin_may_only_come_back() -> None:
    shaper, limits, spec = shaper_for()
    outside = np.array(ARMS["fr3"].home)
    outside[6] = spec.q_max[6] - 0.01  # the margin is 0.05
    shaper.start(outside)
    run(shaper, joint(6, 0.3), 50)
    assert shaper.q[6] == outside[6]
    run(shaper, joint(6, -0.3), 10)
    between = shaper.q[6]
    run(shaper, joint(6, 0.3), 50)
    assert limits.q_max[6] < shaper.q[6] <= between


def test_an_arm_found_below_the_floor_may_only_come_up() -> None:
    shaper, _, spec = shaper_for("fr3", tool=0.1)
    low = np.array(ARMS["fr3"].home)
    low[1] += 1.9
    where = Kinematics(spec.chain, 0.1)
    height = where.points(low[None])[0, -1, 2]
    assert height < 0
    shaper.start(low)
    run(shaper, joint(1, 0.2), 50)
    assert where.points(shaper.q[None])[0, -1, 2] >= height - 1e-9
    run(shaper, joint(1, -0.2), 200)
    assert where.points(shaper.q[None])[0, -1, 2] > 0


# Whatever comes.

_numbers = st.one_of(
    st.floats(-1, 1), st.sampled_from([0.0, -9.0, 9.0, 1e-12, 1e12, -1e12, 1e150]))


@st.composite
def wishes(draw: st.DrawFn) -> list[tuple[np.ndarray | None, Mode, np.ndarray]]:
    """What is wanted, how, and how far the arm is from its target; each for a while."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        joints = st.lists(_numbers, min_size=7, max_size=7).map(np.array)
        found += [(draw(st.one_of(st.none(), joints)), draw(st.sampled_from([SPEED, PLACE])),
                   draw(joints))] * draw(st.integers(1, 40))
    return found


@pytest.mark.parametrize("arm", ARMS)
@given(wishes(), st.integers(0, 2**31), st.floats(0.1, 1.0))
@settings(max_examples=25, deadline=None)
def test_no_target_is_ever_outside_the_limits(
    arm: ArmName, stream: list[tuple[np.ndarray | None, Mode, np.ndarray]], seed: int, slow: float
) -> None:
    jerk = 500.0 * slow
    shaper, limits, spec = shaper_for(arm, tool=0.05, speed=0.25 * slow, jerk=jerk)
    random = np.random.default_rng(seed)
    start = random.uniform(limits.q_min, limits.q_max)
    tips = Kinematics(spec.chain, limits.tool).points(start[None])[0, -2:]
    if (tips < limits.box[0]).any() or (tips > limits.box[1]).any():
        start = np.array(ARMS[arm].home)
    shaper.start(start)
    joints, targets = len(start), [start]
    for wanted, mode, away in stream:
        wish = None if wanted is None else wanted[:joints]
        targets.append(shaper.tick(shaper.q + away[:joints], wish, mode))
    assert not any(violations(limits, spec.chain, np.array(targets), PERIOD).values())
    # From anywhere, it stops: at most 5.26 rad/s at 10 rad/s^2, and the mean runs out.
    end = run(shaper, None, 200)
    assert shaper.at_rest
    every = np.concatenate([np.array(targets), end[1:]])
    assert not any(violations(limits, spec.chain, every, PERIOD).values())


def test_a_violation_would_be_counted() -> None:
    spec = spec_for()
    limits = Limits.of(spec, jerk=50.0)
    home = np.array(ARMS["fr3"].home)
    still = violations(limits, spec.chain, np.array([home] * 5), PERIOD)
    assert still == dict.fromkeys(still, 0)
    jump = violations(limits, spec.chain, np.array([home, home + joint(0, 0.1)]), PERIOD)
    # 0.1 rad in 8 ms: 12.5 rad/s.
    assert jump["velocity"] == jump["acceleration"] == jump["jerk"] == jump["tool speed"] == 1
    beyond = violations(limits, spec.chain, np.array([home + joint(0, 3.0)]), PERIOD)
    assert beyond["position"] == 4 and beyond["velocity"] == 0  # at rest there before, too
    low = violations(limits, spec.chain, np.array([home + joint(1, 1.9)]), PERIOD)
    assert low["workspace"] == 4


def test_reasons_are_named_in_the_order_of_their_bits() -> None:
    assert reasons(0) == () and reasons(2 ** len(REASONS) - 1) == REASONS
    assert reasons(0b1010) == ("position", "tool speed")
    assert dataclasses.is_dataclass(Limits)


def test_the_guard_carries_neither_torch_nor_mujoco() -> None:
    loaded = "import sys, metarl.robot.guard, metarl.robot.client, metarl.robot.specs;" \
             "print([m for m in ('torch', 'mujoco') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert said.stdout.strip() == "[]", said.stderr
