"""MAML's outer step by a trust region: the step that is steepest where the divergence between the
adapted policies measures distance, no longer than a bound on it allows.

Schulman et al., "Trust Region Policy Optimization" (ICML 2015). Difference: the curvature of the
trust region is that of some rollouts of each task, while its bound is checked on all of them. With
`whole_inner` these are the last round's alone, after inner steps on all rollouts, as the gradient
looks through.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metarl.agents.inner import last_policy, surrogate
from metarl.agents.outer import Config, Outcome, ascent, joined, leaves
from metarl.agents.rounds import Round
from metarl.agents.stacked import Gaussian, Weights, flat, kl_divergence, moved
from metarl.agents.trust_region import natural_step

_BELOW = 0.98  # of the length that would just meet the bound


def trpo(
    config: Config, meta: Weights, memory: dict[str, Tensor], rounds: list[Round]
) -> Outcome:
    """One natural gradient step that keeps the bound, or none."""
    gain, gradient, old = outer_gradient(config, meta, rounds)
    share = config.curvature_rollouts / (config.tasks * config.rollouts)
    inner, last = rounds[:-1], rounds[-1:]
    if not config.whole_inner:
        inner = _share(inner, share)
    product = curvature(config, meta, [*inner, *_share(last, share)])
    step = natural_step(gradient, product, config.kl, config.conjugate_steps)
    taken, after, kl = None, gain, 0.0
    finite = math.isfinite(gain) and bool(gradient.isfinite().all() and step.isfinite().all())
    if finite:
        taken, after, kl = line_search(config, meta, step, rounds, old, gain)
    return Outcome(taken or meta, memory, {
        "loss/surrogate": gain,
        "loss/surrogate_after": after,
        "loss/kl": kl,
        "loss/accepted": float(taken is not None),
        "health/grad_norm": float(gradient.norm()),
        "health/nonfinite": float(not finite),
    })


def outer_gradient(
    config: Config, meta: Weights, rounds: list[Round]
) -> tuple[float, Tensor, Gaussian]:
    """The surrogate, its gradient as a vector, and the policies that acted in the last round,
    adapted again from what they were adapted from."""
    acted: list[Gaussian] = []

    def gain(weights: Weights, lived: list[Round], _: list[Gaussian]) -> Tensor:
        new = last_policy(config, weights, lived)
        acted.append(new.detach())
        return surrogate(new, acted[-1], lived[-1])

    value, gradient = ascent(meta, gain, rounds)
    return value, gradient, joined(acted)


def curvature(config: Config, meta: Weights, rounds: list[Round]) -> Callable[[Tensor], Tensor]:
    """The product of a vector with the Hessian of the adapted policies' mean KL divergence, by
    double backward through the inner steps."""
    weights = leaves(meta)
    inputs = list(weights.values())
    new = last_policy(config, weights, rounds)
    kl = kl_divergence(new.detach(), new, rounds[-1].valid).mean()
    gradient = flat(torch.autograd.grad(kl, inputs, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        second = torch.autograd.grad(gradient.dot(vector), inputs, retain_graph=True)
        return flat(second) + config.damping * vector

    return product


@torch.no_grad()
def line_search(
    config: Config, meta: Weights, step: Tensor, rounds: list[Round], old: Gaussian, before: float
) -> tuple[Weights | None, float, float]:
    """What the longest tried part of the step leads to that improves the surrogate within the
    bound, None where no part does; the surrogate there, and its KL divergence."""
    length = 1.0
    for _ in range(config.line_search):
        tried = moved(meta, step * length)
        new = last_policy(config, tried, rounds)
        gain = float(surrogate(new, old, rounds[-1]).mean())
        kl = float(kl_divergence(old, new, rounds[-1].valid).mean())
        if gain > before and kl <= config.kl:
            return tried, gain, kl
        # Divergence grows with the square of the length: too far, and it is clear how much.
        beyond = config.kl < kl < math.inf
        length *= _BELOW * math.sqrt(config.kl / kl) if beyond else config.backtrack
    return None, before, 0.0


def _share(rounds: list[Round], share: float) -> list[Round]:
    """The first samples of each task, all at most: they lie replica by replica."""
    def some(x: Tensor) -> Tensor:
        return x[:, : max(1, round(share * x.shape[1]))]

    return [Round(*(some(x) for x in lived)) for lived in rounds]
