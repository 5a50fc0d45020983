"""Which arm this is: payload, damping, friction and gains, fitted to a small motion of it.

All joints swing at once, each at two frequencies of its own, inside the guard's tube: slowly, which
shows friction and weight, and faster, which shows inertia, against which all forces are measured.
MuJoCo's system identification (mujoco.sysid: bounded nonlinear least squares over simulated
rollouts) then fits the family's model to the angles and speeds that were measured, given the
targets that the guard has sent. Half-widths of 95 % intervals, which take the model for true, tell
what the motion could not show.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.arm_model import arm_spec
from metarl.envs.arms import ARMS
from metarl.envs.family import Family
from metarl.errors import UserError
from metarl.robot.arm import ArmError, Mode, Vector
from metarl.robot.clock import Clock
from metarl.robot.link import Link, Phase

_SPEED = 0.07  # rad/s, of either swing
_SLOW, _FAST = (0.3, 0.6), (1.2, 2.2)  # Hz, of the first joint and of the last
_PERIOD = 0.02  # s, between commands
_WAIT = 0.5  # s, for a report
# What is fitted: unit, what it is in the model, and the bounds of the search.
PARAMETERS = {"payload": ("kg", 0.0, 0.0, 6.0), "damping": ("x", 1.0, 0.05, 20.0),
              "gain": ("x", 1.0, 0.3, 3.0), "friction": ("N m", 0.05, 0.0, 10.0)}


@dataclass(frozen=True)
class Motion:
    """What was asked for, and what was measured: T samples of J joints."""

    t_target: Vector  # (T,) s
    target: Vector  # (T, J) rad
    t: Vector  # (T,) s
    q: Vector  # (T, J) rad
    dq: Vector  # (T, J) rad/s


@dataclass(frozen=True)
class Fit:
    """What the model must be like to move as the arm did."""

    values: dict[str, float]  # of PARAMETERS
    spread: dict[str, float]  # half-widths of 95 % intervals
    before: float  # rad, root mean square of measured minus simulated angles: the nominal model's
    after: float  # the fitted one's

    def place(self, family: Family) -> dict[str, str]:
        """Where the arm lies in the family's task space, by parameter."""
        found = {}
        for parameter in family.parameters:
            if parameter.name not in self.values:
                continue
            value, (low, high) = self.values[parameter.name], parameter.train
            out = max(low - value, value - high)
            share = out / (high - low)
            found[parameter.name] = f"inside [{low:g}, {high:g}]" if out <= 0 else \
                f"{out:.3g} {parameter.unit} outside [{low:g}, {high:g}], {share:.0%} of its width"
        return found

    def as_dict(self) -> dict[str, Any]:
        """For a log and a card."""
        return {"values": self.values, "spread": self.spread, "rms before [rad]": self.before,
                "rms after [rad]": self.after}


def excite(link: Link, clock: Clock, seconds: float = 8.0) -> Motion:
    """Swing all joints a little around where they are; the arm holds at the end.

    Raises ArmError where the guard latches, or the arm has a fault.
    """
    joints = len(link.spec.joints)
    rates = 2 * np.pi * np.linspace((_SLOW[0], _FAST[1]), (_SLOW[1], _FAST[0]), joints)  # rad/s
    began, rows = clock.now(), []
    while (t := clock.now() - began) < seconds:
        speed = _SPEED * np.cos(rates * t).sum(1) * min(1.0, t)  # grows at first: no jerk
        link.command(Mode.JOINT_VELOCITY, speed, 0.1)
        clock.sleep(_PERIOD)
        report = link.report(_WAIT)
        if report.phase is Phase.LATCHED or report.state.faults:
            raise ArmError(f"the excitation was stopped: {report.reason or report.state.faults}")
        rows.append(report)
    link.hold()
    start = rows[0].t
    # A target is in force for a period of the guard, which it is the middle of.
    sent = np.array([row.t - start for row in rows]) + getattr(link, "period", 0.0) / 2
    return Motion(
        sent, np.array([row.applied for row in rows]),
        np.array([row.state.t_host - start for row in rows]),
        np.array([row.state.q for row in rows]), np.array([row.state.dq for row in rows]))


def fit(arm: str, motion: Motion) -> Fit:
    """Fit an arm's model to a motion. Raises UserError where mujoco.sysid is not installed, or
    the arm is none of the families'."""
    try:
        from mujoco import sysid

        optimize = sysid.optimize
    except (ImportError, AttributeError):
        raise UserError("identification needs mujoco.sysid; install metarl[robot]") from None
    body = next((body for name, body in ARMS.items() if name == arm), None)
    if body is None:
        raise UserError(f"no family has the arm {arm}; known: {', '.join(ARMS)}")
    base = _base(arm_spec(body))
    model = base.compile()
    # A rollout begins at the time zero, and so must what it is compared to; what its sensors told
    # before a step bears the time after it.
    kept, times, targets = _aligned(motion, model.opt.timestep)
    sequence = sysid.ModelSequences(
        arm, base, "excitation",
        sysid.create_initial_state(model, motion.q[kept][0], motion.dq[kept][0]),
        sysid.TimeSeries.from_control_names(times - times[0], targets, model),
        sysid.TimeSeries.from_names(
            motion.t[kept] - times[0] + model.opt.timestep,
            np.concatenate([motion.q, motion.dq], 1)[kept], model))

    def build(parameters: Any, spec: mujoco.MjSpec) -> mujoco.MjModel:
        return _varied(spec, {name: float(parameters[name].value[0]) for name in PARAMETERS})

    residual = sysid.build_residual_fn(models_sequences=[sequence], build_model=build)
    start_at = sysid.ParameterDict()
    for key, (_, nominal, low, high) in PARAMETERS.items():
        start_at.add(sysid.Parameter(key, max(nominal, low + 1e-2), low, high))
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every iteration
        found, result = optimize(start_at, residual, verbose=False, max_iters=40)
    residuals = residual(result.x, found)[0]
    _, half = sysid.calculate_intervals(residuals, result.jac)
    values = {key: float(found[key].value[0]) for key in PARAMETERS}
    nominal = {key: value for key, (_, value, _, _) in PARAMETERS.items()} | {"friction": 0.0}
    return Fit(values, dict(zip(PARAMETERS, map(float, half), strict=True)),
               _error(base, nominal, motion), _error(base, values, motion))


def _base(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """The arm with set-points from outside, sensors of its joints, and something to carry."""
    spec.option.timestep = 0.002
    for actuator in spec.actuators:
        actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
        actuator.ctrlrange, actuator.actlimited = actuator.actrange, 0
    spec.body("hand").add_geom(name="payload", type=mujoco.mjtGeom.mjGEOM_SPHERE,
                               size=[0.03, 0, 0], mass=0.0, contype=0, conaffinity=0)
    for kind, suffix in ((mujoco.mjtSensor.mjSENS_JOINTPOS, "q"),
                         (mujoco.mjtSensor.mjSENS_JOINTVEL, "dq")):
        for joint in spec.joints:
            spec.add_sensor(name=f"{joint.name}_{suffix}", type=kind,
                            objtype=mujoco.mjtObj.mjOBJ_JOINT, objname=joint.name)
    return spec


def _varied(base: mujoco.MjSpec, values: dict[str, float]) -> mujoco.MjModel:
    spec = base.copy()
    spec.geom("payload").mass = values["payload"]
    for joint in spec.joints:
        joint.damping[0] *= values["damping"]
        joint.frictionloss = values["friction"]
    for actuator in spec.actuators:
        actuator.gainprm[0] *= values["gain"]
        actuator.biasprm[:3] *= values["gain"]
    return spec.compile()


def _aligned(motion: Motion, timestep: float) -> tuple[slice, Vector, Vector]:
    """The measured samples for which targets are known, and these in between, step by step."""
    first = int(np.argmax(motion.t >= motion.t_target[0]))
    times = np.arange(motion.t[first], min(motion.t[-1], motion.t_target[-1]), timestep)
    last = int(np.searchsorted(motion.t, times[-1], side="right"))
    middles = times + timestep / 2  # a step's target is in force until the next one
    targets = [np.interp(middles, motion.t_target, column) for column in motion.target.T]
    return slice(first, last), times, np.stack(targets, 1)


def _error(base: mujoco.MjSpec, values: dict[str, float], motion: Motion) -> float:
    """Root mean square of measured minus simulated angles, rad."""
    model = _varied(base, values)
    data = mujoco.MjData(model)
    kept, times, targets = _aligned(motion, model.opt.timestep)
    data.qpos[:], data.qvel[:] = motion.q[kept][0], motion.dq[kept][0]
    angles = []
    for target in targets:
        angles.append(data.qpos.copy())
        data.ctrl[:] = target
        mujoco.mj_step(model, data)
    simulated = [np.interp(motion.t[kept], times, column) for column in np.array(angles).T]
    return float(np.sqrt(np.mean(np.square(np.stack(simulated, 1) - motion.q[kept]))))
