"""reach: an arm that must bring its flange to a hidden place, with a hidden payload.

The arm carries its own weight where its controller does, but not the payload's. Nothing collides:
the goals lie in free space.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.arm_model import BLUE, SAFE_FRACTION, add_sensor, arm_spec
from metarl.envs.arms import ARMS, ArmName, check_arm
from metarl.envs.arrays import Array, concatenate, length, like, namespace
from metarl.envs.family import Family, Frame, Parameter, Random, Start
from metarl.envs.kinematics import at_most, forward, joint_speeds


@dataclass(frozen=True)
class Reach(Family):
    """An arm that must bring its flange to a hidden place, with a hidden payload."""

    arm: ArmName = "fr3"  # FR3 (7 joints), UR5e (6) or SO-101 (5)
    horizon: int = 50  # control steps of an episode (2.5 s)

    name = "reach"
    control_step = 0.05  # s: 20 Hz

    def __post_init__(self) -> None:
        check_arm(self.arm)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What varies: goals that the arm reaches freely, and payloads that it can carry."""
        arm = ARMS[self.arm]
        x, y, z = arm.goals
        return (
            Parameter("goal_x", "m", "goal, forward of the base", x, physics=False,
                      possible=(-1.2, 1.2)),
            Parameter("goal_y", "m", "goal, left of the base", y, physics=False,
                      possible=(-1.2, 1.2)),
            Parameter("goal_z", "m", "goal, above the base", z, physics=False,
                      possible=(0.0, 1.4)),
            Parameter("payload", "kg", "mass at the flange", arm.payload, ood=(arm.heavy,),
                      possible=(0.0, 20.0)),
            Parameter("damping", "x", "factor on the joints' damping", (0.5, 2.0),
                      distribution="log-uniform", possible=(0.0, 100.0)),
            Parameter("gain", "x", "factor on the actuators' gains", (0.7, 1.3),
                      possible=(0.01, 100.0)),
        )

    def spec(self) -> mujoco.MjSpec:
        arm = ARMS[self.arm]
        spec = arm_spec(arm)
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        spec.body("hand").add_geom(
            name="payload", type=mujoco.mjtGeom.mjGEOM_SPHERE, mass=1.0, rgba=BLUE,
            size=[arm.thickness[1] / 1.125, 0, 0],
        )
        add_sensor(spec, "flange", "framepos", "flange")
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        # A geom of no mass would leave MuJoCo's minimum for moving bodies to the flange alone.
        spec.geom("payload").mass = task["payload"]
        for i in range(len(ARMS[self.arm].joints)):
            spec.joint(f"joint{i + 1}").damping[0] *= task["damping"]
            actuator = spec.actuator(f"joint{i + 1}")
            actuator.gainprm[0] *= task["gain"]
            actuator.biasprm[:3] *= task["gain"]

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        home = np.array(ARMS[self.arm].home)
        qpos = home + random.uniform(-0.05, 0.05, len(home))  # rad
        return Start(qpos, np.zeros_like(frame.qvel), act=qpos)

    def observe(self, frame: Frame) -> Array:
        return concatenate(frame.qpos, frame.qvel, frame.sensors["flange"])

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        distance = _distance(after, task)
        # The logarithm makes the last centimetres count (Levine et al. 2016, "End-to-end training
        # of deep visuomotor policies", eq. in section 4.2).
        effort = (action * action).mean(1)
        return -5 * distance - 0.5 * namespace(distance).log(distance + 0.01) - 0.05 * effort

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        distance = _distance(frame, task)
        return {"success": distance < 0.02, "distance [m]": distance}

    def expert(self, frame: Frame, task: Array) -> Array:
        arm = ARMS[self.arm]
        jacobian = forward(arm, frame.qpos).jacobian[:, :3]
        toward = 4.0 * (task[:, :3] - frame.sensors["flange"])  # m/s, closing in 0.25 s
        limits = like(toward, SAFE_FRACTION * arm.speeds)
        return at_most(joint_speeds(jacobian, toward, damping=1e-3), limits)

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        return {"goal": (task["goal_x"], task["goal_y"], task["goal_z"])}


def _distance(frame: Frame, task: Array) -> Array:
    return length(frame.sensors["flange"] - task[:, :3])
