"""Where an arm's flange is and how it moves with the joints, for all rows at once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from metarl.envs.arms import Arm, Vector, rotation
from metarl.envs.arrays import Array, concatenate, cross, length, like, namespace


@dataclass(frozen=True)
class Pose:
    """A frame on the arm, in the world's coordinates."""

    position: Array  # (N, 3) m
    rotation: Array  # (N, 3, 3), whose columns are the frame's axes
    jacobian: Array  # (N, 6, J): m/s, then rad/s, for 1 rad/s of each joint


def forward(arm: Arm, qpos: Array, tool: float = 0.0) -> Pose:
    """The frame `tool` metres in front of the flange at joint angles (N, J)."""
    xp = namespace(qpos)
    still, with_cosine, with_sine, base, end = (like(qpos, c) for c in _constants(arm, tool))
    # Each joint's own move, in the frame of the one before: (N, J, 4, 4). What all rows need is one
    # call for all joints: a call on arrays this small costs more than its numbers.
    angle = qpos[:, :, None, None]
    moves = still + with_cosine * xp.cos(angle) + with_sine * xp.sin(angle)
    frame, frames = base, []
    for joint in range(moves.shape[1]):
        frame = frame @ moves[:, joint]
        frames.append(frame)
    joints, end = xp.stack(frames, 1), frame @ end  # (N, J, 3, 4), (N, 3, 4)
    position = end[:, :, 3]
    return Pose(position, end[:, :, :3], jacobian(joints[..., 2], joints[..., 3], position))


def jacobian(axes: Array, anchors: Array, position: Array) -> Array:
    """The Jacobian (N, 6, J) of a place (N, 3) [m] on an arm whose joints turn about axes (N, J, 3)
    through anchors (N, J, 3) [m], all in the world's coordinates."""
    lever = position[:, None] - anchors
    return namespace(axes).concatenate([cross(axes, lever), axes], 2).mT


def joint_speeds(jacobian: Array, twist: Array, damping: float = 1e-4) -> Array:
    """Joint speeds (N, J) [rad/s] that give the frame a twist (N, D) [m/s, rad/s] through a
    Jacobian (N, D, J): resolved motion rate control (Whitney 1969), damped near singular poses."""
    damped = jacobian @ jacobian.mT + like(jacobian, _diagonal(jacobian.shape[1], damping))
    found = namespace(jacobian).linalg.solve(damped, twist[:, :, None])  # damped: never singular
    return (jacobian.mT @ found)[:, :, 0]


def rotation_error(wanted: Array, actual: Array) -> Array:
    """The turn (N, 3) [rad] from actual rotations (N, 3, 3) to the wanted (3, 3), if small."""
    return cross(actual.mT, wanted.mT).sum(1) / 2


def at_most(speeds: Array, limits: Array) -> Array:
    """Joint speeds (N, J) as shares of limits (J,), slowed down together where one exceeds its
    own, so that the direction stays."""
    share = speeds / limits
    return share / namespace(share).amax(abs(share), 1, keepdims=True).clip(min=1)


def solve(arm: Arm, position: Vector, turned: np.ndarray, tool: float) -> np.ndarray:
    """Joint angles (J,) that bring the tool to a position [m] with the axes `turned` (3, 3), from
    home. Raises ValueError where the arm cannot."""
    qpos = np.array([arm.home])
    low, high = np.array([joint.range for joint in arm.joints]).T
    place = np.array([position])
    for _ in range(300):
        pose = forward(arm, qpos, tool)
        twist = concatenate(place - pose.position, rotation_error(turned, pose.rotation))
        step = joint_speeds(pose.jacobian, twist.clip(-0.1, 0.1))
        qpos = (qpos + step).clip(low, high)
    missed = float(length(forward(arm, qpos, tool).position - place)[0])
    if missed > 1e-3:
        raise ValueError(f"{arm.name} misses {position} by {missed:.3f} m")
    return qpos[0]


@lru_cache
def _diagonal(size: int, value: float) -> Array:
    return value * np.eye(size)


@lru_cache
def _constants(arm: Arm, tool: float) -> tuple[Array, ...]:
    """A joint's move at an angle is the first, plus the second times its cosine, plus the third
    times its sine, (J, 4, 4) each; then the base (3, 4), and the tool in the last joint's frame
    (4, 4)."""
    still, with_cosine, with_sine = np.zeros((3, len(arm.joints), 4, 4))
    for i, joint in enumerate(arm.joints):
        x, y, z = rotation(joint.turn).T
        still[i] = _affine(np.stack([0 * x, 0 * y, z], 1), joint.place)
        with_cosine[i, :3, :2] = np.stack([x, y], 1)
        with_sine[i, :3, :2] = np.stack([y, -x], 1)
    place, turn = arm.flange
    turned = rotation(turn)
    end = _affine(turned, np.array(place) + tool * turned[:, 2])
    base = _affine(rotation((0.0, 0.0, arm.base)), (0, 0, 0))[:3]
    return still, with_cosine, with_sine, base, end


def _affine(turned: np.ndarray, place: np.ndarray | Vector) -> np.ndarray:
    """A turn (3, 3) and a place (3,) as one matrix (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turned, place
    return matrix


@lru_cache
def downward(arm: Arm) -> Array:
    """The axes (3, 3) of a tool that points straight down, turned about it as at home."""
    x = forward(arm, np.array([arm.home])).rotation[0, :, 0]
    x = np.array([x[0], x[1], 0.0]) / np.hypot(x[0], x[1])
    z = np.array([0.0, 0.0, -1.0])
    return np.stack([x, cross(z, x), z], 1)
