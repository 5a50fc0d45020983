"""A family's scripted policy, which is told the task, as an agent that never learns."""

from torch import Tensor

from metarl.agent import Fixed
from metarl.envs.worlds import Worlds
from metarl.errors import UserError


class Expert(Fixed):
    """The oracle of one `Worlds`: it reads the frame and the task, which no agent may."""

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        """Actions (N, A). Raises UserError if the family has no scripted policy."""
        family = self._worlds.family
        action = family.expert(self._worlds.frame, self._worlds.tasks)
        if action is None:
            raise UserError(f"{family.name} has no scripted expert")
        return action.float()
