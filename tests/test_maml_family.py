"""MAML's relatives, settings of one inner loop: their gradients against finite differences and
hand arithmetic, what each of them changes, and that each learns."""

from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from test_agents import same
from test_maml import (
    CPU,
    SHAPES,
    agent,
    beliefs,
    differences,
    equal,
    goals,
    in_double,
    live,
    rounds_in,
)
from torch import Tensor

from metarl.agents import stacked
from metarl.agents.inner import (
    adapted,
    credited,
    gains,
    last_policy,
    rates,
    replayed,
    surrogate,
)
from metarl.agents.inner_rewards import KNOTS, Units, straight
from metarl.agents.inner_sizes import KNOTS as KNOTS_OF_SIZES
from metarl.agents.inner_sizes import even, factors, lengths
from metarl.agents.maml import Config, Maml
from metarl.agents.outer import OuterName, ascent, reptile
from metarl.agents.outer_ppo import adapted_penalty, objective, policies_that_acted
from metarl.agents.outer_trpo import outer_gradient
from metarl.agents.rounds import Round, rounds_of
from metarl.agents.stacked import Gaussian, Weights, flat, policy
from metarl.cli.common import parse_groups
from metarl.errors import UserError
from metarl.randomness import Draws

RELATIVES: dict[str, dict[str, Any]] = {
    "maml": {},
    "fomaml": {"first_order": True},
    "anil": {"head_only": True},
    "meta-sgd": {"learned_rates": True},
    "cavia": {"context_size": 4, "inner_rate": 1.0},
    "learned rewards": {"learned_rewards": True},
    "cavia with learned rates and rewards": {"context_size": 4, "inner_rate": 1.0,
                                             "learned_rates": True, "learned_rewards": True},
    "learned sizes": {"learned_sizes": True, "inner_steps": 2},
    "anil and meta-sgd": {"head_only": True, "learned_rates": True},
    "ppo": {"outer": "ppo", "outer_rate": 1e-2},
    "promp": {"outer": "promp", "outer_rate": 1e-2},
    "ppo on shares of the tasks": {"outer": "ppo", "outer_rate": 1e-2, "minibatches": 2,
                                   "normalize": True},
    "ppo on every round, with learned sizes": {
        "outer": "ppo", "outer_rate": 1e-2, "every_round": True, "learned_sizes": True},
    "own contexts": {"outer": "ppo", "outer_rate": 1e-2, "spread": 1.0},
    "promp and meta-sgd": {"outer": "promp", "outer_rate": 1e-2, "learned_rates": True},
    "reptile": {"outer": "reptile", "inner_steps": 3, "inner_rate": 0.2},
}


@pytest.fixture(params=RELATIVES)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return RELATIVES[request.param]


def bandit(mean: float, log_std: float = 0.0) -> dict[str, Tensor]:
    """The weights of a policy with one action that sees nothing: N(mean, e^log_std)."""
    numbers = {"weight0": [[0.0]], "bias0": [[mean]], "log_std": [[log_std]]}
    return {name: torch.tensor(x, dtype=torch.float64) for name, x in numbers.items()}


def pulls(action: Tensor, advantage: Tensor) -> Round:
    """What M tasks' pulls (M, S) of a bandit brought."""
    return Round(torch.zeros(*action.shape, 1).double(), action[..., None], advantage, advantage,
                 torch.ones_like(action, dtype=torch.bool), torch.ones(len(action), 1),
                 torch.empty(*action.shape, 0), torch.zeros(len(action), 1), action[..., None],
                 torch.zeros_like(action), torch.empty(len(action), 1, 0))


# First order.


def test_the_first_order_gradient_is_that_at_the_adapted_weights():
    maml = agent(first_order=True)
    rounds = rounds_in(maml, in_double(maml, live(maml)[0]))
    _, gradient, old = outer_gradient(maml.config, maml.meta, rounds)
    reached = {n: w.requires_grad_() for n, w in
               replayed(maml.config, maml.meta, rounds[:-1])[-1].items()}
    gain = surrogate(policy(reached, rounds[-1].obs), old, rounds[-1]).mean()
    at_each_task = torch.autograd.grad(gain, list(reached.values()))
    assert torch.allclose(gradient, flat(g.sum(0) for g in at_each_task), atol=1e-12)


def test_without_the_hessian_the_second_order_gradient_is_the_first_order_one():
    # The inner loss is w . H w / 2, the outer one |w'|^2 / 2 at w' = (I - 0.1 H) w.
    hessian = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    w = torch.tensor([1.0, -2.0], requires_grad=True)

    def gradient(first_order: bool) -> Tensor:
        reached = adapted({"w": w}, lambda x: x["w"] @ hessian @ x["w"] / 2, {"w": 0.1},
                          first_order)["w"]
        return torch.autograd.grad(reached.square().sum() / 2, w)[0]

    # H w = (0, -5), so w' = (1, -1.5) is the first-order gradient; the other is w' - 0.1 H w',
    # where H w' = (0.5, -3.5).
    assert torch.allclose(gradient(True), torch.tensor([1.0, -1.5]))
    assert torch.allclose(gradient(False), torch.tensor([0.95, -1.15]))


# ANIL and Meta-SGD.


@pytest.mark.parametrize("changed", [
    {"head_only": True}, {"learned_rates": True}, {"head_only": True, "learned_rates": True},
    {"learned_rewards": True}, {"context_size": 2}, {"learned_sizes": True},
])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_the_meta_gradient_equals_finite_differences(changed: dict[str, Any], inner_steps: int):
    maml = agent(inner_steps=inner_steps, hidden=3, **changed)
    rounds = rounds_in(maml, in_double(maml, live(maml)[0]))
    _, gradient, old = outer_gradient(maml.config, maml.meta, rounds)
    expected = differences(
        lambda w: surrogate(last_policy(maml.config, w, rounds), old, rounds[-1]).mean().detach(),
        maml.meta,
    )
    assert torch.allclose(gradient, expected, atol=1e-7)
    rates = [i for n, w in maml.meta.items() for i in [n.startswith("rate/")] * w.numel()]
    assert bool(gradient[torch.tensor(rates)].norm() > 1e-3) is maml.config.learned_rates


@pytest.mark.parametrize("learned", [False, True])
def test_only_the_head_adapts_and_the_body_is_learned(learned: bool):
    maml = agent(head_only=True, learned_rates=learned)
    before = dict(maml.meta)
    trial, belief = live(maml)
    for task in range(2):
        own = {name: w[task] for name, w in belief.weights.items()}
        assert all(torch.equal(own[name], before[name]) for name in ("weight0", "bias0"))
        assert not any(torch.equal(own[name], before[name])
                       for name in ("weight1", "bias1", "log_std"))
    maml.learn(trial, 0, 0)
    assert not torch.equal(maml.meta["weight0"], before["weight0"])


def test_only_the_context_adapts_and_all_is_learned():
    maml = agent(context_size=3)
    before = dict(maml.meta)
    trial, belief = live(maml)
    for task in range(2):
        moved = {name for name, w in belief.weights.items()
                 if not torch.equal(w[task], before[name])}
        assert moved == {"context"}
    maml.learn(trial, 0, 0)
    assert not any(torch.equal(w, before[name]) for name, w in maml.meta.items())


def test_the_context_acts_as_observations_that_never_change():
    generator = torch.Generator().manual_seed(0)
    own = stacked.initial([2, 5, 1], 0.5, 3, generator)
    own["context"] = torch.tensor([[0.1, -0.2, 0.3]])
    plain = {n: w for n, w in own.items() if not n.startswith("context")}
    plain["weight0"] = torch.cat([own["weight0"], own["context_weight"]])
    obs = torch.randn(1, 4, 2, generator=generator)
    wide = torch.cat([obs, own["context"].expand(1, 4, 3)], -1)
    told = policy(stacked.stacked(own, 1), obs).mean
    assert torch.allclose(told, policy(stacked.stacked(plain, 1), wide).mean, atol=1e-6)


def test_learned_step_sizes_begin_as_the_fixed_one_and_then_differ_by_weight():
    fixed, learned = agent(), agent(learned_rates=True)
    trial, belief = live(fixed)
    assert equal(belief.weights, beliefs(learned, trial)[-1].weights)
    learned.learn(trial, 0, 0)
    rates = learned.meta["rate/weight0"]
    assert rates.shape == learned.meta["weight0"].shape and rates.unique().numel() > 5
    # What acts is the weights alone: a belief holds no step sizes, a policy's state does.
    assert set(live(learned)[1].weights) == set(fixed.meta)
    assert "weights/rate/weight0" in learned.policy_state()


def test_an_inner_step_is_as_long_as_each_weight_has_learned():
    w = {"a": torch.tensor(1.0), "b": torch.tensor(1.0), "c": torch.tensor(1.0)}
    # The slopes are 2, 3 and 5; c has no step size.
    after = adapted(w, lambda x: 2 * x["a"] + 3 * x["b"] + 5 * x["c"],
                    {"a": torch.tensor(0.1), "b": torch.tensor(-0.2)})
    assert [round(float(x), 6) for x in after.values()] == [0.8, 1.6, 1.0]


# Learned rewards.


def test_rewards_are_told_in_deviations_and_by_how_much_they_are_above_each_knot():
    units = Units()
    units.rewards.update(torch.tensor([[0.0], [4.0]]))  # mean 2, deviation 2
    parts = units.parts(torch.tensor([[0.0, 2.0, 5.0]]))
    assert KNOTS == (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    above = [[1, 2, 3.5], [0, 1, 2.5], [0, 0, 1.5], [0, 0, 1], [0, 0, 0.5], *[[0, 0, 0]] * 3]
    assert torch.allclose(torch.cat(parts), torch.tensor([[-1, 0, 1.5], *above]), atol=1e-5)


def test_inner_steps_weigh_the_advantages_of_each_part_by_its_slope():
    round_ = pulls(torch.zeros(1, 2), torch.tensor([[5.0, 5.0]]))._replace(
        parts=torch.tensor([[[1.0, 2.0], [3.0, -1.0]]]))
    assert credited({"slopes": torch.tensor([2.0, 0.5])}, round_).advantage.tolist() == [[3.0, 5.5]]
    assert credited({}, round_) is round_


def test_a_straight_function_of_the_reward_teaches_as_the_reward_itself():
    # Advantages per task differ by their deviation alone, by which the usual ones are divided.
    maml = agent(learned_rewards=True)
    trial, _ = live(maml)
    lived = rounds_of(maml.config, trial, CPU, maml.units)[0]
    seen = credited(maml.meta, lived).advantage
    deviation = seen.square().mean(1, keepdim=True).sqrt()
    assert torch.allclose(seen / deviation, lived.advantage, atol=1e-4)


def test_where_the_function_is_flat_an_inner_step_changes_nothing():
    maml = agent(learned_rewards=True)
    maml.meta["slopes"] = torch.zeros_like(maml.meta["slopes"])
    _, belief = live(maml)
    assert all(torch.equal(w[0], maml.meta[name]) for name, w in belief.weights.items())


def test_the_outer_step_learns_the_slopes_and_counts_units_after_it_has_learned():
    maml = agent(learned_rewards=True)
    units = maml.units
    assert units is not None
    trial, _ = live(maml)
    maml.learn(trial, 0, 0)
    assert not torch.equal(maml.meta["slopes"], straight())
    rounds = rounds_of(maml.config, trial, CPU, units)
    squares = torch.cat([lived.parts[..., 0].flatten() for lived in rounds]).square()
    assert float(squares.mean()) == pytest.approx(1, rel=1e-4)  # an advantage's size is 1 now
    count, scale = float(units.rewards.count), float(units.scale)
    assert count == trial.reward.numel()
    maml.learn(live(maml, 1)[0], 0, 1)
    assert float(units.rewards.count) == 2 * count and float(units.scale) == scale


def test_a_first_iteration_without_any_reward_leaves_the_scale_to_a_later_one():
    maml = agent(learned_rewards=True)
    units = maml.units
    assert units is not None
    empty, _ = live(maml)
    empty.reward.zero_()
    maml.learn(empty, 0, 0)
    assert units.scale == 0
    assert maml.learn(live(maml, 1)[0], 0, 1)["health/nonfinite"] == 0
    assert units.scale > 0
    assert all(w.isfinite().all() for w in live(maml, 2)[1].weights.values())


# Learned sizes.


def test_a_steps_length_lies_between_those_of_the_knots_beside_what_was_earned():
    assert KNOTS_OF_SIZES[:2] == (-2.0, -1.75) and KNOTS_OF_SIZES[-1] == 2.0
    table = even(2)
    table[0, [0, 1, -1]] = torch.tensor([2.0, 8.0, 3.0]).log() / 10
    # A quarter of the way from the first knot to the second: 2^(3/4) 8^(1/4); beyond the ends as at
    # them; of what is unknown 1; after two steps or more as after one, whose row is still even.
    earned = torch.tensor([[-1.9375], [-9.0], [9.0], [torch.nan]])
    expected = torch.tensor([2**0.75 * 8**0.25, 2.0, 3.0, 1.0])
    assert torch.allclose(factors(table, earned, 0), expected, rtol=1e-4)
    for taken in (1, 2, 7):
        assert factors(table, earned, taken).tolist() == [1.0] * 4


def test_a_round_that_earned_much_takes_the_step_that_is_learned_for_it():
    maml = agent(learned_sizes=True, inner_rate=0.2)
    table = maml.meta["sizes"]
    table[0, 8] = log(5) / 10  # the knot at 0
    lived = pulls(torch.zeros(2, 3), torch.zeros(2, 3))._replace(
        earned=torch.tensor([[0.0], [1.0]]))
    found = rates(maml.config, maml.meta, 0, lived.earned)["weight0"]
    assert isinstance(found, Tensor)
    assert torch.allclose(found[:, 0, 0], torch.tensor([1.0, 0.2]))


def test_what_the_first_and_the_last_step_were_longer_by_is_logged():
    table = even(3)
    table[0, 8], table[2, 16] = log(5) / 10, log(3) / 10  # at 0 in the first step, at 2 in the last
    earned = [torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1), torch.tensor([[2.0], [2.0]])]
    told = lengths(table, earned)
    # One of two tasks takes five times its first step, the other one as much as ever.
    assert told == pytest.approx({"policy/step_first": 3.0, "policy/step_last": 3.0})


def test_what_a_round_earned_is_told_in_deviations_of_training():
    maml = agent(learned_sizes=True)
    assert maml.units is not None
    trial, _ = live(maml)
    maml.learn(trial, 0, 0)
    mean, deviation = trial.reward.mean(), trial.reward.std(correction=0)
    first = trial.reward[: trial.round].unflatten(1, (maml.plan.tasks, -1)).mean((0, 2))
    lived = rounds_of(maml.config, trial, CPU, maml.units)[0]
    assert torch.allclose(lived.earned[:, 0], (first - mean) / deviation, atol=1e-4)
    assert not torch.equal(maml.meta["sizes"], even(1))  # and the table has begun to learn


# PPO and ProMP.


@pytest.mark.parametrize("every", [False, True])
def test_the_rounds_that_count_are_the_last_or_all_that_follow_an_inner_step(every: bool):
    maml = agent(outer="ppo", inner_steps=2, every_round=every)
    rounds = rounds_in(maml, live(maml)[0])
    rounds = [lived._replace(advantage=torch.full_like(lived.advantage, a))
              for lived, a in zip(rounds, (100.0, 2.0, 6.0), strict=True)]
    acted = policies_that_acted(maml.config, maml.meta, rounds)
    # Before any change ratios are 1: a gain is the mean advantage of the rounds that count.
    found = objective(maml.config, torch.zeros(2), maml.meta, rounds, acted)
    assert found.tolist() == pytest.approx([4.0 if every else 6.0] * len(found), rel=1e-5)


def test_the_clipped_objective_by_hand():
    # Actions of N(0, 1) that another mean makes twice, or half, as likely: log 2 = m a - m^2 / 2.
    double = torch.tensor(2.0).double().log()
    mean = torch.tensor(0.5).double().requires_grad_()
    action = torch.stack([(double + 0.125) / 0.5, (-double + 0.125) / 0.5]).repeat(2)
    lived = pulls(action[:, None], torch.tensor([1.0, 1.0, -1.0, -1.0]).double()[:, None])
    old = Gaussian(torch.zeros(4, 1, 1).double(), torch.zeros(4, 1, 1).double())
    new = Gaussian(mean.expand(4, 1, 1), old.log_std)
    gain = gains(new, old, lived, clip=0.3)[:, 0]
    assert torch.allclose(gain, torch.tensor([1.3, 0.5, -2.0, -0.7]).double())
    slopes = [float(torch.autograd.grad(g, mean, retain_graph=True)[0]) for g in gain]
    assert slopes[0] == slopes[3] == 0 and 0 not in slopes[1:3]
    assert torch.allclose(surrogate(new, old, lived), torch.tensor([2.0, 0.5, -2.0, -0.5]).double())


@pytest.mark.parametrize("outer", ["ppo", "promp"])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_the_outer_gradient_equals_finite_differences_wherever_the_weights_have_moved(
    outer: str, inner_steps: int
):
    maml = agent(outer=outer, inner_steps=inner_steps, hidden=3, learned_rates=True)
    rounds = rounds_in(maml, in_double(maml, live(maml)[0]))
    source = torch.Generator().manual_seed(0)
    shown = torch.rand(rounds[-1].action.shape, generator=source).double()
    rounds[-1] = rounds[-1]._replace(shown=shown, share=torch.full_like(shown[..., 0], 0.4))
    acted = policies_that_acted(maml.config, maml.meta, rounds)
    penalty = torch.tensor([0.7, 0.3][:inner_steps]).double()
    gain = partial(objective, maml.config, penalty)
    moved = {n: w + 0.1 * torch.randn(w.shape, generator=source).double()
             for n, w in maml.meta.items()}
    _, gradient = ascent(moved, gain, rounds, acted)
    expected = differences(lambda w: gain(w, rounds, acted).mean().detach(), moved, 1e-6)
    assert torch.allclose(gradient, expected, atol=1e-6)
    assert gradient.norm() > 1e-2


@pytest.mark.parametrize("outer", ["ppo", "promp"])
def test_adam_goes_on_from_one_iteration_to_the_next(outer: OuterName):
    maml = agent(outer=outer, epochs=3)
    for iteration in range(2):
        maml.learn(live(maml, iteration)[0], 0, iteration)
    assert maml.memory["adam/0/step"] == 6


def test_an_adam_step_is_taken_on_each_share_of_the_tasks_in_every_pass(
    monkeypatch: pytest.MonkeyPatch
):
    maml = agent(tasks=5, outer="ppo", epochs=3, minibatches=2)
    seen: list[Tensor] = []

    def noted(meta: Weights, gain: Any, rounds: list[Round], acted: Any) -> tuple[float, Tensor]:
        seen.append(rounds[0].action[:, 0, 0])
        return ascent(meta, gain, rounds, acted)

    monkeypatch.setattr("metarl.agents.outer_ppo.ascent", noted)
    trial, _ = live(maml)
    first = trial.action[0, :: trial.replicas, 0]  # of each task's first rollout
    maml.learn(trial, 0, 0)
    assert [part.tolist() for part in seen] == 3 * [first[[0, 2, 4]].tolist(),
                                                    first[[1, 3]].tolist()]
    assert maml.memory["adam/0/step"] == 6


def test_imitation_takes_the_place_of_a_share_of_what_an_outer_step_gains():
    # Pulls of N(0, 1) at 1 and -1 whose advantages are 1 and 3: ratios are 1, their mean is 2. A
    # teacher would have pulled at 2 and at 0: squared errors of 4 and 0, of weight 3.
    lived = pulls(torch.tensor([[1.0, -1.0]]).double(), torch.tensor([[1.0, 3.0]]).double())
    lived = lived._replace(shown=torch.tensor([[[2.0], [0.0]]]).double())
    meta, config = bandit(0.0), Config(outer="ppo", inner_steps=1, taught=1)

    def gain(share: float) -> float:
        rounds = [lived, lived._replace(share=torch.full((1, 2), share).double())]
        rounds[0] = rounds[0]._replace(advantage=torch.zeros(1, 2).double())  # no inner step
        acted = policies_that_acted(config, meta, rounds)
        return objective(config, torch.zeros(1), meta, rounds, acted).item()

    assert [gain(share) for share in (0.0, 1.0, 0.25)] == [2.0, -6.0, 0.75 * 2 - 0.25 * 6]


def test_adams_steps_shrink_to_a_tenth():
    def moved(iteration: int) -> float:
        maml = agent(outer="ppo", epochs=1, outer_rate=1e-3, anneal=10)
        before = maml.meta["weight0"]
        maml.learn(live(maml)[0], 0, iteration)
        return float((maml.meta["weight0"] - before).abs().max())

    # Adam's first step is as long as its rate.
    assert [moved(i) for i in (0, 5, 10, 99)] == pytest.approx([1e-3, 5.5e-4, 1e-4, 1e-4], rel=0.01)


def test_observations_are_seen_in_deviations_of_training_once_it_has_learned_from_them():
    maml, plain = agent(outer="ppo", normalize=True), agent(outer="ppo")
    trial, _ = live(maml)
    assert torch.allclose(trial.action, live(plain)[0].action, atol=1e-4)  # nothing is known yet
    maml.learn(trial, 0, 0)
    plain.meta = maml.meta
    met, seen = trial.obs.flatten(0, 1), torch.tensor([[3.0, -2.0]]).expand(6, 2)
    obs = met.mean(0) + met.std(0, correction=0) * seen
    prior = [m.prior(goals(2), 3, Draws.of(0, 0, 2)) for m in (maml, plain)]
    assert torch.allclose(maml.act(obs, prior[0], None), plain.act(seen, prior[1], None), atol=1e-4)


def bandit_gradient(outer: OuterName) -> tuple[float, float]:
    """The meta-gradient, by mean and log_std, of a bandit that pays -(a - 3)^2 / 2, from evenly
    likely pulls of N(1, 1), and of what one inner step of 0.1 makes of it."""
    places = (torch.arange(200_000).double() + 0.5) / 200_000
    noise = torch.special.ndtri(places)[None]

    def lived(mean: float, std: float) -> Round:
        pay = -(mean + std * noise - 3).square() / 2
        return pulls(mean + std * noise, pay - pay.mean())

    # J(m, s) = -((m - 3)^2 + s^2) / 2 has the slopes -(m - 3) = 2 and, by log s, -s^2 = -1.
    rounds = [lived(1.0, 1.0), lived(1.2, exp(-0.1))]
    meta, config = bandit(1.0), Config(outer=outer)
    acted = policies_that_acted(config, meta, rounds)
    gain = partial(objective, config, torch.zeros(1).double())
    _, gradient = ascent(meta, gain, rounds, acted)
    return float(gradient[1]), float(gradient[2])


def test_promp_credits_the_weights_that_sampled_and_maml_does_not():
    # J's own curvature is -1, and by log s -2 s^2 = -2. So an inner step of 0.1 from 1 moves 0.9
    # times as far as the mean, and 0.8 times as far as log s: by the chain rule through
    # (1.2, -0.1), where J's slopes are 1.8 and -e^-0.2:
    mean, log_std = bandit_gradient("promp")
    assert mean == pytest.approx(1.8 * 0.9, rel=1e-2)
    assert log_std == pytest.approx(-exp(-0.2) * 0.8, rel=1e-2)
    # Of log-likelihoods, only E[A d^2 log p] remains: E[-A] = 0 for the mean; for log s
    # E[-2 x^2 A] = E[x^2 (x^2 - 1)] = 2, and mixed -2 E[x A] = -4, as A ~ 2 x - x^2 / 2.
    mean, log_std = bandit_gradient("ppo")
    assert mean == pytest.approx(1.8 + -exp(-0.2) * 0.1 * -4, rel=1e-2)
    assert log_std == pytest.approx(1.8 * 0.1 * -4 + -exp(-0.2) * 1.2, rel=1e-2)


def test_promp_charges_for_leaving_the_policies_that_acted_before_adaptation():
    source = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, 2, 5, generator=source, dtype=torch.float64)
    rounds, config = [pulls(draw(), draw()), pulls(draw(), draw())], Config(outer="promp")
    acted = policies_that_acted(config, bandit(1.0), rounds)
    free, charged = (
        objective(config, torch.tensor([weight]).double(), bandit(1.6), rounds, acted)
        for weight in (0.0, 0.5)
    )
    # KL(N(1, 1) || N(1.6, 1)) = 0.6^2 / 2 = 0.18.
    assert torch.allclose(free - charged, torch.tensor(0.5 * 0.18).double())


def test_the_weight_of_a_divergence_follows_its_aim():
    weights = adapted_penalty(torch.full((4,), 0.4), torch.tensor([0.004, 0.01, 0.014, 0.02]), 0.01)
    assert weights.tolist() == pytest.approx([0.2, 0.4, 0.4, 0.8])
    assert adapted_penalty(torch.tensor([1e-6]), torch.tensor([0.0]), 0.01).tolist() == [
        pytest.approx(1e-6)
    ]


# Reptile.


def test_reptile_goes_half_the_way_to_the_mean_of_what_its_steps_reach():
    # At a deviation of e^2, the most there is, the loss of pulls of a at an advantage of 1 is
    # e^-4 (m - a)^2 / 2: inner steps of e^4 / 2 halve the distance. Two rounds quarter it.
    config = Config(outer="reptile", inner_rate=exp(4) / 2)
    action = torch.tensor([[1.0], [5.0]]).double()
    lived = pulls(action, torch.ones_like(action))
    meta, memory, numbers = reptile(config, bandit(2.0, log_std=3.0), {}, [lived, lived])
    # From 2 the tasks reach 1.25 and 4.25, on average 2.75.
    assert float(meta["bias0"]) == pytest.approx(2.375)
    assert float(meta["log_std"]) == 3.0 and not memory
    assert numbers["health/grad_norm"] == pytest.approx(0.75)


# All of them.


def test_learning_replays_what_was_lived_and_goes_on_from_its_state(options: dict[str, Any]):
    maml, successor = agent(**options), agent(**options)
    trial, belief = live(maml)
    rounds = rounds_in(maml, trial)
    assert equal(replayed(maml.config, maml.meta, rounds)[-1], belief.weights)
    maml.learn(trial, 0, 0)
    successor.load_state(maml.state())
    following, _ = live(maml, 1)
    assert maml.learn(following, 0, 1) == successor.learn(following, 0, 1)
    assert same(maml.state(), successor.state())


def test_an_update_that_is_not_finite_is_skipped_and_reported(options: dict[str, Any]):
    maml = agent(**options)
    trial, _ = live(maml)
    before = maml.state()
    trial.reward[15, 0] = torch.nan
    assert maml.learn(trial, 0, 0)["health/nonfinite"] == 1
    assert same(maml.state(), before)


def test_a_trial_may_have_any_number_of_inner_steps(options: dict[str, Any]):
    maml = agent(**options)
    trial, _ = live(maml, episodes=5)
    weights = [belief.weights for belief in beliefs(maml, trial)]
    changed = [t for t in range(1, 50) if not equal(weights[t], weights[t - 1])]
    assert changed == [9, 19, 29, 39, 49]


def test_training_makes_an_inner_step_worth_more(options: dict[str, Any]):
    trained = agent(tasks=8, rollouts=10, hidden=16, std=0.5, **options)

    def gain() -> float:
        before, after = live(trained, 40)[0].returns(2).mean(1).tolist()
        return after - before

    fresh = gain()
    for iteration in range(8):
        trained.learn(live(trained, iteration)[0], 0, iteration)
    assert gain() > fresh + 0.75


@pytest.mark.parametrize(("changed", "said"), [
    ({"outer": "trop"}, "unknown outer step 'trop'; did you mean trpo?"),
    ({"inner_steps": 0}, "at least 1"),
    ({"outer": "reptile", "head_only": True}, "not under head_only;"),
    ({"outer": "reptile", "learned_rates": True, "learned_rewards": True},
     "not under learned_rates and learned_rewards;"),
    ({"head_only": True, "context_size": 3}, "--config.context-size 0"),
    ({"tasks": 4, "minibatches": 5}, "--config.minibatches 5 makes no sense; give a number from 1"),
    ({"taught": 3}, r"the outer step trpo neither imitates a teacher nor"),
    ({"every_round": True, "outer": "reptile"}, "counts every round"),
    ({"outer": "reptile", "learned_sizes": True}, "not under learned_sizes;"),
])
def test_settings_that_make_no_agent_are_refused(changed: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        Maml(Config(**changed), SHAPES, 0, CPU)


def test_a_choice_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"trpo.*did you mean promp"):
        parse_groups("train maml reach", {"config": Config()}, ["--config.outer", "promq"], "")
