"""insert, and the pegs and holes that it hides."""

import math

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.engine import BatchEngine
from metarl.envs.expert import Expert
from metarl.envs.family import Frame, default_task, parse_task, sample_tasks
from metarl.envs.insert import Insert
from metarl.envs.pegs import SHAPES, add_hole, add_peg, shape_hole, shape_peg
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.evaluate import evaluate
from metarl.randomness import Draws

SIDES = pytest.mark.parametrize(
    ("shape", "sides"), [("round", 8), ("square", 4), ("hexagonal", 6)]
)


# Pegs and holes.


def fitted(shape: str, clearance: float, yaw: float = 0.3, scale: float = 1.0) -> mujoco.MjModel:
    """A hole 20 cm ahead, and 1 m above it a peg for it, held upright."""
    spec = mujoco.MjSpec()
    hand = spec.worldbody.add_body(
        name="hand", pos=[0.2, 0.1, 1], quat=[math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
    )
    add_peg(spec, hand, scale, tool=0.1)
    add_hole(spec)
    shape_peg(spec, shape, scale)
    shape_hole(spec, shape, scale, (0.2, 0.1), yaw, clearance)
    return spec.compile()


def look(model: mujoco.MjModel, start: list[float], toward: list[float]) -> float:
    """How far the next surface is [m]."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return mujoco.mj_ray(model, data, np.array(start), np.array(toward), None, True, -1,
                         np.zeros(1, np.int32))


@SIDES
def test_a_hole_leaves_the_clearance_asked_for_on_every_side(shape: str, sides: int) -> None:
    # From the middle, 1 cm above the table: half of the peg, 12.5 mm, and 1.5 mm to each wall; to
    # the corner between two of them 14 mm / cos(pi / sides).
    model = fitted(shape, 1.5e-3)
    for side in range(sides):
        for turned in (0.0, math.pi / sides):
            angle = 0.3 + 2 * math.pi * side / sides + turned - 1e-6
            found = look(model, [0.2, 0.1, 0.01], [math.cos(angle), math.sin(angle), 0])
            assert found == pytest.approx(0.014 / math.cos(turned), abs=1e-6)


@SIDES
def test_a_peg_is_as_wide_and_long_as_its_hole_expects_and_turned_alike(
    shape: str, sides: int
) -> None:
    # Its sides lie 12.5 mm from its axis. The hand points up here: the peg ends 10 cm above it.
    model = fitted(shape, 1.5e-3)
    for side in range(sides):
        angle = 0.3 + 2 * math.pi * side / sides
        ahead = np.array([math.cos(angle), math.sin(angle), 0])
        start = np.array([0.2, 0.1, 1.075]) + ahead
        assert look(model, start.tolist(), (-ahead).tolist()) == pytest.approx(1 - 0.0125, abs=1e-6)
    assert look(model, [0.2, 0.1, 2.0], [0, 0, -1]) == pytest.approx(2 - 1.1, abs=1e-6)


def test_a_hole_is_as_deep_as_the_block_is_high_and_the_block_far_wider_than_the_hole() -> None:
    # 2.5 cm at scale 1 and 1.25 cm at half of it; the block reaches 4.5 cm beyond the hole.
    for scale, depth in ((1.0, 0.025), (0.5, 0.0125)):
        model = fitted("square", 1e-3, yaw=0.0, scale=scale)
        edge = 0.0125 * scale + 1e-3
        for x, height in ((edge - 1e-4, None), (edge + 1e-4, depth), (edge + 0.0449, depth),
                          (edge + 0.0451, None)):
            found = look(model, [0.2 + x, 0.1, 0.5], [0, 0, -1])
            assert found == (-1 if height is None else pytest.approx(0.5 - height, abs=1e-4))


def test_a_peg_weighs_the_same_whatever_its_shape() -> None:
    # Else the sensor at the wrist would tell the shape before the peg touches anything.
    models = [fitted(shape, 1e-3) for shape in SHAPES]
    for model in models:
        peg = model.body("peg")
        assert peg.mass[0] == 0.1
        # A square bar 2.5 cm wide and 5 cm long: m (w^2 + l^2) / 12 across, m w^2 / 6 about itself.
        assert peg.inertia == pytest.approx([2.604167e-5, 2.604167e-5, 1.041667e-5], rel=1e-5)
        assert peg.ipos.tolist() == pytest.approx([0, 0, 0.075])


# The task.


def tips(places: list[tuple[float, float, float]], family: Insert, push: float = 0.0) -> Frame:
    """The tip off the told place [mm]; the table pushes the peg up with `push` [N]."""
    told = np.array(family.place(0, 0, 0))
    zeros = np.zeros((len(places), 3))
    # The hand holds the weight, less what the table bears.
    weight = 0.1 * family.body.scale * 9.81
    force = np.tile([0.0, 0.0, weight - push], (len(places), 1))
    place = told + 1e-3 * np.array(places)
    return Frame(zeros, zeros, {"tip": place, "tip_velocity": zeros, "force": force,
                                "torque": zeros})


def told(family: Insert, **values: float) -> Tensor:
    words = [f"{name}={value}" for name, value in values.items()]
    return parse_task(family, words, lambda warning: None)[None]


def test_the_reward_counts_the_way_to_the_true_hole_and_the_load() -> None:
    # The true hole at (3, 4) mm, the tip at (3, 0) mm and 10 mm high: 0.4 cm aside, 1 cm above; a
    # load of 10 N: -0.4 - 0.5 ln(0.45) - 0.5 - 0.01 x 10 = -1 + 0.3992538 = -0.6007462
    # At half the scale 5 mm of height count as 10, and 5 N as 10.
    for family, share in ((Insert(), 1.0), (Insert(arm="so101"), 0.5)):
        task = told(family, offset_x=3, offset_y=4)
        after = tips([(3.0, 0.0, 10 * share)], family, push=10 * share)
        reward = family.reward(after, np.zeros((1, 3)), after, task.numpy())
        assert reward.item() == pytest.approx(-0.6007462, abs=1e-6)


def test_success_is_four_fifths_of_the_depth_in_the_hole_and_not_beside_the_block() -> None:
    # 2.5 cm deep: the tip at most 5 mm above the table, within 12.5 mm of the hole at (10, 0).
    family = Insert()
    places = [(10.0, 0.0, 4.9), (10.0, 0.0, 5.1), (22.0, 0.0, 0.0), (23.0, 0.0, 0.0),
              (10.0, 0.0, 40.0)]
    task = told(family, offset_x=10, offset_y=0).expand(len(places), -1).numpy()
    outcome = family.outcome(tips(places, family), task)
    assert outcome["success"].tolist() == [1, 0, 1, 0, 0]
    assert outcome["depth [m]"].tolist() == pytest.approx([0.0201, 0.0199, 0.025, 0, 0])


def test_the_arm_sees_its_tip_from_the_told_place_and_feels_the_table_not_the_weight() -> None:
    # 20 N up are 2 times 10 N; beyond 50 N the reading is cut off at 5.
    family = Insert()
    for push, felt in ((0.0, 0.0), (20.0, 2.0), (90.0, 5.0)):
        seen = family.observe(tips([(12.0, -7.0, 30.0)], family, push))[0].tolist()
        assert seen == pytest.approx([1.2, -0.7, 3.0, 0, 0, 0, 0, 0, felt, 0, 0, 0], abs=1e-6)


def test_a_shape_is_asked_for_by_its_name() -> None:
    assert parse_task(Insert(), ["shape=square"], lambda warning: None)[4] == 1
    with pytest.raises(UserError, match=r"unknown shape 'squar'; did you mean square\?"):
        parse_task(Insert(), ["shape=squar"], lambda warning: None)


# Life.


def begun(family: Insert, tasks: Tensor) -> Worlds:
    worlds = Worlds(family, len(tasks))
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(0, 0, len(tasks)))
    return worlds


def off(worlds: Worlds, family: Insert) -> np.ndarray:
    """The tip off the told place (N, 3) [mm]."""
    return 1e3 * (worlds.frame.sensors["tip"] - family.place(0, 0, 0))


@pytest.mark.parametrize("arm", ARMS)
def test_forces_are_felt_along_the_world_s_axes(arm: ArmName) -> None:
    # Every joint starts up to 0.01 rad off: the tip's axes are the world's but for a few of these.
    family = Insert(arm=arm)
    _, data = begun(family, told(family)).engine.row(0)
    assert data.site("tip").xmat == pytest.approx(np.eye(3).ravel(), abs=0.04)


@pytest.mark.parametrize(("arm", "limit"), [("fr3", 20.0), ("ur5e", 20.0), ("so101", 10.0)])
def test_an_arm_told_to_press_on_stops_at_the_limit(arm: ArmName, limit: float) -> None:
    family = Insert(arm=arm)
    worlds = begun(family, told(family, offset_x=10, offset_y=10))
    for _ in range(90):  # straight down onto the block, far from the hole
        worlds.step(torch.tensor([[0.0, 0.0, -1.0]]), autoreset=False)
    up = 10 * worlds.obs[0, 8].item()  # N
    assert up == pytest.approx(limit, rel=0.15)
    assert off(worlds, family)[0, 2] == pytest.approx(25 * family.body.scale, abs=0.5)


@pytest.mark.parametrize("arm", ARMS)
def test_a_peg_that_slides_over_the_block_falls_into_the_hole(arm: ArmName) -> None:
    # Nobody tells it where the hole is: it presses lightly and moves forward, from 2 cm behind the
    # told place, until a wall holds it. The hole lies 1 cm ahead of that place.
    family = Insert(arm=arm)
    tasks = told(family, offset_x=10, offset_y=0, clearance=2, friction=0.1).repeat(3, 1)
    tasks[:, 4] = torch.arange(3)
    worlds = begun(family, tasks)
    top = 25 * family.body.scale
    for step in range(240):
        x, y, z = off(worlds, family).T
        ahead, down = (x * 0 + 10, z * 0 - 5) if step >= 60 else (4 * (-20 - x), 4 * (top + 4 - z))
        wanted = np.stack([ahead, -4 * y, down], 1)  # mm/s
        worlds.step(torch.from_numpy(wanted / 40), autoreset=False)
    assert (off(worlds, family)[:, 2] < 1).all()
    assert abs(off(worlds, family)[:, 0] - 10).max() < 3


def test_a_touching_row_is_bit_for_bit_its_variant_compiled_alone() -> None:
    family = Insert()
    tasks = sample_tasks(family, "ood", 3)
    worlds = begun(family, tasks)
    models = [worlds.engine.compile(task) for task in tasks]
    alone = [mujoco.MjData(model) for model in models]
    for i, data in enumerate(alone):
        data.qpos = data.act = worlds.frame.qpos[i]
    action, touched = torch.tensor([[0.3, 0.2, -1.0]]).expand(3, 3), torch.zeros(3)
    for _ in range(60):
        control = family.control(worlds.frame, action.double().numpy())
        worlds.step(action, autoreset=False)
        for i, (model, data) in enumerate(zip(models, alone, strict=True)):
            data.ctrl = control[i] * model.actuator_ctrlrange[:, 1]
            mujoco.mj_step(model, data, worlds.engine.substeps)
            touched[i] += data.ncon
            assert np.array_equal(worlds.frame.qpos[i], data.qpos)
    assert touched.all()


@pytest.mark.parametrize("arm", ARMS)
def test_the_scripted_arm_inserts_what_it_is_told_about_and_fails_blind(arm: ArmName) -> None:
    family = Insert(arm=arm)
    tasks = torch.cat([sample_tasks(family, "test", 12), sample_tasks(family, "ood", 12)])
    worlds = Worlds(family, len(tasks))
    solved = evaluate(worlds, Expert(worlds), tasks, 1, seed=0).outcomes["success"]
    assert solved.mean() >= 0.95  # 1.00 of 420 tasks

    class Blind(Expert):
        def act(self, obs, belief, noise):
            believed = worlds.tasks.clone()
            believed[:, :2] = 0  # the hole is where it was told
            return torch.from_numpy(family.expert(worlds.frame, believed.numpy())).float()

    assert evaluate(worlds, Blind(worlds), tasks, 1, seed=0).outcomes["success"].mean() < 0.2


def test_every_shape_lives_in_one_padded_model() -> None:
    family = Insert()
    engine = BatchEngine(family, 1, threads=1)
    for shape in range(3):
        task = default_task(family)
        task[4] = shape
        changed = engine.fields(task)
        assert ("geom_dataid" in changed) == (SHAPES[shape] == "hexagonal")
        assert not {"body_mass", "body_inertia"} & changed.keys()
