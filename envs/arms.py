"""The robot arms that a family can run on: public kinematics, limits and masses, as plain numbers.

`fr3`: Franka Robotics, Franka Control Interface documentation, "Robot and interface specifications"
(Denavit-Hartenberg parameters in Craig's convention, limits); masses from franka_description,
rounded; gains of libfranka's joint impedance example.

`ur5e`: Universal Robots, "DH parameters for calculations of kinematics and dynamics" and the UR5e's
data sheet (limits of speed and range; masses), joint torques from ur_description. Its gains are
ours: stiff, as a position-controlled arm is.

`so101`: TheRobotStudio's SO-101 (Apache-2.0): joint frames, ranges and masses of its URDF in the
new calibration, damping, armature, stiffness and torque of its STS3215 servos; speed 45 rpm, the
servo's without load at 7.4 V. It does not carry its own weight. A tool takes the place of its jaws.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from metarl.errors import unknown

Vector = tuple[float, float, float]
Interval = tuple[float, float]
ArmName = Literal["fr3", "ur5e", "so101"]


@dataclass(frozen=True)
class Joint:
    """A hinge about the z of its own frame, which lies in the frame of the joint before it."""

    place: Vector  # m
    turn: Vector  # rad, roll, pitch, yaw about fixed axes, as in URDF
    range: Interval  # rad
    speed: float  # rad/s, the limit
    torque: float  # N m, the limit
    mass: float  # kg, of the link behind it
    stiffness: float  # N m/rad, of the servo
    damping: float  # N m s/rad, of the servo


@dataclass(frozen=True, eq=False)  # itself alone: what is cached by arm looks at no numbers
class Arm:
    """An arm, and the part of its surroundings that tasks use."""

    name: ArmName
    joints: tuple[Joint, ...]
    flange: tuple[Vector, Vector]  # place [m] and turn [rad] in the last joint's frame; z: outward
    base: float  # rad, how the arm is turned about the vertical, so that it works toward +x
    home: tuple[float, ...]  # rad
    joint_damping: float  # N m s/rad, passive
    armature: float  # kg m^2
    carries_itself: bool  # its controller makes up for its own weight
    thickness: tuple[float, float]  # m, radius of the links, and of the last one
    goals: tuple[Interval, Interval, Interval]  # m, x, y and z that the flange reaches freely
    bench: tuple[float, float]  # m, x of the middle of the table's part, and half of its width
    scale: float  # size of what it handles, where the FR3's is 1
    tool: float  # m, length of a tool at its flange
    payload: Interval  # kg, that it carries with ease
    heavy: Interval  # kg, that it still carries

    @property
    def speeds(self) -> np.ndarray:
        """Limits of the joints' speeds, (J,) rad/s."""
        return np.array([joint.speed for joint in self.joints])


def _craig(a: float, d: float, alpha: float) -> tuple[Vector, Vector]:
    """Place and turn after Craig's a_{i-1} [m], d_i [m], alpha_{i-1} [rad]."""
    sine, cosine = float(np.sin(alpha)), float(np.cos(alpha))
    return (a, -sine * d, cosine * d), (alpha, 0.0, 0.0)


_QUARTER = np.pi / 2

_FR3 = Arm(
    name="fr3",
    joints=(
        Joint(*_craig(0.0, 0.333, 0.0), (-2.7437, 2.7437), 2.62, 87.0, 2.93, 600.0, 50.0),
        Joint(*_craig(0.0, 0.0, -_QUARTER), (-1.7837, 1.7837), 2.62, 87.0, 2.94, 600.0, 50.0),
        Joint(*_craig(0.0, 0.316, _QUARTER), (-2.9007, 2.9007), 2.62, 87.0, 2.24, 600.0, 50.0),
        Joint(*_craig(0.0825, 0.0, _QUARTER), (-3.0421, -0.1518), 2.62, 87.0, 2.62, 600.0, 50.0),
        Joint(*_craig(-0.0825, 0.384, -_QUARTER), (-2.8065, 2.8065), 5.26, 12.0, 2.33, 250.0, 30.0),
        Joint(*_craig(0.0, 0.0, _QUARTER), (0.5445, 4.5169), 4.18, 12.0, 1.82, 150.0, 25.0),
        Joint(*_craig(0.088, 0.0, _QUARTER), (-3.0159, 3.0159), 5.26, 12.0, 0.63, 50.0, 15.0),
    ),
    flange=((0.0, 0.0, 0.107), (0.0, 0.0, 0.0)),
    base=0.0,
    home=(0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4),  # Franka's "ready"
    joint_damping=1.0, armature=0.1, carries_itself=True, thickness=(0.055, 0.045),
    goals=((0.35, 0.65), (-0.3, 0.3), (0.2, 0.6)), bench=(0.5, 0.2), scale=1.0, tool=0.1,
    payload=(0.0, 2.0), heavy=(2.0, 3.0),
)

_TURN = 2 * np.pi
_UR5E = Arm(
    name="ur5e",
    joints=(
        Joint(*_craig(0.0, 0.1625, 0.0), (-_TURN, _TURN), np.pi, 150.0, 3.761, 2000.0, 200.0),
        Joint(*_craig(0.0, 0.0, _QUARTER), (-_TURN, _TURN), np.pi, 150.0, 8.058, 2000.0, 200.0),
        Joint(*_craig(-0.425, 0.0, 0.0), (-np.pi, np.pi), np.pi, 150.0, 2.846, 2000.0, 200.0),
        Joint(*_craig(-0.3922, 0.1333, 0.0), (-_TURN, _TURN), np.pi, 28.0, 1.37, 500.0, 50.0),
        Joint(*_craig(0.0, 0.0997, _QUARTER), (-_TURN, _TURN), np.pi, 28.0, 1.3, 500.0, 50.0),
        Joint(*_craig(0.0, 0.0996, -_QUARTER), (-_TURN, _TURN), np.pi, 28.0, 0.365, 500.0, 50.0),
    ),
    flange=((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    base=np.pi,
    home=(-0.3, -1.9, 2.1, -1.77, -_QUARTER, 0.0),
    joint_damping=2.0, armature=0.1, carries_itself=True, thickness=(0.055, 0.045),
    goals=((0.35, 0.65), (-0.3, 0.3), (0.2, 0.6)), bench=(0.5, 0.2), scale=1.0, tool=0.1,
    payload=(0.0, 3.0), heavy=(3.0, 5.0),
)

_SO101 = Arm(
    name="so101",
    joints=(
        Joint((0.0388353, 0.0, 0.0624), (np.pi, 0.0, -np.pi), (-1.91986, 1.91986), 4.7, 3.35, 0.1,
              17.8, 0.0),
        Joint((-0.0303992, -0.0182778, -0.0542), (-_QUARTER, -_QUARTER, 0.0), (-1.74533, 1.74533),
              4.7, 3.35, 0.103, 17.8, 0.0),
        Joint((-0.11257, -0.028, 0.0), (0.0, 0.0, _QUARTER), (-1.69, 1.69), 4.7, 3.35, 0.104,
              17.8, 0.0),
        Joint((-0.1349, 0.0052, 0.0), (0.0, 0.0, -_QUARTER), (-1.65806, 1.65806), 4.7, 3.35, 0.079,
              17.8, 0.0),
        Joint((0.0, -0.0611, 0.0181), (_QUARTER, 0.0486795, np.pi), (-2.74385, 2.84121), 4.7, 3.35,
              0.087, 17.8, 0.0),
    ),
    # The URDF's gripper frame lies at -0.0981 m; a tool is 6 cm long.
    flange=((-0.0079, -0.0002, -0.0381), (0.0, np.pi, 0.0)),
    base=0.0,
    home=(0.0, -0.4, 0.4, 1.2, 0.0),
    joint_damping=0.6, armature=0.028, carries_itself=False, thickness=(0.022, 0.018),
    goals=((0.16, 0.3), (-0.12, 0.12), (0.06, 0.22)), bench=(0.2, 0.06), scale=0.5, tool=0.06,
    payload=(0.0, 0.15), heavy=(0.15, 0.25),
)

ARMS: dict[ArmName, Arm] = {"fr3": _FR3, "ur5e": _UR5E, "so101": _SO101}


def check_arm(name: str) -> None:
    """Raise UserError for an arm that there is not."""
    if name not in ARMS:
        raise unknown("arm", name, ARMS)


def rotation(turn: Vector) -> np.ndarray:
    """The rotation matrix (3, 3) of roll, pitch and yaw [rad] about fixed axes."""
    (a, b, c), (d, e, f) = np.cos(turn), np.sin(turn)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
