"""MAML: an initialisation from which one policy-gradient step on a task's own rollouts suffices.

Each task's rollouts give its policy an inner gradient step (`inner`); the outer step improves what
the adapted policies earn, differentiating through the inner one (`outer_trpo`, `outer_ppo`, or
Reptile's in `outer`). Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks" (ICML 2017). FOMAML, ANIL, CAVIA, Meta-SGD, ProMP and Reptile are settings of it. With PPO
a `teacher` may be imitated, and rollouts have `own_contexts`: their inner step is `identification`.

When it is judged or used it takes an inner step after every round of H control steps of all of its
rollouts, however many these are: the return of episode k is that of the rows' first episodes in
round k, after k - 1 gradient steps. A rollout that ends early is followed by others in its round.

Differences: the standard deviation is learned and adapts too, and advantages look less far ahead
than with the papers' decay of 1, as the gradient of a few rollouts has less noise then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents import outer
from metarl.agents.annealing import annealed
from metarl.agents.identification import Identification
from metarl.agents.inner import adapted, initialisation, meta_parameters, rates, stepped
from metarl.agents.inner_rewards import Units
from metarl.agents.networks import Normalizer
from metarl.agents.outer_ppo import ppo
from metarl.agents.outer_trpo import trpo
from metarl.agents.own_contexts import RECOGNITION, beside, deviations, imitated
from metarl.agents.rounds import LIVED, Round, round_of, rounds_of
from metarl.agents.stacked import Weights, initial, policy
from metarl.agents.state import named, under
from metarl.agents.teacher import cloning_loss, lesson
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial

_RATE = 1e-3  # Adam's step of imitation and of the model of rewards
_OUTER: dict[str, outer.Step] = {
    "trpo": trpo, "ppo": ppo, "promp": ppo, "reptile": outer.reptile
}


@dataclass(frozen=True)
class Config(outer.Config):
    """Hyperparameters of MAML, beside those of its inner loop and its outer step."""

    hidden: int = 64  # units of a layer
    layers: int = 2  # hidden layers
    std: float = 1.0  # of the exploration noise before training
    normalize: bool = False  # see observations in deviations from the mean of training's


class Belief(NamedTuple):
    """Each task's own weights, and what its rows have lived since these last changed."""

    weights: Weights  # (M, ...) each
    taken: int = 0  # inner steps, of all tasks alike
    pending: tuple[Steps, ...] = ()  # (N, ...) each
    draws: Draws | None = None  # of rollouts' own contexts
    own: Tensor | None = None  # (M, R, C) these, now: by how much they deviate from their task's


class Maml:
    """The agent `maml`. Its actions are unbounded: the world clamps what reaches the actuators."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        outer.check(config)
        if config.spread:
            config = replace(config, context_size=shapes.task)
        self.config, self.device, self.horizon = config, device, shapes.horizon
        self.plan = Plan(
            config.tasks, config.rollouts, config.inner_steps + 1, noise_when_judged=True,
            pools=True, taught=config.taught,
        )
        sizes = [shapes.obs, *[config.hidden] * config.layers, shapes.action]
        source = torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        fresh = meta_parameters(config, initial(sizes, config.std, config.context_size, source))
        self.meta = {name: w.to(device) for name, w in fresh.items()}
        self.memory: dict[str, Tensor] = {}  # of the outer step
        learned = config.learned_rewards or config.learned_sizes
        self.units = Units().to(device) if learned else None
        self.normalizer = Normalizer(shapes.obs).to(device) if config.normalize else None
        explaining = (shapes, sizes[1:-1], source, device)
        self.identification = Identification(*explaining) if config.spread else None
        parts = ("units", "normalizer", "identification")
        self.parts = {n: part for n in parts if (part := getattr(self, n))}

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        """The meta-trained weights, for each of M tasks."""
        return self._begun(initialisation(self.meta, len(tasks)), 0, draws)

    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        """Actions (N, A) of each row's adapted policy; with noise None, the mean."""
        rows = self._seen(obs).view(len(belief.weights["log_std"]), -1, obs.shape[-1])  # (M, R, O)
        if noise is not None and belief.own is not None:
            rows = beside(rows, belief.own)
        action, log_std = policy(belief.weights, rows)
        if noise is not None:
            action = action + log_std.exp() * noise.view_as(action)
        return action.flatten(0, 1)

    def infer(self, belief: Belief, step: Steps) -> Belief:
        """The belief after one more step (N, ...), and after every H of them an inner step."""
        pending = (*belief.pending, step)
        if len(pending) < self.horizon:
            return belief._replace(pending=pending)
        obs, *rest = (torch.stack([getattr(s, name) for s in pending]) for name in LIVED)
        with torch.no_grad():
            seen = self._seen(obs)
            tasks = len(belief.weights["log_std"])
            lived = round_of(self.config, tasks, self.units, seen, *rest, own=belief.own)
            (lived,) = self._explained(belief.weights, [lived])
            reached = stepped(self.config, self.meta, belief.weights, lived, belief.taken)
        return self._begun(reached, belief.taken + 1, belief.draws)

    def _begun(self, weights: Weights, taken: int, draws: Draws | None) -> Belief:
        """The belief at the beginning of a round."""
        own = self._own(draws, taken) if draws and self.identification else None
        return Belief(weights, taken, (), draws, own)

    def _own(self, draws: Draws, taken: int) -> Tensor:
        spread = self.config.spread * self.config.spread_decay**taken
        return deviations(draws, taken, spread, self.config.context_size).to(self.device)

    def embed(self, belief: Belief) -> Tensor | None:
        """Each task's context (M, C), where inner steps go to one."""
        return belief.weights["context"][:, 0] if self.config.context_size else None

    def imitate(self, belief: Belief, lived: Steps) -> Belief:
        """The belief about one task after a demonstrated episode (S, ...): an inner gradient step
        that clones behaviour; of own contexts a few, and then what explains its rewards. (The
        policy gradient of `infer` holds for its own actions alone.)"""
        shown = (self._seen(lived.obs)[None], lived.action[None].clamp(-1, 1))
        loss = partial(cloning_loss, *shown)
        steps = RECOGNITION
        if not self.config.spread:
            sizes = rates(self.config, self.meta, belief.taken, lived.reward.new_full((1, 1), nan))
            steps = ({n: size for n, size in sizes.items() if n != "log_std"},)
        with torch.no_grad():
            reached = reduce(lambda at, step: adapted(at, loss, step), steps, belief.weights)
            if found := self.identification:
                context = found.explaining(reached["context"], *shown, lived.reward[None])
                reached = reached | {"context": context}
        return self._begun(reached, belief.taken + 1, belief.draws)

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        """One outer step on a trial that began at the prior; numbers to log."""
        shown = lesson(trial, iteration, self.config.taught)
        taught = self.identification is not None and bool(shown[1].any())
        numbers = {} if taught else self._improved(trial, shown, iteration)
        self._measure(trial)
        if self.identification is None or numbers.get("health/nonfinite") == 1:
            return numbers
        source = torch_generator(seed, iteration, Role.LEARN, torch.device("cpu"))
        rate = annealed(_RATE, iteration, self.config.anneal)
        obs, told = self._seen(trial.obs.to(self.device)), self.identification.described(trial)
        if taught:
            self.meta, numbers = imitated(self.meta, obs, told, shown, rate, source)
        return numbers | self.identification.learn(obs, trial, told, rate, source)

    def _improved(self, trial: Trial, shown: tuple[Tensor, Tensor], done: int) -> dict[str, float]:
        """The outer step that the config names."""
        rounds = self._rounds(trial, shown)
        rate = annealed(self.config.outer_rate, done, self.config.anneal)
        step, config = _OUTER[self.config.outer], replace(self.config, outer_rate=rate)
        self.meta, self.memory, numbers = step(config, self.meta, self.memory, rounds)
        return numbers | outer.told(config, self.meta, rounds)

    def _rounds(self, trial: Trial, shown: tuple[Tensor, Tensor] | None = None) -> list[Round]:
        """What was lived in each round, as the agent sees it."""
        seen = replace(trial, obs=self._seen(trial.obs.to(self.device)))
        own = [self._own(trial.draws, i) for i in range(len(trial) // trial.round)
               ] if trial.draws and self.config.spread else ()
        rounds = rounds_of(self.config, seen, self.device, self.units, shown, own)
        return self._explained(initialisation(self.meta, len(rounds[0].obs)), rounds)

    def _explained(self, begun: Weights, rounds: list[Round]) -> list[Round]:
        found = self.identification
        return found.explained(begun["context"], rounds) if found else rounds

    def _measure(self, trial: Trial) -> None:
        """Bring the units up to date with what was lived: of observations and rewards always, of
        advantages once, so that inner steps begin as long as without."""
        if not (trial.reward.isfinite().all() and trial.obs.isfinite().all()):
            return
        if self.normalizer:
            self.normalizer.update(trial.obs)
        if self.units:
            self.units.rewards.update(trial.reward[..., None])
        if self.units and self.config.learned_rewards and self.units.scale == 0:
            self.units.measure([lived.parts for lived in self._rounds(trial)])

    def _seen(self, obs: Tensor) -> Tensor:
        """Observations (..., O) as the policy sees them."""
        return obs if self.normalizer is None else self.normalizer(obs)

    # State.

    def state(self) -> dict[str, Tensor]:
        """Everything that training needs to go on, bit for bit."""
        return {**self.policy_state(), **named("outer", self.memory)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self.load_policy_state(state)
        self.memory = {name: tensor.to(self.device if tensor.dim() else "cpu", copy=True)
                       for name, tensor in under("outer", state).items()}

    def policy_state(self) -> dict[str, Tensor]:
        """The part of the state that acting and inferring need."""
        state = named("weights", self.meta)
        for name, part in self.parts.items():
            state |= named(name, part.state_dict())
        return state

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `policy_state` returned."""
        self.meta = {n: state[f"weights/{n}"].to(self.device, copy=True) for n in self.meta}
        for name, part in self.parts.items():
            part.load_state_dict(under(name, state))

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        """The adapted weights. Raises ValueError within a round."""
        if belief.pending:
            raise ValueError("MAML stores a belief only after whole rounds of H control steps")
        stored = {name: w.contiguous() for name, w in belief.weights.items()}
        return stored | {"taken": torch.tensor(belief.taken)}

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        """The belief that `pack` stored."""
        weights = {n: tensors[n].to(self.device) for n in initialisation(self.meta, 1)}
        return Belief(weights, int(tensors["taken"]))
