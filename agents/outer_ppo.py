"""MAML's outer step by proximal policy optimisation, and ProMP, which is that and two things more.

PPO (Schulman et al. 2017): a few Adam steps on what the adapted policies would gain, clipped where
they lead too far from those that acted. ProMP (Rothfuss et al., "ProMP: Proximal Meta-Policy
Search", ICLR 2019) adapts by the ratio of likelihoods, so that the weights that sampled are
credited with what their rollouts taught (see `inner`), and punishes the divergence from the
policies that acted before each inner step, so that these rollouts still tell of it. With
`every_round` what is earned after each inner step counts, which makes the first ones worth more and
uses all rollouts but those before any (Antoniou et al., "How to train your MAML", ICLR 2019). A
`teacher` may be imitated at first, in the rounds that count, as in guided meta-policy search
(Mendonca et al. 2019): the inner steps that lead there are on rewards.

Difference: the weight of each divergence is doubled or halved, as Schulman et al. do, where it is
1.5 times off its aim; ProMP's authors have this too, but left it off in their experiments.
"""

from functools import partial

import torch
from torch import Tensor

from metarl.agents.inner import gains, replayed
from metarl.agents.outer import Config, Outcome, ascent, groups, joined, of_tasks
from metarl.agents.returns import mean
from metarl.agents.rounds import Round
from metarl.agents.stacked import Gaussian, Weights, kl_divergence, policy
from metarl.agents.state import load_optimizer_state, named, optimizer_state, under
from metarl.agents.teacher import better

_PENALTY = (1e-6, 1e2)  # bounds of the adaptive weights, that they find back in few iterations


def ppo(
    config: Config, meta: Weights, memory: dict[str, Tensor], rounds: list[Round]
) -> Outcome:
    """A few Adam steps on the clipped objective; ProMP's where the config says so."""
    acted = policies_that_acted(config, meta, rounds)
    fresh = rounds[0].obs.new_full((config.inner_steps,), config.penalty)
    penalty = memory.get("penalty", fresh)
    gain = partial(objective, config, penalty)
    optimizer = torch.optim.Adam([w.clone() for w in meta.values()], config.outer_rate,
                                 maximize=True)
    load_optimizer_state(optimizer, {n: t.clone() for n, t in under("adam", memory).items()})
    new, values, norm, taken = meta, [], 0.0, 0
    shares = [of_tasks(slice(i, None, config.minibatches), rounds, acted)
              for i in range(config.minibatches)]
    for some, before in config.epochs * shares:
        value, gradient = ascent(new, gain, some, before)
        norm = float(gradient.norm())
        values.append(value)
        if not gradient.isfinite().all():
            break
        new = _moved(new, optimizer, gradient)
        taken += 1
    numbers = {
        "loss/surrogate": values[0],
        "loss/surrogate_after": values[-1],
        "health/grad_norm": norm,
        "health/nonfinite": 1 - taken / (config.epochs * len(shares)),
    }
    if rounds[-1].share.any():
        numbers["policy/from_teacher"] = float(from_teacher(acted[-1], rounds[-1]).mean())
    if not taken:
        return Outcome(meta, memory, numbers)
    kl = divergences(config, new, rounds, acted)  # (inner_steps + 1,)
    numbers |= {"loss/kl": float(kl[-1]), "loss/kl_before": float(kl[:-1].mean())}
    memory = named("adam", optimizer_state(optimizer))
    if config.outer == "promp":
        memory["penalty"] = adapted_penalty(penalty, kl[:-1], config.kl)
        numbers["loss/penalty"] = float(memory["penalty"].mean())
    return Outcome(new, memory, numbers)


def objective(
    config: Config, penalty: Tensor, meta: Weights, rounds: list[Round], acted: list[Gaussian]
) -> Tensor:
    """What the outer step improves, of each task (M,): rounds and the policies that acted in
    them."""
    new = _policies(config, meta, rounds, acted)
    first = 1 if config.every_round else len(rounds) - 1
    counted = zip(new[first:], acted[first:], rounds[first:], strict=True)
    gain = torch.stack([_gain(config, *each) for each in counted]).mean(0)
    if config.outer == "promp":
        steps = zip(penalty, acted[:-1], new[:-1], rounds[:-1], strict=True)
        gain = gain - sum(c * kl_divergence(a, n, r.valid) for c, a, n, r in steps) / len(penalty)
    return gain


def _gain(config: Config, new: Gaussian, acted: Gaussian, lived: Round) -> Tensor:
    """The same of one round, (M,), with a teacher's share in it."""
    gain = gains(new, acted, lived, config.clip)
    return mean(better(gain, from_teacher(new, lived), lived.share), lived.valid)[:, 0]


def from_teacher(new: Gaussian, lived: Round) -> Tensor:
    """Squared distances (M, S) of a policy's means from what a teacher would have done."""
    return (new.mean - lived.shown).square().mean(-1)


@torch.no_grad()
def policies_that_acted(config: Config, meta: Weights, rounds: list[Round]) -> list[Gaussian]:
    """Each task's policy in each round, adapted again from what it was adapted from."""
    parts = [
        [policy(w, lived.obs) for w, lived in zip(replayed(config, meta, some[:-1]), some,
                                                  strict=True)]
        for some, _ in groups(rounds)
    ]
    return [joined(each) for each in zip(*parts, strict=True)]


@torch.no_grad()
def divergences(
    config: Config, meta: Weights, rounds: list[Round], acted: list[Gaussian]
) -> Tensor:
    """How far the policies have moved from those that acted in each round: KL, means over tasks."""
    total = torch.zeros(len(rounds))
    for some, before in groups(rounds, acted):
        for i, new in enumerate(_policies(config, meta, some, before)):
            total[i] += float(kl_divergence(before[i], new, some[i].valid).sum())
    return total / len(rounds[0].obs)


def adapted_penalty(penalty: Tensor, kl: Tensor, aim: float) -> Tensor:
    """The weights (inner_steps,) of divergences, doubled where these are more than 1.5 times their
    aim, halved where they are less than the aim / 1.5."""
    kl = kl.to(penalty)
    grown = torch.where(kl > 1.5 * aim, 2 * penalty, penalty)
    return torch.where(kl < aim / 1.5, penalty / 2, grown).clamp(*_PENALTY)


def _policies(
    config: Config, meta: Weights, rounds: list[Round], acted: list[Gaussian]
) -> list[Gaussian]:
    """Each task's policies in each round, adapted by the inner objective that the config names."""
    promp = config.outer == "promp"
    lived = replayed(config, meta, rounds[:-1], acted if promp else ())
    return [policy(w, each.obs) for w, each in zip(lived, rounds, strict=True)]


def _moved(meta: Weights, optimizer: torch.optim.Optimizer, gradient: Tensor) -> Weights:
    """The numbers after one step of an optimiser along a gradient (P,)."""
    (group,) = optimizer.param_groups
    parts = gradient.split([w.numel() for w in meta.values()])
    for parameter, part in zip(group["params"], parts, strict=True):
        parameter.grad = part.view_as(parameter)
    optimizer.step()
    return dict(zip(meta, (p.clone() for p in group["params"]), strict=True))
