"""What a description may reward, and what may end an episode: readings of sensors, places, and a
few sums of them. Everything is (N,) or (N, k), over all rows at once."""

from dataclasses import dataclass
from typing import Protocol

from metarl.envs.arrays import Array, length, namespace, stack, sum_of_squares
from metarl.envs.family import Frame

_CLOSE = 0.01  # m, where the logarithm of a distance begins to level off


@dataclass(frozen=True)
class Reading:
    """A sensor, or one axis of it."""

    sensor: str
    axis: int | None = None

    def of(self, frame: Frame) -> Array:
        """(N, k); k is 1 for one axis."""
        values = frame.sensors[self.sensor]
        return values if self.axis is None else values[:, self.axis : self.axis + 1]


@dataclass(frozen=True)
class Place:
    """Numbers, of which some are parameters of the task; or what another sensor reads."""

    numbers: tuple[float, ...] = ()
    columns: tuple[int | None, ...] = ()  # of the task, in place of a number
    reading: Reading | None = None

    def of(self, frame: Frame, task: Array) -> Array:
        """(N, k)."""
        if self.reading is not None:
            return self.reading.of(frame)
        return stack(*(
            0 * task[:, 0] + number if column is None else task[:, column]
            for number, column in zip(self.numbers, self.columns, strict=True)
        ))


class Term(Protocol):
    """One summand of the reward."""

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        """(N,), before its weight; `frame` is the one after the action."""
        ...


@dataclass(frozen=True)
class Distance:
    """How far a sensor's position is from a place: d + log ln(d + 0.01)."""

    reading: Reading
    to: Place
    log: float = 0.0  # makes the last centimetres count (Levine et al. 2016)

    def metres(self, frame: Frame, task: Array) -> Array:
        """d, (N,)."""
        return length(self.reading.of(frame) - self.to.of(frame, task))

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        distance, log = self.metres(frame, task), namespace(task).log
        return distance + self.log * log(distance + _CLOSE) if self.log else distance


@dataclass(frozen=True)
class Value:
    """What a sensor reads along an axis: a height, a speed."""

    reading: Reading

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        return self.reading.of(frame)[:, 0]


@dataclass(frozen=True)
class Miss:
    """How far a reading is from what it should be: |reading - to|."""

    reading: Reading
    to: Place

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        return abs(self.reading.of(frame) - self.to.of(frame, task))[:, 0]


@dataclass(frozen=True)
class Control:
    """The sum of the squared actions, of what reached the actuators in [-1, 1]."""

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        return sum_of_squares(action)


@dataclass(frozen=True)
class Alive:
    """1, for every step."""

    def value(self, frame: Frame, action: Array, task: Array) -> Array:
        return namespace(action).ones_like(action[:, 0])


@dataclass(frozen=True)
class Condition:
    """Whether a distance is within a bound, or a reading above or below one."""

    measured: Distance | Value
    above: float | None = None
    below: float | None = None

    def holds(self, frame: Frame, task: Array) -> Array:
        """(N,) bool."""
        if isinstance(self.measured, Distance):
            value = self.measured.metres(frame, task)
        else:
            value = self.measured.reading.of(frame)[:, 0]
        held = namespace(value).ones_like(value, dtype=bool)
        if self.above is not None:
            held &= value > self.above
        if self.below is not None:
            held &= value < self.below
        return held
