"""The adaptation gate: an adapted policy takes over only where it has been shown to be better.

Base and candidate live through pairs of episodes from equal starts, interleaved, in random order.
The exact one-sided sign test on the pairs decides, at 5 %, with their number fixed beforehand. A
candidate is kept after all of them alone; one that the pairs left cannot save any more is dropped
before, which changes no answer of the test. What is not shown is called that: the base goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import comb
from typing import Any

from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws, Role, generator
from metarl.robot.rollout import Hands, Rollout

ALPHA = 0.05
_PAIRS = EVALUATION + 16  # iteration that keys the draws of the first pair
_FAULTS = 2  # aborted episodes of a candidate beyond those of its base: enough


class Verdict(StrEnum):
    """What becomes of a candidate."""

    KEEP = "keep"  # shown to be better
    NOT_SHOWN = "not shown"  # the base goes on
    ROLL_BACK = "roll back"  # shown to be worse, or unsafe; the base goes on
    REFUSED = "refused"  # never let near the arm; the base goes on


def sign_test(wins: int, pairs: int) -> float:
    """The chance of so many wins or more in so many pairs, were both policies alike."""
    return sum(comb(pairs, k) for k in range(wins, pairs + 1)) / 2**pairs


def wins_needed(pairs: int, alpha: float = ALPHA) -> int | None:
    """The least number of wins that shows an improvement; None where not even all would do."""
    enough = [wins for wins in range(pairs + 1) if sign_test(wins, pairs) <= alpha]
    return enough[0] if enough else None


@dataclass(frozen=True)
class Pair:
    """One episode of each policy, from the same start."""

    base: Rollout
    adapted: Rollout
    adapted_first: bool

    @property
    def counts(self) -> bool:
        """Not where the base's episode is invalid; an invalid one of the candidate's is lost."""
        return self.base.valid

    @property
    def won(self) -> bool:
        return self.counts and self.adapted.valid and self.adapted.total > self.base.total

    @property
    def lost(self) -> bool:
        worse = not self.adapted.valid or self.adapted.total < self.base.total
        return self.counts and worse


@dataclass(frozen=True)
class Finding:
    """What pairs have shown."""

    verdict: Verdict
    reason: str
    pairs: tuple[Pair, ...]
    planned: int
    where: str = ""  # twin or arm

    @property
    def wins(self) -> int:
        return sum(pair.won for pair in self.pairs)

    @property
    def losses(self) -> int:
        return sum(pair.lost for pair in self.pairs)

    def as_dict(self) -> dict[str, Any]:
        """For a log and a result card."""
        return {
            "where": self.where, "verdict": str(self.verdict), "reason": self.reason,
            "planned": self.planned, "wins": self.wins, "losses": self.losses,
            "p": sign_test(self.wins, self.planned),
            "pairs": [{"base": pair.base.as_dict(), "adapted": pair.adapted.as_dict(),
                       "first": "adapted" if pair.adapted_first else "base"}
                      for pair in self.pairs],
        }


def decide(pairs: Sequence[Pair], planned: int) -> tuple[Verdict, str] | None:
    """The verdict on the pairs so far, with its reason; None while those left may change it."""
    needed = wins_needed(planned)
    if needed is None:
        raise UserError(f"{planned} pairs can never show an improvement at {ALPHA:.0%}; "
                        "ask for at least 5")
    counted = [pair for pair in pairs if pair.counts]
    wins, losses = sum(pair.won for pair in counted), sum(pair.lost for pair in counted)
    left = planned - len(counted)
    faults = sum(p.adapted.aborted for p in pairs) - sum(p.base.aborted for p in pairs)
    if faults >= _FAULTS:
        return Verdict.ROLL_BACK, "the adapted policy had to be stopped " \
            f"{faults} times more often than the base"
    if losses >= needed:
        return Verdict.ROLL_BACK, f"worse in {losses} of {planned} pairs: shown to be worse"
    if left == 0 and wins >= needed:
        if faults > 0:
            return Verdict.NOT_SHOWN, "better, but it had to be stopped more often than the base"
        return Verdict.KEEP, f"better in {wins} of {planned} pairs: shown to be better, " \
            f"p = {sign_test(wins, planned):.3f}"
    if left == 0 or max(wins, losses) + left < needed:
        return Verdict.NOT_SHOWN, f"better in {wins} and worse in {losses} of {planned} pairs, " \
            f"where {needed} show it"
    if len(pairs) - len(counted) > planned:
        return Verdict.NOT_SHOWN, "too many episodes of the base were invalid"
    return None


def verify(
    hands: Hands, base: Any, adapted: Any, pairs: int, seed: int, where: str,
    told: Callable[[Pair], None] = lambda pair: None,
) -> Finding:
    """Judge the belief `adapted` against `base` in at most so many pairs that count. `told` hears
    of each pair, and not before it is over."""
    lived: list[Pair] = []
    order = generator(seed, _PAIRS, 0, Role.LEARN)
    while (found := decide(lived, pairs)) is None:
        draws = Draws.of(seed, _PAIRS + len(lived), 1)
        first = bool(order.integers(2))
        rollouts = [hands.roll(belief, draws)[0]
                    for belief in ((adapted, base) if first else (base, adapted))]
        one, other = rollouts
        pair = Pair(other, one, True) if first else Pair(one, other, False)
        lived.append(pair)
        told(pair)
    return Finding(*found, tuple(lived), pairs, where)


@dataclass
class Monitor:
    """Watches a policy in use, and says when it must be demoted: its returns have fallen below
    those it was kept for (one-sided CUSUM, Page 1954), or it was stopped twice in ten episodes."""

    returns: Sequence[float]  # of its episodes at the gate
    slack: float = 0.5  # standard deviations below the mean that are let pass
    limit: float = 5.0  # standard deviations of fall, added up
    fallen: float = 0.0
    recent: list[bool] = field(default_factory=list)  # aborted, newest last

    def demote(self, rollout: Rollout) -> str:
        """Why the policy must go after this episode too; "" where it may stay."""
        self.recent = [*self.recent[-9:], rollout.aborted]
        if sum(self.recent) >= _FAULTS:
            return f"it was stopped {sum(self.recent)} times in {len(self.recent)} episodes"
        if rollout.valid:
            mean = sum(self.returns) / len(self.returns)
            spread = (sum((r - mean) ** 2 for r in self.returns) / len(self.returns)) ** 0.5
            below = (mean - rollout.total) / max(spread, 1e-6 + 0.01 * abs(mean))
            self.fallen = max(0.0, self.fallen + below - self.slack)
        if self.fallen > self.limit:
            return "its returns have fallen below those that it was kept for"
        return ""
