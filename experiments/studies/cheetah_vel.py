"""PEARL on cheetah-vel: return after 2 episodes on 30 held-out target speeds.

    python -m experiments.studies.cheetah_vel [--seeds 0 1 2] [--device cpu] [--steps 440000]
"""

import argparse

from experiments.study import train_and_record


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", help="env steps, instead of the preset's")
    options = parser.parse_args()
    flags = ["--device", options.device]
    flags += ["--steps", options.steps] if options.steps else []
    train_and_record("pearl", "cheetah-vel", options.seeds, flags)


if __name__ == "__main__":
    main()
