"""lift: an arm with a parallel gripper that must grasp and raise an object it has never met.

After robosuite's Lift, whose object never changes; here shape, size, mass, centre of mass and
friction are hidden. The arm sees where the object is and how it is turned, but not what it is like.

A firm grip lifts nearly anything of this size, so that a policy would have nothing to find out.
People do not grip like that: they squeeze little more than mass and friction ask for, which they
learn from one lift for the next (Johansson & Westling 1984, "Roles of glabrous skin receptors and
sensorimotor memory in automatic control of precision grip"). Success asks for such a grip, unless
`gentle` is off: then it is height alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.arm_model import add_sensor, arm_spec
from metarl.envs.arrays import Array, concatenate, cross, length, like, namespace, stack
from metarl.envs.family import Frame, Parameter, Random, Start
from metarl.envs.gripper import CLOSING, FORCE, STIFFNESS, add_gripper
from metarl.envs.objects import (
    HEIGHT,
    SHAPES,
    Shape,
    add_object,
    check_held_out,
    hidden_parameters,
    parts,
    resting_heights,
    round_size,
    shape_object,
    shape_parameter,
)
from metarl.envs.tabletop import SPEED, Tabletop, limited, lying

_SITE = mujoco.mjtObj.mjOBJ_SITE
_SPIN = 1.0  # rad/s about the vertical, at action 1
_LOWEST = 0.011  # m, of the tip above the table, at scale 1: the fingers end 3 mm above it
_START = 0.1  # m, of the tip above the table, at scale 1
_RISE = 0.06  # m, how high the object's underside must be, at scale 1
_GENTLE = 2.5  # times the force that just holds the object: beyond it, a grip is too hard
_OPEN = 0.078  # m between the fingers at the start, at scale 1: just off their stops


@dataclass(frozen=True)
class Lift(Tabletop):
    """An arm with a parallel gripper that must grasp and raise an object it has never met."""

    held_out: tuple[Shape, ...] = ()  # shapes that only test and ood tasks have
    gentle: bool = True  # success asks for a gentle grip as well as for height
    horizon: int = 120  # control steps of an episode (6 s)

    name = "lift"
    commands = 5  # the tool's velocity along x, y and z, its spin, and the gripper's opening
    hold = 10  # 0.5 s
    tip = (0.0, 0.0, _START)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_held_out(self.held_out)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies: the object's size and mass go with the arm's."""
        scale = self.body.scale
        return (
            shape_parameter(self.held_out),
            *hidden_parameters(scale, size=(0.02, 0.03), larger=(0.03, 0.035), heaviest=1.0,
                               friction=(0.3, 0.8), other=(0.2, 0.3)),
        )

    def spec(self) -> mujoco.MjSpec:
        arm = self.body
        spec = arm_spec(arm)
        spec.geom("floor").contype = spec.geom("floor").conaffinity = 1
        for finger in add_gripper(spec, arm):
            finger.contype, finger.conaffinity = 2, 1  # the table and objects, not each other
        add_object(spec, arm.scale)
        for geom in parts(spec):
            geom.contype, geom.conaffinity, geom.priority, geom.condim = 1, 1, 1, 4
            # Stiffer than MuJoCo's own contact, into which 40 N press a light object a centimetre.
            geom.solref[0], geom.solimp[:2] = 0.01, [0.95, 0.99]
        # Pyramids and equal impedances would let what is held creep out of the fingers.
        spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
        x, size = arm.bench[0], arm.scale
        spec.camera("view").pos = [x + 0.42 * size, -0.3 * size, 0.3 * size]
        # Where the object's middle is, but how high above its rest: how high would tell the size.
        spec.worldbody.add_site(name="rest")
        spec.add_sensor(name="object", type=mujoco.mjtSensor.mjSENS_FRAMEPOS,
                        objtype=_SITE, objname="object", reftype=_SITE, refname="rest")
        add_sensor(spec, "object_x", "framexaxis", "object")
        add_sensor(spec, "object_z", "framezaxis", "object")
        self.variant(spec, {p.name: p.default for p in self.parameters})
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        scale = self.body.scale
        shape_object(spec, SHAPES[int(task["shape"])], task["size"], scale, task["mass"],
                     (task["com_x"], task["com_y"]))
        spec.site("rest").pos = [0, 0, HEIGHT * round_size(task["size"], scale)]
        for geom in parts(spec):
            geom.friction[0] = task["friction"]

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        scale = self.body.scale
        arm = self.start(frame, random)
        middle = np.array(self.place(0, 0, 0)[:2])
        xy = middle + scale * random.uniform(-0.03, 0.03, 2)
        turned = random.uniform(-np.pi, np.pi)
        opening = np.full((len(task), 1), _OPEN * scale)
        placed = lying(xy, resting_heights(task[:, 1], scale), turned)
        qpos = concatenate(arm, opening / 2, opening / 2, placed)
        return Start(qpos, np.zeros_like(frame.qvel), act=concatenate(arm, opening))

    def control(self, frame: Frame, action: Array) -> Array:
        velocity = limited(SPEED * action[:, :3])
        # A guard keeps the fingers off the table, as one on an arm would.
        lowest = 3.0 * (_LOWEST * self.body.scale - frame.sensors["tip"][:, 2])  # m/s
        velocity[:, 2] = namespace(lowest).maximum(velocity[:, 2], lowest)
        return concatenate(self.steer(frame, velocity, _SPIN * action[:, 3]), action[:, 4:])

    def observe(self, frame: Frame) -> Array:
        sensors, scale = frame.sensors, self.body.scale
        return concatenate(
            sensors["tip"], sensors["tip_velocity"], sensors["closing"][:, :2],
            sensors["opening"], sensors["grip"] / (FORCE * scale), sensors["object"],
            sensors["object_x"], sensors["object_z"],
        )

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        """In the manner of robosuite's Lift: come near, squeeze what is near (enough, and not too
        hard), raise it."""
        scale = self.body.scale
        place = after.sensors["object"]
        apart = after.sensors["tip"] - place
        apart[:, 2] -= resting_heights(task[:, 1], scale)  # from its middle
        near = 1 - namespace(task).tanh(10 / scale * length(apart))
        rise = (place[:, 2] / (_RISE * scale)).clip(0, 1)
        ratio = _squeeze(after) / _needed(task)
        return near + near * (ratio.clip(0, 1) - self._excess(ratio)) + 4 * rise

    def _excess(self, ratio: Array) -> Array:
        """How much too hard a grip of so many times the needed force is, (N,) in [0, 1]."""
        return (ratio / _GENTLE - 1).clip(0, 1) * self.gentle

    def holds(self, frame: Frame, task: Array) -> Array:
        raised = frame.sensors["object"][:, 2] > _RISE * self.body.scale
        return raised & (self._excess(_squeeze(frame) / _needed(task)) == 0)

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        return {"height [m]": frame.sensors["object"][:, 2], "grip [N]": _squeeze(frame)}

    def expert(self, frame: Frame, task: Array) -> Array:
        """Turn above it to the nearest of the shape's good grasps, go down, close, squeeze as much
        as mass and friction ask for, raise."""
        scale, sensors, xp = self.body.scale, frame.sensors, namespace(task)
        tip, place, opening = sensors["tip"], sensors["object"], sensors["opening"][:, 0]
        half, squeeze = resting_heights(task[:, 1], scale), _squeeze(frame)
        goal, turn = _grasp(frame, task[:, 0], half / HEIGHT)
        apart = goal - tip[:, :2]
        miss, off = length(apart) / scale, abs(turn)
        above = abs(tip[:, 2] - place[:, 2] - half) / scale  # of the object's middle
        # What has begun goes on, though the object may move a little.
        begun = opening < 0.074 * scale
        ready = xp.where(begun, (above < 0.015) & (miss < 0.02) & (off < 0.5),
                            (above < 0.006) & (miss < 0.004) & (off < 0.06))
        wanted = (0.84 * _GENTLE * _needed(task)).clip(max=0.95 * FORCE * scale)
        firm = ready & (squeeze > 0.8 * wanted)
        down = ready | ((miss < 0.01) & (off < 0.15) & ~begun)
        height = xp.where(down, half.clip(min=_LOWEST * scale), 0.08 * scale)
        up = xp.where(firm, 3 * (1.25 * _RISE * scale - place[:, 2]), 4 * (height - tip[:, 2]))
        along = xp.where(firm[:, None], 0.0, 3 * apart)
        velocity = concatenate(along, up.clip(-0.15 * scale, 0.15 * scale)[:, None])
        spin = xp.where(ready, 0.0, 3 * turn / _SPIN).clip(-1, 1)
        # Quickly, then slowly up to the touch, then to the force that is wanted.
        close = (wanted - squeeze) / (0.1 * STIFFNESS)  # m/s
        least = xp.where(opening > 2.3 * half / HEIGHT, CLOSING * scale, 0.03 * scale)
        close = xp.where(squeeze < 0.3 * wanted, xp.maximum(close, least), close)
        open_ = xp.where(ready, -close / (CLOSING * scale), 1.0).clip(-1, 1)
        return concatenate(limited(velocity) / SPEED, spin[:, None], open_[:, None])


def _grasp(frame: Frame, shape: Array, half: Array) -> tuple[Array, Array]:
    """The place (N, 2) [m] of the nearest good grasp of objects of shapes (N,) and half widths (N,)
    [m], and how far the gripper still has to turn to it, (N,) rad."""
    sensors, xp = frame.sensors, namespace(shape)
    grasps = like(shape, _GRASPS)[xp.asarray(shape, dtype=xp.int64)]  # (N, G, 3)
    heading = _heading(sensors["object_x"], sensors["object_z"])
    now = xp.arctan2(sensors["closing"][:, 1], sensors["closing"][:, 0])
    turns = (heading - now)[:, None] + grasps[:, :, 0]
    turns = xp.remainder(turns + np.pi / 2, np.pi) - np.pi / 2  # half a turn is none
    rows, best = xp.arange(len(turns)), abs(turns).argmin(1)
    x, y = grasps[rows, best, 1:].T * half
    cosine, sine = xp.cos(heading), xp.sin(heading)
    offset = stack(cosine * x - sine * y, sine * x + cosine * y)
    return sensors["object"][:, :2] + offset, turns[rows, best]


def _heading(x: Array, z: Array) -> Array:
    """How bodies are turned about the vertical, (N,) rad, from their axes (N, 3), however they
    lean: the twist of a swing-twist decomposition."""
    y = cross(z, x)
    return namespace(y).arctan2(x[:, 1] - y[:, 0], x[:, 0] + y[:, 1])


def _squeeze(frame: Frame) -> Array:
    """The force of each finger inward, (N,) N."""
    return -frame.sensors["grip"][:, 0]


def _needed(task: Array) -> Array:
    """The least force of two fingers that friction turns into the object's weight, (N,) N."""
    return task[:, 2] * 9.81 / (2 * task[:, 5])


def _grasps() -> Array:
    """Good grasps of every shape, (S, 6, 3): the angle [rad] along which to close, and the place
    between the fingers, of half of the width, both in the object's own frame."""
    third, quarter = 2 * np.pi / 3, np.pi / 2
    anyhow = [(np.pi / 6 * i, 0.0, 0.0) for i in range(6)]
    corners = np.arange(3) * third
    good = {
        "box": [(0.0, 0.0, 0.0), (quarter, 0.0, 0.0)],
        "cylinder": anyhow,
        "capsule": [(0.0, 0.0, 0.0)],  # across
        "ellipsoid": [(quarter, 0.0, 0.0)],  # across
        "L": [(0.0, 0.0, -0.5), (quarter, -0.5, 0.0)],  # along a leg
        "wedge": stack(corners, 0.3 * np.cos(corners), 0.3 * np.sin(corners)).tolist(),
        "ring": anyhow,
    }
    return np.array([(6 * good[shape])[:6] for shape in SHAPES])


_GRASPS = _grasps()
