"""The four-legged ant that ant-dir and ant-goal share.

Its numbers are those of Gymnasium's Ant (MIT licence), whose contact forces are left out: they are
no part of the observation, and no reward pays for them. In most published runs they were zero, for
want of a call that MuJoCo asks for since 2.0.
"""

from dataclasses import dataclass

import mujoco

from metarl.envs.arrays import Array
from metarl.envs.family import Family, Frame, Random, Start
from metarl.envs.scenery import add_scenery

# Where a leg points, its ankle's axis, and the range of that [degrees].
_LEGS = {
    "front_left": ((1, 1), (-1, 1), (30, 70)),
    "front_right": ((-1, 1), (1, 1), (-70, -30)),
    "back_left": ((-1, -1), (-1, 1), (-70, -30)),
    "back_right": ((1, -1), (1, 1), (30, 70)),
}
_MOTORS = ("back_right", "front_left", "front_right", "back_left")  # in the order of the actions
_GEAR = 150.0  # N m at action 1


@dataclass(frozen=True)
class Ant(Family):
    """Gymnasium's Ant without a reward."""

    horizon: int = 200  # control steps of an episode
    action_scale: float = 1.0  # times an action is the share of the torque range; MAML's: 0.1

    control_step = 0.05  # s, 5 substeps of 0.01 s

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.modelname = "ant"
        spec.option.timestep = 0.01
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
        _touchable(add_scenery(spec, light=(0.5, -1, 4)), floor=True)
        torso = spec.worldbody.add_body(name="torso", pos=[0, 0, 0.75])
        torso.add_joint(name="root", type=mujoco.mjtJoint.mjJNT_FREE)
        torso.add_camera(name="track", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
                         pos=[0, -3.5, 1.4], xyaxes=[1, 0, 0, 0, 0.35, 1])
        _touchable(torso.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.25, 0, 0]))
        for name, (way, axis, limits) in _LEGS.items():
            _leg(torso, name, way, axis, limits)
        for name in _MOTORS:
            for joint in ("hip", "ankle"):
                spec.add_actuator(
                    name=f"{joint}_{name}", target=f"{joint}_{name}",
                    trntype=mujoco.mjtTrn.mjTRN_JOINT, gear=[_GEAR] + [0] * 5,
                    ctrllimited=True, ctrlrange=[-1, 1],
                )
        return spec

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        qpos = frame.qpos + random.uniform(-0.1, 0.1, frame.qpos.shape[1])  # m, rad or quaternion
        qvel = frame.qvel + 0.1 * random.normal(frame.qvel.shape[1])  # m/s or rad/s
        return Start(qpos, qvel)

    def velocity(self, before: Frame, after: Frame) -> Array:
        """Mean velocity of the torso over a control step, (N, 2) m/s."""
        return (after.qpos[:, :2] - before.qpos[:, :2]) / self.control_step


def _leg(
    torso: mujoco.MjsBody, name: str, way: tuple[int, int], axis: tuple[int, int],
    limits: tuple[int, int],
) -> None:
    x, y = way
    _capsule(torso, 0.2 * x, 0.2 * y)
    thigh = torso.add_body(name=f"thigh_{name}", pos=[0.2 * x, 0.2 * y, 0])
    _joint(thigh, f"hip_{name}", (0, 0, 1), (-30, 30))
    _capsule(thigh, 0.2 * x, 0.2 * y)
    shank = thigh.add_body(name=f"shank_{name}", pos=[0.2 * x, 0.2 * y, 0])
    _joint(shank, f"ankle_{name}", (*axis, 0), limits)
    _capsule(shank, 0.4 * x, 0.4 * y)


def _joint(
    body: mujoco.MjsBody, name: str, axis: tuple[int, int, int], limits: tuple[int, int]
) -> None:
    body.add_joint(name=name, axis=list(axis), range=list(limits), armature=1, damping=[1, 0, 0],
                   limited=mujoco.mjtLimited.mjLIMITED_TRUE)


def _capsule(body: mujoco.MjsBody, x: float, y: float) -> None:
    _touchable(body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, x, y, 0],
                             size=[0.08, 0, 0]))


def _touchable(geom: mujoco.MjsGeom, floor: bool = False) -> None:
    """The ant touches the floor and nothing else."""
    geom.contype, geom.conaffinity, geom.condim, geom.margin = 1, int(floor), 3, 0.01
    geom.friction, geom.density = [1, 0.5, 0.5], 5
    if not floor:
        geom.rgba = [0.89, 0.55, 0.26, 1]
