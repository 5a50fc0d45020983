"""The curriculum goes where returns change, forgets no task, and goes on bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import learned, stopping
from tiny import STEPS, train
from torch import Tensor

from metarl import api, checkpoint
from metarl.__main__ import main
from metarl.curriculum import RATE, UNIFORM, Curriculum
from metarl.envs.ant_terrain import AntTerrain
from metarl.envs.family import sample_tasks
from metarl.envs.reach import Reach
from metarl.run import Run, find
from metarl.train import Setting


def curriculum(*visits: list[float]) -> Curriculum:
    """One over as many tasks as each of the visits has scores, after these."""
    made = Curriculum({"place": torch.arange(float(len(visits[0])))})
    for scores in visits:
        made.update(torch.arange(len(scores)), torch.tensor(scores))
    return made


def close(found: Tensor, wanted: list[float]) -> bool:
    return torch.allclose(found, torch.tensor(wanted).double(), atol=1e-6)


def test_tasks_whose_scores_change_are_drawn_in_proportion_to_the_change() -> None:
    # Two stand still, one rises by 3, one is forgotten by 1.
    made = curriculum([5, 0, 0, 2], [5, 0, 3, 1])
    # 0.3 / 4 each, and 0.7 shared as 0 : 0 : 3 : 1.
    assert UNIFORM == 0.3
    assert close(made.probabilities(), [0.075, 0.075, 0.6, 0.25])


def test_progress_is_a_mean_in_which_the_newest_change_weighs_most() -> None:
    made = curriculum([0, 0], [10, 0], [10, 0])
    assert RATE == 0.3
    assert close(made.progress, [7, 0])  # 10, then 0.3 of nothing and 0.7 of it
    # Chance alone: what goes up and down by 2 has less progress than any single change.
    noise = curriculum([0, 0], [2, 0], [0, 0], [2, 0])
    assert close(noise.progress, [0.7 * (0.7 * 2 - 0.3 * 2) + 0.3 * 2, 0])


def test_each_task_comes_as_often_as_its_share_says() -> None:
    made = curriculum([5, 0, 0, 2], [5, 0, 3, 1])
    chosen = made.choose(0, 0, 40)
    assert chosen.bincount(minlength=4).tolist() == [3, 3, 24, 10]
    for iteration in range(20):
        counts = made.choose(0, iteration, 10).bincount(minlength=4)  # 0.75, 0.75, 6, 2.5
        assert counts[0] <= 1 and counts[1] <= 1 and 5 <= counts[2] <= 7 and 2 <= counts[3] <= 3


def test_no_task_starves() -> None:
    made = curriculum([0.0] * 20, [0.0] * 19 + [1e9])
    seen = torch.cat([made.choose(0, iteration, 10) for iteration in range(60)])
    # Each of the others has 0.3 / 20 of 600 draws: 9.
    assert (seen.bincount(minlength=20)[:19] >= 3).all()


def test_until_a_task_was_visited_twice_none_is_preferred() -> None:
    made = curriculum([0, 0, 0])
    assert not made.ready
    assert close(made.probabilities(), [1 / 3] * 3)


def test_a_task_of_unknown_progress_is_taken_for_an_average_one() -> None:
    made = curriculum([0, 0, 0])
    made.update(torch.tensor([0, 1]), torch.tensor([9.0, 1.0]))
    assert made.ready
    # 0.1 each, and 0.7 shared as 9 : 1 : 5, the mean of what is known.
    assert close(made.probabilities(), [0.1 + 0.7 * part / 15 for part in (9, 1, 5)])
    made.update(torch.tensor([2]), torch.tensor([0.0]))
    assert close(made.probabilities(), [0.1 + 0.7 * part / 10 for part in (9, 1, 0)])


def test_a_task_that_is_visited_twice_at_once_has_one_score_and_nan_is_none() -> None:
    made = curriculum([0, 0])
    made.update(torch.tensor([0, 0, 1]), torch.tensor([2.0, 4.0, torch.nan]))
    assert made.score.tolist() == [3, 0]
    assert made.visits.tolist() == [2, 1]


def test_where_nothing_changes_all_are_alike() -> None:
    assert close(curriculum([1, 2], [1, 2]).probabilities(), [0.5, 0.5])


def test_it_tells_what_it_draws() -> None:
    made = curriculum([5, 0, 0, 2], [5, 0, 3, 1])
    told = made.summary()
    assert told["tasks/place"] == pytest.approx(0.075 + 2 * 0.6 + 3 * 0.25)
    assert told["tasks/progress"] == pytest.approx(1)
    # Places 0 to 3, their mean 2.025: the squares of what they lie off it, by share.
    square = 0.075 * 2.025**2 + 0.075 * 1.025**2 + 0.6 * 0.025**2 + 0.25 * 0.975**2
    assert told["tasks/place_deviation"] == pytest.approx(square**0.5)
    # -(2 * 0.075 ln 0.075 + 0.6 ln 0.6 + 0.25 ln 0.25) / ln 4
    assert told["tasks/entropy"] == pytest.approx((0.38854 + 0.30650 + 0.34657) / 1.38629, abs=1e-4)
    assert curriculum([0, 0], [0, 0]).summary()["tasks/entropy"] == pytest.approx(1)


def test_of_a_choice_it_tells_the_share_of_each() -> None:
    tasks = sample_tasks(AntTerrain(), "train", 8)
    found = api.descriptions(AntTerrain(), tasks)
    kinds = [name for name in found if "/" in name]
    assert len(kinds) > 1
    assert torch.equal(sum((found[name] for name in kinds), torch.zeros(8)), torch.ones(8))


# In training.


def trained(root: Path, iterations: int, *more: str) -> Run:
    assert main(train(root, iterations, "--tasks", "curriculum", *more)) == 0
    return find("latest", root)


def digests(run: Run) -> dict[str, Any]:
    path = checkpoint.latest(run.checkpoints)
    assert path is not None
    files = json.loads((path / "MANIFEST.json").read_text())["files"]
    return {entry["name"]: entry["sha256"] for entry in files if entry["name"] != "state.json"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach with six train tasks: three are visited twice after three iterations of three."""
    monkeypatch.setattr("metarl.envs.reach.Reach.task_counts", (6, 2))


@pytest.mark.parametrize("polls", [17, 33])
def test_an_interrupted_curriculum_goes_on_in_the_same_bits(
    polls: int, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = trained(tmp_path / "whole", 10)
    with monkeypatch.context() as patch:
        stopping(patch, polls)
        assert main(train(tmp_path / "cut", 10, "--tasks", "curriculum")) == 75
    run = find("latest", tmp_path / "cut")
    assert main(["resume", str(run.path)]) == 0
    assert digests(run) == digests(whole)
    assert "curriculum.safetensors" in digests(run)
    assert learned(run) == learned(whole)


def test_metrics_say_what_was_drawn_and_training_left_it(few: None, tmp_path: Path) -> None:
    lines = trained(tmp_path, 8).metrics()
    assert [line["tasks/entropy"] for line in lines[:3]] == pytest.approx([1] * 3)
    assert all(line["tasks/entropy"] < 0.999 for line in lines[3:])
    goals = {line["tasks/goal_x"] for line in lines}
    assert len(goals) == 6  # the set's mean, then another one in each iteration


def test_without_a_curriculum_tasks_take_turns_as_ever(tmp_path: Path) -> None:
    assert main(train(tmp_path, 1)) == 0
    run = find("latest", tmp_path)
    assert run.config["tasks"] == "uniform"
    assert not any(name.startswith("tasks/") for name in run.metrics()[0])
    assert run.metrics()[0]["env_steps"] == STEPS


def test_there_may_be_more_train_tasks_than_the_family_says(few: None, tmp_path: Path) -> None:
    six = setting_of(tmp_path / "six").train
    nine = setting_of(tmp_path / "nine", "--train-tasks", "9").train
    assert len(six) == 6 and len(nine) == 9
    assert torch.equal(six, nine[:6]) and len(nine.unique(dim=0)) == 9


def test_training_is_watched_on_tasks_that_are_neither_trained_on_nor_tested(
    few: None, tmp_path: Path
) -> None:
    setting = setting_of(tmp_path, "--evaluate-every", "15")
    watched = {tuple(task) for task in setting.validation.tolist()}
    family = Reach()
    assert len(watched) == family.task_counts[1]
    for split in ("train", "test", "ood"):
        assert not watched & {tuple(task) for task in sample_tasks(family, split, 200).tolist()}


def setting_of(root: Path, *more: str) -> Setting:
    """What a run of no more than an iteration was trained with."""
    assert main(train(root, 1, *more)) == 0
    run = find("latest", root)
    family, agent, _ = api.trained(run)
    return api.build_setting(family, agent, run.config)


def test_a_number_of_train_tasks_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path, 1, "--train-tasks", "-1")) == 2
    assert "give a number from 1 to 100,000, or 0" in capsys.readouterr().err
    assert main(train(tmp_path, 1, "--train-tasks", "1000000000")) == 2  # they would fill memory
    assert "give a number from 1 to 100,000, or 0" in capsys.readouterr().err
    assert main(train(tmp_path, 1, "--train-tasks", "1", "--trial.switch-every", "1")) == 2
    assert "--train-tasks 1 leaves no other task" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
