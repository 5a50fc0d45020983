"""Films show what evaluations measured."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_agents import TINY
from torch import Tensor

from metarl import api
from metarl.cli import films
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.envs.sim2real import Sim2Real, make_worlds
from metarl.evaluate import evaluate

FAMILY = Reach(horizon=4)
SIZES = {"hidden": TINY["hidden"], "rollouts": TINY["rollouts"]}


class Overheard:
    """An agent whose actions are kept."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.acted = agent, list[Tensor]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def act(self, obs: Tensor, belief: Any, noise: Tensor | None) -> Tensor:
        self.acted.append(self.agent.act(obs, belief, noise))
        return self.acted[-1]


class Blank:
    """A camera, and a recorder of its pictures, that cost nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> "Blank":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def picture(self, *_: Any) -> None:
        pass

    def add(self, picture: None) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("flaws", [Sim2Real(), Sim2Real(noise=0.01, history=1)])
def test_an_agent_that_needs_noise_is_filmed_with_it_in_worlds_with_its_flaws(
    flaws: Sim2Real, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tasks, rows = sample_tasks(FAMILY, "test", 3), 3 * SIZES["rollouts"]
    worlds = make_worlds(FAMILY, rows, flaws)
    agent = api.build_agent("maml", SIZES, worlds.shapes, 0)
    assert agent.plan.noise_when_judged
    judged, filmed = Overheard(agent), Overheard(agent)
    evaluate(worlds, cast(Any, judged), tasks, 2, 0)
    monkeypatch.setattr(films, "Camera", Blank)
    monkeypatch.setattr(films, "Recorder", Blank)
    paths = films.film_trial(cast(Any, filmed), FAMILY, tasks, 1, 2, tmp_path, flaws)
    assert [path.name for path in paths] == ["episode_1.mp4", "episode_2.mp4"]
    assert len(filmed.acted) == len(judged.acted) == 2 * 4
    for one, every in zip(filmed.acted, judged.acted, strict=True):
        torch.testing.assert_close(one, every[3:6])  # the second of three tasks, three rows each
