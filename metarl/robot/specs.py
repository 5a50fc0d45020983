"""The specs of the arms that metarl has drivers for, from the numbers that its families use.

Accelerations and jerks, where vendors publish them: Franka Robotics, "Robot and interface
specifications" of the FR3 (libfranka's rate limits: 10 rad/s^2, 5000 rad/s^3). Universal Robots and
Feetech publish neither; their accelerations are ours, moderate ones.
"""

from metarl.envs.arms import ARMS, Arm, ArmName, rotation
from metarl.robot.arm import ArmSpec, Chain, Mode, Watchdog

_ACCELERATION: dict[ArmName, float] = {"fr3": 10.0, "ur5e": 10.0, "so101": 20.0}  # rad/s^2
_JERK: dict[ArmName, float | None] = {"fr3": 5000.0, "ur5e": None, "so101": None}  # rad/s^3


def chain(arm: Arm) -> Chain:
    """The kinematics of a family's arm."""
    frames = [(joint.place, joint.turn) for joint in arm.joints] + [arm.flange]
    return Chain(
        tuple((*place, *(float(x) for x in rotation(turn).ravel())) for place, turn in frames),
        tuple(float(x) for x in rotation((0.0, 0.0, arm.base)).ravel()),
    )


def spec_of(
    name: ArmName, *, modes: frozenset[Mode], rate_hz: tuple[float, float], watchdog: Watchdog,
    senses: frozenset[str], gripper: bool = False,
) -> ArmSpec:
    """The spec of a known arm behind a driver that says what it can do."""
    arm, jerk = ARMS[name], _JERK[name]
    joints = arm.joints
    return ArmSpec(
        model=name, joints=tuple(f"joint{i + 1}" for i in range(len(joints))),
        q_min=tuple(float(joint.range[0]) for joint in joints),
        q_max=tuple(float(joint.range[1]) for joint in joints),
        dq_max=tuple(float(joint.speed) for joint in joints),
        ddq_max=(_ACCELERATION[name],) * len(joints),
        jerk_max=None if jerk is None else (jerk,) * len(joints),
        tau_max=tuple(float(joint.torque) for joint in joints),
        chain=chain(arm), modes=modes, rate_hz=rate_hz, watchdog=watchdog, senses=senses,
        gripper=gripper,
    )
