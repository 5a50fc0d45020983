"""A replay of transitions by task: one flat tensor, and a batch is one gather."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.trial import Trial


@dataclass(frozen=True)
class Transitions:
    """Transitions (..., F) with their parts as views."""

    packed: Tensor
    shapes: Shapes

    @property
    def obs(self) -> Tensor:
        return self.packed[..., : self.shapes.obs]

    @property
    def action(self) -> Tensor:
        return self.packed[..., self.shapes.obs : self.shapes.obs + self.shapes.action]

    @property
    def reward(self) -> Tensor:
        return self.packed[..., self.shapes.obs + self.shapes.action]

    @property
    def next_obs(self) -> Tensor:
        return self.packed[..., -1 - self.shapes.obs : -1]

    @property
    def terminated(self) -> Tensor:
        return self.packed[..., -1]

    def map_obs(self, change: Callable[[Tensor], Tensor]) -> "Transitions":
        """The same transitions with `change` applied to obs and next_obs."""
        o, a = self.shapes.obs, self.shapes.action
        kept = self.packed[..., o : o + a + 1]
        parts = [change(self.obs), kept, change(self.next_obs), self.packed[..., -1:]]
        return Transitions(torch.cat(parts, -1), self.shapes)


class Replay:
    """A ring of transitions (obs, action, reward, next_obs, terminated) for each train task.

    It grows in task and in length as data comes, up to `capacity` transitions a task.
    """

    def __init__(self, shapes: Shapes, capacity: int, device: torch.device) -> None:
        self.shapes = shapes
        self.capacity = capacity
        self.width = 2 * shapes.obs + shapes.action + 2
        self._data = torch.empty(0, 0, self.width, device=device)  # (tasks, steps, F)
        self._added = torch.zeros(0, dtype=torch.long, device=device)  # (tasks,) ever

    def add(self, trial: Trial) -> None:
        """Append a trial, each row to its task's ring, replica after replica."""
        packed = torch.cat(
            [trial.obs, trial.action, trial.reward[..., None], trial.next_obs,
             trial.terminated[..., None].float()], -1,
        ).to(self._data.device)  # (T, N, F)
        groups = packed.transpose(0, 1).reshape(-1, trial.replicas * len(trial), self.width)
        tasks = trial.index[:: trial.replicas].to(self._data.device)
        length = min(groups.shape[1], self.capacity)
        self._grow(int(tasks.max()) + 1, int(self._added.max()) + length if len(self._added)
                   else length)
        steps = self._added[tasks, None] + torch.arange(length, device=tasks.device)
        self._data[tasks[:, None], steps % self.capacity] = groups[:, -length:]
        self._added[tasks] += length

    def filled(self) -> Tensor:
        """The tasks that have data, (k,)."""
        return self._added.nonzero().squeeze(1)

    def sample(
        self, tasks: Tensor, size: int, generator: torch.Generator, recent: int | None = None
    ) -> Transitions:
        """Transitions (len(tasks), size, F), uniform over each task's last `recent` steps, or
        over all that it has."""
        held = self._added[tasks].clamp(max=self.capacity)
        window = held if recent is None else held.clamp(max=recent)
        u = torch.rand(len(tasks), size, generator=generator, device=tasks.device)
        back = (u * window[:, None]).long()  # 0 is the newest
        step = (self._added[tasks, None] - 1 - back) % self.capacity
        flat = self._data.view(-1, self.width)
        rows = (tasks[:, None] * self._data.shape[1] + step).view(-1)
        return Transitions(
            flat.index_select(0, rows).view(len(tasks), size, self.width), self.shapes
        )

    def state(self) -> dict[str, Tensor]:
        """The rings as far as they are filled."""
        used = int(self._added.max().clamp(max=self.capacity)) if len(self._added) else 0
        return {"data": self._data[:, :used].clone(), "added": self._added.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self._data = state["data"].to(self._data.device).clone()
        self._added = state["added"].to(self._data.device).clone()

    def _grow(self, tasks: int, steps: int) -> None:
        steps = min(steps, self.capacity)
        old_tasks, old_steps, _ = self._data.shape
        if tasks <= old_tasks and steps <= old_steps:
            return
        # Doubling keeps the copies' total cost linear; a ring never wraps before it is full size.
        wanted = min(self.capacity, max(steps, 2 * old_steps if steps > old_steps else old_steps))
        data = self._data.new_zeros(max(tasks, old_tasks), wanted, self.width)
        data[:old_tasks, :old_steps] = self._data
        added = self._added.new_zeros(data.shape[0])
        added[:old_tasks] = self._added
        self._data, self._added = data, added
