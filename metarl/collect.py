"""Collect one trial: every agent and every world meet here, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.agent import Agent, Shapes
from metarl.randomness import Draws, Role
from metarl.trial import Change, Steps, Trial


class WorldsLike(Protocol):
    """What a trial needs of worlds: simulated ones, or one real arm."""

    rows: int
    obs: Tensor

    @property
    def shapes(self) -> Shapes: ...

    def set_tasks(self, tasks: Tensor) -> None: ...

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor: ...

    def step(self, action: Tensor) -> Steps: ...


class Rounds:
    """Worlds in which the last of every H control steps ends the episode of every row: a time
    limit, which the agent is told, as the next H steps begin anew."""

    def __init__(self, worlds: WorldsLike) -> None:
        self._worlds, self._count = worlds, 0
        self.rows, self.obs = worlds.rows, worlds.obs

    @property
    def shapes(self) -> Shapes:
        return self._worlds.shapes

    def set_tasks(self, tasks: Tensor) -> None:
        self._worlds.set_tasks(tasks)

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        if mask is None:
            self._count = 0
        self.obs = self._worlds.reset(mask, draws)
        return self.obs

    def step(self, action: Tensor) -> Steps:
        steps = self._worlds.step(action)
        self._count += 1
        if self._count % self.shapes.horizon == 0:
            if not steps.last.all():
                self._worlds.reset(~steps.last)
            steps = replace(steps, last=torch.ones_like(steps.last))
        self.obs = self._worlds.obs
        return steps


class Interrupted(Exception):
    """Somebody asked the program to stop; nothing of the running trial is kept."""


@dataclass(frozen=True)
class Switch:
    """How tasks change inside a trial: after every so many episodes of a row its task becomes
    another one of a set. Nobody is told, and no belief is reset: to notice is the agent's duty."""

    every: int  # episodes
    pool: Tensor  # (P, D) the set, P > 1


@dataclass(frozen=True)
class Guide:
    """Who acts in the first episode of some rows, in place of the agent: a demonstration, which the
    agent takes for its own experience."""

    expert: Agent
    rows: Tensor  # (N,) bool


@dataclass(frozen=True)
class Tasks:
    """The tasks of one trial: M of a task set, each in `replicas` rows."""

    values: Tensor  # (M, D)
    index: Tensor  # (M,) their numbers in the set
    replicas: int = 1
    switch: Switch | None = None  # None: they stay


def collect(
    worlds: WorldsLike,
    agent: Agent,
    tasks: Tasks,
    episodes: int,
    draws: Draws,
    noise: bool = True,
    belief: Any = None,
    stop: Callable[[], bool] = lambda: False,
    guide: Guide | None = None,
    infers: bool = True,
    teacher: Agent | None = None,
) -> tuple[Trial, Any]:
    """Live through `episodes` episodes of each task; the trial and the final belief.

    The belief starts at `belief`, or at the agent's prior, and stays that if `infers` is off. For
    an agent that pools its rows an episode is a round of H control steps, the same for all of them.
    What a `teacher` would do is noted in the trial beside what the agent does. Raises Interrupted
    as soon as `stop` says so.
    """
    shapes = worlds.shapes
    if agent.plan.pools:
        worlds = Rounds(worlds)
    length = episodes * shapes.horizon
    task = tasks.values.repeat_interleave(tasks.replicas, 0)
    worlds.set_tasks(task)
    obs = worlds.reset(draws=draws)
    if belief is None:
        belief = agent.prior(tasks.values, tasks.replicas, draws)
    noises = _noises(draws, length, shapes.action).to(agent.device) if noise else None
    record = _Recorder(length, worlds.rows, shapes)
    hidden = None if tasks.switch is None else _Switching(tasks, tasks.switch, draws)
    guided = torch.zeros(worlds.rows, dtype=torch.bool) if guide is None else guide.rows
    shown = None if teacher is None else torch.empty(length, worlds.rows, shapes.action)
    for t in range(length):
        if stop():
            raise Interrupted
        with torch.no_grad():
            action = agent.act(
                obs.to(agent.device), belief, None if noises is None else noises[t]
            )
            if guide is not None and guided.any():
                experts = guide.expert.act(obs, None, None)
                action = torch.where(guided[:, None], experts, action.cpu())
        if shown is not None and teacher is not None:
            shown[t] = teacher.act(obs, None, None)
        steps = worlds.step(action)
        if infers:
            belief = agent.infer(belief, steps.to(agent.device))
        record.add(t, steps)
        guided = guided & ~steps.last
        # After an episode's end, when the world has begun another: that one begins anew.
        if hidden is not None and t + 1 < length and (due := hidden.due(steps.last)).any():
            record.changes.append(Change(t + 1, hidden.task, hidden.index))
            worlds.set_tasks(hidden.task)
            worlds.reset(due)
        obs = worlds.obs
    index = tasks.index.repeat_interleave(tasks.replicas)
    trial = record.trial(task, index, tasks.replicas)
    rounds = shapes.horizon if agent.plan.pools else 0
    return replace(trial, round=rounds, shown=shown, draws=draws), belief


def _noises(draws: Draws, length: int, action: int) -> Tensor:
    """Exploration noise (T, N, A)."""
    return draws.normal(Role.ACTION, 0, length, action).transpose(0, 1).contiguous()


class _Switching:
    """Which task each row has now. A task's way through the set is drawn by its own key; its
    replicas go the same way, each by its own count of episodes."""

    def __init__(self, tasks: Tasks, switch: Switch, draws: Draws) -> None:
        self._switch = switch
        self._draws = Draws(draws.words)  # one number for a task and all its replicas
        self._way = [tasks.index]  # (M,) each: at first, after one change, ...
        self._place = torch.arange(len(tasks.index)).repeat_interleave(tasks.replicas)
        self._episodes = torch.zeros_like(self._place)  # (N,) finished
        self._first, self._distinct = _distinct(switch.pool)
        self.index = tasks.index[self._place]  # (N,)

    @property
    def task(self) -> Tensor:
        """(N, D)"""
        return self._switch.pool[self.index]

    def due(self, last: Tensor) -> Tensor:
        """Count the episodes that end, and change the tasks of the rows (N,) returned."""
        if not last.any():
            return last
        self._episodes += last
        changes = self._episodes // self._switch.every  # (N,) so far
        while len(self._way) <= changes.max():
            self._way.append(self._another(len(self._way)))
        self.index = torch.stack(self._way)[changes, self._place]
        return last & (self._episodes % self._switch.every == 0)

    def _another(self, number: int) -> Tensor:
        """What each task becomes at change `number`, (M,): any of the set but what it is."""
        others = len(self._distinct) - 1
        ahead = 1 + (others * self._draws.uniform(Role.TASK_SWITCH, number)).long()
        now = torch.searchsorted(self._distinct, self._first[self._way[-1]])
        return self._distinct[(now + ahead) % (others + 1)]


def _distinct(pool: Tensor) -> tuple[Tensor, Tensor]:
    """Where each task of a set (P, D) first occurs in it, (P,); and where every distinct one does,
    in order."""
    same = torch.unique(pool, dim=0, return_inverse=True)[1]
    first = torch.full_like(same, len(pool)).scatter_reduce(
        0, same, torch.arange(len(pool)), "amin")[same]
    return first, first.unique()


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
        self.changes: list[Change] = []

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
            self.outcome, task, index, replicas, tuple(self.changes),
        )
