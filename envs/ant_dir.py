"""ant-dir: an ant that must walk in a hidden direction, as fast as it can.

Finn et al., "Model-Agnostic Meta-Learning" (2017): forward or backward, two tasks and no others, so
that the held-out ones are the same two. `any_direction` draws from the whole circle, as Rakelly et
al. (2019) say they do.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from metarl.envs.ant import Ant
from metarl.envs.arrays import Array, concatenate, namespace, sum_of_squares
from metarl.envs.family import Frame, Parameter

_ANGLE = ("direction", "rad", "way to go, from the x axis")


@dataclass(frozen=True)
class AntDir(Ant):
    """An ant that must walk in a hidden direction."""

    any_direction: bool = False  # the whole circle instead of forward and backward

    name = "ant-dir"

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The direction: one of two, or any."""
        if self.any_direction:
            return (Parameter(*_ANGLE, train=(0.0, 2 * math.pi), physics=False),)
        # Radians, which ±1 are not: the tasks are opposite (a bug of widely copied code).
        return (Parameter(*_ANGLE, train=(0.0, math.pi), values=(0.0, math.pi), physics=False),)

    @property
    def task_counts(self) -> tuple[int, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many train tasks; how many test and ood tasks."""
        return (100, 30) if self.any_direction else (2, 20)  # ten starts in each

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos[:, 2:], frame.qvel)  # (N, 13), (N, 14)

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        xp = namespace(task)
        way = concatenate(xp.cos(task), xp.sin(task))  # (N, 2)
        speed = (self.velocity(before, after) * way).sum(1)
        return speed + 1 - 0.5 * sum_of_squares(action)

    def terminated(self, frame: Frame) -> Array:
        height = frame.qpos[:, 2]
        return (height < 0.2) | (height > 1.0)

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float]:
        return math.cos(task["direction"]), math.sin(task["direction"]), 0.0
