"""What every agent must keep to, whatever it is: each new one is picked up from the registry."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents import AGENTS
from metarl.collect import Tasks, collect
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws
from metarl.trial import Steps, Trial

SHAPES = Shapes(obs=3, action=2, task=1, horizon=5)
CPU = torch.device("cpu")
# Small wherever an agent has such a setting.
TINY = {"hidden": 16, "encoder_hidden": 16, "embedding": 8, "state": 8, "tasks": 4, "replicas": 1,
        "rollouts": 3, "updates": 6, "batch_tasks": 4, "batch": 8, "context": 8, "minibatches": 2,
        "adapt_updates": 0.4, "memory_every": 3, "trials": 4}
LEARNERS = [name for name in AGENTS if name != "scratch"]  # which learns when judged, not before


@pytest.fixture(params=AGENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> str:
    return request.param


def tiny(name: str, seed: int = 0, **settings: Any) -> Any:
    """A small agent of this name."""
    config = AGENTS[name].Config
    small = {f.name: TINY[f.name] for f in fields(config) if f.name in TINY}
    return AGENTS[name](config(**small | settings), SHAPES, seed, CPU)


class Line:
    """Worlds on a line: an action's first number moves the first observation, and pays for coming
    closer to the task's place."""

    def __init__(self, rows: int) -> None:
        self.rows, self.shapes = rows, SHAPES
        self.tasks, self.time, self.obs = torch.zeros(rows, 1), 0, torch.zeros(rows, 3)

    def set_tasks(self, tasks: Tensor) -> None:
        self.tasks = tasks.float()

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        self.time, self.obs = 0, torch.zeros(self.rows, 3)
        return self.obs

    def step(self, action: Tensor) -> Steps:
        before, self.time = self.obs, self.time + 1
        after = before.clone()
        after[:, 0] += 0.3 * action[:, 0].clamp(-1, 1)
        last = torch.full((self.rows,), self.time == SHAPES.horizon)
        reward = -(after[:, 0] - self.tasks[:, 0]).abs()
        self.obs = after
        if last.all():
            self.reset()
        return Steps(before, action, reward, after, torch.zeros_like(last), last)


def lived(agent: Any, iteration: int = 0) -> Trial:
    """What the agent collects in an iteration."""
    plan = agent.plan
    tasks = torch.linspace(-1, 1, plan.tasks)[:, None].double()
    rows = plan.tasks * plan.replicas
    draws = Draws.of(0, iteration, plan.tasks, plan.replicas)
    trial, _ = collect(Line(rows), agent, Tasks(tasks, torch.arange(plan.tasks), plan.replicas),
                       plan.episodes, draws, infers=plan.infers_in_training)
    return trial


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_agent_reads_the_task_only_if_its_plan_says_so(name: str) -> None:
    one, other = tiny(name), tiny(name)
    trial = lived(one)
    poisoned = Trial(**{**vars(trial), "task": torch.full_like(trial.task, torch.nan)})
    one.learn(trial, 0, 0)
    other.learn(poisoned, 0, 0)
    assert same(one.state(), other.state()) is not one.plan.sees_task


def test_learning_changes_the_policy_and_goes_on_bit_for_bit_from_a_stored_state(
    learner: str
) -> None:
    agent, successor = tiny(learner), tiny(learner, seed=1)
    before = {name: tensor.clone() for name, tensor in agent.policy_state().items()}
    agent.learn(lived(agent), 0, 0)
    assert not same(before, agent.policy_state())
    successor.load_state({name: tensor.clone() for name, tensor in agent.state().items()})
    for each in (agent, successor):
        each.learn(lived(each, 1), 0, 1)
    assert same(agent.state(), successor.state())


def test_a_reward_that_is_not_a_number_is_counted_and_leaves_the_weights_finite(
    learner: str
) -> None:
    agent = tiny(learner)
    trial = lived(agent)
    trial.reward[:] = torch.nan
    assert agent.learn(trial, 0, 0)["health/nonfinite"] > 0
    acting = agent.policy_state()
    assert all(tensor.isfinite().all() for tensor in acting.values())


@pytest.mark.parametrize("part", ["obs", "reward", "next_obs"])
def test_a_number_that_is_none_is_forgotten_by_the_next_iteration(learner: str, part: str) -> None:
    agent = tiny(learner)
    broken = lived(agent)
    getattr(broken, part)[1, 0] = torch.nan
    counted = agent.learn(broken, 0, 0)["health/nonfinite"] > 0
    assert counted or part == "next_obs"  # which not every agent reads
    assert agent.learn(lived(agent), 0, 1)["health/nonfinite"] == 0
    assert all(tensor.isfinite().all() for tensor in agent.policy_state().values())


def test_a_packed_belief_acts_as_the_one_that_was_packed(name: str) -> None:
    agent = tiny(name)
    tasks = torch.zeros(agent.plan.tasks, 1)
    belief = agent.prior(tasks, agent.plan.replicas, Draws.of(0, EVALUATION, len(tasks)))
    worlds = Line(agent.plan.tasks * agent.plan.replicas)
    for _ in range(SHAPES.horizon):
        step = worlds.step(agent.act(worlds.obs, belief, None))
        belief = agent.infer(belief, step)
    again = agent.unpack(agent.pack(belief))
    obs = torch.randn(worlds.rows, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(agent.act(obs, belief, None), agent.act(obs, again, None))


def test_what_one_row_lives_is_nothing_to_the_others(name: str) -> None:
    agent = tiny(name)
    tasks = torch.zeros(agent.plan.tasks, 1)
    rows = agent.plan.tasks * agent.plan.replicas
    obs = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))

    def acted(reward: float) -> Tensor:
        belief = agent.prior(tasks, agent.plan.replicas, Draws.of(0, EVALUATION, len(tasks)))
        worlds = Line(rows)
        for _ in range(SHAPES.horizon):
            step = worlds.step(torch.full((rows, 2), 0.5))
            step.reward[0] += reward
            belief = agent.infer(belief, step)
        return agent.act(obs, belief, None)

    changed = (acted(0.0) != acted(1.0)).any(1)
    assert not changed[agent.plan.replicas :].any()


def test_nothing_is_drawn_from_the_shared_random_stream(name: str) -> None:
    torch.manual_seed(0)
    before, numpy = torch.get_rng_state(), np.random.get_state()
    agent = tiny(name)
    agent.learn(lived(agent), 0, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(numpy, np.random.get_state(), strict=True))
