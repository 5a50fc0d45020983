"""A family's scripted policy, which is told the task, as an agent that never learns."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.agent import Plan
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.trial import Steps, Trial


class Expert:
    """The oracle of one `Worlds`: it reads the frame and the task, which no agent may."""

    device = torch.device("cpu")
    plan = Plan(tasks=1, replicas=1, episodes=1)

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> None:
        return None

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        family = self._worlds.family
        action = family.expert(self._worlds.frame, self._worlds.tasks)
        if action is None:
            raise UserError(f"{family.name} has no scripted expert")
        return action.float()

    def infer(self, belief: None, step: Steps) -> None:
        return None

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def policy_state(self) -> dict[str, Tensor]:
        return {}

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def pack(self, belief: None) -> dict[str, Tensor]:
        return {}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        return None
