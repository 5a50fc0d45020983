"""lift: an arm with a parallel gripper that must grasp and raise an object it has never met.

After Meta-World's pick-place and robosuite's Lift, whose objects never change; here shape, size,
mass, centre of mass and friction are hidden. It sees where the object is, how it is turned and how
it leans, but not which of its sides lie opposite each other, nor where it balances.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from metarl.envs.arm_model import add_sensor, arm_spec
from metarl.envs.family import Frame, Parameter, Random, Start
from metarl.envs.gripper import CLOSING, FORCE, STIFFNESS, add_gripper
from metarl.envs.objects import (
    HEIGHT, SHAPES, add_object, parts, round_size, shape_object, shape_parameter,
)
from metarl.envs.tabletop import SPEED, Tabletop, limited, lying

_SITE = mujoco.mjtObj.mjOBJ_SITE
_SPIN = 1.0  # rad/s about the vertical, at action 1
_LOWEST = 0.011  # m, of the tip above the table, at scale 1: its fingers end 3 mm above it
_START = 0.1  # m, of the tip above the table, at scale 1
_RISE = 0.06  # m, how high the object's underside must be, at scale 1
_AIM = 2.1
_GENTLE = 2.5  # times the force that just holds the object, beyond which a grip is too hard
_OPEN = 0.078  # m between the fingers at the start, at scale 1: just off their stops


@dataclass(frozen=True)
class Lift(Tabletop):
    """An arm with a parallel gripper that must grasp and raise an object it has never met."""

    gentle: bool = True  # success asks for a gentle grip as well
    horizon: int = 120  # control steps of an episode (6 s)

    name = "lift"
    commands = 5  # the tool's velocity along x, y and z, its spin, and the gripper's opening
    hold = 10  # 0.5 s
    tip = (0.0, 0.0, _START)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies: the object's size and mass go with the arm's."""
        scale = self.body.scale
        return (
            shape_parameter(),
            Parameter("size", "m", f"half of the object's width, in steps of {2.5 * scale:g} mm",
                      (0.02 * scale, 0.03 * scale), ood=((0.03 * scale, 0.035 * scale),),
                      possible=(0.01, 0.06)),
            Parameter("mass", "kg", "the object's mass", (0.1 * scale, 0.8 * scale),
                      ood=((0.8 * scale, 1.2 * scale),), possible=(1e-3, 5.0)),
            Parameter("com_x", "m", "centre of mass, off the object's middle along its x",
                      (-0.01 * scale, 0.01 * scale), possible=(-0.03, 0.03)),
            Parameter("com_y", "m", "centre of mass, off the object's middle along its y",
                      (-0.01 * scale, 0.01 * scale), possible=(-0.03, 0.03)),
            Parameter("friction", "", "friction of the object with all it touches", (0.3, 0.8),
                      ood=((0.2, 0.3),), possible=(0.0, 5.0)),
        )

    def spec(self) -> mujoco.MjSpec:
        arm = self.body
        spec = arm_spec(arm)
        spec.geom("floor").contype = spec.geom("floor").conaffinity = 1
        for finger in add_gripper(spec, arm):
            finger.contype, finger.conaffinity = 2, 0
        add_object(spec, arm.scale)
        for geom in parts(spec):
            geom.contype, geom.conaffinity, geom.priority, geom.condim = 1, 3, 1, 4
            # Stiffer than MuJoCo's own contact, into which 40 N press a light object a centimetre.
            geom.solref[0], geom.solimp[:2] = 0.01, [0.95, 0.99]
        # Pyramids and equal impedances would let what is held creep out of the fingers.
        spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10
        # How far the object's middle is from where it lies at rest: not how high, which is its size.
        spec.worldbody.add_site(name="rest")
        spec.add_sensor(name="object", type=mujoco.mjtSensor.mjSENS_FRAMEPOS,
                        objtype=_SITE, objname="object", reftype=_SITE, refname="rest")
        add_sensor(spec, "object_x", "framexaxis", "object")
        add_sensor(spec, "object_z", "framezaxis", "object")
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        scale = self.body.scale
        shape_object(spec, SHAPES[int(task["shape"])], task["size"], scale, task["mass"],
                     (task["com_x"], task["com_y"]))
        spec.site("rest").pos = [0, 0, HEIGHT * round_size(task["size"], scale)]
        for geom in parts(spec):
            geom.friction[0] = task["friction"]

    def reset(self, frame: Frame, task: Tensor, random: Random) -> Start:
        scale = self.body.scale
        arm = self.start(frame, random)
        rows = len(arm)
        middle = torch.tensor(self.place(0, 0, 0)[:2], dtype=torch.float64)
        xy = middle + scale * random.uniform(-0.03, 0.03, 2)
        turned = random.uniform(-torch.pi, torch.pi)
        opening = torch.full((rows, 1), _OPEN * scale, dtype=torch.float64)
        qpos = torch.cat([arm, (opening / 2).expand(rows, 2),
                          lying(xy, _half_height(task, scale), turned)], 1)
        return Start(qpos, torch.zeros_like(frame.qvel), act=torch.cat([arm, opening], 1))

    def control(self, frame: Frame, action: Tensor) -> Tensor:
        velocity = limited(SPEED * action[:, :3])
        # A guard keeps the fingers off the table, as one on an arm would.
        lowest = 5.0 * (_LOWEST * self.body.scale - frame.sensors["tip"][:, 2])  # m/s
        velocity[:, 2] = torch.maximum(velocity[:, 2], lowest)
        return torch.cat([self.steer(frame, velocity, _SPIN * action[:, 3]), action[:, 4:]], 1)

    def observe(self, frame: Frame) -> Tensor:
        sensors, scale = frame.sensors, self.body.scale
        return torch.cat([
            sensors["tip"], sensors["tip_velocity"], sensors["closing"][:, :2],
            sensors["opening"], sensors["grip"] / (FORCE * scale), sensors["object"],
            sensors["object_x"], sensors["object_z"],
        ], 1)

    def reward(self, before: Frame, action: Tensor, after: Frame, task: Tensor) -> Tensor:
        """In the manner of robosuite's Lift: come near, squeeze what is near, raise it."""
        scale = self.body.scale
        middle = after.sensors["object"].clone()
        middle[:, 2] += _half_height(task, scale)
        apart = (after.sensors["tip"] - middle).norm(dim=1) / scale
        near = 1 - (10 * apart).tanh()
        rise = (after.sensors["object"][:, 2] / (_RISE * scale)).clamp(0, 1)
        ratio = _squeeze(after) / _needed(task)
        return near + near * (ratio.clamp(0, 1) - self._excess(ratio)) + 4 * rise

    def _excess(self, ratio: Tensor) -> Tensor:
        """How much too hard a grip of so many times the needed force is, (N,) in [0, 1]."""
        return (ratio / _GENTLE - 1).clamp(0, 1) * self.gentle

    def holds(self, frame: Frame, task: Tensor) -> Tensor:
        raised = frame.sensors["object"][:, 2] > _RISE * self.body.scale
        return raised & (self._excess(_squeeze(frame) / _needed(task)) == 0)

    def outcome(self, frame: Frame, task: Tensor) -> dict[str, Tensor]:
        return {"height [m]": frame.sensors["object"][:, 2], "grip [N]": _squeeze(frame)}

    def expert(self, frame: Frame, task: Tensor) -> Tensor:
        """Turn to the nearest of the shape's good grasps above it, go down, close, raise."""
        scale, sensors = self.body.scale, frame.sensors
        tip, place, closing = sensors["tip"], sensors["object"], sensors["closing"]
        half = _half_height(task, scale)
        grasps = _GRASPS[task[:, 0].long()]  # (N, G, 3)
        heading = _heading(sensors["object_x"], sensors["object_z"])
        angle = heading[:, None] + grasps[:, :, 0]
        off = angle - torch.atan2(closing[:, 1], closing[:, 0])[:, None]
        off = torch.remainder(off + torch.pi / 2, torch.pi) - torch.pi / 2  # a half turn is none
        best = off.abs().argmin(1)
        rows = torch.arange(len(best))
        spin = off[rows, best]
        x, y = (grasps[rows, best, 1:] * (half / HEIGHT)[:, None]).T
        cosine, sine = heading.cos(), heading.sin()
        goal = place[:, :2] + torch.stack([cosine * x - sine * y, sine * x + cosine * y], 1)
        apart = goal - tip[:, :2]
        miss = apart.norm(dim=1) / scale
        above = (tip[:, 2] - place[:, 2] - half) / scale  # of the object's middle
        squeeze, opening = _squeeze(frame), sensors["opening"][:, 0]
        wanted = (_AIM * _needed(task)).clamp(max=0.95 * FORCE * scale)
        # What has begun goes on where the object moves a little.
        begun = opening < 0.074 * scale
        ready = (above.abs() < torch.where(begun, 0.015, 0.006)) & (
            miss < torch.where(begun, 0.02, 0.004)) & (
            spin.abs() < torch.where(begun, 0.5, 0.06))
        firm = ready & (squeeze > 0.8 * wanted)
        over = (miss < 0.01) & (spin.abs() < 0.15) & ~begun
        height = torch.where(over | ready, half.clamp(min=_LOWEST * scale), 0.08 * scale)
        up = 4 * (height - tip[:, 2])
        lift = 3 * (1.25 * _RISE * scale - place[:, 2])
        vertical = torch.where(firm, lift, up).clamp(-0.15 * scale, 0.15 * scale)
        level = torch.where(firm[:, None], 0.0, 3 * apart)
        velocity = limited(torch.cat([level, vertical[:, None]], 1)) / SPEED
        spin = torch.where(ready, 0.0, 3 * spin / _SPIN).clamp(-1, 1)
        # Close quickly, then slowly up to the touch, then to the force that is wanted.
        firmer = (wanted - squeeze) / (0.1 * STIFFNESS)  # m/s
        least = torch.where(opening > 2.3 * half / HEIGHT, CLOSING * scale, 0.03 * scale)
        firmer = torch.where(squeeze < 0.3 * wanted, torch.maximum(firmer, least), firmer)
        close = torch.where(ready, -firmer / (CLOSING * scale), 1.0).clamp(-1, 1)
        return torch.cat([velocity, spin[:, None], close[:, None]], 1)


def _heading(x: Tensor, z: Tensor) -> Tensor:
    """How bodies are turned about the vertical, (N,) rad, from their axes (N, 3), however they
    lean: the twist of a swing-twist decomposition."""
    y = torch.linalg.cross(z, x)
    return torch.atan2(x[:, 1] - y[:, 0], x[:, 0] + y[:, 1])


def _squeeze(frame: Frame) -> Tensor:
    """The force of each finger inward, (N,) N."""
    return -frame.sensors["grip"][:, 0]


def _needed(task: Tensor) -> Tensor:
    """The least force of two fingers that friction turns into the object's weight, (N,) N."""
    return task[:, 2] * 9.81 / (2 * task[:, 5])


def _half_height(task: Tensor, scale: float) -> Tensor:
    """Half of the objects' heights, (N,) m."""
    sizes = [HEIGHT * round_size(size, scale) for size in task[:, 1].tolist()]
    return torch.tensor(sizes, dtype=torch.float64)


def _grasps() -> Tensor:
    """Good grasps of every shape, (S, 6, 3): the angle [rad] along which to close and the place
    between the fingers, in units of half of the width, in the object's own frame."""
    sixth = [(torch.pi / 6 * i, 0.0, 0.0) for i in range(6)]
    square = [(0.0, 0.0, 0.0), (torch.pi / 2, 0.0, 0.0)]
    narrow = [(0.0, 0.0, 0.0)]
    third = [2 * torch.pi / 3 * i for i in range(3)]
    corners = torch.tensor(third)
    wedge = [(float(a), 0.3 * float(a.cos()), 0.3 * float(a.sin())) for a in corners]
    el = [(0.0, 0.0, -0.5), (torch.pi / 2, -0.5, 0.0)]
    each = {"box": square, "cylinder": sixth, "capsule": narrow,
            "ellipsoid": [(torch.pi / 2, 0.0, 0.0)], "L": el, "wedge": wedge, "ring": sixth}
    padded = [(6 * each[shape])[:6] for shape in SHAPES]
    return torch.tensor(padded, dtype=torch.float64)


_GRASPS = _grasps()
