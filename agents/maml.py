"""MAML: an initialisation from which one policy-gradient step on a task's own rollouts suffices.

Each task's rollouts give its policy an inner gradient step; the outer step improves what the
adapted policies earn, differentiating through the inner one. Finn et al., "Model-Agnostic
Meta-Learning for Fast Adaptation of Deep Networks" (ICML 2017); the outer step is that of Schulman
et al., "Trust Region Policy Optimization" (ICML 2015).

Differences: the standard deviation is learned and adapts too; the curvature of the trust region is
that of a few rollouts per task, while its bound is checked on all of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents.networks import LOG_STD, named, under
from metarl.agents.returns import (
    baseline_features,
    discounted,
    explained_variance,
    gae,
    linear_baseline,
    mean,
    normalised,
)
from metarl.agents.stacked import (
    Gaussian,
    Weights,
    flat,
    initial,
    kl_divergence,
    log_likelihood,
    moved,
    policy,
    stacked,
)
from metarl.agents.trust_region import natural_step
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial

_LIVED = ("obs", "action", "reward", "last")  # all that MAML needs of a step
_CPU_GROUP = 4  # tasks whose activations stay in a core's cache: half the time of all 40 at once


@dataclass(frozen=True)
class Config:
    """Hyperparameters of MAML."""

    tasks: int = 40  # tasks of an iteration
    rollouts: int = 20  # rows per task
    inner_steps: int = 1  # gradient steps that the outer one looks through
    inner_rate: float = 0.1  # step size of the inner gradient step
    first_order: bool = False  # drop the second derivatives (FOMAML)
    hidden: int = 64  # units of a layer
    layers: int = 2  # hidden layers
    std: float = 1.0  # of the exploration noise before training
    discount: float = 0.99  # per step
    decay: float = 1.0  # lambda of the advantages
    kl: float = 0.01  # bound on the mean KL divergence of the adapted policies
    conjugate_steps: int = 10  # iterations of conjugate gradients
    damping: float = 1e-5  # added to the diagonal of the curvature
    curvature_rows: int = 2  # rows per task that the curvature is computed from
    line_search: int = 15  # step lengths that are tried
    backtrack: float = 0.8  # factor from one to the next


class Belief(NamedTuple):
    """Each task's own weights, and what its rows have lived since these last changed."""

    weights: Weights  # (M, ...) each
    pending: tuple[Steps, ...] = ()  # (N, ...) each
    waiting: Tensor | None = None  # (N,) bool, no episode has ended yet; None before any step


class Round(NamedTuple):
    """S samples of each of M tasks: one episode of every row, under unchanging weights."""

    obs: Tensor  # (M, S, O), replica by replica
    action: Tensor  # (M, S, A)
    advantage: Tensor  # (M, S), normalised; 0 where not valid
    valid: Tensor  # (M, S) bool; False after a row's first episode end
    explained: Tensor  # (M, 1) explained variance of the baseline


class Maml:
    """The agent `maml`. Its actions are unbounded: the world clamps what reaches the actuators."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.plan = Plan(
            config.tasks, config.rollouts, config.inner_steps + 1, noise_when_judged=True
        )
        sizes = [shapes.obs, *[config.hidden] * config.layers, shapes.action]
        source = torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        fresh = initial(sizes, config.std, source)
        self.weights = {name: w.to(device) for name, w in fresh.items()}

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        """The meta-trained weights, for each of M tasks."""
        return Belief(stacked(self.weights, len(tasks)))

    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        """Actions (N, A) of each row's adapted policy; with noise None, the mean."""
        rows = obs.view(_tasks(belief), -1, obs.shape[-1])  # (M, R, O)
        action, log_std = policy(belief.weights, rows)
        if noise is not None:
            action = action + log_std.exp() * noise.view_as(action)
        return action.flatten(0, 1)

    def infer(self, belief: Belief, step: Steps) -> Belief:
        """The belief after one more step (N, ...): once every row has ended an episode, an inner
        gradient step on these episodes."""
        waiting = ~step.last if belief.waiting is None else belief.waiting & ~step.last
        pending = (*belief.pending, step)
        if waiting.any():
            return Belief(belief.weights, pending, waiting)
        lived = [torch.stack([getattr(s, name) for s in pending]) for name in _LIVED]
        with torch.no_grad():
            return Belief(self._adapted(belief.weights, [self._round(_tasks(belief), *lived)]))

    def imitate(self, belief: Belief, lived: Steps) -> Belief:
        """The belief about one task after a demonstrated episode (S, ...): an inner gradient step
        that clones behaviour, as if every action of it had had an advantage of 1. (What is inferred
        from others' actions would weigh them by a policy gradient that holds for its own alone.)"""
        every = torch.ones_like(lived.last)[None]
        demonstrated = Round(lived.obs[None], lived.action[None].clamp(-1, 1), every.float(), every,
                             every.float())
        with torch.no_grad():
            return belief._replace(weights=self._adapted(belief.weights, [demonstrated]))

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        """One outer step on a trial that began at the prior; numbers to log."""
        config = self.config
        rounds = self._rounds(trial)
        gain, gradient, old = self._outer_gradient(rounds)
        samples = config.curvature_rows * rounds[0].obs.shape[1] // trial.replicas
        few = [Round(*(x[:, :samples] for x in lived)) for lived in rounds]
        step = natural_step(gradient, self._curvature(few), config.kl, config.conjugate_steps)
        accepted, after, kl = False, gain, 0.0
        finite = math.isfinite(gain) and bool(gradient.isfinite().all() and step.isfinite().all())
        if finite:
            accepted, after, kl = self._line_search(step, rounds, old, gain)
        return {
            "loss/surrogate": gain,
            "loss/surrogate_after": after,
            "loss/kl": kl,
            "loss/accepted": float(accepted),
            "loss/explained_variance": float(rounds[-1].explained.nanmean()),
            "policy/std": float(self.weights["log_std"].clamp(*LOG_STD).exp().mean()),
            "health/grad_norm": float(gradient.norm()),
            "health/nonfinite": float(not finite),
        }

    def _outer_gradient(self, rounds: list[Round]) -> tuple[float, Tensor, Gaussian]:
        """The surrogate, its gradient as a vector, and the policies that acted in the last round,
        adapted again from what they were adapted from."""
        weights = _leaves(self.weights)
        tasks = len(rounds[0].obs)
        gain, gradients, acted = 0.0, [], []
        for group in _groups(rounds, _CPU_GROUP if self.device.type == "cpu" else tasks):
            new = self._adapted_policies(weights, group)
            acted.append(new.detach())
            part = surrogate(new, acted[-1], group[-1]).sum() / tasks
            gradients.append(flat(torch.autograd.grad(part, list(weights.values()))))
            gain += float(part.detach())
        old = Gaussian(*(torch.cat(parts) for parts in zip(*acted, strict=True)))
        return gain, torch.stack(gradients).sum(0), old

    def _curvature(self, rounds: list[Round]) -> Callable[[Tensor], Tensor]:
        """The product of a vector with the Hessian of the adapted policies' mean KL divergence, by
        double backward through the inner steps."""
        weights = _leaves(self.weights)
        leaves = list(weights.values())
        new = self._adapted_policies(weights, rounds)
        kl = kl_divergence(new.detach(), new, rounds[-1].valid).mean()
        gradient = flat(torch.autograd.grad(kl, leaves, create_graph=True))

        def product(vector: Tensor) -> Tensor:
            second = torch.autograd.grad(gradient.dot(vector), leaves, retain_graph=True)
            return flat(second) + self.config.damping * vector

        return product

    @torch.no_grad()
    def _line_search(
        self, step: Tensor, rounds: list[Round], old: Gaussian, before: float
    ) -> tuple[bool, float, float]:
        """Take the longest tried part of the step that improves the surrogate within the bound:
        whether there is one, the surrogate after it, and its KL divergence."""
        for i in range(self.config.line_search):
            weights = moved(self.weights, step * self.config.backtrack**i)
            new = self._adapted_policies(weights, rounds)
            gain = float(surrogate(new, old, rounds[-1]).mean())
            kl = float(kl_divergence(old, new, rounds[-1].valid).mean())
            if gain > before and kl <= self.config.kl:
                self.weights = weights
                return True, gain, kl
        return False, before, 0.0

    # Parts.

    def _adapted_policies(self, weights: Weights, rounds: list[Round]) -> Gaussian:
        """Each task's policy in the last round, adapted on all rounds before it."""
        start = stacked(weights, len(rounds[0].obs))
        return policy(self._adapted(start, rounds[:-1]), rounds[-1].obs)

    def _adapted(self, weights: Weights, rounds: list[Round]) -> Weights:
        """Stacked weights after one inner gradient step on each round."""
        for lived in rounds:
            loss = partial(inner_loss, lived)
            weights = adapted(weights, loss, self.config.inner_rate, self.config.first_order)
        return weights

    def _rounds(self, trial: Trial) -> list[Round]:
        """The data of each inner step and of the outer one, cut where `infer` updated."""
        parts = [getattr(trial, name).to(self.device) for name in _LIVED]
        last, start, rounds = parts[-1], 0, []
        for _ in range(self.config.inner_steps + 1):
            unfinished = (last[start:].cumsum(0) == 0).any(1)
            stop = start + int(unfinished.sum()) + 1
            tasks = last.shape[1] // trial.replicas
            rounds.append(self._round(tasks, *(part[start:stop] for part in parts)))
            start = stop
        return rounds

    def _round(
        self, tasks: int, obs: Tensor, action: Tensor, reward: Tensor, last: Tensor
    ) -> Round:
        """Samples from steps (T, N, ...), in which every row ends an episode."""
        config, by_task = self.config, partial(_by_task, tasks)
        valid = by_task(last.cumsum(0) - last.long() == 0)
        # Time since the last update: the episode's own, unless episodes end early.
        time = torch.arange(len(reward), device=reward.device)[:, None].expand_as(reward)
        target = by_task(discounted(reward, last, config.discount))
        fitted = linear_baseline(by_task(baseline_features(obs, time)), target, valid)
        value = fitted.view(-1, len(reward)).T  # (T, N)
        # Rollouts have a fixed length that the baseline's features tell: nothing follows them.
        advantage = gae(
            reward, value, value.roll(-1, 0), last, last, config.discount, config.decay
        )
        return Round(
            by_task(obs),
            by_task(action),
            normalised(by_task(advantage), valid),
            valid,
            explained_variance(fitted, target, valid)[:, None],
        )

    # State.

    def state(self) -> dict[str, Tensor]:
        """Everything that training needs to go on, bit for bit."""
        return self.policy_state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self.load_policy_state(state)

    def policy_state(self) -> dict[str, Tensor]:
        """The part of the state that acting and inferring need."""
        return named("weights", self.weights)

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `policy_state` returned."""
        found = under("weights", state)
        self.weights = {name: found[name].to(self.device, copy=True) for name in self.weights}

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        """The adapted weights. Raises ValueError where some rows have yet to end an episode."""
        if belief.pending:
            raise ValueError("MAML stores a belief only once every rollout has ended an episode")
        return {name: w.contiguous() for name, w in belief.weights.items()}

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        """The belief that `pack` stored."""
        return Belief({name: tensors[name].to(self.device) for name in self.weights})


def adapted(
    weights: Weights, loss: Callable[[Weights], Tensor], rate: float, first_order: bool = False
) -> Weights:
    """The weights after one gradient step on a loss: differentiable with respect to `weights`
    where these require it, through the step's own gradient too unless `first_order`."""
    through = torch.is_grad_enabled() and not first_order
    with torch.enable_grad():
        inputs = {
            n: w if w.requires_grad else w.detach().requires_grad_() for n, w in weights.items()
        }
        gradients = torch.autograd.grad(loss(inputs), list(inputs.values()), create_graph=through)
    return {n: w - rate * g for (n, w), g in zip(weights.items(), gradients, strict=True)}


def inner_loss(lived: Round, weights: Weights) -> Tensor:
    """Policy-gradient losses of all tasks, summed, so that each weight sees its own task's only."""
    likelihood = log_likelihood(policy(weights, lived.obs), lived.action)
    return -mean(likelihood * lived.advantage, lived.valid).sum()


def surrogate(new: Gaussian, old: Gaussian, lived: Round) -> Tensor:
    """What `new` would gain over `old` in each task: importance-weighted advantages, (M,)."""
    difference = log_likelihood(new, lived.action) - log_likelihood(old, lived.action)
    return mean(difference.exp() * lived.advantage, lived.valid)[:, 0]


def _tasks(belief: Belief) -> int:
    return len(belief.weights["log_std"])


def _leaves(weights: Weights) -> Weights:
    return {name: w.clone().requires_grad_() for name, w in weights.items()}


def _groups(rounds: list[Round], tasks: int) -> Iterator[list[Round]]:
    """The rounds of the first `tasks` tasks, of the next ones, ..."""
    for start in range(0, len(rounds[0].obs), tasks):
        yield [Round(*(x[start : start + tasks] for x in lived)) for lived in rounds]


def _by_task(tasks: int, x: Tensor) -> Tensor:
    """Steps (T, N, ...) as samples (M, S, ...), replica by replica."""
    return x.unflatten(1, (tasks, -1)).movedim(0, 2).flatten(1, 2)
