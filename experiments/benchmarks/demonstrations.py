"""Trained runs conditioned on episodes of the scripted expert, beside what they make of their own.

    python -m experiments.benchmarks.demonstrations RUN... [--label WORDS]

Success of the episode after 1, 3 and 5 demonstrations; the baseline is that of a third episode of
the run's own, or of a third round. For agents of one row per task, and those that imitate.
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.record import record
from metarl import api
from metarl.agent import Agent, Imitates
from metarl.collect import Tasks, collect
from metarl.envs.expert import Expert
from metarl.envs.family import Family, Split, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.evaluate import EVALUATION, evaluate
from metarl.randomness import Draws
from metarl.run import Run
from metarl.train import acting_threads
from metarl.trial import Steps, Trial

_COUNTS = (1, 3, 5)
_SPLITS: tuple[Split, ...] = ("test", "ood")


def main() -> None:
    """Condition, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--label", default="pearl")
    options = parser.parse_args()
    for path in options.runs:
        run = Run(path)
        family, agent, at = api.trained(run)
        for split in _SPLITS:
            own = alone(family, agent, split)
            for count, success in after(family, agent, split).items():
                record("demonstrations", f"{family.name} {options.label} seed {run.config['seed']} "
                       f"at {at.step} steps, {split} success after {count}", "1", success, own)
                print(path.name, split, count, f"{success:.2f}", f"own {own:.2f}", flush=True)


def alone(family: Family, agent: Agent, split: Split) -> float:
    """Success over the split's tasks in a third episode of the agent's own."""
    values = sample_tasks(family, split, family.task_counts[1])
    with acting_threads():
        worlds = Worlds(family, len(values) * agent.plan.replicas)
        judged = evaluate(worlds, agent, values, 3, seed=0)
    return judged.outcomes["success"][-1].mean().item()


@torch.no_grad()
def after(family: Family, agent: Agent, split: Split) -> dict[int, float]:
    """Success over the split's tasks after so many demonstrations."""
    values = sample_tasks(family, split, family.task_counts[1])
    count, worlds = len(values), Worlds(family, len(values))
    tasks, found = Tasks(values, torch.arange(count)), {}
    with acting_threads():
        shown, _ = collect(worlds, Expert(worlds), tasks, max(_COUNTS),
                           Draws.of(0, EVALUATION + 3, count), noise=False)
        if isinstance(agent, Imitates):
            return _imitating(family, agent, values, shown)
        belief = agent.prior(values, 1, Draws.of(0, EVALUATION + 1, count))
        for t in range(len(shown)):
            belief = agent.infer(belief, shown.step(t))
            number, rest = divmod(t + 1, family.horizon)
            if rest == 0 and number in _COUNTS:
                judged, _ = collect(worlds, agent, tasks, 1, Draws.of(0, EVALUATION + 2, count),
                                    noise=False, belief=belief)
                found[number] = judged.outcomes(1)["success"].mean().item()
    return found


def _imitating(
    family: Family, agent: Any, values: Tensor, shown: Trial
) -> dict[int, float]:
    """The same of an agent that imitates the episodes of each of M tasks, (T, M)."""
    rows, found = agent.plan.replicas, {count: 0.0 for count in _COUNTS}
    worlds, names = Worlds(family, rows), [f.name for f in fields(Steps)[:6]]
    for i in range(len(values)):
        draws = [Draws.of(0, EVALUATION + k, torch.tensor([i]), rows) for k in (1, 2)]
        task = Tasks(values[i : i + 1], torch.tensor([i]), rows)
        belief = agent.prior(task.values, rows, draws[0])
        for number in range(1, max(_COUNTS) + 1):
            lived = slice((number - 1) * family.horizon, number * family.horizon)
            belief = agent.imitate(
                belief, Steps(**{name: getattr(shown, name)[lived, i] for name in names}))
            if number in _COUNTS:
                judged, _ = collect(worlds, agent, task, 1, draws[1], noise=False, belief=belief)
                found[number] += judged.outcomes(1)["success"].mean().item() / len(values)
    return found


if __name__ == "__main__":
    main()
