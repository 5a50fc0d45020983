"""What a description may vary in a MuJoCo model, and how a model is edited into a variant."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import mujoco
import numpy as np

from metarl.envs.family import Interval
from metarl.errors import UserError

_PADDING = 1 << 30  # a contact bit that nothing else has
_TYPES = {name: getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")
          for name in ("sphere", "capsule", "ellipsoid", "cylinder", "box")}
_FITTING = {"type": [*_TYPES.values()], "mesh": [mujoco.mjtGeom.mjGEOM_MESH],
            "hfield": [mujoco.mjtGeom.mjGEOM_HFIELD]}
_NOT_NEGATIVE, _POSITIVE = (0.0, float("inf")), (1e-9, float("inf"))
_ANY = (-float("inf"), float("inf"))


@dataclass(frozen=True)
class Field:
    """A quantity of a model."""

    unit: str
    possible: Interval = _NOT_NEGATIVE
    axes: bool = False  # a vector, of which `axis` names one component to set


# kind of thing -> quantity of it. What a value means is written in `Edit`.
FIELDS: dict[str, dict[str, Field]] = {
    "body": {
        "mass": Field("kg", _POSITIVE),
        "pos": Field("m", _ANY, axes=True),
    },
    "geom": {
        "mass": Field("kg"),
        "friction": Field("-"),
        "size": Field("m", _POSITIVE, axes=True),
        "pos": Field("m", _ANY, axes=True),
        "type": Field("-"),
        "mesh": Field("-"),
        "hfield": Field("-"),
    },
    "site": {"pos": Field("m", _ANY, axes=True)},
    "joint": {
        "damping": Field("N m s/rad"),
        "stiffness": Field("N m/rad"),
        "frictionloss": Field("N m"),
        "armature": Field("kg m^2"),
    },
    "actuator": {"gain": Field("-", _POSITIVE)},
    "option": {
        "gravity": Field("m/s^2"), "density": Field("kg/m^3"), "viscosity": Field("Pa s"),
    },
}
NAMED = ("type", "mesh", "hfield")  # of a geom: its value is a name
FACTOR = (1e-9, float("inf"))  # possible factors


@dataclass(frozen=True)
class Edit:
    """How one parameter changes the model.

    A body's mass takes its inertia with it, in proportion. A friction that is set is the sliding
    one; a gain that is set is that of the servo, whose bias follows in proportion, but for a
    dampratio, which stays; gravity that is set points down. A factor scales the whole vector, or
    the component that `axis` names.
    """

    kind: str  # of FIELDS
    patterns: tuple[str, ...]  # names that it applies to, as `link*`; of an option, none
    field: str
    scales: bool = False  # the value is a factor on what the model has
    axis: int | None = None
    names: tuple[str, ...] = ()  # the value is the index of one of these

    def things(self, spec: mujoco.MjSpec) -> list[Any]:
        """What it applies to; an option applies to no thing."""
        if self.kind == "option":
            return []
        return [thing for thing in everything(spec, self.kind)
                if any(fnmatchcase(thing.name, pattern) for pattern in self.patterns)]

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Make of the user's model one that can be edited like this."""
        if (self.kind, self.field) == ("body", "mass"):
            _make_inertia_explicit(spec, {thing.name for thing in self.things(spec)})
        if self.field == "mesh":
            _pad(spec, self.names)
        if self.kind == "geom" and self.field != "friction":
            for geom in self.things(spec):
                if geom.parent != spec.worldbody:
                    geom.parent.simple = False  # its inertia may turn; else rows cannot have that
            # Rows share the trees in which contacts between bodies of many geoms are searched.
            spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE

    def problem(self, spec: mujoco.MjSpec) -> str:
        """Why a prepared model cannot be edited like this; nothing where it can."""
        for thing in self.things(spec):
            said = f"{self.kind} {thing.name!r}"
            if self.kind == "actuator" and thing.gaintype != mujoco.mjtGain.mjGAIN_FIXED:
                return f"{said} has no fixed gain: it is no motor, position or velocity servo"
            if self.names and thing.type not in _FITTING[self.field]:
                return f"{said} has another type; {self.field} cannot be chosen for it"
            if not self.scales and (
                ((self.kind, self.field) == ("body", "mass") and not thing.mass > 0)
                or (self.kind == "actuator" and not thing.gainprm[0])
            ):
                return f"{said} has the {self.field} 0, to which nothing else has a proportion"
        return ""

    def apply(self, spec: mujoco.MjSpec, value: float) -> None:
        """Edit a prepared model."""
        if self.kind == "option":
            self._set_option(spec.option, value)
            return
        for thing in self.things(spec):
            if self.names:
                _NAMERS[self.field](thing, self.names[round(value)])
            elif special := _SPECIAL.get((self.kind, self.field)):
                special(thing, value, self.scales)
            else:
                self._set(thing, value)

    def _set(self, thing: Any, value: float) -> None:
        old = getattr(thing, self.field)
        if np.ndim(old) == 0:
            setattr(thing, self.field, old * value if self.scales else value)
            return
        new = np.array(old)
        if self.scales:
            chosen = slice(None) if self.axis is None else self.axis
            new[chosen] *= value
        else:
            new[self.axis or 0] = value
        setattr(thing, self.field, new)

    def _set_option(self, option: Any, value: float) -> None:
        if self.scales:
            setattr(option, self.field, getattr(option, self.field) * value)
        else:
            setattr(option, self.field, [0, 0, -value] if self.field == "gravity" else value)


def everything(spec: mujoco.MjSpec, kind: str) -> list[Any]:
    """All bodies (but the world), geoms, joints, ... of a model."""
    lists: dict[str, Callable[[], Iterable[Any]]] = {
        "body": lambda: spec.bodies[1:], "geom": lambda: spec.geoms, "joint": lambda: spec.joints,
        "site": lambda: spec.sites, "actuator": lambda: spec.actuators,
        "mesh": lambda: spec.meshes, "hfield": lambda: spec.hfields, "key": lambda: spec.keys,
    }
    return list(lists[kind]())


def choices(spec: mujoco.MjSpec, field: str) -> list[str]:
    """The names that a geom's type, mesh or hfield may have."""
    return list(_TYPES) if field == "type" else [thing.name for thing in everything(spec, field)]


# Quantities that are more than one number.


def _scale_mass(body: Any, value: float, scales: bool) -> None:
    factor = value if scales else value / body.mass
    body.mass *= factor
    body.inertia = body.inertia * factor


def _set_geom_mass(geom: Any, value: float, scales: bool) -> None:
    if not scales:
        geom.mass = value
    elif np.isnan(geom.mass):
        geom.density *= value
    else:
        geom.mass *= value


def _scale_gain(actuator: Any, value: float, scales: bool) -> None:
    factor = value if scales else value / actuator.gainprm[0]
    # A positive third number of a servo's bias is no damping but a ratio, which MuJoCo turns into
    # one by the gain: it stays.
    ratio = actuator.biasprm[2] > 0 and actuator.biasprm[1] == -actuator.gainprm[0]
    rest = [1] * (len(actuator.biasprm) - 3)
    factors = np.array([factor, factor, 1 if ratio else factor, *rest])
    actuator.biasprm = actuator.biasprm * factors
    actuator.gainprm = actuator.gainprm * np.array([factor] + [1] * (len(actuator.gainprm) - 1))


_SPECIAL: dict[tuple[str, str], Callable[[Any, float, bool], None]] = {
    ("body", "mass"): _scale_mass,
    ("geom", "mass"): _set_geom_mass,
    ("actuator", "gain"): _scale_gain,
}


def _name_type(geom: Any, name: str) -> None:
    geom.type = _TYPES[name]


def _name_mesh(geom: Any, name: str) -> None:
    geom.meshname = name


def _name_hfield(geom: Any, name: str) -> None:
    geom.hfieldname = name


_NAMERS: dict[str, Callable[[Any, str], None]] = {
    "type": _name_type, "mesh": _name_mesh, "hfield": _name_hfield,
}


# Preparations.


def _make_inertia_explicit(spec: mujoco.MjSpec, names: set[str]) -> None:
    """Give the named bodies the mass and inertia that they compile to, as numbers of their own."""
    kinds = mujoco.mjtInertiaFromGeom
    if spec.compiler.settotalmass > 0:
        raise UserError("a body's mass cannot vary where <compiler settotalmass> fixes their sum")
    if spec.compiler.inertiafromgeom == kinds.mjINERTIAFROMGEOM_TRUE:
        for body in spec.bodies:
            body.explicitinertial = False
    compiled = spec.copy()
    twins = list(compiled.bodies)
    model = compiled.compile()
    for body, twin in zip(spec.bodies, twins, strict=True):
        if body.name in names:
            body.explicitinertial = True
            body.mass, body.inertia = model.body_mass[twin.id], model.body_inertia[twin.id]
            body.ipos, body.iquat = model.body_ipos[twin.id], model.body_iquat[twin.id]
            # The other ways in which MJCF may have said it.
            body.fullinertia = [np.nan, 0, 0, 0, 0, 0]
            body.ialt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    if spec.compiler.inertiafromgeom == kinds.mjINERTIAFROMGEOM_TRUE:
        spec.compiler.inertiafromgeom = kinds.mjINERTIAFROMGEOM_AUTO


def _pad(spec: mujoco.MjSpec, meshes: tuple[str, ...]) -> None:
    """MuJoCo keeps a convex hull only of meshes that something may touch: let something."""
    for name in meshes:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, contype=0, conaffinity=_PADDING,
            mass=0, rgba=[0, 0, 0, 0], group=5,
        )
