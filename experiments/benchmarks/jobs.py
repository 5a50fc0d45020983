"""How long a study of two jobs takes: one after the other, both at once, each on its own cores.

    python -m experiments.benchmarks.jobs [--agent rl2] [--family cheetah-dir] [--iterations 20]

The same two trainings each time, seeds 0 and 1, in a directory that is thrown away: `metarl bench`,
the same started twice, and `metarl bench --jobs 2`. Seconds are from the first command to the end
of the last, judging included.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.record import machine, record
from metarl.agents import AGENTS
from metarl.cli.common import show, table
from metarl.envs import FAMILIES
from metarl.envs.worlds import Worlds
from metarl.errors import unknown
from metarl.presets import preset

_ALONE, _TWICE, _SHARED = "one after the other", "metarl bench twice", "metarl bench --jobs 2"


def main() -> None:
    """Measure, print a table and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", default="rl2")
    parser.add_argument("--family", default="cheetah-dir")
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    for kind, known in (("agent", AGENTS), ("family", FAMILIES)):
        if getattr(options, kind) not in known:
            raise SystemExit(str(unknown(kind, getattr(options, kind), known)))
    settings, made = preset(options.agent, options.family), AGENTS[options.agent]
    family = FAMILIES[options.family](**settings["family"])
    config, shapes = made.Config(**settings["config"]), Worlds(family, 1).shapes
    plan = made(config, shapes, 0, torch.device("cpu")).plan
    steps = options.iterations * plan.env_steps(family.horizon)
    study = (
        "from metarl.study import grid\n"
        f"STUDY = grid([{options.agent!r}], [{options.family!r}], range(2), episodes=1, "
        f"splits=('test',), flags=('--steps', '{steps}', '--evaluate-every', '{steps}'))\n"
    )
    print(machine())
    seconds = {
        _ALONE: _timed(study, [[]]),
        _TWICE: _timed(study, [[], []]),
        _SHARED: _timed(study, [["--jobs", "2"]]),
    }
    shown = table("two jobs", "s", "x --jobs 2")
    for name, value in seconds.items():
        ratio = value / seconds[_SHARED]
        shown.add_row(name, f"{value:.0f}", f"{ratio:.2f}")
        if name != _SHARED:
            record("jobs", f"two jobs of {options.agent} on {options.family}, {_SHARED} vs {name}",
                   "s", seconds[_SHARED], value, ratio)
    show(shown)


def _timed(study: str, commands: list[list[str]]) -> float:
    """Seconds that these commands take, started together."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "two.py"
        file.write_text(study)
        words = [sys.executable, "-m", "metarl", "bench", str(file), "--root", f"{folder}/jobs",
                 "--scores", f"{folder}/scores.csv"]
        began = time.perf_counter()
        started = [subprocess.Popen([*words, *more], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for more in commands]
        if any(process.wait() for process in started):
            raise SystemExit("a job failed; try the command of this docstring by hand")
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
