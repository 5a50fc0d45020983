"""PEARL on cheetah-vel: return after 2 episodes on 30 held-out target speeds.

    python -m experiments.studies.cheetah_vel [--seeds 0 1 2] [--device cpu]
"""

import argparse

from experiments.study import train_and_record


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    train_and_record("pearl", "cheetah-vel", options.seeds, ["--device", options.device])


if __name__ == "__main__":
    main()
