"""walker-params: a planar walker whose masses, inertias, friction and damping are hidden.

Rakelly et al., "PEARL" (2019). Its public models cannot be loaded by today's MuJoCo, and returns
on this rewritten one are not comparable with those published for them.
"""

from dataclasses import dataclass

from torch import Tensor

from metarl.envs.family import Frame
from metarl.envs.planar import Leg, Planar


@dataclass(frozen=True)
class WalkerParams(Planar):
    """A planar walker with a hidden body."""

    name = "walker-params"
    legs = (Leg("", foot=(0.0, 0.2), friction=0.9), Leg("_left", foot=(0.0, 0.2), friction=1.9))
    gear = 100.0
    joint = {"damping": 0.1, "armature": 0.01}  # noqa: RUF012
    floor = (0.7, 0.1, 0.1)

    def terminated(self, frame: Frame) -> Tensor:
        height, pitch = frame.qpos[:, 1], frame.qpos[:, 2]
        return ~((height > 0.8) & (height < 2.0) & (pitch.abs() < 1.0))
