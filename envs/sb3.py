"""The Stable-Baselines3 face of worlds."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from metarl.envs.faces import WorldVectorEnv
from metarl.errors import UserError


class SB3VecEnv(VecEnv):
    """N worlds for SB3's agents.

    Made as `SB3VecEnv(WorldVectorEnv("reach", 64, autoreset_mode="SameStep"))`. The family's
    measures arrive in the infos of an episode's last step, `success` as SB3's `is_success`. Raises
    UserError if the batch has another autoreset mode.
    """

    def __init__(self, env: WorldVectorEnv) -> None:
        if not isinstance(env, VectorEnv):
            raise UserError(f"{env!r} is no batch of worlds; make one: "
                            'WorldVectorEnv("reach", 64, autoreset_mode="SameStep")')
        if env.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            raise UserError("SB3 resets rows within a step; make the batch with "
                            'autoreset_mode="SameStep"')
        self.env = env
        self._actions = np.zeros(env.action_space.shape or (), np.float32)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        """obs (N, O) of a new episode in all rows."""
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        tasks = [options.get("task") for options in self._options]
        obs, _ = self.env.reset(seed=seeds, options={"tasks": tasks})
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (N, A) for step_wait."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """obs (N, O), rewards (N,), dones (N,) and one info for each row."""
        obs, reward, terminated, truncated, batched = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i] = {
                **_measures(batched["final_info"], int(i)),
                "terminal_observation": batched["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
            }
        return obs, reward.astype(np.float32), done, infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each row."""
        return self.env.render() or []

    def close(self) -> None:
        """Release the renderer."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The batch's attribute, once for each of the rows."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible: the rows are no separate objects."""
        raise NotImplementedError(f"rows have no attribute {attr_name} of their own; use .env")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Not possible: the rows are no separate objects."""
        raise NotImplementedError(f"rows have no method {method_name} of their own; use .env")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for every row."""
        return [False for _ in self._get_indices(indices)]


def _measures(final: dict[str, Any], row: int) -> dict[str, Any]:
    names = [name for name in final if not name.startswith("_") and final[f"_{name}"][row]]
    return {"is_success" if n == "success" else n: final[n][row].item() for n in names}
