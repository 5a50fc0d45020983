"""Trials whose hidden tasks change on the way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import train
from torch import Tensor

from metarl import checkpoint
from metarl.__main__ import main
from metarl.agent import Fixed, Shapes
from metarl.agents.replay import Replay
from metarl.collect import Switch, Tasks, collect
from metarl.envs.arrays import Array
from metarl.envs.cheetah_dir import CheetahDir
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Family, Frame, Random, Start, sample_tasks
from metarl.envs.hopper_params import HopperParams
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate
from metarl.randomness import Draws
from metarl.run import Run, find
from metarl.trial import Change, Trial


class Spy(Fixed):
    """Moves at random, and sees what no agent may: the tasks that the rows have."""

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self.priors, self.seen = 0, []

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> None:
        self.priors += 1

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        assert noise is not None
        self.seen.append(self._worlds.tasks.clone())
        return noise


def lived(
    family: Family, index: list[int], episodes: int, every: int, replicas: int = 1, size: int = 5
) -> tuple[Trial, Spy, Worlds]:
    """A trial of these of a set's tasks that change after every so many episodes."""
    pool, chosen = sample_tasks(family, "train", size), torch.tensor(index)
    worlds = Worlds(family, len(index) * replicas, threads=1)
    spy = Spy(worlds)
    switch = Switch(every, pool) if every else None
    tasks = Tasks(pool[chosen], chosen, replicas, switch)
    trial, _ = collect(worlds, spy, tasks, episodes, Draws.of(0, 0, chosen, replicas))
    return trial, spy, worlds


def indices(trial: Trial) -> Tensor:
    """(T, N) the task of each step."""
    return torch.cat([part.index.expand(len(part), -1) for part in trial.stretches()])


def test_every_two_episodes_a_rows_task_becomes_another_of_the_set() -> None:
    trial, spy, _ = lived(CheetahVel(horizon=3), [0, 1, 2, 3], episodes=7, every=2)
    number = indices(trial)
    assert [change.start for change in trial.changes] == [6, 12, 18]
    for t in range(1, 21):
        assert (number[t] != number[t - 1]).all() == (number[t] != number[t - 1]).any() \
            == (t in (6, 12, 18))
    assert torch.equal(torch.stack(spy.seen), sample_tasks(CheetahVel(), "train", 5)[number])
    assert len(number.unique()) == 5


def test_a_task_becomes_another_one_where_most_of_the_set_are_alike() -> None:
    # Forward and backward take turns in the set of ten.
    trial, _, _ = lived(CheetahDir(horizon=3), [0, 3], episodes=6, every=1, size=10)
    way = torch.stack([trial.task, *(change.task for change in trial.changes)])[..., 0]
    assert len(way) == 6 and (way[1:] == -way[:-1]).all()


def test_a_changed_task_reaches_the_physics() -> None:
    family = HopperParams(horizon=2)
    trial, _, worlds = lived(family, [0, 1], episodes=2, every=1)
    for row in (0, 1):
        now, before = (worlds.engine.compile(task[row])
                       for task in (trial.changes[0].task, trial.task))
        mass = worlds.engine.row(row)[0].body_mass
        assert (mass == now.body_mass).all() and (mass != before.body_mass).any()


class Placed(CheetahVel):
    """Starts at x = the task, and shows x."""

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        start = super().reset(frame, task, random)
        return replace(start, qpos=np.concatenate([task, start.qpos[:, 1:]], 1))

    def observe(self, frame: Frame) -> Array:
        return frame.qpos[:, :1]


def test_the_first_start_after_a_change_is_that_of_the_new_task() -> None:
    trial, _, _ = lived(Placed(horizon=3), [0, 1], episodes=4, every=2)
    assert torch.equal(trial.obs[0], trial.task.float())
    assert torch.equal(trial.obs[6], trial.changes[0].task.float())


def test_a_new_episode_begins_in_the_new_task_and_the_old_ones_end_is_kept() -> None:
    trial, _, _ = lived(CheetahVel(horizon=3), [0, 1], episodes=4, every=2)
    assert trial.last[:, 0].tolist() == [t % 3 == 2 for t in range(12)]
    assert not trial.terminated.any()
    assert not torch.equal(trial.next_obs[5], trial.obs[6])


def test_the_belief_outlives_a_change() -> None:
    assert lived(CheetahVel(horizon=2), [0, 1], episodes=4, every=1)[1].priors == 1


def test_replicas_of_a_task_change_together() -> None:
    number = indices(lived(CheetahVel(horizon=2), [0, 3], 6, every=1, replicas=3)[0])
    assert (number.view(12, 2, 3) == number.view(12, 2, 3)[:, :, :1]).all()


def test_a_rows_way_does_not_depend_on_the_rows_beside_it() -> None:
    many, alone = (lived(CheetahVel(horizon=3), index, 6, every=2)[0] for index in ([4, 2, 0], [2]))
    assert torch.equal(indices(many)[:, 1], indices(alone)[:, 0])
    for name in ("obs", "action", "reward", "next_obs"):
        assert torch.equal(getattr(many, name)[:, 1], getattr(alone, name)[:, 0])


def test_where_episodes_end_early_each_row_counts_its_own() -> None:
    trial, _, _ = lived(HopperParams(horizon=30), [0, 1, 2], episodes=6, every=2)
    number, episode = indices(trial), trial.episode
    assert trial.terminated.any() and len({change.start for change in trial.changes}) > 3
    for row in range(3):
        tasks = [number[episode[:, row] == k, row].unique() for k in range(6)]
        assert all(len(task) == 1 for task in tasks)
        assert tasks[0] == tasks[1] != tasks[2] == tasks[3] != tasks[4] == tasks[5]


def test_without_changes_a_trial_is_one_stretch() -> None:
    trial, _, _ = lived(CheetahVel(horizon=2), [0, 1], episodes=3, every=0)
    assert trial.changes == () and trial.stretches() == [trial]


def test_two_tasks_take_turns() -> None:
    number = indices(lived(CheetahVel(horizon=1), [0], episodes=4, every=1, size=2)[0])
    assert number[:, 0].tolist() == [0, 1, 0, 1]


class Stubborn(Fixed):
    """Is told the first task, and goes on as if it were still that."""

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Tensor:  # pyright: ignore
        return tasks

    def infer(self, belief: Tensor, step: object) -> Tensor:  # pyright: ignore
        return belief

    def act(self, obs: Tensor, belief: Tensor, noise: object) -> Tensor:  # pyright: ignore
        action = self._worlds.family.expert(self._worlds.frame, belief.numpy())
        assert action is not None
        return torch.from_numpy(action).float()


def test_the_curve_dips_where_tasks_change() -> None:
    tasks = sample_tasks(Reach(), "test", 8)
    worlds = Worlds(Reach(), 8)
    result = evaluate(worlds, Stubborn(worlds), tasks, 4, seed=0, switch=Switch(2, tasks))
    assert result.outcomes["success"].mean(1).tolist() == [1, 1, 0, 0]
    assert (result.returns[:2].min(0).values > result.returns[2:].max(0).values).all()


# Learning.


def numbered(changes: tuple[Change, ...]) -> Trial:
    """A trial of two rows of 6 steps whose rewards are 0 ... 5 and 10 ... 15."""
    reward = torch.arange(6.0)[:, None] + torch.tensor([0.0, 10.0])
    flags = torch.zeros(6, 2, dtype=torch.bool)
    return Trial(
        torch.zeros(6, 2, 3), torch.zeros(6, 2, 2), reward, torch.zeros(6, 2, 3), flags, flags, {},
        torch.zeros(2, 1), torch.tensor([0, 1]), changes=changes,
    )


def replayed(trial: Trial) -> Replay:
    replay = Replay(Shapes(3, 2, 1, 3), capacity=100, device=torch.device("cpu"))
    replay.add(trial)
    return replay


def test_every_episode_is_stored_under_the_task_it_was_made_in() -> None:
    change = Change(4, torch.zeros(2, 1), torch.tensor([2, 0]))
    replay, rng = replayed(numbered((change,))), torch.Generator().manual_seed(0)
    sample, held = replay.sample(torch.tensor([0, 1, 2]), 500, rng)
    assert [set(rewards.tolist()) for rewards in sample.reward] == [
        {0, 1, 2, 3, 14, 15}, {10, 11, 12, 13}, {4, 5}
    ]
    assert held.tolist() == [6, 4, 2]


def test_a_task_lived_in_for_less_than_a_trial_gives_what_it_has() -> None:
    change = Change(4, torch.zeros(2, 1), torch.tensor([2, 0]))
    replay, rng = replayed(numbered((change,))), torch.Generator().manual_seed(0)
    for _ in range(50):
        sample, known = replay.sample_prefix(torch.tensor([2, 0]), 20, rng, length=6, trials=2)
        assert set(sample.reward[0].tolist()) <= {4, 5} and 1 <= known[0] <= 2
        assert set(sample.reward[1].tolist()) <= {0, 1, 2, 3, 14, 15}


# The command line.


def changing(runs: object, iterations: int, every: int = 1) -> list[str]:
    """The words of a tiny training run in trials of 3 episodes."""
    words = train(runs, 3 * iterations, "--trial.switch-every", str(every))
    words[words.index("--config.episodes") + 1] = "3"
    return words


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("switching")
    assert main(changing(root, 4)) == 0
    return find("latest", root)


def fingerprint(run: Run) -> str:
    path = checkpoint.latest(run.checkpoints)
    assert path is not None
    files = json.loads((path / "MANIFEST.json").read_text())["files"]
    return next(file["sha256"] for file in files if file["name"] == "agent.safetensors")


def test_a_resumed_run_of_changing_tasks_ends_in_the_same_bits(
    trained: Run, tmp_path: Path
) -> None:
    assert main(changing(tmp_path, 2)) == 0
    run = find("latest", tmp_path)
    assert fingerprint(run) != fingerprint(trained)
    assert main(["resume", str(run.path), "--steps", str(trained.config["steps"])]) == 0
    assert fingerprint(run) == fingerprint(trained)
    assert main(changing(tmp_path / "fixed", 4, every=0)) == 0
    assert fingerprint(find("latest", tmp_path / "fixed")) != fingerprint(trained)


def test_evaluate_changes_tasks_as_training_did_unless_told_otherwise(
    trained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = []
    for flags in ((), ("--switch-every", "0"), ("--tasks", "4")):
        assert main(["evaluate", str(trained.path), "--episodes", "2", "--json", *flags]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    as_trained, fixed, few = documents
    assert [d["switch_every"] for d in documents] == [1, 0, 1]
    assert as_trained["returns"][0] == fixed["returns"][0]
    assert as_trained["returns"][1] != fixed["returns"][1]
    assert few["returns"][1] == pytest.approx(as_trained["returns"][1][:4], rel=1e-4)
    assert len({d["file"] for d in documents}) == 3


@pytest.mark.parametrize(("words", "line"), [
    ("pearl reach --trial.switch-every -1", "cannot change every -1 episodes; 0 means never"),
    ("pearl reach --trial.switch-every 3", "would never come: a trial of pearl has 3 episodes"),
    ("pearl reach --trial.switch-evry 2", "did you mean --trial.switch-every?"),
    ("maml hopper-params --trial.switch-every 1", "pools what 20 rows live in one task"),
    ("oracle reach --trial.switch-every 1", "told its task once"),
])
def test_a_change_that_cannot_be_is_answered_in_one_line(
    words: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words.split(), "--runs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and line in err
    assert list(tmp_path.iterdir()) == []


def test_a_family_of_one_task_cannot_change_it(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(CheetahVel, "task_counts", (1, 1))
    assert main(["train", "pearl", "cheetah-vel", "--trial.switch-every", "1",
                 "--runs", str(tmp_path)]) == 2
    assert "cheetah-vel has one task only" in capsys.readouterr().err


def test_maml_learns_from_replicas_that_change_together(tmp_path: Path) -> None:
    words = ["train", "maml", "cheetah-vel", "--runs", str(tmp_path), "--family.horizon", "4",
             "--config.tasks", "2", "--config.rollouts", "3", "--config.hidden", "8",
             "--steps", "96", "--evaluation-episodes", "2", "--trial.switch-every", "1"]
    assert main(words) == 0
    assert all(line["health/nonfinite"] == 0 for line in find("latest", tmp_path).metrics())
