"""MAML on cheetah-vel (H 100): return before and after one inner step on held-out target speeds.

    python -m experiments.studies.cheetah_vel_maml [--seeds 0]
"""

import argparse

from experiments.study import train_and_record


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    train_and_record("maml", "cheetah-vel", options.seeds, label="maml (H 100)", episodes=2)


if __name__ == "__main__":
    main()
