"""ant-terrain: an ant that must walk ahead over ground that it cannot see.

The ant of ant-dir, told to go forward, on the terrains of `metarl.envs.terrain`. It sees neither
the ground nor its own height, which would tell how far up a slope it is. It has fallen when it lies
on its back: a height above sea level, by which ant-dir judges, means nothing uphill.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco

from metarl.envs.ant import Ant
from metarl.envs.arrays import Array, concatenate, sum_of_squares
from metarl.envs.family import Frame
from metarl.envs.terrain import PARAMETERS, Field, add_terrains, choose_terrain

_FIELD = Field(ahead=60.0, aside=5.0)  # m; 10 s at 6 m/s


@dataclass(frozen=True)
class AntTerrain(Ant):
    """An ant that must walk ahead over slopes, rough ground, stairs and gaps, blind."""

    name = "ant-terrain"
    parameters = PARAMETERS

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        add_terrains(spec, _FIELD)
        spec.body("torso").add_camera(
            name="view", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, pos=[-2, -5, 2.5],
            xyaxes=[0.85, -0.53, 0, 0.2, 0.33, 0.92],
        )
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        choose_terrain(spec, task)

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos[:, 3:], frame.qvel)  # (N, 12), (N, 14)

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return self.velocity(before, after)[:, 0] + 1 - 0.5 * sum_of_squares(action)

    def terminated(self, frame: Frame) -> Array:
        x, y = frame.qpos[:, 0], frame.qpos[:, 1]
        tilt = sum_of_squares(frame.qpos[:, 4:6])  # sin^2 of half the angle from upright, at norm 1
        overturned = 2 * tilt > sum_of_squares(frame.qpos[:, 3:7])  # beyond 90 degrees
        return overturned | _FIELD.left(x, y)

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"distance [m]": frame.qpos[:, 0]}
