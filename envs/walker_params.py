"""walker-params: a planar walker whose masses, inertias, friction and damping are hidden.

Rakelly et al., "PEARL" (2019). Its public models cannot be loaded by today's MuJoCo, and returns
on this rewritten one are not comparable with those published for them.
"""

from dataclasses import dataclass

from metarl.envs.arrays import Array
from metarl.envs.family import Frame
from metarl.envs.planar_params import PlanarParams
from metarl.envs.walker import Walker


@dataclass(frozen=True)
class WalkerParams(PlanarParams, Walker):
    """A planar walker with a hidden body."""

    name = "walker-params"

    def terminated(self, frame: Frame) -> Array:
        height, pitch = frame.qpos[:, 1], frame.qpos[:, 2]
        return ~((height > 0.8) & (height < 2.0) & (abs(pitch) < 1.0))
