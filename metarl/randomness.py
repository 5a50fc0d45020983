"""Random numbers that depend on what they are for, never on when or beside whom they are drawn.

Every draw is keyed by (seed, iteration, task, role). A result therefore does not change
with the number of rows, and a resumed run draws what the uninterrupted one would have drawn.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Role(IntEnum):
    """What a draw is for."""

    INITIAL_WEIGHTS = 0
    TASK_SET = 1
    TASK_CHOICE = 2
    RESET = 3
    ACTION = 4
    BELIEF = 5
    LEARN = 6
    TASK_SWITCH = 7
    DEMONSTRATION = 8
    CURRICULUM = 9
    FLAW = 10  # of one episode's arm: delays, backlash, uneven control steps
    SENSOR_NOISE = 11


def generator(
    seed: int, iteration: int = 0, task: int = 0, role: Role = Role.RESET, count: int = 0
) -> np.random.Generator:
    """The numpy generator of one key. `count` tells repeated draws of one role apart."""
    return _Source().at(seed, iteration, task, role, count)


class _Source:
    """A Philox generator that begins anew at a key, for a tenth of what making one costs."""

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=0))
        # Philox maps a key of two words and a counter of four to random numbers; what is drawn
        # raises the counter's first word. (Salmon et al. 2011, "Parallel random numbers: as easy
        # as 1, 2, 3".)
        self._key, self._counter = np.zeros(2, np.uint64), np.zeros(4, np.uint64)
        self._state = {
            "bit_generator": "Philox", "state": {"key": self._key, "counter": self._counter},
            "buffer": np.zeros(4, np.uint64), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
        }

    def at(
        self, seed: int, iteration: int, task: int, role: Role, count: int
    ) -> np.random.Generator:
        """The generator at the beginning of a key; it is the same one for every key."""
        words = (seed, iteration, task, count)
        if min(words) < 0 or max(words) >= 2**63:
            raise ValueError(f"a random key needs words in [0, 2^63), got {list(words)}")
        self._key[0], self._key[1] = seed, iteration
        self._counter[1], self._counter[2], self._counter[3] = count, role, task
        self._generator.bit_generator.state = self._state
        return self._generator


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
    # Begins anew at a key for each draw: what it was used for before does not matter.
    _source: _Source = field(default_factory=_Source, repr=False, compare=False)

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
        words, replicas = self.words.numpy(), self.replicas
        rows = len(words) * replicas
        numbers = np.zeros((rows, *shape))
        wanted = np.arange(rows) if self.drawn is None else self.drawn.numpy().nonzero()[0]
        tasks, copies = np.divmod(wanted, replicas)
        counts = [count] * len(wanted) if isinstance(count, int) else count[wanted].tolist()
        keys = zip(words[tasks].tolist(), counts, strict=True)
        known: dict[tuple[int, ...], np.ndarray] = {}  # a task's numbers for all of its replicas
        for row, copy, (word, turn) in zip(wanted.tolist(), copies.tolist(), keys, strict=True):
            key = *word, turn
            if key not in known:
                seed, iteration, task = word
                source = self._source.at(seed, iteration, task, role, turn)
                known[key] = getattr(source, kind)((replicas, *shape))
            numbers[row] = known[key][copy]
        return torch.from_numpy(numbers)
