"""Proximal policy optimisation of whole trials: the arithmetic that RL2 and VariBAD share.

Schulman et al., "Proximal Policy Optimization Algorithms" (2017). A trial is one long episode:
returns run across the time limits of its episodes, so that exploring in the first is paid in the
later ones, but not across a fall. Gradient steps are taken on shares of it: of the rows where a
memory is unrolled, else of all moments. A `teacher` may be imitated at first.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.agents.annealing import annealed
from metarl.agents.networks import LOG_STD, Normalizer
from metarl.agents.returns import gae
from metarl.agents.teacher import better

Log = dict[str, Tensor]  # numbers to log


@dataclass(frozen=True)
class Config:
    """Hyperparameters of PPO."""

    std: float = 0.7  # of the exploration noise before training
    discount: float = 0.97  # per step
    decay: float = 0.95  # lambda of the advantages
    rate: float = 1e-3  # Adam's step
    anneal: int = 0  # iterations in which Adam's steps shrink to a tenth; 0: they never do
    epochs: int = 2  # passes over an iteration's trials
    minibatches: int = 4  # gradient steps of a pass, each on a share of what was lived
    clip: float = 0.2  # how far a ratio of likelihoods may lead away from 1
    entropy: float = 1e-3  # weight of the entropy bonus, where the noise is below what it was
    value: float = 0.5  # weight of the value's squared error
    max_gradient: float = 0.5  # norm that the gradient is clipped to
    taught: int = 0  # iterations in which the scripted policy is imitated, ever less; 0: never


class Judged(NamedTuple):
    """The actions of a trial, judged by the policy and value as they were when it was collected."""

    action: Tensor  # (T, N, A)
    log_likelihood: Tensor  # (T, N) when it was chosen
    advantage: Tensor  # (T, N) normalised
    target: Tensor  # (T, N) of the value
    shown: Tensor  # (T, N, A) what a teacher would have done
    share: Tensor  # (T, N) that imitating it has of the loss, from 0 to 1


class Actor(nn.Module):
    """A Gaussian policy, its deviation the same everywhere."""

    def __init__(self, mean: nn.Module, actions: int, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.log_std = nn.Parameter(torch.full((actions,), math.log(std)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., A) and logarithm of the deviation (A,) of the actions at x (..., I)."""
        return self.mean(x), self.log_std.clamp(*LOG_STD)


# Rewards.


def discounted_sums(reward: Tensor, discount: float) -> Tensor:
    """Discounted sums (T, N) of the rewards (T, N) up to each step."""
    sums = torch.empty_like(reward)
    running = torch.zeros_like(reward[0])
    for t in range(len(reward)):
        running = reward[t] + discount * running
        sums[t] = running
    return sums


def scaled(reward: Tensor, sums: Normalizer, discount: float) -> Tensor:
    """Rewards (T, N) of a size at which their discounted sums have deviation 1. `sums` counts these
    in first, where they are finite, so that from the first iteration on the value has one size."""
    new = discounted_sums(reward, discount)
    if new.isfinite().all():
        sums.update(new[..., None])
    return reward * (sums.variance + 1e-8).rsqrt()


# Values.


def nearness(last: Tensor, horizon: int, discount: float) -> Tensor:
    """What the next beginning weighs before each step and after the last one, (T + 1, N, 1), from
    where episodes end (T, N): the discount to the power of the steps to the time limit.

    For the value alone. Not knowing it, the value is surprised by every new beginning, each row by
    another one, and the advantages before it are noise.
    """
    step = torch.arange(len(last) + 1, device=last.device)[:, None]
    ended = torch.where(last, step[1:], 0).cummax(0).values
    began = torch.cat([torch.zeros_like(ended[:1]), ended])  # (T + 1, N)
    return (discount ** (horizon - step + began).float())[..., None]


# Learning.


def judged(
    action: Tensor, reward: Tensor, terminated: Tensor, policy: tuple[Tensor, Tensor],
    value: Tensor, config: Config, lesson: tuple[Tensor, Tensor],
) -> Judged:
    """A trial's actions (T, N, A), from its scaled rewards (T, N), where the task itself ended
    (T, N), the policy's output, the values (T + 1, N) before each step and after the last, and a
    teacher's `lesson`."""
    # A trial goes on where an episode meets its time limit, and is cut off, not over, at its own
    # end. A robot that falls must not look forward to the next episode: falling would cost nothing.
    advantage = gae(
        reward, value[:-1], value[1:], terminated, terminated, config.discount, config.decay)
    target = advantage + value[:-1]
    # What rows share at a time, luck with a hard start say, tells nothing of the actions of any.
    if advantage.shape[1] > 1:
        advantage = advantage - advantage.mean(1, keepdim=True)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    shown, share = (part.to(action.device) for part in lesson)
    return Judged(action, log_likelihood(action, *policy), advantage, target, shown, share)


def minibatches(count: int, config: Config, rng: torch.Generator) -> Iterator[Tensor]:
    """Which of so many rows, or moments, each gradient step of an iteration sees."""
    for _ in range(config.epochs):
        yield from torch.randperm(count, generator=rng).tensor_split(min(config.minibatches, count))


def loss(
    policy: tuple[Tensor, Tensor], value: Tensor, lived: Judged, config: Config
) -> tuple[Tensor, Log]:
    """The clipped objective, or imitation in its place, the value's error and the entropy bonus as
    one loss, from what the policy and the value (...) now say about what was lived."""
    c, (mean, log_std) = config, policy
    ratio = (log_likelihood(lived.action, mean, log_std) - lived.log_likelihood).exp()
    clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
    gain = torch.minimum(ratio * lived.advantage, clipped * lived.advantage)
    apart = (mean - lived.shown).square().mean(-1)
    error = 0.5 * (value - lived.target).square().mean()
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
    # Noise is kept from fading, not made: a robot that runs fast falls by more than it began with.
    bonus = log_std.clamp(max=math.log(c.std)).sum()
    with torch.no_grad():
        beyond = ((ratio - 1).abs() > c.clip).float().mean()
        explained = 1 - 2 * error / lived.target.var()
    return c.value * error - better(gain, apart, lived.share).mean() - c.entropy * bonus, {
        "loss/value": error.detach(), "policy/entropy": entropy.detach(),
        "policy/clipped": beyond, "health/explained_variance": explained,
    } | ({"policy/from_teacher": apart.detach().mean()} if lived.share.any() else {})


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, max_gradient: float) -> Log:
    """One step along the clipped gradient; none where it is not finite."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, max_gradient)
    finite = norm.isfinite()
    if finite:
        optimizer.step()
    return {"health/grad_norm": norm.nan_to_num(0, 0, 0), "health/nonfinite": (~finite).float()}


def anneal(optimizer: torch.optim.Optimizer, rate: float, iteration: int, iterations: int) -> None:
    """Set Adam's step: `rate` at first, a tenth of it after so many iterations; 0: always."""
    for group in optimizer.param_groups:
        group["lr"] = annealed(rate, iteration, iterations)


def averaged(logs: list[Log]) -> dict[str, float]:
    """The mean of each number over some gradient steps."""
    return {name: torch.stack([log[name] for log in logs]).mean().item() for name in logs[0]}


def log_likelihood(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (...) of actions (..., A)."""
    distance = ((action - mean) * (-log_std).exp()).square()
    return (-0.5 * distance - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
