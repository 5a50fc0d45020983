"""VariBAD's belief, its ELBO and its hypernetwork, against arithmetic done by hand."""

import math
from typing import Any

import pytest
import torch
from test_agents import CPU, SHAPES, Line, lived, same, tiny
from torch import Tensor, nn

from metarl.agents.hypernetwork import HyperNetwork
from metarl.agents.latent import consecutive_kl, kl_divergence
from metarl.agents.networks import policy_mlp
from metarl.agents.varibad import Config, Varibad
from metarl.collect import Tasks, collect
from metarl.evaluate import evaluate
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Trial

SMALL: dict[str, Any] = {"tasks": 32, "replicas": 2, "state": 24, "batch": 16, "embedding": 16,
                         "hidden": 32, "latent": 2, "moments": 4, "decodes": 16,
                         "encoder_rate": 5e-3, "minibatches": 4}


def rng() -> torch.Generator:
    return torch_generator(0, 0, Role.LEARN, CPU)


def moved(trial: Trial, rewards: float) -> Trial:
    """The same trial with its rewards multiplied."""
    return Trial(**{**vars(trial), "reward": trial.reward * rewards})


# The belief.


def test_what_is_inferred_step_by_step_is_what_is_learned_from() -> None:
    agent = tiny("varibad")
    trial = lived(agent)
    agent._remember(trial, rng())
    beliefs = agent._beliefs(agent._read(agent._packed(trial)))
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in range(len(trial) + 1):
        for now, then in zip(belief, beliefs, strict=True):
            torch.testing.assert_close(now, then[t])
        if t < len(trial):
            belief = agent.infer(belief, trial.step(t))


def test_the_belief_outlives_an_episode_and_is_acted_on() -> None:
    agent = tiny("varibad")
    trial, prior = lived(agent), agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    belief = prior
    for t in range(SHAPES.horizon):
        belief = agent.infer(belief, trial.step(t))
    assert trial.last[SHAPES.horizon - 1].all()
    obs = torch.zeros(4, 3)
    assert (agent.act(obs, belief, None) != agent.act(obs, prior, None)).any(1).all()


def test_the_belief_is_the_same_when_rewards_count_a_thousandfold() -> None:
    told = []
    for factor in (1.0, 1000.0):
        agent = tiny("varibad")
        trial = moved(lived(agent), factor)
        agent._remember(trial, rng())
        told.append(agent._beliefs(agent._read(agent._packed(trial))).mean)
    torch.testing.assert_close(*told, rtol=1e-3, atol=1e-4)


def test_gradient_steps_see_moments_of_all_rows_each_with_what_was_done_in_it() -> None:
    agent = tiny("varibad")
    trial = lived(agent)
    known, judged = agent._lived(trial, 0)
    steps, rows = trial.reward.shape
    assert len(known) == len(judged.advantage) == steps * rows
    for t, n in ((0, 1), (2, 0), (steps - 1, rows - 1)):
        moment = t * rows + n
        assert judged.action[moment].equal(trial.action[t, n])
        assert known[moment, 1 : 1 + SHAPES.obs].equal(agent.normalizer(trial.obs[t, n]))


# The ELBO.


def test_the_divergence_of_two_gaussians_is_that_of_the_formula() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    # A shift by one deviation: 1/2. Four times the variance: (4 - 1 - log 4) / 2; seen from the
    # wider one, (1/4 - 1 + log 4) / 2. The dimensions add up.
    wide = math.log(4) * one
    assert kl_divergence(one, zero, zero, zero).item() == pytest.approx(0.5)
    assert kl_divergence(zero, wide, zero, zero).item() == pytest.approx(0.5 * (3 - math.log(4)))
    assert kl_divergence(zero, zero, zero, wide).item() == pytest.approx(
        0.5 * (math.log(4) - 0.75))
    assert kl_divergence(torch.ones(3), torch.zeros(3), torch.zeros(3), torch.zeros(3)) == 1.5


def test_each_belief_is_held_against_the_one_before_and_the_first_against_the_prior() -> None:
    # Unit variances and means 1, 1, 3: 1/2 from N(0, 1), nothing new, then (3 - 1)^2 / 2.
    mean = torch.tensor([1.0, 1.0, 3.0])[:, None, None]
    assert consecutive_kl(mean, torch.zeros(3, 1, 1)).flatten().tolist() == [0.5, 0.0, 2.0]


def test_the_elbo_does_not_count_what_is_not_there() -> None:
    # Decoders that predict 0 err by 3^2 about rewards of 3, of however few trials there are: an
    # empty place in the buffer would count as a reward of 0.
    agent = tiny("varibad")
    with torch.no_grad():
        for parameter in agent.decoders.parameters():
            parameter.zero_()
    trial = lived(agent)
    trial.reward.fill_(3.0)
    agent._remember(trial, rng())
    agent.rewards.load_state_dict(tiny("varibad").rewards.state_dict())  # seen as they are
    assert agent._predict(rng())["loss/reward"].item() == pytest.approx(9.0, rel=1e-4)


def test_no_transition_leads_from_an_episode_into_the_next() -> None:
    agent = tiny("varibad")
    trial = lived(agent)
    obs, _, next_obs, _ = agent._packed(trial).split(agent._widths, -1)
    end = SHAPES.horizon - 1
    assert torch.equal(next_obs[end], trial.next_obs[end])
    assert (next_obs[end] != obs[end + 1]).any()


def test_the_newest_trials_are_kept_as_far_as_memory_goes() -> None:
    # A transition is 3 + 2 + 3 + 1 numbers of 4 bytes, a trial 10 of them: 360 bytes.
    agent = tiny("varibad")
    assert agent.trials.capacity == 64 * 2**20 // 360
    agent.trials.capacity = 6
    first, second = lived(agent, 0), lived(agent, 1)
    for trial in (first, second):
        agent._remember(trial, rng())
    # Of eight trials the first two are gone: the last two stand in their places.
    old, new = agent._packed(first), agent._packed(second)
    kept = torch.cat([new[:, 2:], old[:, 2:], new[:, :2]], 1)
    assert torch.equal(agent.trials.state()["data"], kept.transpose(0, 1))


def test_a_few_trials_of_an_iteration_are_kept_where_memory_must_reach_further_back() -> None:
    agent, draws = tiny("varibad", kept=1), rng()
    kept = []
    for seed in range(8):
        trial = lived(agent, seed)
        agent._remember(trial, draws)
        known = agent._packed(trial).transpose(0, 1)  # (N, T, F)
        newest = agent.trials.state()["data"][seed]
        kept += [row for row in range(4) if torch.equal(newest, known[row])]
    # One of the four rows each time, and not always the same; but all rows count as seen.
    assert len(agent.trials) == len(kept) == 8 and len(set(kept)) > 1
    assert agent.rewards.state_dict()["count"] == 8 * 4 * 10


def test_a_trial_that_is_not_finite_is_not_remembered() -> None:
    agent = tiny("varibad")
    good, bad = lived(agent), lived(agent, 1)
    agent._remember(good, rng())
    before = {name: tensor.clone() for name, tensor in agent.state().items()}
    bad.reward[3, 1] = torch.nan
    agent._remember(bad, rng())
    assert same(before, agent.state())


def test_what_is_lived_through_makes_the_rest_of_the_rewards_predictable() -> None:
    agent = Varibad(Config(**SMALL), SHAPES, 0, CPU)
    trial = lived(agent)
    agent._remember(trial, rng())
    source = rng()
    for _ in range(300):
        agent._predict(source)
    inputs = agent._read(agent._packed(trial))
    mean = agent._beliefs(inputs).mean
    predicted = agent.decoders["reward"](mean, inputs[..., :-1])  # (T + 1, T, N, 1)
    error = (predicted - inputs[..., -1:]).square().mean((1, 2, 3))
    # Without knowing the task, the rewards have a variance of 1.
    assert error[0] > 0.7
    assert error[-1] < 0.1


# The policy.


def test_no_gradient_of_the_policy_reaches_the_encoder() -> None:
    agent = tiny("varibad")
    before = {name: tensor.clone() for name, tensor in agent.encoder.state_dict().items()}
    acted = {name: tensor.clone() for name, tensor in agent.actor.state_dict().items()}
    known, judged = agent._lived(lived(agent), 0)
    agent._improve(known, judged, torch.arange(4))
    assert not same(acted, agent.actor.state_dict())
    assert all(parameter.grad is None for parameter in agent.encoder.parameters())
    assert same(before, agent.encoder.state_dict())


def generated(network: HyperNetwork, context: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a hypernetwork's one layer, told from what it makes of unit vectors."""
    inputs = torch.cat([torch.zeros(1, 100), torch.eye(100)])
    out = network(torch.cat([inputs, context.expand(101, 4)], 1))
    return out[1:] - out[0], out[0]


def test_generated_weights_start_as_ordinary_ones_whatever_is_believed() -> None:
    source = torch.Generator().manual_seed(0)
    base = nn.Sequential(nn.Linear(100, 50))
    bound = 1 / math.sqrt(100)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.uniform_(-bound, bound, generator=source)
    network = HyperNetwork(base, 4, 25, source)
    weight, bias = generated(network, torch.zeros(1, 4))
    # Uniform numbers of this bound have a deviation of bound / sqrt(3).
    assert weight.abs().max() <= bound + 1e-6
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    for context in 5 * torch.randn(3, 1, 4, generator=source):
        again = generated(network, context)
        assert torch.equal(again[0], weight)
        assert torch.equal(again[1], bias)


def test_generated_weights_can_learn_to_tell_beliefs_apart() -> None:
    # +1 under one belief and -1 under the other, of the same input: no fixed weights could.
    source = torch.Generator().manual_seed(0)
    network = HyperNetwork(policy_mlp([3, 8, 1], source), 2, 5, source)
    x = torch.cat([torch.ones(2, 3), torch.tensor([[1.0, 0.0], [0.0, 1.0]])], 1)
    target = torch.tensor([[1.0], [-1.0]])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        (network(x) - target).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(network(x), target, rtol=0, atol=0.05)


def test_with_every_option_it_goes_on_bit_for_bit_from_a_stored_state() -> None:
    config = Config(tasks=4, replicas=1, state=8, hypernetwork=8, decode_states=True, updates=3)
    agent, successor = Varibad(config, SHAPES, 0, CPU), Varibad(config, SHAPES, 1, CPU)
    log = agent.learn(lived(agent), 0, 0)
    assert 0 < log["loss/change"] < 10
    successor.load_state({name: tensor.clone() for name, tensor in agent.state().items()})
    for each in (agent, successor):
        each.learn(lived(each, 1), 0, 1)
    assert same(agent.state(), successor.state())


def test_after_training_the_second_episode_knows_where_to_go() -> None:
    agent = Varibad(Config(**SMALL, rate=3e-3, std=0.5, epochs=8, updates=30), SHAPES, 0, CPU)
    tasks = torch.linspace(-1, 1, 32)[:, None].double()
    worlds = Line(64)
    for iteration in range(30):
        draws = Draws.of(0, iteration, 32, 2)
        trial, _ = collect(worlds, agent, Tasks(tasks, torch.arange(32), 2), 2, draws)
        agent.learn(trial, 0, iteration)
    result = evaluate(worlds, agent, tasks, 2, seed=0)
    # Standing still costs 5 x 0.516 = 2.6 on average.
    assert result.before > -2.2
    assert result.after > -1.3
