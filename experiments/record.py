"""Where measured figures go, a row each: experiments/results/benchmarks.csv and scores.csv."""

import csv
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = _ROOT / "experiments" / "results"
_SCORES = (
    "family", "agent", "seed", "split", "episode", "return", "success", "env_steps", "wall_s",
    "machine", "commit", "command",
)
_BENCHMARKS = (
    "name", "figure", "unit", "value", "baseline", "ratio", "machine", "commit", "command",
)


def record(
    name: str,
    figure: str,
    unit: str,
    value: float,
    baseline: float | None = None,
    ratio: float | None = None,
) -> None:
    """Append one measured figure, with what it is compared to, and the machine, commit and
    command that made it."""
    numbers = ["" if number is None else f"{number:.4g}" for number in (value, baseline, ratio)]
    _append("benchmarks.csv", _BENCHMARKS, [[name, figure, unit, *numbers, *_origin()]])


def record_scores(
    family: str, agent: str, seed: int, split: str, returns: Sequence[float],
    successes: Sequence[float] | None, env_steps: int, wall_s: float,
) -> None:
    """Append what an agent scored in episodes 1 ... K, means over the tasks of a split. `wall_s`
    is the wall time of the whole training."""
    rows: list[list[Any]] = []
    for k, value in enumerate(returns):
        success = "" if successes is None else f"{successes[k]:.4f}"
        rows.append([family, agent, seed, split, k + 1, f"{value:.3f}", success, env_steps,
                     f"{wall_s:.0f}", *_origin()])
    _append("scores.csv", _SCORES, rows)


def _append(name: str, columns: Sequence[str], rows: list[list[Any]]) -> None:
    file = _RESULTS / name
    new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([list(columns), *rows] if new else rows)


def _origin() -> list[str]:
    """Machine, commit and command."""
    return [machine(), _COMMIT, _command()]


def machine() -> str:
    """The usable cores and the card, as in "2 cores AMD EPYC, no GPU"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} cores {_processor()}, {card}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    sha = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True
    )
    return sha.stdout.strip() or "unknown"


# Asked when a script starts, not hours later when it records: that is the code it runs.
_COMMIT = _commit()


def _command() -> str:
    """The running script as anyone can start it from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    if not script.is_relative_to(_ROOT):
        return shlex.join(["python", *sys.argv])
    module = ".".join(script.relative_to(_ROOT).with_suffix("").parts)
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
