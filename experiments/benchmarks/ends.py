"""Policies that end: whether the guard then holds, in time and for good.

    python -m experiments.benchmarks.ends [--arms twin so101 ur5e franka] [--count 200]

Policies that move every joint are killed (SIGKILL), frozen (SIGSTOP), or slowed (stopped, and let
go on 0.4 s later, so that they command again), each at a moment that they know nothing of: on twins
of three arms, which live in the guard's process, and on the drivers' doubles, which live in one of
their own, through the shipped driver. The promise is a hold, latched, within two periods of the
policy and one of the guard after the last command.

How it is judged, all times by the host's one monotonic clock:

- the last command: when the policy itself sent the newest command that the guard accepted, as the
  policy wrote it down before;
- the hold: the tick at which the guard's log first says "latched". A hold is late where there is
  none, or it comes later than promised, or the arm is still told to move later than the promise
  and the way to rest that the limits allow;
- when the arm is told to move: for a double by its own record of the targets that reached it (goals
  on the servos' bus, servoj's registers, joint positions at 1 kHz), none of it the guard's word;
  for a twin by the targets in the guard's log. The last time at which they are farther than 0.1
  mrad from where they end counts;
- latched: the slowed policy's commands are refused, and no target moves until a person unlatches;
- how long the arm itself moves then is told and not judged: that is its servos' affair.

A machine that is too busy shows: the guard's longest wait between two ticks beyond its period, the
double's longest wait, and which of the late holds fell together with either. None is left out. A
guard that latched before the policy ended (a double that did not answer, say) had no end to be
judged by: those are counted apart, and another policy ends instead.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.benchmarks.ends_judge import End, Judged, judge, promise, stopping
from experiments.record import record
from metarl.cli.common import show, table
from metarl.envs.arms import ARMS
from metarl.robot.arm import ArmError, Mode, OperatorAck
from metarl.robot.client import GuardLink, GuardProcess, start_guard
from metarl.robot.link import Phase, Report
from metarl.robot.wire import Kind, Reader, unpack_report
from metarl.testing.apart import Apart
from metarl.testing.fr3 import FrankySim
from metarl.testing.rtde import Ur
from metarl.testing.servo_bus import So101Bus

_ACK = OperatorAck("benchmark", "nothing moves but doubles")
_POLICY = 0.05  # s, of the policy
_SPEED = 0.3  # rad/s, of the fastest joint
_NEAR = 0.1  # rad, from where it began, beyond which a joint turns back
_SLEPT = 0.4  # s, that a slowed policy does nothing
_WATCHED = 0.5  # s, after the latch: the servos' own way to rest takes 0.35
# s, that more may pass: franky's plan is up to 0.07 behind its target, and stops by itself.
_BEYOND = {"franka": 0.1}
_DOUBLES: dict[str, Callable[[], Apart]] = {
    "so101": So101Bus, "ur5e": lambda: Ur(unlock_after=0.1), "franka": FrankySim}
Row = tuple[str, str, float]  # figure, unit, value


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=["twin", *_DOUBLES],
                        default=["twin", *_DOUBLES])
    parser.add_argument("--count", type=int, default=200, help="of each")
    options = parser.parse_args()
    shown = table("figure", "value", "unit")
    for arm in options.arms:
        for figure, unit, value in _ends(arm, options.count):
            shown.add_row(figure, f"{value:.4g}", unit)
            record("ends", figure, unit, value)
    show(shown)


def _ends(arm: str, wanted: int) -> list[Row]:
    """Policies that end on one arm, or on a twin of each, and what came of it."""
    found: list[Judged] = []
    before, began = Counter[str](), time.monotonic()
    if arm == "twin":
        for i, name in enumerate(ARMS):
            some = wanted // len(ARMS) + (i < wanted % len(ARMS))
            found += _on(arm, {"arm": name}, None, some, before)
    else:
        with _DOUBLES[arm]() as double:
            found += _on(arm, double.options, double, wanted, before)
    where = "twins of three arms" if arm == "twin" else f"{arm} driver on its double"
    late = [it for it in found if it.late]
    for reason, times in before.items():
        print(f"{where}: latched before the end {times} times: {reason}")
    print(f"{where}: {len(found)} ends in {time.monotonic() - began:.0f} s")
    rows = [("kills", "1", len(found)), ("late holds", "1", len(late)),
            ("late holds with a processor for all", "1", sum(not it.excused for it in late)),
            ("ends of an arm that stood", "1", sum(it.still == 0 for it in found)),
            ("latches before the end, left out", "1", before.total()),
            ("last command to hold, slowest", "s", max(it.hold for it in found)),
            ("last command to the last new target, slowest", "s", max(it.still for it in found)),
            ("last command to the arm's rest, slowest", "s", max(it.rest for it in found)),
            ("the guard's tick beyond its period, longest", "s", max(it.overrun for it in found))]
    return [(f"{figure}: {where}", unit, float(value)) for figure, unit, value in rows
            if not np.isnan(value)]


def _on(
    arm: str, options: dict[str, Any], double: Apart | None, wanted: int, before: Counter[str]
) -> list[Judged]:
    """So many ends that can be judged, on one arm behind one guard."""
    chance, found = random.Random(0), list[Judged]()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with start_guard(arm, options, live=True, log=log, policy_hz=1 / _POLICY) as guard, \
                log.open("rb") as file:
            link, told = guard.link(), _Log(file)
            link.enable(_ACK)
            home, said = link.report(1.0).applied, {
                "period": link.period, "promised": promise(_POLICY, link.period),
                "stop": stopping(link.limits, _SPEED, link.period) + _BEYOND.get(arm, 0.0)}
            while len(found) < wanted:
                end = _end(guard, link, home, chance, double)
                reports = told.of(end)
                judged = judge(end, reports, **said)
                if judged is None:
                    before[reports[-1].reason] += 1
                else:
                    found.append(judged)
                    if judged.late:
                        print(f"{arm}: late, {end.fate}: {judged}", flush=True)
                _unlatch(link)
                if before.total() > 10 + wanted:
                    raise SystemExit(f"{arm}: the guard latches by itself: {dict(before)}")
            link.close()
    return found


class _Log:
    """A guard's, while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._reader = file, Reader()

    def of(self, end: End) -> list[Report]:
        """What it tells from a policy's first command until the arm was watched no more."""
        found: list[Report] = []
        for _ in range(1000):
            found += [unpack_report(body) for kind, body in self._reader.feed(self._file.read())
                      if kind == Kind.REPORT]
            if found and found[-1].t > end.watched:
                first = end.sent[end.sent > 0].min(initial=end.ended)
                return [report for report in found if first <= report.t <= end.watched]
            time.sleep(0.01)
        raise SystemExit("the guard's log ends too soon")


# One end.


def _policy(place: str, home: np.ndarray, seed: int, sent: Any) -> None:
    """Command an arm for as long as it is let; `sent` keeps when."""
    link, rng = GuardLink(place), np.random.default_rng(seed)
    before = None
    for seq in count():
        target = link.report(1.0).applied
        if before is None or np.array_equal(target, before):  # it meets a limit
            off = target - home
            way = np.where(np.abs(off) > _NEAR, -np.sign(off), rng.choice([-1.0, 1.0], len(home)))
            speed = way * rng.uniform(0.3 * _SPEED, _SPEED, len(home))
        before = target
        sent[seq] = time.monotonic()
        link.command(Mode.JOINT_VELOCITY, speed, 2 * _POLICY)
        time.sleep(rng.uniform(0.6, 1.0) * _POLICY)


def _end(
    guard: GuardProcess, link: GuardLink, home: np.ndarray, chance: random.Random,
    double: Apart | None,
) -> End:
    """A policy's life, until the arm has stood and the policy is no more."""
    context = multiprocessing.get_context("fork")
    sent, fate = context.Array("d", 1024, lock=False), chance.choice(["killed", "frozen", "slowed"])
    policy = context.Process(
        target=_policy, args=(str(guard.place), home, chance.randrange(1 << 30), sent))
    policy.start()
    pid = policy.pid
    assert pid is not None
    try:
        if not _comes(link, Phase.STREAMING, 10.0):
            raise SystemExit("a policy commands and is not heard")
        if double is not None:
            double.ask(account=True)
        time.sleep(chance.uniform(0.1, 0.5))
        waited, ended = _waited(guard), time.monotonic()
        os.kill(pid, signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
        latched = _comes(link, Phase.LATCHED, 2.0)
        time.sleep(_WATCHED)
        if fate == "slowed" and latched:
            _go_on(link, pid, ended)
        waited = _waited(guard) - waited
        watched = time.monotonic()
        account = {} if double is None else double.ask(account=True)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        policy.join()
        policy.close()
    if double is not None:
        account["targets"] = np.reshape(account["targets"], (-1, 1 + len(home)))
    return End(fate, np.array(sent), ended, watched, waited, **account)


def _go_on(link: GuardLink, pid: int, stopped: float) -> None:
    """A slowed policy wakes and commands again, and is refused until it is watched no more."""
    time.sleep(max(0.0, stopped + _SLEPT - time.monotonic()))
    before = link.report(1.0).rejected
    os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 5
    while link.report(1.0).rejected == before:
        if time.monotonic() > deadline:
            raise SystemExit("a slowed policy commands again, and is not refused")
    time.sleep(2 * _POLICY)


def _comes(link: GuardLink, phase: Phase, seconds: float) -> bool:
    """Whether the guard comes to a phase, or latches, in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if link.report(2.0).phase in (phase, Phase.LATCHED):
            return True
    return False


def _unlatch(link: GuardLink) -> None:
    """A person lets it go on, once the arm is at rest and the guard knows that the policy is
    gone."""
    for _ in range(200):
        try:
            if link.report(1.0).state.faults:
                link.clear_faults(_ACK)
            link.unlatch(_ACK)
            time.sleep(0.03)
            if link.report(1.0).phase is Phase.HOLDING:
                return
        except ArmError:
            time.sleep(0.02)
    raise SystemExit("the guard stays latched")


def _waited(guard: GuardProcess) -> float:
    """Seconds that the guard has waited for a processor so far; 0 where the system does not say."""
    try:
        return 1e-9 * int(Path(f"/proc/{guard.process.pid}/schedstat").read_text().split()[1])
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
