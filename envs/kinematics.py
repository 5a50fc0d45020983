"""Where an arm's flange is and how it moves with the joints, for all rows at once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from metarl.envs.arms import Arm, Vector, rotation


@dataclass(frozen=True)
class Pose:
    """A frame on the arm, in the world's coordinates."""

    position: Tensor  # (N, 3) m
    rotation: Tensor  # (N, 3, 3), whose columns are the frame's axes
    jacobian: Tensor  # (N, 6, J): m/s, then rad/s, for 1 rad/s of each joint


def forward(arm: Arm, qpos: Tensor, tool: float = 0.0) -> Pose:
    """The frame `tool` metres in front of the flange at joint angles (N, J)."""
    still, with_cosine, with_sine, base, end = _constants(arm, tool)
    # Each joint's own move, in the frame of the one before: (N, J, 4, 4). What all rows need is one
    # call for all joints: a call of tensors this small costs more than its numbers.
    angle = qpos[:, :, None, None]
    moves = torch.addcmul(still, with_cosine, angle.cos()).addcmul_(with_sine, angle.sin())
    frame, frames = base.expand(len(qpos), 3, 4), []
    for move in moves.unbind(1):
        frame = torch.bmm(frame, move)
        frames.append(frame)
    joints, end = torch.stack(frames, 1), frame @ end  # (N, J, 3, 4), (N, 3, 4)
    position = end[:, :, 3]
    return Pose(position, end[:, :, :3], jacobian(joints[..., 2], joints[..., 3], position))


def jacobian(axes: Tensor, anchors: Tensor, position: Tensor) -> Tensor:
    """The Jacobian (N, 6, J) of a place (N, 3) [m] on an arm whose joints turn about axes (N, J, 3)
    through anchors (N, J, 3) [m], all in the world's coordinates."""
    lever = position[:, None] - anchors
    return torch.cat([torch.linalg.cross(axes, lever), axes], 2).mT


def joint_speeds(jacobian: Tensor, twist: Tensor, damping: float = 1e-4) -> Tensor:
    """Joint speeds (N, J) [rad/s] that give the frame a twist (N, D) [m/s, rad/s] through a
    Jacobian (N, D, J): resolved motion rate control (Whitney 1969), damped near singular poses."""
    square = torch.baddbmm(_diagonal(jacobian.shape[1], damping), jacobian, jacobian.mT)
    found, _ = torch.linalg.solve_ex(square, twist[:, :, None])  # damped: never singular
    return torch.bmm(jacobian.mT, found).squeeze(2)


def rotation_error(wanted: Tensor, actual: Tensor) -> Tensor:
    """The turn (N, 3) [rad] from actual rotations (N, 3, 3) to the wanted (3, 3), if small."""
    return torch.linalg.cross(actual, wanted.expand_as(actual), dim=1).sum(2) / 2


def at_most(speeds: Tensor, limits: Tensor) -> Tensor:
    """Joint speeds (N, J) as shares of limits (J,), slowed down together where one exceeds its
    own, so that the direction stays."""
    share = speeds / limits
    return share / torch.linalg.vector_norm(share, torch.inf, dim=1, keepdim=True).clamp(min=1)


def solve(arm: Arm, position: Vector, turned: np.ndarray, tool: float) -> np.ndarray:
    """Joint angles (J,) that bring the tool to a position [m] with the axes `turned` (3, 3), from
    home. Raises ValueError where the arm cannot."""
    qpos = torch.tensor([arm.home], dtype=torch.float64)
    low, high = torch.tensor([joint.range for joint in arm.joints], dtype=torch.float64).T
    wanted, place = torch.from_numpy(turned), torch.tensor([position], dtype=torch.float64)
    for _ in range(300):
        pose = forward(arm, qpos, tool)
        twist = torch.cat([place - pose.position, rotation_error(wanted, pose.rotation)], 1)
        step = joint_speeds(pose.jacobian, twist.clamp(-0.1, 0.1))
        qpos = torch.minimum(torch.maximum(qpos + step, low), high)
    missed = (forward(arm, qpos, tool).position - place).norm().item()
    if missed > 1e-3:
        raise ValueError(f"{arm.name} misses {position} by {missed:.3f} m")
    return qpos[0].numpy()


@lru_cache
def _diagonal(size: int, value: float) -> Tensor:
    return torch.eye(size, dtype=torch.float64).mul_(value)


@lru_cache
def _constants(arm: Arm, tool: float) -> tuple[Tensor, ...]:
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
    return tuple(map(torch.from_numpy, (still, with_cosine, with_sine, base, end)))


def _affine(turned: np.ndarray, place: np.ndarray | Vector) -> np.ndarray:
    """A turn (3, 3) and a place (3,) as one matrix (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turned, place
    return matrix


@lru_cache
def downward(arm: Arm) -> Tensor:
    """The axes (3, 3) of a tool that points straight down, turned about it as at home."""
    x = forward(arm, torch.tensor([arm.home], dtype=torch.float64)).rotation[0, :, 0]
    x = torch.stack([x[0], x[1], torch.zeros_like(x[2])]) / x[:2].norm()
    z = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    return torch.stack([x, torch.linalg.cross(z, x), z], 1)
