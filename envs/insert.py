"""insert: an arm that must put a peg into a hole that is not quite where it was told.

The task of industrial assembly, as in Inoue et al. 2017, "Deep reinforcement learning for high
precision assembly tasks", and Lee et al. 2019, "Making sense of vision and touch", whose holes are
found by force. Here the hole's true place, its clearance, friction and shape are hidden. The arm
sees its tip against the place that it was told, and what a sensor at its wrist feels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from metarl.envs.arm_model import add_sensor, aim_camera, arm_spec, quaternion
from metarl.envs.arms import Arm
from metarl.envs.arrays import Array, concatenate, length, like, namespace
from metarl.envs.family import Frame, Parameter, Random, Start
from metarl.envs.kinematics import downward
from metarl.envs.pegs import (
    DEPTH,
    HALF,
    MASS,
    SHAPES,
    add_hole,
    add_peg,
    shape_hole,
    shape_parameter,
    shape_peg,
    walls,
)
from metarl.envs.tabletop import Tabletop

_MM = 1e-3  # m
_SPEED = 0.04  # m/s of the tool at most: a servo presses hard before it feels that it is blocked
_LIMIT = 20.0  # N, the load at which the arm no longer presses on, at scale 1
_OFFSET = 10.0  # mm, how far the hole may be from where it was told, along each axis
_INSERTED = 0.8  # of the hole's depth: success
_ABOVE = 0.004  # m, the expert's height over the block while it looks for the hole
_GRAVITY = 9.81  # m/s^2
# What 1 of the policy's numbers means: m, m/s, N and N m. The last turns what the hand does to the
# peg into what the surroundings do.
_UNITS = 1 / np.array([0.01] * 3 + [0.1] * 3 + [10.0] * 3 + [-0.1] * 3)


@dataclass(frozen=True)
class Insert(Tabletop):
    """An arm that must put a peg into a hole that is not quite where it was told."""

    horizon: int = 100  # control steps of an episode (5 s)

    name = "insert"
    commands = 3  # the tool's velocity along x, y and z, of 0.04 m/s
    tip = (0.0, 0.0, 0.055)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies. Offsets and clearances are the same for every arm."""
        further = ((-1.5 * _OFFSET, -_OFFSET), (_OFFSET, 1.5 * _OFFSET))
        return (
            Parameter("offset_x", "mm", "the hole's true place, forward of the told one",
                      (-_OFFSET, _OFFSET), ood=further, possible=(-30.0, 30.0)),
            Parameter("offset_y", "mm", "the hole's true place, left of the told one",
                      (-_OFFSET, _OFFSET), ood=further, possible=(-30.0, 30.0)),
            Parameter("clearance", "mm", "gap between peg and hole on every side", (1.0, 2.0),
                      ood=((0.5, 1.0),), possible=(0.2, 5.0)),
            Parameter("friction", "", "friction of the peg with all it touches", (0.1, 0.4),
                      ood=((0.4, 0.6),), possible=(0.0, 5.0)),
            shape_parameter(),
        )

    def spec(self) -> mujoco.MjSpec:
        arm = self.body
        spec = arm_spec(arm)
        aim_camera(spec, self.place(0, 0, 0.035), 0.33 * arm.scale, (0.6, -0.55, 0.7))
        # A lamp of its own: the arm's shadow lies on the hole.
        spec.worldbody.add_light(type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=[-0.6, 0.5, -1],
                                 pos=[0.6, -0.5, 1], castshadow=False, diffuse=[0.15] * 3)
        add_peg(spec, spec.body("hand"), arm.scale, arm.tool)
        # Its axes are the world's while the tool points down, from which it hardly tilts: that is
        # how the arm feels forces.
        spec.site("tip").quat = quaternion(downward(arm).T)
        add_hole(spec)
        peg = spec.geom("peg")
        peg.contype, peg.conaffinity, peg.priority = 2, 0, 1
        peg.solref = [0.01, 1.0]  # s, as stiff as the timestep allows
        for geom in (spec.geom("floor"), *walls(spec)):
            geom.contype, geom.conaffinity = 0, 2
        add_sensor(spec, "tip", "framepos", "tip")
        add_sensor(spec, "tip_velocity", "framelinvel", "tip")
        add_sensor(spec, "force", "force", "tip")
        add_sensor(spec, "torque", "torque", "tip")
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        shape, scale, (x, y, _) = SHAPES[int(task["shape"])], self.body.scale, self.place(0, 0, 0)
        yaw = float(np.arctan2(*downward(self.body)[[1, 0], 0]))  # the peg's own
        shape_peg(spec, shape, scale)
        place = x + _MM * task["offset_x"], y + _MM * task["offset_y"]
        shape_hole(spec, shape, scale, place, yaw, _MM * task["clearance"])
        spec.geom("peg").friction[0] = task["friction"]

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        arm = self.start(frame, random)
        return Start(arm, np.zeros_like(frame.qvel), act=arm)

    def control(self, frame: Frame, action: Array) -> Array:
        """A guarded move: the more the peg is pushed back, the slower it is pressed on, and beyond
        the limit it retreats."""
        velocity = _SPEED * action / length(action, keepdims=True).clip(min=1)
        force = self._force(frame)
        load = length(force, keepdims=True)
        back = force / load.clip(min=1e-9)
        pressing = -(velocity * back).sum(1, keepdims=True)
        allowed = _SPEED * (1 - load / (_LIMIT * self.body.scale))
        return self.steer(frame, velocity + (pressing - allowed).clip(min=0) * back)

    def observe(self, frame: Frame) -> Array:
        """The tip from the told place [cm], its velocity [dm/s], and what the surroundings do to
        the peg: force [10 N] and torque about the tip [0.1 N m], up to 5; (N, 12)."""
        sensors = frame.sensors
        where = sensors["tip"] - like(sensors["tip"], _told(self.body))
        seen = concatenate(where, sensors["tip_velocity"], self._force(frame), sensors["torque"])
        seen = seen * like(seen, _UNITS)
        seen[:, 6:] = seen[:, 6:].clip(-5, 5)
        return seen

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        scale, tip = self.body.scale, after.sensors["tip"]
        left = tip - like(tip, _told(self.body))
        aside = 100 * length(left[:, :2] - _MM * task[:, :2])  # cm
        height, load = 100 / scale * left[:, 2], length(self._force(after)) / scale
        # The logarithm makes the last millimetres aside count, without which none leads down.
        return -aside - 0.5 * namespace(aside).log(aside + 0.05) - 0.5 * height - 0.01 * load

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        depth, left = DEPTH * self.body.scale, frame.sensors["tip"] - self._bottom(task)
        within = (abs(left[:, :2]) < HALF * self.body.scale).all(1)  # not beside the block
        inserted = (depth - left[:, 2]).clip(0, depth) * within
        return {"success": inserted >= _INSERTED * depth, "depth [m]": inserted}

    def expert(self, frame: Frame, task: Array) -> Array:
        """Above the hole, then down, for as long as the peg is in its middle."""
        depth, tip, xp = DEPTH * self.body.scale, frame.sensors["tip"], namespace(task)
        left = self._bottom(task)[:, :2] - tip[:, :2]
        height = tip[:, 2:] - depth
        # Down in the middle, on hold farther out, up from the rim; and no jump between them, which
        # would shake the peg out of the middle.
        inward = (2 - length(left, keepdims=True) / (0.4 * _MM * task[:, 2:3])).clip(-1, 1)
        down = -0.015 * xp.where(height > 0.001, inward.clip(min=0), inward)  # m/s
        down = xp.where(height < -0.002, (-3 * tip[:, 2:] - 0.002).clip(min=-0.02), down)
        down = xp.where(height > 2 * _ABOVE, 4 * (_ABOVE - height), down)
        return concatenate(4 * left, down) / _SPEED

    def _bottom(self, task: Array) -> Array:
        """Where the hole's bottom is, (N, 3) m."""
        return like(task, _told(self.body)) + concatenate(_MM * task[:, :2], 0 * task[:, :1])

    def _force(self, frame: Frame) -> Array:
        """What the surroundings push the peg with, (N, 3) N: the sensor's reading, which
        is what the hand holds against, tared."""
        force = frame.sensors["force"]
        return like(force, _weight(self.body)) - force


@lru_cache
def _told(arm: Arm) -> Array:
    """Where the hole's bottom should be, (3,) m."""
    return np.array([arm.bench[0], 0.0, 0.0])


@lru_cache
def _weight(arm: Arm) -> Array:
    """What the hand holds of a peg in the air, (3,) N."""
    return np.array([0.0, 0.0, MASS * arm.scale * _GRAVITY])
