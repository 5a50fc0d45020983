"""Where measured figures go, a row each: experiments/results/benchmarks.csv."""

import csv
import shlex
import subprocess
import sys
from pathlib import Path

from metarl import scores
from metarl.run import environment

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
    return scores.machine(environment())


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
