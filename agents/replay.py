"""A replay of transitions by task: one flat tensor, and a batch is one gather."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.trial import Trial, repeats


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
        """Append a trial, each row to its task's ring, replica after replica. A task that occurs
        several times among the trial's gets all that it lived, one after the other; where a row's
        task changes, each ring gets what was lived in its own."""
        for stretch in trial.stretches():
            self._add(stretch)

    def _add(self, trial: Trial) -> None:
        packed = torch.cat(
            [trial.obs, trial.action.clamp(-1, 1), trial.reward[..., None], trial.next_obs,
             trial.terminated[..., None].float()], -1,
        ).to(self._data.device)  # (T, N, F)
        groups = packed.transpose(0, 1).reshape(-1, trial.replicas * len(trial), self.width)
        tasks = trial.index[:: trial.replicas].to(self._data.device)
        again = repeats(tasks)
        for k in again.unique():
            self._append(tasks[again == k], groups[again == k])

    def _append(self, tasks: Tensor, groups: Tensor) -> None:
        """Add steps (M, S, F) to M different tasks."""
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
    ) -> tuple[Transitions, Tensor]:
        """Transitions (len(tasks), size, F), uniform over each task's last `recent` ones, or all
        that it has; and how many these are, (len(tasks),)."""
        held = self._added[tasks].clamp(max=self.capacity if recent is None else recent)
        u = torch.rand(len(tasks), size, generator=generator, device=tasks.device)
        step = self._added[tasks, None] - 1 - (u * held[:, None]).long()
        return self._gather(tasks, step), held

    def sample_prefix(
        self, tasks: Tensor, size: int, generator: torch.Generator, length: int, trials: int
    ) -> tuple[Transitions, Tensor]:
        """Transitions (len(tasks), size, F) of the beginning of one trial per task, and how many
        that beginning holds (len(tasks),): what a belief knows at some moment of a trial.

        The trial, `length` transitions long, is one of the task's last `trials`, and the moment
        any in it. Of a task that was lived in for less, all is taken for one trial.
        """
        known = self._added[tasks].clamp(max=self.capacity)
        whole = known.clamp(max=length)
        held = (known // whole).clamp(max=trials)
        u = torch.rand(2, len(tasks), generator=generator, device=tasks.device)
        first = self._added[tasks] - whole * (1 + (u[0] * held).long())
        count = 1 + (u[1] * whole).long()
        within = torch.rand(len(tasks), size, generator=generator, device=tasks.device)
        step = first[:, None] + (within * count[:, None]).long()
        return self._gather(tasks, step), count

    def _gather(self, tasks: Tensor, step: Tensor) -> Transitions:
        """The transitions that were added as number `step` (B, S) of tasks (B,)."""
        rows = (tasks[:, None] * self._data.shape[1] + step % self.capacity).view(-1)
        packed = self._data.view(-1, self.width).index_select(0, rows)
        return Transitions(packed.view(*step.shape, self.width), self.shapes)

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
