"""What is said of the end of a policy: see experiments.benchmarks.ends for what is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from metarl.robot.limits import Limits
from metarl.robot.link import Phase, Report

SLACK = 1e-3  # s, that a sleeper wakes late where nothing else runs
_SAME = 1e-4  # rad, between targets
_NEVER = math.inf


@dataclass(frozen=True)
class End:
    """A policy that ended, as it was seen; times are the host's monotonic clock [s]."""

    fate: str
    sent: NDArray[np.float64]  # (C,) when the policy sent its commands, by their seq
    ended: float  # when it was sent its signal
    watched: float  # until when the arm was watched, latched
    waited: float = 0.0  # s, that the guard wanted a processor and had none
    # Of a double, its own account:
    targets: NDArray[np.float64] | None = None  # (R, 1 + J) when its targets came, rad
    moved: float = math.nan  # when its arm last moved
    gap: float = 0.0  # s, the longest that it did not run


@dataclass(frozen=True)
class Judged:
    """Seconds, counted from the last command."""

    hold: float  # to the guard's latch; infinite without one
    still: float  # to the last target that was another; 0 where there was none
    rest: float  # to the arm's last motion; NaN where nothing outside the guard sees it
    overrun: float  # the longest of the guard's ticks, beyond its period
    behind: float  # how much later than allowed, at most 0 where it was in time
    excused: bool  # whether the guard or the double lacked a processor for as long as that

    @property
    def late(self) -> bool:
        """Whether it did not hold as promised."""
        return self.behind > 0


def promise(policy_period: float, guard_period: float) -> float:
    """Within which a hold is latched after the last command, s."""
    return 2 * policy_period + guard_period


def stopping(limits: Limits, speed: float, period: float) -> float:
    """Within which a target comes to rest from a speed [rad/s], s: acceleration built up within the
    limit of jerk, twice, and the ticks that each part of the way is rounded up to."""
    a, jerk = np.array(limits.ddq_max), np.array(limits.jerk_max)
    return float((speed / a + 2 * a / jerk).max()) + 3 * period


def judge(
    end: End, reports: Sequence[Report], *, period: float, promised: float, stop: float
) -> Judged | None:
    """What came of an end, by the guard's reports from before it until it was watched no more;
    None where the guard had latched before it."""
    latch = next((new for old, new in pairwise(reports)
                  if new.phase is Phase.LATCHED is not old.phase), None)
    if latch is not None and latch.t < end.ended:
        return None
    last = end.sent[(reports[-1] if latch is None else latch).seq]
    hold = _NEVER if latch is None else latch.t - last
    targets = end.targets
    if targets is None:
        targets = np.array([[report.t, *report.applied] for report in reports])
    still = _settled(targets, last)
    beats = [report.t for report in reports if report.t >= last - period]
    overrun = max(new - old for old, new in pairwise(beats)) - period
    behind = max(hold - promised, still - promised - stop) - SLACK
    return Judged(hold, still, end.moved - last, overrun, behind,
                  excused=behind <= end.waited + end.gap)


def _settled(targets: NDArray[np.float64], last: float) -> float:
    """Seconds from the last command to the newest target that differs from the one before it."""
    away = np.abs(targets[:, 1:] - targets[-1:, 1:]).max(1) > _SAME
    return float(targets[np.flatnonzero(away)[-1] + 1, 0]) - last if away.any() else 0.0
