"""A family's scripted policy, which is told the task, as an agent that never learns."""

import torch
from torch import Tensor

from metarl.agent import Fixed
from metarl.envs.worlds import Worlds
from metarl.errors import UserError


class Expert(Fixed):
    """The oracle of one `Worlds`: it reads the frame and the task, which no agent may. It can be
    `told` other tasks (N, D) than the rows have, to see what one without the task would do."""

    def __init__(self, worlds: Worlds, told: Tensor | None = None) -> None:
        self._worlds, self._told = worlds, told

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        """Actions (N, A). Raises UserError if the family has no scripted policy."""
        family = self._worlds.family
        tasks = self._worlds.tasks if self._told is None else self._told
        action = family.expert(self._worlds.frame, tasks.numpy())
        if action is None:
            raise UserError(f"{family.name} has no scripted expert")
        return torch.from_numpy(action).float()
