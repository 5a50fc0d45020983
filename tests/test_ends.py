"""How the end of a policy is judged: by the policy's clock, the guard's log, the double's record.

The policy commands at 10.00, 10.05 and 10.10 s; with its period of 50 ms and the guard's of 10 ms a
hold is promised by 10.10 + 0.11 = 10.21 s, and 0.03 s more are allowed for the way to rest.
"""

import math

import numpy as np
import pytest

from experiments.benchmarks.ends_judge import End, Judged, judge, promise, stopping
from metarl.robot.arm import ArmMode, ArmState, Mode
from metarl.robot.limits import Limits, Shaper
from metarl.robot.link import Phase, Report
from metarl.robot.specs import spec_of
from metarl.testing.witness import Witness

SENT = np.array([10.0, 10.05, 10.1, 0.0])
STATE = ArmState(0, 0.0, None, np.zeros(1), np.zeros(1), ArmMode.STREAMING)


def reports(latched: float, still: float, skipped: tuple[float, float] = (0, 0)) -> list[Report]:
    """A tick each 10 ms from 10.00 to 10.60 s, but for those skipped, that latch at one time and
    move the target until another; the command of 10.10 s is the newest from then on."""
    found = []
    for tick in range(61):
        t = 10 + tick / 100
        if skipped[0] < t < skipped[1]:
            continue
        phase = Phase.LATCHED if t > latched - 1e-6 else Phase.STREAMING
        target = np.array([0.3 * (min(t, still) - 10)])
        found.append(Report(tick, STATE, phase, "", min(2, tick // 5), target, target, (), 0, t))
    return found


def judged(told: list[Report], **end: object) -> Judged | None:
    seen = End(**{"fate": "frozen", "sent": SENT, "ended": 10.12, "watched": 10.6} | end)  # pyright: ignore[reportArgumentType]
    return judge(seen, told, period=0.01, promised=promise(0.05, 0.01), stop=0.03)


def test_a_hold_in_time_is_counted_from_the_newest_command_that_was_accepted() -> None:
    found = judged(reports(latched=10.2, still=10.22))
    assert found is not None and not found.late
    assert found.hold == pytest.approx(0.1) and found.still == pytest.approx(0.12)
    assert math.isnan(found.rest) and found.overrun == pytest.approx(0.0)


def test_a_latch_a_tick_after_the_promise_is_late() -> None:
    found = judged(reports(latched=10.22, still=10.22))
    assert found is not None and found.late and not found.excused
    assert found.behind == pytest.approx(0.12 - 0.11 - 0.001)


def test_no_latch_is_late() -> None:
    found = judged(reports(latched=11.0, still=10.2))
    assert found is not None and found.late and found.hold == math.inf


def test_an_arm_that_a_latched_guard_moves_on_is_late() -> None:
    found = judged(reports(latched=10.2, still=10.3))
    assert found is not None and found.late and found.behind == pytest.approx(0.2 - 0.14 - 0.001)


def test_the_double_s_record_goes_before_the_guard_s_word() -> None:
    record = np.array([[10.1, 0.0], [10.2, 0.1], [10.5, 0.2], [10.55, 0.20005]])
    found = judged(reports(latched=10.2, still=10.22), targets=record, moved=10.58)
    assert found is not None and found.late
    assert found.still == pytest.approx(0.4), "half a tenth of a milliradian is no new target"
    assert found.rest == pytest.approx(0.48)


def test_a_late_hold_is_the_machine_s_only_where_it_kept_a_process_that_long() -> None:
    told = reports(latched=10.25, still=10.25, skipped=(10.205, 10.245))
    found = judged(told, waited=0.02)
    assert found is not None and found.late and found.overrun == pytest.approx(0.04)
    assert not found.excused, "the guard waited 20 ms for a processor and is 39 ms behind"
    excused = judged(told, waited=0.04)
    assert excused is not None and excused.late and excused.excused


def test_a_guard_that_latched_before_the_end_is_not_judged_by_it() -> None:
    assert judged(reports(latched=10.11, still=10.12)) is None


@pytest.mark.parametrize("period", [0.008, 0.025])
def test_the_way_to_rest_that_is_allowed_is_enough_and_no_more_than_four_ticks_too_much(
    period: float,
) -> None:
    spec = spec_of("fr3", modes=frozenset({Mode.JOINT_POSITION}), rate_hz=(1, 200),
                   watchdog="device", senses=frozenset({"q", "dq"}))
    limits, home = Limits.of(spec), np.zeros(7)
    home[3] = -1.5
    shaper = Shaper(limits, spec.chain, period)
    shaper.start(home)
    fast = np.array([0, 0, 0, 0, 0, 0, 0.3])  # the last joint, which moves no point
    for _ in range(40):
        shaper.tick(shaper.q, fast, Mode.JOINT_VELOCITY)
    assert shaper.dq[6] == pytest.approx(0.3)
    ticks = 0
    while not shaper.at_rest:
        shaper.tick(shaper.q, None, Mode.JOINT_VELOCITY)
        ticks += 1
    allowed = stopping(limits, 0.3, period)
    assert ticks * period <= allowed <= (ticks + 4) * period


def test_a_witness_keeps_new_targets_and_forgets_them_once_told() -> None:
    witness = Witness()
    for target in ([0.0, 1.0], [0.0, 1.0], [0.5, 1.0]):
        witness.told(np.array(target))
    witness.looked(np.array([0.0, -0.02]))
    account = witness.account()
    assert [row[1:] for row in account["targets"]] == [[0.0, 1.0], [0.5, 1.0]]
    assert account["moved"] >= account["targets"][-1][0] and account["gap"] >= 0
    witness.looked(np.array([0.0, -0.005]))
    again = witness.account()
    assert again["targets"] == [] and again["moved"] == account["moved"]
