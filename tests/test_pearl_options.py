"""What PEARL offers beyond its defaults, and what keeps its context young and its entropy up."""

from dataclasses import replace

import pytest
import torch
from test_pearl import random_trial, tiny_agent

from metarl.agent import Shapes
from metarl.agents import sac
from metarl.agents.encoder import Encoder, Familiar
from metarl.agents.pearl import Pearl
from metarl.errors import UserError
from metarl.randomness import Draws


def believed(agent: Pearl, moved: float) -> torch.Tensor:
    """The belief after a step that led `moved` further than another."""
    step = random_trial().step(0)
    step = replace(step, next_obs=step.next_obs + moved)
    prior = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    return agent.infer(prior, step).precision


@pytest.mark.parametrize("sees", [True, False])
def test_where_a_step_led_tells_of_the_task_only_where_the_encoder_sees_it(sees: bool) -> None:
    agent = tiny_agent(context_next_obs=sees)
    assert torch.equal(believed(agent, 0.0), believed(agent, 1.0)) is not sees


@pytest.mark.parametrize(("rank", "mean"), [(1, 3.5), (0, 5.0)])
def test_relative_factors_are_told_from_a_point_that_is_linear_in_the_transition(
    rank: int, mean: float
) -> None:
    # Whatever it sees, the network says that 2 z is 3, or of rank 0 that the mean is 3. Seen from
    # half of the first number of (4, 7), 2, this is 2 (z - 2) = 3, so z = 3.5, and a mean of 5.
    encoder = Encoder(2, [4], 1, rank, torch.Generator().manual_seed(0), relative=True)
    said = torch.tensor([2.0, 3.0] if rank else [3.0, 0.0])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        dict(encoder.named_parameters())["network.2.bias"].copy_(said)
        dict(encoder.named_parameters())["origin.0.weight"].copy_(torch.tensor([[0.5, 0.0]]))
    precision, weighted_mean = encoder(torch.tensor([[[4.0, 7.0]]]))
    assert (weighted_mean / precision[:, 0]).item() == pytest.approx(mean)


def test_the_familiar_widens_at_once_and_narrows_by_a_tenth() -> None:
    # The first observation's number lies in 0 to 10, then in 5 to 20: from 0 a tenth of the way to
    # 5, and up to 20.
    found, trial = Familiar(Shapes(3, 2, 1, 5)), random_trial()
    for low, high in ((0.0, 10.0), (5.0, 20.0)):
        obs = torch.full_like(trial.obs, low)
        obs[0, 0] = high
        found.update(replace(trial, obs=obs))
    assert found.low[0].item() == pytest.approx(0.5) and found.high[0].item() == 20.0


@pytest.mark.parametrize(("familiar_only", "told"), [(True, False), (False, True)])
def test_what_training_never_saw_tells_nothing(familiar_only: bool, told: bool) -> None:
    agent, trial = tiny_agent(familiar_only=familiar_only), random_trial()
    prior = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    step = trial.step(0)
    assert not torch.equal(agent.infer(prior, step).precision, prior.precision)  # before training
    agent.learn(trial, 0, 0)
    assert not torch.equal(agent.infer(prior, step).precision, prior.precision)
    reward = step.reward.clone()
    reward[2] = trial.reward.max() + 1
    told_of = agent.infer(prior, replace(step, reward=reward))
    changed = (told_of.precision != prior.precision).flatten(1).any(1)
    assert changed.tolist() == [True, True, told, True]
    again = tiny_agent(familiar_only=familiar_only)
    again.load_policy_state(agent.policy_state())
    assert torch.equal(again.infer(prior, replace(step, reward=reward)).precision,
                       told_of.precision)


def test_judged_it_tries_a_hypothesis_first_and_then_acts_on_the_mean() -> None:
    belief = tiny_agent().prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    latent = belief.z.shape[1]
    assert torch.equal(belief.settled(), belief.z) and (belief.z != 0).all()
    # A factor of precision 1 at 2 beside the prior of precision 1 at 0: mean 1.
    told = belief.times(torch.eye(latent).expand(4, -1, -1), torch.full((4, latent), 2.0))
    later = told.after(torch.tensor([True, False, True, False]))
    assert torch.allclose(later.settled()[::2], torch.ones(2, latent))
    assert torch.equal(later.settled()[1::2], belief.z[1::2])
    assert (later.z[::2] != belief.z[::2]).all() and torch.equal(later.z[1::2], belief.z[1::2])


@pytest.mark.parametrize(("recent", "seen"), [(1, False), (2, True)])
def test_the_context_is_drawn_from_recent_trials_alone(recent: int, seen: bool) -> None:
    hypotheses = []
    for old in (1, 2):  # lives that differ in their first trial
        agent = tiny_agent(recent=recent)
        agent.replay.add(random_trial(seed=old))
        agent.replay.add(random_trial(seed=3))
        hypotheses.append(agent._inferred(torch.arange(4), torch.Generator().manual_seed(0)))
    assert torch.equal(*hypotheses) is not seen


@pytest.mark.parametrize(("entropy", "rises"), [(-50.0, True), (50.0, False)])
def test_the_temperature_rises_where_entropy_is_missing_and_falls_where_it_abounds(
    entropy: float, rises: bool
) -> None:
    # The entropy aimed at is minus this for each action: far above, or far below, any policy's.
    agent = tiny_agent(entropy=entropy, policy_every=1)
    agent.learn(random_trial(), 0, 0)
    assert (agent.log_temperature.exp().item() > 0.1) is rises


@pytest.mark.parametrize("entropy", [-50.0, 50.0])
def test_a_temperature_that_is_not_learned_stays(entropy: float) -> None:
    agent = tiny_agent(entropy=entropy, policy_every=1, temperature=0.5, learned_temperature=False)
    before = {name: w.clone() for name, w in agent.actor.state_dict().items()}
    log = agent.learn(random_trial(), 0, 0)
    assert agent.log_temperature.exp().item() == pytest.approx(0.5)
    assert log["policy/temperature"] == pytest.approx(0.5)
    assert not any(torch.equal(w, before[name]) for name, w in agent.actor.state_dict().items())


def test_a_temperature_may_shrink_to_a_tenth() -> None:
    agent = tiny_agent(temperature=0.5, learned_temperature=False, temperature_anneal=20, updates=5)
    seen = []
    for iteration in range(6):
        agent.learn(random_trial(), 0, iteration)
        seen.append(agent.log_temperature.exp().item())
    # 0, 5, 10, 15 of 20 steps are done before an iteration, then all: 1 - 0.9 of that share.
    assert seen == pytest.approx([0.5, 0.3875, 0.275, 0.1625, 0.05, 0.05])


def test_a_learned_temperature_is_not_asked_to_shrink() -> None:
    with pytest.raises(UserError, match="give 0 for it, or --config"):
        tiny_agent(temperature_anneal=20)


def test_the_entropy_found_is_that_of_the_drawn_actions() -> None:
    # A policy that always says mean 0, deviation 1: before tanh its entropy is 0.5 ln(2 pi e) for
    # each of 2 actions, and tanh takes E[ln(1 - tanh(x)^2)] = -0.7494 from each.
    agent = tiny_agent()
    with torch.no_grad():
        for parameter in agent.actor.parameters():
            parameter.zero_()
    rng = torch.Generator().manual_seed(0)
    known = (torch.zeros(200_000, 3), torch.zeros(200_000, agent.config.latent))
    _, log = sac.policy_loss(agent.nets, agent.config, known, rng)
    assert log["policy/entropy"].item() == pytest.approx(2 * (1.4189 - 0.7494), abs=0.01)
