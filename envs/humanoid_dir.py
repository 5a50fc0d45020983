"""humanoid-dir: a humanoid that must walk in a hidden direction.

Rakelly et al., "PEARL" (2019), with the numbers of Gymnasium's Humanoid (MIT licence). As there,
displacements are divided by the physics' timestep of 0.003 s instead of the 0.015 s between two
actions, so that a metre per second earns 1.25, not 0.25; published returns count so.

It sees its joints and their speeds (45 numbers) where the published one sees 376. Left out are the
inertias and velocities of its bodies about the centre of mass (224), which follow from those, the
actuators' forces (23), which follow from the action, and the contact forces (84), for which no
reward pays here either: in most published runs they were zero, for want of a call that MuJoCo asks
for since 2.0. A fall thus costs what is no longer earned, and no impact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco

from metarl.envs.arrays import Array, concatenate, namespace, sum_of_squares
from metarl.envs.family import Family, Frame, Parameter, Random, Start
from metarl.envs.scenery import add_scenery

_TIMESTEP = 0.003  # s
_STRENGTH = 0.4  # control at action 1
_COLOUR = (0.89, 0.55, 0.26, 1)
_SIDES = {"right": -1, "left": 1}  # y grows to the left
Place = tuple[float, float, float]  # m
# N m at control 1, in the order of the actions
_GEARS = (
    ("abdomen_y", 100), ("abdomen_z", 100), ("abdomen_x", 100),
    ("right_hip_x", 100), ("right_hip_z", 100), ("right_hip_y", 300), ("right_knee", 200),
    ("left_hip_x", 100), ("left_hip_z", 100), ("left_hip_y", 300), ("left_knee", 200),
    ("right_shoulder1", 25), ("right_shoulder2", 25), ("right_elbow", 25),
    ("left_shoulder1", 25), ("left_shoulder2", 25), ("left_elbow", 25),
)


@dataclass(frozen=True)
class HumanoidDir(Family):
    """A humanoid that must walk in a hidden direction."""

    horizon: int = 200  # control steps of an episode
    action_scale: float = 1.0  # times an action is the share of the control range; MAML's: 0.1

    name = "humanoid-dir"
    control_step = 0.015  # s, 5 substeps of 0.003 s
    parameters = (
        Parameter("direction", "rad", "way to go, from the x axis", train=(0.0, 2 * math.pi),
                  physics=False),
    )

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.modelname = "humanoid"
        spec.option.timestep = _TIMESTEP
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
        spec.option.solver = mujoco.mjtSolver.mjSOL_PGS
        spec.option.iterations = 50
        floor = add_scenery(spec, light=(0.5, -1, 4))
        floor.friction, floor.margin = [1, 0.1, 0.1], 0.001
        torso = _torso(spec)
        pelvis = _waist(torso)
        for side in _SIDES:
            _leg(pelvis, side)
        for side in _SIDES:
            _arm(torso, side)
        for name, gear in _GEARS:
            spec.add_actuator(
                name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, gear=[gear] + [0] * 5,
                ctrllimited=True, ctrlrange=[-_STRENGTH, _STRENGTH],
            )
        spec.add_sensor(name="centre_of_mass", type=mujoco.mjtSensor.mjSENS_SUBTREECOM,
                        objtype=mujoco.mjtObj.mjOBJ_BODY, objname="torso")
        return spec

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        places, speeds = frame.qpos.shape[1], frame.qvel.shape[1]
        noise = random.uniform(-0.01, 0.01, places + speeds)  # m, rad, quaternion; m/s, rad/s
        return Start(frame.qpos + noise[:, :places], frame.qvel + noise[:, places:])

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos[:, 2:], frame.qvel)  # (N, 22), (N, 23)

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        xp = namespace(task)
        way = concatenate(xp.cos(task), xp.sin(task))  # (N, 2)
        moved = after.sensors["centre_of_mass"] - before.sensors["centre_of_mass"]  # (N, 3) m
        speed = (moved[:, :2] * way).sum(1) / _TIMESTEP
        return 0.25 * speed + 5 - 0.1 * sum_of_squares(_STRENGTH * action)

    def terminated(self, frame: Frame) -> Array:
        height = frame.qpos[:, 2]
        return (height < 1.0) | (height > 2.0)

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        return math.cos(task["direction"]), math.sin(task["direction"]), 0.0


def _torso(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    torso = spec.worldbody.add_body(name="torso", pos=[0, 0, 1.4])
    torso.add_joint(name="root", type=mujoco.mjtJoint.mjJNT_FREE)
    torso.add_camera(name="track", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM,
                     pos=[0, -4, 0.6], xyaxes=[1, 0, 0, 0, 0.2, 1])
    _capsule(torso, "torso", (0, -0.07, 0), (0, 0.07, 0), 0.07)
    _sphere(torso, "head", (0, 0, 0.19), 0.09)
    _capsule(torso, "upper_waist", (-0.01, -0.06, -0.12), (-0.01, 0.06, -0.12), 0.06)
    return torso


def _waist(torso: mujoco.MjsBody) -> mujoco.MjsBody:
    """The lower waist and, below it, the pelvis that is returned."""
    waist = torso.add_body(name="lower_waist", pos=[-0.01, 0, -0.26], quat=[1, 0, -0.002, 0])
    _capsule(waist, "lower_waist", (0, -0.06, 0), (0, 0.06, 0), 0.06)
    for axis, direction, limits, stiffness in (
        ("z", (0, 0, 1), (-45, 45), 20), ("y", (0, 1, 0), (-75, 30), 10),
    ):
        _joint(waist, f"abdomen_{axis}", direction, limits, pos=[0, 0, 0.065], armature=0.02,
               damping=5, stiffness=stiffness)
    pelvis = waist.add_body(name="pelvis", pos=[0, 0, -0.165], quat=[1, 0, -0.002, 0])
    _joint(pelvis, "abdomen_x", (1, 0, 0), (-35, 35), pos=[0, 0, 0.1], armature=0.02, damping=5,
           stiffness=10)
    _capsule(pelvis, "pelvis", (-0.02, -0.07, 0), (-0.02, 0.07, 0), 0.09)
    return pelvis


def _leg(pelvis: mujoco.MjsBody, side: str) -> None:
    y = _SIDES[side]
    thigh = pelvis.add_body(name=f"{side}_thigh", pos=[0, 0.1 * y, -0.04])
    _joint(thigh, f"{side}_hip_x", (-y, 0, 0), (-25, 5), armature=0.01, damping=5, stiffness=10)
    _joint(thigh, f"{side}_hip_z", (0, 0, -y), (-60, 35), armature=0.01, damping=5, stiffness=10)
    _joint(thigh, f"{side}_hip_y", (0, 1, 0), (-110, 20), damping=5, stiffness=20,
           armature=0.008 if side == "right" else 0.01)  # unequal there too, as are the knees
    _capsule(thigh, f"{side}_thigh", (0, 0, 0), (0, -0.01 * y, -0.34), 0.06)
    shin = thigh.add_body(name=f"{side}_shin", pos=[0, -0.01 * y, -0.403])
    _joint(shin, f"{side}_knee", (0, -1, 0), (-160, -2), pos=[0, 0, 0.02], armature=0.006,
           stiffness=1 if side == "left" else 0)
    _capsule(shin, f"{side}_shin", (0, 0, 0), (0, 0, -0.3), 0.049)
    foot = shin.add_body(name=f"{side}_foot", pos=[0, 0, -0.45])
    _sphere(foot, f"{side}_foot", (0, 0, 0.1), 0.075)


def _arm(torso: mujoco.MjsBody, side: str) -> None:
    y = _SIDES[side]
    limits = (-85, 60) if side == "right" else (-60, 85)
    upper = torso.add_body(name=f"{side}_upper_arm", pos=[0, 0.17 * y, 0.06])
    _joint(upper, f"{side}_shoulder1", (2, -y, 1), limits, armature=0.0068, stiffness=1)
    _joint(upper, f"{side}_shoulder2", (0, y, 1), limits, armature=0.0051, stiffness=1)
    _capsule(upper, f"{side}_upper_arm", (0, 0, 0), (0.16, 0.16 * y, -0.16), 0.04)
    lower = upper.add_body(name=f"{side}_lower_arm", pos=[0.18, 0.18 * y, -0.18])
    _joint(lower, f"{side}_elbow", (0, -1, -y), (-90, 50), armature=0.0028)
    _capsule(lower, f"{side}_lower_arm", (0.01, -0.01 * y, 0.01), (0.17, -0.17 * y, 0.17), 0.031)
    _sphere(lower, f"{side}_hand", (0.18, -0.18 * y, 0.18), 0.04)


def _joint(
    body: mujoco.MjsBody, name: str, axis: tuple[int, int, int], limits: tuple[int, int],
    armature: float, damping: float = 1, stiffness: float = 0, pos: list[float] | None = None,
) -> None:
    body.add_joint(name=name, axis=list(axis), range=list(limits), pos=pos or [0, 0, 0],
                   armature=armature, damping=[damping, 0, 0], stiffness=[stiffness, 0, 0],
                   limited=mujoco.mjtLimited.mjLIMITED_TRUE)


def _capsule(body: mujoco.MjsBody, name: str, start: Place, end: Place, radius: float) -> None:
    _touchable(body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                             fromto=[*start, *end], size=[radius, 0, 0]))


def _sphere(body: mujoco.MjsBody, name: str, place: Place, radius: float) -> None:
    _touchable(body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_SPHERE, pos=list(place),
                             size=[radius, 0, 0]))


def _touchable(geom: mujoco.MjsGeom) -> None:
    """Its parts touch the floor and each other, these without friction."""
    geom.condim, geom.margin, geom.rgba = 1, 0.001, _COLOUR
