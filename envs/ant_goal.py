"""ant-goal: an ant that must walk to a hidden place.

The place is uniform on a disc of 3 m, as in the code of Rakelly et al. (2019), "PEARL"; it is never
fallen, only late.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.ant import Ant
from metarl.envs.arrays import Array, concatenate, length, namespace, stack, sum_of_squares
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

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos, frame.qvel)  # (N, 15), (N, 14)

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        away = abs(after.qpos[:, :2] - _goal(task)).sum(1)  # m, along the axes
        return -away - 0.1 * sum_of_squares(action)

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"distance [m]": length(frame.qpos[:, :2] - _goal(task))}

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        x, y = _place(task)
        return {"goal": (x, y, 0.0)}

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        x, y = _place(task)
        return 0.4 * x, 0.4 * y, 0.0


def _place(task: Mapping[str, float]) -> tuple[float, float]:
    angle, radius = task["goal_angle"], task["goal_radius"]
    return radius * math.cos(angle), radius * math.sin(angle)


def _goal(task: Array) -> Array:
    """Places (N, 2) m of tasks (N, 2)."""
    xp, (angle, radius) = namespace(task), task.T
    return stack(radius * xp.cos(angle), radius * xp.sin(angle))
