"""push, and the objects that tasks on a table hide."""

import math

import mujoco
import numpy as np
import pytest
import torch

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.engine import BatchEngine
from metarl.envs.expert import Expert
from metarl.envs.family import Frame, default_task, parse_task, sample_tasks
from metarl.envs.objects import SHAPES, add_object, resting_heights, round_size, shape_object
from metarl.envs.push import Push
from metarl.envs.tabletop import heading, limited
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.evaluate import evaluate


def shaped(shape: str, size: float = 0.04, mass: float = 0.6, **options) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    add_object(spec, scale=1.0)
    shape_object(spec, shape, size, 1.0, mass, **options)
    return spec.compile()


def body(model: mujoco.MjModel, angles: float = 0.0) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_has_the_mass_and_the_centre_of_mass_asked_for(shape: str) -> None:
    # Half of the mass is ballast at twice the offset, so that the whole moves by the offset.
    model, moved = shaped(shape), shaped(shape, offset=(0.01, -0.005))
    index = model.body("object").id
    assert model.body_subtreemass[index] == pytest.approx(0.6)
    shift = body(moved).subtree_com[index] - body(model).subtree_com[index]
    assert shift.tolist() == pytest.approx([0.01, -0.005, 0.0], abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_is_as_high_as_its_size_says_and_lies_flat(shape: str) -> None:
    # Half of the width 4 cm, half of the height 0.6 x 4 cm: resting, its middle is 2.4 cm high.
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    add_object(spec, 1.0)
    shape_object(spec, shape, 0.04, 1.0, 0.6)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[2] = 0.024
    mujoco.mj_step(model, data, 500)
    assert data.qpos[2] == pytest.approx(0.024, abs=1e-3)
    assert np.abs(data.qpos[:2]).max() < 2e-3


def test_what_is_not_convex_is_made_of_convex_parts() -> None:
    # A ray straight down through the ring's middle and through the L's missing corner hits nothing.
    for shape, place in (("ring", (0.0, 0.0)), ("L", (0.02, 0.02))):
        model = shaped(shape)
        found = np.zeros(1, np.int32)
        down, start = np.array([0.0, 0.0, -1.0]), np.array([*place, 1.0])
        model.geom_group[model.geom("ballast").id] = 5
        drawn = np.array([1, 1, 1, 1, 1, 0], np.uint8)
        distance = mujoco.mj_ray(model, body(model), start, down, drawn, True, -1, found)
        assert distance == -1 or model.geom(found[0]).size[0] == 0.001
    full = shaped("cylinder")
    hit = mujoco.mj_ray(full, body(full), np.array([0, 0, 1.0]), np.array([0, 0, -1.0]), None,
                        True, -1, np.zeros(1, np.int32))
    assert hit == pytest.approx(1 - 0.024)


def test_sizes_come_in_steps_of_the_meshes() -> None:
    assert round_size(0.0311, 1.0) == pytest.approx(0.03)
    assert round_size(0.0314, 1.0) == pytest.approx(0.0325)
    assert round_size(0.0162, 0.5) == pytest.approx(0.01625)
    assert round_size(1.0, 1.0) == pytest.approx(0.055)
    # Resting, the middle is 0.6 of half of the rounded width high.
    heights = resting_heights(np.array([0.0311, 0.0314, 1.0]), 1.0)
    assert heights.tolist() == pytest.approx([0.018, 0.0195, 0.033])


def test_every_shape_lives_in_one_padded_model() -> None:
    family = Push()
    engine = BatchEngine(family, 1, threads=1)
    task = default_task(family)
    assert engine.fields(task) == {}  # the base model is the default task's, a box
    for shape in range(1, len(SHAPES)):
        task[2] = shape
        changed = engine.fields(task)
        assert "geom_size" in changed and "body_inertia" in changed
    assert engine.model.nmesh == 30  # 15 sizes of wedge and ring segment


def test_a_shape_is_asked_for_by_its_name() -> None:
    task = parse_task(Push(), ["shape=ring"], lambda warning: None)
    assert task[2] == SHAPES.index("ring")
    with pytest.raises(UserError, match=r"unknown shape 'rong'; did you mean ring\?"):
        parse_task(Push(), ["shape=rong"], lambda warning: None)


def frame(place: tuple[float, float], tip: tuple[float, float]) -> Frame:
    def sensor(x: float, y: float) -> np.ndarray:
        return np.array([[x, y, 0.02]])

    zeros = np.zeros((1, 14))
    return Frame(zeros, zeros, {"object": sensor(*place), "tip": sensor(*tip)})


def test_the_reward_of_pushing_counts_both_distances() -> None:
    # The object 0.1 m from its goal, the stick 0.05 m from the object:
    # -5 x 0.1 - 0.5 ln(0.11) - 0.05 = -0.5 + 1.1036375 - 0.05 = 0.5536375
    family = Push()
    task = default_task(family)[None].numpy()
    task[0, 0], task[0, 1] = 0.6, 0.1
    after = frame((0.6, 0.0), (0.55, 0.0))
    reward = family.reward(after, np.zeros((1, 2)), after, task)
    assert reward.item() == pytest.approx(0.5536375, abs=1e-6)


def test_an_arm_half_as_large_is_judged_by_half_the_distances() -> None:
    family = Push(arm="so101")
    task = default_task(family)[None].numpy()
    task[0, 0], task[0, 1] = 0.25, 0.05
    after = frame((0.25, 0.0), (0.225, 0.0))  # 0.05 and 0.025 m: as above
    assert family.reward(after, np.zeros((1, 2)), after, task).item() == pytest.approx(
        0.5536375, abs=1e-6)
    for y, success in ((0.036, 1.0), (0.034, 0.0)):  # 1.4 and 1.6 cm from the goal, within 1.5 cm
        outcome = family.outcome(frame((0.25, y), (0.0, 0.0)), task)
        assert outcome["success"].item() == success


def test_a_tool_is_never_told_to_move_faster_than_a_quarter_of_a_metre_a_second() -> None:
    # (1, 1) x 0.25 m/s is 0.354 m/s long, and is slowed down to 0.25 along the same direction.
    slowed = limited(np.array([[0.25, 0.25], [0.1, 0.0]]))
    assert slowed[0].tolist() == pytest.approx([0.25 / math.sqrt(2)] * 2)
    assert slowed[1].tolist() == pytest.approx([0.1, 0.0])


def test_the_heading_of_a_body_turned_by_sixty_degrees_and_leaning() -> None:
    # Its x axis, raised by 30 degrees: (cos 60, sin 60) cos 30 in the plane, sin 30 upward.
    lean = math.cos(math.radians(30))
    turned = heading(np.array([[0.5 * lean, math.sqrt(0.75) * lean, 0.5]]))
    assert turned[0].tolist() == pytest.approx([0.5, math.sqrt(0.75)])


@pytest.mark.parametrize("arm", ARMS)
def test_the_scripted_arm_pushes_what_it_is_told_about_and_fails_blind(arm: ArmName) -> None:
    family = Push(arm=arm)
    tasks = torch.cat([sample_tasks(family, "test", 14), sample_tasks(family, "ood", 14)])
    worlds = Worlds(family, len(tasks))
    solved = evaluate(worlds, Expert(worlds), tasks, 1, seed=0).outcomes["success"]
    assert solved.mean() >= 0.85  # 0.95 of 280 tasks; of 28, one more may fail

    class Blind(Expert):
        def act(self, obs, belief, noise):
            told = default_task(family).expand(len(tasks), -1).numpy()
            return torch.from_numpy(family.expert(worlds.frame, told)).float()

    assert evaluate(worlds, Blind(worlds), tasks, 1, seed=0).outcomes["success"].mean() < 0.3
