"""Collect one trial: every agent and every world meet here, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.agent import Agent, Shapes
from metarl.randomness import Draws, Role
from metarl.trial import Steps, Trial


class WorldsLike(Protocol):
    """What a trial needs of worlds: simulated ones, or one real arm."""

    rows: int
    obs: Tensor

    @property
    def shapes(self) -> Shapes: ...

    def set_tasks(self, tasks: Tensor) -> None: ...

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor: ...

    def step(self, action: Tensor) -> Steps: ...


class Interrupted(Exception):
    """Somebody asked the program to stop; nothing of the running trial is kept."""


@dataclass(frozen=True)
class Tasks:
    """The tasks of one trial: M of a task set, each in `replicas` rows."""

    values: Tensor  # (M, D)
    index: Tensor  # (M,) their numbers in the set
    replicas: int = 1


def collect(
    worlds: WorldsLike,
    agent: Agent,
    tasks: Tasks,
    episodes: int,
    draws: Draws,
    noise: bool = True,
    belief: Any = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Trial, Any]:
    """Live through `episodes` episodes of each task; the trial and the final belief.

    The belief starts at `belief`, or at the agent's prior. Raises Interrupted as soon as `stop`
    says so.
    """
    shapes = worlds.shapes
    length = episodes * shapes.horizon
    task = tasks.values.repeat_interleave(tasks.replicas, 0)
    worlds.set_tasks(task)
    obs = worlds.reset(draws=draws)
    if belief is None:
        belief = agent.prior(tasks.values, tasks.replicas, draws)
    noises = _noises(draws, length, shapes.action).to(agent.device) if noise else None
    record = _Recorder(length, worlds.rows, shapes)
    for t in range(length):
        if stop():
            raise Interrupted
        with torch.no_grad():
            action = agent.act(
                obs.to(agent.device), belief, None if noises is None else noises[t]
            )
        steps = worlds.step(action)
        belief = agent.infer(belief, steps.to(agent.device))
        record.add(t, steps)
        obs = worlds.obs
    index = tasks.index.repeat_interleave(tasks.replicas)
    return record.trial(task, index, tasks.replicas), belief


def _noises(draws: Draws, length: int, action: int) -> Tensor:
    """Exploration noise (T, N, A)."""
    return draws.normal(Role.ACTION, 0, length, action).transpose(0, 1).contiguous()


class _Recorder:
    """Buffers (T, N, ...) that are filled step by step."""

    def __init__(self, length: int, rows: int, shapes: Shapes) -> None:
        self.obs = torch.empty(length, rows, shapes.obs)
        self.action = torch.empty(length, rows, shapes.action)
        self.reward = torch.empty(length, rows)
        self.next_obs = torch.empty(length, rows, shapes.obs)
        self.terminated = torch.zeros(length, rows, dtype=torch.bool)
        self.last = torch.zeros(length, rows, dtype=torch.bool)
        self.outcome: dict[str, Tensor] = {}

    def add(self, t: int, steps: Steps) -> None:
        for name in ("obs", "action", "reward", "next_obs", "terminated", "last"):
            getattr(self, name)[t] = getattr(steps, name)
        for name, value in steps.outcome.items():
            if name not in self.outcome:
                self.outcome[name] = torch.full_like(self.reward, torch.nan)
            self.outcome[name][t] = value

    def trial(self, task: Tensor, index: Tensor, replicas: int) -> Trial:
        return Trial(
            self.obs, self.action, self.reward, self.next_obs, self.terminated, self.last,
            self.outcome, task, index, replicas,
        )
