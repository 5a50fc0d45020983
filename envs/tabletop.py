"""What tasks on a table share: an arm whose tool points straight down, moved by its velocity.

An action is a velocity of the tool; the arm's joints follow by resolved motion rate control, within
a safe fraction of their limits, as they would on a real arm.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import mujoco
import numpy as np

from metarl.envs.arm_model import SAFE_FRACTION, aim_camera
from metarl.envs.arms import ARMS, Arm, ArmName, check_arm
from metarl.envs.arrays import Array, concatenate, cross, length, like, namespace, stack
from metarl.envs.family import Family, Frame, Random
from metarl.envs.kinematics import (
    at_most,
    downward,
    jacobian,
    joint_speeds,
    rotation_error,
    solve,
)

SPEED = 0.25  # m/s of the tool at most, what ISO 10218's family of standards calls reduced speed
_RETURN = 5.0  # 1/s, how fast the tool turns back to straight down
_DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class Tabletop(Family):
    """An arm over a table, without a task."""

    arm: ArmName = "fr3"  # FR3 (7 joints), UR5e (6) or SO-101 (5)

    control_step = 0.05  # s: 20 Hz
    # The engine knows already where the joints are: kinematics of its own would take as long as all
    # else that a control step adds to the physics.
    derived = ("xanchor", "xaxis", "site.flange.xmat")
    # Where the tool's tip starts: m at scale 1, from the middle of the bench and above the table.
    tip: ClassVar[tuple[float, float, float]]

    def __post_init__(self) -> None:
        check_arm(self.arm)

    @property
    def body(self) -> Arm:
        """The arm's numbers."""
        return ARMS[self.arm]

    def place(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A place [m] over the table, of numbers at scale 1 from the middle of the bench."""
        scale = self.body.scale
        return self.body.bench[0] + scale * x, scale * y, scale * z

    def watch(self, spec: mujoco.MjSpec, distance: float = 0.9) -> None:
        """Draw the table from nearby, `distance` metres at scale 1 from where it happens."""
        aim_camera(spec, self.place(0.05, 0, 0.05), distance * self.body.scale)

    def start(self, frame: Frame, random: Random) -> Array:
        """Joint angles (N, J) of the tool's tip at its start, a little off."""
        angles = _ready(self.body, self.place(*self.tip))
        return angles + random.uniform(-0.01, 0.01, len(angles))

    def steer(self, frame: Frame, velocity: Array, spin: Array | None = None) -> Array:
        """Shares (N, J) of the joints' ranges that move the tool with a velocity (N, 3) [m/s], and
        turn it about the vertical with a spin (N,) [rad/s], or back to its start without one."""
        arm, told = self.body, frame.sensors
        anchors, axes = (told[name].reshape(len(velocity), -1, 3)[:, : len(arm.joints)]
                         for name in ("xanchor", "xaxis"))
        rotation = told["site.flange.xmat"][:, None]  # (N, 1, 9)
        if spin is None:
            turn = (rotation * like(rotation, _returning(arm))).sum(2)
        else:
            turn = (rotation * like(rotation, _upright())).sum(2)
            turn = concatenate(turn, spin[:, None])
        twist = concatenate(velocity, turn)
        speeds = joint_speeds(jacobian(axes, anchors, told["tip"]), twist)
        return at_most(speeds, like(speeds, _limits(arm)))


@lru_cache
def _returning(arm: Arm) -> Array:
    """What takes the nine numbers of the tool's rotation to the turn [rad/s] back to its start,
    (3, 9)."""
    units = np.eye(9).reshape(9, 3, 3)
    return _RETURN * rotation_error(downward(arm), units).T


@lru_cache
def _upright() -> Array:
    """The same for the turn about x and y alone that lets the tool point down, (2, 9)."""
    units = np.eye(9).reshape(9, 3, 3)
    return _RETURN * cross(units[:, :, 2], _DOWN).T[:2]


@lru_cache
def _limits(arm: Arm) -> Array:
    """Speeds (J,) [rad/s] of the joints at action 1."""
    return SAFE_FRACTION * arm.speeds


@lru_cache
def _ready(arm: Arm, place: tuple[float, float, float]) -> Array:
    """Joint angles (J,) that hold the tool's tip at a place [m], pointing down."""
    return solve(arm, place, downward(arm), arm.tool)


def limited(velocity: Array) -> Array:
    """Velocities (N, D) [m/s], slowed down to SPEED."""
    return velocity * (SPEED / length(velocity, keepdims=True).clip(min=SPEED))


def heading(axis: Array) -> Array:
    """Cosine and sine (N, 2) of how a body is turned about the vertical, from its x axis (N, 3)."""
    planar = axis[:, :2]
    return planar / length(planar, keepdims=True).clip(min=1e-9)


def lying(xy: Array, z: Array, angle: Array) -> Array:
    """A free joint's coordinates (N, 7) at places (N, 2) and heights (N,) [m], turned by angles
    (N,) [rad]."""
    xp, half, zero = namespace(angle), angle / 2, 0 * angle
    return concatenate(xy, stack(z, xp.cos(half), zero, zero, xp.sin(half)))
