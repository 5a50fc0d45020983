"""Terrains: height fields of a kind and a difficulty, compiled once and chosen row by row.

Difficulty rises from 0, flat ground, to 1; what it means is metres, the same for every robot:

    slope    uphill at 20 degrees x difficulty
    rough    heights from U(-0.1 m, 0.1 m) x difficulty, drawn every 0.25 m, linear in between
    stairs   upward, steps of 0.2 m x difficulty in height and 0.5 m in depth
    gaps     0.05 m + 0.5 m x difficulty wide and 0.5 m deep, a metre of ground between them

A task's difficulty is any number, but there are ten terrains of each kind: it is rounded down to
a tenth, and below the first one the ground is flat. So tasks beyond the trained range are on
terrains that were never trained on.

The ground's friction alone counts. Friction cones are pyramids, MuJoCo's default and that of the
same robots on planes: along their diagonals a foot holds by 0.7 of it.

All begin with the same flat platform, on which the robot starts: from behind the robot to 1.5 m
ahead of it. A robot that leaves the field has left the track, which ends its episode.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs.arrays import Array
from metarl.envs.family import Parameter

KINDS = ("slope", "rough", "stairs", "gaps")
LEVELS = 10  # terrains of a kind, beside the flat one
PARAMETERS = (
    Parameter("kind", "", "the terrain's kind; any at difficulty 0 is flat", train=(0.0, 3.0),
              values=(0.0, 1.0, 2.0, 3.0), labels=KINDS),
    Parameter("difficulty", "x", "share of the hardest slope, roughness, step or gap",
              train=(0.0, 0.8), ood=((0.8, 1.0),), possible=(0.0, 1.0)),
    Parameter("friction", "x", "sliding friction of robot and ground", train=(0.6, 1.2),
              ood=((0.4, 0.6), (1.2, 1.6)), possible=(0.01, 10.0)),
)
_STEEPEST = math.radians(20)
_ROUGHEST = 0.1  # m, to either side
_HIGHEST = 0.2  # m, of a step
_NARROWEST, _WIDEST = 0.05, 0.55  # m, of a gap
_PLATFORM = 1.5  # m, its end
_PATCH = 0.25  # m between two heights of rough ground
_TREAD = 0.5  # m, depth of a step
_GROUND = 1.0  # m between two gaps
_DEPTH = 0.5  # m, of a gap
# m between two columns of a height field, hence also what a wall takes to rise: upright ones there
# are none. No finer than the shape needs, since a robot's part is tested against every cell below
# it, and is pushed out at the far side of one much thinner than itself.
_SPACING = {"slope": 0.5, "rough": _PATCH, "stairs": 0.05, "gaps": 0.05}
_BASE = 1.0  # m of ground below the lowest point, so that nothing gets through
_MARGIN = 1.0  # m from the field's edge at which a robot has left it


@dataclass(frozen=True)
class Field:
    """A field's extent, from the place where robots start."""

    ahead: float  # m
    aside: float  # m to either side
    behind: float = 4.0  # m
    flat_across: bool = False  # heights vary only along x, as a planar robot needs no more

    def columns(self, kind: str) -> NDArray[np.float64]:
        """Where the heights of a kind of terrain are, (columns,) m along x."""
        count = round((self.behind + self.ahead) / _SPACING[kind]) + 1
        return np.linspace(-self.behind, self.ahead, count)

    def left(self, x: Array, y: Array | float = 0.0) -> Array:
        """Whether robots at places (N,) [m] have left the field, (N,)."""
        beside = abs(y) > self.aside - _MARGIN
        return (x < _MARGIN - self.behind) | (x > self.ahead - _MARGIN) | beside


def heights(field: Field, kind: str, level: int) -> NDArray[np.float64]:
    """Heights (rows, columns) [m] of a terrain, rows along y."""
    x, share, rows = field.columns(kind), level / LEVELS, 2
    beyond = np.maximum(x - _PLATFORM, 0.0)
    cells = np.rint(beyond / _SPACING[kind]).astype(int)  # whole numbers, of which none is missed
    if kind == "slope":
        found = math.tan(_STEEPEST * share) * beyond
    elif kind == "rough":
        rows = 2 if field.flat_across else round(2 * field.aside / _PATCH) + 1
        source = np.random.default_rng((KINDS.index(kind), level))
        noise = source.uniform(-1, 1, (1 if field.flat_across else rows, len(x)))
        found = _ROUGHEST * share * noise * (cells > 0)
    elif kind == "stairs":
        found = _HIGHEST * share * np.ceil(cells / round(_TREAD / _SPACING[kind]))
    else:
        width = _NARROWEST + (_WIDEST - _NARROWEST) * share
        into = cells % round((_GROUND + width) / _SPACING[kind])
        found = np.where(into > round(_GROUND / _SPACING[kind]), -_DEPTH, 0.0)
    return np.broadcast_to(found, (rows, len(x)))  # long thin cells do where only x matters


def add_terrains(spec: mujoco.MjSpec, field: Field) -> None:
    """Put all terrains into a model and the flat one under the robot, as its floor."""
    for kind, level in product(KINDS, range(1, LEVELS + 1)):
        _add(spec, f"{kind}-{level}", field, heights(field, kind, level))
    _add(spec, "flat", field, np.zeros((2, 2)))
    floor = spec.geom("floor")
    floor.type, floor.pos = mujoco.mjtGeom.mjGEOM_HFIELD, [(field.ahead - field.behind) / 2, 0, 0]
    floor.hfieldname = "flat"
    floor.priority = 1  # the ground's friction alone decides
    # A robot's few geoms are found faster one by one than through a tree above a field.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    material = spec.material("floor")
    material.texuniform, material.texrepeat = True, [1, 1]


def choose_terrain(spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
    """Lay the terrain of a task below the robot, with its friction."""
    level = math.floor(round(task["difficulty"] * LEVELS, 6))
    floor = spec.geom("floor")
    floor.hfieldname = f"{KINDS[int(task['kind'])]}-{level}" if level else "flat"
    # MuJoCo measures a field's heights from its lowest point.
    floor.pos[2] = min(spec.hfield(floor.hfieldname).userdata)
    floor.friction[0] = task["friction"]


def _add(spec: mujoco.MjSpec, name: str, field: Field, found: NDArray[np.float64]) -> None:
    length, relief = field.behind + field.ahead, float(np.ptp(found))
    spec.add_hfield(
        name=name, nrow=found.shape[0], ncol=found.shape[1], userdata=found.ravel(),
        size=[length / 2, field.aside, relief or 1.0, _BASE],
    )
