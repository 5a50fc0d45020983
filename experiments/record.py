"""Where measured figures go, a row each: experiments/results/benchmarks.csv."""

import csv
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

_ROOT = Path(__file__).resolve().parents[1]
_FILE = _ROOT / "experiments" / "results" / "benchmarks.csv"
_COLUMNS = (
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
    row = [name, figure, unit, *numbers, machine(), COMMIT, command()]
    new = not _FILE.exists()
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    with _FILE.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([_COLUMNS, row] if new else [row])


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
COMMIT = _commit()


def command() -> str:
    """The running script as anyone can start it from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    if not script.is_relative_to(_ROOT):
        return shlex.join(["python", *sys.argv])
    module = ".".join(script.relative_to(_ROOT).with_suffix("").parts)
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
