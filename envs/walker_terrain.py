"""walker-terrain: a planar walker that must run ahead over ground that it cannot see.

The walker of walker-params, its body known, on the terrains of `metarl.envs.terrain`. It sees
neither the ground nor its own height, which would tell how far up a slope it is. It has fallen by
the bounds of walker-params, but a rangefinder tells the height above the ground below: one above
sea level means nothing uphill.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco

from metarl.envs.arrays import Array, concatenate, namespace
from metarl.envs.family import Frame
from metarl.envs.terrain import PARAMETERS, Field, add_terrains, choose_terrain
from metarl.envs.walker import Walker

_FIELD = Field(ahead=20.0, aside=1.5, flat_across=True)  # m; 3.2 s at 5 m/s and more


@dataclass(frozen=True)
class WalkerTerrain(Walker):
    """A planar walker that must run ahead over slopes, rough ground, stairs and gaps, blind."""

    name = "walker-terrain"
    parameters = PARAMETERS

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        add_terrains(spec, _FIELD)
        torso = spec.body("torso")
        # It looks down beside the legs, which a ray from within would hit.
        torso.add_site(name="altimeter", pos=[0, 0.2, 0], quat=[0, 1, 0, 0])
        spec.add_sensor(name="altimeter", type=mujoco.mjtSensor.mjSENS_RANGEFINDER,
                        objtype=mujoco.mjtObj.mjOBJ_SITE, objname="altimeter",
                        intprm=[1, 0, 0])  # the distance alone
        torso.add_camera(
            name="view", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, pos=[-0.9, -4.6, 1.5],
            xyaxes=[0.85, -0.53, 0, 0.2, 0.33, 0.92],
        )
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        choose_terrain(spec, task)

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos[:, 2:], frame.qvel.clip(-10, 10))  # (N, 7), (N, 9)

    def terminated(self, frame: Frame) -> Array:
        x, pitch, down = frame.qpos[:, 0], frame.qpos[:, 2], frame.sensors["altimeter"][:, 0]
        # m, above the ground that the torso's axis meets
        height = down * namespace(pitch).cos(pitch)
        return ~((height > 0.8) & (height < 2.0) & (abs(pitch) < 1.0)) | _FIELD.left(x)

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"distance [m]": frame.qpos[:, 0]}
