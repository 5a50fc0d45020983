"""Colours and sizes that let a person see in what a variant differs from its base model.

A body whose size does not vary is drawn as thick as its mass would make it at the base model's
density. Colours go by the
logarithm of the ratio to the base model, from a quarter to four times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Dot = tuple[NDArray[np.float64], Colour]  # a place [m] and its colour
RANGE = 4.0  # the largest ratio that colours tell apart


@dataclass(frozen=True)
class Scale:
    """The colours of one ratio: from a quarter, over one, to four times."""

    meaning: str
    less: Colour
    same: Colour
    more: Colour

    def colour(self, ratio: float) -> Colour:
        """Between `less` and `same` below 1, between `same` and `more` above."""
        t = float(np.clip(np.log(max(ratio, 1e-9)) / np.log(RANGE), -1, 1))
        end = np.array(self.more if t > 0 else self.less)
        mixed = (1 - abs(t)) * np.array(self.same) + abs(t) * end
        return float(mixed[0]), float(mixed[1]), float(mixed[2])


MASS = Scale("mass of a body, and thickness", (0.10, 0.35, 0.85), (0.86, 0.86, 0.86),
             (0.80, 0.10, 0.10))
GRIP = Scale("friction of the floor", (0.55, 0.85, 1.00), (1.00, 1.00, 1.00), (0.85, 0.62, 0.35))
DAMPING = Scale("damping of a joint", (0.15, 0.65, 0.30), (0.95, 0.90, 0.55), (0.45, 0.15, 0.55))


class Shading:
    """How to draw the variants of one base model: only what differs in any of them is touched."""

    def __init__(self, base: mujoco.MjModel, variants: Sequence[mujoco.MjModel]) -> None:
        self._base = base
        ratios = [_ratios(model, base) for model in variants]
        self._mass, self._grip, self._damping = (
            (np.abs(np.log(np.maximum(each, 1e-9))) > 1e-6).any(0)
            for each in zip(*ratios, strict=True)
        )
        # What is of another size by itself must not look as if it were by its mass.
        self._swells = np.all([(model.geom_size == base.geom_size).all(1) for model in variants], 0)
        planes = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
        self._grip &= (base.geom_bodyid == 0) & np.isin(base.geom_type, planes)

    @property
    def scales(self) -> list[Scale]:
        """What the colours tell of."""
        shown = ((MASS, self._mass), (GRIP, self._grip), (DAMPING, self._damping))
        return [scale for scale, varies in shown if varies.any()]

    def apply(self, model: mujoco.MjModel, data: mujoco.MjData) -> list[Dot]:
        """Colour and size one variant's geoms, in place; and dots for its joints."""
        mass, grip, damping = _ratios(model, self._base)
        for geom in range(model.ngeom):
            body, material = model.geom_bodyid[geom], model.geom_matid[geom]
            if self._mass[body]:
                model.geom_rgba[geom, :3] = MASS.colour(mass[body])
                model.geom_matid[geom] = -1
                if self._swells[geom]:
                    model.geom_size[geom] *= _swelling(model.geom_type[geom], mass[body])
            if self._grip[geom]:
                model.geom_rgba[geom, :3] = GRIP.colour(grip[geom])
                if material >= 0:
                    model.mat_rgba[material, :3] = GRIP.colour(grip[geom])
        joints = [j for j in range(model.njnt) if self._damping[model.jnt_dofadr[j]]]
        return [(data.xanchor[j].copy(), DAMPING.colour(damping[model.jnt_dofadr[j]]))
                for j in joints]


def _ratios(
    model: mujoco.MjModel, base: mujoco.MjModel
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mass of bodies, sliding friction of geoms and damping of joints, over the base model's; 1
    where that has none."""
    pairs = ((_masses(model), _masses(base)), (model.geom_friction[:, 0],
             base.geom_friction[:, 0]), (model.dof_damping, base.dof_damping))
    one, two, three = (np.where(b > 0, a / np.where(b > 0, b, 1), 1.0) for a, b in pairs)
    return one, two, three


def _masses(model: mujoco.MjModel) -> NDArray[np.float64]:
    """The mass of each body [kg]; of a loose object made of several bodies, all of it."""
    whole = np.bincount(model.body_weldid, model.body_mass, model.nbody)[model.body_weldid]
    loose = np.zeros(model.nbody, bool)
    loose[model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]] = True
    return np.where(loose[model.body_weldid], whole, model.body_mass)


def _swelling(kind: int, ratio: float) -> NDArray[np.float64]:
    """Factors on a geom's three sizes at a mass so many times its own."""
    factor = float(np.clip(np.cbrt(ratio), 0.5, 2.0))
    shape = mujoco.mjtGeom(kind)
    if shape in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
        return np.array([factor, 1, 1])
    return np.ones(3) if shape == mujoco.mjtGeom.mjGEOM_MESH else np.full(3, factor)
