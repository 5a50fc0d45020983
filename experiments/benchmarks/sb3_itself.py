"""Whether the baselines are as strong as Stable-Baselines3 itself.

    python -m experiments.benchmarks.sb3_itself [--family cheetah-vel] [--seeds 1]

`blind` is SB3's SAC, given steps that metarl lived. Here SB3 lives them itself: `SAC.learn` through
`SB3VecEnv`, with as many rows, env steps and gradient steps, as large batches and networks, and the
same rates, targets and discount. Both are judged by an episode of mean actions in each test task.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecNormalize

from experiments.record import machine, record
from metarl import api
from metarl.agents.blind import Blind, Config
from metarl.cli.common import show, table
from metarl.envs import FAMILIES
from metarl.envs.faces import WorldVectorEnv
from metarl.envs.family import sample_tasks
from metarl.envs.sb3 import SB3VecEnv
from metarl.errors import unknown
from metarl.presets import preset
from metarl.run import Run


def main() -> None:
    """Train both, judge them, print a table and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", default="cheetah-vel")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    if options.family not in FAMILIES:
        raise SystemExit(str(unknown("family", options.family, FAMILIES)))
    settings = preset("blind", options.family)
    if "steps" not in settings["options"]:
        raise SystemExit(f"{options.family} has no preset to compare by; cheetah-vel has")
    config, steps = Config(**settings["config"]), int(settings["options"]["steps"])
    print(machine())
    shown = table("seed", "blind", "SAC.learn")
    for seed in range(options.seeds):
        ours, theirs = _ours(options.family, seed), _theirs(options.family, config, steps, seed)
        shown.add_row(str(seed), f"{ours:.1f}", f"{theirs:.1f}")
        record("sb3_itself", f"{options.family}, blind vs SAC.learn, seed {seed}, test tasks",
               "return", ours, theirs, ours / theirs)
    show(shown)


def _ours(family: str, seed: int) -> float:
    """What `blind` earns after `metarl train` as its preset has it."""
    with TemporaryDirectory() as folder:
        # Judged here, not while it trains.
        words = ["train", "blind", family, "--seed", str(seed), "--runs", folder,
                 "--evaluate-every", str(10**9)]
        subprocess.run([sys.executable, "-m", "metarl", *words], check=True)
        run = Run(next(Path(folder).glob("*/*/*/status.json")).parent)
        agent = api.trained(run)[1]
        assert isinstance(agent, Blind)
        return _earned(family, lambda obs: agent.act(torch.from_numpy(obs), None, None).numpy())


def _theirs(family: str, config: Config, steps: int, seed: int) -> float:
    """What SB3's SAC earns after its own `learn`, with other train tasks in each iteration."""
    c, made, random = config, api.build_family(family), np.random.default_rng(seed)
    tasks = sample_tasks(made, "train", made.task_counts[0])
    worlds = WorldVectorEnv(family, c.tasks, autoreset_mode="SameStep")
    rows, trial = VecNormalize(SB3VecEnv(worlds), norm_reward=False), c.episodes * made.horizon
    model = SAC(
        "MlpPolicy", rows, buffer_size=c.capacity, batch_size=c.batch, tau=c.target_rate,
        gamma=c.discount, train_freq=(trial, "step"), gradient_steps=c.updates, learning_starts=0,
        ent_coef=f"auto_{c.temperature}",
        target_entropy=-c.entropy * float(np.prod(rows.action_space.shape or 1)),
        policy_kwargs={"net_arch": [c.hidden] * c.layers}, seed=seed,
    )
    for i in range(-(-steps // (trial * c.tasks))):
        worlds.set_tasks(tasks[random.permutation(len(tasks))[: c.tasks]])
        rate = c.annealed(i)
        model.lr_schedule = lambda _, rate=rate: rate
        model.learn(trial * c.tasks)  # the trials of all rows, then the gradient steps
    return _earned(
        family, lambda obs: model.predict(_normalised(rows, obs), deterministic=True)[0])


def _normalised(rows: VecNormalize, obs: NDArray[Any]) -> NDArray[Any]:
    found = rows.normalize_obs(obs)
    assert isinstance(found, np.ndarray)
    return found


def _earned(family: str, act: Any) -> float:
    """The mean return of an episode in each test task, obs (N, O) -> actions (N, A)."""
    made = api.build_family(family)
    tasks = sample_tasks(made, "test", made.task_counts[1])
    worlds = WorldVectorEnv(family, len(tasks))
    worlds.set_tasks(tasks)
    obs, _ = worlds.reset(seed=0)
    earned, alive = np.zeros(len(tasks)), np.ones(len(tasks), bool)
    while alive.any():
        obs, reward, terminated, truncated, _ = worlds.step(act(obs))
        earned += reward * alive
        alive &= ~(terminated | truncated)
    return float(earned.mean())


if __name__ == "__main__":
    main()
