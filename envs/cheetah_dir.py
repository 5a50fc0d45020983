"""cheetah-dir: a planar cheetah that must run forward or backward, as fast as it can.

Finn et al., "Model-Agnostic Meta-Learning" (2017). There are two tasks and no others: the held-out
ones are the same two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.arrays import Array
from metarl.envs.cheetah import Cheetah, effort
from metarl.envs.family import Frame, Parameter


@dataclass(frozen=True)
class CheetahDir(Cheetah):
    """A planar cheetah that must run in a hidden direction."""

    name = "cheetah-dir"
    task_counts = (2, 20)  # two train tasks; judged from ten starts in each
    parameters = (
        Parameter("direction", "±1", "forward (1) or backward (-1)", train=(-1.0, 1.0),
                  values=(1.0, -1.0), physics=False),
    )

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return task[:, 0] * self.speed(before, after) - effort(action)

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        return task["direction"], 0.0, 0.0
