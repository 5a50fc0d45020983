"""What a policy believes when an arm begins: all that it was adapted to, by whomever."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_agents import SHAPES, Line, tiny
from test_demos import demonstration

import metarl
from metarl import api
from metarl.cli.robot_link import ArmOptions, choose
from metarl.episodes import conditioned
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.robot.session import own_belief

BUNDLE = Path(__file__).parent / "policies" / "reach_fr3"
SHOWN = {"demonstrations": {"file": "demos.npz", "episodes": 2, "source": "a test"}, "episodes": 0}
WORLDS: Any = Line(1)  # one row, as an arm


def bundle(name: str, replicas: int, **about: Any) -> Policy:
    """A policy whose belief, of so many rows, is not the prior."""
    agent = tiny(name)
    agent.plan = agent.plan.__class__(**{**vars(agent.plan), "replicas": replicas})
    draws = Draws.of(0, EVALUATION, 1, replicas)
    belief = conditioned(agent, agent.prior(torch.zeros(1, 1), replicas, draws), demonstration())
    return Policy(agent, belief, {"agent": name, "family": "line", "seed": 0, "replicas": replicas,
                                  "shapes": vars(SHAPES), **about})


@pytest.mark.parametrize("about", [SHOWN, {"episodes": 3}])
def test_an_arm_begins_with_what_a_policy_was_adapted_to(about: dict[str, Any]) -> None:
    policy = bundle("pearl", 1, **about)
    assert own_belief(policy, WORLDS, 0) is policy.belief


def test_a_policy_that_nothing_was_shown_to_begins_with_the_prior() -> None:
    assert own_belief(bundle("pearl", 1), WORLDS, 0) is not bundle("pearl", 1).belief
    # Of a run, which was never adapted, an arm is one row whatever it was trained with.
    assert len(own_belief(bundle("rl2", 2), WORLDS, 0).state) == 1


@pytest.mark.parametrize("about", [SHOWN, {"episodes": 1}])
def test_weights_that_a_task_s_rows_share_are_one_row_s_too(about: dict[str, Any]) -> None:
    policy = bundle("maml", 3, **about)
    belief, obs = own_belief(policy, WORLDS, 0), torch.tensor([[0.1, -0.2, 0.3]])
    acted = policy.agent.act(obs, belief, None).clamp(-1, 1)
    predicted, _ = policy.predict(obs[0].numpy())
    assert acted[0].tolist() == pytest.approx(predicted.tolist(), abs=1e-6)
    assert not torch.equal(acted, policy.agent.act(
        obs, policy.agent.prior(torch.zeros(1, 1), 1, Draws.of(0, 0, 1)), None).clamp(-1, 1))
    # And it goes on adapting there, an inner step after an episode of the one row.
    worlds = Line(1)
    for _ in range(SHAPES.horizon):
        after = belief = policy.agent.infer(
            belief, worlds.step(policy.agent.act(worlds.obs, belief, torch.ones(1, 2))))
    assert not torch.equal(after.weights["bias0"], policy.belief.weights["bias0"])


def test_rows_that_share_nothing_are_refused_before_an_arm_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = bundle("rl2", 2, episodes=3)
    with pytest.raises(UserError, match=r"in 2 rows .* an arm is one"):
        own_belief(policy, WORLDS, 0)
    whole = metarl.load(BUNDLE)
    whole.about |= {"episodes": 3}
    whole.replicas = 2
    monkeypatch.setattr(api, "load", lambda *_: cast(Any, whole))
    with pytest.raises(UserError, match=r"in 2 rows .* an arm is one"):
        choose(ArmOptions(str(BUNDLE), folder=tmp_path / "a"))
