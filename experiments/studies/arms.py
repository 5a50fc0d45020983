"""PEARL on the arm families that need touch: success after 1, 2 and 3 episodes, held out and ood.

    python -m experiments.studies.arms [insert push ...] [--seeds 0 1 2] [--agents pearl scripted]

The scripted policy is told the task; it shows what can be had.
"""

import argparse

from experiments.study import record_scripted, train_and_record


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=["insert", "push"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--agents", nargs="+", default=["scripted", "pearl"])
    options = parser.parse_args()
    for family in options.families:
        for agent in options.agents:
            if agent == "scripted":
                record_scripted(family)
            else:
                train_and_record(agent, family, options.seeds)


if __name__ == "__main__":
    main()
