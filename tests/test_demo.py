"""The demo: what it goes on with, and what it says of its variants."""

from pathlib import Path

import pytest
from tiny import train

from metarl.__main__ import main
from metarl.cli import showcase
from metarl.cli.demo import Options
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.run import find


def test_what_an_earlier_call_has_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showcase, "begin", lambda words: pytest.fail("trained again"))
    assert main(train(tmp_path / "runs", 1)) == 0
    run = find("latest", tmp_path / "runs")
    asked = Options(out=tmp_path, steps=int(run.config["steps"]), seed=int(run.config["seed"]))
    made, code = showcase._trained(asked)
    assert (made.path, code) == (run.path, 0)


def test_another_demo_is_trained_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []
    monkeypatch.setattr(showcase, "begin", lambda words: (said.append(words), 0))
    assert main(train(tmp_path / "runs", 1)) == 0
    showcase._trained(Options(out=tmp_path, steps=7, seed=3))
    assert said == [["pearl", "reach", "--runs", str(tmp_path / "runs"), "--seed", "3",
                     "--steps", "7", "--config.anneal", "39100", "--config.encoder-anneal",
                     "16300"]]


def test_a_variant_is_told_with_its_units() -> None:
    family = Reach()
    task = sample_tasks(family, "test", 1)[0]
    values = {p.name: task[i].item() for i, p in enumerate(family.parameters)}
    told = showcase._told(family, {**values, "payload": 1.5})
    assert "payload 1.5 kg" in told and told.startswith("goal_x 0.")
