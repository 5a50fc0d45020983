"""PEARL on reach against the two that bracket it: a task-blind policy and a scripted oracle.

    python -m experiments.studies.reach [--seeds 0 1 2] [--agents pearl blind oracle]

The blind policy is Stable-Baselines3's SAC on the same train tasks, with as many env steps and
gradient steps as PEARL.
"""

import argparse
import time

import numpy as np
import torch
from stable_baselines3 import SAC
from torch import Tensor

from experiments.study import judge, record, train_and_record
from metarl.agent import Fixed
from metarl.agents.pearl import Config
from metarl.envs import FAMILIES
from metarl.envs.expert import Expert
from metarl.envs.faces import WorldVectorEnv
from metarl.envs.family import sample_tasks
from metarl.envs.sb3 import SB3VecEnv
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate
from metarl.presets import preset

_FAMILY = "reach"
_ROWS = 50


class Blind(Fixed):
    """SB3's policy: it infers nothing."""

    def __init__(self, sac: SAC) -> None:
        self._sac = sac

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        """Actions (N, A)."""
        action, _ = self._sac.predict(obs.numpy(), deterministic=noise is None)
        return torch.from_numpy(action)


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--agents", nargs="+", default=["pearl", "blind", "oracle"],
                        choices=["pearl", "blind", "oracle"])
    options = parser.parse_args()
    if "pearl" in options.agents:
        train_and_record("pearl", _FAMILY, options.seeds)
    if "blind" in options.agents:
        for seed in options.seeds:
            _blind(seed)
    if "oracle" in options.agents:
        _oracle()


def _oracle() -> None:
    family = FAMILIES[_FAMILY]()
    for split in ("test", "ood"):
        tasks = sample_tasks(family, split, family.task_counts[1])
        worlds = Worlds(family, len(tasks))
        result = evaluate(worlds, Expert(worlds), tasks, 3, seed=0)
        record(_FAMILY, "oracle (scripted)", 0, split, result, 0, 0.0)


def _blind(seed: int) -> None:
    start = preset("pearl", _FAMILY)
    steps, config = start["options"]["steps"], Config(**start["config"])
    family = FAMILIES[_FAMILY]()
    env = WorldVectorEnv(_FAMILY, _ROWS, autoreset_mode="SameStep")
    train = sample_tasks(family, "train", family.task_counts[0])
    per_iteration = config.tasks * config.episodes * family.horizon
    sac = SAC(
        "MlpPolicy", SB3VecEnv(env), seed=seed, device="cpu", gamma=config.discount,
        learning_rate=5e-4, buffer_size=steps, ent_coef="auto_0.1",
        batch_size=config.batch_tasks * config.batch, learning_starts=per_iteration,
        train_freq=family.horizon,
        gradient_steps=round(config.updates * _ROWS * family.horizon / per_iteration),
        policy_kwargs={"net_arch": [config.hidden] * 2},
    )
    began = time.monotonic()
    # Half of the train tasks at a time; each chunk is a whole number of episodes.
    chunk = 10 * _ROWS * family.horizon
    for i in range(-(-steps // chunk)):
        half = np.arange(i * _ROWS, (i + 1) * _ROWS) % len(train)
        env.set_tasks(train[half])
        sac.learn(chunk, reset_num_timesteps=i == 0)
    wall = time.monotonic() - began
    for split in ("test", "ood"):
        result = judge(family, Blind(sac), split, 3)
        record(_FAMILY, "blind (SB3 SAC)", seed, split, result, sac.num_timesteps, wall)


if __name__ == "__main__":
    main()
