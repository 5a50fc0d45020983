"""Contexts of rollouts' own: each tries another one, and so another way of acting.

Noise of single actions finds nothing where nothing is earned before a whole way of acting is found,
as in pushing an object to a place that nobody knows. Here rollouts explore by the context that
their policy is told (as in MAESN: Gupta et al., "Meta-Reinforcement Learning of Structured
Exploration Strategies", NeurIPS 2018): each has its task's plus a deviation, which gets smaller
from round to round. What they earn says what the task is (`identification`).

A context describes a task by its parameters, in deviations of these in training; what to do in it
may be taught: there a teacher's actions are imitated. A demonstration leads by a few steps to the
context in which the policy would have acted likewise.
"""

import torch
from torch import Tensor

from metarl.agents.regression import regressed
from metarl.agents.stacked import Weights
from metarl.randomness import Draws, Role

RECOGNITION = 20 * ({"context": 1.0},)  # the steps towards that of a demonstration, their sizes


def deviations(draws: Draws, taken: int, spread: float, size: int) -> Tensor:
    """By how much rollouts' contexts of so many numbers deviate from their task's after so many
    inner steps, (M, R, C)."""
    drawn = draws.normal(Role.BELIEF, taken, size)
    return spread * drawn.view(-1, draws.replicas, size)


def beside(obs: Tensor, own: Tensor) -> Tensor:
    """Observations (M, S, O) of rollouts, one after the other, with their deviations (M, R, C)
    behind: (M, S, O + C)."""
    return torch.cat([obs, own.repeat_interleave(obs.shape[1] // own.shape[1], 1)], -1)


def imitated(
    meta: Weights, obs: Tensor, told: Tensor, shown: tuple[Tensor, Tensor], rate: float,
    source: torch.Generator,
) -> tuple[Weights, dict[str, float]]:
    """The weights after imitating a teacher's `lesson`, wherever it knew what to do, at obs
    (T, N, O) in the contexts (T, N, C) that describe the tasks; and numbers to log."""
    action, share = (x.to(obs.device) for x in shown)
    known = (share > 0) & obs.isfinite().all(-1)
    if not known.any():
        return meta, {"health/nonfinite": 1.0}
    meta, apart = regressed(meta, obs[known], told[known], action[known], rate, source)
    return meta, {"policy/from_teacher": apart, "health/nonfinite": 0.0}
