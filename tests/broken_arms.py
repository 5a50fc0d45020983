"""An arm that is only numbers, and arms that each break the contract in one way."""

import time
from dataclasses import replace

import numpy as np

from metarl.robot.arm import (
    Applied,
    ArmAdapter,
    ArmError,
    ArmMode,
    ArmState,
    BusError,
    Command,
    Disconnected,
    Fault,
    Mode,
    OperatorAck,
    Stale,
    Unsupported,
    check_command,
    needs_ack,
)
from metarl.robot.specs import spec_of

TICK = 0.005  # s, between its samples


class Plain(ArmAdapter):
    """Is at once where it is told to be; breaks no rule."""

    def __init__(self) -> None:
        self.spec = spec_of("so101", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10, 200),
                            watchdog="device", senses=frozenset({"q", "dq"}))
        self.q = np.zeros(5)
        self.goal = np.full(5, 0.6)  # left in a register by whoever was here before
        self.mode, self.faults = ArmMode.READY_OFF, ()
        self.open, self.fault = False, ""
        self.told, self.seq, self.fed, self.timeout = -1, -1, 0.0, float("inf")

    def connect(self) -> ArmState:
        self.open = True
        return self.read(0.1)

    def enable(self, ack: OperatorAck) -> ArmState:
        needs_ack(ack)
        self.goal = self.q.copy()
        self.mode = ArmMode.HOLDING
        return self.read(0.1)

    def read(self, timeout_s: float) -> ArmState:
        if not self.open:
            raise Disconnected("not connected")
        end = time.monotonic() + timeout_s
        while True:
            self.live()
            state = self.heard(self.sample())
            if state is not None and state.seq > self.told:
                self.told = state.seq
                return state
            if time.monotonic() >= end:
                raise Stale("nothing new")
            time.sleep(TICK / 2)

    def sample(self) -> ArmState:
        count = int(time.monotonic() / TICK)
        return ArmState(count, count * TICK, count * TICK, self.q.copy(), np.zeros(5), self.mode,
                        faults=self.faults)

    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "reordered":
            return replace(state, seq=state.seq - 50 * (state.seq % 2))
        if self.fault in ("corrupt", "nan"):
            raise BusError("nonsense")
        return None if self.fault else state

    def send(self, command: Command) -> Applied:
        if not self.open:
            raise Disconnected("not connected")
        self.check(command)
        self.live()
        if self.mode not in (ArmMode.HOLDING, ArmMode.STREAMING):
            raise ArmError(f"it is {self.mode}")
        self.seq, self.fed, self.mode = command.seq, time.monotonic(), ArmMode.STREAMING
        self.goal = np.clip(command.value, self.spec.q_min, self.spec.q_max)
        limits = ("range",) if (self.goal != command.value).any() else ()
        return Applied(command.seq, command.value, self.goal, limits, self.fed)

    def check(self, command: Command) -> None:
        check_command(command, self.spec, self.seq, time.monotonic())

    def live(self) -> None:
        if self.mode is ArmMode.STREAMING and time.monotonic() - self.fed > self.timeout:
            self.mode = ArmMode.STOPPED
        if self.mode in (ArmMode.HOLDING, ArmMode.STREAMING):
            self.q = self.goal.copy()

    def arm_watchdog(self, timeout_s: float) -> None:
        self.timeout = timeout_s

    def hold(self) -> None:
        self.live()
        if self.mode is ArmMode.STREAMING:
            self.mode = ArmMode.HOLDING

    def release(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        self.mode = ArmMode.READY_OFF

    def clear_faults(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        if not self.faults:
            raise ArmError("nothing to clear")
        self.faults, self.mode = (), ArmMode.HOLDING

    def close(self) -> None:
        self.hold()
        self.open = False

    def inject(self, fault: str) -> None:
        if fault == "overload":
            self.faults, self.mode = (Fault("overload", "it is overloaded"),), ArmMode.FAULT
        else:
            self.fault = fault


class Stalled(Plain):
    """Lives on a machine that does nothing for half a second, twice after each fault of a wire."""

    stalls = 0

    def inject(self, fault: str) -> None:
        super().inject(fault)
        self.stalls = 2 if fault else 0

    def read(self, timeout_s: float) -> ArmState:
        if self.stalls:
            self.stalls -= 1
            time.sleep(0.5)
        return super().read(timeout_s)


# Each is named after the check that must find it.


class BrokenSpec(Plain):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        BrokenSpec.made += 1
        self.spec = replace(self.spec, rate_hz=(10, 100 + BrokenSpec.made))


class BrokenUnconnected(Plain):
    def read(self, timeout_s: float) -> ArmState:
        self.open = self.open or self.told < 0  # by itself
        return super().read(timeout_s)


class BrokenConnecting(Plain):
    def connect(self) -> ArmState:
        self.q = self.q + 0.2  # it homes
        return super().connect()


class BrokenMeasuring(Plain):
    def sample(self) -> ArmState:
        return replace(super().sample(), tau=np.zeros(5))  # nobody measured that


class BrokenAcknowledged(Plain):
    def release(self, ack: OperatorAck) -> None:
        self.mode = ArmMode.READY_OFF


class BrokenEnabling(Plain):
    def enable(self, ack: OperatorAck) -> ArmState:
        stale = self.goal if self.told >= 0 and self.seq < 0 else self.q
        super().enable(ack)
        self.goal = stale
        return self.read(0.1)


class BrokenTorqueless(Plain):
    def send(self, command: Command) -> Applied:
        if self.mode is ArmMode.READY_OFF:
            self.mode = ArmMode.HOLDING
        return super().send(command)


class BrokenRejecting(Plain):
    def check(self, command: Command) -> None:
        value = np.minimum(self.spec.q_max, np.nan_to_num(command.value, nan=9.0))
        super().check(replace(command, value=value))


class BrokenApplying(Plain):
    def send(self, command: Command) -> Applied:
        return replace(super().send(command), applied=command.value, limits=())


class BrokenMoving(Plain):
    def live(self) -> None:
        super().live()
        if self.mode is ArmMode.STREAMING:
            self.q[[1, 2]] = self.q[[2, 1]]  # a swap


class BrokenHolding(Plain):
    def hold(self) -> None:
        super().hold()
        if self.mode is ArmMode.HOLDING and self.seq > 10:
            self.goal = self.goal - 0.1  # sags


class BrokenWatchdog(Plain):
    def arm_watchdog(self, timeout_s: float) -> None:
        raise Unsupported("no watchdog, whatever the spec says")


class BrokenReleasing(Plain):
    def release(self, ack: OperatorAck) -> None:
        needs_ack(ack)


class BrokenForgiving(Plain):
    def clear_faults(self, ack: OperatorAck) -> None:
        needs_ack(ack)
        if self.faults:
            self.faults, self.mode = (), ArmMode.HOLDING


class BrokenClosing(Plain):
    def close(self) -> None:
        super().close()
        self.mode = ArmMode.READY_OFF  # drops the arm


class BrokenLatching(Plain):
    def inject(self, fault: str) -> None:
        super().inject(fault)
        if not fault and self.faults:
            self.faults, self.mode = (), ArmMode.HOLDING


class BrokenLate(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "late":
            time.sleep(0.5)  # waits for the reply, whatever the deadline was
        return super().heard(state)


class BrokenLost(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        return state if self.fault == "lost" else super().heard(state)  # invents what is lost


class BrokenDuplicated(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "duplicated":  # gives the same sample a number of its own
            return replace(state, t_robot=self.t_robot)
        self.t_robot = state.t_robot
        return super().heard(state)


class BrokenReordered(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "reordered":
            self.told = -1  # takes what comes
        return super().heard(state)


class BrokenCorrupt(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "corrupt":
            return replace(state, q=state.q + 1.3)
        return super().heard(state)


class BrokenFrozen(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        return state if self.fault == "frozen" else super().heard(state)


class BrokenNan(Plain):
    def heard(self, state: ArmState) -> ArmState | None:
        if self.fault == "nan":
            return replace(state, q=state.q * np.nan)
        return super().heard(state)


class Silent(Plain):
    """Breaks two rules."""

    def release(self, ack: OperatorAck) -> None:
        raise RuntimeError("a bug")


class Sealed(Plain):
    inject = None  # pyright: ignore[reportAssignmentType]
