"""A family's frame from what an arm measures: its joints by encoders, objects by perception.

The sensors of a frame are computed by setting the family's own MuJoCo model to the measured state,
so that they mean on the arm what they meant in training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, Frame, Start
from metarl.robot.arm import ArmError, ArmSpec, ArmState, Vector

_ALL = np.ones(1, bool)


@dataclass(frozen=True)
class Sighting:
    """What a camera, say, saw of the objects that a family has beside the arm."""

    t_host: float  # s, monotonic, when the picture was taken
    poses: Mapping[str, Vector]  # free joint -> (7,) place [m] and quaternion wxyz, in the world


Perception = Callable[[], Sighting]  # the newest sighting


class Measured:
    """Turns the states of one arm into frames of one family.

    Raises ArmError where the arm is not the family's, or cannot sense what the family reads.
    """

    def __init__(self, family: Family, spec: ArmSpec, seen: bool = False) -> None:
        """`seen`: perception tells of the objects."""
        self.family = family
        self.engine = BatchEngine(family, 1)
        model = self.engine.model
        names = tuple(model.joint(int(i)).name for i in model.actuator_trnid[:, 0])
        if names != spec.joints:
            raise ArmError(f"{family.name} drives the joints {', '.join(names)}; {spec.model} has "
                           f"{', '.join(spec.joints)}")
        own = getattr(family, "arm", spec.model)
        if own != spec.model:
            raise ArmError(f"the policy was trained on {own}, and this arm is a {spec.model}")
        if (model.actuator_dyntype != mujoco.mjtDyn.mjDYN_INTEGRATOR).any():
            raise ArmError(f"{family.name} does not command joint velocities")
        self._refuse_forces(spec)
        self.joints = np.array([model.joint(name).qposadr[0] for name in names])
        self.dofs = np.array([model.joint(name).dofadr[0] for name in names])
        # Free joint -> where its seven coordinates begin.
        self.objects = {
            model.joint(i).name: int(model.jnt_qposadr[i]) for i in range(model.njnt)
            if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE
        }
        if self.objects and not seen:
            raise ArmError(f"{family.name} must see {', '.join(self.objects)}, which no encoder "
                           "measures; give a perception that tells where it is")
        low, high = model.actuator_ctrlrange.T.copy()
        self.half, self.centre = (high - low) / 2, (high + low) / 2  # rad/s
        # s, that the family's servos are behind a moving set-point: damping over stiffness.
        damping = model.dof_damping[self.dofs] - model.actuator_biasprm[:, 2]
        self.lag = damping / -model.actuator_biasprm[:, 1]

    def frame(self, state: ArmState, speed: float, sighting: Sighting | None) -> Frame:
        """What the family's sensors tell of a state. At a `speed` below 1 the arm does everything
        that much slower; its velocities are told as those of the full speed.

        Raises ArmError for a state of nonsense, or an object that was not seen.
        """
        if not (np.isfinite(state.q).all() and np.isfinite(state.dq).all()):
            raise ArmError("the arm measures what is not finite")
        frame = self.engine.default_frame()
        qpos, qvel = frame.qpos, frame.qvel
        qpos[0, self.joints] = state.q
        qvel[0, self.dofs] = state.dq / speed
        for name, at in self.objects.items():
            pose = None if sighting is None else sighting.poses.get(name)
            if pose is None or pose.shape != (7,) or not np.isfinite(pose).all():
                raise ArmError(f"perception does not tell where {name} is")
            qpos[0, at : at + 7] = pose
        self.engine.reset(_ALL, Start(qpos, qvel))
        return self.engine.frame()

    def _refuse_forces(self, spec: ArmSpec) -> None:
        """Where a sensor needs forces: a pose and velocities do not tell those."""
        model = self.engine.model
        forces = [model.sensor(i).name for i in range(model.nsensor)
                  if model.sensor_needstage[i] > int(mujoco.mjtStage.mjSTAGE_VEL)]
        if forces:
            raise ArmError(f"{self.family.name} reads {', '.join(forces)}, which {spec.model} "
                           "does not measure the way the family does; it runs in simulation only")
