"""hopper-params: a planar hopper whose masses, inertias, friction and damping are hidden.

Rakelly et al., "PEARL" (2019). Its public models cannot be loaded by today's MuJoCo, and returns
on this rewritten one are not comparable with those published for them.
"""

from dataclasses import dataclass

from metarl.envs.arrays import Array
from metarl.envs.family import Frame
from metarl.envs.planar import Leg
from metarl.envs.planar_params import PlanarParams


@dataclass(frozen=True)
class HopperParams(PlanarParams):
    """A planar hopper with a hidden body."""

    name = "hopper-params"
    legs = (Leg("", foot=(-0.13, 0.26), friction=2.0),)
    gear = 200.0
    joint = {"damping": 1.0, "armature": 1.0}  # noqa: RUF012
    floor = (1.0, 0.005, 0.0001)

    def terminated(self, frame: Frame) -> Array:
        height, pitch = frame.qpos[:, 1], frame.qpos[:, 2]
        bounded = (abs(frame.qpos[:, 2:]) < 100).all(1) & (abs(frame.qvel) < 100).all(1)
        return ~(bounded & (height > 0.7) & (abs(pitch) < 0.2))
