"""Planar robots with a hidden body: masses, inertias, friction and damping vary.

What varies is what varies in the randomised-parameter models of Rakelly et al. (2019), "PEARL".
There every number of every array has a factor of its own (`classic`), which makes inertias that no
body of that mass could have; by default one factor scales a body's mass and inertia together, one a
joint's damping, and one all friction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.family import Parameter
from metarl.envs.planar import Planar

_MASS = (1.5**-3, 1.5**3)  # factors on mass, inertia and friction
_DAMPING = (1.3**-3, 1.3**3)


@dataclass(frozen=True)
class PlanarParams(Planar):
    """A planar robot that must run forward although its body is not as it was."""

    classic: bool = False  # every number of every array varies by itself, as in the published tasks

    task_counts = (40, 10)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies: fewer and consistent, or as published."""
        return self._published() if self.classic else self._consistent()

    def _consistent(self) -> tuple[Parameter, ...]:
        bodies = [_factor(f"mass_{name}", f"mass and inertia of the {_words(name)}")
                  for name in self._bodies()]
        joints = [_factor(f"damping_{name}", f"damping of the {_words(name)}", _DAMPING, 1.3)
                  for name in self._joints()]
        return (*bodies, *joints, _factor("friction", "friction between robot and floor"))

    def _published(self) -> tuple[Parameter, ...]:
        found = []
        for body in self._bodies():
            found.append(_factor(f"mass_{body}", f"mass of the {_words(body)}"))
            found += [_factor(f"inertia_{body}_{axis}",
                              f"inertia of the {_words(body)} about its principal axis {axis}")
                      for axis in "123"]
        for geom in ("floor", *self._bodies()):
            found += [_factor(f"friction_{geom}_{kind}", f"{kind} friction of the {_words(geom)}")
                      for kind in ("sliding", "torsional", "rolling")]
        joints = [_factor(f"damping_{name}", f"damping of the {_words(name)}", _DAMPING, 1.3)
                  for name in self._joints()]
        return (*found, *joints)

    def _bodies(self) -> list[str]:
        return ["torso"] + [f"{part}{leg.suffix}" for leg in self.legs
                            for part in ("thigh", "shank", "foot")]

    def _joints(self) -> list[str]:
        return [f"{part}{leg.suffix}" for leg in self.legs for part in ("hip", "knee", "ankle")]

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        for name in self._bodies():
            # The robot's friction alone decides, where the larger one of two would else hide it.
            spec.geom(name).priority = 0 if self.classic else 1
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        for name in self._bodies():
            body, factor = spec.body(name), task[f"mass_{name}"]
            body.mass *= factor
            if self.classic:
                drawn = body.inertia * [task[f"inertia_{name}_{axis}"] for axis in "123"]
                body.inertia = _possible(drawn, body.iquat)
            else:
                body.inertia = body.inertia * factor
        for name in self._joints():
            spec.joint(name).damping[0] *= task[f"damping_{name}"]
        for name in ("floor", *self._bodies()):
            geom = spec.geom(name)
            geom.friction = geom.friction * np.array(
                [task[f"friction_{name}_{kind}"] for kind in ("sliding", "torsional", "rolling")]
                if self.classic else task["friction"]
            )


def _possible(inertia: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Principal inertias (3,) that a body can have: none above the sum of the others, which MuJoCo
    checks. One about which a planar robot never turns, the last of them, gives way."""
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, turned)
    felt = int(np.abs(axes.reshape(3, 3)[1]).argmax())  # the axis along the hinges' y
    other, last = (i for i in range(3) if i != felt)
    middle, width = max(inertia[felt], inertia[other]), min(inertia[felt], inertia[other])
    possible = inertia.copy()
    possible[last] = np.clip(inertia[last], middle - 0.999 * width, middle + 0.999 * width)
    return possible


def _factor(
    name: str, meaning: str, train: tuple[float, float] = _MASS, step: float = 1.5
) -> Parameter:
    """A log-uniform factor; out of distribution, one more step to either side."""
    low, high = train
    return Parameter(
        name, "x", f"factor on the {meaning}", train, ood=((low / step, low), (high, high * step)),
        distribution="log-uniform", possible=(1e-3, 1e3),
    )


def _words(name: str) -> str:
    part, _, side = name.partition("_")
    return f"{side} {part}".strip()
