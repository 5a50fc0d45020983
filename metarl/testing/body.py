"""The physics behind a double: an arm in MuJoCo whose servos follow set-points, in its own time.

It is the training family's arm with what training does not have: payload, friction and backlash
between motor and link.
"""

import math
from dataclasses import dataclass, fields

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs.arm_model import arm_spec
from metarl.envs.arms import ARMS, ArmName
from metarl.errors import UserError
from metarl.robot.arm import Vector

TIMESTEP = 0.002  # s
_LOOK = 5  # time steps, after which the play between motor and link is looked at


@dataclass(frozen=True)
class Flaws:
    """How this arm differs from the one in the families."""

    payload: float = 0.0  # kg at the flange
    damping: float = 1.0  # factor
    gain: float = 1.0  # factor on the servos
    friction: float = 0.0  # N m, dry, at every joint
    backlash: float = 0.0  # rad, that a measured joint lags behind where it turns round
    noise: float = 0.0  # rad, standard deviation of measured angles

    def __post_init__(self) -> None:
        for field in fields(self):
            check_amount(field.name, getattr(self, field.name))


def check_amount(name: str, value: float) -> None:
    """Raise UserError for what an arm cannot have that much of."""
    if not 0 <= value < math.inf:
        raise UserError(f"{name} of the twin is {value:g}; give a number of at least 0")


FLAWLESS = Flaws()


class Body:
    """An arm at home, at rest, with torque off: it sags unless something carries it.

    Set-points are held for as long as `advance` is told; nothing here runs by itself, so a test
    can go faster or slower than the clock.
    """

    def __init__(
        self, arm: ArmName, flaws: Flaws = FLAWLESS, seed: int = 0,
        scene: mujoco.MjSpec | None = None,
    ) -> None:
        """`scene` is a family's model of the arm and what it handles; the arm alone without one."""
        self.arm: ArmName = arm
        body = ARMS[arm]
        spec = arm_spec(body) if scene is None else scene
        spec.option.timestep = TIMESTEP
        for actuator in spec.actuators:  # set-points come from outside, at once
            actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
            actuator.gainprm[0] *= flaws.gain
            actuator.biasprm[:3] *= flaws.gain
            actuator.ctrlrange, actuator.actlimited = actuator.actrange, 0
        self.joints = len(body.joints)
        for joint in spec.joints[: self.joints]:
            joint.damping[0] *= flaws.damping
            joint.frictionloss = flaws.friction
        if flaws.payload > 0:
            spec.body("hand").add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.03, 0, 0],
                                       mass=flaws.payload, contype=0, conaffinity=0)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.data.qpos[: self.joints] = body.home
        self.data.ctrl[:] = body.home
        self._flaws = flaws
        self._random = np.random.default_rng(seed)
        self._gear = self.data.qpos[: self.joints].copy()  # what an encoder behind the play shows
        self._forces = self.model.actuator_forcerange.copy()
        self.torque(False)
        mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> float:
        """Seconds that it has lived."""
        return float(self.data.time)

    @property
    def setpoint(self) -> Vector:
        """(J,) rad."""
        return self.data.ctrl.copy()

    def torque(self, on: bool | NDArray[np.bool_]) -> None:
        """Let the servos pull, or not: all alike, or each (J,)."""
        self.model.actuator_forcerange[:] = np.where(np.reshape(on, (-1, 1)), self._forces, 0.0)

    def aim(self, setpoint: Vector) -> None:
        """Give the servos set-points (J,) [rad]; they end at the joints' stops."""
        self.data.ctrl[:] = setpoint

    def advance(self, seconds: float) -> None:
        """Live on, by whole steps of TIMESTEP."""
        left, half = round(seconds / TIMESTEP), self._flaws.backlash / 2
        while left > 0:
            steps = min(left, _LOOK)
            left -= steps
            mujoco.mj_step(self.model, self.data, nstep=steps)
            q = self.data.qpos[: self.joints]
            self._gear = np.maximum(np.minimum(self._gear, q + half), q - half)

    def measure(self) -> tuple[Vector, Vector, Vector]:
        """Angles [rad], speeds [rad/s] and motor torques [N m], (J,) each."""
        noise = self._flaws.noise * self._random.standard_normal(self.joints)
        speeds = self.data.qvel[: self.joints].copy()
        return self._gear + noise, speeds, self.data.actuator_force.copy()
