"""The benchmark on the drivers' doubles compares policies in equally many episodes."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.benchmarks import arm_reach
from metarl.robot.rollout import Rollout


def episode(success: float) -> Rollout:
    return Rollout(50, 1.0, "", False, {"success": success})


def test_the_blind_policy_has_as_many_episodes_to_succeed_in_as_the_one_that_adapts(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two tasks the blind policy hits upon one, in its third episode: 0.5, not 0.
    lived = {"pearl": [[0, 1, 1], [0, 0, 1]], "blind": [[0, 0, 1], [0, 0, 0]]}
    rows, said = list[dict[str, str]](), list[Any]()
    monkeypatch.setattr(sys, "argv", ["arm_reach", "so101", "pearl", "--blind", "blind", "--tasks",
                                      "2"])
    monkeypatch.setattr(arm_reach.metarl, "load", lambda path: SimpleNamespace(
        about={"agent": str(path), "seed": 0}))
    monkeypatch.setattr(arm_reach, "_live", lambda arm, policy, task, number, *more: [
        episode(x) for x in lived[policy.about["agent"]][number]])
    monkeypatch.setattr(arm_reach.scores, "append", lambda path, more: rows.extend(more))
    monkeypatch.setattr(arm_reach, "record", lambda *words: said.extend(words))
    arm_reach.main()
    assert "success in any of 3 episodes, 2 tasks" in said[1]
    assert said[3:] == [1.0, 0.5]
    assert [(row["agent"], row["success"]) for row in rows] == [
        ("pearl", "0.0000"), ("pearl", "0.5000"), ("pearl", "1.0000"),
        ("blind", "0.0000"), ("blind", "0.0000"), ("blind", "0.5000")]
