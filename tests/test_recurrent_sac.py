"""Recurrent SAC: its memory, what it replays, and what its values are of."""

from dataclasses import replace

import pytest
import torch
from test_agents import Line, lived, tiny
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents import sac
from metarl.agents.recurrent_sac import Config, RecurrentSac
from metarl.agents.trials import Trials
from metarl.collect import Tasks, collect
from metarl.errors import UserError
from metarl.evaluate import evaluate
from metarl.randomness import Draws, Role, torch_generator

SHAPES = Shapes(obs=3, action=2, task=1, horizon=5)
CPU = torch.device("cpu")


def rng() -> torch.Generator:
    return torch_generator(0, 0, Role.LEARN, CPU)


def numbered(first: int, count: int) -> Tensor:
    """Trials (3, count, 2) of 3 steps that are full of their own numbers."""
    return torch.arange(first, first + count).float()[None, :, None].expand(3, count, 2)


# The replay.


def test_the_newest_trials_replace_the_oldest() -> None:
    trials = Trials(3, 2, 1, CPU)
    trials.capacity = 5
    for first in (0, 3, 6):  # 0, 1 and 2, then 3, 4 and 5, then 6, 7 and 8
        trials.add(numbered(first, 3))
    assert len(trials) == 5
    assert set(trials.sample(200, rng()).unique().tolist()) == {4, 5, 6, 7, 8}


def test_more_trials_than_there_is_room_for_leave_the_last_ones() -> None:
    trials = Trials(3, 2, 1, CPU)
    trials.capacity = 2
    trials.add(numbered(0, 5))
    assert set(trials.sample(50, rng()).unique().tolist()) == {3, 4}


def test_a_drawn_trial_is_whole() -> None:
    trials = Trials(3, 2, 1, CPU)
    trials.add(numbered(0, 4))
    drawn = trials.sample(9, rng())
    assert drawn.shape == (3, 9, 2)
    assert (drawn == drawn[:1, :, :1]).all()


def test_a_replay_goes_on_from_its_state_as_it_would_have() -> None:
    one, other = Trials(3, 2, 1, CPU), Trials(3, 2, 1, CPU)
    one.capacity = other.capacity = 4
    one.add(numbered(0, 3))
    other.load_state(one.state())
    for each in (one, other):
        each.add(numbered(3, 3))
    assert torch.equal(one.sample(20, rng()), other.sample(20, rng()))


# The memory.


def test_what_is_inferred_step_by_step_is_what_is_learned_from() -> None:
    agent = tiny("recurrent-sac")
    trial = lived(agent)
    agent._remember(trial)
    states = agent.memory.trial(agent._read(agent._packed(trial)))
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in range(len(trial)):
        torch.testing.assert_close(belief.state, states[t])
        belief = agent.infer(belief, trial.step(t))
    assert trial.last[SHAPES.horizon - 1].all()  # it outlives an episode
    torch.testing.assert_close(belief.state, states[-1])


def test_the_memory_learns_from_the_critics_not_from_the_policy() -> None:
    agent = tiny("recurrent-sac")
    agent._remember(lived(agent))
    moments = agent._unrolled(agent.trials.sample(4, rng()))
    before = {name: x.clone() for name, x in agent.memory.state_dict().items()}
    blind = moments._replace(state=moments.state.detach())
    agent._step(0, blind, rng())  # of critics and policy
    assert all(torch.equal(x, before[name]) for name, x in agent.memory.state_dict().items())
    agent._step(1, moments, rng())  # of the critics alone
    assert not any(torch.equal(x, before[name]) for name, x in agent.memory.state_dict().items())


# Values.


def test_values_run_across_the_time_limits_of_episodes() -> None:
    # What followed an episode's last step is the next episode's first observation, and so after
    # the trial's last step: where an episode ends no action was ever taken, so that nothing has
    # learned what it is worth to be there.
    agent = tiny("recurrent-sac")
    trial = lived(agent)
    agent._remember(trial)
    moments = agent._unrolled(agent._packed_trial(trial)[:, :1])
    expected = agent.normalizer(torch.cat([trial.obs[1:, 0], trial.obs[:1, 0]]))
    torch.testing.assert_close(moments.next_obs, expected)
    end = SHAPES.horizon - 1
    assert trial.last[end].all()
    assert (trial.next_obs[end] != trial.obs[end + 1]).any()


def test_of_an_expert_that_asks_for_more_than_counts_it_remembers_what_counted() -> None:
    agent = tiny("recurrent-sac")
    trial = lived(agent)
    trial.action[0] = 3.0
    agent._remember(trial)
    moments = agent._unrolled(agent._packed_trial(trial)[:, :1])
    assert (moments.action[0] == 1).all()


@pytest.mark.parametrize("falls", [False, True])
def test_values_do_not_run_across_a_fall(falls: bool) -> None:
    agent, end = tiny("recurrent-sac"), SHAPES.horizon - 1
    trial = lived(agent)
    trial.terminated[end] = falls
    agent._remember(trial)
    moments = agent._unrolled(agent._packed_trial(trial)[:, :1])
    assert moments.terminated.nonzero().flatten().tolist() == ([end] if falls else [])
    target = sac.bellman_target(agent.nets, agent.config, moments.reward, moments.terminated,
                                (moments.next_obs, moments.next_state), rng())
    assert (target[end] == moments.reward[end]) == falls


def test_a_trial_that_is_not_finite_is_not_remembered_but_its_other_rows_are() -> None:
    agent = tiny("recurrent-sac")
    trial = lived(agent)
    trial.reward[3, 1] = torch.nan
    assert agent._remember(trial) == pytest.approx(0.25)  # one of four rows
    assert len(agent.trials) == 3
    assert agent.rewards.mean.isfinite().all()


def test_targets_follow_slowly() -> None:
    agent = tiny("recurrent-sac")
    agent._remember(lived(agent))
    before = {name: x.clone() for name, x in agent.state().items()}
    agent._step(0, agent._unrolled(agent.trials.sample(4, rng())), rng())
    after = agent.state()
    for slow, fast in (("target/weights.0", "critic/weights.0"),
                       ("target_memory/embed.weight", "memory/embed.weight")):
        expected = before[slow] + 0.005 * (after[fast] - before[slow])
        assert not torch.equal(after[fast], before[fast])
        torch.testing.assert_close(after[slow], expected)


@pytest.mark.parametrize("name", ["policy_every", "memory_every"])
def test_a_pace_of_zero_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least 1"):
        RecurrentSac(replace(Config(), **{name: 0}), SHAPES, 0, CPU)


def test_after_training_the_second_episode_knows_where_to_go() -> None:
    config = Config(tasks=16, trials=16, state=16, embedding=16, hidden=32, updates=60, batch=128,
                    memory_every=1, policy_every=2, discount=0.8, temperature=0.05,
                    memory_rate=3e-3, critic_rate=3e-3, actor_rate=3e-3)
    agent = RecurrentSac(config, SHAPES, 0, CPU)
    tasks = torch.linspace(-1, 1, 16)[:, None].double()
    worlds = Line(16)
    for iteration in range(12):
        draws = Draws.of(0, iteration, 16)
        trial, _ = collect(worlds, agent, Tasks(tasks, torch.arange(16)), 2, draws)
        agent.learn(trial, 0, iteration)
    result = evaluate(worlds, agent, tasks, 2, seed=0)
    # Standing still costs 5 x 0.533 = 2.7 on average.
    assert result.before > -2.2
    assert result.after > -1.2
