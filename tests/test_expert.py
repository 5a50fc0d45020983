"""The scripted oracle: the tasks can be solved, and not by a policy that is blind to them."""

import torch

from metarl.envs.expert import Expert
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
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
        action = family.expert(worlds.frame, centre.numpy())
        outcome = worlds.step(torch.from_numpy(action)).outcome
    assert outcome["success"].mean() <= 0.1
    assert outcome["distance [m]"].mean() > 0.1
