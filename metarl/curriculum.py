"""A curriculum over a set of train tasks: go where returns change.

Matiisen et al., "Teacher-Student Curriculum Learning" (2017), the "online" algorithm:
each task's learning progress is an exponential mean of the changes of its score from one visit to
the next, and tasks are drawn in proportion to its size: where the score falls, the task is being
forgotten. Their epsilon-greedy share is the uniform one here, so that no task ever starves. Changes
that come of chance cancel in the mean, as far as its memory reaches.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.randomness import Role, generator

UNIFORM = 0.3  # share of the draws that is uniform over the set
RATE = 0.3  # weight of the newest change in a task's progress
_VISITS = 2  # of a task before its progress is known: a change needs two


class Curriculum:
    """How often each of P train tasks is drawn. What it draws depends on the seed, the iteration
    and its state alone, and the state goes into the checkpoint."""

    def __init__(self, describes: Mapping[str, Tensor]) -> None:
        """`describes` are numbers (P,) by name, whose means say which tasks are drawn."""
        self._describes = {name: value.double() for name, value in describes.items()}
        count = len(next(iter(describes.values())))
        self.score = torch.zeros(count, dtype=torch.float64)  # (P,) at the last visit
        self.progress = torch.zeros(count, dtype=torch.float64)  # (P,) of the score, per visit
        self.visits = torch.zeros(count, dtype=torch.long)  # (P,)

    @property
    def ready(self) -> bool:
        """Whether any task's progress has been measured; till then tasks take turns."""
        return bool((self.visits >= _VISITS).any())

    def probabilities(self) -> Tensor:
        """(P,) shares of the draws. A task whose progress is not known yet is taken to have as
        much as those have whose is, in the mean: of a large set the first need not wait for all."""
        size, known = self.progress.abs(), self.visits >= _VISITS
        uniform = torch.full_like(size, 1 / len(size))
        if not size[known].sum() > 0:
            return uniform
        size = size.where(known, size[known].mean())
        return UNIFORM * uniform + (1 - UNIFORM) * size / size.sum()

    def choose(self, seed: int, iteration: int, count: int) -> Tensor:
        """Tasks (count,): each as often as `count` times its share, rounded down or up by chance
        (systematic sampling, in a random order of the tasks)."""
        source = generator(seed, iteration, 0, Role.CURRICULUM)
        order = torch.from_numpy(source.permutation(len(self.progress)))
        points = (torch.arange(count, dtype=torch.float64) + source.random()) / count
        ends = self.probabilities()[order].cumsum(0)
        # The last end may fall short of 1 by rounding.
        chosen = order[torch.searchsorted(ends, points, right=True).clamp(max=len(order) - 1)]
        return chosen[torch.from_numpy(source.permutation(count))]

    def update(self, index: Tensor, score: Tensor) -> None:
        """Take in the scores (M,) of tasks (M,) that were visited; of a task that was visited
        several times at once, their mean. What is not finite says nothing."""
        for task in index.unique().tolist():
            seen = score[index == task].double()
            seen = seen[seen.isfinite()]
            if not len(seen):
                continue
            change = seen.mean() - self.score[task]
            if self.visits[task] == 1:
                self.progress[task] = change
            elif self.visits[task] > 1:
                self.progress[task] += RATE * (change - self.progress[task])
            self.score[task] = seen.mean()
            self.visits[task] += 1

    def summary(self) -> dict[str, float]:
        """What it draws, to log: the entropy of the shares over that of uniform ones, the mean size
        of the progress, and the mean of each number that describes tasks with its deviation, which
        shows a preference for both ends of a range."""
        shares = self.probabilities()
        entropy = -(shares * shares.log()).sum() / torch.tensor(float(len(shares))).log()
        told = {"tasks/entropy": float(entropy) if len(shares) > 1 else 1.0,
                "tasks/largest_share": float(shares.max()),
                "tasks/progress": float(self.progress.abs().mean())}
        for name, value in self._describes.items():
            mean = (shares * value).sum()
            told[f"tasks/{name}"] = float(mean)
            if "/" not in name:  # the share of a choice says it all
                square = (shares * (value - mean).square()).sum()
                told[f"tasks/{name}_deviation"] = float(square.sqrt())
        return told

    def state(self) -> dict[str, Tensor]:
        """All that it knows."""
        return {"score": self.score.clone(), "progress": self.progress.clone(),
                "visits": self.visits.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self.score, self.progress, self.visits = (
            state[name].clone() for name in ("score", "progress", "visits"))
