"""An arm as a MuJoCo model: primitives, and servos whose set-points cannot jump."""

import mujoco
import numpy as np

from metarl.envs.arms import Arm, Joint, Vector, rotation
from metarl.envs.scenery import add_scenery

SAFE_FRACTION = 0.25  # of the joints' speed limits, at action 1
WHITE, GREY, BLUE = (0.93, 0.94, 0.95, 1), (0.33, 0.37, 0.42, 1), (0.16, 0.47, 0.78, 1)
_GEOM = mujoco.mjtGeom


def arm_spec(arm: Arm) -> mujoco.MjSpec:
    """The arm on the floor of an empty room, with a body `hand` at its flange to carry a tool.

    Its own geoms touch nothing. The hand has a site `flange`; MuJoCo asks for some mass on it.
    """
    spec = mujoco.MjSpec()
    spec.modelname = arm.name
    spec.compiler.degree = False
    spec.option.timestep = 0.005
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    _scenery(spec, arm)
    body = spec.worldbody.add_body(name="base", quat=quaternion(rotation((0, 0, arm.base))))
    _pedestal(body, arm)
    for i, joint in enumerate(arm.joints):
        # The first capsule stands on the ground: its mass, a part of the world, weighs nothing.
        _link(body, joint.place, arm.thickness[0], arm.joints[i - 1].mass if i else 0.0)
        body = body.add_body(
            name=f"link{i + 1}", pos=joint.place, quat=quaternion(rotation(joint.turn)),
            gravcomp=float(arm.carries_itself),
        )
        body.add_joint(
            name=f"joint{i + 1}", axis=[0, 0, 1], range=joint.range,
            limited=mujoco.mjtLimited.mjLIMITED_TRUE, damping=[arm.joint_damping, 0, 0],
            armature=arm.armature,
        )
        radius = 1.1 * arm.thickness[0]
        # Not around a flange at the last joint, where it would hide the tool.
        at_flange = i == len(arm.joints) - 1 and np.linalg.norm(arm.flange[0]) < radius
        _drawn(body.add_geom(type=_GEOM.mjGEOM_CYLINDER, size=[radius, radius, 0], mass=0.0,
                             pos=[0, 0, -radius if at_flange else 0], rgba=GREY))
        _servo(spec, f"joint{i + 1}", joint)
    place, turn = arm.flange
    _link(body, place, arm.thickness[1], arm.joints[-1].mass)
    hand = body.add_body(name="hand", pos=place, quat=quaternion(rotation(turn)))
    radius = arm.thickness[1] / 1.5
    _drawn(hand.add_geom(type=_GEOM.mjGEOM_CYLINDER, size=[radius, radius / 3, 0], mass=0.05,
                         rgba=GREY))
    hand.add_site(name="flange")
    return spec


def add_sensor(spec: mujoco.MjSpec, name: str, kind: str, site: str) -> None:
    """A sensor of a site: `framepos` [m], `framelinvel` [m/s], `framequat`, `force` [N] ..."""
    spec.add_sensor(
        name=name, type=getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}"),
        objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site,
    )


def _servo(spec: mujoco.MjSpec, name: str, joint: Joint) -> None:
    """An impedance servo on a set-point that integrates the commanded velocity: it cannot jump."""
    speed = SAFE_FRACTION * joint.speed
    spec.add_actuator(
        name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT,
        dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR, gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        gainprm=[joint.stiffness] + [0] * 9,
        biasprm=[0, -joint.stiffness, -joint.damping] + [0] * 7,
        ctrllimited=True, ctrlrange=[-speed, speed],
        actlimited=True, actrange=joint.range,
        forcelimited=True, forcerange=[-joint.torque, joint.torque],
    )


def _link(
    body: mujoco.MjsBody, end: tuple[float, float, float], radius: float, mass: float
) -> None:
    if np.linalg.norm(end) < 1e-6:
        geom = body.add_geom(type=_GEOM.mjGEOM_SPHERE, size=[radius, 0, 0])
    else:
        geom = body.add_geom(type=_GEOM.mjGEOM_CAPSULE, fromto=[0, 0, 0, *end], size=[radius, 0, 0])
    geom.mass, geom.rgba = mass, WHITE
    _drawn(geom)


def _pedestal(body: mujoco.MjsBody, arm: Arm) -> None:
    radius, height = 1.6 * arm.thickness[0], 1.3 * arm.thickness[0]
    _drawn(body.add_geom(type=_GEOM.mjGEOM_CYLINDER, size=[radius, height, 0], pos=[0, 0, height],
                         rgba=GREY))


def _drawn(geom: mujoco.MjsGeom) -> None:
    geom.contype = geom.conaffinity = 0


def quaternion(turned: np.ndarray) -> np.ndarray:
    """The quaternion (4,) of a rotation matrix (3, 3)."""
    found = np.zeros(4)
    mujoco.mju_mat2Quat(found, turned.ravel())
    return found


def _scenery(spec: mujoco.MjSpec, arm: Arm) -> None:
    floor = add_scenery(spec, light=(1, -1, 3), room=3)
    floor.contype = floor.conaffinity = 0
    spec.worldbody.add_camera(name="view")
    reach = arm.goals[0][1]
    aim_camera(spec, (0.35 * reach, 0.0, 0.45 * reach), 2.5 * reach)


def aim_camera(
    spec: mujoco.MjSpec, target: Vector, distance: float, side: Vector = (0.68, -0.58, 0.45)
) -> None:
    """Let the camera `view` look at a place [m] from a distance [m], on the side of it that a
    vector points to: ahead, aside and above."""
    backward = np.array(side) / np.linalg.norm(side)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    camera = spec.camera("view")
    camera.pos = np.array(target) + distance * backward
    camera.quat = quaternion(np.stack([right, np.cross(backward, right), backward], 1))
