"""Where an agent's time goes: a meta-iteration at its reference sizes, and one update of PEARL.

    python -m experiments.benchmarks.agents [AGENT ...] [--family cheetah-vel] [--iterations 4]
    python -m experiments.benchmarks.agents pearl-update

For every agent, each in a process of its own: seconds of an iteration with the settings that it is
trained with on the family, split into physics (everything inside the worlds), acting (the actor,
the beliefs with what they infer, the recording) and learning; and the peak memory of the process.
Medians over iterations. `scratch` is left out: it learns when it is judged, not before.

`pearl-update`: an update at 16 tasks x 256 rows and networks of 3 x 300 units, against the same
update as a plain loop over tasks, and against nothing but the matrix products that it consists of
(aim: at most 1.2 times their time). Rounds of the three alternate.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from experiments.benchmarks.pearl_update import methods
from experiments.record import machine, record
from metarl.agents import AGENTS
from metarl.cli.common import show, table
from metarl.collect import Tasks, collect
from metarl.envs import FAMILIES
from metarl.envs.family import sample_tasks
from metarl.envs.worlds import Worlds
from metarl.errors import unknown
from metarl.machine import keep_freed_memory
from metarl.presets import preset
from metarl.randomness import Draws
from metarl.train import acting_threads

_LEARNERS = [name for name in AGENTS if name != "scratch"]
_UPDATE = "pearl-update"
_PARTS = ("physics", "acting", "learning")


@dataclass(frozen=True)
class Cost:
    """What an iteration of an agent costs."""

    seconds: dict[str, float]  # of each part
    env_steps: int
    memory: float  # MiB, peak of the process

    @property
    def total(self) -> float:
        """Seconds of an iteration."""
        return sum(self.seconds.values())


def main() -> None:
    """Measure, print a table and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=f"all and {_UPDATE} by default")
    parser.add_argument("--family", default="cheetah-vel", help="that the agents are trained on")
    parser.add_argument("--iterations", type=int, default=4, help="the first one warms up")
    options = parser.parse_args()
    names = options.agents or [*_LEARNERS, _UPDATE]
    for name in names:
        if name not in (*_LEARNERS, _UPDATE):
            raise SystemExit(str(unknown("agent", name, [*_LEARNERS, _UPDATE])))
    if options.family not in FAMILIES:
        raise SystemExit(str(unknown("family", options.family, FAMILIES)))
    if options.iterations < 2:
        raise SystemExit("--iterations must be at least 2: the first one warms up")
    print(machine())
    shown = table("agent", "env steps", *(f"{part} [s]" for part in _PARTS), "total [s]",
                  "steps/s", "memory [MiB]")
    for name in (n for n in names if n != _UPDATE):
        cost = alone(measured, name, options.family, options.iterations)
        _record(f"{name} on {options.family}", cost)
        shown.add_row(name, f"{cost.env_steps:,}", *(f"{cost.seconds[p]:.2f}" for p in _PARTS),
                      f"{cost.total:.2f}", f"{cost.env_steps / cost.total:,.0f}",
                      f"{cost.memory:,.0f}")
        print(f"{name}: {cost.total:.2f} s an iteration", flush=True)
    if shown.row_count:
        show(shown)
    if _UPDATE in names:
        alone(_pearl_update, 5 * options.iterations)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, whose peak memory is its own, set up as it is
    for training."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=keep_freed_memory) as pool:
        return pool.submit(function, *arguments).result()


def _record(what: str, cost: Cost) -> None:
    for part, seconds in cost.seconds.items():
        record("agents", f"{what}: seconds of {part} per iteration", "s", seconds)
    record("agents", f"{what}: seconds per iteration", "s", cost.total)
    record("agents", f"{what}: speed all in", "env steps/s", cost.env_steps / cost.total)
    record("agents", f"{what}: peak memory", "MiB", cost.memory)


def measured(
    name: str, family_name: str, iterations: int,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Cost:
    """The cost of an agent's iterations, but for the first, with the `config` and the `family` of
    its preset, or of these settings."""
    settings = settings or preset(name, family_name)
    family = FAMILIES[family_name](**settings["family"])
    made = AGENTS[name]
    shapes = Worlds(family, 1).shapes
    agent = made(made.Config(**settings["config"]), shapes, 0, torch.device("cpu"))
    plan = agent.plan
    worlds = Worlds(family, plan.tasks * plan.replicas)
    physics = _timed(worlds, "set_tasks", "reset", "step")
    tasks = Tasks(sample_tasks(family, "train", plan.tasks), torch.arange(plan.tasks),
                  plan.replicas)
    spent: dict[str, list[float]] = {part: [] for part in _PARTS}
    for iteration in range(iterations):
        physics.clear()
        began = time.perf_counter()
        draws = Draws.of(0, iteration, tasks.index, plan.replicas)
        with acting_threads():
            trial, _ = collect(worlds, agent, tasks, plan.episodes, draws)
        collected = time.perf_counter()
        agent.learn(trial, 0, iteration)
        spent["physics"].append(sum(physics))
        spent["acting"].append(collected - began - sum(physics))
        spent["learning"].append(time.perf_counter() - collected)
    seconds = {part: statistics.median(values[1:]) for part, values in spent.items()}
    return Cost(seconds, plan.env_steps(family.horizon), _peak_memory())


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


def _peak_memory() -> float:
    """MiB that this process held at most."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _pearl_update(rounds: int) -> None:
    """Time PEARL's update against its rivals, but for the first round; print and record."""
    timed = methods()
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, update in timed.items():
            began = time.perf_counter()
            update()
            seconds[name].append(time.perf_counter() - began)
    ours, *others = timed
    shown = table("one update of PEARL", "ms", "x ours")
    for name in timed:
        value = statistics.median(seconds[name][1:])
        ratio = statistics.median(
            a / b for a, b in zip(seconds[name][1:], seconds[ours][1:], strict=True)
        )
        shown.add_row(name, f"{1e3 * value:.1f}", f"{ratio:.2f}")
        if name in others:
            record("agents", f"pearl update 16 x 256 rows, 3 x 300 units vs {name}", "s",
                   statistics.median(seconds[ours][1:]), value, ratio)
    show(shown)


if __name__ == "__main__":
    main()
