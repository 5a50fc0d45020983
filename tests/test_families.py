"""What every family keeps to, and each family's own arithmetic."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from metarl.envs import FAMILIES
from metarl.envs.ant_dir import AntDir
from metarl.envs.ant_goal import AntGoal
from metarl.envs.arms import ARMS
from metarl.envs.cheetah_dir import CheetahDir
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.engine import BatchEngine
from metarl.envs.family import (
    Family,
    Frame,
    Parameter,
    Random,
    Split,
    default_task,
    named_task,
    parse_task,
    sample_tasks,
)
from metarl.envs.hopper_params import HopperParams
from metarl.envs.lift import Lift
from metarl.envs.objects import SHAPES
from metarl.envs.planar import Planar
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.walker_params import WalkerParams
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws


def refuse(message: str) -> None:
    raise AssertionError(f"warned: {message}")


# Tasks.


@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks_lie_in_the_train_range(family: Family, split: str) -> None:
    tasks = sample_tasks(family, split, 300, seed=3)  # pyright: ignore
    for values, parameter in zip(tasks.T, family.parameters, strict=True):
        low, high = parameter.train
        assert low <= values.min() and values.max() <= high
        assert not parameter.values or set(values.tolist()) == set(parameter.values)
        assert values.max() - values.min() > 0.9 * (high - low)


def test_ood_tasks_lie_in_the_ood_ranges_and_beyond_the_train_range(family: Family) -> None:
    tasks = sample_tasks(family, "ood", 300, seed=3)
    if not any(parameter.ood for parameter in family.parameters):
        return  # nothing lies beyond a complete set of directions
    for values, parameter in zip(tasks.T, family.parameters, strict=True):
        ranges = parameter.ood or (parameter.train,)
        inside = [(low <= values) & (values <= high) for low, high in ranges]
        assert torch.stack(inside).any(0).all()
        assert all(part.any() for part in inside)
        for low, high in parameter.ood:
            assert high <= parameter.train[0] or low >= parameter.train[1]


@pytest.mark.parametrize("cls", [Push, Lift])
def test_shapes_that_are_held_out_of_training_are_those_of_the_other_tasks(
    cls: type[Push | Lift],
) -> None:
    family = cls(held_out=("ring", "capsule"))
    column = [p.name for p in family.parameters].index("shape")

    def shapes(split: Split) -> list[str]:
        tasks = sample_tasks(family, split, 30)
        return [SHAPES[int(number)] for number in tasks[:, column]]

    trained_on = {"box", "cylinder", "ellipsoid", "L", "wedge"}
    assert set(shapes("train")) == set(shapes("validation")) == trained_on
    assert [shapes("train").count(name) for name in ("box", "wedge")] == [6, 6]
    assert set(shapes("test")) == set(shapes("ood")) == {"ring", "capsule"}
    warnings: list[str] = []
    parse_task(family, ["shape=ring"], warnings.append)
    parse_task(family, ["shape=box"], refuse)
    assert warnings == ["shape=ring was held out of training"]


def test_a_task_by_default_has_a_shape_of_training() -> None:
    family = Lift(held_out=("box", "cylinder"))
    assert named_task(family, default_task(family))["shape"] == 2  # the capsule


def test_shapes_to_hold_out_must_exist_and_leave_some() -> None:
    with pytest.raises(UserError, match="unknown shape 'rin'; did you mean ring"):
        Lift(held_out=("rin",))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="every shape is held out; leave some"):
        Push(held_out=SHAPES)


def test_splits_and_seeds_share_no_task_and_larger_sets_begin_with_smaller_ones(
    family: Family,
) -> None:
    sets = [sample_tasks(family, split, 50, seed) for split in ("train", "test", "ood")
            for seed in (0, 1)]  # pyright: ignore
    finite = all(parameter.values for parameter in family.parameters)
    assert finite or len(torch.cat(sets).unique(dim=0)) == 300
    assert torch.equal(sample_tasks(family, "train", 20), sets[0][:20])


def test_two_fresh_processes_draw_the_same_tasks() -> None:
    code = (
        "from metarl.envs import FAMILIES\n"
        "from metarl.envs.family import sample_tasks\n"
        "print([sample_tasks(f(), s, 5).tolist() for f in FAMILIES.values()"
        " for s in ('train', 'test', 'ood')])"
    )
    here = [sample_tasks(f(), s, 5).tolist() for f in FAMILIES.values()
            for s in ("train", "test", "ood")]  # pyright: ignore
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed,
                       "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env=environment, check=True)
        assert done.stdout.strip() == str(here)


def test_a_log_uniform_parameter_is_even_in_its_logarithm() -> None:
    parameter = Parameter("k", "x", "", (0.5, 2.0), distribution="log-uniform")
    assert parameter.default == pytest.approx(1.0)  # sqrt(0.5 x 2)
    assert parameter.draw(0.25, 0.0, "train") == pytest.approx(2**-0.5)


def test_choices_take_turns_and_two_of_them_appear_in_every_combination() -> None:
    class Turns(CheetahDir):
        parameters = (
            Parameter("a", "", "", (0.0, 1.0), values=(0.0, 1.0)),
            Parameter("b", "", "", (0.0, 2.0), values=(0.0, 1.0, 2.0)),
        )

    for seed in range(5):
        tasks = sample_tasks(Turns(), "train", 12, seed)
        assert len(tasks.unique(dim=0)) == 6  # 2 x 3
        assert tasks[:, 0].sum() == 6 and tasks[:, 1].sum() == 12  # 12 x 1/2 and 12 x 1
    first = [sample_tasks(Turns(), "train", 1, seed)[0, 0].item() for seed in range(20)]
    assert set(first) == {0.0, 1.0}


def test_a_radius_on_a_disc_is_drawn_by_area() -> None:
    parameter = Parameter("r", "m", "", (0.0, 3.0), distribution="disc")
    assert parameter.draw(0.25, 0.0, "train") == pytest.approx(1.5)  # a quarter of the area
    assert Parameter("r", "m", "", (3.0, 5.0), distribution="disc").draw(
        0.4375, 0.0, "train"
    ) == pytest.approx(4.0)  # (16 - 9) / (25 - 9)


# Episodes.


def test_a_reset_starts_in_a_state_of_the_models_shape(family: Family) -> None:
    engine = BatchEngine(family, 8)
    task = default_task(family).expand(8, -1).numpy()
    start = family.reset(engine.default_frame(), task, Random(Draws.of(0, 0, 8), 0))
    assert start.qpos.shape == (8, engine.model.nq) and start.qvel.shape == (8, engine.model.nv)
    assert start.qpos.dtype == start.qvel.dtype == np.float64
    assert (start.act is None) == (engine.model.na == 0)


def test_a_random_episode_is_finite_and_its_measures_are_one_per_row(family: Family) -> None:
    worlds = Worlds(family, 6)
    worlds.set_tasks(sample_tasks(family, "ood", 6))
    worlds.reset(draws=Draws.of(0, 0, 6))
    source = torch.Generator().manual_seed(0)
    ended = torch.zeros(6, dtype=torch.bool)
    for _ in range(family.horizon):
        steps = worlds.step(2 * torch.rand(6, worlds.shapes.action, generator=source) - 1)
        assert steps.next_obs.isfinite().all() and steps.reward.isfinite().all()
        assert not worlds.diverged.any()
        ended |= steps.last
        for name, values in steps.outcome.items():
            assert values.shape == (6,) and torch.equal(values.isfinite(), steps.last)
            assert name != "success" or set(values[steps.last].tolist()) <= {0.0, 1.0}
    assert ended.all()


def test_a_family_counts_whole_substeps(family: Family) -> None:
    engine = BatchEngine(family, 1)
    assert engine.substeps * engine.model.opt.timestep == pytest.approx(family.control_step)


# cheetah-vel.


def cheetahs(x: list[float]) -> Frame:
    qpos = np.zeros((len(x), 9))
    qpos[:, 0] = x
    return Frame(qpos, np.zeros((len(x), 9)), {})


def test_the_cheetahs_reward_is_its_distance_from_the_target_speed_less_the_effort() -> None:
    # From 0 to 0.1 m and from 1 to 0.95 m in 0.05 s: 2 m/s and -1 m/s; the target is 1.5 m/s.
    # Six actions of 0.5 cost 0.05 x 6 x 0.25 = 0.075.
    # -|2 - 1.5| - 0.075 = -0.575 and -|-1 - 1.5| - 0.075 = -2.575
    task = np.full((2, 1), 1.5)
    action = np.full((2, 6), 0.5)
    reward = CheetahVel().reward(cheetahs([0.0, 1.0]), action, cheetahs([0.1, 0.95]), task)
    assert reward.tolist() == pytest.approx([-0.575, -2.575])


def test_a_cheetah_told_to_go_backward_earns_its_backward_speed_less_the_effort() -> None:
    # From 0 to -0.1 m in 0.05 s: -2 m/s; six actions of 0.5 cost 0.075: 2 - 0.075 and -2 - 0.075.
    task = np.array([[-1.0], [1.0]])
    action = np.full((2, 6), 0.5)
    reward = CheetahDir().reward(cheetahs([0.0] * 2), action, cheetahs([-0.1] * 2), task)
    assert reward.tolist() == pytest.approx([1.925, -2.075])


def test_a_cheetah_starts_within_a_tenth_of_its_pose() -> None:
    frame = cheetahs([0.0] * 500)
    start = CheetahVel().reset(frame, np.zeros((500, 1)), Random(Draws.of(0, 0, 500), 0))
    assert 0.099 < abs(start.qpos).max() <= 0.1  # U(-0.1, 0.1)
    assert start.qvel.std() == pytest.approx(0.1, rel=0.05)  # N(0, 0.1)
    assert abs(start.qvel.mean()) < 0.01


def test_a_cheetah_sees_all_but_its_place_unless_asked() -> None:
    assert Worlds(CheetahVel(), 1).shapes.obs == 17
    classic = Worlds(CheetahVel(classic_observation=True), 1)
    assert classic.shapes.obs == 20
    assert classic.obs[0, 17].item() == np.float32(classic.frame.qpos[0, 0])


def test_a_cheetah_is_driven_every_fifth_timestep_of_a_hundredth_of_a_second() -> None:
    engine = BatchEngine(CheetahVel(), 1)
    assert (engine.substeps, engine.model.opt.timestep) == (5, 0.01)
    assert engine.model.body_mass.sum() == pytest.approx(14.0)


# ant-dir and ant-goal.


def ants(places: list[tuple[float, float]], height: float = 0.6) -> Frame:
    qpos = np.zeros((len(places), 15))
    qpos[:, :2], qpos[:, 2] = places, height
    return Frame(qpos, np.zeros((len(places), 14)), {})


def test_an_ant_earns_its_speed_along_the_direction_one_for_being_alive_less_the_effort() -> None:
    # (0.1, 0.05) m in 0.05 s: (2, 1) m/s. Forward: 2; backward: -2; to the left: 1.
    # Eight motors at 0.5 cost 0.5 x 8 x 0.25 = 1.
    task = np.array([[0.0], [math.pi], [math.pi / 2]])
    action = np.full((3, 8), 0.5)
    reward = AntDir().reward(ants([(0, 0)] * 3), action, ants([(0.1, 0.05)] * 3), task)
    assert reward.tolist() == pytest.approx([2.0, -2.0, 1.0])


def test_the_two_directions_of_an_ant_are_opposite() -> None:
    tasks = sample_tasks(AntDir(), "train", 2)
    assert sorted(tasks.cos().squeeze(1).tolist()) == pytest.approx([-1.0, 1.0])
    assert len(sample_tasks(AntDir(any_direction=True), "train", 50).unique()) == 50


def test_an_ant_has_fallen_below_20_cm_or_above_a_metre() -> None:
    heights = (0.19, 0.21, 0.99, 1.01)
    fallen = [AntDir().terminated(ants([(0, 0)], height)).item() for height in heights]
    assert fallen == [True, False, False, True]
    assert not AntGoal().terminated(ants([(0, 0)], 0.1)).item()


def test_an_ants_distance_from_its_goal_is_paid_along_the_axes_and_measured_straight() -> None:
    # The goal 5 m away at atan2(4, 3): (3, 4). From (0, 1): |3| + |3| = 6, straight sqrt(18).
    task = np.array([[math.atan2(4, 3), 5.0]])
    after = ants([(0, 1)])
    action = np.full((1, 8), 0.5)  # costs 0.1 x 8 x 0.25 = 0.2
    assert AntGoal().reward(after, action, after, task).item() == pytest.approx(-6.2)
    assert AntGoal().outcome(after, task)["distance [m]"].item() == pytest.approx(18**0.5)


def test_the_ant_moves_as_gymnasiums_does() -> None:
    ours = AntDir().spec().compile()
    theirs = gymnasium.make("Ant-v5").unwrapped.model  # pyright: ignore
    ends = []
    for model in (ours, theirs):
        data = mujoco.MjData(model)
        data.ctrl[:] = np.linspace(-0.5, 0.5, 8)
        for _ in range(100):  # a second: it falls on its feet and leaps
            mujoco.mj_step(model, data)
        ends.append(np.concatenate([data.qpos, data.qvel]))
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


# hopper-params and walker-params.


def planar(family: Planar, x: float, z: float = 1.25, pitch: float = 0.0) -> Frame:
    qpos = np.zeros((1, 6 + 3 * (len(family.legs) - 1)))
    qpos[0, :3] = x, z, pitch
    return Frame(qpos, np.zeros_like(qpos), {})


PLANAR = pytest.mark.parametrize("planar_family", [HopperParams(), WalkerParams()])


@PLANAR
def test_a_planar_robot_earns_its_speed_and_one_for_being_alive(planar_family: Planar) -> None:
    # 0.032 m in 0.016 s: 2 m/s; motors at 0.5 each cost 0.001 x 0.25.
    motors = 3 * len(planar_family.legs)
    before, after = planar(planar_family, 0.0), planar(planar_family, 0.032)
    action, task = np.full((1, motors), 0.5), np.ones((1, 1))
    reward = planar_family.reward(before, action, after, task)
    assert reward.item() == pytest.approx(2 + 1 - 0.001 * 0.25 * motors)


@PLANAR
def test_a_planar_robot_is_driven_every_16_milliseconds_whatever_the_old_code_passes(
    planar_family: Planar,
) -> None:
    engine = BatchEngine(planar_family, 1)
    assert (engine.substeps, engine.model.opt.timestep) == (4, 0.004)


def test_a_hopper_has_fallen_below_70_cm_or_beyond_a_fifth_of_a_radian() -> None:
    fallen = [(0.71, 0.0, False), (0.69, 0.0, True), (1.25, 0.19, False), (1.25, -0.21, True)]
    for z, pitch, expected in fallen:
        hopper = planar(HopperParams(), 0.0, z, pitch)
        assert HopperParams().terminated(hopper).item() is expected


def test_a_walker_has_fallen_below_80_cm_or_above_2_m_or_beyond_a_radian() -> None:
    fallen = [(0.81, 0.0, False), (0.79, 0.0, True), (2.01, 0.0, True), (1.25, 0.99, False),
              (1.25, -1.01, True)]
    for z, pitch, expected in fallen:
        walker = planar(WalkerParams(), 0.0, z, pitch)
        assert WalkerParams().terminated(walker).item() is expected


@PLANAR
def test_a_mass_factor_scales_mass_and_inertia_of_that_body_alone(planar_family: Planar) -> None:
    engine = BatchEngine(planar_family, 1)
    task = parse_task(planar_family, ["mass_thigh=2"], refuse)
    changed, base = engine.compile(task), engine.model
    thigh = base.body("thigh").id
    factors = changed.body_mass[1:] / base.body_mass[1:]
    assert factors.tolist() == [2.0 if i + 1 == thigh else 1.0 for i in range(len(factors))]
    assert (changed.body_inertia[thigh] / base.body_inertia[thigh]).tolist() == [2.0] * 3


@PLANAR
def test_the_published_tasks_have_a_factor_for_every_number_of_every_array(
    planar_family: Planar,
) -> None:
    classic = replace(planar_family, classic=True)
    model = classic.spec().compile()
    bodies, geoms, joints = model.nbody - 1, model.ngeom, 3 * len(planar_family.legs)
    assert len(classic.parameters) == bodies + 3 * bodies + 3 * geoms + joints
    low, high = classic.parameters[0].train
    assert (low, high) == pytest.approx((0.296, 3.375), abs=1e-3)  # 1.5^-3, 1.5^3


@PLANAR
def test_every_published_task_compiles_with_the_inertias_that_are_felt(
    planar_family: Planar,
) -> None:
    classic = replace(planar_family, classic=True)
    engine = BatchEngine(classic, 1, threads=1)
    for task in sample_tasks(classic, "train", 20):
        engine.compile(task)
    # A factor of 3 on one inertia about an axis across the torso, which is along z: 3 times the
    # inertia that its hinges feel, or none, as the axis lies.
    felt = []
    for axis in "12":
        task = parse_task(classic, [f"inertia_torso_{axis}=3"], refuse)
        model, body = engine.compile(task), engine.model.body("torso").id

        def about_y(model: mujoco.MjModel, body: int = body) -> float:
            turned = np.zeros(9)
            mujoco.mju_quat2Mat(turned, model.body_iquat[body])
            return float(turned.reshape(3, 3)[1] ** 2 @ model.body_inertia[body])

        felt.append(about_y(model) / about_y(engine.model))
    assert sorted(felt) == pytest.approx([1.0, 3.0])


def test_the_walkers_feet_grip_unequally() -> None:
    model = WalkerParams().spec().compile()
    assert [model.geom(foot).friction[0] for foot in ("foot", "foot_left")] == [0.9, 1.9]


# reach.


def test_the_arms_reward_grows_steeply_close_to_the_goal() -> None:
    # Flange at (0.5, 0, 0.4), goal at (0.5, 0.3, 0.4): 0.3 m; actions of 0.5: mean square 0.25.
    # -5 x 0.3 - 0.5 ln(0.31) - 0.05 x 0.25 = -1.5 + 0.5855915 - 0.0125 = -0.9269085
    # At the goal: -0.5 ln(0.01) - 0.0125 = 2.3025851 - 0.0125 = 2.2900851
    task = np.array([[0.5, 0.3, 0.4, 1, 1, 1], [0.5, 0.0, 0.4, 1, 1, 1]])
    after = flanges([[0.5, 0.0, 0.4]] * 2)
    reward = Reach().reward(after, np.full((2, 7), 0.5), after, task)
    assert reward.tolist() == pytest.approx([-0.9269085, 2.2900851], abs=1e-6)


def test_the_arm_succeeds_within_two_centimetres() -> None:
    task = np.array([[0.5, 0.0, 0.4, 1, 1, 1]] * 2)
    outcome = Reach().outcome(flanges([[0.5, 0.019, 0.4], [0.5, 0.0, 0.421]]), task)
    assert outcome["success"].tolist() == [1.0, 0.0]
    assert outcome["distance [m]"].tolist() == pytest.approx([0.019, 0.021])


def flanges(places: list[list[float]]) -> Frame:
    zeros = np.zeros((len(places), 7))
    return Frame(zeros, zeros, {"flange": np.array(places)})


def test_the_arm_starts_at_rest_close_to_home_with_its_servos_there() -> None:
    frame = flanges([[0.0, 0.0, 0.0]] * 300)
    start = Reach().reset(frame, np.zeros((300, 6)), Random(Draws.of(0, 0, 300), 0))
    away = abs(start.qpos - np.array(ARMS["fr3"].home)).max()
    assert 0.049 < away <= 0.05  # U(-0.05, 0.05)
    assert start.act is not None and np.array_equal(start.act, start.qpos)
    assert not start.qvel.any()


@pytest.mark.parametrize("cls", [Reach, Push, Lift])
def test_an_arm_that_there_is_not_is_answered_with_the_nearest(cls: type[Family]) -> None:
    with pytest.raises(UserError, match=r"unknown arm 'ur5'; did you mean ur5e\?"):
        cls(arm="ur5")  # pyright: ignore[reportCallIssue]


def test_the_arm_is_driven_twenty_times_a_second() -> None:
    engine = BatchEngine(Reach(), 1)
    assert (engine.substeps, engine.model.opt.timestep) == (10, 0.005)
    assert Worlds(Reach(), 1).shapes.obs == 17  # 7 angles, 7 speeds, 3 of the flange's place


# Tasks in words.


def test_a_task_in_words_keeps_the_defaults_of_what_it_leaves_out() -> None:
    family = Reach()
    task = parse_task(family, ["payload=1.5", "goal_x=0.4"], refuse)
    wanted = {**named_task(family, default_task(family)), "payload": 1.5, "goal_x": 0.4}
    assert named_task(family, task) == wanted


def test_a_misspelt_parameter_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'paylod'; did you mean payload\?"):
        parse_task(Reach(), ["paylod=1"], refuse)


def test_a_value_outside_the_train_range_is_taken_with_a_warning() -> None:
    warnings: list[str] = []
    task = parse_task(Reach(), ["payload=2.5"], warnings.append)
    assert task[3] == 2.5
    assert len(warnings) == 1 and "[0, 2] kg" in warnings[0]


@pytest.mark.parametrize("value", ["-1", "21", "nan", "inf"])
def test_an_impossible_value_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"impossible: mass at the flange must lie in \[0, 20\] kg"):
        parse_task(Reach(), [f"payload={value}"], refuse)


def test_a_value_that_is_none_of_the_choices_is_refused_with_all_of_them() -> None:
    with pytest.raises(UserError, match=r"direction=0\.5 is impossible: .* must be one of 1, -1"):
        parse_task(CheetahDir(), ["direction=0.5"], refuse)


def test_a_choice_may_be_written_as_it_is_printed() -> None:
    assert parse_task(AntDir(), ["direction=3.142"], refuse).item() == math.pi


def test_a_value_that_is_no_number_is_refused_with_its_unit() -> None:
    with pytest.raises(UserError, match="not a number; give it in kg"):
        parse_task(Reach(), ["payload=heavy"], refuse)


def test_a_word_without_equals_is_refused_with_an_example() -> None:
    with pytest.raises(UserError, match=r"name=value, as in velocity=1\.5"):
        parse_task(CheetahVel(), ["velocity"], refuse)
