"""One MAML-TRPO iteration on cheetah-vel: 40 tasks x 20 rollouts x 2 episodes of 100 steps.

Where the time goes: physics (everything inside the worlds), acting (the actor, the beliefs with
their inner step, the recording) and the update. Medians over iterations.

    python -m experiments.benchmarks.maml_iteration
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from experiments.record import record
from metarl.agents.maml import Maml
from metarl.collect import Tasks, collect
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import sample_tasks
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws
from metarl.train import acting_threads

_ITERATIONS = 5  # the first one warms up and is not counted
_HORIZON = 100


def main() -> None:
    """Print and record the times of an iteration."""
    family = CheetahVel(horizon=_HORIZON)
    config = Maml.Config()
    rows = config.tasks * config.rollouts
    worlds = Worlds(family, rows)
    agent = Maml(config, worlds.shapes, 0, torch.device("cpu"))
    values = sample_tasks(family, "train", config.tasks)
    tasks = Tasks(values, torch.arange(config.tasks), config.rollouts)
    physics = _timed(worlds, "set_tasks", "reset", "step")
    measured: dict[str, list[float]] = {"physics": [], "acting": [], "update": [], "total": []}
    for iteration in range(_ITERATIONS):
        physics.clear()
        start = time.perf_counter()
        draws = Draws.of(0, iteration, tasks.index, config.rollouts)
        with acting_threads():
            trial, _ = collect(worlds, agent, tasks, agent.plan.episodes, draws)
        collected = time.perf_counter()
        agent.learn(trial, 0, iteration)
        done = time.perf_counter()
        spent = (
            sum(physics), collected - start - sum(physics), done - collected, done - start
        )
        print("  ".join(f"{n} {s:.2f} s" for n, s in zip(measured, spent, strict=True)))
        for name, seconds in zip(measured, spent, strict=True):
            measured[name].append(seconds)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in measured.items()}
    for name, seconds in medians.items():
        figure = "seconds per iteration" if name == "total" else f"seconds of {name} per iteration"
        record("maml_iteration", figure, "s", seconds)


def _timed(owner: Any, *names: str) -> list[float]:
    """Wrap methods of an object; the seconds of each of their calls will be in the list."""
    spent: list[float] = []

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = method(*args, **kwargs)
            spent.append(time.perf_counter() - start)
            return result

        return timed

    for name in names:
        setattr(owner, name, wrap(getattr(owner, name)))
    return spent


if __name__ == "__main__":
    main()
