"""The SO-101's driver on an emulated servo bus: the vendor's SDK and our driver, as shipped."""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scservo_sdk", reason="the extra `feetech` is not installed")

from metarl.errors import DamagedFile
from metarl.robot.arm import (
    ArmError,
    ArmMode,
    BusError,
    Command,
    Disconnected,
    Mode,
    NotAcknowledged,
    OperatorAck,
    Rejected,
    Stale,
    Unsupported,
)
from metarl.robot.feetech import So101
from metarl.robot.servos import Servo, signed, unsigned
from metarl.testing.body import Body, Flaws
from metarl.testing.live import HandClock
from metarl.testing.servo_bus import ServoBus, Trouble

ACK = OperatorAck("Ada", "workspace clear, stop in reach")
TICK = 2 * math.pi / 4096  # rad
LONG = 10.0  # s, never waited for


class Rig:
    """An arm on a bus whose time the test moves."""

    def __init__(self, bus: ServoBus, clock: HandClock, path: Path) -> None:
        self.bus, self._clock, self._seq = bus, clock, 0
        self.arm = So101(bus.port, bus.save_calibration(path), gripper=True)

    def command(self, q: np.ndarray, **changes: object) -> Command:
        self._seq += 1
        return Command(**{"seq": self._seq, "mode": Mode.JOINT_POSITION, "value": q,
                          "expires": time.monotonic() + LONG, **changes})  # pyright: ignore

    def wait(self, seconds: float) -> np.ndarray:
        """Let the arm live on; where it is, by the driver."""
        self.arm.read(LONG)  # after which the bus has obeyed what was sent
        self._clock.time += seconds
        return self.arm.read(LONG).q


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    clock = HandClock()
    with ServoBus(Body("so101"), clock) as bus:
        rig = Rig(bus, clock, tmp_path / "calibration.json")
        yield rig
        rig.arm.close()


def test_words_and_ticks_become_numbers() -> None:
    assert signed(0x0005, 15) == 5 and signed(0x8005, 15) == -5
    assert signed(0x0805, 11) == -5 and unsigned(-5, 11) == 0x0805 and unsigned(7, 11) == 7
    servo = Servo("elbow_flex", 3, -1, 0, low=1000, high=3000)  # 0 rad at 2000
    assert servo.angle(2000 - 1024) == pytest.approx(math.pi / 2)  # a quarter of a turn
    assert servo.ticks(0.1, -2, 2) == 2000 - 65  # 0.1 * 4096 / 2 pi = 65.2
    assert servo.ticks(1.6, -2, 2) == 1000  # the EEPROM's end, 1.534 rad from the middle
    # 0.1 rad are 65.19 ticks: a limit is never rounded over.
    assert servo.ticks(0.1, -0.1, 0.1) == 2000 - 65
    assert servo.ticks(0.0997, -0.0997, 0.1) == 2000 - 65 and round(0.0997 / TICK) == 65


def test_the_angles_are_the_arm_s_and_connecting_writes_nothing(rig: Rig) -> None:
    state = rig.arm.connect()
    assert rig.bus.writes == []
    np.testing.assert_allclose(state.q, [0.0, -0.4, 0.4, 1.2, 0.0], atol=TICK)  # its home
    assert state.mode == ArmMode.READY_OFF
    assert state.gripper == 0.0 and state.tau is None and state.wrench is None
    rig.arm.connect()
    assert rig.bus.writes == []


def test_enabling_holds_the_measured_pose_whatever_goal_was_left(rig: Rig) -> None:
    # The bus starts with goals at 2048: some 1.2 rad from where the wrist is.
    before = rig.arm.connect().q
    state = rig.arm.enable(ACK)
    assert state.mode == ArmMode.HOLDING
    # It only sags a little: 1 N m at the shoulder is 0.06 rad of its 17.8 N m/rad.
    np.testing.assert_allclose(rig.wait(0.5), before, atol=0.08)
    goals = [write for write in rig.bus.writes if write[1] in (41, 42)]
    assert rig.bus.writes.index(goals[0]) == 0, "a goal comes before torque"


def test_a_sine_is_followed(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    asked, reached = [], []
    for step in range(200):  # 0.5 Hz at 100 Hz
        target = home + 0.3 * np.sin(math.pi * step * 0.01) * np.array([1, 1, -1, 1, 1])
        applied = rig.arm.send(rig.command(target)).applied
        np.testing.assert_allclose(applied, target, atol=0.51 * TICK)
        asked.append(target)
        reached.append(rig.wait(0.01))
    error = np.abs(np.array(asked) - reached)
    # Speeds of 0.94 rad/s and a lag of some 40 ms, and its own weight.
    assert error.max() < 0.1
    assert (np.ptp(reached, axis=0) > 0.55).all(), "0.6 from crest to crest"


def test_what_was_applied_is_what_the_servos_were_given(rig: Rig) -> None:
    rig.arm.connect()
    rig.arm.enable(ACK)
    lift = rig.bus.calibrations[1]  # its range is shorter than the spec's; it is reversed
    applied = rig.arm.send(rig.command(np.array([9.0, 0.0, 0.0, 0.0, 0.0])))
    assert applied.limits == ("position joint1",)
    assert 1.91986 - TICK < applied.applied[0] <= 1.91986
    rig.arm.read(LONG)
    for it, told in zip(rig.bus.calibrations, applied.applied, strict=False):
        assert it.angle(rig.bus.peek(it.id, 42, 2)) == pytest.approx(told, abs=1e-9)
    assert lift.reversed


def test_a_range_that_the_servos_shorten_is_told(tmp_path: Path) -> None:
    with ServoBus(Body("so101"), HandClock()) as bus:
        pan = bus.calibrations[0]
        pan.low, pan.high = pan.low + 800, pan.high - 800
        bus.poke(1, 9, pan.low, 2)
        bus.poke(1, 11, pan.high, 2)
        rig = Rig(bus, HandClock(), tmp_path / "calibration.json")
        rig.arm.connect()
        rig.arm.enable(ACK)
        applied = rig.arm.send(rig.command(np.array([1.5, 0.0, 0.0, 0.0, 0.0])))
        assert applied.limits == ("range joint1",)
        assert applied.applied[0] == pytest.approx((pan.high - pan.low) / 2 * TICK)
        rig.arm.close()


@pytest.mark.parametrize("changes", [
    {"value": np.full(5, math.nan)}, {"value": np.array([0, 0, math.inf, 0, 0])},
    {"value": np.zeros(6)}, {"seq": 0}, {"expires": 0.0}, {"mode": Mode.JOINT_VELOCITY},
    {"gripper": math.nan},
])
def test_a_command_that_makes_no_sense_reaches_no_servo(
    rig: Rig, changes: dict[str, object]
) -> None:
    rig.arm.connect()
    rig.arm.enable(ACK)
    rig.arm.send(rig.command(np.zeros(5)))
    rig.arm.read(LONG)
    before = len(rig.bus.writes)
    with pytest.raises(Rejected):
        rig.arm.send(rig.command(np.zeros(5), **changes))
    rig.arm.read(LONG)
    assert len(rig.bus.writes) == before


def test_nothing_moves_before_a_person_said_so(rig: Rig) -> None:
    with pytest.raises(Disconnected):
        rig.arm.send(rig.command(np.zeros(5)))
    rig.arm.connect()
    with pytest.raises(ArmError, match="not enabled"):
        rig.arm.send(rig.command(np.zeros(5)))
    with pytest.raises(NotAcknowledged):
        rig.arm.enable("yes")  # pyright: ignore[reportArgumentType]
    rig.arm.hold()
    with pytest.raises(Unsupported):
        rig.arm.arm_watchdog(0.1)
    assert rig.bus.writes == []


@pytest.mark.parametrize("kind", ["drop", "corrupt", "late", "duplicate", "short"])
@pytest.mark.parametrize("after", [0, 5])
def test_one_spoilt_answer_is_asked_for_again(rig: Rig, kind: Trouble, after: int) -> None:
    before = rig.arm.connect().q
    rig.bus.spoil(kind, after=after)
    np.testing.assert_array_equal(rig.arm.read(0.9).q, before)


def test_answers_that_trickle_in_after_a_lost_one_are_waited_for(rig: Rig) -> None:
    before = rig.arm.connect().q
    rig.bus.gap = 0.003
    rig.bus.spoil("drop")  # the second servo's answer is taken for it, and four are still to come
    np.testing.assert_array_equal(rig.arm.read(0.9).q, before)


@pytest.mark.parametrize(("kind", "error"), [
    ("drop", Stale), ("corrupt", BusError), ("short", ArmError), ("duplicate", BusError),
])
def test_a_bus_that_fails_for_good_is_told(
    rig: Rig, kind: Trouble, error: type[ArmError], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.arm.connect()
    rig.bus.spoil(kind, answers=100)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the wall clock may stand still or jump
    with pytest.raises(error):
        rig.arm.read(0.05)


def test_a_late_answer_never_answers_the_next_question(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.bus.spoil("late", answers=18)  # of all servos, three times
    with pytest.raises(Stale):
        rig.arm.read(0.03)
    rig.bus.spoil("late", answers=0)
    rig.arm.send(rig.command(home + 0.3))
    time.sleep(0.15)  # they are here now
    moved = rig.wait(0.5)
    np.testing.assert_allclose(moved, rig.bus.body.measure()[0], atol=TICK)
    assert np.abs(moved - home).min() > 0.15


def test_overload_latches_and_stops_pushing(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    with pytest.raises(ArmError, match="no fault"):
        rig.arm.clear_faults(ACK)
    rig.arm.send(rig.command(home + 0.4))
    rig.bus.poke(3, 65, 32)
    state = rig.arm.read(LONG)
    assert state.mode == ArmMode.FAULT and [f.code for f in state.faults] == ["overload joint3"]
    with pytest.raises(ArmError, match="overload"):
        rig.arm.send(rig.command(home))
    rig.arm.hold()
    rig.arm.read(LONG)
    for it, q in zip(rig.bus.calibrations, home, strict=False):
        assert it.angle(rig.bus.peek(it.id, 42, 2)) == pytest.approx(q, abs=0.02)
    with pytest.raises(ArmError, match="still stands"):
        rig.arm.clear_faults(ACK)
    rig.bus.poke(3, 65, 0)
    assert rig.arm.read(LONG).mode == ArmMode.FAULT, "it latches"
    rig.arm.clear_faults(ACK)
    assert rig.arm.cleared == 1 and rig.arm.read(LONG).mode == ArmMode.HOLDING
    rig.arm.send(rig.command(home))


def test_heat_is_a_fault_too_and_keeps_the_target(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.arm.send(rig.command(home + 0.4))
    rig.wait(0.3)
    rig.bus.poke(2, 65, 4)
    rig.bus.poke(2, 63, 81)
    state = rig.arm.read(LONG)
    assert [f.code for f in state.faults] == ["overheat joint2"]
    assert state.temperature is not None and state.temperature[1] == 81
    rig.arm.hold()
    np.testing.assert_allclose(rig.wait(0.5), home + 0.4, atol=0.1)


def test_an_encoder_that_is_stuck_is_seen_beside_the_others(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.bus.stick(1)
    rig.arm.send(rig.command(home + 0.3))
    moved = rig.wait(0.5) - home
    assert abs(moved[0]) < 2 * TICK and moved[1:].min() > 0.15


def test_holding_keeps_the_target_releasing_lets_go_and_closing_does_neither(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.arm.send(rig.command(home + 0.2))
    rig.wait(0.2)
    rig.arm.hold()
    rig.arm.hold()
    np.testing.assert_allclose(rig.wait(0.5), home + 0.2, atol=0.1)
    rig.arm.close()
    rig.arm.close()
    assert [rig.bus.peek(id, 40) for id in range(1, 7)] == [1] * 6
    assert rig.arm.connect().mode == ArmMode.HOLDING
    with pytest.raises(ArmError, match="not enabled"):  # by a person, in this session
        rig.arm.send(rig.command(home))
    rig.arm.enable(ACK)
    held = rig.wait(0.5)
    rig.arm.release(ACK)
    assert np.abs(rig.wait(0.5) - held).max() > 0.1, "it sags"
    assert rig.arm.read(LONG).mode == ArmMode.READY_OFF


def test_holding_stops_an_arm_that_was_sent_far_away(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.arm.send(rig.command(home + np.array([1.5, 0, 0, 0, 0])))
    moving = rig.wait(0.06)
    rig.arm.hold()
    # It was fast: it stops within v^2 / 2a of where it was, far from 1.5 rad.
    assert moving[0] - home[0] < 0.5
    assert rig.wait(1.0)[0] - home[0] < 0.9


def test_an_arm_outside_its_limits_is_not_enabled(tmp_path: Path) -> None:
    body = Body("so101")
    body.data.qpos[2] = 1.75  # beyond 1.69
    body.advance(0.002)
    with ServoBus(body, HandClock()) as bus:
        rig = Rig(bus, HandClock(), tmp_path / "calibration.json")
        rig.arm.connect()
        with pytest.raises(ArmError, match="joint3"):
            rig.arm.enable(ACK)
        assert bus.writes == []
        rig.arm.close()


def test_the_gripper_opens_by_shares(rig: Rig) -> None:
    home = rig.arm.connect().q
    rig.arm.enable(ACK)
    rig.arm.send(rig.command(home, gripper=0.25))
    rig.wait(1.0)
    assert rig.arm.read(LONG).gripper == pytest.approx(0.25, abs=1e-3)


def test_a_calibration_of_another_arm_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.bus.poke(4, 31, 7, 2)
    with pytest.raises(ArmError, match="register 31 of wrist_flex"):
        rig.arm.connect()
    path = tmp_path / "broken.json"
    for text in ("{", "{}", json.dumps({"shoulder_pan": {"id": 1}})):
        path.write_text(text)
        with pytest.raises(DamagedFile):
            So101(rig.bus.port, str(path)).connect()


def test_a_port_that_is_gone_is_told(tmp_path: Path) -> None:
    with ServoBus(Body("so101", Flaws()), HandClock()) as bus:
        rig = Rig(bus, HandClock(), tmp_path / "calibration.json")
        rig.arm.connect()
        with pytest.raises(Disconnected):
            So101(bus.port, str(tmp_path / "calibration.json")).connect()  # one owner
    with pytest.raises(Disconnected):
        rig.arm.read(0.05)
    with pytest.raises(Disconnected):
        rig.arm.read(0.05)
    rig.arm.close()


def test_a_missing_extra_is_one_line(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scservo_sdk", None)
    with pytest.raises(Unsupported, match=r"pip install 'metarl\[feetech\]'"):
        rig.arm.connect()
