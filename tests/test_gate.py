"""The adaptation gate: what few pairs can show, and that only what is shown to help is kept."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import metarl
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.errors import UserError
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.robot.arm import ArmError, Fault, OperatorAck
from metarl.robot.gate import (
    Finding,
    Monitor,
    Pair,
    Verdict,
    decide,
    sign_test,
    verify,
    wins_needed,
)
from metarl.robot.rollout import Hands, Rollout, digest, prior, usable
from metarl.robot.worlds import ArmWorlds, Authority, NeedsHuman
from metarl.testing.body import Body, Flaws
from metarl.testing.direct import Direct
from metarl.trial import Steps

POLICY = Path(__file__).parent / "policies" / "reach_fr3"
GOOD, BAD = Rollout(5, 1.0, "", False), Rollout(5, 0.0, "", False)
STOPPED = Rollout(2, 9.0, "joint 3 is overloaded", True)  # a high return, but it had to stop
LATE = Rollout(5, 9.0, "4 of 5 control steps began late", False)
WON, LOST, TIED = Pair(BAD, GOOD, True), Pair(GOOD, BAD, True), Pair(GOOD, GOOD, False)


# The test's arithmetic: n coins, all alike.


@pytest.mark.parametrize(("pairs", "needed", "p"), [
    (5, 5, 1 / 32), (6, 6, 1 / 64), (7, 7, 1 / 128),
    (8, 7, 9 / 256),  # 1 + 8
    (9, 8, 10 / 512),  # 1 + 9
    (10, 9, 11 / 1024),  # 1 + 10
    (12, 10, 79 / 4096),  # 1 + 12 + 66
    (15, 12, 576 / 32768),  # 1 + 15 + 105 + 455
])
def test_so_many_wins_are_needed(pairs: int, needed: int, p: float) -> None:
    assert wins_needed(pairs) == needed
    assert sign_test(needed, pairs) == pytest.approx(p)
    assert sign_test(needed, pairs) <= 0.05 < sign_test(needed - 1, pairs)


@pytest.mark.parametrize(("pairs", "p"), [(3, 1 / 8), (4, 1 / 16)])
def test_three_or_four_pairs_can_never_show_anything(pairs: int, p: float) -> None:
    assert sign_test(pairs, pairs) == pytest.approx(p)
    assert wins_needed(pairs) is None
    with pytest.raises(UserError, match="can never show an improvement"):
        decide([], pairs)


def verdict(pairs: list[Pair], planned: int) -> Verdict | None:
    found = decide(pairs, planned)
    return found[0] if found else None


def test_a_candidate_is_kept_after_all_pairs_alone() -> None:
    assert verdict([WON] * 9, 10) is None
    assert verdict([WON] * 9 + [LOST], 10) is Verdict.KEEP
    assert verdict([WON] * 8 + [LOST] * 2, 10) is Verdict.NOT_SHOWN


def test_a_candidate_that_nothing_can_save_is_dropped_at_once() -> None:
    # 10 pairs, 9 needed: with 2 of each, neither can have 9 any more.
    assert verdict([WON, LOST, WON], 10) is None
    assert verdict([WON, LOST, WON, LOST], 10) is Verdict.NOT_SHOWN
    assert verdict([LOST] * 8, 10) is None
    assert verdict([LOST] * 9, 10) is Verdict.ROLL_BACK


def test_a_tie_shows_nothing() -> None:
    assert verdict([WON] * 8 + [TIED] * 2, 10) is Verdict.NOT_SHOWN


def test_an_invalid_episode_never_helps_the_candidate() -> None:
    invalid = Pair(BAD, LATE, False)
    assert invalid.lost and not invalid.won
    # One of the base's is no evidence: the pair is repeated.
    assert not Pair(LATE, GOOD, False).counts
    assert verdict([WON] * 9 + [Pair(LATE, GOOD, False)], 10) is None
    assert verdict([Pair(LATE, GOOD, False)] * 11, 10) is Verdict.NOT_SHOWN


def test_a_candidate_that_must_be_stopped_is_not_kept() -> None:
    stopped = Pair(BAD, STOPPED, False)
    assert verdict([WON] * 9 + [stopped], 10) is Verdict.NOT_SHOWN
    assert verdict([stopped, stopped], 10) is Verdict.ROLL_BACK
    both = Pair(STOPPED, STOPPED, False)  # the arm's trouble, not the candidate's
    assert verdict([both] * 3 + [WON] * 10, 10) is Verdict.KEEP


def test_chance_alone_keeps_a_candidate_in_at_most_one_of_twenty_sessions() -> None:
    # All 2^10 ways in which two equal policies may fare: 11 of them keep the candidate.
    kept = dropped = 0
    for way in itertools.product([WON, LOST], repeat=10):
        found = next(v for n in range(11) if (v := verdict(list(way[:n]), 10)) is not None)
        kept += found is Verdict.KEEP
        dropped += found is Verdict.ROLL_BACK
    assert (kept, dropped) == (11, 11)


# On an arm.


def arm(goal: int = 0, flaws: Flaws = Flaws(payload=0.5)) -> ArmWorlds:  # noqa: B008
    link = Direct(Body("fr3", flaws))
    ack = OperatorAck("Ada", "looked")

    def ask(needed: NeedsHuman) -> bool:
        link.fault = None
        link.unlatch(ack)
        return True

    worlds = ArmWorlds(Reach(horizon=25), link, Authority(0.5), link, ask=ask)
    worlds.set_tasks(sample_tasks(Reach(), "test", goal + 1)[goal:])
    return worlds


@pytest.fixture(scope="module")
def policy() -> Policy:
    return metarl.load(POLICY)


@pytest.fixture(scope="module")
def adapted(policy: Policy) -> tuple[Hands, Any, Any]:
    """An arm, and what the agent believes before and after adapting there."""
    hands = Hands(policy.agent, worlds := arm())
    base = prior(policy.agent, worlds, 0)
    before = digest(policy.agent, base)
    lived, found = hands.adapt(base, 2, Draws.of(0, 1, 1))
    assert [rollout.valid for rollout in lived] == [True, True] and usable(policy.agent, found)
    assert digest(policy.agent, base) == before != digest(policy.agent, found)
    return hands, base, found


def test_adaptation_that_helps_is_kept(adapted: tuple[Hands, Any, Any]) -> None:
    hands, base, candidate = adapted
    found = verify(hands, base, candidate, 5, 0, "arm")
    assert found.verdict is Verdict.KEEP and found.wins == 5
    assert {pair.adapted_first for pair in found.pairs} == {True, False}  # in random order


def test_adaptation_that_hurts_is_rolled_back(adapted: tuple[Hands, Any, Any]) -> None:
    hands, base, candidate = adapted
    found = verify(hands, candidate, base, 5, 0, "arm")  # the other way round
    assert found.verdict is Verdict.ROLL_BACK and found.losses == 5


def test_an_invalid_rollout_leaves_no_trace_in_the_belief(policy: Policy) -> None:
    hands = Hands(policy.agent, worlds := arm())
    base = prior(policy.agent, worlds, 0)
    assert isinstance(worlds.link, Direct)
    link, live, told = worlds.link, worlds.step, list[Rollout]()

    def breaks(action: torch.Tensor, autoreset: bool = True) -> Steps:
        if len(told) == 1 and worlds.report.tick % 7 == 0:
            link.fault = Fault("overload joint3", "joint 3 is overloaded")
        return live(action, autoreset)

    worlds.step = breaks
    lived, _ = hands.adapt(base, 2, Draws.of(0, 1, 1), told.append)
    assert [rollout.valid for rollout in lived] == [True, False, True] and told == lived
    assert lived[1].invalid == "joint 3 is overloaded" and lived[1].aborted
    told[:] = lived[:1]
    stopped, after = hands.roll(base, Draws.of(0, 1, 1))
    assert stopped.aborted and after is base


def test_too_many_invalid_rollouts_end_the_session(policy: Policy) -> None:
    hands = Hands(policy.agent, worlds := arm())
    worlds.rules = type(worlds.rules)(late=-1.0)  # every step is one too many
    with pytest.raises(ArmError, match="too few valid ones; the last: 0 of 25"):
        hands.adapt(prior(policy.agent, worlds, 0), 1, Draws.of(0, 1, 1))


def test_an_agent_that_must_be_told_the_task_is_refused(policy: Policy) -> None:
    from metarl.api import build_agent

    oracle = build_agent("oracle", {}, arm().shapes, 0)
    with pytest.raises(UserError, match="told the hidden task"):
        Hands(oracle, arm())


# In use.


def test_a_kept_policy_is_demoted_when_its_returns_fall() -> None:
    # Mean 10, standard deviation 1; each episode at 7 adds 3 - 0.5, so the third one is over 5.
    monitor = Monitor([9.0, 11.0, 9.0, 11.0])
    bad = Rollout(5, 7.0, "", False)
    assert [bool(monitor.demote(bad)) for _ in range(3)] == [False, False, True]
    monitor = Monitor([9.0, 11.0, 9.0, 11.0])
    assert not any(monitor.demote(Rollout(5, 10.0, "", False)) for _ in range(100))


def test_a_kept_policy_is_demoted_when_it_is_stopped_twice() -> None:
    monitor = Monitor([9.0, 11.0])
    assert monitor.demote(STOPPED) == ""
    assert "stopped 2 times" in monitor.demote(STOPPED)


def test_a_finding_says_what_it_rests_on() -> None:
    card = Finding(Verdict.KEEP, "why", (WON,) * 9 + (LOST,), 10, "twin").as_dict()
    assert card["wins"] == 9 and card["losses"] == 1 and card["p"] == pytest.approx(11 / 1024)
    assert card["pairs"][0]["base"]["return"] == 0.0
