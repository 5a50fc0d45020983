"""Oracle: SB3's SAC on all train tasks, told which one it is in; what there is to gain at most.

The task's parameters are appended to every observation, and normalised with it.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents.blind import Blind, Config
from metarl.agents.sb3 import flattened
from metarl.randomness import Draws
from metarl.trial import Steps, Trial


class Oracle(Blind):
    """The agent `oracle`. Its belief is the task (N, D) of each row."""

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        told = replace(shapes, obs=shapes.obs + shapes.task)
        super().__init__(config, told, seed, device)
        self.plan = Plan(config.tasks, 1, config.episodes, sees_task=True, adapts=False)

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Tensor:
        return tasks.repeat_interleave(replicas, 0).float().to(self.device)

    def act(self, obs: Tensor, belief: Tensor, noise: Tensor | None) -> Tensor:
        return super().act(torch.cat([obs, belief], 1), None, noise)

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        lived, task = flattened(trial), trial.task.float().repeat(len(trial), 1)
        told = replace(
            lived, obs=torch.cat([lived.obs, task], 1),
            next_obs=torch.cat([lived.next_obs, task], 1),
        )
        return self._learn(told, seed, iteration)

    def infer(self, belief: Tensor, step: Steps) -> Tensor:
        return belief

    def pack(self, belief: Tensor) -> dict[str, Tensor]:
        return {"task": belief}

    def unpack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors["task"].to(self.device)
