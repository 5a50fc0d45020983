"""The conformance suite of arms passes what is right, and finds each planted fault."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import broken_arms
import pytest
from broken_arms import Plain, Sealed, Silent, Stalled

from metarl.errors import UserError
from metarl.robot import registry
from metarl.robot.arm import ArmAdapter
from metarl.robot.twin import Twin
from metarl.testing.conformance import (
    Verdict,
    checks,
    complain,
    verdicts,
)

NAMES = [check.name for check in checks()]
Verdicts = dict[str, Future[list[Verdict]]]


def broken(check: str) -> type[ArmAdapter]:
    return getattr(broken_arms, f"Broken{check.capitalize()}")


@pytest.fixture(scope="module")
def judged() -> Iterator[Verdicts]:
    """The verdicts on every arm; all are judged at once, as they mostly wait."""
    arms = {"plain": Plain, "silent": Silent, "sealed": Sealed,
            "stalled": Stalled,
            "twin": lambda: Twin("so101", noise=1e-3, backlash=0.01),
            **{name: broken(name) for name in NAMES}}
    with ThreadPoolExecutor(len(arms)) as pool:
        yield {name: pool.submit(lambda arm=arm: list(verdicts(arm)))
               for name, arm in arms.items()}


@pytest.mark.parametrize("name", ["plain", "stalled", "twin"])
def test_an_arm_that_keeps_the_contract_passes_every_check(name: str, judged: Verdicts) -> None:
    assert [v for v in judged[name].result() if v.problem or v.unchecked] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_arm_fails_the_check_meant_for_it_alone(name: str, judged: Verdicts) -> None:
    found = {v.name: v.problem for v in judged[name].result() if v.problem}
    assert list(found) == [name], found


def test_failures_are_told_all_at_once(judged: Verdicts) -> None:
    with pytest.raises(AssertionError, match=r"(?s)acknowledged.*releasing.*a bug"):
        complain(judged["silent"].result())


def test_what_cannot_fail_is_told_to_be_unchecked(judged: Verdicts) -> None:
    unchecked = {v.name for v in judged["sealed"].result() if v.unchecked}
    assert unchecked == {"latching", "late", "lost", "duplicated", "reordered", "corrupt",
                         "frozen", "nan"}


def test_arms_are_found_by_name_or_place() -> None:
    assert isinstance(registry.make_arm("twin", {"arm": "ur5e"}), Twin)
    assert registry.arm_class("broken_arms:Plain") is Plain
    assert "twin" in registry.arm_names()


@pytest.mark.parametrize(("name", "options", "complaint"), [
    ("twim", {}, "did you mean twin"), ("twin", {"arm": "fr4"}, "did you mean fr3"),
    ("twin", {"colour": "red"}, "'colour'; known: arm"), ("nowhere:Arm", {}, "nowhere"),
    ("so101", {"prot": "x"}, "did you mean port"),
    ("lerobot", {}, r"needs --option config=\.\.\.; python -m pydoc metarl.robot.lerobot"),
    ("broken_arms:Nothing", {}, "no Nothing"), ("metarl.robot.arm:ArmSpec", {}, "is no arm"),
])
def test_what_is_no_arm_is_told_in_one_line(
    name: str, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        registry.make_arm(name, options)
