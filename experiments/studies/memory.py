"""The agents that remember, on the cheetahs (H 200): return of a trial's first two episodes.

    python -m experiments.studies.memory [cheetah-dir cheetah-vel] [--agents rl2 recurrent-sac ...]
        [--seeds 0 1 2] [--steps 100000000] [--device cpu]

cheetah-dir has no tasks beyond its two; of cheetah-vel, speeds held out and beyond the range are
judged. A run that was stopped goes on, one that is done is not repeated.
"""

import argparse

from experiments.study import train_and_record
from metarl.envs.family import Split

_AGENTS = {  # label -> agent, and what it is told on the command line
    "rl2": ("rl2", []),
    "rl2 (transformer)": ("rl2", ["--config.memory", "transformer", "--config.state", "64"]),
    "varibad": ("varibad", []),
    "varibad (hypernetwork)": ("varibad", ["--config.hypernetwork", "32"]),
    "recurrent-sac": ("recurrent-sac", []),
}
_SPLITS: dict[str, tuple[Split, ...]] = {"cheetah-dir": ("test",), "cheetah-vel": ("test", "ood")}


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=[*_SPLITS])
    parser.add_argument("--agents", nargs="+", default=[*_AGENTS], choices=[*_AGENTS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", help="env steps, instead of the preset's")
    options = parser.parse_args()
    shared = ["--device", options.device, *(["--steps", options.steps] if options.steps else [])]
    for family in options.families:
        for label in options.agents:
            agent, flags = _AGENTS[label]
            train_and_record(agent, family, options.seeds, [*flags, *shared], label,
                             _SPLITS[family], episodes=2)


if __name__ == "__main__":
    main()
