"""Where an arm's flange is and how it moves with the joints, for all rows at once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from metarl.envs.arms import Arm, Vector, rotation

_IDENTITY = torch.eye(6, dtype=torch.float64)


@dataclass(frozen=True)
class Pose:
    """A frame on the arm, in the world's coordinates."""

    position: Tensor  # (N, 3) m
    rotation: Tensor  # (N, 3, 3), whose columns are the frame's axes
    jacobian: Tensor  # (N, 6, J): m/s, then rad/s, for 1 rad/s of each joint


def forward(arm: Arm, qpos: Tensor, tool: float = 0.0) -> Pose:
    """The frame `tool` metres in front of the flange at joint angles (N, J)."""
    turns, places, end = _constants(arm, tool)
    cosine, sine = qpos.cos()[:, :, None], qpos.sin()[:, :, None]
    x, y, z = turns[:, :, 0], turns[:, :, 1], turns[:, :, 2]
    # Each joint's own turn, in the frame of the one before: (N, J, 3, 3).
    steps = torch.stack(
        [cosine * x + sine * y, cosine * y - sine * x, z.expand(len(qpos), -1, -1)], 3
    )
    turned = _base(arm).expand(len(qpos), 3, 3)
    position = torch.zeros(len(qpos), 3, 1, dtype=torch.float64)
    origins, axes = [], []
    for i in range(len(arm.joints)):
        position = position + turned @ places[i]
        turned = turned @ steps[:, i]
        origins.append(position)
        axes.append(turned[:, :, 2:])
    position = position + turned @ end
    axis = torch.cat(axes, 2)
    lever = position - torch.cat(origins, 2)
    jacobian = torch.cat([torch.linalg.cross(axis, lever, dim=1), axis], 1)
    return Pose(position[:, :, 0], turned @ _flange(arm), jacobian)


def joint_speeds(jacobian: Tensor, twist: Tensor, damping: float = 1e-4) -> Tensor:
    """Joint speeds (N, J) [rad/s] that give the frame a twist (N, D) [m/s, rad/s] through a
    Jacobian (N, D, J): resolved motion rate control (Whitney 1969), damped near singular poses."""
    square = jacobian @ jacobian.mT + damping * _IDENTITY[: twist.shape[1], : twist.shape[1]]
    return (jacobian.mT @ torch.linalg.solve(square, twist[:, :, None])).squeeze(2)


def rotation_error(wanted: Tensor, actual: Tensor) -> Tensor:
    """The turn (N, 3) [rad] from actual rotations (N, 3, 3) to the wanted (3, 3), if small."""
    return torch.linalg.cross(actual, wanted.expand_as(actual), dim=1).sum(2) / 2


def at_most(speeds: Tensor, limits: Tensor) -> Tensor:
    """Joint speeds (N, J) as shares of limits (J,), slowed down together where one exceeds its
    own, so that the direction stays."""
    share = speeds / limits
    return share / share.abs().amax(1, keepdim=True).clamp(min=1)


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
def _constants(arm: Arm, tool: float) -> tuple[Tensor, Tensor, Tensor]:
    """Turns (J, 3, 3) and places (J, 3, 1) between joints; the tool in the last joint's frame."""
    turns = np.stack([rotation(joint.turn) for joint in arm.joints])
    places = np.array([joint.place for joint in arm.joints])[:, :, None]
    place, turn = arm.flange
    end = np.array(place) + tool * rotation(turn)[:, 2]
    return torch.from_numpy(turns), torch.from_numpy(places), torch.from_numpy(end[:, None])


@lru_cache
def _flange(arm: Arm) -> Tensor:
    return torch.from_numpy(rotation(arm.flange[1]))


@lru_cache
def _base(arm: Arm) -> Tensor:
    return torch.from_numpy(rotation((0.0, 0.0, arm.base)))


@lru_cache
def downward(arm: Arm) -> Tensor:
    """The axes (3, 3) of a tool that points straight down, turned about it as at home."""
    x = forward(arm, torch.tensor([arm.home], dtype=torch.float64)).rotation[0, :, 0]
    x = torch.stack([x[0], x[1], torch.zeros_like(x[2])]) / x[:2].norm()
    z = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    return torch.stack([x, torch.linalg.cross(z, x), z], 1)
