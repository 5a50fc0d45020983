"""The planar walker that walker-params and walker-terrain share."""

from dataclasses import dataclass

from metarl.envs.planar import Leg, Planar


@dataclass(frozen=True)
class Walker(Planar):
    """A torso on two legs."""

    legs = (Leg("", foot=(0.0, 0.2), friction=0.9), Leg("_left", foot=(0.0, 0.2), friction=1.9))
    gear = 100.0
    joint = {"damping": 0.1, "armature": 0.01}  # noqa: RUF012
    floor = (0.7, 0.1, 0.1)
