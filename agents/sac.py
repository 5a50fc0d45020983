"""Soft actor-critic: the arithmetic that PEARL and recurrent SAC share.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018): a squashed Gaussian policy,
twin critics of which the lower counts, targets that follow them slowly, and a temperature that
keeps the policy's entropy. All see an observation beside what is believed of the task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.agents.networks import LOG_STD, TwinCritic, by_parts, mlp, squashed_gaussian

Log = dict[str, Tensor]  # numbers to log
Loss = tuple[Tensor, Log]
Known = tuple[Tensor, Tensor]  # observations (B, O), and what is believed of their tasks (B, L)
Groups = Mapping[str, Sequence[nn.Parameter]]  # an optimiser's groups of parameters, in its order


@dataclass(frozen=True)
class Config:
    """Hyperparameters of soft actor-critic."""

    hidden: int = 160  # units of a layer of policy and critics
    layers: int = 2  # hidden layers of policy and critics
    discount: float = 0.99  # per step
    policy_every: int = 3  # gradient steps of the critics for one of policy and temperature
    actor_rate: float = 7e-4  # Adam's step of the policy and the temperature
    critic_rate: float = 1e-3  # Adam's step of the critics
    target_rate: float = 0.005  # share of the critics that flows into their targets per step
    temperature: float = 0.1  # of the entropy bonus at the start
    learned_temperature: bool = True  # it keeps the policy's entropy from there; else it stays
    entropy: float = 1.0  # the entropy to keep, in units of minus the number of actions
    max_gradient: float = 10.0  # norm that each network's gradient is clipped to


class Networks(NamedTuple):
    """What soft actor-critic consists of."""

    actor: nn.Sequential
    critic: TwinCritic
    target: TwinCritic
    log_temperature: nn.Parameter


def networks(
    config: Config, inputs: int, actions: int, rng: torch.Generator, device: torch.device
) -> Networks:
    """Fresh networks on `inputs` known numbers."""
    c = config
    actor = mlp([inputs, *[c.hidden] * c.layers, 2 * actions], rng, nn.ReLU).to(device)
    critic, target = (
        TwinCritic(inputs + actions, c.hidden, c.layers, rng).to(device) for _ in range(2)
    )
    target.load_state_dict(critic.state_dict())
    target.requires_grad_(False)
    log_temperature = nn.Parameter(torch.tensor(c.temperature, device=device).log())
    return Networks(actor, critic, target, log_temperature)


# Acting.


def act(actor: nn.Module, known: Known, noise: Tensor | None) -> Tensor:
    """Actions (N, A) at what is known of N rows."""
    mean, log_std = _gaussian(actor, known)
    return (mean if noise is None else mean + log_std.exp() * noise).tanh()


def _gaussian(actor: nn.Module, known: Known) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the deviation (B, A), before tanh."""
    mean, log_std = by_parts(actor, torch.cat(known, 1), 0).chunk(2, 1)
    return mean, log_std.clamp(*LOG_STD)


def _drawn(actor: nn.Module, known: Known, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Actions (B, A) of the policy, and their log-likelihoods (B,)."""
    mean, log_std = _gaussian(actor, known)
    noise = torch.randn(mean.shape, generator=rng, device=mean.device)
    return squashed_gaussian(mean, log_std, noise)


# Learning.


@torch.no_grad()
def bellman_target(
    nets: Networks, config: Config, reward: Tensor, terminated: Tensor, following: Known,
    rng: torch.Generator,
) -> Tensor:
    """Rewards (B,) and the soft value of going on by the policy from what is known next."""
    action, log_likelihood = _drawn(nets.actor, following, rng)
    value = _values(nets.target, following, action).min(0).values
    value = value - nets.log_temperature.exp() * log_likelihood
    return reward + config.discount * (1 - terminated) * value


def critic_loss(nets: Networks, known: Known, action: Tensor, target: Tensor) -> Loss:
    """The soft Bellman error of actions (B, A) at what is known."""
    values = _values(nets.critic, known, action)
    loss = 0.5 * (values - target).square().sum(0).mean()
    return loss, {"loss/critic": loss}


def policy_loss(nets: Networks, config: Config, known: Known, rng: torch.Generator) -> Loss:
    """The policy's and the temperature's, if that is learned; the critics are asked, not moved."""
    action, log_likelihood = _drawn(nets.actor, known, rng)
    value = _values(nets.critic, known, action).min(0).values
    temperature = nets.log_temperature.exp()
    entropy = -log_likelihood.detach().mean()
    policy = (temperature.detach() * log_likelihood - value).mean()
    loss = policy
    if config.learned_temperature:
        loss = policy + temperature * (entropy + config.entropy * action.shape[1])
    return loss, {"loss/actor": policy, "policy/temperature": temperature,
                  "policy/entropy": entropy}


def _values(critic: TwinCritic, known: Known, action: Tensor) -> Tensor:
    obs, belief = known
    return by_parts(critic, torch.cat([obs, action, belief], 1), 1)  # (2, B)


def descend(
    optimizer: torch.optim.Optimizer, groups: Groups, losses: Mapping[str, Loss],
    max_gradient: float,
) -> tuple[bool, Log]:
    """One step of the groups that have a loss, along the clipped gradient of each; none, and
    False, if one of these is not finite. Also what the losses and the step want logged."""
    norms = []
    for name, parameters in groups.items():
        loss = losses.get(name)
        # What a loss does not depend on gets no gradient, and is not moved.
        found = torch.autograd.grad(loss[0], parameters, allow_unused=True) if loss else ()
        for parameter, gradient in zip_longest(parameters, found):
            parameter.grad = gradient
        if found:
            norms.append(nn.utils.clip_grad_norm_(parameters, max_gradient))
    norm = torch.stack(norms).norm()
    finite = bool(norm.isfinite())
    if finite:
        optimizer.step()
    log = {name: x.detach() for _, numbers in losses.values() for name, x in numbers.items()}
    return finite, log | {"health/grad_norm": norm.nan_to_num(0, 0, 0),
                          "health/nonfinite": norm.new_tensor(not finite)}


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, share: float) -> None:
    """Let a share of a module's weights flow into those of its target."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, share)


def averaged(logs: Sequence[Log]) -> dict[str, float]:
    """The mean of each number over the gradient steps that logged it."""
    names = sorted({name for log in logs for name in log})
    return {name: torch.stack([log[name] for log in logs if name in log]).mean().item()
            for name in names}
