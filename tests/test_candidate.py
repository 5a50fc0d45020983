"""What is looked at in a candidate before it moves an arm: figures by hand, and that it is refused
where they are out of bounds."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import log, nan, sqrt
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_agents import Line, tiny
from torch import Tensor

import metarl
from metarl.__main__ import main
from metarl.agents import AGENTS
from metarl.envs.family import default_task, sample_tasks
from metarl.envs.reach import Reach
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.robot.arm import ArmError
from metarl.robot.candidate import (
    FACTOR,
    Adaptation,
    Check,
    checks,
    figures,
    gaussian_kl,
    off,
    references,
)
from metarl.robot.gate import Verdict
from metarl.robot.rollout import Rollout, prior
from metarl.robot.session import ACTIVE, ADAPTED, CARD, Outcome, Plan, adapt
from metarl.robot.worlds import ArmWorlds, Authority
from metarl.testing.direct import rehearsal
from metarl.trial import Steps

POLICY = Path(__file__).parent / "policies" / "reach_fr3"
FAMILY = Reach(horizon=25)


class Told:
    """An agent whose belief is the mean of its action, and `std` how much it varies."""

    device = torch.device("cpu")

    def __init__(self, std: float) -> None:
        self.std = std

    def act(self, obs: Tensor, belief: float, noise: Tensor | None) -> Tensor:
        mean = torch.full((len(obs), 2), belief)
        return mean if noise is None else mean + self.std * noise

    def pack(self, belief: float) -> dict[str, Tensor]:
        return {"weights": torch.tensor([[3.0, 4.0]]) * belief,
                "episode": torch.tensor([int(9 * belief)])}


def figure(name: str, std: float, base: float, adapted: float) -> float | None:
    one = Adaptation(base, adapted, torch.zeros(5, 1))
    return figures(cast(Any, Told(std)), one, [one])[name]


# Arithmetic.


def test_kl_is_that_of_gaussians() -> None:
    zero, tenth = torch.zeros(2), torch.full((2,), 0.1)
    # 0.2 off at a standard deviation of 0.1: 0.04 / 0.02 = 2, for each of two numbers.
    assert gaussian_kl(zero + 0.2, tenth, zero, tenth) == pytest.approx(4)
    # Twice as wide as the base: -log 2 + 4 / 2 - 1 / 2; half as wide: log 2 + 1 / 8 - 1 / 2.
    assert gaussian_kl(zero, 2 * tenth, zero, tenth) == pytest.approx(2 * (1.5 - log(2)))
    assert gaussian_kl(zero, tenth / 2, zero, tenth) == pytest.approx(2 * (log(2) - 0.375))


def test_kl_of_a_policy_is_told_by_how_much_of_a_little_noise_it_takes() -> None:
    assert figure("kl", 0.1, 0.1, 0.3) == pytest.approx(4, rel=1e-4)
    # One that takes none counts as having 0.05: 0.04 / 0.005 = 8, twice.
    assert figure("kl", 0.0, 0.1, 0.3) == pytest.approx(16, rel=1e-4)
    # What is beyond 1 never reaches the arm.
    assert figure("kl", 0.1, 1.0, 9.0) == pytest.approx(0, abs=1e-5)


def test_the_change_is_a_norm_without_counters() -> None:
    assert figure("delta", 0.1, 0.0, 1.0) == pytest.approx(5)  # (0, 0) -> (3, 4)
    assert figure("delta", 0.1, 1.0, 1.0) == 0


def test_what_is_off_is_told_in_standard_deviations_of_each_column() -> None:
    # Columns: mean 1, standard deviation 1; and 5 that never varies, so that 0.001 counts as one.
    usual = torch.tensor([[0.0, 5.0], [2.0, 5.0]]).double()
    assert off(torch.tensor([[4.0, 5.0]]).double(), usual) == pytest.approx(3 / sqrt(2))
    assert off(torch.tensor([[1.0, 5.002]], dtype=usual.dtype), usual) == pytest.approx(2 / sqrt(2))
    assert off(torch.tensor([[4.0, 5.0], [1.0, 5.0]]).double(), usual) == pytest.approx(3 / 2)


def test_a_bound_is_twice_the_most_of_the_others_and_nan_is_never_inside() -> None:
    others = [Adaptation(0.0, belief, torch.zeros(5, 1)) for belief in (0.1, 0.3, -0.2)]
    one = Adaptation(0.0, 0.55, torch.zeros(5, 1))
    found = {check.name: check for check in checks(cast(Any, Told(0.1)), one, others)}
    assert FACTOR == 2
    assert found["delta"].bound == pytest.approx(2 * 5 * 0.3)
    assert found["kl"].bound == pytest.approx(2 * 9, rel=1e-3)  # 0.09 / 0.02, twice
    assert found["delta"].passed and not found["kl"].passed  # 2.75 and 30.25
    assert not Check("kl", nan, 1.0).passed and not Check("kl", 1.0, nan).passed
    # The strangest of the others counts beside the rest: -0.2 beside 0.1 and 0.3, whose mean is
    # 0.2 and standard deviation 0.1, is 4 off; 0.3 beside 0.1 and -0.2 is 0.35 / 0.15 off.
    assert found["belief"].bound == pytest.approx(2 * 4, rel=1e-4)


def test_what_an_agent_has_no_number_for_is_not_judged() -> None:
    class Blank(Told):
        def pack(self, belief: float) -> dict[str, Tensor]:
            return {}

    one = Adaptation(0.0, 0.1, torch.zeros(5, 1))
    found = checks(cast(Any, Blank(0.1)), one, [one, one])
    assert [check.name for check in found] == ["kl", "observations"]


# Every agent.


def adaptation(agent: Any, goal: float, key: int) -> Adaptation:
    """Two episodes on the line."""
    worlds, draws = Line(1), Draws.of(0, key, 1)
    worlds.set_tasks(torch.tensor([[goal]]))
    base = belief = agent.prior(worlds.tasks, 1, draws)
    seen, source = [], torch.Generator().manual_seed(key)
    for _ in range(2 * worlds.shapes.horizon):
        seen.append(worlds.obs)
        step = worlds.step(agent.act(worlds.obs, belief, torch.randn(1, 2, generator=source)))
        belief = agent.infer(belief, step)
    return Adaptation(base, belief, torch.cat(seen))


@pytest.mark.parametrize("name", [n for n in AGENTS if not tiny(n).plan.sees_task])
def test_every_agent_is_judged_by_what_it_does_in_training(name: str) -> None:
    agent = tiny(name)
    goals = torch.linspace(-1, 1, 8).tolist()
    others = [adaptation(agent, goal, i) for i, goal in enumerate(goals)]
    one = adaptation(agent, 0.4, 99)
    assert all(check.passed for check in checks(agent, one, others))

    def refused(changed: Adaptation) -> set[str]:
        return {check.name for check in checks(agent, changed, others) if not check.passed}

    degrees = replace(one, seen=one.seen + torch.tensor([57.0, 0.0, 0.0]))
    assert "observations" in refused(degrees)
    packed = agent.pack(one.adapted)
    wild = {k: 1e3 * (v + 1) if v.is_floating_point() else v for k, v in packed.items()}
    if any(v.is_floating_point() for v in packed.values()):
        assert "belief" in refused(replace(one, adapted=agent.unpack(wild)))
    else:
        assert name == "blind"  # it believes nothing


# A session.


@pytest.fixture(scope="module")
def policy() -> Policy:
    return metarl.load(POLICY)


def worlds(task: Tensor | None = None) -> ArmWorlds:
    return rehearsal(FAMILY, default_task(FAMILY)[None] if task is None else task, Authority(0.5))


def session(
    policy: Policy, folder: Path, tampered: Callable[[ArmWorlds], None] = lambda arm: None,
) -> tuple[Outcome, ArmWorlds, list[tuple[str, Any]]]:
    """The outcome of a session of one episode, the arm, and what was logged."""
    arm, told = worlds(), list[tuple[str, Any]]()
    arm.log = lambda topic, what: told.append((topic, what))
    tampered(arm)
    outcome = adapt(policy, arm, worlds, Plan(1, 5), folder, {"base": str(POLICY)}, arm.log,
                    lambda where, what: None)
    return outcome, arm, told


def in_degrees(arm: ArmWorlds) -> None:
    """The arm's observations in another unit; the twin's are as they should be."""
    observe = arm._observe
    arm._observe = lambda: observe() * 57.3  # pyright: ignore[reportAttributeAccessIssue]


def without_reward(arm: ArmWorlds) -> None:
    """A reward that is not a number at an episode's end."""
    step = arm.step

    def lost(action: Tensor, autoreset: bool = True) -> Steps:
        made = step(action, autoreset)
        return replace(made, reward=made.reward * nan) if made.last.all() else made

    arm.step = lost


def test_a_sound_candidate_comes_to_the_gate(policy: Policy, tmp_path: Path) -> None:
    outcome, _, told = session(policy, tmp_path)
    assert outcome.findings and outcome.verdict is not Verdict.REFUSED
    assert [check.name for check in outcome.checks] == ["delta", "kl", "observations", "belief"]
    (candidate,) = [what for topic, what in told if topic == "candidate"]
    assert candidate["parent"] == outcome.parent and candidate["candidate"] == outcome.candidate
    assert all(check["passed"] for check in candidate["checks"])
    assert json.loads((tmp_path / CARD).read_text())["checks"] == candidate["checks"]


@pytest.mark.parametrize(("tampered", "why"), [
    (in_degrees, "what it saw, off training's"), (without_reward, "holds what is not finite")])
def test_a_candidate_out_of_bounds_is_refused_before_it_moves_the_arm(
    tampered: Callable[[ArmWorlds], None], why: str, policy: Policy, tmp_path: Path
) -> None:
    outcome, _, told = session(policy, tmp_path, tampered)
    assert outcome.verdict is Verdict.REFUSED and not outcome.findings
    assert why in outcome.reason
    # One episode was lived on the arm: that in which it adapted.
    assert [topic for topic, _ in told if topic in ("start", "verdict")] == ["start"]
    active = json.loads((tmp_path / ACTIVE).read_text())
    assert active["active"] == "base" and why in active["reason"]
    assert not (tmp_path / ADAPTED).exists()
    assert json.loads((tmp_path / CARD).read_text())["verdict"] == "refused"


def test_an_agent_that_cannot_adapt_in_the_twin_moves_no_arm(policy: Policy) -> None:
    def poor(task: Tensor) -> ArmWorlds:
        made = worlds(task)
        made.rules = replace(made.rules, late=-1.0)  # every step is one too many
        return made

    with pytest.raises(ArmError, match=r"fails in 4 of 4 tasks .*: 2 rollouts gave too few"):
        references(policy.agent, lambda one, seed: prior(policy.agent, one, seed), poor,
                   sample_tasks(FAMILY, "train", 4), 1, 0)


def test_only_episodes_that_count_are_looked_at() -> None:
    good = Rollout(2, 0.0, "", False, seen=torch.ones(2, 1))
    bad = Rollout(1, 0.0, "it was late", False, seen=torch.zeros(1, 1))
    assert Adaptation.of(None, None, [bad, good]).seen.tolist() == [[1.0], [1.0]]


def test_a_refusal_is_printed_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metarl.robot.candidate.FACTOR", 1e-9)  # nothing is inside such bounds
    folder = tmp_path / "session"
    assert main(["robot", "adapt", str(POLICY), "--rehearse", "--folder", str(folder), "--pairs",
                 "5", "--episodes", "1", "--speed", "100"]) == 0
    out = capsys.readouterr().out
    assert "refused: norm of the change" in out and "FAILS" in out and "in charge: the base" in out
    assert main(["robot", "log", str(folder / "log.mcap")]) == 0
    assert "refused: norm of the change" in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text()
    assert "Refused</strong>, before it moved the arm" in text and "verify" not in text
