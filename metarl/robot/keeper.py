"""What the guard does at every tick: look, judge, move the target, send it.

No process and no socket is in here, so that a test can be the clock.

    OFF --enable--> HOLDING --command--> STREAMING --hold--> HOLDING
    HOLDING, STREAMING --failure--> LATCHED --unlatch, by a person--> HOLDING --release--> OFF
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from metarl.robot.arm import (
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Mode,
    OperatorAck,
    Rejected,
    Stale,
    Unsupported,
    Vector,
    check_command,
    needs_ack,
)
from metarl.robot.limits import Limits, Shaper, reasons
from metarl.robot.link import Phase, Report

_RETRIES = 2  # of a read, in a tick
_FAILURES = 3  # ticks in a row without a state or a send
_TAUT = 3  # ticks in a row at the limit of torque
_OLD = 0.1  # s, of a state that is no state of now
LONGEST = 0.2  # s, that a command may live


class Keeper:
    """Holds an arm to its limits, and its policy to its word."""

    def __init__(self, arm: ArmAdapter, limits: Limits, *, period: float, policy_period: float,
                 clock: Callable[[], float]) -> None:
        self.arm, self.limits, self.period = arm, limits, period
        self.lifetime = min(2 * policy_period, LONGEST)  # s, of a command
        self.phase, self.reason, self.rejected, self.ignored = Phase.OFF, "", 0, 0
        self.unlogged = 0
        self.shaper = Shaper(limits, arm.spec.chain, period)
        self.watchdog = False  # whether the arm has one and it is armed
        self._unfit = ""  # why torque is on and must first be let go; "" where nothing is wrong
        self._clock, self._spec = clock, replace(arm.spec, modes=frozenset(Mode))
        self._state = arm.connect()
        self._unread = self._unsent = self._taut = self._tick = 0
        self._sent, self._seq, self._deadline = 0, -1, 0.0
        self._wanted: Vector | None = None
        self._mode, self._gripper = Mode.JOINT_VELOCITY, None
        self._requested = np.full(len(arm.spec.joints), np.nan)
        self._applied = self._state.q
        self._settled = True  # whether the arm holds by itself, and nothing is sent

    @property
    def unmonitored(self) -> tuple[str, ...]:
        """What the arm does not sense, so that nothing watches it."""
        watched = ("q", "dq", "tau", "wrench", "temperature", "current")
        return tuple(name for name in watched if name not in self.arm.spec.senses)

    # From the policy.

    def new_policy(self) -> None:
        """Another policy takes over; its commands count from the start."""
        self._seq = -1

    def command(self, command: Command, sent: float) -> None:
        """Follow a command, which a policy on this host sent at some time, until it expires."""
        now = self._clock()
        born = min(sent, now)
        expires = min(command.expires, born + self.lifetime)
        try:
            if self.phase not in (Phase.HOLDING, Phase.STREAMING):
                raise Rejected(f"the guard is {self.phase}")
            if not np.isfinite(sent):
                raise Rejected("a command that was sent at no time")
            if command.gripper is not None and not self._spec.gripper:
                raise Rejected(f"{self._spec.model} has no gripper")
            check_command(replace(command, expires=expires), self._spec, self._seq, now)
        except Rejected:
            self.rejected += 1
            return
        self._seq, self._deadline = command.seq, expires
        self._requested, self._mode = command.value.copy(), command.mode
        self._wanted, self.phase = self._requested, Phase.STREAMING
        if command.gripper is not None:
            self._gripper = command.gripper

    def hold(self) -> None:
        """Come to rest, and wait."""
        self._wanted = None

    def latch(self, reason: str) -> None:
        """Come to rest, and stay there until a person lets it go on."""
        if self.phase in (Phase.HOLDING, Phase.STREAMING):
            self.phase, self.reason, self._wanted = Phase.LATCHED, reason, None

    # From an operator.

    def enable(self, ack: OperatorAck) -> None:
        """Torque on, where the arm is. Raises ArmError where it is outside its joints' limits or
        its watchdog fails: torque is on then, so that it is held, latched, until it is released."""
        needs_ack(ack)
        if self.phase is not Phase.OFF:
            raise ArmError("torque is on already")
        self._state = state = self.arm.enable(ack)
        self._rest_at(state.q)
        self.phase, self.reason, self._settled = Phase.HOLDING, "", True
        try:
            if not ((self._spec.q_min <= state.q) & (state.q <= self._spec.q_max)).all():
                raise ArmError("the arm is outside its joints' limits")
            self._arm_watchdog()
        except ArmError as problem:
            self.latch(str(problem))
            self._unfit, self._settled = f"{problem}; release it, and enable it anew", False
            self._hold_arm()
            raise ArmError(f"{problem}: torque is on, and the guard holds it, latched") from None

    def _arm_watchdog(self) -> None:
        try:
            self.arm.arm_watchdog(max(0.1, 10 * self.period))
            self.watchdog = True
        except Unsupported:
            self.watchdog = False

    def unlatch(self, ack: OperatorAck) -> None:
        """Go on. Raises ArmError while the cause stands."""
        needs_ack(ack)
        if self.phase is not Phase.LATCHED:
            raise ArmError("the guard is not latched")
        if self._unfit:
            raise ArmError(self._unfit)
        if self._unread or self._unsent >= _FAILURES:
            raise ArmError("the arm does not answer")
        if self._state.faults:
            raise ArmError(f"{self._state.faults[0].text}; clear it first")
        if self._state.mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            raise ArmError(f"the arm is {self._state.mode}")
        if not self.shaper.at_rest:
            raise ArmError("the arm is still slowing down")
        if self._lost() > self.limits.tracking:
            raise ArmError("the arm is not where it was told to be")
        self.phase, self.reason, self._wanted, self._unsent = Phase.HOLDING, "", None, 0

    def clear_faults(self, ack: OperatorAck) -> None:
        """Clear what there is; the guard stays latched."""
        needs_ack(ack)
        self.arm.clear_faults(ack)
        self._state = self.arm.read(_OLD)
        if self.phase is Phase.LATCHED:
            self._rest_at(self._state.q)

    def release(self, ack: OperatorAck) -> None:
        """Torque off. Raises ArmError while it moves."""
        needs_ack(ack)
        if not self.shaper.at_rest:
            raise ArmError("the arm is moving; hold first")
        self.arm.release(ack)
        self.phase, self.reason, self._wanted, self._settled = Phase.OFF, "", None, True
        self._unfit = ""

    def close(self) -> None:
        """Hold, and leave the arm."""
        self.arm.close()

    # A tick.

    def tick(self) -> Report:
        """Look, judge, move, send; once in a period."""
        now = self._clock()
        self._tick += 1
        self._read(now)
        if self.phase is not Phase.OFF:
            self._judge(now)
            self._move()
        return Report(self._tick, self._state, self.phase, self.reason, self._seq, self._requested,
                      self._applied, reasons(self.shaper.limited), self.rejected, now,
                      self.ignored, self.unlogged)

    def _read(self, now: float) -> None:
        for _ in range(1 + _RETRIES):
            left = now + self.period * 0.75 - self._clock()
            if left <= 0:
                break
            try:
                state = self.arm.read(left)
            except Stale:
                break  # nothing will come sooner for being asked again
            except BusError:
                continue
            except Disconnected:
                break
            except ArmError as error:
                self.latch(f"the arm fails: {error}")
                break
            if self._sane(state):
                if state.gripper is not None and not np.isfinite(state.gripper):
                    state = replace(state, gripper=None)  # nothing is judged by it
                self._state, self._unread = state, 0
                return
        self._unread += 1
        if self._unread >= _FAILURES:
            self.latch(f"no state of the arm for {self._unread} ticks")

    def _sane(self, state: ArmState) -> bool:
        fresh = state.seq > self._state.seq and self._clock() - state.t_host < _OLD
        shape = (len(self._spec.joints),)
        # A motor whose heat or torque is NaN would never be found too hot or at its limit.
        sensed = [value for value in (state.q, state.dq, state.tau, state.temperature,
                                      state.current, state.wrench) if value is not None]
        return bool(fresh and state.q.shape == shape and state.dq.shape == shape
                    and all(np.isfinite(value).all() for value in sensed))

    def _lost(self) -> float:
        """How far the arm is from where it was told to be, rad."""
        return float(np.abs(self.shaper.q - self._state.q).max())

    def _judge(self, now: float) -> None:
        state, limits = self._state, self.limits
        if state.faults:
            self.latch(f"fault: {state.faults[0].text}")
        elif state.mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            self.latch(f"the arm is {state.mode}")
        if state.temperature is not None and (state.temperature > limits.temperature).any():
            self.latch(f"a motor is hotter than {limits.temperature:g} degrees")
        if state.tau is not None and limits.tau_max is not None:
            self._taut = self._taut + 1 if (np.abs(state.tau) >= limits.tau_max).any() else 0
            if self._taut >= _TAUT:
                self.latch("a motor is at its limit of torque")
        if self._lost() > limits.tracking and self.phase is not Phase.LATCHED:
            self.latch(f"the arm is {self._lost():.2f} rad from where it was told to be")
            # It may have met something: go back to where it stands, rather than push on.
            self._wanted, self._mode = state.q.copy(), Mode.JOINT_POSITION
        if self.phase is Phase.STREAMING and self._wanted is not None and now >= self._deadline:
            self.latch(f"no command for {1000 * self.lifetime:.0f} ms")

    def _move(self) -> None:
        state = self._state
        if state.faults or state.mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            # It takes no targets; it holds where it is.
            self._hold_arm()
            self._rest_at(state.q)
            return
        target = self.shaper.tick(state.q, self._wanted, self._mode)
        if self.phase is Phase.LATCHED and self.shaper.at_rest:
            self._wanted = None
        if self._wanted is None and self.shaper.at_rest:
            self._hold_arm()
            if self.phase is Phase.STREAMING:
                self.phase = Phase.HOLDING
            return
        self._settled = False
        self._send(target)

    def _send(self, target: Vector) -> None:
        self._sent += 1
        mode = Mode.JOINT_POSITION
        if mode not in self.arm.spec.modes:
            mode, target = Mode.JOINT_VELOCITY, self.shaper.dq
        try:
            applied = self.arm.send(Command(self._sent, mode, target,
                                            self._clock() + 5 * self.period, self._gripper))
        except ArmError as error:
            self._failed(error)
        else:
            self._applied, self._unsent = applied.applied, 0

    def _failed(self, error: ArmError) -> None:
        """The arm did not do as it was told."""
        if not isinstance(error, BusError | Stale | Disconnected):
            self.latch(f"the arm refuses: {error}")
            return
        self._unsent += 1
        if self._unsent >= _FAILURES:
            self.latch(f"the arm took no target for {self._unsent} ticks")

    def _hold_arm(self) -> None:
        """Let the arm hold by itself; again at the next tick where it does not hear of it."""
        if self._settled:
            return
        try:
            self.arm.hold()
        except ArmError as error:
            self._failed(error)
        else:
            self._settled = True

    def _rest_at(self, q: Vector) -> None:
        self.shaper.start(q)
        self._applied, self._wanted = q, None
