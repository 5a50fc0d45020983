"""The planar cheetah that cheetah-vel and cheetah-dir share."""

from dataclasses import dataclass
from pathlib import Path

import mujoco

from metarl.envs.arrays import Array, concatenate, namespace, stack, sum_of_squares
from metarl.envs.family import Family, Frame, Random, Start
from metarl.envs.inertia import make_inertia_explicit

_MODEL = Path(__file__).parent / "assets" / "half_cheetah.xml"
_TOTAL_MASS = 14.0  # kg
_CONTROL_COST = 0.05


@dataclass(frozen=True)
class Cheetah(Family):
    """Gymnasium's HalfCheetah-v5 without a reward."""

    horizon: int = 200  # control steps of an episode
    action_scale: float = 1.0  # times an action is the share of the torque range; MAML's: 0.1
    classic_observation: bool = False  # append the torso's position: leaks x, as in PEARL's code

    control_step = 0.05  # s, 5 substeps of 0.01 s

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec.from_file(str(_MODEL))
        _scale_mass(spec, _TOTAL_MASS)
        return spec

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        qpos = frame.qpos + random.uniform(-0.1, 0.1, frame.qpos.shape[1])  # m or rad
        qvel = frame.qvel + 0.1 * random.normal(frame.qvel.shape[1])  # m/s or rad/s
        return Start(qpos, qvel)

    def observe(self, frame: Frame) -> Array:
        obs = [frame.qpos[:, 1:], frame.qvel]  # (N, 8), (N, 9)
        if self.classic_observation:
            x, z = frame.qpos[:, 0], frame.qpos[:, 1] + 0.7  # the torso's body is 0.7 m up
            obs.append(stack(x, namespace(x).zeros_like(x), z))
        return concatenate(*obs)

    def speed(self, before: Frame, after: Frame) -> Array:
        """Mean forward speed over a control step, (N,) m/s."""
        return (after.qpos[:, 0] - before.qpos[:, 0]) / self.control_step


def effort(action: Array) -> Array:
    """What actions (N, A) cost, (N,)."""
    return _CONTROL_COST * sum_of_squares(action)


def _scale_mass(spec: mujoco.MjSpec, total: float) -> None:
    """Scale all masses and inertias to a total mass [kg], as `settotalmass`, now deprecated, did:
    the same products in the same order, hence the same bits."""
    model = spec.copy().compile()
    mass = 0.0
    for body in model.body_mass:
        mass += float(body)
    make_inertia_explicit(spec, total / mass)
