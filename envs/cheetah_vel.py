"""cheetah-vel: a planar cheetah that must run at a hidden speed.

Finn et al., "Model-Agnostic Meta-Learning" (2017), with the range U[0, 3] m/s that PEARL's code
draws (Rakelly et al. 2019), whatever its docstring says; the range of MAML's papers is [0, 2].
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.arrays import Array
from metarl.envs.cheetah import Cheetah, effort
from metarl.envs.family import Frame, Parameter


@dataclass(frozen=True)
class CheetahVel(Cheetah):
    """A planar cheetah that must run at a hidden speed."""

    name = "cheetah-vel"
    parameters = (
        Parameter(
            "velocity", "m/s", "target forward speed", train=(0.0, 3.0), ood=((3.0, 4.0),),
            physics=False,
        ),
    )

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return -abs(self.speed(before, after) - task[:, 0]) - effort(action)

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        return 0.4 * task["velocity"], 0.0, 0.0
