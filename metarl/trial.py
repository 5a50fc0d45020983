"""What the world said: single steps, and rectangular trials of several episodes of one task."""

from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import torch
from torch import Tensor

from metarl.randomness import Draws


@dataclass(frozen=True)
class Steps:
    """One control step of N rows.

    `last` ends an episode for whatever reason; `terminated` says that the task itself ended there,
    so that nothing may be bootstrapped from `next_obs`. A time limit is `last` alone.
    """

    obs: Tensor  # (N, O)
    action: Tensor  # (N, A) what the agent chose; the world clamps it to [-1, 1]
    reward: Tensor  # (N,)
    next_obs: Tensor  # (N, O), the episode's own successor even where `last`
    terminated: Tensor  # (N,) bool
    last: Tensor  # (N,) bool
    outcome: dict[str, Tensor] = field(default_factory=dict)  # (N,) each, NaN unless `last`

    def to(self, device: torch.device) -> "Steps":
        """The same steps on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self)[:6]}
        return Steps(**moved, outcome=self.outcome)


@dataclass(frozen=True)
class Change:
    """The hidden tasks that rows have from a step of a trial on."""

    start: int  # the first step
    task: Tensor  # (N, D)
    index: Tensor  # (N,)


@dataclass(frozen=True)
class Trial:
    """T steps of N rows, time first: several episodes of one hidden task for each row, unless
    `changes` says otherwise. What must know the task of a step goes by `stretches`."""

    obs: Tensor  # (T, N, O)
    action: Tensor  # (T, N, A)
    reward: Tensor  # (T, N)
    next_obs: Tensor  # (T, N, O)
    terminated: Tensor  # (T, N) bool
    last: Tensor  # (T, N) bool
    outcome: dict[str, Tensor]  # (T, N) each, NaN unless `last`
    # (N, D) at the beginning; for oracles, plots, logs and what is taught, never for one that acts
    task: Tensor
    index: Tensor  # (N,) number of each row's first task in the set it was drawn from
    replicas: int = 1
    changes: tuple[Change, ...] = ()  # of any row's task, in the order of time
    round: int = 0  # control steps after which every row begins anew, if all do so together
    # (T, N, A) what the scripted policy, which is told the task, would have done, for an agent that
    # is taught; NaN where it does not know
    shown: Tensor | None = None
    draws: Draws | None = None  # that its prior was drawn from

    def __len__(self) -> int:
        return self.reward.shape[0]

    def step(self, t: int) -> Steps:
        """Step `t` of all rows, (N, ...)."""
        names = ("obs", "action", "reward", "next_obs", "terminated", "last")
        return Steps(**{name: getattr(self, name)[t] for name in names})

    def stretches(self) -> list["Trial"]:
        """The trial cut wherever a row's task changes: parts in which every row has one task."""
        if not self.changes:
            return [self]
        bounds = [0, *(change.start for change in self.changes), len(self)]
        tasks = [(self.task, self.index), *((c.task, c.index) for c in self.changes)]
        names = ("obs", "action", "reward", "next_obs", "terminated", "last")
        return [
            replace(
                self, **{name: getattr(self, name)[start:end] for name in names}, task=task,
                outcome={name: value[start:end] for name, value in self.outcome.items()},
                index=index, changes=(),
                shown=None if self.shown is None else self.shown[start:end],
            )
            for (start, end), (task, index) in zip(pairwise(bounds), tasks, strict=True)
        ]

    def finite(self) -> "Trial":
        """The trial without the tasks in which a row met what is not a finite number."""
        whole = self.reward.isfinite().all(0)  # (N,)
        for part in (self.obs, self.action, self.next_obs):
            whole &= part.isfinite().all(2).all(0)
        kept = whole.view(-1, self.replicas).all(1).repeat_interleave(self.replicas)
        if kept.all():
            return self
        names = ("obs", "action", "reward", "next_obs", "terminated", "last")
        return replace(
            self, **{name: getattr(self, name)[:, kept] for name in names},
            outcome={name: value[:, kept] for name, value in self.outcome.items()},
            task=self.task[kept], index=self.index[kept],
            changes=tuple(Change(c.start, c.task[kept], c.index[kept]) for c in self.changes),
            shown=None if self.shown is None else self.shown[:, kept],
            draws=None if self.draws is None else replace(
                self.draws, words=self.draws.words[kept[:: self.replicas]]),
        )

    @property
    def seen(self) -> Tensor:
        """(T + 1, N, O) what the agent saw before each step and after the last: where an episode
        ends there, a new beginning in the same task, as after all other ends."""
        after = torch.where(self.last[-1][:, None], self.obs[0], self.next_obs[-1])
        return torch.cat([self.obs, after[None]])

    @property
    def episode(self) -> Tensor:
        """(T, N) the episode each step belongs to, counted from 0. Of a round the first episode of
        a row counts, as that of its round; what follows an early end there has the number -1."""
        if not self.round:
            return self.last.long().cumsum(0) - self.last.long()
        parts = self.last.long().split(self.round)
        return torch.cat([torch.where(part.cumsum(0) - part == 0, k, -1)
                          for k, part in enumerate(parts)])

    def returns(self, episodes: int) -> Tensor:
        """(K, N) undiscounted return of each row's first K episodes; NaN where one is missing."""
        return self._per_episode(self.reward, episodes)

    def outcomes(self, episodes: int) -> dict[str, Tensor]:
        """(K, N) of each measure that the family takes when an episode ends."""
        return {
            name: self._per_episode(torch.where(self.last, value, 0.0), episodes)
            for name, value in self.outcome.items()
        }

    def _per_episode(self, value: Tensor, episodes: int) -> Tensor:
        number = self.episode
        rows = []
        for k in range(episodes):
            total = torch.where(number == k, value, 0.0).sum(0)
            finished = (self.last & (number == k)).any(0)
            rows.append(torch.where(finished, total, torch.nan))
        return torch.stack(rows)


def repeats(index: Tensor) -> Tensor:
    """How often each entry has occurred before: (0, 0, 1) for (4, 7, 4)."""
    same = index[:, None] == index[None, :]
    return same.tril(-1).sum(1)
