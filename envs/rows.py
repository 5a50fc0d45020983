"""Rows of worlds as gymnasium's faces need them: each with a seed of its own, and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.camera import Camera
from metarl.envs.family import Family, draw_task, parse_task
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.trial import Steps

# What a row may be told about its task at a reset: numbers (D,), {name: value}, "new", or nothing.
Choice = NDArray[np.float64] | Tensor | Mapping[str, float] | str | None
RENDER_MODES = ["rgb_array"]
_BOUND = 1e10  # beyond it the engine calls a row diverged


class Rows:
    """Worlds of which each row has its own seed, and starts its episodes from nothing else."""

    def __init__(
        self, family: Family, rows: int, task: Mapping[str, float] | None, threads: int
    ) -> None:
        self.worlds = Worlds(family, rows, threads)
        self._everywhere = np.ones(rows, bool)
        self._words = torch.zeros(rows, 3, dtype=torch.long)  # seed, episodes before this one, 0
        self._seeded = np.zeros(rows, bool)
        self._drawn = np.zeros(rows, int)  # tasks drawn since the seed
        self._fixed = np.zeros(rows, bool)
        self._camera: Camera | None = None
        self.choose(self._everywhere, [task] * rows)

    def metadata(self) -> dict[str, Any]:
        """What gymnasium asks of an environment: its render modes and frames per second."""
        return {
            "render_modes": RENDER_MODES, "render_fps": round(1 / self.worlds.family.control_step)
        }

    def spaces(self) -> tuple[Box, Box]:
        """The spaces of one row's observations and actions."""
        shapes = self.worlds.shapes
        return Box(-_BOUND, _BOUND, (shapes.obs,)), Box(-1.0, 1.0, (shapes.action,))

    def reset(
        self, mask: NDArray[np.bool_], seeds: Sequence[int | None], choices: Sequence[Choice],
        entropy: np.random.Generator,
    ) -> NDArray[np.float32]:
        """A new episode in the masked rows, with new seeds where there are any: obs (N, O)."""
        self._words[torch.from_numpy(mask), 1] += 1
        new = np.zeros(len(mask), bool)
        for i in np.flatnonzero(mask).tolist():
            seed = seeds[i]
            if seed is None and not self._seeded[i]:
                seed = int(entropy.integers(2**32))
            if seed is not None:
                self._words[i] = torch.tensor([seed % 2**32, 0, 0])
                self._seeded[i], self._drawn[i] = True, 0
                new[i] = not self._fixed[i]
        self.choose(mask, ["new" if new[i] and c is None else c for i, c in enumerate(choices)])
        return self._start(mask)

    def reset_again(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """A new episode of the same task in the masked rows: obs (N, O)."""
        self._words[torch.from_numpy(mask), 1] += 1
        return self._start(mask)

    def _start(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        draws = Draws(self._words.clone())
        return self.worlds.reset(torch.from_numpy(mask), draws).numpy().copy()

    def choose(self, mask: NDArray[np.bool_], choices: Sequence[Choice]) -> None:
        """Give the masked rows the tasks chosen for them."""
        tasks = self.worlds.tasks.clone()
        for i in np.flatnonzero(mask).tolist():
            choice = choices[i]
            if choice is not None:
                self._fixed[i] = not isinstance(choice, str)
                tasks[i] = self._task(i, choice)
        if not torch.equal(tasks, self.worlds.tasks):
            self.worlds.set_tasks(tasks)

    def _task(self, row: int, choice: Choice) -> Tensor:
        family = self.worlds.family
        if isinstance(choice, Mapping):
            words = [f"{name}={value}" for name, value in choice.items()]
            return parse_task(family, words, lambda warning: None)
        if isinstance(choice, str):
            if choice != "new":
                raise UserError(f"task {choice!r} is neither \"new\" nor a mapping of parameters")
            self._drawn[row] += 1
            return draw_task(family, "train", int(self._drawn[row]) - 1, int(self._words[row, 0]))
        task = torch.as_tensor(choice, dtype=torch.float64)
        if task.shape != (len(family.parameters),):
            raise UserError(f"a task of {family.name} has {len(family.parameters)} numbers, "
                            f"got the shape {tuple(task.shape)}")
        words = [f"{p.name}={float(value)!r}"
                 for p, value in zip(family.parameters, task, strict=True)]
        return parse_task(family, words, lambda warning: None)

    def step(self, actions: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Steps:
        """One control step of the masked rows with actions (N, A), without autoreset."""
        action = torch.from_numpy(np.array(actions, np.float32))
        wanted = (self.worlds.rows, self.worlds.shapes.action)
        if action.shape != wanted:
            raise UserError(f"actions of the rows have the shape {tuple(action.shape)}; those of "
                            f"{self.worlds.family.name} must be {wanted}")
        rows = None if mask is None else torch.from_numpy(mask)
        return self.worlds.step(action, rows, autoreset=False)

    def measures(self, steps: Steps) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
        """What is to be told of the episodes that ended: values (N,), and the rows they are of."""
        found: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        for name, measure in steps.outcome.items():
            values = measure.numpy().astype(np.float64)
            known = ~np.isnan(values)
            if known.any():
                found[name] = np.where(known, values, 0.0), known
        diverged = self.worlds.diverged.numpy()
        if diverged.any():
            found["diverged"] = diverged.copy(), diverged.copy()
        return found

    def picture(self, row: int) -> NDArray[np.uint8]:
        """A row as it looks now: (480, 640, 3)."""
        model, data = self.worlds.engine.row(row)
        self._camera = self._camera or Camera(model)
        return self._camera.picture(model, data)

    def close(self) -> None:
        """Release the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
