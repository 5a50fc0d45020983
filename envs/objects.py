"""Objects of many shapes in one padded model: every shape is made of the same number of geoms.

MuJoCo collides a mesh as its convex hull, so what is not convex is made of convex parts. Parts that
a shape does not need hide inside it. Sizes come in steps, since meshes are compiled beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import mujoco
import numpy as np

from metarl.envs.arrays import Array
from metarl.envs.family import Interval, Parameter
from metarl.errors import UserError, unknown

Shape = Literal["box", "cylinder", "capsule", "ellipsoid", "L", "wedge", "ring"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
HEIGHT = 0.6  # half of an object's height, of half of its width
_PARTS = 8
_STEP = 0.0025  # m, between two sizes, times the scale
_STEPS = range(8, 23)  # 2 cm to 5.5 cm
_ROLLING = 0.006  # N m s/rad, at scale 1
_INNER = 0.55  # of a ring's outer radius
_GEOM = mujoco.mjtGeom
_COLOUR = (0.89, 0.55, 0.26, 1)


@dataclass(frozen=True)
class _Part:
    """A convex piece, in units of half of the object's width."""

    kind: mujoco.mjtGeom
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    place: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0  # rad
    lying: bool = False  # its z is the world's y
    mesh: str = ""
    share: float = 1.0  # of the volume, to split the mass by


def check_held_out(shapes: tuple[str, ...]) -> None:
    """Raises UserError where a shape to hold out does not exist, or none is left to train with."""
    for name in shapes:
        if name not in SHAPES:
            raise unknown("shape", name, SHAPES)
    if len(set(shapes)) == len(SHAPES):
        raise UserError("every shape is held out; leave some to train with")


def shape_parameter(held_out: tuple[Shape, ...]) -> Parameter:
    """The hidden shape, by name."""
    return Parameter(
        "shape", "", "the object's shape", (0.0, len(SHAPES) - 1.0),
        values=tuple(float(i) for i in range(len(SHAPES))), labels=SHAPES,
        held_out=tuple(float(i) for i, name in enumerate(SHAPES) if name in held_out),
    )


def hidden_parameters(
    scale: float, size: Interval, larger: Interval, heaviest: float, friction: Interval,
    other: Interval,
) -> tuple[Parameter, ...]:
    """What an object hides beside its shape: half of its width [m], mass [kg], centre of mass [m]
    and friction. `larger` sizes, masses up to `heaviest` and `other` frictions are ood; lengths and
    masses are those at scale 1. Masses go with its square: with its cube small objects would weigh
    next to nothing against what fingers and servos rub, in proportion to it they would outweigh
    what a small arm may carry."""
    def scaled(interval: Interval) -> Interval:
        return interval[0] * scale, interval[1] * scale

    offsets = tuple(
        Parameter(f"com_{axis}", "m", f"centre of mass, off the object's middle along its {axis}",
                  scaled((-0.01, 0.01)), possible=(-0.03, 0.03))
        for axis in "xy"
    )
    return (
        Parameter("size", "m", f"half of the object's width, in steps of {2.5 * scale:g} mm",
                  scaled(size), ood=(scaled(larger),), possible=(0.01, 0.06)),
        Parameter("mass", "kg", "the object's mass", (0.1 * scale**2, 0.8 * scale**2),
                  ood=((0.8 * scale**2, heaviest * scale**2),), possible=(1e-3, 5.0)),
        *offsets,
        Parameter("friction", "", "friction of the object with all it touches", friction,
                  ood=(other,), possible=(0.0, 5.0)),
    )


def resting_heights(sizes: Array, scale: float) -> Array:
    """How high the middles of objects asked to have `sizes` (N,) [m] lie above a table, (N,) m."""
    steps = (sizes / (scale * _STEP)).round().clip(_STEPS[0], _STEPS[-1])
    return HEIGHT * (steps * scale * _STEP)


def round_size(size: float, scale: float) -> float:
    """Half of the width [m] that an object asked to have `size` has."""
    step = round(size / (scale * _STEP))
    return min(max(step, _STEPS[0]), _STEPS[-1]) * scale * _STEP


def add_object(spec: mujoco.MjSpec, scale: float) -> None:
    """A body `object` that lies loose, as yet a box, and all meshes that it may become."""
    for step in _STEPS:
        half = step * scale * _STEP
        _mesh(spec, f"wedge{step}", half * _triangle())
        _mesh(spec, f"segment{step}", half * _segment())
    body = spec.worldbody.add_body(name="object")
    # Damping stands for the resistance to rolling; sliding at these speeds hardly feels it.
    body.add_joint(name="object", type=mujoco.mjtJoint.mjJNT_FREE,
                   damping=[_ROLLING * scale**3, 0, 0])
    for i in range(_PARTS):
        # A body each: the tree of the boxes around one body's geoms cannot differ between rows.
        part = body.add_body(name=f"object{i}")
        part.simple = False  # else a row cannot turn a primitive into a mesh
        part.add_geom(name=f"object{i}", rgba=_COLOUR, type=_GEOM.mjGEOM_SPHERE, mass=0.1,
                      size=[0.001, 0, 0])
    body.add_geom(name="ballast", type=_GEOM.mjGEOM_SPHERE, size=[0.001, 0, 0], mass=0.1,
                  contype=0, conaffinity=0, rgba=_COLOUR)
    body.add_site(name="object")


def parts(spec: mujoco.MjSpec) -> list[mujoco.MjsGeom]:
    """The geoms with which the object touches others."""
    return [spec.geom(f"object{i}") for i in range(_PARTS)]


def shape_object(
    spec: mujoco.MjSpec, shape: str, size: float, scale: float, mass: float,
    offset: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Give the object its shape, half of its width [m], mass [kg] and the offset [m] of its centre
    of mass: half of the mass is ballast at twice the offset."""
    half, step = round_size(size, scale), round(round_size(size, scale) / (scale * _STEP))
    pieces = _SHAPES[shape]()
    whole = sum(piece.share for piece in pieces)
    for i, geom in enumerate(parts(spec)):
        if i >= len(pieces):
            geom.pos = [half * pieces[0].place[0], half * pieces[0].place[1], 0]
            geom.mass = 0.0
            continue
        part = pieces[i]
        geom.type, geom.size = part.kind, [half * size for size in part.size]
        geom.pos = [half * part.place[0], half * part.place[1], 0]
        geom.quat = [np.cos(part.yaw / 2), 0, 0, np.sin(part.yaw / 2)]
        if part.lying:
            geom.quat = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]
        if part.mesh:
            geom.meshname = f"{part.mesh}{step}"
        geom.mass = 0.5 * mass * part.share / whole
    ballast = spec.geom("ballast")
    ballast.mass, ballast.pos = 0.5 * mass, [2 * offset[0], 2 * offset[1], 0]


def _box() -> list[_Part]:
    return [_Part(_GEOM.mjGEOM_BOX, (1, 1, HEIGHT))]


def _cylinder() -> list[_Part]:
    return [_Part(_GEOM.mjGEOM_CYLINDER, (1, HEIGHT, 0))]


def _capsule() -> list[_Part]:
    return [_Part(_GEOM.mjGEOM_CAPSULE, (HEIGHT, 0.4, 0), lying=True)]


def _ellipsoid() -> list[_Part]:
    return [_Part(_GEOM.mjGEOM_ELLIPSOID, (1, 0.75, HEIGHT))]


def _el() -> list[_Part]:
    return [
        _Part(_GEOM.mjGEOM_BOX, (0.4, 1, HEIGHT), (-0.6, 0), share=0.4),
        _Part(_GEOM.mjGEOM_BOX, (0.6, 0.4, HEIGHT), (0.4, -0.6), share=0.24),
    ]


def _wedge() -> list[_Part]:
    return [_Part(_GEOM.mjGEOM_MESH, mesh="wedge")]


def _ring() -> list[_Part]:
    return [
        _Part(_GEOM.mjGEOM_MESH, mesh="segment",
              place=(middle * np.cos(yaw), middle * np.sin(yaw)), yaw=yaw)
        for middle in [(1 + _INNER) / 2] for yaw in 2 * np.pi * np.arange(_PARTS) / _PARTS
    ]


_SHAPES: dict[str, Callable[[], list[_Part]]] = dict(
    zip(SHAPES, (_box, _cylinder, _capsule, _ellipsoid, _el, _wedge, _ring), strict=True)
)


def _triangle() -> np.ndarray:
    """A prism on an equilateral triangle, its centroid at the origin."""
    angles = 2 * np.pi * np.arange(3) / 3
    return _prism(np.stack([np.cos(angles), np.sin(angles)], 1) * 1.2)


def _segment() -> np.ndarray:
    """An eighth of a ring, about the middle of its thickness on the x axis."""
    middle, half = (1 + _INNER) / 2, np.tan(np.pi / _PARTS)
    flat = [[r - middle, side * r * half] for r in (_INNER, 1.0) for side in (-1, 1)]
    return _prism(np.array(flat))


def _prism(flat: np.ndarray) -> np.ndarray:
    """Corners of a prism of the common height over a flat figure, (2 n, 3)."""
    return np.concatenate([np.insert(flat, 2, z, 1) for z in (-HEIGHT, HEIGHT)])


def _mesh(spec: mujoco.MjSpec, name: str, corners: np.ndarray) -> None:
    mesh = spec.add_mesh(name=name)
    mesh.uservert = corners.ravel()
