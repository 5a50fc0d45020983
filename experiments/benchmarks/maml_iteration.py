"""One MAML-TRPO iteration on cheetah-vel: 40 tasks x 20 rollouts x 2 episodes of 100 steps.

    python -m experiments.benchmarks.maml_iteration [--iterations 5]

Seconds of an iteration with one inner step (160,000 env steps), split into physics, acting and
learning as in `experiments.benchmarks.agents` (aim: at most 4 s on two cores). Medians over
iterations; the first one warms up.
"""

import argparse

from experiments.benchmarks.agents import alone, measured
from experiments.record import machine, record

_SETTINGS = {"config": {"tasks": 40, "rollouts": 20, "inner_steps": 1}, "family": {"horizon": 100}}


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=5, help="the first one warms up")
    options = parser.parse_args()
    if options.iterations < 2:
        raise SystemExit("--iterations must be at least 2: the first one warms up")
    cost = alone(measured, "maml", "cheetah-vel", options.iterations, _SETTINGS)
    print(machine())
    print(f"{cost.env_steps:,} env steps: {cost.total:.2f} s")
    for part, seconds in cost.seconds.items():
        print(f"  {part} {seconds:.2f} s")
        record("maml_iteration", f"seconds of {part} per iteration", "s", seconds)
    record("maml_iteration", "seconds per iteration", "s", cost.total)


if __name__ == "__main__":
    main()
