"""PEARL on reach against what brackets it: the baselines on SB3's SAC, and a scripted oracle.

    python -m experiments.studies.reach [--seeds 0 1 2] [--agents pearl blind finetune scripted]

The baselines have as many env steps, gradient steps and units as PEARL.
"""

import argparse

from experiments.study import record_scripted, train_and_record

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
            record_scripted(_FAMILY)
        else:
            train_and_record(agent, _FAMILY, options.seeds)


if __name__ == "__main__":
    main()
