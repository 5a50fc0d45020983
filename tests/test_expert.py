"""The scripted oracle: the tasks can be solved, and not by a policy that is blind to them."""

import mujoco
import numpy as np
import torch

from metarl.envs.expert import Expert
from metarl.envs.family import Random, sample_tasks
from metarl.envs.reach import Reach, _jacobian
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate
from metarl.randomness import Draws


def test_the_oracle_of_reach_solves_test_and_ood_tasks():
    for split in ("test", "ood"):
        worlds = Worlds(Reach(), 10)
        result = evaluate(worlds, Expert(worlds), sample_tasks(Reach(), split, 10), 1, seed=0)
        assert result.outcomes["success"].mean() >= 0.9


def test_one_place_for_all_tasks_solves_none():
    family, tasks = Reach(), sample_tasks(Reach(), "test", 10)
    centre = tasks.clone()
    centre[:, :3] = torch.tensor([0.5, 0.0, 0.4])
    worlds = Worlds(family, 10)
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(0, 0, 10))
    outcome = {}
    for _ in range(family.horizon):
        action = family.expert(worlds.frame, centre)
        outcome = worlds.step(action.float()).outcome
    assert outcome["success"].mean() <= 0.1
    assert outcome["distance [m]"].mean() > 0.1


def test_the_kinematics_are_those_of_the_model():
    model = Reach().spec().compile()
    data, jacobian = mujoco.MjData(model), np.zeros((3, 7))
    home = Worlds(Reach(), 3).engine.default_frame()
    qpos = Reach().reset(home, torch.zeros(3, 6), Random(Draws.of(0, 0, 3), 0)).qpos
    for row, expected in zip(qpos, _jacobian(qpos), strict=True):
        data.qpos[:] = row.numpy()
        mujoco.mj_forward(model, data)
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("flange").id)
        np.testing.assert_allclose(jacobian, expected.numpy(), atol=1e-9)


def test_the_flange_of_the_ready_pose_is_where_the_data_sheet_puts_it():
    # The upper arm leans back by 45 deg, the forearm is level and the flange points down:
    # x = -0.316 sin 45 + 0.0825 cos 45 + 0.384 + 0.088 = 0.3069
    # z = 0.333 + 0.316 cos 45 + 0.0825 sin 45 + 0.0825 - 0.107 = 0.5903
    model = Reach().spec().compile()
    data = mujoco.MjData(model)
    data.qpos[:] = [0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4]
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.site("flange").xpos, [0.3069, 0.0, 0.5903], atol=2e-4)
