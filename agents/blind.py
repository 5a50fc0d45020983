"""Blind: SB3's SAC on all train tasks at once, never told nor finding out which one it is in.

The floor that every meta-agent must rise above: it learns the one behaviour that is best on
average. It is trained through the same trials, and counted by the same steps, as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents.annealing import annealed
from metarl.agents.sb3 import Sac, SacConfig, flattened
from metarl.randomness import Draws, Role, generator
from metarl.trial import Steps, Trial


@dataclass(frozen=True)
class Config(SacConfig):
    """Hyperparameters of SAC on many tasks; its share of steps and updates is PEARL's."""

    tasks: int = 20  # train tasks of an iteration
    episodes: int = 2  # episodes of a trial
    updates: int = 1100  # gradient steps of an iteration
    batch: int = 256  # transitions of a gradient step
    rate: float = 5e-4  # Adam's step
    anneal: int = 0  # gradient steps in which Adam's steps shrink to a tenth; 0: they never do

    def annealed(self, iteration: int) -> float:
        """Adam's step in an iteration."""
        return annealed(self.rate, iteration * self.updates, self.anneal)


class Blind:
    """The agent `blind`."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.plan = Plan(config.tasks, 1, config.episodes, adapts=False)
        self.sac = Sac(config, shapes.obs, shapes.action, word(seed), device)

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Any:
        return None

    def act(self, obs: Tensor, belief: Any, noise: Tensor | None) -> Tensor:
        return self.sac.act(obs, noise)

    def infer(self, belief: Any, step: Steps) -> Any:
        return belief

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        return self._learn(flattened(trial), seed, iteration)

    def _learn(self, lived: Steps, seed: int, iteration: int) -> dict[str, float]:
        c = self.config
        draws = word(seed, iteration, Role.LEARN)
        return self.sac.learn(lived, c.updates, c.batch, c.annealed(iteration), draws)

    def state(self) -> dict[str, Tensor]:
        return {**self.sac.learner(), **self.sac.replay()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.sac.load_learner(state)
        self.sac.load_replay(state)

    def policy_state(self) -> dict[str, Tensor]:
        return self.sac.acting()

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        self.sac.load_acting(state)

    def pack(self, belief: Any) -> dict[str, Tensor]:
        return {}

    def unpack(self, tensors: Mapping[str, Tensor]) -> Any:
        return None


def word(seed: int, iteration: int = 0, role: Role = Role.INITIAL_WEIGHTS) -> int:
    """What the draws of an iteration are seeded by."""
    return int(generator(seed, iteration, 0, role).integers(2**63 - 1))
