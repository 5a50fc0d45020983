"""The context that explains rewards: where least squares lead, by hand; what is left out; that a
model which has learned finds goals that nobody told."""

from dataclasses import replace
from math import nan

import pytest
import torch
from test_maml import CPU, SHAPES, Points, agent, goals, live
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents.identification import Identification
from metarl.agents.regression import regressed
from metarl.agents.rounds import Round
from metarl.agents.stacked import initial
from metarl.collect import Tasks, collect
from metarl.randomness import Draws

OWN = {"outer": "ppo", "spread": 1.0}


def linear(told: list[float], seen: list[float], horizon: int = 10) -> Identification:
    """A model of rewards that are a sum: so much of each number of the context, and so much of one
    observation and one action."""
    shapes = Shapes(obs=1, action=1, task=len(told), horizon=horizon)
    found = Identification(shapes, [], torch.Generator(), CPU)
    found.model["weight0"] = torch.tensor(seen)[:, None]
    found.model["context_weight"] = torch.tensor(told)[:, None]
    return found


def explaining(found: Identification, context: Tensor, reward: Tensor) -> Tensor:
    """The context that explains rewards (M, S) where nothing is seen and done."""
    nothing = torch.zeros(*reward.shape, 1)
    return found.explaining(context, nothing, nothing, reward)


def test_the_context_that_explains_a_reward_is_found_and_the_rest_stays():
    # A reward of 3 is twice a first number of 1.5; the second one has no share in it.
    context = explaining(linear([2.0, 0.0], [0.0, 0.0]), torch.tensor([[[0.2, 0.7]]]),
                         torch.tensor([[3.0, 3.0]]))
    assert torch.allclose(context, torch.tensor([[[1.5, 0.7]]]), atol=1e-4)


def test_what_an_observation_and_an_action_earn_is_not_the_contexts():
    # 5 = 1 * 2 of the observation + 3 * 0.5 of the action + 1 * 1.5 of the context. An action of 4
    # is one of 1: that is what reached the actuators.
    found = linear([1.0], [1.0, 3.0])
    for action, reward in ((0.5, 5.0), (4.0, 6.5)):
        context = found.explaining(torch.zeros(1, 1, 1), torch.full((1, 2, 1), 2.0),
                                   torch.full((1, 2, 1), action), torch.full((1, 2), reward))
        assert float(context) == pytest.approx(1.5, abs=1e-3)


def test_rewards_that_disagree_are_explained_by_their_mean():
    context = explaining(linear([1.0], [0.0, 0.0]), torch.zeros(1, 1, 1),
                         torch.tensor([[0.0, 1.0, 2.0, 5.0]]))
    assert float(context) == pytest.approx(2.0, abs=1e-3)


def test_each_task_is_explained_by_itself():
    context = explaining(linear([1.0], [0.0, 0.0]), torch.zeros(2, 1, 1),
                         torch.tensor([[1.0], [-2.0]]))
    assert torch.allclose(context.flatten(), torch.tensor([1.0, -2.0]), atol=1e-3)


def test_ten_steps_lead_no_farther_than_ten_deviations():
    context = explaining(linear([1.0], [0.0, 0.0]), torch.zeros(1, 1, 1), torch.full((1, 3), 9.0))
    assert float(context) == pytest.approx(9.0, abs=0.01)
    farther = explaining(linear([0.1], [0.0, 0.0]), torch.zeros(1, 1, 1), torch.full((1, 3), 9.5))
    assert float(farther) == pytest.approx(10.0)  # 95 would explain it


def test_samples_that_are_not_finite_say_nothing():
    found = linear([1.0], [1.0, 0.0])
    obs = torch.tensor([[[0.0], [nan], [0.0]]])
    reward = torch.tensor([[2.0, 8.0, nan]])
    context = found.explaining(torch.zeros(1, 1, 1), obs, torch.zeros(1, 3, 1), reward)
    assert float(context) == pytest.approx(2.0, abs=1e-2)


def lived(reward: Tensor, own: Tensor) -> Round:
    """A round of M tasks in which rewards (M, S) were earned, by rollouts with such contexts."""
    tasks, samples = reward.shape
    nothing = torch.zeros(tasks, samples, 1)
    return Round(torch.cat([nothing, torch.full((tasks, samples, own.shape[2]), 9.0)], 2), nothing,
                 reward, torch.zeros_like(reward), torch.ones_like(reward, dtype=torch.bool),
                 torch.ones(tasks, 1), nothing[..., :0], torch.zeros(tasks, 1), nothing,
                 torch.zeros_like(reward), own[:, :1, :0])


def test_a_round_is_explained_by_thirty_samples_of_each_rollout():
    # Of 60 steps every second one counts, in both rollouts; what their own contexts were does not.
    found = linear([1.0], [1.0, 0.0], horizon=60)
    reward = torch.tensor([[2.0, 1e6], [4.0, -1e6]]).repeat_interleave(30, 0).view(1, 120)
    (after,) = found.explained(torch.zeros(1, 1, 1), [lived(reward, torch.full((1, 2, 1), 9.0))])
    assert float(after.way) == pytest.approx(3.0, abs=1e-2)


def test_each_round_begins_where_the_one_before_led():
    found, own = linear([1.0], [0.0, 0.0]), torch.zeros(1, 1, 1)
    rounds = [lived(torch.full((1, 10), reward), own) for reward in (2.0, 3.5)]
    ways = [float(each.way) for each in found.explained(torch.full((1, 1, 1), 0.5), rounds)]
    assert ways == pytest.approx([1.5, 1.5], abs=1e-3)


def test_the_way_in_training_is_that_which_was_gone():
    maml = agent(**OWN, inner_steps=2)
    trial, belief = live(maml, episodes=3)
    ways = [each.way for each in maml._rounds(trial)]
    assert torch.allclose(sum(ways, torch.zeros(())), belief.weights["context"], atol=1e-5)
    assert float(belief.weights["context"].abs().min()) > 0


def test_a_demonstrations_rewards_say_what_its_actions_do_not():
    # A policy that its context does not move cannot be cloned by it; the rewards are the context's
    # first number.
    maml = agent(**OWN, layers=0)
    maml.meta["context_weight"] = torch.zeros(2, 2)
    assert maml.identification is not None
    maml.identification.model |= {"weight0": torch.zeros(4, 1),
                                  "context_weight": torch.tensor([[1.0], [0.0]])}
    shown = replace(live(maml)[0].step(0), reward=torch.full((6,), 0.7))
    belief = maml.prior(torch.zeros(1, 2), 1, Draws.of(0, 0, 1))
    context = maml.imitate(belief, shown).weights["context"]
    assert torch.allclose(context, torch.tensor([[[0.7, 0.0]]]), atol=1e-4)


# Learning.


def test_a_network_is_fitted_in_the_contexts_of_the_samples():
    source = torch.Generator().manual_seed(0)
    fresh = initial([1, 1], 0.3, 1, source) | {"context": torch.full((1, 1), 5.0)}
    fresh |= {"weight0": torch.ones(1, 1), "context_weight": torch.zeros(1, 1)}
    seen, told = (torch.randn(20_000, 1, generator=source) for _ in range(2))
    after, before = regressed(fresh, seen, told, seen + told + 0.5, 0.02, source)
    assert before == pytest.approx(1.25, rel=0.2)  # of told + 0.5
    assert {n: float(w) for n, w in after.items()} == pytest.approx(
        {"weight0": 1.0, "bias0": 0.5, "context_weight": 1.0, "context": 5.0,
         "log_std": float(fresh["log_std"])}, abs=0.02)


def test_tasks_are_described_in_deviations_of_those_of_training():
    found = Identification(SHAPES, [], torch.Generator(), CPU)
    trial = replace(live(agent(tasks=2, rollouts=1))[0],
                    task=torch.tensor([[0.0, 3.0], [2.0, 3.0]], dtype=torch.float64))
    told = found.described(trial)
    assert told.shape == (20, 2, 2)
    assert torch.allclose(told[7], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), atol=1e-4)


def test_without_a_teacher_the_model_learns_as_well():
    maml = agent(**OWN, tasks=20, rollouts=20, hidden=32, layers=2)
    errors = [maml.learn(live(maml, i)[0], 0, i)["loss/model"] for i in range(15)]
    assert errors[-1] < 0.5 * errors[0]


def test_what_is_not_finite_is_not_learned_from():
    maml = agent(**OWN, taught=5)
    trial, _ = live(maml)
    trial = replace(trial, shown=torch.zeros_like(trial.action))
    trial.reward[3] = nan
    maml.learn(trial, 0, 0)
    assert all(x.isfinite().all() for x in maml.state().values())
    assert maml.identification and float(maml.identification.rewards.count) == 19 * 6


def test_one_round_tells_a_goal_that_was_never_met():
    maml = agent(**OWN, tasks=20, rollouts=20, hidden=32, layers=2, std=0.05,
                 taught=60, anneal=60)
    for i in range(60):
        trial, _ = live(maml, i)
        maml.learn(replace(trial, shown=trial.task.repeat(len(trial), 1, 1)), 0, i)
    found, new = maml.identification, goals(8, seed=99)
    assert found is not None
    tasks = Tasks(new, torch.arange(8), 20)
    _, belief = collect(Points(160), maml, tasks, 1, Draws.of(0, 99, 8, 20))
    apart = (belief.weights["context"][:, 0] - found.tasks(new.float())).norm(dim=1)
    assert float(apart.max()) < 0.3  # where goals are 1.4 deviations from the middle
