"""Families compute the same with torch's tensors as with numpy's arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.arrays import concatenate, cross, length, like, stack, sum_of_squares
from metarl.envs.family import Family, Frame, sample_tasks
from metarl.envs.kinematics import forward
from metarl.envs.worlds import Worlds

ROWS = 7


def tensor(array: np.ndarray) -> Any:
    return torch.from_numpy(array)


def on_torch(frame: Frame) -> Frame:
    sensors = {name: tensor(value) for name, value in frame.sensors.items()}
    return Frame(tensor(frame.qpos), tensor(frame.qvel), sensors)


def agrees(found: np.ndarray, on_tensors: Tensor) -> bool:
    # Torch compares what `where` chose of two numbers in single precision.
    return isinstance(on_tensors, Tensor) and np.allclose(found, on_tensors.numpy(), atol=1e-6)


def lived(family: Family) -> tuple[Worlds, list[Frame]]:
    """Worlds of train and ood tasks, and two frames of their lives, 20 control steps apart."""
    worlds = Worlds(family, ROWS)
    worlds.set_tasks(sample_tasks(family, "ood", ROWS))
    worlds.reset()
    frames = [worlds.frame]
    for action in 2 * torch.rand(20, ROWS, worlds.shapes.action,
                                 generator=torch.Generator().manual_seed(0)) - 1:
        worlds.step(action)
    return worlds, [*frames, worlds.frame]


def test_a_family_is_the_same_on_tensors_as_on_arrays(family: Family) -> None:
    worlds, (before, after) = lived(family)
    task = worlds.tasks.numpy()
    action = np.random.default_rng(0).uniform(-1, 1, (ROWS, worlds.shapes.action))
    parts: dict[str, Callable] = {
        "observe": lambda b, a, u, t: family.observe(a),
        "reward": lambda b, a, u, t: family.reward(b, u, a, t),
        "control": lambda b, a, u, t: family.control(a, u),
        "terminated": lambda b, a, u, t: family.terminated(a),
        "holds": lambda b, a, u, t: family.holds(a, t),
        "expert": lambda b, a, u, t: family.expert(a, t),
        **{name: lambda b, a, u, t, n=name: family.outcome(a, t)[n]
           for name in family.outcome(after, task)},
    }
    tensors = tensor(action), tensor(task)
    for name, part in parts.items():
        found = part(before, after, action, task)
        if found is not None:
            assert agrees(found, part(on_torch(before), on_torch(after), *tensors)), name


@pytest.mark.parametrize("arm", ARMS)
def test_an_arms_kinematics_are_the_same_on_tensors_as_on_arrays(arm: ArmName) -> None:
    angles = np.random.default_rng(0).uniform(-1, 1, (ROWS, len(ARMS[arm].joints)))
    found = forward(ARMS[arm], angles)
    other = forward(ARMS[arm], tensor(angles))
    for name in ("position", "rotation", "jacobian"):
        assert agrees(getattr(found, name), getattr(other, name))


def test_vectors_have_their_lengths_and_cross_products() -> None:
    vectors = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    assert length(vectors).tolist() == [5.0, 2.0]
    assert length(vectors, keepdims=True).tolist() == [[5.0], [2.0]]
    assert sum_of_squares(vectors).tolist() == [25.0, 4.0]
    # x times y is z, y times z is x, and z times x is y.
    axes = np.eye(3)
    assert cross(axes, axes[[1, 2, 0]]).tolist() == axes[[2, 0, 1]].tolist()


def test_columns_stand_beside_each_other() -> None:
    one, two = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert stack(one, two).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert concatenate(stack(one), stack(two, one)).tolist() == [[1, 3, 1], [2, 4, 2]]


def test_a_constant_becomes_what_it_is_computed_with() -> None:
    constant = np.ones(2)
    assert like(np.zeros(3), constant) is constant
    assert isinstance(like(tensor(np.zeros(3)), constant), Tensor)
