"""push: an arm that must push an object it has never met to a hidden place on the table.

After Meta-World's push (Yu et al. 2020), whose object and friction never change; here shape, size,
mass, centre of mass and friction are hidden as well as the goal. The arm holds a stick upright and
moves it over the table; it sees where the object is and how it is turned, but not what it is like.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.arm_model import GREY, add_sensor, arm_spec
from metarl.envs.arrays import Array, concatenate, length, namespace, stack
from metarl.envs.family import Frame, Parameter, Random, Start
from metarl.envs.objects import (
    SHAPES,
    Shape,
    add_object,
    check_held_out,
    hidden_parameters,
    parts,
    resting_heights,
    shape_object,
    shape_parameter,
)
from metarl.envs.tabletop import SPEED, Tabletop, heading, limited, lying

_STICK = 0.01  # m, its radius at scale 1
_TIP = 0.02  # m, how far above the table the tip is held, at scale 1
_NEAR = 0.03  # m, success, at scale 1


@dataclass(frozen=True)
class Push(Tabletop):
    """An arm that must push an object it has never met to a hidden place."""

    held_out: tuple[Shape, ...] = ()  # shapes that only test and ood tasks have
    horizon: int = 150  # control steps of an episode (7.5 s)

    name = "push"
    commands = 2  # the tool's velocity along x and y, of SPEED
    tip = (-0.1, 0.0, _TIP)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_held_out(self.held_out)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies: the goal's range and the object's size go with the arm's."""
        scale, (x, _, _) = self.body.scale, self.place(0, 0, 0)
        return (
            Parameter("goal_x", "m", "goal, forward of the base",
                      (x + 0.1 * scale, x + 0.2 * scale), physics=False, possible=(-1.2, 1.2)),
            Parameter("goal_y", "m", "goal, left of the base", (-0.15 * scale, 0.15 * scale),
                      physics=False, possible=(-1.2, 1.2)),
            shape_parameter(self.held_out),
            *hidden_parameters(scale, size=(0.03, 0.045), larger=(0.045, 0.055), heaviest=1.2,
                               friction=(0.2, 0.6), other=(0.6, 0.8)),
        )

    def spec(self) -> mujoco.MjSpec:
        arm = self.body
        spec = arm_spec(arm)
        self.watch(spec)
        radius = _STICK * arm.scale
        spec.geom("floor").contype = spec.geom("floor").conaffinity = 1
        hand = spec.body("hand")
        # The tip, a sphere's middle, is where kinematics puts the tool's end.
        stick = hand.add_geom(name="stick", type=mujoco.mjtGeom.mjGEOM_CAPSULE, mass=0.05,
                              fromto=[0, 0, 0, 0, 0, arm.tool], size=[radius, 0, 0], rgba=GREY)
        stick.contype, stick.conaffinity = 2, 0
        add_object(spec, arm.scale)
        for geom in parts(spec):
            geom.contype, geom.conaffinity, geom.priority = 1, 3, 1
        hand.add_site(name="tip", pos=[0, 0, arm.tool])
        add_sensor(spec, "tip", "framepos", "tip")
        add_sensor(spec, "tip_velocity", "framelinvel", "tip")
        add_sensor(spec, "object", "framepos", "object")
        add_sensor(spec, "object_x", "framexaxis", "object")
        self.variant(spec, {p.name: p.default for p in self.parameters})
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        shape_object(spec, SHAPES[int(task["shape"])], task["size"], self.body.scale,
                     task["mass"], (task["com_x"], task["com_y"]))
        for geom in parts(spec):
            geom.friction[0] = task["friction"]

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        scale = self.body.scale
        arm = self.start(frame, random)
        middle = np.array(self.place(0, 0, 0)[:2])
        xy = middle + scale * random.uniform(-0.02, 0.02, 2)
        height = resting_heights(task[:, 3], scale)
        turned = random.uniform(-np.pi, np.pi)
        qpos = concatenate(arm, lying(xy, height, turned))
        return Start(qpos, np.zeros_like(frame.qvel), act=arm)

    def control(self, frame: Frame, action: Array) -> Array:
        up = 5.0 * (_TIP * self.body.scale - frame.sensors["tip"][:, 2:])  # m/s, back to its height
        return self.steer(frame, concatenate(limited(SPEED * action), up))

    def observe(self, frame: Frame) -> Array:
        tip, place = frame.sensors["tip"], frame.sensors["object"][:, :2]
        velocity = frame.sensors["tip_velocity"][:, :2]
        return concatenate(tip[:, :2], velocity, place, heading(frame.sensors["object_x"]))

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        scale = self.body.scale
        distance = _distance(after, task) / scale
        apart = length((after.sensors["tip"] - after.sensors["object"])[:, :2]) / scale
        return -5 * distance - 0.5 * namespace(distance).log(distance + 0.01) - apart

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        distance = _distance(frame, task)
        return {"success": distance < _NEAR * self.body.scale, "distance [m]": distance}

    def expert(self, frame: Frame, task: Array) -> Array:
        """Push from behind, along the line to the goal; where the stick has slipped off to the
        side, let go, go round the object at a distance, and push again."""
        scale, xp = self.body.scale, namespace(task)
        tip, place = frame.sensors["tip"][:, :2], frame.sensors["object"][:, :2]
        left = task[:, :2] - place
        distance = length(left, keepdims=True)
        ahead = left / distance.clip(min=1e-6)
        offset = tip - place
        apart = length(offset, keepdims=True)
        outward = offset / apart.clip(min=1e-6)
        behind = -(outward * ahead).sum(1, keepdims=True)  # cosine: 1 straight behind
        across = stack(-ahead[:, 1], ahead[:, 0])
        off = (outward * across).sum(1, keepdims=True)  # sine
        clear = 1.45 * task[:, 3:4] + 1.5 * _STICK * scale
        sideways = stack(-outward[:, 1], outward[:, 0]) * xp.sign(off)
        gap = clear - apart
        orbit = 5 * gap * outward + 0.2 * (1 - abs(gap) / (0.3 * clear)).clip(min=0) * sideways
        pace = (2 * distance).clip(0.03, 0.12)
        push = pace * ahead - 3 * pace * off * across
        aligned = behind > xp.where(apart < 0.9 * clear, 0.75, 0.96)
        velocity = xp.where(aligned, push, orbit)
        velocity = xp.where(distance < 0.015 * scale, 0.0, velocity)
        return limited(velocity) / SPEED

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        return {"goal": (task["goal_x"], task["goal_y"], 0.0)}


def _distance(frame: Frame, task: Array) -> Array:
    """How far the object is from its goal, (N,) m."""
    return length(frame.sensors["object"][:, :2] - task[:, :2])
