"""The arms: their kinematics, their limits, and how an action moves their joints."""

import math

import mujoco
import numpy as np
import pytest
import torch

from metarl.envs.arm_model import SAFE_FRACTION, arm_spec
from metarl.envs.arms import ARMS, Arm, ArmName
from metarl.envs.kinematics import (
    at_most,
    downward,
    forward,
    joint_speeds,
    rotation,
    rotation_error,
    solve,
)
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds

each_arm = pytest.mark.parametrize("arm", ARMS.values(), ids=list(ARMS))


@each_arm
def test_the_kinematics_are_those_of_the_model(arm: Arm) -> None:
    model = arm_spec(arm).compile()
    data, jacobian = mujoco.MjData(model), np.zeros((6, model.nv))
    angles = np.random.default_rng(0).random((3, len(arm.joints)))
    pose = forward(arm, angles)
    for i in range(3):
        data.qpos[:] = angles[i]
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], model.site("flange").id)
        site = data.site("flange")
        np.testing.assert_allclose(site.xpos, pose.position[i], atol=1e-12)
        np.testing.assert_allclose(site.xmat.reshape(3, 3), pose.rotation[i], atol=1e-12)
        np.testing.assert_allclose(jacobian, pose.jacobian[i], atol=1e-12)


def test_a_tool_reaches_straight_on_from_the_flange() -> None:
    arm = ARMS["fr3"]
    home = np.array([arm.home])
    # The flange of the ready pose points straight down.
    lower = forward(arm, home).position - forward(arm, home, tool=0.1).position
    np.testing.assert_allclose(lower, [[0.0, 0.0, 0.1]], atol=1e-8, rtol=0)


def test_the_ur5e_stretched_out_is_as_long_as_its_data_sheet_says() -> None:
    # All joints at zero: 0.425 + 0.3922 along x, 0.1333 + 0.0996 to the side, and 0.1625 - 0.0997
    # high; the base is turned by half a turn, so that x comes out ahead.
    zero = np.zeros((1, 6))
    place = forward(ARMS["ur5e"], zero).position[0].tolist()
    assert place == pytest.approx([0.8172, 0.2329, 0.0628], abs=1e-9)


def test_the_so101_at_zero_is_where_its_urdf_puts_the_gripper() -> None:
    # Upper arm up 0.11257 from the shoulder's 0.0624 + 0.0542, forearm level 0.1349, the wrist's
    # 0.0611 and the flange's 0.0381 straight on: x = 0.0388 + 0.0304 + 0.028 + 0.1349 + 0.0992.
    zero = np.zeros((1, 5))
    x, _, z = forward(ARMS["so101"], zero).position[0].tolist()
    assert x == pytest.approx(0.3313, abs=2e-3)
    assert z == pytest.approx(0.0624 + 0.0542 + 0.11257 - 0.0052, abs=0.01)


@each_arm
def test_the_home_pose_and_the_whole_bench_are_within_reach(arm: Arm) -> None:
    for angle, joint in zip(arm.home, arm.joints, strict=True):
        assert joint.range[0] < angle < joint.range[1]
    middle, half = arm.bench
    for x in (middle - half, middle, middle + half):
        for y in (-half, 0.0, half):
            angles = solve(arm, (x, y, 0.02 * arm.scale), downward(arm), arm.tool)
            pose = forward(arm, angles[None], arm.tool)
            assert pose.rotation[0, :, 2].tolist() == pytest.approx([0, 0, -1], abs=0.1)


def test_a_place_out_of_reach_is_said_to_be_missed() -> None:
    with pytest.raises(ValueError, match="so101 misses"):
        solve(ARMS["so101"], (2.0, 0.0, 0.0), downward(ARMS["so101"]), 0.0)


def test_joint_speeds_give_the_tool_the_velocity_asked_for() -> None:
    arm = ARMS["ur5e"]
    pose = forward(arm, np.array([arm.home]))
    twist = np.array([[0.1, -0.05, 0.02, 0.0, 0.1, 0.0]])
    speeds = joint_speeds(pose.jacobian, twist, damping=1e-9)
    np.testing.assert_allclose((pose.jacobian @ speeds[:, :, None])[:, :, 0], twist, atol=1e-5,
                               rtol=0)


def test_a_joint_at_its_limit_slows_down_all_of_them() -> None:
    # Shares 2, 0.5 and -1 of the limits: the first is twice too fast, so all are halved.
    shares = at_most(np.array([[2.0, 1.0, -4.0]]), np.array([1.0, 2.0, 4.0]))
    assert shares.tolist() == [[1.0, 0.25, -0.5]]
    assert at_most(np.array([[0.5]]), np.array([1.0])).tolist() == [[0.5]]


def test_a_small_turn_between_two_frames_is_found() -> None:
    error = rotation_error(rotation((0.0, 0.0, 0.01)), np.eye(3)[None])
    assert error[0].tolist() == pytest.approx([0.0, 0.0, 0.01], abs=1e-6)


@each_arm
def test_no_servo_is_driven_faster_than_a_quarter_of_its_joints_limit(arm: Arm) -> None:
    model = arm_spec(arm).compile()
    assert SAFE_FRACTION == 0.25
    np.testing.assert_allclose(model.actuator_ctrlrange[:, 1], 0.25 * arm.speeds)
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], [j.torque for j in arm.joints])


def test_only_arms_whose_controller_does_so_carry_their_own_weight() -> None:
    # After a second the FR3 still is where it was; the SO-101 has sagged, by less than 5 degrees.
    def sag(name: ArmName) -> float:
        worlds = Worlds(Reach(arm=name), 1)
        frame = worlds.frame
        for _ in range(20):
            worlds.step(torch.zeros(1, worlds.shapes.action))
        return abs(worlds.frame.qpos - frame.qpos).max()

    assert sag("fr3") < 0.03  # the payload alone, of 1 kg
    assert 0.01 < sag("so101") < math.radians(5)


@each_arm
def test_a_tool_on_a_table_moves_as_it_is_told(arm: Arm) -> None:
    worlds = Worlds(Push(arm=arm.name), 1)
    before = worlds.frame.sensors["tip"].copy()
    for _ in range(20):  # 1 s at a fifth of 0.25 m/s, sideways: 5 cm less the servos' lag
        worlds.step(torch.tensor([[0.0, 0.2]]))
    moved = (worlds.frame.sensors["tip"] - before)[0].tolist()
    assert 0.035 < moved[1] < 0.052
    assert abs(moved[0]) < 0.01 and abs(moved[2]) < 0.01


@each_arm
def test_a_tool_is_steered_by_the_joints_as_they_stand(arm: Arm) -> None:
    # Against kinematics of its own, in a pose that no joint has left straight.
    worlds = Worlds(Push(arm=arm.name), 2)
    source = np.random.default_rng(0)
    for action in source.uniform(-1, 1, (6, 2, 2)):
        worlds.step(torch.from_numpy(action))
    velocity, spin = source.normal(0, 1 / 50, (2, 3)), np.array([0.3, -0.2])
    pose = forward(arm, worlds.frame.qpos[:, : len(arm.joints)], arm.tool)

    def followed(turn: np.ndarray) -> np.ndarray:
        speeds = joint_speeds(pose.jacobian, np.concatenate([velocity, turn], 1))
        return at_most(speeds, SAFE_FRACTION * arm.speeds)

    back = 5 * rotation_error(downward(arm), pose.rotation)  # 1/s
    family = Push(arm=arm.name)
    np.testing.assert_allclose(family.steer(worlds.frame, velocity), followed(back), atol=1e-7)
    # What takes the tool's z axis (x, y, z) down, (0, 0, -1): their cross product is (-y, x, 0).
    x, y, _ = pose.rotation[:, :, 2].T
    lean = 5 * np.stack([-y, x, spin / 5], 1)
    np.testing.assert_allclose(
        family.steer(worlds.frame, velocity, spin), followed(lean), atol=1e-7)


def test_the_flange_of_the_ready_pose_is_where_the_data_sheet_puts_it() -> None:
    # The upper arm leans back by 45 deg, the forearm is level and the flange points down:
    # x = -0.316 sin 45 + 0.0825 cos 45 + 0.384 + 0.088 = 0.3069
    # z = 0.333 + 0.316 cos 45 + 0.0825 sin 45 + 0.0825 - 0.107 = 0.5903
    model = arm_spec(ARMS["fr3"]).compile()
    data = mujoco.MjData(model)
    data.qpos[:] = [0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4]
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.site("flange").xpos, [0.3069, 0.0, 0.5903], atol=2e-4)
