"""The inner loop of MAML's family: policy-gradient steps on a task's own rollouts.

Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (ICML 2017). What
the relatives change is what a step looks like, never the loop:

* first order (FOMAML): the outer gradient takes the inner one for a constant;
* ANIL (Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020): only the last layer, here with
  the standard deviation, has an inner step size;
* CAVIA (Zintgraf et al., ICML 2019): only a few numbers beside the observation, its context. They
  span what tasks differ by, so that the noise of all other directions does not move the policy;
* Meta-SGD (Li et al. 2017): each weight has its own, and the outer step learns it;
* ProMP (Rothfuss et al., ICLR 2019): the inner objective is the ratio of likelihoods. Its gradient
  is the same, its curvature also has the term E[grad log p grad log p^T A], by which the weights
  that sampled are credited with what their rollouts taught;
* rollouts with contexts of their own (`own_contexts`): the step goes to that which explains what
  they earned (`identification`);
* learned rewards (`inner_rewards`): the inner objective has a function of the reward in its place;
* learned sizes (`inner_sizes`): what a round earned says how long its step is.

Pure functions. `meta` are the meta-trained numbers by name: one policy's weights, and what steps
are learned by behind "rate/", as "slopes" and as "sizes".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from metarl.agents import rounds as lived_rounds
from metarl.agents.inner_rewards import straight
from metarl.agents.inner_sizes import even, factors
from metarl.agents.returns import mean
from metarl.agents.rounds import Round
from metarl.agents.stacked import Gaussian, Weights, log_likelihood, policy, stacked
from metarl.agents.state import named, under

_SLOPES, _SIZES = "slopes", "sizes"
Rates = Mapping[str, Tensor | float]  # inner step sizes, of those weights alone that adapt
Loss = Callable[[Weights], Tensor]


@dataclass(frozen=True)
class Config(lived_rounds.Config):
    """Hyperparameters of the inner loop."""

    inner_steps: int = 1  # gradient steps that the outer one looks through; each has own rollouts
    inner_rate: float = 0.1  # step size of the inner gradient step
    inner_decay: float = 1.0  # factor on that size from each inner step to the next
    first_order: bool = False  # FOMAML: drop the second derivatives
    head_only: bool = False  # ANIL: only the last layer and the deviation take inner steps
    context_size: int = 0  # CAVIA: numbers beside the observation, which alone take inner steps
    spread: float = 0.0  # deviation of rollouts' own contexts at first; 0: none, but gradients
    spread_decay: float = 0.5  # factor on that from each round to the next
    learned_rates: bool = False  # Meta-SGD: each weight learns its inner step size
    learned_sizes: bool = False  # ALFA: what a round earned says how long its inner step is


# The numbers that are learned.


def meta_parameters(config: Config, weights: Weights) -> Weights:
    """All that the outer step learns, from the weights of one fresh policy."""
    learned: Weights = {}
    if config.learned_rates:
        learned = named("rate", {name: torch.full_like(weights[name], config.inner_rate)
                                 for name in _adapting(config, weights)})
    if config.learned_rewards:
        learned[_SLOPES] = straight()
    if config.learned_sizes:
        learned[_SIZES] = even(config.inner_steps)
    return weights | learned


def initialisation(meta: Weights, tasks: int) -> Weights:
    """The weights that each of M tasks begins with, as views (M, ...)."""
    return stacked({n: meta[n] for n in _weights(meta)}, tasks)


def rates(config: Config, meta: Weights, taken: int, earned: Tensor) -> Rates:
    """The size of an inner step, after so many others, on rounds that earned (M, 1), by weight."""
    first = under("rate", meta) or dict.fromkeys(_adapting(config, meta), config.inner_rate)
    length: Tensor | float = config.inner_decay**taken
    if _SIZES in meta:
        length = length * factors(meta[_SIZES], earned, taken)[:, None, None]
    return {name: length * size for name, size in first.items()}


def _adapting(config: Config, weights: Weights) -> list[str]:
    if config.context_size:
        return ["context"]
    depth = sum(name.startswith("weight") for name in weights)
    head = [f"weight{depth - 1}", f"bias{depth - 1}", "log_std"]
    return head if config.head_only else _weights(weights)


def _weights(meta: Weights) -> list[str]:
    """The names of a policy's own weights among those of all that is learned."""
    return [name for name in meta if not name.startswith("rate/") and name not in (_SLOPES, _SIZES)]


# Inner steps.


def adapted(weights: Weights, loss: Loss, sizes: Rates, first_order: bool = False) -> Weights:
    """The weights after one gradient step on a loss, of those that have a step size:
    differentiable with respect to `weights` and `sizes` where these require it, through the step's
    own gradient too unless `first_order`."""
    through = torch.is_grad_enabled() and not first_order
    with torch.enable_grad():
        moving = {n: w if (w := weights[n]).requires_grad else w.detach().requires_grad_()
                  for n in sizes}
        gradients = torch.autograd.grad(
            loss(weights | moving), list(moving.values()), create_graph=through
        )
    return weights | {n: weights[n] - sizes[n] * g for n, g in zip(sizes, gradients, strict=True)}


def inner_loss(lived: Round, weights: Weights) -> Tensor:
    """Policy-gradient losses of all tasks, summed, so that each weight sees its own task's only."""
    likelihood = log_likelihood(policy(weights, lived.obs), lived.action)
    return -mean(likelihood * lived.advantage, lived.valid).sum()


def credited(meta: Weights, lived: Round) -> Round:
    """The round with the advantages that an inner step sees."""
    return lived._replace(advantage=lived.parts @ meta[_SLOPES]) if _SLOPES in meta else lived


def ratio_loss(lived: Round, acted: Gaussian, weights: Weights) -> Tensor:
    """ProMP's: the negative `surrogate` of all tasks, summed."""
    return -surrogate(policy(weights, lived.obs), acted, lived).sum()


def surrogate(new: Gaussian, old: Gaussian, lived: Round) -> Tensor:
    """What `new` would gain over `old` in each task: importance-weighted advantages, (M,)."""
    return mean(gains(new, old, lived), lived.valid)[:, 0]


def gains(new: Gaussian, old: Gaussian, lived: Round, clip: float | None = None) -> Tensor:
    """The same of each sample, (M, S). With `clip`, ratios gain nothing by leading further than
    that from 1."""
    difference = log_likelihood(new, lived.action) - log_likelihood(old, lived.action)
    ratio = difference.exp()
    gain = ratio * lived.advantage
    if clip is not None:
        gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * lived.advantage)
    return gain


def replayed(
    config: Config, meta: Weights, rounds: Sequence[Round], acted: Sequence[Gaussian] = ()
) -> list[Weights]:
    """Each task's weights (M, ...) before the first round and after an inner step on each. With the
    policies that `acted` in the rounds, the inner objective is ProMP's ratio."""
    lived = [initialisation(meta, len(rounds[0].obs))]
    for i, each in enumerate(rounds):
        lived.append(stepped(config, meta, lived[-1], each, i, acted[i] if acted else None))
    return lived


def stepped(
    config: Config, meta: Weights, weights: Weights, lived: Round, taken: int,
    acted: Gaussian | None = None,
) -> Weights:
    """Each task's weights (M, ...) after the inner step on a round, after so many others."""
    if config.spread:
        return weights | {"context": weights["context"] + lived.way}
    sizes = rates(config, meta, taken, lived.earned)
    seen = credited(meta, lived)
    loss = partial(ratio_loss, seen, acted) if acted else partial(inner_loss, seen)
    return adapted(weights, loss, sizes, config.first_order)


def last_policy(config: Config, meta: Weights, rounds: Sequence[Round]) -> Gaussian:
    """Each task's policy in the last round, adapted on all rounds before it."""
    return policy(replayed(config, meta, rounds[:-1])[-1], rounds[-1].obs)
