"""Rows of scores.csv: what an agent earned in an episode, mean over the tasks of a split."""

import csv
import fcntl
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = (
    "family", "agent", "seed", "split", "episode", "return", "success", "env_steps", "wall_s",
    "machine", "commit", "command", "phase", "adapt_steps",
)
# Phases: rows from before there were any are of the first.
ADAPTING = "adapting"  # episode k of a new task, as the agent adapts
EXPLOITING = "exploiting"  # its best after k episodes of exploration


def rows(origin: Mapping[str, Any], document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows of one evaluation. `origin` has the columns that are the same in all of them;
    `adapt_steps` counts the env steps that were lived in the task before the episode."""
    lived = document["horizon"] * document["rollouts"]
    parts = [(ADAPTING, 1, document)]
    if document.get("exploiting"):
        parts.append((EXPLOITING, 0, document["exploiting"]))
    return [
        {**{name: str(value) for name, value in origin.items()}, "split": document["split"],
         "episode": str(k + first), "phase": phase, "adapt_steps": str(k * lived),
         "return": _mean(returns, 3), "success": _mean(successes, 4)}
        for phase, first, part in parts
        for k, (returns, successes) in enumerate(zip(
            part["returns"], part["outcomes"].get("success", [[]] * len(part["returns"])),
            strict=True))
    ]


def append(
    file: Path, new: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS
) -> None:
    """Append the rows that the file does not hold yet, whole, whoever else is writing too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", newline="", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        known = set(stream.read().splitlines())
        lines = [] if known else [_line(columns)]
        lines += [line for row in new if (line := _line([row[c] for c in columns])) not in known]
        stream.write("".join(f"{line}\n" for line in lines))


def machine(environment: Mapping[str, Any]) -> str:
    """The machine of a run, as in "2 cores AMD EPYC, no GPU"."""
    count = environment["cores"]
    return (f"{count} {'core' if count == 1 else 'cores'} {environment['cpu']}, "
            f"{environment['gpu'] or 'no GPU'}")


def commit(environment: Mapping[str, Any]) -> str:
    """The short commit of a run, with a + where files differed from it."""
    sha = (environment.get("commit") or "unknown").rpartition("-g")[2]
    return sha[:7] + "+" * sha.endswith("+")


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else ""


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
