"""Which arm this is: payload, damping, friction, backlash, gains, fitted to a small motion of it.

All joints swing at once, each at two frequencies of its own, inside the guard's tube: slowly, which
shows friction and weight, and faster, which shows inertia, against which all forces are measured.
MuJoCo's system identification (mujoco.sysid: bounded nonlinear least squares over simulated
rollouts) then fits the family's model to the angles and speeds that were measured, given the
targets that the guard has sent. What would be taken for damping otherwise is in the model: targets
are a staircase, a step in each of the guard's periods (drawn as a slope, speeds sampled at the end
of a step are 1 ms off, and damping a third too high), encoders sit behind a play, and where in it a
joint began shows in the first second, which does not count. And targets come into force late:
each millisecond that the model lacks is 3 % of an FR3's gain, so that a delay is fitted as well.

Half-widths of 95 % intervals tell what the motion could not show. Noise differs by sensor, and
errors of the model last: those samples count as few. They do not cover what it lacks altogether, a
servo that filters, say; compare the difference that is left to the noise of the encoders.
"""

import contextlib
import io
from collections.abc import Callable
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
_FORGETS = 1.0  # s, in which a simulation forgets that a joint began elsewhere inside its play
_LEAST = 1e-3  # rad or rad/s: what a sensor tells counts as moving that much at least
_Z = 1.96  # standard deviations, half of a 95 % interval
# What is fitted: unit, what it is in the model, and the bounds of the search.
PARAMETERS = {"payload": ("kg", 0.0, 0.0, 6.0), "damping": ("x", 1.0, 0.05, 20.0),
              "gain": ("x", 1.0, 0.3, 3.0), "friction": ("N m", 0.05, 0.0, 10.0),
              "backlash": ("rad", 1e-3, 0.0, 0.02)}
# From a tick of the guard to its target's force. It may be below zero: steps of the staircase are
# put at the nearest step of the simulation, and a driver may tell of a state that it is younger.
DELAY = ("s", 0.0, -0.01, 0.1)
FITTED = PARAMETERS | {"delay": DELAY}


@dataclass(frozen=True)
class Motion:
    """What was asked for, and what was measured: T samples of J joints."""

    t_target: Vector  # (T,) s, when a target was sent
    target: Vector  # (T, J) rad
    t: Vector  # (T,) s
    q: Vector  # (T, J) rad
    dq: Vector  # (T, J) rad/s
    period: float  # s, of the guard, which holds a target that long


@dataclass(frozen=True)
class Fit:
    """What the model must be like to move as the arm did."""

    values: dict[str, float]  # of FITTED
    spread: dict[str, float]  # half-widths of 95 % intervals
    before: float  # rad, root mean square of measured minus simulated angles: the nominal model's
    after: float  # the fitted one's

    @property
    def helped(self) -> bool:
        """Whether the fitted model is at least as near to the arm as the nominal one, which may
        be right already: what is left is rounding then, or noise, that tips it either way."""
        return self.after <= 1.05 * self.before + 1e-6

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
    began, due, rows = clock.now(), 0.0, []
    while (t := clock.now() - began) < seconds:
        if t >= due:
            speed = _SPEED * np.cos(rates * t).sum(1) * min(1.0, t)  # grows at first: no jerk
            link.command(Mode.JOINT_VELOCITY, speed, 0.1)
            due += _PERIOD
        report = link.report(_WAIT)  # at every tick of the guard, as far as it is heard
        if report.phase is Phase.LATCHED or report.state.faults:
            raise ArmError(f"the excitation was stopped: {report.reason or report.state.faults}")
        rows.append(report)
    link.hold()
    start = rows[0].t
    return Motion(
        np.array([row.t - start for row in rows]), np.array([row.applied for row in rows]),
        np.array([row.state.t_host - start for row in rows]),
        np.array([row.state.q for row in rows]), np.array([row.state.dq for row in rows]),
        link.period)


def fit(arm: str, motion: Motion) -> Fit:
    """Fit an arm's model to a motion. Raises UserError where mujoco.sysid is not installed, or
    the arm is none of the families'."""
    try:
        from mujoco import sysid

        _ = sysid.optimize
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

    joints = motion.q.shape[1]

    _, _, soonest, latest = DELAY

    def compare(parameters: Any, told: Any, measured: Any, *_: Any, **__: Any) -> Any:
        # The same samples whatever the delay: those that the simulation tells of at any.
        inside = (measured.times >= told.times[0] + latest) & (
            measured.times <= told.times[-1] + soonest)
        measured = sysid.TimeSeries(measured.times[inside], measured.data[inside],
                                    measured.signal_mapping)
        # Later targets are the same motion later; where it began is forgotten.
        now = told.interpolate(measured.times - float(parameters["delay"].value[0]))
        told = sysid.TimeSeries(measured.times, now, told.signal_mapping)
        told.data[:, :joints] = played(told.data[:, :joints], measured.data[0, :joints],
                                       float(parameters["backlash"].value[0]))
        # So that angles and speeds weigh alike, wherever it is that a joint swings around.
        size = np.maximum(np.std(measured.data, 0), _LEAST)
        late = measured.times >= _FORGETS
        return ((measured.data - told.data) / size)[late], told, measured

    # There is a target for each step already. Resampled, they may be one more: the library rounds
    # up how many steps there are, 3999.0000000000005 to 4000, and spreads so many over the same
    # time, while a step of the simulation stays as long; its targets would fall behind.
    residual = sysid.build_residual_fn(
        models_sequences=[sequence], build_model=build, modify_residual=compare,
        resample_true=False)
    found, at = _solved(sysid, residual)

    def off(x: Vector) -> Vector:
        return np.concatenate(residual(x, found)[0])

    residuals = off(at).reshape(-1, 2 * joints)
    half = half_widths(residuals, slopes(off, at, *found.get_bounds()))
    found.update_from_vector(at)
    values = {key: float(found[key].value[0]) for key in FITTED}
    nominal = {key: value for key, (_, value, _, _) in FITTED.items()}
    nominal |= {"friction": 0.0, "backlash": 0.0}
    return Fit(values, dict(zip(FITTED, map(float, half), strict=True)),
               _error(base, nominal, motion), _error(base, values, motion))


def _solved(sysid: Any, residual: Callable[..., Any]) -> tuple[Any, Vector]:
    """The parameters that leave the least residual, and their vector."""
    found = sysid.ParameterDict()
    for key, (_, nominal, low, high) in FITTED.items():
        found.add(sysid.Parameter(key, nominal or 1e-2, low, high, frozen=key in PARAMETERS))
    # First how late the nominal arm would be: all at once, a UR5e as it should be but 2 ms late was
    # found to be three times as stiff, and 11 ms late.
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every iteration
        found, _ = sysid.optimize(found, residual, "scipy", verbose=False, max_iters=15)
        # Off the bounds, where the library warns that a search may not come away.
        late, (_, _, soonest, latest) = found["delay"], DELAY
        late.value[:] = np.clip(late.value, 0.9 * soonest, 0.9 * latest)
        for key in PARAMETERS:
            found[key].frozen = False
        found, result = sysid.optimize(found, residual, verbose=False, max_iters=40)
    return found, result.x


def slopes(function: Callable[[Vector], Vector], x: Vector, low: Vector, high: Vector) -> Vector:
    """Derivatives (N, P) of a function at x (P,), by steps so wide that dry friction and a play,
    which have kinks, do not show."""
    columns = []
    for i, step in enumerate(np.maximum(1e-2 * np.abs(x), 1e-3 * (high - low))):
        ends = [np.clip(x + sign * step * np.eye(len(x))[i], low, high) for sign in (1, -1)]
        columns.append((function(ends[0]) - function(ends[1])) / (ends[0] - ends[1])[i])
    return np.stack(columns, 1)


def half_widths(residuals: Vector, jacobian: Vector) -> Vector:
    """Of 95 % intervals (P,) of least squares, from residuals (T, S) of S sensors at the optimum,
    and their derivatives (T * S, P). Each sensor has its own variance, and of its T samples those
    that a correlation of its residuals leaves (the sandwich of White, Econometrica 1980)."""
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    sensors = jacobian.reshape(*residuals.shape, -1)
    meat = sum(lasting(r) * np.mean(r * r) * (sensors[:, i].T @ sensors[:, i])
               for i, r in enumerate(residuals.T))
    samples, parameters = residuals.size, jacobian.shape[1]
    unbiased = samples / (samples - parameters)
    return _Z * np.sqrt(unbiased * np.diag(bread @ meat @ bread))


def lasting(residual: Vector) -> float:
    """For how many samples a residual (T,) stays like itself, at least 1: 1 + 2 sum of its
    correlations, up to where two in a row are not above zero together (Geyer 1992)."""
    energy = float(residual @ residual)
    if energy == 0:
        return 1.0
    full = np.correlate(residual, residual, "full")[len(residual) - 1:] / energy
    total = -1.0
    for pair in (float(full[k: k + 2].sum()) for k in range(0, len(full) - 1, 2)):
        if pair <= 0:
            break
        total += 2 * pair
    return max(total, 1.0)


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
    # Between two reports the guard sent others, as many as there are periods: of a steady speed.
    sent, middles = motion.t_target, times + timestep / 2
    row = np.clip(np.searchsorted(sent, middles, side="right") - 1, 0, len(sent) - 2)
    periods = np.floor((middles - sent[row]) / motion.period + 1e-6)
    ticks = np.minimum(sent[row] + motion.period * periods, sent[row + 1])
    targets = [np.interp(ticks, sent, column) for column in motion.target.T]
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
    then = motion.t[kept] - values["delay"]
    simulated = [np.interp(then, times, column) for column in np.array(angles).T]
    shown = played(np.stack(simulated, 1), motion.q[kept][0], values["backlash"])
    return float(np.sqrt(np.mean(np.square(shown - motion.q[kept]))))


def played(angles: Vector, first: Vector, backlash: float) -> Vector:
    """What encoders behind a play [rad] show of angles (T, J), from what they showed first."""
    shown, now = np.empty_like(angles), first
    for i, (low, high) in enumerate(zip(angles - backlash / 2, angles + backlash / 2, strict=True)):
        shown[i] = now = np.maximum(np.minimum(now, high), low)
    return shown
