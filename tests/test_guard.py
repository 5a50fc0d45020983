"""The guard lets only sense through to the arm, and holds when its policy or the arm fails."""

import contextlib
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.envs.arms import ARMS
from metarl.robot.arm import (
    ArmError,
    ArmMode,
    ArmState,
    Command,
    Disconnected,
    Mode,
    NotAcknowledged,
    OperatorAck,
)
from metarl.robot.client import GuardLink, GuardProcess, park, start_guard
from metarl.robot.guard import Guard, _listen_at
from metarl.robot.keeper import Keeper
from metarl.robot.limits import Limits
from metarl.robot.link import Phase, Report
from metarl.robot.rehearsal import Rehearsal
from metarl.robot.specs import spec_of
from metarl.robot.wire import (
    Kind,
    Reader,
    Request,
    pack_report,
    pack_request,
    read_log,
    unpack_report,
    unpack_request,
)
from metarl.testing import puppet
from metarl.testing.audit import violations
from metarl.testing.puppet import Clock, Puppet

ACK = OperatorAck("Ada", "workspace clear, stop in reach")
PERIOD, POLICY = 0.008, 0.05  # s
HOME = np.array(ARMS["so101"].home)
FORWARD = np.array([0.2, 0, 0, 0, 0])  # rad/s


class Rig:
    """A keeper with an arm and a policy in a test's own time."""

    def __init__(self, senses: frozenset[str] = frozenset({"q", "dq"})) -> None:
        self.clock, self.seq = Clock(), 0
        spec = spec_of("so101", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(10, 200),
                       watchdog="device", senses=senses)
        self.arm = Puppet(spec, HOME, self.clock)
        self.keeper = Keeper(self.arm, Limits.of(spec), period=PERIOD, policy_period=POLICY,
                             clock=self.clock)

    def on(self) -> "Rig":
        self.keeper.enable(ACK)
        return self

    def command(self, value: np.ndarray = FORWARD, **changes: object) -> None:
        self.seq += 1
        made = {"seq": self.seq, "mode": Mode.JOINT_VELOCITY, "value": value,
                "expires": self.clock.now + 0.1} | changes
        self.keeper.command(Command(**made), self.clock.now)  # pyright: ignore[reportArgumentType]

    def ticks(self, count: int = 1) -> Report:
        for _ in range(count):
            self.clock.now += PERIOD
            report = self.keeper.tick()
        return report  # pyright: ignore[reportPossiblyUnboundVariable]

    def drive(self, ticks: int = 20) -> Report:
        """A policy that commands every 5th tick."""
        for i in range(ticks):
            if i % 5 == 0:
                self.command()
            report = self.ticks()
        return report  # pyright: ignore[reportPossiblyUnboundVariable]


# Commands.


def test_a_command_moves_the_arm_until_hold_brings_it_to_rest() -> None:
    rig = Rig().on()
    report = rig.drive()
    assert report.phase is Phase.STREAMING and report.seq == rig.seq
    assert rig.arm.goal[0] > HOME[0] + 0.02
    rig.keeper.hold()
    report = rig.ticks(20)
    assert (report.phase, report.reason) == (Phase.HOLDING, "")
    assert rig.arm.mode is ArmMode.HOLDING
    resting = rig.arm.goal
    rig.ticks(100)
    assert rig.arm.goal is resting  # nothing is sent, and nothing latches


def test_an_arm_that_does_not_hear_of_a_hold_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig().on()
    rig.drive()
    hold, deaf = rig.arm.hold, [puppet.garbled] * 2

    def hear() -> None:
        if deaf:
            deaf.pop()(rig.arm.read(0.0))  # raises
        hold()

    monkeypatch.setattr(rig.arm, "hold", hear)
    rig.keeper.hold()
    report = rig.ticks(20)
    assert (report.phase, report.reason) == (Phase.HOLDING, "")
    assert rig.arm.calls.count("hold") == 1 and not deaf
    rig.drive()
    deaf[:] = [puppet.garbled] * 50
    rig.keeper.hold()
    assert rig.ticks(20).reason == "the arm took no target for 3 ticks"


@pytest.mark.parametrize("changes", [
    {"value": np.full(5, np.nan)}, {"value": np.full(5, np.inf)}, {"value": np.zeros(6)},
    {"value": np.zeros(0)}, {"value": np.zeros(5, np.float32)}, {"seq": -1}, {"expires": 99.0},
    {"expires": np.nan}, {"gripper": 0.5},
])
def test_nonsense_is_rejected_and_counted_and_moves_nothing(changes: dict[str, object]) -> None:
    rig = Rig().on()
    rig.command(**changes)  # pyright: ignore[reportArgumentType]
    report = rig.ticks(5)
    assert (report.rejected, report.seq, report.phase) == (1, -1, Phase.HOLDING)
    assert rig.arm.sent == []


def test_a_late_command_is_rejected_and_a_long_lived_one_lives_two_policy_periods() -> None:
    rig = Rig().on()
    late = Command(1, Mode.JOINT_VELOCITY, FORWARD, rig.clock.now + 1)
    rig.keeper.command(late, rig.clock.now - 0.11)
    assert rig.keeper.rejected == 1
    rig.command(expires=1e9)
    rig.ticks(12)  # 96 ms
    assert rig.keeper.phase is Phase.STREAMING
    assert rig.ticks().phase is Phase.LATCHED  # 104 ms


def test_with_torque_off_nothing_is_followed() -> None:
    rig = Rig()
    rig.command()
    report = rig.ticks(3)
    assert (report.phase, report.rejected, rig.arm.sent) == (Phase.OFF, 1, [])


@pytest.mark.parametrize("verb", ["enable", "release", "unlatch", "clear_faults"])
def test_what_may_hurt_needs_a_person_s_word(verb: str) -> None:
    rig = Rig()
    with pytest.raises(NotAcknowledged):
        getattr(rig.keeper, verb)(None)
    assert rig.arm.calls == ["connect"]


# Failures.


def test_a_silent_policy_leads_to_a_hold_that_stays() -> None:
    rig = Rig().on()
    rig.drive(21)  # the newest command came 8 ms ago
    report = rig.ticks(12)
    assert report.phase is Phase.LATCHED and "no command for 100 ms" in report.reason
    rig.command()
    assert rig.ticks(30).rejected == 1
    assert rig.arm.calls[-1] == "hold" and rig.arm.mode is ArmMode.HOLDING
    rig.keeper.unlatch(ACK)
    assert rig.drive().phase is Phase.STREAMING


def off(rig: Rig) -> None:
    rig.arm.mode = ArmMode.STOPPED


def taut(state: ArmState) -> ArmState:
    return replace(state, tau=np.full(5, 3.35))


def hot(state: ArmState) -> ArmState:
    return replace(state, temperature=np.full(5, 70.0))


def failing(way: Callable[[ArmState], ArmState]) -> Callable[[Rig], None]:
    def fail(rig: Rig) -> None:
        rig.arm.fail = way

    return fail


@pytest.mark.parametrize(("fail", "ticks", "reason"), [
    (failing(puppet.silent), 3, "no state of the arm for 3 ticks"),
    (failing(puppet.garbled), 3, "no state of the arm for 3 ticks"),
    (failing(puppet.nan), 3, "no state of the arm for 3 ticks"),
    (failing(puppet.frozen), 3, "no state of the arm for 3 ticks"),
    (failing(puppet.old), 3, "no state of the arm for 3 ticks"),
    (failing(taut), 3, "limit of torque"), (failing(hot), 1, "hotter than 65"),
    (lambda rig: rig.arm.overload(), 1, "joint1 is overloaded"), (off, 1, "stopped"),
])
def test_a_failing_arm_is_held_and_latched(
    fail: Callable[[Rig], None], ticks: int, reason: str
) -> None:
    rig = Rig().on()
    rig.drive()
    fail(rig)
    if ticks > 1:
        assert rig.drive(ticks - 1).phase is Phase.STREAMING
    report = rig.drive(1)
    assert report.phase is Phase.LATCHED and reason in report.reason
    rig.ticks(40)
    assert rig.keeper.shaper.at_rest and rig.arm.calls[-1] == "hold"
    if "no state" in reason:
        with pytest.raises(ArmError, match="does not answer"):
            rig.keeper.unlatch(ACK)


def test_a_bus_is_asked_three_times_in_a_tick_and_no_more() -> None:
    rig = Rig().on()
    asked = []

    def count(state: ArmState) -> ArmState:
        asked.append(state)
        return puppet.garbled(state)

    rig.arm.fail = count
    rig.ticks()
    assert len(asked) == 3


def test_an_arm_that_does_not_follow_is_not_pushed_on() -> None:
    rig = Rig().on()
    rig.drive(5)
    rig.arm.stuck = True
    rig.arm.q = rig.arm.q - 0.25  # thrown off its course
    report = rig.drive(1)
    assert report.phase is Phase.LATCHED and "from where it was told to be" in report.reason
    with pytest.raises(ArmError):
        rig.keeper.unlatch(ACK)
    rig.ticks(200)
    np.testing.assert_allclose(rig.arm.goal, rig.arm.q, atol=1e-3)
    rig.keeper.unlatch(ACK)


def test_a_fault_is_cleared_by_a_person_and_stays_latched_until_unlatched() -> None:
    rig = Rig().on()
    rig.drive()
    rig.arm.overload()
    rig.drive()
    with pytest.raises(ArmError, match="clear it first"):
        rig.keeper.unlatch(ACK)
    rig.keeper.clear_faults(ACK)
    assert rig.drive().phase is Phase.LATCHED
    rig.keeper.unlatch(ACK)
    assert rig.drive().phase is Phase.STREAMING


def test_torque_is_let_go_only_at_rest() -> None:
    rig = Rig().on()
    rig.drive()
    with pytest.raises(ArmError, match="moving"):
        rig.keeper.release(ACK)
    rig.keeper.hold()
    rig.ticks(20)
    rig.keeper.release(ACK)
    assert rig.ticks().phase is Phase.OFF and rig.arm.calls[-1] == "release"


def test_a_dry_run_tells_the_arm_nothing() -> None:
    rig = Rig()
    rig.arm.calls.clear()
    rig.keeper = Keeper(Rehearsal(rig.arm), rig.keeper.limits, period=PERIOD,
                        policy_period=POLICY, clock=time.monotonic)
    rig.arm.clock.now = time.monotonic()
    rig.keeper.enable(ACK)
    for i in range(10):
        rig.arm.clock.now = now = time.monotonic()
        rig.keeper.command(Command(i + 1, Mode.JOINT_VELOCITY, FORWARD, now + 0.1), now)
        report = rig.keeper.tick()
        time.sleep(PERIOD)
    assert report.phase is Phase.STREAMING  # pyright: ignore[reportPossiblyUnboundVariable]
    assert rig.keeper.tick().state.q[0] > HOME[0] + 1e-3
    assert (rig.arm.sent, rig.arm.calls) == ([], ["connect"])


# Frames.


def test_a_report_crosses_the_socket_whole() -> None:
    rig = Rig().on()
    rig.arm.overload()
    report = rig.drive()
    (kind, body), = Reader().feed(pack_report(report))
    again = unpack_report(body)
    assert kind == Kind.REPORT
    for name in ("tick", "phase", "reason", "seq", "limits", "rejected", "t"):
        assert getattr(again, name) == getattr(report, name)
    np.testing.assert_array_equal(again.state.q, report.state.q)
    np.testing.assert_array_equal(again.applied, report.applied)
    assert again.state.faults == report.state.faults and again.state.tau is None
    assert again.state.gripper is None and again.state.t_robot is None


@given(st.lists(st.one_of(st.binary(max_size=400), st.integers(0, 9)), max_size=12),
       st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_frames_are_found_among_random_bytes(stream: list[bytes | int], portion: int) -> None:
    packed = {n: pack_request(Request(Kind.COMMAND, n, 1.0, 0.1, value=np.arange(5.0)))
              for n in range(10)}
    data = b"".join(packed[x] if isinstance(x, int) else x for x in stream)
    reader, seqs = Reader(), []
    for i in range(0, len(data), portion):
        for kind, body in reader.feed(data[i: i + portion]):
            request = unpack_request(kind, body)
            assert request is not None and request.value is not None
            seqs.append(request.seq)
            np.testing.assert_array_equal(request.value, np.arange(5.0))
    list(reader.feed(bytes(40000)))  # what a false beginning waited for
    assert seqs == [x for x in stream if isinstance(x, int)] or len(seqs) < len(stream)
    noise = sum(len(x) for x in stream if isinstance(x, bytes))
    assert reader.ignored <= noise + 40000


@pytest.mark.parametrize("byte", [4, 7, 20, 60, 200, 364])
def test_a_frame_with_a_bit_flipped_on_the_way_is_none(byte: int) -> None:
    spoilt = bytearray(pack_request(Request(Kind.COMMAND, 1, 1.0, 0.1, value=np.arange(5.0))))
    spoilt[byte] ^= 4
    assert [*Reader().feed(bytes(spoilt) + bytes(40000))] == []


def unlatched(rig: Rig) -> None:
    with contextlib.suppress(ArmError):
        rig.keeper.unlatch(ACK)


def pushed(rig: Rig, by: np.ndarray) -> None:
    rig.arm.q = rig.arm.q + by


def mended(rig: Rig) -> None:
    rig.arm.stuck, rig.arm.fail = False, lambda state: state


def waited(rig: Rig, seconds: float) -> None:
    rig.clock.now += seconds


Event = Callable[[Rig, np.random.Generator], object]
EVENTS: dict[str, Event] = {
    "command": lambda rig, rng: rig.command(rng.normal(size=5)),
    "goal": lambda rig, rng: rig.command(rng.normal(size=5), mode=Mode.JOINT_POSITION),
    "wild": lambda rig, rng: rig.command(1e6 * rng.normal(size=5)),
    "wild goal": lambda rig, rng: rig.command(1e6 * rng.normal(size=5), mode=Mode.JOINT_POSITION),
    "nan": lambda rig, rng: rig.command(np.where(rng.random(5) < 0.5, np.nan, 0.1)),
    "late": lambda rig, rng: rig.command(expires=rig.clock.now - 0.01),
    "repeat": lambda rig, rng: rig.command(rng.normal(size=5), seq=rig.seq - 1),
    "silent": lambda rig, rng: failing(puppet.silent)(rig),
    "garbled": lambda rig, rng: failing(puppet.garbled)(rig),
    "stuck": lambda rig, rng: setattr(rig.arm, "stuck", True),
    "push": lambda rig, rng: pushed(rig, 0.3 * rng.normal(size=5)),
    "stall": lambda rig, rng: waited(rig, rng.uniform(0, 0.5)),
    "hold": lambda rig, rng: rig.keeper.hold(),
    "mend": lambda rig, rng: mended(rig),
    "unlatch": lambda rig, rng: unlatched(rig),
    "nothing": lambda rig, rng: None,
}


@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 2**31)), min_size=1,
                max_size=80))
@settings(max_examples=30, deadline=None)
def test_whatever_happens_no_target_leaves_the_limits(events: list[tuple[str, int]]) -> None:
    rig, targets = Rig().on(), [HOME]
    for name, seed in events:
        EVENTS[name](rig, np.random.default_rng(seed))
        for _ in range(1 + seed % 10):
            rig.ticks()
            targets.append(rig.arm.goal)
    found = violations(rig.keeper.limits, rig.arm.spec.chain, np.array(targets), PERIOD)
    assert not any(found.values()), found


# The process.


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardProcess]:
    log = tmp_path_factory.mktemp("guard") / "reports"
    with start_guard("twin", {"arm": "so101"}, live=True, policy_hz=1 / POLICY, log=log) as made:
        link = made.link()
        link.enable(ACK)
        link.close()
        yield made
    with log.open("rb") as file:
        reports = list(read_log(file))
    assert [r.tick for r in reports] == list(range(1, len(reports) + 1))  # none is missing


@pytest.fixture
def link(guard: GuardProcess) -> Iterator[GuardLink]:
    link = guard.link()
    wait_for(link, Phase.HOLDING, Phase.LATCHED)
    with contextlib.suppress(ArmError):
        link.unlatch(ACK)
    wait_for(link, Phase.HOLDING)
    yield link
    link.close()


def wait_for(link: GuardLink, *phases: Phase) -> Report:
    end = time.monotonic() + 20
    while (report := link.report(5.0)).phase not in phases:
        assert time.monotonic() < end, report
    return report


def policy(place: Path, fate: str) -> None:
    """Another process's: commands until it ends in a certain way."""
    own = GuardLink(place)
    for i in range(1000):
        own.report(1.0)  # comes at the guard's own pace: no sleep here can be too long for it
        own.command(Mode.JOINT_VELOCITY, FORWARD, 0.1)
        if i == 5 and fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if i == 5 and fate == "frozen":
            os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize(("fate", "reason"), [("killed", "gone"), ("frozen", "no command")])
def test_a_policy_that_ends_leaves_an_arm_that_holds(
    guard: GuardProcess, link: GuardLink, fate: str, reason: str
) -> None:
    other = multiprocessing.get_context("fork").Process(target=policy, args=(guard.place, fate))
    other.start()
    try:
        wait_for(link, Phase.STREAMING)
        assert reason in wait_for(link, Phase.LATCHED).reason
    finally:
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        other.close()
    time.sleep(0.2)
    link.report(1.0)  # what had come meanwhile
    resting = link.report(1.0).applied
    np.testing.assert_array_equal(link.report(1.0).applied, resting)


def test_the_socket_is_its_owner_s_alone(guard: GuardProcess) -> None:
    assert stat.S_IMODE(guard.place.stat().st_mode) == 0o600
    assert stat.S_IMODE(guard.place.parent.stat().st_mode) == 0o700


def test_random_bytes_are_counted_and_the_guard_goes_on(link: GuardLink) -> None:
    before = link.report(1.0).ignored
    link._socket.sendall(np.random.default_rng(0).bytes(5000))
    end = time.monotonic() + 10
    while link.report(1.0).ignored < before + 4000:
        assert time.monotonic() < end
    link.hold()
    assert link.report(1.0).phase is Phase.HOLDING


def test_ctrl_c_in_a_terminal_does_not_reach_the_guard(
    guard: GuardProcess, link: GuardLink
) -> None:
    assert os.getpgid(guard.process.pid) != os.getpgid(os.getpid())
    guard.process.send_signal(signal.SIGINT)
    before = link.report(1.0).tick
    assert link.report(1.0).tick > before and guard.process.poll() is None


def test_a_second_policy_cannot_take_over(guard: GuardProcess, link: GuardLink) -> None:
    other = guard.link()
    seq = link.command(Mode.JOINT_VELOCITY, FORWARD, 0.1)
    wait_for(link, Phase.STREAMING)
    before = link.report(1.0).rejected
    other.command(Mode.JOINT_VELOCITY, -FORWARD, 0.1)
    other.close()  # one that only watched may go
    while (report := link.report(1.0)).rejected == before:
        pass
    assert report.seq == seq


def test_parking_goes_there_and_holds(link: GuardLink) -> None:
    goal = HOME + np.array([0.1, 0.05, 0.0, -0.05, 0.1])
    park(link, goal, timeout_s=20.0)
    report = wait_for(link, Phase.HOLDING)
    np.testing.assert_allclose(report.applied, goal, atol=0.01)


def test_an_operation_that_is_refused_says_why(link: GuardLink) -> None:
    with pytest.raises(ArmError, match="on already"):
        link.enable(ACK)
    with pytest.raises(ArmError, match="no fault"):
        link.clear_faults(ACK)


@pytest.mark.parametrize(("arm", "options", "complaint"), [
    ("twin", {"arm": "fr4"}, "did you mean fr3"), ("twim", {}, "did you mean twin"),
])
def test_a_guard_that_cannot_start_says_why(
    arm: str, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ArmError, match=complaint):
        start_guard(arm, options)


def test_a_guard_without_a_parent_holds_as_long_as_torque_is_on() -> None:
    guard = start_guard("twin", {"arm": "so101"}, live=True)
    link = guard.link()
    link.enable(ACK)
    assert guard.process.stdin is not None
    guard.process.stdin.close()
    assert "started the guard" in wait_for(link, Phase.LATCHED).reason
    assert guard.process.poll() is None
    link.release(ACK)
    link.close()
    guard.process.wait(10)  # nothing is held and nobody is left
    with pytest.raises(Disconnected):
        guard.link()
    guard.stop()


@pytest.mark.parametrize("real", [True, False])
def test_what_is_no_arm_is_not_held_for_ever(
    real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.robot.guard._FORGOTTEN", 0.1)
    told, parent = os.pipe()
    listener = _listen_at(tmp_path / "socket")
    served = Guard(Rig().on().keeper, listener, b"", None, told, real)
    thread = threading.Thread(target=served.serve)
    thread.start()
    os.close(parent)  # whoever started it is gone, and torque is on
    thread.join(1.0 if real else 20.0)
    holds, served.ending = thread.is_alive(), True
    thread.join()
    listener.close()
    os.close(told)
    assert holds == real
