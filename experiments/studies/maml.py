"""MAML and its relatives: return, and success, after 0, 1, 2 and 3 inner steps on held-out tasks.

    python -m experiments.studies.maml [cheetah-dir reach ...] [--agents maml promp ...] [--seeds 0]

Row k + 1 of the scores is what the rollouts earn after k gradient steps, each on rollouts of its
own. On cheetahs episodes have 100 steps, as in the literature.
"""

import argparse

from experiments.study import train_and_record
from metarl.envs import FAMILIES
from metarl.errors import unknown
from metarl.presets import preset

# How each of them differs from MAML with TRPO.
RELATIVES: dict[str, list[str]] = {
    "maml": [],
    "fomaml": ["--config.first-order"],
    "anil": ["--config.head-only"],
    "meta-sgd": ["--config.learned-rates"],
    "maml-ppo": ["--config.outer", "ppo"],
    "promp": ["--config.outer", "promp"],
    "reptile": ["--config.outer", "reptile"],
}
_FAMILIES = ["cheetah-dir", "cheetah-vel", "reach", "push", "insert"]


def main() -> None:
    """Train, judge, record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=_FAMILIES, metavar="FAMILY",
                        help=f"{', '.join(_FAMILIES)} by default")
    parser.add_argument("--agents", nargs="+", default=["maml", "promp"], metavar="AGENT",
                        help=f"some of {', '.join(RELATIVES)}; maml and promp by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", help="env steps, instead of the preset's")
    options = parser.parse_args()
    for kind, names, known in (("family", options.families, FAMILIES),
                               ("agent", options.agents, RELATIVES)):
        for name in names:
            if name not in known:
                raise SystemExit(str(unknown(kind, name, known)))
    budget = ["--steps", options.steps] if options.steps else []
    for family in options.families:
        # Cheetahs under MAML live half as long as under other agents: not the same figures.
        horizon = preset("maml", family)["family"].get("horizon")
        suffix = f" (H {horizon})" if horizon else ""
        beyond = any(parameter.ood for parameter in FAMILIES[family]().parameters)
        splits = ("test", "ood") if beyond else ("test",)
        for name in options.agents:
            train_and_record("maml", family, options.seeds, [*RELATIVES[name], *budget],
                             f"{name}{suffix}", splits, episodes=4)


if __name__ == "__main__":
    main()
