"""The outer steps of MAML's family, and what they share: the rollouts of M tasks, under the weights
that each task was adapted to, say how the meta-trained numbers should change.

A step is a function of what is meta-trained, of its own memory (an optimiser's moments; nothing at
first) and of the rounds of rollouts; it returns both anew, and numbers to log.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from metarl.agents import inner
from metarl.agents.inner import replayed
from metarl.agents.inner_rewards import steepness
from metarl.agents.inner_sizes import lengths
from metarl.agents.networks import LOG_STD
from metarl.agents.rounds import Round
from metarl.agents.stacked import Gaussian, Weights, flat, moved
from metarl.agents.state import under
from metarl.errors import UserError, unknown

_CPU_GROUP = 4  # tasks whose activations stay in a core's cache: half the time of all 40 at once

OuterName = Literal["trpo", "ppo", "promp", "reptile"]


@dataclass(frozen=True)
class Config(inner.Config):
    """Hyperparameters of the outer steps, beside those of the inner loop."""

    tasks: int = 40  # tasks of an iteration
    outer: OuterName = "trpo"  # how the initialisation is improved
    kl: float = 0.01  # divergence: TRPO's bound after adaptation, ProMP's aim before it
    conjugate_steps: int = 10  # TRPO: iterations of conjugate gradients
    damping: float = 1e-5  # TRPO: added to the diagonal of the curvature
    curvature_rollouts: int = 80  # TRPO: how many, of all tasks, the curvature is computed from
    whole_inner: bool = False  # TRPO: but inner steps from all of them, which is dearer
    line_search: int = 15  # TRPO: step lengths that are tried
    backtrack: float = 0.8  # TRPO: factor from one to the next
    epochs: int = 5  # PPO, ProMP: passes over an iteration's tasks
    minibatches: int = 1  # PPO, ProMP: Adam's steps of a pass, each on a share of the tasks
    every_round: bool = False  # PPO, ProMP: what each inner step leads to counts, not only the last
    taught: int = 0  # PPO, ProMP: iterations of imitating a script, ever less but with spread
    outer_rate: float = 1e-3  # PPO, ProMP: size of Adam's step
    anneal: int = 0  # PPO, ProMP: iterations in which Adam's steps shrink to a tenth; 0: never
    clip: float = 0.3  # PPO, ProMP: how far a ratio of likelihoods may lead away from 1
    penalty: float = 5e-4  # ProMP: weight of that divergence at first; it adapts
    reptile_rate: float = 0.5  # Reptile: share of the way to the adapted weights


def check(config: Config) -> None:
    """Raise UserError for settings that make no agent."""
    if config.outer not in (names := get_args(OuterName)):
        raise unknown("outer step", config.outer, names)
    if min(config.inner_steps, config.epochs, config.rollouts, config.tasks) < 1:
        raise UserError("tasks, rollouts, inner_steps and epochs must be at least 1")
    if not 1 <= config.minibatches <= config.tasks:
        raise UserError(f"--config.minibatches {config.minibatches} makes no sense; give a number "
                        f"from 1 to that of --config.tasks, {config.tasks}")
    if (config.taught or config.every_round) and config.outer not in ("ppo", "promp"):
        raise UserError(f"the outer step {config.outer} neither imitates a teacher nor counts "
                        "every round: --config.taught 0 --config.no-every-round, or choose ppo")
    if config.head_only and config.context_size:
        raise UserError("either the head takes inner steps or the context does: "
                        "--config.no-head-only, or --config.context-size 0")
    if config.spread:
        _check_own_contexts(config)
    named = ("head_only", "context_size", "learned_rates", "learned_rewards", "learned_sizes")
    unmoved = [name for name in named if getattr(config, name)]
    if config.outer == "reptile" and unmoved:
        raise UserError(f"reptile moves what the inner steps move, and learns nothing else: not "
                        f"under {' and '.join(unmoved)}; choose another outer step")


def _check_own_contexts(config: Config) -> None:
    if config.outer != "ppo":
        raise UserError(f"rollouts have contexts of their own (--config.spread) under ppo alone, "
                        f"not under {config.outer}: --config.spread 0, or choose ppo")
    if config.context_size:
        raise UserError("rollouts' own contexts (--config.spread) have as many numbers as tasks "
                        "have parameters: --config.context-size 0, or --config.spread 0")
    named = ("head_only", "learned_rates", "learned_rewards", "learned_sizes", "first_order")
    if others := [name for name in named if getattr(config, name)]:
        raise UserError(f"rollouts' own contexts (--config.spread) leave no gradient for "
                        f"{' and '.join(others)}: --config.spread 0, or do without")


class Outcome(NamedTuple):
    """What an outer step leaves."""

    meta: Weights
    memory: dict[str, Tensor]
    numbers: dict[str, float]  # to log


Step = Callable[[Config, Weights, dict[str, Tensor], list[Round]], Outcome]
Objective = Callable[[Weights, list[Round], list[Gaussian]], Tensor]  # (M,) of meta, rounds, acted


def told(config: Config, meta: Weights, rounds: list[Round]) -> dict[str, float]:
    """Numbers to log of any outer step, from what it led to and the rounds it was taken on."""
    numbers = {"loss/explained_variance": float(rounds[-1].explained.nanmean()),
               "policy/std": float(meta["log_std"].clamp(*LOG_STD).exp().mean())}
    if learned := list(under("rate", meta).values()):
        numbers["policy/inner_rate"] = float(torch.stack([r.mean() for r in learned]).mean())
    numbers |= steepness(meta["slopes"]) if config.learned_rewards else {}
    if config.learned_sizes:
        numbers |= lengths(meta["sizes"], [lived.earned for lived in rounds[:-1]])
    return numbers


def ascent(
    meta: Weights, objective: Objective, rounds: list[Round], acted: Sequence[Gaussian] = ()
) -> tuple[float, Tensor]:
    """The mean over tasks of an objective, and its gradient as a vector (P,)."""
    weights = leaves(meta)
    gain, gradients = 0.0, []
    for group in groups(rounds, acted):
        part = objective(weights, *group).sum() / len(rounds[0].obs)
        gradients.append(flat(torch.autograd.grad(part, list(weights.values()))))
        gain += float(part.detach())
    return gain, torch.stack(gradients).sum(0)


def leaves(meta: Weights) -> Weights:
    """Copies that gradients are taken with respect to."""
    return {name: w.detach().clone().requires_grad_() for name, w in meta.items()}


def groups(
    rounds: list[Round], acted: Sequence[Gaussian] = ()
) -> Iterator[tuple[list[Round], list[Gaussian]]]:
    """The rounds, and the policies that acted in them, of the first few tasks, of the next ..."""
    obs = rounds[0].obs
    size = _CPU_GROUP if obs.device.type == "cpu" else len(obs)
    for start in range(0, len(obs), size):
        yield of_tasks(slice(start, start + size), rounds, acted)


def of_tasks(
    some: slice, rounds: Sequence[Round], acted: Sequence[Gaussian] = ()
) -> tuple[list[Round], list[Gaussian]]:
    """The rounds, and the policies that acted in them, of some tasks."""
    return ([Round(*(x[some] for x in lived)) for lived in rounds],
            [Gaussian(*(x[some] for x in policy)) for policy in acted])


def joined(parts: Sequence[Gaussian]) -> Gaussian:
    """The policies of all tasks, from those of groups of them."""
    return Gaussian(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@torch.no_grad()
def reptile(
    config: Config, meta: Weights, memory: dict[str, Tensor], rounds: list[Round]
) -> Outcome:
    """A share of the way to the mean of the weights that all rounds led to, the last one too: an
    inner step on it takes the place of an outer gradient.

    Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms" (2018).
    """
    reached = replayed(config, meta, rounds)[-1]
    way = flat(reached[name].mean(0) - w for name, w in meta.items())
    finite = bool(way.isfinite().all())
    if finite:
        meta = moved(meta, config.reptile_rate * way)
    return Outcome(meta, memory, {
        "health/grad_norm": float(way.norm()), "health/nonfinite": float(not finite)
    })
