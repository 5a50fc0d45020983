"""What runs scored, read from their directories as arrays: nothing is computed again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.documents import read_json
from metarl.policy import misfits
from metarl.run import Run
from metarl.statistics import (
    Aggregate,
    difference,
    interquartile_mean,
    interval,
    mean,
    stratified,
    wilson,
)

Array = NDArray[np.floating]
Band = tuple[float, float, float]  # an aggregate, and its 95 % interval
RETURN, SUCCESS = "return", "success"
FEW = 5  # seeds: below these an interval says little about the next seed


@dataclass(frozen=True)
class Range:
    """A parameter of the tasks."""

    name: str
    unit: str
    train: tuple[float, float]
    values: tuple[float, ...] = ()  # all that it can be, where it is a choice
    labels: tuple[str, ...] = ()
    held_out: bool = False  # whether some choices were kept from training
    logarithmic: bool = False  # drawn by its logarithm, so that factors count, not differences

    @property
    def title(self) -> str:
        """As on an axis."""
        return f"{self.name.replace('_', ' ')} [{self.unit}]" if self.unit else \
            self.name.replace("_", " ")


@dataclass(frozen=True)
class Judged:
    """One evaluation: M tasks of a split, and what they earned."""

    split: str
    checkpoint: int  # env steps of training behind it
    tasks: Array  # (M, D)
    ranges: tuple[Range, ...]  # (D)
    curves: dict[str, dict[str, Array]]  # phase -> quantity -> (episodes, M)
    embedding: Array | None  # (M, E)
    horizon: int
    rollouts: int  # that share what they live in a task, as MAML's do
    seed: int = 0  # of the evaluation's random numbers

    @property
    def episodes(self) -> int:
        """K: of exploration, after which it was judged at its best."""
        return len(self.curves["exploiting"][RETURN]) - 1


@dataclass(frozen=True)
class Switched:
    """One evaluation in trials whose hidden tasks become others on the way."""

    split: str
    every: int  # episodes after which they do
    curves: dict[str, Array]  # quantity -> (episodes, M)


@dataclass(frozen=True)
class Entry:
    """One agent under one seed."""

    family: str
    label: str
    seed: int
    judged: dict[str, Judged]  # by split
    path: Path
    metrics: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] | None = None  # None: a scripted policy
    outdated: bool = False  # it has evaluations that say too little to be drawn
    switched: tuple[Switched, ...] = ()

    @property
    def familiar(self) -> bool:
        """Whether its family's tasks are so few that training met all of them: the choices of one
        parameter. Of several, some pairs may be new."""
        ranges = next((j.ranges for j in self.judged.values()), ())
        return len(ranges) == 1 and len(ranges[0].values) > 0 and not ranges[0].held_out

    @property
    def behind(self) -> dict[str, int]:
        """The splits that it was judged on before training went on, and at which env step."""
        return {split: j.checkpoint for split, j in self.judged.items()
                if self.metrics and j.checkpoint < self.env_steps}

    @property
    def words(self) -> str:
        """What a command line calls its run."""
        return Run(self.path).words if self.config else str(self.path)

    @property
    def env_steps(self) -> int:
        """Of training."""
        return int(self.metrics[-1]["env_steps"]) if self.metrics else 0

    @property
    def wall_s(self) -> float:
        """Of training."""
        return float(self.metrics[-1]["wall_s"]) if self.metrics else 0.0


def read(folder: Path, family: str, label: str, seed: int, run: Run | None) -> Entry:
    """What an agent scored: `folder` holds its evaluations, `run` its training, if there was any.
    Of several evaluations of a split counts, of the newest checkpoint, one on the family's own
    number of tasks, if there is any, and then that of most episodes."""
    found: list[tuple[tuple[int, ...], Judged | None, Switched | None]] = []
    outdated = False
    for file in sorted(folder.glob("evaluations/*.json")):
        document = read_json(file)
        with misfits(f"{file} is no evaluation: delete it, and metarl evaluate makes it anew"):
            outdated |= "ranges" not in document
            found.append((_weight(document), _judged(document), _switched(document)))
    found.sort(key=lambda one: one[0])
    changing = {(one.split, one.every): one for _, _, one in found if one}
    return Entry(
        family, label, seed, {one.split: one for _, one, _ in found if one}, folder,
        tuple(run.metrics()) if run else (), run.config if run else None, outdated,
        tuple(one for _, one in sorted(changing.items())),
    )


Learning = tuple[Array, Array, Array]  # env steps, wall time [s], return after adaptation


def learning(entry: Entry) -> Learning | None:
    """The evaluations on validation tasks during training; None where there was none."""
    points = [m for m in entry.metrics if m.get("eval/return_post") is not None]
    if not points:
        return None
    steps, wall, earned = (_array([m[name] for m in points])
                           for name in ("env_steps", "wall_s", "eval/return_post"))
    return steps, wall, earned


def quantities(entries: Sequence[Entry]) -> list[str]:
    """Success, where the family has one, and return."""
    curves = [j.curves["exploiting"] for e in entries for j in e.judged.values()]
    curves += [one.curves for e in entries for one in e.switched]
    has = any(SUCCESS in each for each in curves)
    return [SUCCESS, RETURN] if has else [RETURN]


def values(entries: Sequence[Entry], split: str, phase: str, quantity: str) -> Array:
    """What one agent earned under S seeds, (episodes, S, M): the tasks and the episodes that all
    have, as far as they are finite."""
    return _stacked([curve for e in entries if split in e.judged
                     and (curve := e.judged[split].curves[phase].get(quantity)) is not None])


def band(earned: Array, quantity: str) -> Band:
    """The aggregate of what was earned (S, M) over S seeds and M tasks, with its interval; of a
    rate of success no narrower than that of as many independent trials: a bootstrap of what is all
    the same has none."""
    chosen = aggregate(quantity)
    found, (low, high) = chosen(earned), interval(earned, aggregate=chosen)
    if quantity == SUCCESS and 0 <= found <= 1:
        least, most = wilson(found, earned.size)
        low, high = min(low, least), max(high, most)
    return found, *_possible((low, high), quantity, 0.0)


def extent(entries: Sequence[Entry], split: str) -> tuple[int, int] | None:
    """Episodes of exploration K, and tasks, that one agent was judged in under all its seeds; None
    where it was not."""
    found = [e.judged[split] for e in entries if split in e.judged]
    return (min(j.episodes for j in found), min(len(j.tasks) for j in found)) if found else None


def aggregate(quantity: str) -> Aggregate:
    """How a quantity is summed up."""
    return mean if quantity == SUCCESS else interquartile_mean


def bands(entries: Sequence[Entry], split: str, phase: str, quantity: str) -> list[Band]:
    """The aggregate of each episode over seeds and tasks, with its interval."""
    return [band(row, quantity) for row in values(entries, split, phase, quantity) if row.size]


def as_published(
    entries: Sequence[Entry], split: str, quantity: str
) -> tuple[float, tuple[float, float]] | None:
    """An agent at its best after the most episodes, with the stratified bootstrap interval that
    others publish; None of one seed, and where it was not judged."""
    found = values(entries, split, "exploiting", quantity)
    if not found.size or found.shape[1] < 2:
        return None
    chosen = aggregate(quantity)
    return chosen(found[-1]), stratified(found[-1], aggregate=chosen)


def switched(entries: Sequence[Entry], split: str, every: int, quantity: str) -> list[Band]:
    """The aggregate of each episode over seeds and tasks that become others after `every` episodes,
    with its interval."""
    found = [curve for e in entries for one in e.switched
             if (one.split, one.every) == (split, every)
             and (curve := one.curves.get(quantity)) is not None]
    return [band(row, quantity) for row in _stacked(found) if row.size]


def compared(
    entries: Sequence[Entry], others: Sequence[Entry], split: str, quantity: str
) -> tuple[float, float] | None:
    """The interval of how far one agent lies above another at its best, after as many rollouts as
    both have lived, at most; None where one was not judged, or not after any."""
    mine, theirs = (values(each, split, "exploiting", quantity) for each in (entries, others))
    if not mine.size or not theirs.size or (after := _alike(entries, others, split)) is None:
        return None
    tasks = min(mine.shape[2], theirs.shape[2])
    found = difference(mine[after[0], :, :tasks], theirs[after[1], :, :tasks],
                       aggregate=aggregate(quantity))
    return _possible(found, quantity, -1.0)


def _alike(
    entries: Sequence[Entry], others: Sequence[Entry], split: str
) -> tuple[int, int] | None:
    """The last episodes of exploration of two agents after which both had lived as much, one's
    rollouts counted; None where that is so before any alone."""
    (mine, a), (theirs, b) = ((extent(each, split), rollouts(each)) for each in (entries, others))
    if mine is None or theirs is None:
        return None
    most = max((k, k * a // b) for k in range(mine[0] + 1)
               if k * a % b == 0 and k * a // b <= theirs[0])
    return None if a != b and most == (0, 0) else most


def rollouts(entries: Sequence[Entry]) -> int:
    """How many rollouts one episode of an agent consists of, which share what they live."""
    return max((j.rollouts for e in entries for j in e.judged.values()), default=1)


def pooled(
    entries: Sequence[Entry], quantity: str
) -> tuple[tuple[Range, ...], Array, Array, list[str]]:
    """Every task that an agent was judged on: the parameters, the tasks (n, D), what it earned in
    each at its best after the last episode (n,), mean over seeds, and each one's split."""
    ranges: tuple[Range, ...] = ()
    tasks, earned, splits = [], [], []
    for split in ("train", "test", "ood"):
        found = [e.judged[split] for e in entries if split in e.judged
                 and quantity in e.judged[split].curves["exploiting"]]
        if not found:
            continue
        count = min(len(judged.tasks) for judged in found)
        last = [judged.curves["exploiting"][quantity][-1, :count] for judged in found]
        ranges = found[0].ranges
        tasks.append(found[0].tasks[:count])
        earned.append(np.mean(last, 0))
        splits += [split] * count
    if not tasks:
        return (), np.empty((0, 0)), np.empty(0), []
    return ranges, np.concatenate(tasks), np.concatenate(earned), splits


def distances(tasks: Array, ranges: Sequence[Range]) -> Array:
    """How far tasks (n, D) lie outside the training range, (n,): 0 inside; else the Euclidean
    distance to it, each parameter in units of its range's width (of its logarithm's, where that is
    what is drawn)."""
    squares = np.zeros(len(tasks))
    for column, parameter in zip(tasks.T, ranges, strict=True):
        low, high = parameter.train
        if parameter.logarithmic:
            low, high, column = math.log(low), math.log(high), np.log(column)
        if not parameter.values and high > low:
            squares += ((column - column.clip(low, high)) / (high - low)) ** 2
    return np.sqrt(squares)


def _stacked(curves: Sequence[Array]) -> Array:
    """The curves (episodes, M) of S seeds as (episodes, S, M): the tasks and the episodes that all
    have, as far as they are finite."""
    if not curves:
        return np.empty((0, 0, 0))
    episodes, tasks = (min(curve.shape[i] for curve in curves) for i in (0, 1))
    stacked = np.stack([curve[:episodes, :tasks] for curve in curves], 1)
    # Larger sets of tasks begin with the smaller ones, so that column m is one task for all.
    return stacked[:, :, np.isfinite(stacked).all((0, 1))]


def _possible(bounds: tuple[float, float], quantity: str, least: float) -> tuple[float, float]:
    """Bounds of a rate of success no further than it can go: of few seeds they would."""
    low, high = bounds
    return (max(low, least), min(high, 1.0)) if quantity == SUCCESS else bounds


def _judged(document: Mapping[str, Any]) -> Judged | None:
    """What an evaluation says of tasks that stay as they are; None where it says nothing of them,
    or too little."""
    if not (document.get("exploiting") and document.get("ranges")):
        return None
    parts = {"adapting": document, "exploring": document["exploring"],
             "exploiting": document["exploiting"]}
    ranges = tuple(
        Range(r["name"], r["unit"], tuple(r["train"]), tuple(r["values"]), tuple(r["labels"]),
              bool(r.get("held_out")), r.get("distribution") == "log-uniform")
        for r in document["ranges"]
    )
    embedding = document.get("embedding")
    return Judged(
        document["split"], document["checkpoint"], _array(document["tasks"]), ranges,
        {phase: _curves(part) for phase, part in parts.items()},
        None if embedding is None else _array(embedding), document["horizon"],
        document["rollouts"], document.get("seed", 0),
    )


def _switched(document: Mapping[str, Any]) -> Switched | None:
    every = document.get("switch_every")
    return Switched(document["split"], every, _curves(document)) if every else None


def _weight(document: Mapping[str, Any]) -> tuple[int, bool, int, int]:
    """By which the last of several evaluations is the one that counts."""
    tasks = len(document["tasks"])
    # One on a single task, or on a thousand, was a trial; those on the own number compare.
    usual = tasks == document.get("usual_tasks")
    return document["checkpoint"], usual, len(document["returns"]), tasks


def _curves(part: Mapping[str, Any]) -> dict[str, Array]:
    """Each quantity of an evaluation, (episodes, M)."""
    return {RETURN: _array(part["returns"]),
            **{name: _array(values) for name, values in part["outcomes"].items()}}


def _array(rows: Any) -> Array:
    """Numbers, with NaN where JSON has null."""
    return np.array(rows, dtype=np.float64)
