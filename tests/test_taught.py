"""A teacher: what a scripted policy, which is told the task, shows to agents that learn on-policy.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_agents import tiny

from metarl import api
from metarl.__main__ import main
from metarl.agent import Agent
from metarl.collect import Guide, Tasks, collect
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.expert import Expert
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.train import Budget, Progress, Setting, train
from metarl.trial import Trial

FAMILY = Reach(horizon=10)


def agent(name: str, taught: int, tasks: int = 4) -> Any:
    worlds = Worlds(FAMILY, 1)
    made = api.agent_class(name)
    options = {"tasks": tasks, "replicas": 1, "hidden": 16, "state": 8, "taught": taught,
               "outer": "ppo", "rollouts": 2, "outer_rate": 3e-3}
    known = {f.name for f in fields(made.Config)}
    config = made.Config(**{name: value for name, value in options.items() if name in known})
    return made(config, worlds.shapes, 0, torch.device("cpu"))


def lived(policy: Agent, teaches: bool, noise: bool = True, rows: int = 4) -> Trial:
    worlds = Worlds(FAMILY, rows)
    tasks = Tasks(sample_tasks(FAMILY, "train", rows), torch.arange(rows))
    return collect(worlds, policy, tasks, 2, Draws.of(0, 0, rows), noise=noise,
                   teacher=Expert(worlds) if teaches else None)[0]


def away(policy: Agent) -> float:
    """The mean squared distance of what an agent does, without its noise, from the teacher."""
    trial = lived(policy, True, noise=False, rows=32)
    assert trial.shown is not None
    return (trial.action - trial.shown).square().mean().item()


def test_a_trial_tells_what_the_teacher_would_have_done_where_the_agent_went() -> None:
    policy = agent("rl2", taught=1)
    trial, alone = lived(policy, True), lived(policy, False)
    assert trial.shown is not None and alone.shown is None
    # Watched or not, the agent does the same, and something else than the teacher.
    assert torch.equal(trial.action, alone.action)
    assert (trial.action - trial.shown).abs().mean() > 0.1
    worlds = Worlds(FAMILY, 4)
    worlds.set_tasks(sample_tasks(FAMILY, "train", 4))
    worlds.reset(draws=Draws.of(0, 0, 4))
    for t in range(len(trial)):
        assert torch.equal(Expert(worlds).act(worlds.obs, None, None), trial.shown[t])
        worlds.step(trial.action[t])


def test_an_expert_that_acts_is_no_teacher() -> None:
    worlds, policy = Worlds(FAMILY, 4), agent("rl2", taught=1)
    tasks = Tasks(sample_tasks(FAMILY, "train", 4), torch.arange(4))
    guide = Guide(Expert(worlds), torch.tensor([True, False, True, False]))
    for teacher in (None, Expert(worlds)):
        trial, _ = collect(worlds, policy, tasks, 1, Draws.of(0, 0, 4), guide=guide,
                           teacher=teacher)
        if teacher is None:
            assert trial.shown is None
        else:
            assert trial.shown is not None and torch.equal(
                trial.shown == trial.action, guide.rows[None, :, None].expand_as(trial.action))


def test_a_part_of_a_trial_keeps_its_part_of_the_lesson() -> None:
    trial = lived(agent("rl2", taught=1), True)
    assert trial.shown is not None
    broken = replace(trial, reward=torch.where(torch.arange(4) == 2, torch.nan, trial.reward))
    whole = broken.finite().shown
    assert whole is not None and torch.equal(whole, trial.shown[:, [0, 1, 3]])


@pytest.mark.parametrize("name", ["rl2", "varibad", "maml"])
def test_an_agent_is_taught_for_so_many_iterations_and_comes_nearer_to_the_teacher(
    name: str
) -> None:
    policy = agent(name, taught=12, tasks=8)
    setting = api.build_setting(FAMILY, policy, {"seed": 0})
    apart, taught, learn = [], [], policy.learn

    def noted(trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        taught.append(trial.shown is not None)
        return learn(trial, seed, iteration)

    policy.learn, before = noted, away(policy)
    _train(policy, setting, 14, apart)
    assert taught == [True] * 12 + [False] * 2
    assert len(apart) == 12  # then there is nobody to be apart from
    assert away(policy) < 0.6 * before


@pytest.mark.parametrize("name", ["rl2", "varibad", "maml"])
def test_an_agent_counts_the_iterations_in_which_it_is_taught(name: str) -> None:
    for iteration, imitates in ((0, True), (3, True), (4, False)):
        policy = agent(name, taught=4)
        worlds = Worlds(FAMILY, policy.plan.tasks * policy.plan.replicas)
        tasks = Tasks(sample_tasks(FAMILY, "train", 4), torch.arange(4), policy.plan.replicas)
        trial, _ = collect(worlds, policy, tasks, policy.plan.episodes,
                           Draws.of(0, 0, 4, policy.plan.replicas), teacher=Expert(worlds))
        assert ("policy/from_teacher" in policy.learn(trial, 0, iteration)) is imitates


def _train(policy: Agent, setting: Setting, iterations: int, apart: list[float]) -> None:
    steps = iterations * policy.plan.env_steps(FAMILY.horizon)
    train(policy, setting, Budget(steps, steps), Progress(),
          lambda record: apart.extend([record["policy/from_teacher"]] if "policy/from_teacher"
                                      in record else []), lambda progress: None)


def test_what_nobody_can_teach_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.check_expert(FAMILY, agent("rl2", taught=1), 0.0)
    with pytest.raises(UserError, match="cheetah-vel has no scripted expert to show anything"):
        api.check_expert(CheetahVel(), agent("rl2", taught=1), 0.0)
    api.check_expert(CheetahVel(), tiny("rl2"), 0.0)
    command = ["train", "rl2", "cheetah-vel", "--config.taught", "5", "--runs", str(tmp_path)]
    assert main(command) == 2
    assert "train without --config.taught" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
