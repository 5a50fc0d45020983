"""What an arm must be told so that, slowed down, it moves as the family's arm does at full speed.

Slowed down, servos seem quicker and inertias lighter: a policy would meet dynamics that it was not
trained with. So the family's own arm is simulated at full speed, in the default task, with the
velocities that the policy asks for, and the real one follows its path in stretched time (model
reference control).
"""

import mujoco
import numpy as np

from metarl.envs.family import default_task
from metarl.robot.arm import Vector
from metarl.robot.link import Report
from metarl.robot.measured import Measured

_ENOUGH = 0.02  # rad^2/s^2, of speed squared, to tell how an arm lags
_WINDOW = 40  # reports over which weight, which varies with the pose, is taken as the same
_GAIN = 2.0  # 1/s, with which the arm is brought back to the path
_APART = 0.1  # rad, that the path may lead away from an arm that does not come after


class Reference:
    """The family's arm in simulation, and how far the real one lags behind its targets."""

    def __init__(self, measured: Measured, speed: float) -> None:
        """`speed` is a share of that in training; at 1 a policy meets the arm as it is."""
        self._speed, self._joints, self._dofs = speed, measured.joints, measured.dofs
        self._model = measured.engine.compile(default_task(measured.family))
        # Objects are real, and must not be in the way of what is not.
        self._model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
        self._data, self._timestep = mujoco.MjData(self._model), self._model.opt.timestep
        self._family = measured.lag
        zeros = np.zeros_like(measured.lag)
        self._q = self.told = zeros  # rad, measured; rad/s, asked for last
        # Of speed and of distance to the target: means over the last reports, and sums, around
        # these, of speed squared and of speed times distance. Their ratio is the arm's lag.
        self._reports, self._means = 0, np.zeros((2, len(zeros)))
        self._moved, self._behind = zeros.copy(), zeros.copy()

    @property
    def lag(self) -> Vector:
        """The real arm's (J,) [s], by how it moved so far; before that, the family's."""
        measured = (self._behind / np.maximum(self._moved, _ENOUGH)).clip(0)
        return np.where(self._moved > _ENOUGH, measured, self._family)

    def saw(self, report: Report) -> None:
        """Learn from what the real arm did."""
        self._q = report.state.q
        now = np.stack([report.state.dq, report.applied - report.state.q])
        self._reports += 1
        off = now - self._means
        self._means = self._means + off / min(self._reports, _WINDOW)
        self._moved = self._moved + off[0] * (now - self._means)[0]
        self._behind = self._behind + off[0] * (now - self._means)[1]

    def begin(self) -> None:
        """An episode begins where the real arm is, at rest."""
        self.told = np.zeros_like(self._q)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[self._joints] = self._data.act[:] = self._q

    def velocity(self, wanted: Vector, lasts: float) -> Vector:
        """What to tell the real arm for the next `lasts` seconds (J,) [rad/s], where a policy wants
        velocities (J,) [rad/s] at full speed."""
        if self._speed == 1:
            self.told = wanted
            return wanted
        error = self._data.qpos[self._joints] - self._q
        excess = error - error.clip(-_APART, _APART)
        self._data.qpos[self._joints] -= excess
        self._data.act[:] -= excess
        before = self._target()
        self._data.ctrl[:] = wanted
        steps = max(1, round(self._speed * lasts / self._timestep))
        self._model.opt.timestep = self._speed * lasts / steps
        mujoco.mj_step(self._model, self._data, steps)
        self.told = (self._target() - before) / lasts + _GAIN * (error - excess)
        return self.told

    def _target(self) -> Vector:
        """Where to aim (J,) [rad], so that servos which lag are where the simulated arm is."""
        ahead = self.lag * self._speed * self._data.qvel[self._dofs]
        return self._data.qpos[self._joints] + ahead
