"""The contract of a task family: one MuJoCo model, and the named parameters that vary over it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import mujoco
import numpy as np
import torch
from torch import Tensor

from metarl.envs.arrays import Array, namespace
from metarl.errors import UserError, unknown
from metarl.randomness import Draws, Role, generator

Split = Literal["train", "validation", "test", "ood"]
# A split's place is part of what its tasks are drawn from: new ones go last.
SPLITS: tuple[Split, ...] = ("train", "test", "ood", "validation")
Distribution = Literal["uniform", "log-uniform", "disc"]  # disc: a radius, by area
Interval = tuple[float, float]


@dataclass(frozen=True)
class Parameter:
    """One number that tells a task from another."""

    name: str
    unit: str
    meaning: str
    train: Interval
    ood: tuple[Interval, ...] = ()  # out-of-distribution draws; () leaves it in the train range
    distribution: Distribution = "uniform"
    physics: bool = True  # False: no field of the model depends on it (a goal, a target speed)
    possible: Interval = (-float("inf"), float("inf"))  # beyond this a value makes no sense
    values: tuple[float, ...] = ()  # all that it can be, where it is a choice; the first: default
    labels: tuple[str, ...] = ()  # what the values are called, where they are not numbers
    held_out: tuple[float, ...] = ()  # of the values, those that only test and ood tasks have

    def draw(self, u: float, v: float, split: Split) -> float:
        """The value at the uniform numbers u (within an interval) and v (which interval)."""
        intervals = self.ood if split == "ood" and self.ood else (self.train,)
        low, high = intervals[min(int(v * len(intervals)), len(intervals) - 1)]
        if self.distribution == "log-uniform":
            return low * (high / low) ** u
        if self.distribution == "disc":
            return (low**2 + (high**2 - low**2) * u) ** 0.5
        return low + (high - low) * u

    def choices(self, split: Split) -> tuple[float, ...]:
        """The values that tasks of a split have: those held out, or all the others."""
        if split in ("test", "ood") and self.held_out:
            return self.held_out
        return tuple(value for value in self.values if value not in self.held_out)

    def words(self, value: float) -> str:
        """A value as people write it: a label, or a short number."""
        return self.labels[self.values.index(value)] if self.labels else f"{value:.4g}"

    def quantity(self, value: float) -> str:
        """As `words`, with the unit; of a sign the unit, ±1, says no more than the value does."""
        unit = "" if self.labels or self.unit.startswith("±") else self.unit
        return f"{self.words(value)} {unit}".strip()

    @property
    def default(self) -> float:
        """The first choice, or the middle of the train range."""
        return self.choices("train")[0] if self.values else self.draw(0.5, 0.0, "train")


@dataclass(frozen=True)
class Frame:
    """What sensors could tell about N rows. Nothing else may be read."""

    qpos: Array  # (N, nq)
    qvel: Array  # (N, nv)
    sensors: dict[str, Array]  # name -> (N, size of the sensor); and what the family has `derived`


@dataclass(frozen=True)
class Start:
    """The state in which an episode begins."""

    qpos: Array  # (N, nq)
    qvel: Array  # (N, nv)
    act: Array | None = None  # (N, na) actuator states, where the model has any


_MOST = 16  # draws of a reset


class Random:
    """Random numbers for one reset: each row's depend on its own task and episode alone."""

    def __init__(self, draws: Draws, episode: int | np.ndarray) -> None:
        """`episode` of the trial: of all rows, or of each (N,)."""
        self._draws = draws
        self._count = _MOST * episode
        self._made = 0

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """U(low, high), float64 (N, *shape)."""
        drawn = self._draws.uniform(Role.RESET, self._next(), *shape).numpy()
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Array:
        """N(0, 1), float64 (N, *shape)."""
        return self._draws.normal(Role.RESET, self._next(), *shape).double().numpy()

    def _next(self) -> int | np.ndarray:
        self._made += 1
        if self._made > _MOST:  # the next ones are those of the next episode
            raise UserError(f"`reset` draws more than {_MOST} times; draw several numbers at once, "
                            "as in random.uniform(0, 1, 20)")
        return self._count + self._made


class Family(Protocol):
    """A parameterised set of tasks on one MuJoCo model.

    A family is a frozen dataclass: its fields are its options on the command line. The functions
    below see all N rows at once, as float64 arrays, and hold no state, so that the same ones run
    on every engine and behind a real robot. Arrays are numpy's on the CPU; `metarl.envs.arrays`
    helps to write what runs on torch's as well, on a card. Only `name`, `parameters`,
    `control_step`, `horizon`, `spec`, `reset`, `observe` and `reward` have no default.
    """

    name: str  # what the command line knows it by
    parameters: tuple[Parameter, ...]  # what varies: the columns of a task (D)
    control_step: float  # s between two actions
    horizon: int  # control steps of an episode; reaching it is a time limit, never a terminal
    action_scale: float = 1.0  # times an action, clamped to [-1, 1], is what `control` gets
    commands: int = 0  # numbers of an action (A), for a family with a `control`; else the actuators
    hold: int = 0  # control steps for which `holds` must be true to the end; then it is `success`
    # Fields of MuJoCo's data that frames tell beside sensors, flat: "xaxis", every joint's axis, or
    # of one object alone, "site.tip.xmat".
    derived: tuple[str, ...] = ()
    task_counts: tuple[int, int] = (100, 30)  # how many train tasks; and of each other split

    def spec(self) -> mujoco.MjSpec:
        """The base model."""
        ...

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        """Edit the base model into the model of one task."""

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        """Start states (N, ...), always numpy's; `frame` holds the model's own default state."""
        ...

    def observe(self, frame: Frame) -> Array:
        """What the agent sees: (N, O). Never contains the task."""
        ...

    def control(self, frame: Frame, action: Array) -> Array:
        """What the actuators get of an action (N, A) in [-1, 1]: shares of their ranges, (N, U) in
        [-1, 1]. As it is, by default; a tool's velocity may become those of an arm's joints."""
        return action

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        """Reward of one control step (N,); `action` (N, A) is in [-1, 1]."""
        ...

    def terminated(self, frame: Frame) -> Array:
        """Whether the task itself ended here: (N,) bool."""
        return namespace(frame.qpos).zeros_like(frame.qpos[:, 0], dtype=bool)

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        """Measures taken when an episode ends, (N,) each; `success` in {0, 1} where it applies."""
        return {}

    def holds(self, frame: Frame, task: Array) -> Array:
        """Whether what must last for success is so now: (N,) bool. For a family with a `hold`,
        whose worlds count the control steps in a row, and tell `success` from them."""
        return namespace(frame.qpos).zeros_like(frame.qpos[:, 0], dtype=bool)

    def expert(self, frame: Frame, task: Array) -> Array | None:
        """Actions (N, A) in [-1, 1] of a scripted policy that is told the task: the oracle's
        figure, and a proof that the tasks can be solved. None where none is known."""
        return None

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        """Points [m] to draw into a picture of the task, by label: the hidden goal, say."""
        return {}

    def aim(self, task: Mapping[str, float]) -> tuple[float, float, float] | None:
        """An arrow [m] to draw above the robot in a picture of the task: which way to go, say."""
        return None


def sample_tasks(family: Family, split: Split, count: int, seed: int = 0) -> Tensor:
    """Tasks (count, D), float64. Task i depends on family, split, seed and i alone, so that a
    larger set begins with the smaller one, and no set shares a task with another, unless there are
    but a few (forward and backward)."""
    rows = [draw_task(family, split, i, seed) for i in range(count)]
    return torch.stack(rows) if rows else torch.empty(0, len(family.parameters)).double()


def draw_task(family: Family, split: Split, index: int, seed: int = 0) -> Tensor:
    """Task `index` of a split, (D,) float64.

    Choices take turns from one task to the next, so that a set holds each of them equally often.
    """
    values, turns, own = [], index, _numbers(family, split, index, seed)
    chooses = index and any(p.values for p in family.parameters)
    first = _numbers(family, split, 0, seed) if chooses else own
    for p, (start, _), (u, v) in zip(family.parameters, first, own, strict=True):
        if p.values:
            choices = p.choices(split)
            values.append(choices[(turns + int(start * len(choices))) % len(choices)])
            turns //= len(choices)
        else:
            values.append(p.draw(u, v, split))
    return torch.tensor(values, dtype=torch.float64)


def _numbers(family: Family, split: Split, index: int, seed: int) -> list[list[float]]:
    """Two uniform numbers for each parameter of a task."""
    source = generator(seed, SPLITS.index(split), index, Role.TASK_SET)
    return source.random((len(family.parameters), 2)).tolist()


def default_task(family: Family) -> Tensor:
    """The task of every parameter's default, (D,)."""
    return torch.tensor([p.default for p in family.parameters], dtype=torch.float64)


def named_task(family: Family, task: Tensor) -> dict[str, float]:
    """A task (D,) as {parameter: value}."""
    return {p.name: float(v) for p, v in zip(family.parameters, task, strict=True)}


def parse_task(
    family: Family, words: list[str], warn: Callable[[str], None], known_as: Tensor | None = None
) -> Tensor:
    """The task (D,) that words like `payload=2.5` describe; what they leave out is the default, or
    as in a task (D,) that is `known_as`.

    Calls `warn` for a value outside its train range. Raises UserError for a word that is not
    name=number, a name that is unknown or comes twice, and a value that cannot exist.
    """
    known = {p.name: (i, p) for i, p in enumerate(family.parameters)}
    task = default_task(family) if known_as is None else known_as.clone()
    said = set[str]()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not a task parameter; write name=value, as in "
                            f"{family.parameters[0].name}={family.parameters[0].default:g}")
        if name not in known:
            raise unknown(f"parameter of {family.name}", name, known)
        if name in said:
            raise UserError(f"{name} is given twice; give it once")
        said.add(name)
        index, parameter = known[name]
        task[index] = value = _value(parameter, text, warn)
        if value in parameter.held_out:
            warn(f"{name}={text} was held out of training")
    return task


def _value(parameter: Parameter, text: str, warn: Callable[[str], None]) -> float:
    if text in parameter.labels:
        return parameter.values[parameter.labels.index(text)]
    try:
        value = float(text)
    except ValueError:
        if parameter.labels:
            raise unknown(parameter.name, text, parameter.labels) from None
        raise UserError(
            f"{parameter.name}={text!r} is not a number; give it in {parameter.unit}"
        ) from None
    if parameter.values:
        nearest = min(parameter.values, key=lambda v: abs(v - value))
        if not abs(nearest - value) < 1e-3:  # as they are printed, pi say
            raise UserError(f"{parameter.name}={text} is impossible: {parameter.meaning} must be "
                            f"one of {', '.join(map(parameter.words, parameter.values))}")
        return nearest
    low, high = parameter.possible
    if not low <= value <= high or value != value or abs(value) == float("inf"):
        raise UserError(
            f"{parameter.name}={text} is impossible: {parameter.meaning} must lie in "
            f"[{low:g}, {high:g}] {parameter.unit}"
        )
    low, high = parameter.train
    if not low <= value <= high:
        warn(f"{parameter.name}={text} lies outside the trained range [{low:g}, {high:g}] "
             f"{parameter.unit}")
    return value
