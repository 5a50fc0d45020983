"""Joints as LeRobot tells them, `<joint>.pos` in some unit, as angles of an arm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.robot.arm import ArmError, ArmSpec, BusError, Vector

UNITS = {"degrees": math.pi / 180, "radians": 1.0}  # rad
SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
GRIPPER = 100.0  # LeRobot's number for an open one; 0 is closed


@dataclass(frozen=True)
class Joints:
    """How LeRobot's numbers become angles: q = sign (number - zero) unit."""

    names: tuple[str, ...]  # LeRobot's, in the arm's order
    unit: str  # of UNITS
    signs: Vector  # (J,)
    zeros: Vector  # (J,) in LeRobot's unit, where the arm's angles are 0

    @staticmethod
    def of(spec: ArmSpec, names: str = "", unit: str = "degrees", zeros: str = "") -> "Joints":
        """From words: names in the arm's order, `-` before one that turns the other way; by
        default the SO-101's, or those of the spec. Raises ArmError."""
        if unit not in UNITS:
            raise ArmError(f"{unit!r} is no unit of angles: say degrees or radians. LeRobot's "
                           "-100 to 100 are shares of a calibrated range; let the robot tell "
                           "degrees (`use_degrees: true`)")
        said = _words(names) or [*(SO101 if spec.model == "so101" else spec.joints)]
        try:
            offsets = [float(word) for word in _words(zeros)] or [0.0] * len(said)
        except ValueError:
            raise ArmError(f"zeros are numbers in {unit}, not {zeros!r}") from None
        plain = tuple(word.removeprefix("-") for word in said)
        if not len(set(plain)) == len(offsets) == len(spec.joints) == len(plain):
            raise ArmError(f"{spec.model} needs the names, and the zeros if any, of "
                           f"{len(spec.joints)} different joints")
        signs = np.array([-1.0 if word.startswith("-") else 1.0 for word in said])
        return Joints(plain, unit, signs, np.array(offsets))

    @property
    def keys(self) -> tuple[str, ...]:
        """The features (J,)."""
        return tuple(f"{name}.pos" for name in self.names)

    def angles(self, said: Mapping[str, Any]) -> Vector:
        """(J,) rad. Raises BusError for what lacks a joint or is no finite number."""
        numbers = np.array([number(said, key) for key in self.keys])
        return self.signs * (numbers - self.zeros) * UNITS[self.unit]

    def numbers(self, q: Vector) -> dict[str, float]:
        """LeRobot's, of angles (J,)."""
        values = self.signs * q / UNITS[self.unit] + self.zeros
        return dict(zip(self.keys, values.tolist(), strict=True))


def number(said: Mapping[str, Any], key: str) -> float:
    """A finite number of a dictionary's. Raises BusError where there is none."""
    try:
        found = float(said[key])
    except (KeyError, TypeError, ValueError):
        raise BusError(f"no number for {key}") from None
    if not math.isfinite(found):
        raise BusError(f"{key} is not finite")
    return found


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()
