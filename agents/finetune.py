"""Finetune: SB3's SAC on all train tasks at once, trained further in each variant it meets.

What can be had without meta-learning: `blind` when it is trained, and in a variant, after each
episode there, SB3's own gradient steps on exactly what was lived in it, as `scratch` takes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents import blind, scratch
from metarl.agents.sb3 import flattened
from metarl.randomness import Role
from metarl.trial import Trial


@dataclass(frozen=True)
class Config(blind.Config, scratch.Config):
    """Hyperparameters of training blind, and of going on in a variant."""

    adapt_rate: float = 1e-4  # Adam's step there: larger ones unlearned more on reach


class Finetune(scratch.Scratch):
    """The agent `finetune`."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        super().__init__(config, shapes, seed, device)
        self._training = config
        self.plan = self._plan(config.tasks, config.episodes)

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, draws = self._training, blind.word(seed, iteration, Role.LEARN)
        rate, lived = c.annealed(iteration), flattened(trial)
        return self.sac.learn(lived, c.updates, c.batch, rate, draws)

    def state(self) -> dict[str, Tensor]:
        return {**self.sac.learner(), **self.sac.replay()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.sac.load_learner(state)
        self.sac.load_replay(state)
