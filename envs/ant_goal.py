"""ant-goal: an ant that must walk to a hidden place.

The place is uniform on a disc of 3 m, as in the code of Rakelly et al. (2019), "PEARL"; it is never
fallen, only late.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.envs.ant import Ant
from metarl.envs.family import Frame, Parameter


@dataclass(frozen=True)
class AntGoal(Ant):
    """An ant that must walk to a hidden place."""

    name = "ant-goal"
    task_counts = (150, 30)
    parameters = (
        Parameter("goal_angle", "rad", "where the goal lies, from the x axis", (0.0, 2 * math.pi),
                  physics=False),
        Parameter("goal_radius", "m", "how far the goal is", (0.0, 3.0), ood=((3.0, 4.0),),
                  distribution="disc", physics=False, possible=(0.0, 100.0)),
    )

    def observe(self, frame: Frame) -> Tensor:
        return torch.cat([frame.qpos, frame.qvel], 1)  # (N, 15), (N, 14)

    def reward(self, before: Frame, action: Tensor, after: Frame, task: Tensor) -> Tensor:
        away = (after.qpos[:, :2] - _goal(task)).abs().sum(1)  # m, along the axes
        return -away - 0.1 * action.square().sum(1)

    def outcome(self, frame: Frame, task: Tensor) -> dict[str, Tensor]:
        return {"distance [m]": (frame.qpos[:, :2] - _goal(task)).norm(dim=1)}

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        x, y = _place(task)
        return {"goal": (x, y, 0.0)}

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        x, y = _place(task)
        return 0.4 * x, 0.4 * y, 0.0


def _place(task: Mapping[str, float]) -> tuple[float, float]:
    angle, radius = task["goal_angle"], task["goal_radius"]
    return radius * math.cos(angle), radius * math.sin(angle)


def _goal(task: Tensor) -> Tensor:
    """Places (N, 2) m of tasks (N, 2)."""
    angle, radius = task.T
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
