"""The gymnasium faces of worlds: one world, and a batch of them.

`gymnasium.make("metarl/reach-v1")` and `gymnasium.make_vec("metarl/reach-v1", num_envs=8)` give
these; `WorldEnv(MyFamily())` is one of your own. All take the family's options, such as
`horizon=100`, and `task={"payload": 2.0}`; a batch also `autoreset_mode="SameStep"` (make_vec
passes no vector_kwargs to environments of this kind).

A new episode keeps its task; a new task comes with a seed, or when asked for. Every row has its own
stream of random numbers, so that row i of a batch seeded with s lives what one world seeded with
s + i lives, however many rows there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs import FAMILIES
from metarl.envs.family import Family, named_task
from metarl.envs.rows import RENDER_MODES, Rows
from metarl.errors import UserError, unknown
from metarl.trial import Steps


class WorldEnv(gymnasium.Env[NDArray[Any], NDArray[Any]]):
    """One world with a hidden task.

    `reset(seed=...)` draws another task from the train range unless one was fixed, by `task` here
    or by `options={"task": {name: value}}`; a plain `reset()` keeps it; `options={"task": "new"}`
    draws another in any case. Parameters that a fixed task leaves out have their defaults. When an
    episode ends, `info` holds the family's measures, such as `success`, and `diverged` if the
    simulation did. Raises UserError for an unknown family, option or parameter.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012 (gymnasium's way)

    def __init__(
        self,
        family: str | Family,
        task: Mapping[str, float] | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.render_mode = _render_mode(render_mode)
        self._rows = Rows(_family(family, options), 1, task, threads=1)
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
        family: str | Family,
        num_envs: int = 1,
        task: Mapping[str, float] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        threads: int = 0,
        **options: Any,
    ) -> None:
        self.num_envs = num_envs
        self.render_mode = _render_mode(render_mode)
        self._rows = Rows(_family(family, options), num_envs, task, threads)
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
        each = _one_per_row("tasks", list(np.asarray(tasks)), self.num_envs)
        self._rows.choose(np.ones(self.num_envs, bool), each)

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


def _family(family: str | Family, options: Mapping[str, Any]) -> Family:
    if isinstance(family, type):
        raise UserError(f"{family.__name__} is a class; make one: {family.__name__}()")
    if isinstance(family, str) and ":" in family:
        raise UserError(f"{family!r} is not imported here; import it, and give one in place of "
                        f"its name: {family.rpartition(':')[2]}()")
    if isinstance(family, str) and family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    made: Any = FAMILIES[family]() if isinstance(family, str) else family
    known = [field.name for field in fields(made)]
    for option in options:
        if option not in known:
            raise unknown(f"option of {made.name}", option, known)
    return replace(made, **options)


def _render_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in RENDER_MODES:
        raise unknown("render mode", mode, RENDER_MODES)
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
