"""The gymnasium faces of worlds: one world, and a batch of them.

`gymnasium.make("metarl/reach-v1")` and `gymnasium.make_vec("metarl/reach-v1", num_envs=8)` give
these. Both take the family's options, such as `horizon=100`, and `task={"payload": 2.0}`; a batch
also `autoreset_mode="SameStep"` (make_vec passes no vector_kwargs to environments of this kind).

A new episode keeps its task; a new task comes with a seed, or when asked for. Every row has its own
stream of random numbers, so that row i of a batch seeded with s lives what one world seeded with
s + i lives, however many rows there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs import FAMILIES
from metarl.envs.family import Family, draw_task, named_task, parse_task
from metarl.envs.worlds import Worlds
from metarl.errors import UserError, unknown
from metarl.randomness import Draws
from metarl.trial import Steps

# What a row may be told about its task at a reset: numbers (D,), {name: value}, "new", or nothing.
Choice = NDArray[np.float64] | Tensor | Mapping[str, float] | str | None
_BOUND = 1e10  # beyond it the engine calls a row diverged
_HEIGHT, _WIDTH = 480, 640  # pixels
_RENDER_MODES = ["rgb_array"]


class WorldEnv(gymnasium.Env[NDArray[Any], NDArray[Any]]):
    """One world with a hidden task.

    `reset(seed=...)` draws another task from the train range unless one was fixed, by `task` here
    or by `options={"task": {name: value}}`; a plain `reset()` keeps it; `options={"task": "new"}`
    draws another in any case. Parameters that a fixed task leaves out have their defaults. When an
    episode ends, `info` holds the family's measures, such as `success`, and `diverged` if the
    simulation did. Raises UserError for an unknown family, option or parameter.
    """

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES}  # noqa: RUF012 (gymnasium's way)

    def __init__(
        self,
        family: str,
        task: Mapping[str, float] | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.render_mode = _render_mode(render_mode)
        self._rows = _Rows(_family(family, options), 1, task, threads=1)
        self.metadata = self._rows.metadata()
        self.observation_space, self.action_space = self._rows.spaces()

    @property
    def task(self) -> dict[str, float]:
        """The hidden task."""
        return named_task(self._rows.worlds.family, self._rows.worlds.tasks[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new episode: obs (O,), and an empty info."""
        super().reset(seed=seed)
        choice = (options or {}).get("task")
        return self._rows.reset(np.ones(1, bool), [seed], [choice], self.np_random)[0], {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """obs (O,), reward, terminated, truncated and info after one action (A,) in [-1, 1]."""
        steps = self._rows.step(np.asarray(action)[None])
        info = {name: values[0].item() for name, (values, _) in self._rows.measures(steps).items()}
        terminated = bool(steps.terminated)
        truncated = bool(steps.last) and not terminated
        return steps.next_obs[0].numpy().copy(), float(steps.reward), terminated, truncated, info

    def render(self) -> Any:
        """A picture (480, 640, 3) uint8, or None without render_mode="rgb_array"."""
        return self._rows.picture(0) if self.render_mode else None

    def close(self) -> None:
        """Release the renderer."""
        self._rows.close()


class WorldVectorEnv(gymnasium.vector.VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """N worlds in one process, each with its own hidden task; see WorldEnv.

    Offers all three autoreset modes. `options={"task": ...}` speaks to all rows that are reset, and
    `options={"tasks": [...]}` to each of the N for itself, with numbers (D,), a mapping, "new" or
    None; `options={"reset_mask": (N,) bool}` resets some rows only. Options are never changed.
    """

    def __init__(
        self,
        family: str,
        num_envs: int = 1,
        task: Mapping[str, float] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        threads: int = 0,
        **options: Any,
    ) -> None:
        self.num_envs = num_envs
        self.render_mode = _render_mode(render_mode)
        self._rows = _Rows(_family(family, options), num_envs, task, threads)
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self._rows.metadata(), "autoreset_mode": self._mode}
        self.single_observation_space, self.single_action_space = self._rows.spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, bool)

    def get_tasks(self) -> NDArray[np.float64]:
        """The hidden tasks, (N, D)."""
        return self._rows.worlds.tasks.numpy().copy()

    def set_tasks(self, tasks: NDArray[np.float64] | Tensor) -> None:
        """Give row i task i of (N, D), at once and for good: reset after it."""
        self._rows.choose(np.ones(self.num_envs, bool), list(np.asarray(tasks)))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new episode in all rows or in the masked ones: obs (N, O), and an empty info."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        options = options or {}
        mask = _reset_mask(options.get("reset_mask"), self.num_envs)
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        else:
            seeds = _one_per_row("seed", seed, self.num_envs)
        each = options.get("tasks", [options.get("task")] * self.num_envs)
        choices = _one_per_row("options['tasks']", each, self.num_envs)
        self._ended = self._ended & ~mask
        return self._rows.reset(mask, seeds, choices, self.np_random), {}

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """obs (N, O), reward, terminated and truncated (N,), and infos after actions (N, A)."""
        mask = None
        if self._ended.any():
            if self._mode is AutoresetMode.DISABLED:
                raise UserError(
                    f"rows {np.flatnonzero(self._ended).tolist()} have ended their episodes; "
                    "reset them first, with options={'reset_mask': ...}"
                )
            self._rows.reset_again(self._ended)
            mask = ~self._ended
        steps = self._rows.step(actions, mask)
        terminated, last = steps.terminated.numpy(), steps.last.numpy()
        obs, infos = steps.next_obs.numpy().copy(), self._infos(steps)
        if self._mode is not AutoresetMode.SAME_STEP:
            self._ended = last
        elif last.any():
            infos = {"final_info": infos, "_final_info": last.copy(),
                     "final_obs": _objects(obs, last), "_final_obs": last.copy()}
            obs = self._rows.reset_again(last)
        reward = steps.reward.numpy().astype(np.float64)
        return obs, reward, terminated.copy(), last & ~terminated, infos

    def _infos(self, steps: Steps) -> dict[str, Any]:
        infos = {}
        for name, (values, mask) in self._rows.measures(steps).items():
            infos[name], infos[f"_{name}"] = values, mask
        return infos

    def render(self) -> tuple[Any, ...] | None:
        """Pictures (480, 640, 3) uint8 of all rows, or None without render_mode="rgb_array"."""
        if not self.render_mode:
            return None
        return tuple(self._rows.picture(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the renderer."""
        self._rows.close()


class _Rows:
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
        self._camera: _Camera | None = None
        self.choose(self._everywhere, [task] * rows)

    def metadata(self) -> dict[str, Any]:
        return {
            "render_modes": _RENDER_MODES, "render_fps": round(1 / self.worlds.family.control_step)
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
        return task

    def step(self, actions: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Steps:
        action = torch.from_numpy(np.array(actions, np.float32))
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
        model, data = self.worlds.engine.row(row)
        self._camera = self._camera or _Camera(model)
        return self._camera.picture(model, data)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None


class _Camera:
    """Draws rows, whose models differ, with one renderer."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
        self._view, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        names = [model.camera(i).name for i in range(model.ncam)]
        chosen = [name for name in ("view", "track") if name in names]
        if chosen:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = model.camera(chosen[0]).id
        else:
            mujoco.mjv_defaultFreeCamera(model, self._view)

    def picture(self, model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.uint8]:
        # Renderer.update_scene knows the model it was made with, not the row's own.
        mujoco.mjv_updateScene(
            model, data, self._options, None, self._view, mujoco.mjtCatBit.mjCAT_ALL,
            self._renderer.scene,
        )
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


def _family(name: str, options: Mapping[str, Any]) -> Family:
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    chosen: Any = FAMILIES[name]
    known = [field.name for field in fields(chosen)]
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return chosen(**options)


def _render_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in _RENDER_MODES:
        raise unknown("render mode", mode, _RENDER_MODES)
    return mode


def _reset_mask(mask: Any, rows: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(rows, bool)
    mask = np.asarray(mask)
    if mask.shape != (rows,) or mask.dtype != np.bool_ or not mask.any():
        raise UserError(f"options['reset_mask'] must be a boolean array ({rows},) with at least "
                        f"one True, got {mask!r}")
    return mask


def _one_per_row(name: str, values: Any, rows: int) -> list[Any]:
    if len(values) != rows:
        raise UserError(f"{name} must have one entry for each of the {rows} rows, "
                        f"got {len(values)}")
    return list(values)


def _objects(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.object_]:
    """An object array (N,) of the masked rows' arrays, None elsewhere."""
    objects = np.full(len(mask), None, dtype=object)
    for i in np.flatnonzero(mask):
        objects[i] = values[i].copy()
    return objects
