"""An arm behind a `Link`, in this process and in virtual time: nothing waits, nothing is late.

It does of the guard's work what a policy notices: it latches when a command expires, integrates
velocities into set-points, and holds those to the guard's limits by the guard's own shaper; or,
without limits and far quicker, to a tube around the measured pose and the joints' stops alone. For
judging a policy in a twin, for tests and benchmarks; never for a real arm.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from torch import Tensor

from metarl.envs.arms import ARMS, ArmName
from metarl.envs.family import Family, named_task
from metarl.robot.arm import (
    ArmError,
    ArmMode,
    ArmSpec,
    ArmState,
    Fault,
    Mode,
    NotAcknowledged,
    OperatorAck,
    Rejected,
    Vector,
)
from metarl.robot.limits import Limits, Shaper, reasons
from metarl.robot.link import Phase, Report
from metarl.robot.measured import Sighting
from metarl.robot.specs import spec_of
from metarl.robot.worlds import ArmWorlds, Authority, Log, NeedsHuman, keep_nothing
from metarl.testing.body import FLAWLESS, TIMESTEP, Body, Flaws

_PERIOD = 0.01  # s, of the guard
_TUBE = 0.1  # rad
_SENSES = frozenset({"q", "dq", "tau"})
_ACK = OperatorAck("nobody", "this is a twin in virtual time")


class Direct:
    """A `Link` and a `Clock` to a body. Time passes in `sleep` alone."""

    def __init__(self, body: Body, limits: Limits | None = None, delay: float = 0.0) -> None:
        """A command reaches the guard, and a state reaches the policy, `delay` seconds late."""
        name = body.arm
        self.spec: ArmSpec = spec_of(
            name, modes=frozenset(Mode), rate_hz=(10, 125), watchdog="driver", senses=_SENSES)
        self.body = body
        self.period = _PERIOD
        self.fault: Fault | None = None  # set it, and the arm stops with it at the next tick
        self._delay = delay
        self._phase, self._reason = Phase.HOLDING, ""
        self._zeros = np.zeros(body.joints)
        self._asked = self._zeros
        self._mode, self._expires = Mode.JOINT_VELOCITY, 0.0
        self._seq, self._accepted, self._tick, self._told = -1, -1, 0, -1
        self._ticked = self.now()
        self._limits: tuple[str, ...] = ()
        self._coming: deque[tuple[float, int, Mode, Vector, float]] = deque()
        self._states: deque[ArmState] = deque()
        body.torque(True)
        self._target = body.measure()[0]
        self._shaper = None if limits is None else Shaper(limits, self.spec.chain, _PERIOD)
        if self._shaper is not None:
            self._shaper.start(self._target)
        self._states.append(self._measured())

    # Time.

    def now(self) -> float:
        """Seconds that the body has lived."""
        return self.body.time

    def sleep(self, seconds: float) -> None:
        """Let the body live on, tick by tick."""
        end = self.now() + seconds
        while self.now() < end - TIMESTEP / 2:
            self._tick_on()
            self.body.advance(min(_PERIOD, max(TIMESTEP, end - self.now())))
            self._states.append(self._measured())

    # What a policy has.

    def report(self, timeout_s: float) -> Report:
        if self._told == self._tick:
            self.sleep(_PERIOD)
        self._told = self._tick
        while len(self._states) > 1 and self._states[1].t_host <= self.now() - self._delay:
            self._states.popleft()
        return Report(self._tick, self._states[0], self._phase, self._reason, self._accepted,
                      self._asked.copy(), self._target.copy(), self._limits, 0, self._ticked)

    def command(self, mode: Mode, value: Vector, expires_in_s: float,
                gripper: float | None = None) -> int:
        if value.shape != self._zeros.shape or not np.isfinite(value).all():
            raise Rejected("a command has another width, or is not finite")
        self._seq += 1
        now = self.now()
        self._coming.append((now + self._delay, self._seq, mode, value.copy(), now + expires_in_s))
        return self._seq

    def hold(self) -> None:
        self._coming.clear()
        self._asked = self._zeros
        if self._phase is not Phase.LATCHED:
            self._phase = Phase.HOLDING

    def clear_faults(self, ack: OperatorAck) -> None:
        if self.fault is None:
            raise ArmError("there is no fault to clear")
        self.fault = None

    def unlatch(self, ack: OperatorAck) -> None:
        if self.fault is not None:
            raise NotAcknowledged(f"{self.fault.text}; clear it first")
        self._phase, self._reason = Phase.HOLDING, ""

    def close(self) -> None:
        self.hold()

    # The guard's part.

    def _tick_on(self) -> None:
        self._tick += 1
        self._ticked = self.now()
        now = self._ticked + 1e-9
        if self.fault is not None:
            self._latch(self.fault.text)
        while self._coming and self._coming[0][0] <= now:
            _, seq, mode, value, expires = self._coming.popleft()
            if self._phase is not Phase.LATCHED:
                self._phase, self._accepted = Phase.STREAMING, seq
                self._mode, self._asked, self._expires = mode, value, expires
        if self._phase is Phase.STREAMING and now > self._expires:
            self._latch("no command came in time")
        going = self._phase is Phase.STREAMING
        q, _, _ = self.body.measure()
        if self._shaper is None:
            self._move(q, self._asked if going else None)
        else:
            self._target = self._shaper.tick(q, self._asked if going else None, self._mode)
            self._limits = reasons(self._shaper.limited)
        self.body.aim(self._target)

    def _move(self, q: Vector, asked: Vector | None) -> None:
        """The next target, kept in the tube and inside the stops."""
        wanted = self._target
        if asked is not None:
            fast = self._mode is Mode.JOINT_VELOCITY
            wanted = self._target + _PERIOD * asked if fast else asked
        tube = np.minimum(np.maximum(wanted, q - _TUBE), q + _TUBE)
        inside = np.minimum(np.maximum(tube, self.spec.q_min), self.spec.q_max)
        self._limits = (("tube",) if (tube != wanted).any() else ()) + (
            ("position",) if (inside != tube).any() else ())
        self._target = inside

    def _latch(self, reason: str) -> None:
        if self._phase is not Phase.LATCHED:
            self._phase, self._reason, self._asked = Phase.LATCHED, reason, self._zeros

    def _measured(self) -> ArmState:
        q, dq, tau = self.body.measure()
        mode = ArmMode.STREAMING if self._phase is Phase.STREAMING else ArmMode.HOLDING
        faults = () if self.fault is None else (self.fault,)
        return ArmState(self._tick, self.now(), None, q, dq,
                        ArmMode.FAULT if faults else mode, tau=tau, faults=faults)


def rehearsal(
    family: Family, task: Tensor, authority: Authority, limits: Limits | None = None,
    flaws: Flaws = FLAWLESS, delay: float = 0.0, seed: int = 0, log: Log = keep_nothing,
    history: int = 0,
) -> ArmWorlds:
    """Worlds on a twin of the family's arm in a task (1, D), whose physics it has besides its own
    flaws. Someone is always there to put objects back and to let the arm go on.

    Raises ArmError for a family whose model is on none of metarl's arms."""
    scene, named = family.spec(), named_task(family, task[0])
    family.variant(scene, named)
    body = Body(_arm_of(family, scene), flaws, seed, scene)
    link = Direct(body, limits, delay)
    worlds = ArmWorlds(family, link, authority, link, _eyes(body, link), _hands(body, link), log,
                       history=history)
    worlds.set_tasks(task)
    return worlds


def _arm_of(family: Family, scene: mujoco.MjSpec) -> ArmName:
    """Which arm a family's model has; the FR3 where a family does not say."""
    name: Any = getattr(family, "arm", "fr3")
    driven = [actuator.target for actuator in scene.actuators]
    own = [f"joint{i + 1}" for i in range(len(ARMS[name].joints))] if name in ARMS else ["?"]
    if driven != own:
        raise ArmError(f"{family.name} cannot be rehearsed: its actuators "
                       f"drive {', '.join(driven) or 'nothing'}; there are twins of "
                       f"{', '.join(ARMS)} alone, without a gripper, as in reach and push")
    return name


def _eyes(body: Body, link: Direct) -> Callable[[], Sighting] | None:
    """Perception of every free body; None where there is none."""
    names = {body.model.joint(i).name: int(body.model.jnt_qposadr[i])
             for i in range(body.joints, body.model.njnt)}
    if not names:
        return None
    return lambda: Sighting(link.now(), {
        name: body.data.qpos[at : at + 7].copy() for name, at in names.items()})


def _hands(body: Body, link: Direct) -> Callable[[NeedsHuman], bool]:
    """The person beside the twin."""
    def help_out(needed: NeedsHuman) -> bool:
        if link.fault is not None:
            return False
        link.unlatch(_ACK)
        if needed.start is not None:
            body.data.qpos[body.joints :] = needed.start.qpos[0, body.joints :]
            body.data.qvel[body.joints :] = 0
        return True

    return help_out
