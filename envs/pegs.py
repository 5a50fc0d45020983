"""Pegs and the holes that they fit, round, square or hexagonal, in one padded model.

A hole is a block of walls, one for each of its sides, that stands on the table, which is its
bottom. A round peg's hole has eight sides. Walls that a hole does not need hide in the table.
"""

import mujoco
import numpy as np

from metarl.envs.arms import rotation
from metarl.envs.family import Parameter

SHAPES = ("round", "square", "hexagonal")
HALF = 0.0125  # m, half of a peg's width, across its flat sides, at scale 1
LENGTH = 0.05  # m, of a peg at scale 1
DEPTH = 0.025  # m, of a hole at scale 1
MASS = 0.1  # kg, of a peg at scale 1, whatever its shape
_MARGIN = 0.045  # m, from the hole to the block's edge
_HAIR = 2e-5  # m
_WALLS = 8
_SIDES = {"round": _WALLS, "square": 4, "hexagonal": 6}
_GEOM = mujoco.mjtGeom
_STEEL, _BRASS = (0.72, 0.78, 0.85, 1), (0.89, 0.55, 0.26, 1)


def shape_parameter() -> Parameter:
    """The hidden shape of peg and hole, by name."""
    return Parameter(
        "shape", "", "the shape of peg and hole", (0.0, len(SHAPES) - 1.0),
        values=tuple(float(i) for i in range(len(SHAPES))), labels=SHAPES,
    )


def add_peg(spec: mujoco.MjSpec, hand: mujoco.MjsBody, scale: float, tool: float) -> None:
    """A body `peg`, held `tool` metres in front of a hand, as yet round, with a site `tip`."""
    half, length = HALF * scale, LENGTH * scale
    peg = hand.add_body(name="peg")
    peg.simple = False  # else a row cannot turn a cylinder into a mesh
    holder = peg.add_geom(type=_GEOM.mjGEOM_CYLINDER, fromto=[0, 0, 0, 0, 0, tool - length],
                          size=[0.6 * half, 0, 0], rgba=(0.33, 0.37, 0.42, 1))
    holder.contype = holder.conaffinity = 0
    middle = [0, 0, tool - length / 2]
    peg.add_geom(name="peg", type=_GEOM.mjGEOM_CYLINDER, size=[half, length / 2, 0], pos=middle,
                 rgba=_BRASS)
    # One mass and inertia for all shapes, a square bar's: else a weight would show the shape.
    peg.mass, peg.ipos = MASS * scale, middle
    across = peg.mass / 12 * ((2 * half) ** 2 + length**2)
    peg.inertia = [across, across, peg.mass / 6 * (2 * half) ** 2]
    peg.add_site(name="tip", pos=[0, 0, tool])
    mesh = spec.add_mesh(name="hexagon")
    corner, angles = half / np.cos(np.pi / 6), np.pi / 6 + np.pi / 3 * np.arange(6)
    flat = corner * np.stack([np.cos(angles), np.sin(angles)], 1)
    mesh.uservert = np.concatenate(
        [np.insert(flat, 2, z, 1) for z in (-length / 2, length / 2)]
    ).ravel()


def add_hole(spec: mujoco.MjSpec) -> None:
    """Walls that `shape_hole` puts into their places."""
    for i in range(_WALLS):
        # A body each: the tree of the boxes around one body's geoms cannot differ between rows.
        spec.worldbody.add_body(name=f"wall{i}").add_geom(
            name=f"wall{i}", type=_GEOM.mjGEOM_BOX, size=[1e-3] * 3, pos=[0, 0, -1], mass=0.0,
            rgba=_STEEL,
        )


def walls(spec: mujoco.MjSpec) -> list[mujoco.MjsGeom]:
    """The geoms around the hole."""
    return [spec.geom(f"wall{i}") for i in range(_WALLS)]


def shape_peg(spec: mujoco.MjSpec, shape: str, scale: float) -> None:
    """Give the peg its shape."""
    peg, half = spec.geom("peg"), HALF * scale
    if shape == "square":
        peg.type, peg.size = _GEOM.mjGEOM_BOX, [half, half, LENGTH * scale / 2]
    elif shape == "hexagonal":
        peg.type, peg.meshname = _GEOM.mjGEOM_MESH, "hexagon"


def shape_hole(
    spec: mujoco.MjSpec, shape: str, scale: float, place: tuple[float, float], yaw: float,
    clearance: float,
) -> None:
    """Put a hole for a peg of a shape at a place [m] on the table, turned by a yaw [rad], with a
    clearance [m] on every side."""
    sides, depth = _SIDES[shape], DEPTH * scale
    inner = HALF * scale + clearance
    outer = inner + _MARGIN
    for i, wall in enumerate(walls(spec)[:sides]):
        angle = yaw + 2 * np.pi * i / sides
        middle = (inner + outer) / 2 * rotation((0, 0, angle))[:, 0]
        # As long as the block's side. It covers its neighbours' ends, but none of the hole; and it
        # is a hair lower, since light falls twice on faces that coincide.
        height = depth - _HAIR * i
        wall.size = [_MARGIN / 2, outer * np.tan(np.pi / sides) - _HAIR, height / 2]
        wall.pos = [place[0] + middle[0], place[1] + middle[1], height / 2]
        wall.quat = [np.cos(angle / 2), 0, 0, np.sin(angle / 2)]
