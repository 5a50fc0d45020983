"""Contexts of rollouts' own: each tries another one, and inner steps go to what earned most.

A policy gradient is about single actions: where nothing is earned before a whole way of acting is
found, as in pushing an object to a place that nobody knows, it has nothing to go by. Here rollouts
explore by the context that their policy is told (as in MAESN: Gupta et al., "Meta-Reinforcement
Learning of Structured Exploration Strategies", NeurIPS 2018): each has its task's plus a deviation
e, which gets smaller from round to round. The inner step moves the task's context by the mean of
the deviations, weighted by exp(b A), where A is what a rollout earned, in deviations, and b the
step size: reward-weighted regression (Peters and Schaal 2007). For a small b it is the policy
gradient with respect to the middle of a Gaussian of contexts, b mean(A e) (Sehnke et al.,
"Parameter-Exploring Policy Gradients", 2010).

What a context says is taught: in that which describes the task, a teacher's actions are imitated.
So there are as many numbers as tasks have parameters, in deviations of these in training; and so a
demonstration leads by a few steps to the context in which the policy would have acted likewise.
"""

import torch
from torch import Tensor

from metarl.agents.stacked import Weights, policy
from metarl.randomness import Draws, Role

_BATCH = 1024  # samples of a step of imitation
_RATE = 1e-3  # of its Adam
_PASSES = 4  # over what an iteration lived
RECOGNITION = 20 * (1.0,)  # sizes of the steps towards the context of a demonstration


def deviations(draws: Draws, taken: int, spread: float, size: int) -> Tensor:
    """By how much rollouts' contexts of so many numbers deviate from their task's after so many
    inner steps, (M, R, C)."""
    drawn = draws.normal(Role.BELIEF, taken, size)
    return spread * drawn.view(-1, draws.replicas, size)


def beside(obs: Tensor, own: Tensor) -> Tensor:
    """Observations (M, S, O) of rollouts, one after the other, with their deviations (M, R, C)
    behind: (M, S, O + C)."""
    return torch.cat([obs, own.repeat_interleave(obs.shape[1] // own.shape[1], 1)], -1)


def way_to_the_best(own: Tensor, earned: Tensor, size: Tensor | float) -> Tensor:
    """An inner step of tasks' contexts, (M, 1, C): from deviations (M, R, C) that earned (M, R), by
    a size (M, 1, 1) or one for all. Where all earn the same it is their mean."""
    apart = earned - earned.mean(1, keepdim=True)
    ranked = apart / (apart.square().mean(1, keepdim=True).sqrt() + 1e-6)
    weights = (size * ranked[..., None]).softmax(1)  # (M, R, 1)
    return (weights * own).sum(1, keepdim=True)


def imitated(
    meta: Weights, obs: Tensor, shown: Tensor, told: Tensor, generator: torch.Generator
) -> tuple[Weights, float]:
    """The weights after some passes over what a teacher has shown (B, A) for observations (B, O) in
    the contexts (B, C) that describe their tasks; and the squared error before that, NaN where
    nothing was shown."""
    weights = {name: w.detach().clone() for name, w in meta.items()}
    learned = {name: w.requires_grad_() for name, w in weights.items()
               if name.startswith(("weight", "bias", "context_weight"))}
    optimizer = torch.optim.Adam(learned.values(), _RATE)
    seen, first = torch.cat([obs, told], -1), torch.nan
    still = weights | {"context": torch.zeros_like(weights["context"])}
    for _ in range(_PASSES):
        for some in torch.randperm(len(obs), generator=generator).split(_BATCH):
            alone = {name: w[None] for name, w in still.items()}
            loss = (policy(alone, seen[None, some])[0][0] - shown[some]).square().mean()
            first = float(loss.detach()) if first != first else first
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: w.detach() for name, w in weights.items()}, first
