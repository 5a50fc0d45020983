"""RL2's memory and its PPO over whole trials, against arithmetic done by hand."""

import math
from dataclasses import replace

import pytest
import torch
from test_agents import Line, lived, tiny

from metarl.agent import Shapes
from metarl.agents import ppo
from metarl.agents.networks import Normalizer
from metarl.agents.ppo import discounted_sums, log_likelihood, nearness, scaled
from metarl.agents.rl2 import Config, Rl2
from metarl.agents.teacher import lesson
from metarl.collect import Tasks, collect
from metarl.evaluate import evaluate
from metarl.randomness import Draws

SHAPES = Shapes(obs=3, action=2, task=1, horizon=5)


def test_what_is_inferred_step_by_step_is_what_is_learned_from() -> None:
    agent = tiny("rl2")
    trial = lived(agent)
    agent.normalizer.update(trial.obs)
    agent.rewards.update(trial.reward[..., None])
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    inputs = agent._inputs(trial.obs, trial.action, trial.reward, trial.last)
    states = agent.memory.trial(inputs)
    for t in range(len(trial)):
        torch.testing.assert_close(belief.state, states[t])
        belief = agent.infer(belief, trial.step(t))
    torch.testing.assert_close(belief.state, states[-1])


def test_the_memory_outlives_an_episode() -> None:
    agent = tiny("rl2")
    trial = lived(agent)
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in range(SHAPES.horizon):
        belief = agent.infer(belief, trial.step(t))
    assert trial.last[SHAPES.horizon - 1].all()
    assert belief.state.abs().min() > 0


@pytest.mark.parametrize("name", ["rl2", "varibad"])
@pytest.mark.parametrize(("falls", "first"), [
    (False, [0.5**9, 0.5**8, 0.5**7, 0.5**6, 0.5**5]), (True, [0.0] * 5)])
def test_returns_run_across_time_limits_but_not_across_a_fall(
    name: str, falls: bool, first: list[float]
) -> None:
    # A reward of 1 in the very last step of two episodes of 5 steps, discount 0.5, lambda 1 and a
    # value of nothing: the first step sees 0.5^9 of it, and nothing if the episode ends in a fall;
    # the first step of the second episode sees 0.5^4 either way.
    agent = tiny(name)
    agent.config = replace(agent.config, discount=0.5, decay=1.0)
    with torch.no_grad():
        for parameter in agent.critic.parameters():
            parameter.zero_()
    trial = lived(agent)
    trial.reward.zero_()
    trial.reward[-1] = 1.0
    trial.terminated[SHAPES.horizon - 1] = falls
    found = agent._lived(trial, 0)
    target = found.target if name == "rl2" else found[1].target.view(trial.reward.shape)
    expected = [*first, 0.0625, 0.125, 0.25, 0.5, 1.0]
    assert (target[:, 0] / target[-1, 0]).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_value_is_told_how_near_the_next_beginning_is() -> None:
    # Episodes of 3 steps, discount 0.5. The second row falls in its first step.
    last = torch.tensor([[False, True], [False, False], [True, False], [False, True]])
    assert nearness(last, 3, 0.5)[..., 0].T.tolist() == [
        [0.125, 0.25, 0.5, 0.125, 0.25], [0.125, 0.125, 0.25, 0.5, 0.125]]


def test_after_a_trial_that_ends_with_an_episode_comes_another_beginning() -> None:
    trial = lived(tiny("rl2"))
    assert trial.last[-1].all()
    trial.last[-1, 1] = False  # the trial cuts this row's episode off
    found = trial.seen
    assert torch.equal(found[:-1], trial.obs)
    assert torch.equal(found[-1, 0], trial.obs[0, 0])
    assert torch.equal(found[-1, 1], trial.next_obs[-1, 1])


def test_the_likelihood_is_that_of_torch() -> None:
    mean, log_std = torch.tensor([[0.3, -0.2]]), torch.tensor([0.1, -0.5])
    action = torch.tensor([[1.0, 0.5]])
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    torch.testing.assert_close(log_likelihood(action, mean, log_std), expected)


def test_no_gradient_follows_a_ratio_that_has_gone_too_far() -> None:
    # Had the trials been 2.7 times less likely than now, a further increase would gain nothing.
    agent = Rl2(Config(state=8, hidden=8, max_gradient=1e9), SHAPES, 0, torch.device("cpu"))
    data = agent._lived(lived(agent), 0)
    far = data._replace(log_likelihood=data.log_likelihood - 1, advantage=data.advantage.abs())
    assert agent._descend(far, torch.arange(data.obs.shape[1]))["policy/clipped"] == 1.0
    assert agent.actor.log_std.grad is not None
    # What remains is the entropy's own: its derivative by a log-deviation is 1.
    assert agent.actor.log_std.grad.tolist() == pytest.approx(
        [-agent.config.entropy] * 2, rel=1e-3)


def test_what_all_rows_earn_alike_at_a_time_makes_no_action_better_than_others() -> None:
    rng = torch.Generator().manual_seed(0)
    action, reward = torch.randn(6, 4, 2, generator=rng), torch.randn(6, 4, generator=rng)
    never, tide = torch.zeros(6, 4, dtype=torch.bool), torch.tensor([0.0, 5, -3, 9, 0, 40])[:, None]

    def advantage(reward: torch.Tensor, rows: int = 4) -> torch.Tensor:
        policy, value = (torch.zeros(6, rows, 2), torch.zeros(2)), torch.zeros(7, rows)
        lesson = action[:, :rows], torch.zeros(6, rows)
        return ppo.judged(action[:, :rows], reward[:, :rows], never[:, :rows], policy, value,
                          ppo.Config(), lesson).advantage

    torch.testing.assert_close(advantage(reward + tide), advantage(reward))
    assert advantage(reward, rows=1).abs().max() > 1  # one alone shares nothing


def test_the_entropy_bonus_holds_noise_up_and_does_not_raise_it_above_what_it_was() -> None:
    log_std = (torch.tensor([0.1, -0.1]) + math.log(0.3)).requires_grad_()
    mean, nothing = torch.zeros(4, 2, 2), torch.zeros(4, 2)
    known = log_likelihood(mean, mean, log_std).detach()
    judged = ppo.Judged(mean, known, advantage=nothing, target=torch.arange(8.0).view(4, 2),
                        shown=mean, share=nothing)
    config = ppo.Config(std=0.3, entropy=0.02)
    loss, _ = ppo.loss((mean, log_std), nothing, judged, config)
    loss.backward()
    assert log_std.grad is not None
    assert log_std.grad.tolist() == pytest.approx([0.0, -0.02])


def test_a_teacher_is_followed_ever_less_and_not_where_it_is_at_a_loss() -> None:
    agent = tiny("rl2")
    trial = lived(agent)
    shown = torch.ones_like(trial.action)
    shown[2, 1, 0] = torch.nan
    taught = replace(trial, shown=shown)
    for iteration, expected in enumerate((1.0, 0.75, 0.5, 0.25, 0.0, 0.0)):
        told, share = lesson(taught, iteration, 4)
        assert share[2, 1] == 0 and (share == expected).sum() >= share.numel() - 1
        assert told.isfinite().all()
    assert not lesson(trial, 0, 4)[1].any()  # nobody teaches


def test_imitation_takes_the_place_of_what_actions_earn() -> None:
    # Two steps: the first is all imitation, the second one quarter of it. Actions at the mean have
    # a ratio of 1, and d ratio / d mean is 0 there: the mean moves by imitation alone. Its loss is
    # the mean over 2 steps of the mean over 2 numbers of (mean - shown)^2, times 3 and the share:
    # the derivative is share * 3 * 2 (0 - shown) / 4.
    mean = torch.zeros(2, 1, 2, requires_grad=True)
    shown = torch.tensor([[[1.0, -2.0]], [[0.0, 4.0]]])
    value, log_std = torch.zeros(2, 1), torch.zeros(2)
    known = log_likelihood(mean.detach(), mean.detach(), log_std)
    judged = ppo.Judged(mean.detach(), known, advantage=torch.ones(2, 1), target=value, shown=shown,
                        share=torch.tensor([[1.0], [0.25]]))
    loss, log = ppo.loss((mean, log_std), value, judged, ppo.Config(taught=1, entropy=0.0))
    # The second step's advantage of 1 counts for three quarters; errors are 2.5 and 8.
    assert loss.item() == pytest.approx((3 * 2.5 + 0.25 * 3 * 8 - 0.75 * 1) / 2)
    assert log["policy/from_teacher"].item() == pytest.approx((2.5 + 8) / 2)
    loss.backward()
    assert mean.grad is not None
    assert mean.grad.flatten().tolist() == pytest.approx([-1.5, 3.0, 0.0, -1.5])


def test_rewards_are_scaled_by_the_deviation_of_their_discounted_sums() -> None:
    # 1, 1 with discount 0.5 sums up to 1 and 1.5, of deviation 0.25; at once, and at any size.
    assert discounted_sums(torch.ones(2, 1), 0.5).flatten().tolist() == [1.0, 1.5]
    for size in (1, 1000):
        found = scaled(torch.full((2, 1), float(size)), Normalizer(1), 0.5)
        assert found.flatten().tolist() == pytest.approx([4.0, 4.0], rel=1e-4)
    counted = Normalizer(1)
    scaled(torch.tensor([[torch.nan], [1.0]]), counted, 0.5)
    assert counted.count == 0  # what is not finite leaves no trace


def test_the_memory_reads_small_differences_between_large_rewards() -> None:
    # After rewards of -1.52 and -1.48 alone, their mean is -1.5 and their deviation 0.02.
    agent, trial = tiny("rl2"), lived(tiny("rl2"))
    trial.reward[::2], trial.reward[1::2] = -1.52, -1.48
    agent.learn(trial, 0, 0)
    read = agent._inputs(trial.obs, trial.action, trial.reward, trial.last)[..., -2]
    assert read[0].tolist() == pytest.approx([-1.0] * 4, rel=1e-2)
    assert read[1].tolist() == pytest.approx([1.0] * 4, rel=1e-2)


def test_after_training_the_second_episode_knows_where_to_go() -> None:
    config = Config(tasks=32, replicas=2, state=32, embedding=16, hidden=32, rate=3e-3, std=0.5,
                    epochs=6, minibatches=4)
    agent = Rl2(config, SHAPES, 0, torch.device("cpu"))
    tasks = torch.linspace(-1, 1, 32)[:, None].double()
    worlds = Line(64)
    for iteration in range(40):
        draws = Draws.of(0, iteration, 32, 2)
        trial, _ = collect(worlds, agent, Tasks(tasks, torch.arange(32), 2), 2, draws)
        agent.learn(trial, 0, iteration)
    result = evaluate(worlds, agent, tasks, 2, seed=0)
    # Standing still costs 5 x 0.516 = 2.6 on average.
    assert result.before > -2.6
    assert result.after > -1.2
