"""Recording and adapting runs that see their last actions (`--sim2real.history`)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_episodes import episodes
from tiny import train

from metarl.__main__ import main
from metarl.episodes import read, with_past_actions
from metarl.run import Run, find

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("runs")
    assert main(train(root, 1, "--sim2real.history", "2", "--sim2real.noise", "0.001")) == 0
    return find("latest", root)


def test_a_run_that_sees_its_last_actions_is_recorded_in_worlds_like_its_own(
    remembering: Run, tmp_path: Path
) -> None:
    path = tmp_path / "own.npz"
    words = ["record", "--run", str(remembering.path), "--episodes", "2", "--out", str(path)]
    assert main(words) == 0
    found = read(path)
    names = [entry.name for entry in found.about.observation]
    assert len(names) == 17 + 2 * 7
    assert names[17] == "joint1, 2 steps ago" and names[24] == "joint1, 1 steps ago"
    # What is appended to its observations without them is what it saw.
    bare = replace(found, about=replace(found.about, observation=found.about.observation[:17]),
                   steps=replace(found.steps, obs=found.steps.obs[:, :17],
                                 next_obs=found.steps.next_obs[:, :17]))
    again = with_past_actions(bare, 2)
    assert torch.equal(again.steps.obs, found.steps.obs)
    assert torch.equal(again.steps.next_obs, found.steps.next_obs)
    assert again.about == found.about
    words = ["adapt", str(remembering.path), "--demos", str(path), "--out", str(tmp_path / "b")]
    assert main(words) == 0


def test_it_adapts_to_episodes_of_those_who_do_not(
    remembering: Run, tmp_path: Path, capsys: Capture
) -> None:
    demos, words = tmp_path / "demos.npz", ["adapt", str(remembering.path), "--json"]
    assert main(["record", "reach", "--family.horizon", "5", "--out", str(demos)]) == 0
    assert len(read(demos).about.observation) == 17
    capsys.readouterr()
    assert main([*words, "--demos", str(demos), "--out", str(tmp_path / "b")]) == 0
    assert json.loads(capsys.readouterr().out)["demonstrations"]["episodes"] == 1


def test_past_actions_begin_anew_with_each_episode_oldest_first() -> None:
    # Two episodes, of two steps and of three; actions are 0, 2, 4 ..., a quarter of each
    # counts, and 1 at most: 0, 0.5, 1, 1, 1.
    found = with_past_actions(episodes(), 2, scale=0.25)
    assert [entry.name for entry in found.about.observation] == [
        "x", "v", "push, 2 steps ago", "push, 1 steps ago"]
    assert found.steps.obs[:, 2:].tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [1, 1]]
    assert found.steps.next_obs[:, 2:].tolist() == [[0, 0], [0, 0.5], [0, 1], [1, 1], [1, 1]]
    assert found.steps.obs[:, :2].tolist() == episodes().steps.obs.tolist()
