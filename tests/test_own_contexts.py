"""Contexts of rollouts' own: where an inner step goes, by hand; that what is learned from is what
was acted; what a teacher's actions are imitated in."""

from dataclasses import replace

import pytest
import torch
from test_agents import same
from test_maml import CPU, SHAPES, agent, live
from torch import Tensor

from metarl.agents.maml import Config, Maml
from metarl.agents.outer_ppo import policies_that_acted
from metarl.agents.own_contexts import beside, deviations, imitated
from metarl.agents.stacked import Weights, initial, policy, stacked
from metarl.errors import UserError
from metarl.randomness import Draws, Role
from metarl.trial import Trial

OWN = {"outer": "ppo", "spread": 1.0}


# What rollouts see.


def test_a_deviation_behind_an_observation_is_as_another_context():
    source = torch.Generator().manual_seed(0)
    weights = initial([2, 5, 1], 1.0, 3, source)
    obs, own = torch.randn(1, 4, 2, generator=source), torch.randn(1, 2, 3, generator=source)
    with_own = policy(stacked(weights, 1), beside(obs, own)).mean
    for rollout in (0, 1):  # two samples each, one rollout after the other
        moved = weights | {"context": weights["context"] + own[0, rollout]}
        some = slice(2 * rollout, 2 * rollout + 2)
        assert torch.allclose(with_own[:, some], policy(stacked(moved, 1), obs[:, some]).mean,
                              atol=1e-6)


def test_deviations_shrink_from_round_to_round_and_are_other_ones():
    draws = Draws.of(3, 1, 400, 5)
    first, second = (deviations(draws, k, 0.5**k, 2) for k in (0, 1))
    assert first.shape == (400, 5, 2)
    assert [float(x.std()) for x in (first, second)] == pytest.approx([1.0, 0.5], rel=0.05)
    assert abs(float((first * second).mean())) < 0.02


def test_a_round_later_rollouts_try_contexts_less_far_apart():
    maml = agent(**OWN, spread_decay=0.25, rollouts=200)
    deviate = [live(maml, episodes=k)[1].own for k in (1, 2)]
    assert [float(x.std()) for x in deviate if x is not None] == pytest.approx([1 / 4, 1 / 16],
                                                                              rel=0.1)


def test_a_rollout_acts_in_its_own_context_and_an_agents_best_in_the_tasks():
    maml = agent(**OWN)
    belief = maml.prior(torch.zeros(2, 2), 3, Draws.of(0, 0, 2, 3))
    obs = torch.ones(6, 2)
    best, exploring = (maml.act(obs, belief, x) for x in (None, torch.zeros(6, 2)))
    assert torch.allclose(best, best[:1].expand(6, 2))
    assert len(exploring.unique(dim=0)) == 6


def test_what_is_learned_from_is_what_was_acted():
    maml = agent(**OWN, normalize=True, inner_steps=2)
    maml.learn(live(maml)[0], 0, 0)
    trial, _ = live(maml, 1)
    acted = policies_that_acted(maml.config, maml.meta, maml._rounds(trial))
    noise = Draws.of(0, 1, 2, 3).normal(Role.ACTION, 0, len(trial), 2)  # (N, T, A)
    std = maml.meta["log_std"].exp()
    means = torch.cat([each.mean.unflatten(1, (3, -1)) for each in acted], 2)  # (M, R, T, A)
    action = means.flatten(0, 1) + std * noise
    assert torch.allclose(action, trial.action.movedim(0, 1), atol=1e-5)


def test_a_stored_belief_acts_as_it_did_at_its_best():
    maml = agent(**OWN)
    _, belief = live(maml)
    again = maml.unpack(maml.pack(belief))
    obs = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(maml.act(obs, again, None), maml.act(obs, belief, None))


def test_of_a_trial_without_a_task_the_draws_are_those_of_the_others():
    maml = agent(**OWN)
    trial, _ = live(maml)
    trial.reward[4, 1] = torch.nan  # of the first task of two
    draws = trial.finite().draws
    assert draws is not None and trial.draws is not None
    assert torch.equal(deviations(draws, 0, 1.0, 2), deviations(trial.draws, 0, 1.0, 2)[1:])


# The teacher.


def pointing(weights: Weights, told: Tensor) -> Tensor:
    """What a policy does in contexts (B, C), seeing nothing."""
    return policy(stacked(weights, 1), torch.cat([torch.zeros(len(told), 2), told], -1)[None])[0][0]


def test_a_teacher_is_imitated_in_the_contexts_that_describe_tasks():
    source = torch.Generator().manual_seed(0)
    meta = initial([2, 16, 2], 0.3, 2, source) | {"context": torch.ones(1, 2)}
    told = torch.rand(100, 1000, 2, generator=source) * 2 - 1
    after, numbers = imitated(meta, torch.zeros(100, 1000, 2), told,
                              (told / 2, torch.ones(100, 1000)), 1e-3, source)
    told, still = told.flatten(0, 1), {"context": torch.zeros(1, 2)}
    apart = (pointing(after | still, told) - told / 2).square().mean()
    assert numbers["policy/from_teacher"] > 0.1 > 50 * float(apart)
    assert same({n: after[n] for n in ("context", "log_std")},
                {n: meta[n] for n in ("context", "log_std")})


def test_a_demonstration_leads_to_the_context_in_which_one_would_have_acted_so():
    # The actions are a half and a fifth of the context's numbers: each step of 1 takes 1/4 and 1/25
    # of what is left to go, and 20 of them leave 0.75^20 and 0.96^20.
    maml = agent(**OWN, layers=0)
    maml.meta["weight0"] = torch.zeros(2, 2)
    maml.meta["context_weight"] = torch.tensor([[0.5, 0.0], [0.0, 0.2]])
    assert maml.identification is not None
    model = maml.identification.model
    model["context_weight"] = torch.zeros_like(model["context_weight"])
    demonstrated = live(maml)[0].step(0)
    demonstrated = replace(demonstrated, action=torch.tensor([[0.4, -0.3]]).expand(6, 2))
    belief = maml.prior(torch.zeros(1, 2), 1, Draws.of(0, 0, 1))
    after = maml.imitate(belief, demonstrated)
    wanted = [0.8 * (1 - 0.75**20), -1.5 * (1 - 0.96**20)]  # rewards say nothing more
    assert after.weights["context"].flatten().tolist() == pytest.approx(wanted, rel=1e-4)
    assert all(torch.equal(w, belief.weights[n]) for n, w in after.weights.items()
               if n != "context")


def shown(maml: Maml, iteration: int) -> Trial:
    """A trial in which somebody who knows the goal would have gone its way."""
    trial, _ = live(maml, iteration)
    return replace(trial, shown=trial.task.repeat(len(trial), 1, 1))


def test_taught_it_finds_goals_that_it_was_never_told():
    maml = agent(**OWN, tasks=8, rollouts=20, hidden=16, std=0.05, taught=40)

    def reached() -> float:
        return float(live(maml, 40, episodes=4)[0].returns(4)[3].mean())

    fresh = reached()
    errors = [maml.learn(shown(maml, i), 0, i)["policy/from_teacher"] for i in range(40)]
    assert errors[-1] < 0.1 * errors[0]
    assert reached() > fresh + 1.5


def test_what_nobody_could_show_or_is_not_finite_is_left_out():
    maml = agent(**OWN, taught=2)
    trial = shown(maml, 0)
    trial.obs[3, 0] = torch.nan
    trial.shown[5:] = torch.nan  # pyright: ignore[reportOptionalSubscript]
    before = maml.state()
    assert maml.learn(trial, 0, 0)["health/nonfinite"] == 0
    assert all(x.isfinite().all() for x in maml.state().values())
    assert not torch.equal(maml.state()["weights/weight0"], before["weights/weight0"])
    trial.obs[:5] = torch.nan
    before = maml.state()
    assert maml.learn(trial, 0, 0)["health/nonfinite"] == 1
    assert same({n: x for n, x in maml.state().items() if n.startswith("weights")},
                {n: x for n, x in before.items() if n.startswith("weights")})


@pytest.mark.parametrize(("changed", "said"), [
    ({"outer": "trpo"}, "not under trpo: --config.spread 0, or choose ppo"),
    ({"context_size": 3}, "--config.context-size 0, or --config.spread 0"),
    ({"head_only": True, "learned_rewards": True}, "for head_only and learned_rewards: "),
    ({"learned_sizes": True}, "for learned_sizes: "),
])
def test_settings_that_own_contexts_do_not_go_with_are_refused(changed: dict, said: str):
    with pytest.raises(UserError, match=said):
        Maml(Config(**OWN | changed), SHAPES, 0, CPU)
