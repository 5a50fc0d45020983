"""lift: what it pays, what it calls success, its gripper, and its scripted policy."""

import math

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.expert import Expert
from metarl.envs.family import Frame, default_task, sample_tasks
from metarl.envs.gripper import CLOSING, OPENING
from metarl.envs.lift import Lift, _grasp, _heading
from metarl.envs.objects import SHAPES
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate
from metarl.randomness import Draws

EACH_ARM = pytest.mark.parametrize("arm", list(ARMS))
# A box with half of its width 0.025 m (half of its height: 0.015 m), of 0.5 kg and friction 0.5: a
# grip of 0.5 x 9.81 / (2 x 0.5) = 4.905 N just holds it.
TASK = np.array([[0.0, 0.025, 0.5, 0.0, 0.0, 0.5]])


def frames(tip: list[float], raised: list[float], grip: list[float]) -> Frame:
    """Tips above an object by `tip` metres from its middle, which is `raised` above its rest."""
    zeros = np.zeros((len(tip), 3))
    place = zeros.copy()
    place[:, 2] = raised
    above = place.copy()
    above[:, 2] += np.array(tip) + 0.015
    return Frame(zeros, zeros, {"tip": above, "object": place,
                                "grip": -np.array(grip)[:, None]})


def started(family: Lift, tasks: Tensor) -> Worlds:
    worlds = Worlds(family, len(tasks))
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(0, 0, len(tasks)))
    return worlds


# Reward and success.


def test_the_reward_is_for_coming_near_squeezing_and_raising() -> None:
    # 10 cm above: 1 - tanh(1) = 0.2384058. At the middle: 1; half of what holds it: 0.5 more; three
    # of it, which is 1.2 of what is gentle: 1 - 0.2 more; 3 of the 6 cm: 4 x 0.5 more.
    after = frames([0.1, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.03],
                   [0.0, 2.4525, 3 * 4.905, 4.905])
    task = TASK.repeat(4, 0)
    reward = Lift().reward(after, np.zeros((4, 5)), after, task)
    assert reward.tolist() == pytest.approx([0.2384058, 1.5, 1.8, 4.0])
    assert Lift(gentle=False).reward(after, np.zeros((4, 5)), after, task)[2].item() == (
        pytest.approx(2.0))


def test_it_holds_above_6_cm_with_less_than_two_and_a_half_times_the_force_needed() -> None:
    after = frames([0.0] * 4, [0.059, 0.061, 0.061, 0.061], [5.0, 5.0, 12.2, 12.3])
    task = TASK.repeat(4, 0)  # 2.5 x 4.905 = 12.2625 N
    assert Lift().holds(after, task).tolist() == [False, True, True, False]
    assert Lift(gentle=False).holds(after, task).tolist() == [False, True, True, True]
    assert Lift().hold * Lift().control_step == 0.5  # s


def test_the_small_arm_lifts_half_as_high() -> None:
    after = frames([0.0] * 2, [0.029, 0.031], [5.0] * 2)
    assert Lift(arm="so101").holds(after, TASK.repeat(2, 0)).tolist() == [False, True]


# What is seen.


def test_every_object_rests_at_height_zero_whatever_its_size() -> None:
    worlds = started(Lift(), sample_tasks(Lift(), "ood", 14))
    assert (worlds.frame.sensors["object"][:, 2] == 0).all()
    heights = worlds.frame.qpos[:, 11]  # after 7 joints, 2 fingers, x and y
    assert len(np.unique(heights)) > 2


def test_the_heading_of_an_object_is_found_however_it_has_rolled() -> None:
    # Turned by 90 degrees about the vertical after rolling by 120 about its own y, of s = sin 120:
    # x = (-0.5, 0, -s), turned: (0, -0.5, -s); z = (s, 0, -0.5), turned: (0, s, -0.5).
    s = math.sqrt(0.75)
    x, z = np.array([[0.0, -0.5, -s]]), np.array([[0.0, s, -0.5]])
    assert _heading(x, z).item() == pytest.approx(math.pi / 2)


# The gripper.


@EACH_ARM
def test_the_fingers_close_across_the_arm_and_point_down_at_the_start(arm: ArmName) -> None:
    sensors = started(Lift(arm=arm), default_task(Lift(arm=arm))[None]).frame.sensors
    assert abs(sensors["closing"][0]).tolist() == pytest.approx([0, 1, 0], abs=0.04)
    assert sensors["opening"].item() == pytest.approx(0.078 * ARMS[arm].scale)
    assert sensors["tip"][0, 2].item() == pytest.approx(0.1 * ARMS[arm].scale, abs=0.01)


@EACH_ARM
def test_every_object_fits_between_the_open_fingers_with_half_a_centimetre_to_each_side(
    arm: ArmName,
) -> None:
    scale, family = ARMS[arm].scale, Lift(arm=arm)
    widest = 2 * max(high for _, high in family.parameters[1].ood)
    assert OPENING * scale - widest == pytest.approx(2 * 0.005 * scale)


def test_one_command_moves_both_fingers_alike_and_an_object_between_them_stops_them() -> None:
    family = Lift()
    worlds = started(family, torch.from_numpy(TASK))
    model, data = worlds.engine.row(0)
    drive, fingers = model.actuator("gripper").id, [7, 8]
    assert model.actuator_ctrlrange[drive].tolist() == [-CLOSING, CLOSING]
    # The box floats between the fingers, 1 cm aside: one of them meets it first.
    data.qpos[9:16] = [*data.site("tip").xpos, 1, 0, 0, 0]
    data.qpos[10] += 0.01
    model.opt.gravity[:] = 0
    data.ctrl[drive] = -CLOSING
    for _ in range(400):  # 2 s
        mujoco.mj_step(model, data)
        left, right = data.qpos[fingers]
        assert left == pytest.approx(right, abs=2e-3)
    # Stopped at half of the box's width, with the set-point at 0: 1000 N/m x 0.05 m is 50 N, of
    # which the drive gives 40.
    assert left == pytest.approx(0.025, abs=1e-3)
    assert data.actuator_force[drive] == pytest.approx(-40)
    assert abs(data.qpos[10] - data.site("tip").xpos[1]) < 2e-3  # and moved it to the middle


def test_a_firm_grip_does_not_sink_into_a_light_object() -> None:
    task = torch.tensor([[float(SHAPES.index("ellipsoid")), 0.02, 0.1, 0.0, 0.0, 0.5]]).double()
    model, data = started(Lift(), task).engine.row(0)
    data.qpos[9:16] = [*data.site("tip").xpos, 1, 0, 0, 0]
    model.opt.gravity[:] = 0
    data.ctrl[model.actuator("gripper").id] = -CLOSING
    mujoco.mj_step(model, data, 400)  # 2 s
    # 2 x 0.75 x 0.02 m wide, where it is held; 1000 N/m x 0.03 m is 30 N.
    assert data.qpos[7] + data.qpos[8] == pytest.approx(0.03, abs=2e-3)


@EACH_ARM
def test_a_guard_stops_the_fingers_just_above_the_table(arm: ArmName) -> None:
    family = Lift(arm=arm)
    worlds = started(family, default_task(family)[None])
    joints = len(ARMS[arm].joints)
    worlds.engine._qpos[0, joints + 2] += 1.0  # the object out of the way
    for _ in range(40):
        worlds.step(torch.tensor([[0.0, 0.0, -1.0, 0.0, 1.0]]))
        # The fingers end 8 mm below the tip, at scale 1.
        assert worlds.frame.sensors["tip"][0, 2] > 0.008 * ARMS[arm].scale
    assert worlds.frame.sensors["tip"][0, 2] < 0.013 * ARMS[arm].scale


def test_fingers_that_slip_off_an_object_meet_the_table() -> None:
    family = Lift()
    worlds = started(family, torch.from_numpy(TASK))
    tip = worlds.frame.sensors["tip"][0]
    # Under one finger, which presses on it with ever more force until it slips off.
    worlds.engine._qpos[0, 9:11] = [float(tip[0]), float(tip[1]) + 0.05]
    for _ in range(60):
        worlds.step(torch.tensor([[0.0, 0.0, -1.0, 0.0, 1.0]]))
        assert worlds.frame.sensors["tip"][0, 2] > 0.004  # the fingers end 4 mm inside at most


# The scripted policy.


def frame_of(heading: float, closing: float) -> Frame:
    """An object at (1, 2) with a heading, under a gripper that closes along an angle [rad]."""
    def axis(angle: float) -> np.ndarray:
        return np.array([[math.cos(angle), math.sin(angle), 0.0]])

    return Frame(axis(0), axis(0), {
        "object": np.array([[1.0, 2.0, 0.0]]), "object_x": axis(heading),
        "object_z": np.array([[0.0, 0.0, 1.0]]), "closing": axis(closing),
    })


def test_the_expert_turns_to_the_nearest_good_grasp() -> None:
    # The gripper closes along 90 degrees; half of the width is 0.1 m.
    half = np.array([0.1])
    cases = [
        # At 30 degrees a box can be held along 30 and 120: 30 further, at its middle.
        ("box", 30, 30, (1.0, 2.0)),
        # A capsule across only: along 30, 60 back; at 100 degrees, 10 further.
        ("capsule", 30, -60, (1.0, 2.0)),
        ("capsule", 100, 10, (1.0, 2.0)),
        # An L that is not turned along the leg on its left: 0.5 x 0.1 m to the left.
        ("L", 0, 0, (0.95, 2.0)),
        # A wedge at 0 between a corner and the face opposite, along 120 or 240 = 60: 30 either way;
        # at 10 degrees the latter, with the corner at 250: 0.03 m to there.
        ("wedge", 10, -20, (1 + 0.03 * math.cos(math.radians(250)),
                            2 + 0.03 * math.sin(math.radians(250)))),
    ]
    for shape, heading, turn, place in cases:
        frame = frame_of(math.radians(heading), math.radians(90))
        goal, left = _grasp(frame, np.array([SHAPES.index(shape)]), half)
        assert math.degrees(left.item()) == pytest.approx(turn), shape
        assert goal[0].tolist() == pytest.approx(place), shape


@EACH_ARM
def test_no_object_outweighs_what_the_arm_may_carry(arm: ArmName) -> None:
    mass = next(p for p in Lift(arm=arm).parameters if p.name == "mass")
    heaviest = max(high for _, high in (mass.train, *mass.ood))
    assert heaviest == pytest.approx({"fr3": 1.0, "ur5e": 1.0, "so101": 0.25}[arm])
    assert heaviest <= ARMS[arm].heavy[1]


@EACH_ARM
def test_the_expert_lifts_every_shape_with_every_arm(arm: ArmName) -> None:
    family = Lift(arm=arm)
    tasks = sample_tasks(family, "train", 14)  # each shape twice
    worlds = Worlds(family, len(tasks))
    outcomes = evaluate(worlds, Expert(worlds), tasks, 1, seed=0).outcomes
    assert outcomes["success"].mean() >= 0.9


def test_the_expert_squeezes_as_much_as_mass_and_friction_ask_for() -> None:
    family = Lift()
    worlds = started(family, torch.from_numpy(TASK))
    for _ in range(family.horizon):
        worlds.step(torch.from_numpy(family.expert(worlds.frame, TASK)), autoreset=False)
    grip = family.outcome(worlds.frame, TASK)["grip [N]"]
    assert grip.item() == pytest.approx(0.84 * 2.5 * 4.905, rel=0.02)


def test_a_policy_that_is_not_told_the_task_grips_too_hard_or_lets_go() -> None:
    family = Lift()
    train, ood = sample_tasks(family, "train", 28), sample_tasks(family, "ood", 14)
    for tasks, most in ((train, 0.6), (ood, 0.1)):
        worlds = started(family, tasks)
        guess, success = default_task(family)[None].numpy(), torch.zeros(len(tasks))
        guess = guess.repeat(len(tasks), 0)
        for _ in range(family.horizon):
            action = torch.from_numpy(family.expert(worlds.frame, guess))
            success = worlds.step(action, autoreset=False).outcome.get("success", success)
        assert success.mean() <= most


def test_what_is_held_does_not_creep_out_of_the_fingers() -> None:
    family = Lift()
    worlds = started(family, torch.from_numpy(TASK))
    heights = []
    for _ in range(family.horizon):
        worlds.step(torch.from_numpy(family.expert(worlds.frame, TASK)), autoreset=False)
        sensors = worlds.frame.sensors
        heights.append((sensors["tip"] - sensors["object"])[0, 2].item())
    held = np.array(heights[-40:])  # 2 s
    assert np.ptp(held) < 1e-3  # m
