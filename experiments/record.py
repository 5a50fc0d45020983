"""Where measured figures go, a row each: experiments/results/benchmarks.csv."""

import shlex
import sys
from pathlib import Path

from metarl import run, scores

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
    scores.append(_FILE, [dict(zip(_COLUMNS, row, strict=True))], _COLUMNS)


def machine() -> str:
    """The usable cores and the card, as in "2 cores AMD EPYC, no GPU"."""
    return scores.machine(run.environment())


# Asked when a script starts, not hours later when it records: that is the code it runs.
COMMIT = scores.commit({"commit": run.commit()})


def command() -> str:
    """The running script as anyone can start it from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    if not script.is_relative_to(_ROOT):
        return shlex.join(["python", *sys.argv])
    module = ".".join(script.relative_to(_ROOT).with_suffix("").parts)
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
