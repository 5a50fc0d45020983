"""reach: a seven-joint arm that must bring its flange to a hidden place, with a hidden payload.

The arm has the kinematics, joint, velocity and torque limits and the link masses that Franka
Robotics publishes for the FR3 (Franka Control Interface documentation, "Robot and interface
specifications": Denavit-Hartenberg parameters in Craig's convention, joint limits; masses from
franka_description, rounded), drawn from primitives. It carries its own weight, as the FR3's
controller does, but not the payload's. Nothing collides: the goals lie in free space.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from torch import Tensor

from metarl.envs.family import Family, Frame, Parameter, Random, Start
from metarl.envs.scenery import add_scenery

# Craig's parameters of joint i: a_{i-1} [m], d_i [m], alpha_{i-1} [rad]
_LINKS = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
_FLANGE = 0.107  # m along the seventh joint's axis
_MASS = (2.93, 2.94, 2.24, 2.62, 2.33, 1.82, 0.63)  # kg, links 1 to 7
_LOW = (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159)  # rad
_HIGH = (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159)  # rad
_SPEED = (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)  # rad/s
_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m
_HOME = (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)  # rad, Franka's "ready"
# Gains of libfranka's joint impedance example.
_STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)  # N m/rad
_DAMPING = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)  # N m s/rad
_SAFE_FRACTION = 0.25  # of the joint speed limits
_PAYLOAD_RADIUS = 0.04  # m, of the sphere that stands for the payload


@dataclass(frozen=True)
class Reach(Family):
    """A 7-joint arm (FR3) that must bring its flange to a hidden place, with a hidden payload."""

    horizon: int = 50  # control steps of an episode (2.5 s)

    name = "reach"
    control_step = 0.05  # s: 20 Hz
    parameters = (
        Parameter("goal_x", "m", "goal, forward of the base", (0.35, 0.65), physics=False,
                  possible=(-1.2, 1.2)),
        Parameter("goal_y", "m", "goal, left of the base", (-0.3, 0.3), physics=False,
                  possible=(-1.2, 1.2)),
        Parameter("goal_z", "m", "goal, above the base", (0.2, 0.6), physics=False,
                  possible=(0.0, 1.4)),
        Parameter("payload", "kg", "mass at the flange", (0.0, 2.0), ood=((2.0, 3.0),),
                  possible=(0.0, 20.0)),
        Parameter("damping", "x", "factor on the joints' damping", (0.5, 2.0),
                  distribution="log-uniform", possible=(0.0, 100.0)),
        Parameter("gain", "x", "factor on the actuators' gains", (0.7, 1.3),
                  possible=(0.01, 100.0)),
    )

    def spec(self) -> mujoco.MjSpec:
        return _arm()

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        # A geom of no mass would leave MuJoCo's minimum for moving bodies to the flange alone.
        spec.geom("payload").mass = task["payload"]
        for i in range(7):
            spec.joint(f"joint{i + 1}").damping[0] *= task["damping"]
            actuator = spec.actuator(f"joint{i + 1}")
            actuator.gainprm[0] *= task["gain"]
            actuator.biasprm[:3] *= task["gain"]

    def reset(self, frame: Frame, task: Tensor, random: Random) -> Start:
        home = torch.tensor(_HOME, dtype=torch.float64)
        qpos = home + random.uniform(-0.05, 0.05, 7)  # rad
        return Start(qpos, torch.zeros_like(frame.qvel), act=qpos.clone())

    def observe(self, frame: Frame) -> Tensor:
        return torch.cat([frame.qpos, frame.qvel, frame.sensors["flange"]], 1)

    def reward(self, before: Frame, action: Tensor, after: Frame, task: Tensor) -> Tensor:
        distance = _distance(after, task)
        # The logarithm makes the last centimetres count (Levine et al. 2016, "End-to-end training
        # of deep visuomotor policies", eq. in section 4.2).
        effort = action.square().mean(1)
        return -5 * distance - 0.5 * (distance + 0.01).log() - 0.05 * effort

    def outcome(self, frame: Frame, task: Tensor) -> dict[str, Tensor]:
        distance = _distance(frame, task)
        return {"success": (distance < 0.02).double(), "distance [m]": distance}

    def expert(self, frame: Frame, task: Tensor) -> Tensor:
        # Resolved motion rate control (Whitney 1969), damped near singular poses.
        jacobian = _jacobian(frame.qpos)  # (N, 3, 7)
        twist = 4.0 * (task[:, :3] - frame.sensors["flange"])  # m/s, closing in 0.25 s
        square = jacobian @ jacobian.mT + 1e-3 * torch.eye(3, dtype=torch.float64)
        speed = (jacobian.mT @ torch.linalg.solve(square, twist[:, :, None])).squeeze(2)
        action = speed / (_SAFE_FRACTION * torch.tensor(_SPEED, dtype=torch.float64))
        return action / action.abs().amax(1, keepdim=True).clamp(min=1)

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        return {"goal": (task["goal_x"], task["goal_y"], task["goal_z"])}


def _distance(frame: Frame, task: Tensor) -> Tensor:
    return (frame.sensors["flange"] - task[:, :3]).norm(dim=1)


def _jacobian(qpos: Tensor) -> Tensor:
    """How the flange's position moves with the joints, (N, 3, 7) m/rad."""
    position = torch.zeros(len(qpos), 3, dtype=torch.float64)
    rotation = torch.eye(3, dtype=torch.float64).expand(len(qpos), 3, 3)
    origins, axes = [], []
    for (a, d, alpha), angle in zip(_LINKS, qpos.T, strict=True):
        sine, cosine = np.sin(alpha), np.cos(alpha)
        at = torch.tensor([a, -sine * d, cosine * d], dtype=torch.float64)
        twist = torch.tensor([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        position = position + rotation @ at
        rotation = rotation @ twist.double() @ _about_z(angle)
        origins.append(position)
        axes.append(rotation[:, :, 2])
    flange = position + _FLANGE * rotation[:, :, 2]
    axis, lever = torch.stack(axes, 1), flange[:, None] - torch.stack(origins, 1)
    return torch.linalg.cross(axis, lever).mT


def _about_z(angle: Tensor) -> Tensor:
    """Rotations (N, 3, 3) about z by angles (N,)."""
    sine, cosine = angle.sin(), angle.cos()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], 1).view(-1, 3, 3)


def _arm() -> mujoco.MjSpec:
    """The arm, joint frames after Craig, capsules between them."""
    spec = mujoco.MjSpec()
    spec.modelname = "fr3"
    spec.compiler.degree = False
    spec.option.timestep = 0.005
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    _scenery(spec)
    white, grey, blue = (0.93, 0.94, 0.95, 1), (0.33, 0.37, 0.42, 1), (0.16, 0.47, 0.78, 1)
    parent = spec.worldbody
    parent.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.09, 0.07, 0], pos=[0, 0, 0.07],
                    rgba=grey)
    for i, (a, d, alpha) in enumerate(_LINKS):
        sine, cosine = np.sin(alpha), np.cos(alpha)
        at = np.array([a, -sine * d, cosine * d])
        # The first one stands on the ground: its mass, a part of the world, weighs nothing.
        _capsule(parent, np.zeros(3), at, 0.055, white, _MASS[i - 1] if i else 0.0)
        parent = parent.add_body(
            name=f"link{i + 1}", pos=at, quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0],
            gravcomp=1,
        )
        parent.add_joint(
            name=f"joint{i + 1}", axis=[0, 0, 1], range=[_LOW[i], _HIGH[i]],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE, damping=[1.0, 0, 0], armature=0.1,
        )
        parent.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.06, 0.06, 0], mass=0.0,
                        rgba=grey)
    _capsule(parent, np.zeros(3), np.array([0, 0, _FLANGE]), 0.045, white, _MASS[6])
    hand = parent.add_body(name="hand", pos=[0, 0, _FLANGE])
    # Never weightless: MuJoCo asks for some mass on it once the payload is 0 kg.
    hand.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.03, 0.01, 0], mass=0.05, rgba=grey)
    hand.add_geom(name="payload", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[_PAYLOAD_RADIUS, 0, 0],
                  mass=1.0, rgba=blue)
    hand.add_site(name="flange")
    spec.add_sensor(name="flange", type=mujoco.mjtSensor.mjSENS_FRAMEPOS,
                    objtype=mujoco.mjtObj.mjOBJ_SITE, objname="flange")
    for i in range(7):
        _velocity_servo(spec, i)
    return spec


def _velocity_servo(spec: mujoco.MjSpec, i: int) -> None:
    """An impedance servo on a set-point that integrates the commanded velocity: it cannot jump."""
    speed = _SAFE_FRACTION * _SPEED[i]
    spec.add_actuator(
        name=f"joint{i + 1}", target=f"joint{i + 1}", trntype=mujoco.mjtTrn.mjTRN_JOINT,
        dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR, gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[_STIFFNESS[i]] + [0] * 9, biasprm=[0, -_STIFFNESS[i], -_DAMPING[i]] + [0] * 7,
        ctrllimited=True, ctrlrange=[-speed, speed],
        actlimited=True, actrange=[_LOW[i], _HIGH[i]],
        forcelimited=True, forcerange=[-_TORQUE[i], _TORQUE[i]],
    )


def _capsule(body: mujoco.MjsBody, start: np.ndarray, end: np.ndarray, radius: float,
             rgba: tuple[float, ...], mass: float) -> None:
    if np.allclose(start, end):
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], rgba=rgba, mass=mass)
    else:
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end],
                      size=[radius, 0, 0], rgba=rgba, mass=mass)


def _scenery(spec: mujoco.MjSpec) -> None:
    add_scenery(spec, size=3, light=(1, -1, 3), spot=True)
    spec.worldbody.add_camera(name="view", pos=[1.7, -1.2, 1.0],
                              xyaxes=[0.577, 0.816, 0, -0.31, 0.22, 0.924])
