"""How far an arm's servos are behind what they are told, and what that lacks in stretched time."""

import numpy as np

from metarl.robot.arm import Vector
from metarl.robot.link import Report

_ENOUGH = 0.02  # rad^2/s^2, of speed squared, to tell how an arm lags


class Lag:
    """A low-pass filter of commands: below full speed, the family's lag is stretched like all else,
    and the filter adds what the arm's own lag, measured as it moves, lacks of it."""

    def __init__(self, family: Vector, speed: float) -> None:
        """`family` is the lag (J,) [s] of its servos; `speed` a share of that in training."""
        self._family, self._speed = family, speed
        # Sums over reports, of speed squared and of speed times distance to the target: their
        # ratio is the arm's own lag.
        self._moved, self._behind = np.zeros_like(family), np.zeros_like(family)
        self.told = np.zeros_like(family)  # rad/s, that came out last

    @property
    def own(self) -> Vector:
        """The arm's (J,) [s], by how it moved so far; before that, as in the family."""
        measured = self._behind / np.maximum(self._moved, _ENOUGH)
        return np.where(self._moved > _ENOUGH, measured, self._family)

    def begin(self) -> None:
        """An episode begins, at rest."""
        self.told = np.zeros_like(self.told)

    def saw(self, report: Report) -> None:
        """Learn from what the arm did."""
        speed = report.state.dq
        self._moved += speed * speed
        self._behind += (report.applied - report.state.q) * speed

    def stretched(self, velocity: Vector, lasts: float) -> Vector:
        """What to tell the arm for the next `lasts` seconds of a velocity (J,) [rad/s]."""
        slow = self._speed < 1  # at full speed a policy meets the arm as it is
        lacking = slow * np.maximum(self._family / self._speed - self.own, 0.0)
        share = 1 - np.exp(-lasts / np.maximum(lacking, 1e-6))
        self.told = self.told + share * (velocity - self.told)
        return self.told
