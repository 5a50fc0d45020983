"""PEARL's belief, critics and replay, against arithmetic done by hand."""

import math
from dataclasses import replace

import pytest
import torch

from metarl.agent import Shapes
from metarl.agents import gaussian
from metarl.agents.networks import Normalizer, TwinCritic, by_parts, mlp, squashed_gaussian
from metarl.agents.pearl import Config, Pearl
from metarl.agents.replay import Replay, Transitions
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.trial import Trial

SHAPES = Shapes(obs=3, action=2, task=1, horizon=5)
CPU = torch.device("cpu")
TINY = {"hidden": 16, "encoder_hidden": 16, "tasks": 4, "updates": 3, "batch_tasks": 4, "batch": 8,
        "context": 8}


def tiny_agent(**changes) -> Pearl:
    return Pearl(Config(**{**TINY, **changes}), SHAPES, seed=0, device=CPU)


def random_trial(rows: int = 4, length: int = 10, seed: int = 0) -> Trial:
    rng = torch.Generator().manual_seed(seed)
    last = torch.zeros(length, rows, dtype=torch.bool)
    last[SHAPES.horizon - 1 :: SHAPES.horizon] = True
    obs = torch.randn(length, rows, SHAPES.obs, generator=rng)
    return Trial(
        obs, torch.rand(length, rows, SHAPES.action, generator=rng) * 2 - 1,
        torch.randn(length, rows, generator=rng), obs + 1, torch.zeros_like(last), last, {},
        torch.full((rows, 1), torch.nan, dtype=torch.float64), torch.arange(rows),
    )


def live(agent: Pearl, trial: Trial, order: list[int]):
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    for t in order:
        belief = agent.infer(belief, trial.step(t))
    return belief


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_stepwise_posterior_is_the_product_of_all_factors_at_once(rank):
    agent, trial = tiny_agent(factor_rank=rank), random_trial()
    lived = live(agent, trial, list(range(10)))
    packed = torch.cat([trial.obs, trial.action, trial.reward[..., None], trial.next_obs,
                        trial.terminated[..., None].float()], -1).transpose(0, 1)
    precision, weighted_mean = agent.posterior(
        Transitions(packed, SHAPES).map_obs(agent.normalizer), torch.full((4,), 10)
    )
    torch.testing.assert_close(lived.precision, precision)
    torch.testing.assert_close(lived.weighted_mean, weighted_mean)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_posterior_does_not_depend_on_the_order_of_the_steps(rank):
    agent, trial = tiny_agent(factor_rank=rank), random_trial()
    forward = live(agent, trial, [0, 1, 2, 3])
    backward = live(agent, trial, [3, 1, 2, 0])
    torch.testing.assert_close(forward.precision, backward.precision)
    torch.testing.assert_close(forward.weighted_mean, backward.weighted_mean)


def test_a_belief_sample_is_the_mean_plus_scaled_noise():
    # Precision 4 and weighted mean 8: mean 2, deviation 1/2; at noise 3 that is 3.5.
    z = gaussian.sample(torch.tensor([[[4.0]]]), torch.tensor([[8.0]]), torch.tensor([[3.0]]))
    assert z.item() == pytest.approx(3.5)


def test_belief_samples_have_the_inverse_precision_as_covariance():
    precision = torch.tensor([[2.0, 0.8], [0.8, 1.0]])
    noise = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(0))
    z = gaussian.sample(precision.expand(50_000, 2, 2), torch.zeros(50_000, 2), noise)
    torch.testing.assert_close(z.T.cov(), precision.inverse(), atol=0.03, rtol=0.03)


def test_the_divergence_from_the_prior_by_hand():
    # N(1, 1/4): 0.5 * (1/4 + 1 - 1 + log 4).
    kl = gaussian.kl_to_prior(*gaussian.solved(torch.tensor([[[4.0]]]), torch.tensor([[4.0]])))
    assert kl.item() == pytest.approx(0.5 * (0.25 + math.log(4)))


def test_the_prior_is_the_standard_normal_and_its_hypotheses_differ():
    agent = tiny_agent()
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    assert torch.equal(belief.precision, torch.eye(5).expand(4, 5, 5))
    assert len({tuple(z.tolist()) for z in belief.z}) == 4


def test_a_hypothesis_is_kept_for_an_episode_and_changes_at_its_end():
    agent, trial = tiny_agent(), random_trial()
    first = live(agent, trial, [0, 1, 2, 3]).z
    assert torch.equal(first, live(agent, trial, []).z)
    assert (live(agent, trial, [0, 1, 2, 3, 4]).z != first).all()


def test_beliefs_about_different_tasks_do_not_mix():
    agent, trial = tiny_agent(), random_trial()
    other = random_trial(seed=1)
    step, alien = trial.step(0), other.step(0)
    mixed = replace(step, obs=torch.cat([step.obs[:2], alien.obs[2:]]),
                    reward=torch.cat([step.reward[:2], alien.reward[2:]]))
    belief = agent.prior(torch.zeros(4, 1), 1, Draws.of(0, 0, 4))
    one, two = agent.infer(belief, step), agent.infer(belief, mixed)
    assert torch.equal(one.precision[:2], two.precision[:2])
    assert not torch.equal(one.precision[2:], two.precision[2:])


def test_the_twin_critics_differ_from_the_start_and_after_learning():
    agent, inputs = tiny_agent(), torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
    assert (agent.critic(inputs).diff(dim=0).abs() > 1e-4).all()
    agent.learn(random_trial(), seed=0, iteration=0)
    assert (agent.critic(inputs).diff(dim=0).abs() > 1e-4).all()


def test_the_twin_critic_equals_two_separate_networks():
    critic = TwinCritic(4, 8, 2, torch.Generator().manual_seed(0))
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    for k in range(2):
        h = x
        for weight, bias in zip(critic.weights[:-1], critic.biases[:-1], strict=True):
            h = torch.relu(torch.nn.functional.layer_norm(h @ weight[k] + bias[k], (8,)))
        expected = (h @ critic.weights[-1][k] + critic.biases[-1][k]).squeeze(1)
        torch.testing.assert_close(critic(x)[k], expected)


def test_learning_moves_encoder_policy_and_critics_but_targets_only_slowly():
    agent = tiny_agent(updates=1)
    before = {name: t.clone() for name, t in agent.state().items()}
    agent.learn(random_trial(), seed=0, iteration=0)
    after = agent.state()
    for part in ("encoder/network.0.weight", "predictors/reward.0.weight", "actor/0.weight",
                 "critic/weights.0"):
        assert not torch.equal(before[part], after[part])
    moved = after["critic/weights.0"] - before["target/weights.0"]
    torch.testing.assert_close(
        after["target/weights.0"], before["target/weights.0"] + 0.005 * moved
    )


def test_the_encoder_learns_from_predicted_rewards_not_from_the_critics():
    agents = [tiny_agent(updates=1, discount=d, max_gradient=1e9) for d in (0.5, 0.99)]
    for agent in agents:
        agent.learn(random_trial(), seed=0, iteration=0)
    near, far = (agent.state() for agent in agents)
    assert torch.equal(near["encoder/network.0.weight"], far["encoder/network.0.weight"])
    assert not torch.equal(near["critic/weights.0"], far["critic/weights.0"])


@pytest.mark.parametrize("decodes", [False, True])
def test_a_task_that_shows_in_states_alone_is_found_where_z_must_predict_them(decodes):
    agent = tiny_agent(context_next_obs=True, decode_states=decodes, updates=100, encoder_every=1)
    trial, shift = random_trial(), torch.tensor([-1.0, -0.3, 0.3, 1.0])
    trial = replace(trial, reward=torch.zeros(10, 4), next_obs=trial.obs + shift[:, None])
    log = agent.learn(trial, seed=0, iteration=0)
    found = agent.embed(live(agent, trial, list(range(10))))
    spread = found.var(0).sum().item()
    assert spread > 0.3 if decodes else spread < 0.01
    assert ("loss/change" in log) == decodes


def test_policy_and_encoder_are_stepped_less_often_than_the_critics():
    agent = tiny_agent(updates=6, policy_every=2, encoder_every=3)
    agent.learn(random_trial(), seed=0, iteration=0)
    steps = [
        int(agent.optimizer.state[next(module.parameters())]["step"])
        for module in (agent.critic, agent.actor, agent.encoder)
    ]
    assert steps == [6, 3, 2]


@pytest.mark.parametrize("name", ["policy_every", "encoder_every"])
def test_a_pace_of_zero_is_refused(name):
    with pytest.raises(UserError, match="must be at least 1"):
        tiny_agent(**{name: 0})


def test_an_agent_never_reads_the_task():
    # random_trial's tasks are NaN throughout.
    metrics = tiny_agent().learn(random_trial(), seed=0, iteration=0)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["health/nonfinite"] == 0


def test_a_reward_that_is_not_a_number_skips_the_update_and_is_counted():
    agent, trial = tiny_agent(), random_trial()
    trial.reward.fill_(torch.nan)
    before = agent.state()["actor/0.weight"].clone()
    metrics = agent.learn(trial, seed=0, iteration=0)
    assert metrics["health/nonfinite"] == 1
    assert torch.equal(agent.state()["actor/0.weight"], before)


def test_the_state_restores_the_agent_bit_for_bit():
    one, two = tiny_agent(anneal=100), tiny_agent(anneal=100)
    one.learn(random_trial(), seed=0, iteration=0)
    two.load_state({name: t.clone() for name, t in one.state().items()})
    for agent in (one, two):
        agent.learn(random_trial(seed=2), seed=0, iteration=1)
    for name, tensor in one.state().items():
        assert torch.equal(tensor, two.state()[name]), name


def test_step_sizes_shrink_to_a_tenth_the_encoders_first():
    agent = tiny_agent(anneal=6, encoder_anneal=3)  # 3 updates an iteration
    c, shares = agent.config, []
    for iteration in range(4):
        agent.learn(random_trial(), seed=0, iteration=iteration)
        encoder, critic, actor = (group["lr"] for group in agent.optimizer.param_groups)
        shares.append(
            (encoder / c.encoder_rate, critic / c.critic_rate, actor / c.actor_rate)
        )
    assert shares[0] == pytest.approx((1.0, 1.0, 1.0))
    assert shares[1] == pytest.approx((0.1, 0.55, 0.55))
    assert shares[2] == pytest.approx((0.1, 0.1, 0.1))
    assert shares[3] == pytest.approx((0.1, 0.1, 0.1))


def test_without_noise_a_later_episode_acts_on_the_beliefs_mean():
    agent, trial = tiny_agent(), random_trial()
    belief = live(agent, trial, [0, 1, 2, 3, 4])
    obs = trial.obs[0]
    mean = torch.linalg.solve(belief.precision, belief.weighted_mean)
    expected = agent.actor(torch.cat([agent.normalizer(obs), mean], 1)).chunk(2, 1)[0].tanh()
    torch.testing.assert_close(agent.act(obs, belief, None), expected)


# Replay.


def numbered(count: int, task: int, start: int = 0) -> Trial:
    """A trial of one row whose rewards are start, start + 1, ..."""
    zeros = torch.zeros(count, 1, dtype=torch.bool)
    reward = torch.arange(start, start + count).float()[:, None]
    return Trial(
        torch.zeros(count, 1, 3), torch.zeros(count, 1, 2), reward, torch.zeros(count, 1, 3), zeros,
        zeros, {}, torch.zeros(1, 1), torch.tensor([task]),
    )


def rewards(replay: Replay, task: int, **limits) -> set[float]:
    rng = torch.Generator().manual_seed(0)
    sample, _ = replay.sample(torch.tensor([task]), 2000, rng, **limits)
    return set(sample.reward.unique().tolist())


def test_the_ring_forgets_the_oldest_and_keeps_tasks_apart():
    replay = Replay(SHAPES, capacity=8, device=CPU)
    replay.add(numbered(6, task=2))
    replay.add(numbered(6, task=2, start=6))
    replay.add(numbered(3, task=0, start=100))
    assert rewards(replay, 2) == set(range(4, 12))
    assert rewards(replay, 0) == {100, 101, 102}
    assert replay.filled().tolist() == [0, 2]


def test_a_task_that_occurs_twice_in_a_trial_keeps_both_lives():
    replay = Replay(SHAPES, capacity=100, device=CPU)
    one, two = numbered(3, task=1), numbered(3, task=1, start=10)
    both = {name: torch.cat([getattr(one, name), getattr(two, name)], 1)
            for name in ("obs", "action", "reward", "next_obs", "terminated")}
    replay.add(replace(one, **both, index=torch.tensor([1, 1])))
    assert rewards(replay, 1) == {0, 1, 2, 10, 11, 12}


def test_context_rows_are_no_older_than_the_recent_window():
    replay = Replay(SHAPES, capacity=100, device=CPU)
    replay.add(numbered(50, task=0))
    assert rewards(replay, 0, recent=10) == set(range(40, 50))


def test_a_prefix_is_the_beginning_of_one_recent_trial():
    replay = Replay(SHAPES, capacity=100, device=CPU)
    for start in (0, 10, 20):
        replay.add(numbered(10, task=0, start=start))
    rng, seen = torch.Generator().manual_seed(0), set()
    for _ in range(300):
        sample, known = replay.sample_prefix(torch.tensor([0]), 50, rng, length=10, trials=2)
        values = sample.reward[0]
        first = 10 * (values[0] // 10)
        assert first in (10, 20)
        assert values.min() >= first and values.max() < first + known
        seen.add(int(known))
    assert seen == set(range(1, 11))


# Networks.


def test_the_normaliser_has_the_moments_of_all_it_was_shown():
    normalizer = Normalizer(2)
    data = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) * 3 + 5
    normalizer.update(data[:30])
    normalizer.update(data[30:])
    torch.testing.assert_close(normalizer.mean, data.mean(0))
    torch.testing.assert_close(normalizer.variance, data.var(0, correction=0))


def test_the_likelihood_of_a_squashed_gaussian_is_torchs_own():
    mean, log_std = torch.tensor([[0.3, -1.0]]), torch.tensor([[-0.5, 0.2]])
    action, log_likelihood = squashed_gaussian(mean, log_std, torch.tensor([[0.7, -0.4]]))
    own = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
    )
    torch.testing.assert_close(log_likelihood, own.log_prob(action).sum(1))


def test_rows_taken_part_by_part_have_the_values_and_gradients_of_all_at_once() -> None:
    rng = torch.Generator().manual_seed(0)
    actor, critic = mlp([3, 8, 2], rng, torch.nn.ReLU), TwinCritic(3, 8, 2, rng)
    x = torch.randn(1100, 3, generator=rng)  # two parts and a rest
    for network, rows in ((actor, 0), (critic, 1)):
        found, expected = by_parts(network, x, rows), network(x)
        torch.testing.assert_close(found, expected)
        weights = list(network.parameters())
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), weights),
                                   torch.autograd.grad(expected.square().sum(), weights))
    assert by_parts(critic, x[:0], 1).shape == (2, 0)
