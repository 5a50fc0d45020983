"""PEARL on reach against what brackets it: the baselines on SB3's SAC, and a scripted oracle.

    python -m experiments.studies.reach [--seeds 0 1 2] [--agents pearl blind finetune scripted]

The baselines have as many env steps, gradient steps and units as PEARL.
"""

import argparse

from experiments.study import record, train_and_record
from metarl.envs import FAMILIES
from metarl.envs.expert import Expert
from metarl.envs.family import sample_tasks
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate

_FAMILY = "reach"
_TRAINED = ("pearl", "blind", "oracle", "finetune", "scratch")


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--agents", nargs="+", default=[*_TRAINED, "scripted"],
                        choices=[*_TRAINED, "scripted"])
    options = parser.parse_args()
    for agent in options.agents:
        if agent == "scripted":
            _scripted()
        else:
            train_and_record(agent, _FAMILY, options.seeds)


def _scripted() -> None:
    family = FAMILIES[_FAMILY]()
    for split in ("test", "ood"):
        tasks = sample_tasks(family, split, family.task_counts[1])
        worlds = Worlds(family, len(tasks))
        result = evaluate(worlds, Expert(worlds), tasks, 3, seed=0)
        record(_FAMILY, "oracle (scripted)", 0, split, result, 0, 0.0)


if __name__ == "__main__":
    main()
