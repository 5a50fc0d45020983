"""A parallel gripper as a MuJoCo model: two fingers on slides, coupled, with one drive of limited
force. The opening is that of the Franka Hand, the force about half of what that one can hold for
long, both scaled with what the arm handles; on SO-101 it stands in for the arm's own rotating jaw.
"""

import mujoco
import numpy as np

from metarl.envs.arm_model import GREY, WHITE, add_sensor
from metarl.envs.arms import Arm
from metarl.envs.kinematics import downward

OPENING = 0.08  # m between the fingers at most, at scale 1
CLOSING = 0.1  # m/s of the opening at most, at scale 1: 5 cm/s a finger
FORCE = 40.0  # N of each finger at most, at scale 1
STIFFNESS = 1000.0  # N/m of the drive: 10 N where the set-point is 1 cm inside what it holds
_DAMPING = 20.0  # N s/m
_THICK, _WIDE, _BELOW = 0.006, 0.01, 0.008  # m: halves of a finger, and its end below the tip
_GEOM = mujoco.mjtGeom


def add_gripper(spec: mujoco.MjSpec, arm: Arm) -> list[mujoco.MjsGeom]:
    """Put it on the arm's hand; its fingers' geoms.

    A site `tip` lies between the fingertips, where kinematics puts the tool's end; the fingers
    close along its y, which is the world's y where the tool points straight down as at home.
    Sensors: `tip` [m], `tip_velocity` [m/s], `closing` (the tip's y axis), `opening` [m] and `grip`
    [N], the force with which each finger pushes outward.
    """
    scale, hand = arm.scale, spec.body("hand")
    axes = downward(arm)
    angle = np.arctan2(-axes[1, 0], axes[1, 1])  # turns the hand's y onto the world's
    palm = hand.add_body(name="gripper", quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
                         gravcomp=float(arm.carries_itself))
    half = (OPENING / 2 + 2 * _THICK) * scale
    top = 0.6 * arm.tool
    palm.add_geom(type=_GEOM.mjGEOM_BOX, size=[1.5 * _WIDE * scale, half, top / 2],
                  pos=[0, 0, top / 2], mass=0.3 * scale, contype=0, conaffinity=0, rgba=WHITE)
    palm.add_site(name="tip", pos=[0, 0, arm.tool], group=4)
    length = (arm.tool + _BELOW * scale - top) / 2
    fingers = []
    for side, name in ((1, "finger_left"), (-1, "finger_right")):
        finger = palm.add_body(name=name, gravcomp=float(arm.carries_itself))
        finger.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, side, 0],
                         range=[0, OPENING * scale / 2], limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                         armature=0.2)
        fingers.append(finger.add_geom(
            name=name, type=_GEOM.mjGEOM_BOX, mass=0.03 * scale, rgba=GREY,
            size=[_WIDE * scale, _THICK * scale, length],
            pos=[0, side * _THICK * scale, top + length],
        ))
    _drive(spec, scale)
    add_sensor(spec, "tip", "framepos", "tip")
    add_sensor(spec, "tip_velocity", "framelinvel", "tip")
    add_sensor(spec, "closing", "frameyaxis", "tip")
    spec.add_sensor(name="opening", type=mujoco.mjtSensor.mjSENS_TENDONPOS,
                    objtype=mujoco.mjtObj.mjOBJ_TENDON, objname="opening")
    spec.add_sensor(name="grip", type=mujoco.mjtSensor.mjSENS_ACTUATORFRC,
                    objtype=mujoco.mjtObj.mjOBJ_ACTUATOR, objname="gripper")
    return fingers


def _drive(spec: mujoco.MjSpec, scale: float) -> None:
    """One servo on the opening, whose set-point integrates a speed as the arm's joints' do; a gear
    keeps the fingers mirrored."""
    spec.add_equality(name="gear", type=mujoco.mjtEq.mjEQ_JOINT, name1="finger_left",
                      name2="finger_right", data=[0, 1] + [0] * 10,
                      objtype=mujoco.mjtObj.mjOBJ_JOINT)
    tendon = spec.add_tendon(name="opening")
    tendon.wrap_joint("finger_left", 1)
    tendon.wrap_joint("finger_right", 1)
    spec.add_actuator(
        name="gripper", target="opening", trntype=mujoco.mjtTrn.mjTRN_TENDON,
        dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR, gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[STIFFNESS] + [0] * 9, biasprm=[0, -STIFFNESS, -_DAMPING] + [0] * 7,
        ctrllimited=True, ctrlrange=[-CLOSING * scale, CLOSING * scale],
        actlimited=True, actrange=[0, OPENING * scale],
        forcelimited=True, forcerange=[-FORCE * scale, FORCE * scale],
    )
