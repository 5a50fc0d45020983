"""Random numbers that depend on what they are for, never on when or beside whom they are drawn.

Every draw is keyed by four words (seed, iteration, task, role). A result therefore does not change
with the number of rows, and a resumed run draws what the uninterrupted one would have drawn.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Role(IntEnum):
    """What a draw is for: the low byte of a key's fourth word."""

    INITIAL_WEIGHTS = 0
    TASK_SET = 1
    TASK_CHOICE = 2
    RESET = 3
    ACTION = 4
    BELIEF = 5
    LEARN = 6
    TASK_SWITCH = 7
    FLAW = 8  # of one episode's arm: delays, backlash, uneven control steps
    SENSOR_NOISE = 9


def generator(
    seed: int, iteration: int = 0, task: int = 0, role: Role = Role.RESET, count: int = 0
) -> np.random.Generator:
    """The numpy generator of one key. `count` tells repeated draws of one role apart."""
    # SeedSequence pads short keys and spills large words into the next one, so the key always
    # has four words below 2^32.
    words = [seed, iteration, task, int(role) + 256 * count]
    if any(not 0 <= word < 2**32 for word in words):
        raise ValueError(f"a random key needs four words in [0, 2^32), got {words}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def torch_generator(seed: int, iteration: int, role: Role, device: torch.device) -> torch.Generator:
    """A torch generator on `device`, seeded from the same kind of key."""
    word = int(generator(seed, iteration, 0, role).integers(2**63 - 1))
    return torch.Generator(device=device).manual_seed(word)


Count = int | np.ndarray  # which of a role's draws: the same for all rows, or (N,) integers


@dataclass(frozen=True)
class Draws:
    """A source of random numbers for N = M * replicas rows; equal arguments give equal numbers.

    Attributes:
        words: (M, 3) integers, the (seed, iteration, task) of each task.
        replicas: rows per task.
        drawn: (N,) bool, the rows whose numbers are wanted; those of the others are 0.
    """

    words: Tensor
    replicas: int = 1
    drawn: Tensor | None = None

    @classmethod
    def of(cls, seed: int, iteration: int, tasks: Tensor | int, replicas: int = 1) -> "Draws":
        """Draws for the tasks with these indices (M,), or for tasks 0 ... M-1."""
        index = torch.arange(tasks) if isinstance(tasks, int) else tasks.cpu().long()
        head = torch.tensor([[seed, iteration]]).expand(len(index), 2)
        return cls(torch.cat([head, index[:, None]], 1), replicas)

    def only(self, rows: Tensor) -> "Draws":
        """The same numbers for rows in the mask (N,), and zeros, at no cost, for the others."""
        return replace(self, drawn=rows)

    def normal(self, role: Role, count: Count, *shape: int) -> Tensor:
        """Standard normal numbers, float32 (N, *shape), on the CPU."""
        return self._draw(role, count, shape, "standard_normal").float()

    def uniform(self, role: Role, count: Count, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float64 (N, *shape), on the CPU."""
        return self._draw(role, count, shape, "random")

    def _draw(self, role: Role, count: Count, shape: tuple[int, ...], kind: str) -> Tensor:
        rows = len(self.words) * self.replicas
        numbers, words = np.zeros((rows, *shape)), self.words.tolist()
        wanted = range(rows) if self.drawn is None else self.drawn.nonzero()[:, 0].tolist()
        counts = np.broadcast_to(count, rows).tolist()
        known: dict[tuple[int, int], np.ndarray] = {}  # a task's numbers for all of its replicas
        for row in wanted:
            task, replica = divmod(row, self.replicas)
            key = task, counts[row]
            if key not in known:
                seed, iteration, index = words[task]
                source = generator(seed, iteration, index, role, counts[row])
                known[key] = getattr(source, kind)((self.replicas, *shape))
            numbers[row] = known[key][replica]
        return torch.from_numpy(numbers)
