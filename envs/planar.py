"""Planar robots: a torso on one or two legs, from primitives.

Lengths, gears and friction are those of the randomised-parameter models of Rakelly et al. (2019),
"PEARL", in local coordinates.
"""

from dataclasses import dataclass
from typing import ClassVar

import mujoco

from metarl.envs.arrays import Array, concatenate, sum_of_squares
from metarl.envs.family import Family, Frame, Random, Start
from metarl.envs.inertia import make_inertia_explicit
from metarl.envs.scenery import add_scenery

_CONTROL_COST = 1e-3


@dataclass(frozen=True)
class Leg:
    """A leg's own names and friction: thigh, shank and foot hang below each other."""

    suffix: str
    foot: tuple[float, float]  # m, x of the foot's ends
    friction: float  # of the foot's sliding


@dataclass(frozen=True)
class Planar(Family):
    """A planar robot that must run forward."""

    horizon: int = 200  # control steps of an episode

    legs: ClassVar[tuple[Leg, ...]]
    gear: ClassVar[float]  # N m at action 1
    joint: ClassVar[dict[str, float]]  # damping [N m s/rad] and armature [kg m^2] of a leg's joints
    floor: ClassVar[tuple[float, float, float]]  # friction: sliding, torsional, rolling

    control_step = 0.016  # s, 4 substeps of 0.004 s

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.modelname = self.name
        spec.option.timestep = 0.004
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4
        _scenery(spec, self.floor)
        torso = spec.worldbody.add_body(name="torso", pos=[0, 0, 1.25])
        slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
        torso.add_joint(name="x", type=slide, axis=[1, 0, 0])
        torso.add_joint(name="z", type=slide, axis=[0, 0, 1], ref=1.25)
        torso.add_joint(name="pitch", type=hinge, axis=[0, 1, 0])
        self._limb(torso, [0, 0, 0.2], [0, 0, -0.2], 0.05, 0.9)
        for leg in self.legs:
            self._leg(spec, torso, leg)
        make_inertia_explicit(spec)
        return spec

    def _leg(self, spec: mujoco.MjSpec, torso: mujoco.MjsBody, leg: Leg) -> None:
        parts = (  # name, joint and its range [degrees], place, ends, radius [m], sliding friction
            ("thigh", "hip", (-150, 0), [0, 0, -0.2], [0, 0, 0], [0, 0, -0.45], 0.05, 0.9),
            ("shank", "knee", (-150, 0), [0, 0, -0.45], [0, 0, 0], [0, 0, -0.5], 0.04, 0.9),
            ("foot", "ankle", (-45, 45), [0, 0, -0.5], [leg.foot[0], 0, 0], [leg.foot[1], 0, 0],
             0.06, leg.friction),
        )
        body = torso
        for part, joint, limits, place, start, end, radius, friction in parts:
            body = body.add_body(name=part + leg.suffix, pos=place)
            body.add_joint(
                name=joint + leg.suffix, axis=[0, -1, 0], range=list(limits),
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                damping=[self.joint["damping"], 0, 0], armature=self.joint["armature"],
            )
            self._limb(body, start, end, radius, friction)
            spec.add_actuator(
                name=joint + leg.suffix, target=joint + leg.suffix,
                trntype=mujoco.mjtTrn.mjTRN_JOINT, gear=[self.gear] + [0] * 5,
                ctrllimited=True, ctrlrange=[-1, 1],
            )

    def _limb(self, body: mujoco.MjsBody, start: list[float], end: list[float], radius: float,
              friction: float) -> None:
        left = body.name.endswith("_left")
        body.add_geom(
            name=body.name, type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end],
            size=[radius, 0, 0], density=1000, friction=[friction, 0.1, 0.1], condim=3,
            contype=1, conaffinity=0, rgba=(0.45, 0.62, 0.80, 1) if left else (0.89, 0.55, 0.26, 1),
        )

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        places, speeds = frame.qpos.shape[1], frame.qvel.shape[1]
        noise = random.uniform(-0.005, 0.005, places + speeds)  # m, rad; m/s, rad/s
        return Start(frame.qpos + noise[:, :places], frame.qvel + noise[:, places:])

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos[:, 1:], frame.qvel.clip(-10, 10))

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        speed = (after.qpos[:, 0] - before.qpos[:, 0]) / self.control_step
        return speed + 1 - _CONTROL_COST * sum_of_squares(action)


def _scenery(spec: mujoco.MjSpec, friction: tuple[float, float, float]) -> None:
    floor = add_scenery(spec, light=(0.5, -1, 4))
    floor.friction, floor.contype, floor.conaffinity = list(friction), 0, 1
    spec.worldbody.add_camera(
        name="track", mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, pos=[0, -3.2, 1.1],
        xyaxes=[1, 0, 0, 0, 0.1, 1],
    )
