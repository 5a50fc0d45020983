"""Demonstrations: recorded by an expert, a run or a controller, adapted from, and trained with."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_agents import CPU, SHAPES, Line, lived, same, tiny
from test_episodes import ABOUT
from tiny import train
from torch import Tensor

import metarl
from metarl import api
from metarl.__main__ import main
from metarl.agent import Fixed
from metarl.agents.scratch import Config as ScratchConfig
from metarl.agents.scratch import Scratch
from metarl.agents.stacked import policy
from metarl.collect import Guide, Tasks, collect
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.reach import Reach
from metarl.episodes import About, Entry, Episodes, conditioned, read
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.presets import preset
from metarl.randomness import Draws
from metarl.run import Run, find
from metarl.trial import Steps

Say = Callable[..., tuple[int, str, str]]
SHORT = ("--family.horizon", "5")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process: exit code, standard output, standard error."""
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("runs")
    assert main(train(root, 2)) == 0
    return find("latest", root)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of the expert, of as many steps as the run's."""
    path = tmp_path_factory.mktemp("demos") / "demos.npz"
    assert main(["record", "reach", *SHORT, "--task", "goal_x=0.6", "--episodes", "2", "--out",
                 str(path)]) == 0
    return path


def demonstration(action: float = 0.5, count: int = 2) -> Episodes:
    """Episodes on the line of test_agents, whose actions are all the same."""
    worlds = Line(1)
    taken = [worlds.step(torch.full((1, 2), action)) for _ in range(count * SHAPES.horizon)]

    def all_of(name: str) -> Tensor:
        return torch.cat([getattr(step, name) for step in taken])

    steps = Steps(all_of("obs"), all_of("action"), all_of("reward"), all_of("next_obs"),
                  all_of("terminated"), all_of("last"))
    return Episodes(replace(ABOUT, family="line"), steps, None)


# Recording.


def test_an_expert_s_episodes_hold_its_task_and_what_it_did(demos: Path) -> None:
    found = read(demos)
    assert found.count == 2 and len(found.steps.reward) == 10
    assert found.about.family == "reach" and found.about.options["horizon"] == 5
    assert found.about.parameters[3] == Entry("payload", "kg")
    assert found.hidden_task is not None and found.hidden_task[0] == 0.6
    # It goes straight there: closer in each step of an episode.
    place = found.steps.next_obs[:5, 14:]
    left = (place - found.hidden_task[:3]).norm(dim=1)
    assert (left.diff() < 0).all()


def test_a_run_is_recorded_as_it_adapts(trained: Run, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "own.npz"
    code, out, _ = say("record", "--run", trained.path, "--episodes", 3, "--out", path, "--json")
    assert code == 0
    found = read(path)
    assert found.count == 3 and trained.name in found.about.source
    assert json.loads(out)["episodes"][2]["return"] == pytest.approx(float(found.returns()[2]))


def test_a_controller_of_one_s_own_sees_observations_and_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    (tmp_path / "steering.py").write_text(
        "import numpy as np\n"
        "def steer(obs, t):\n    return np.full(7, 0.1 * t + 100 * (obs.shape != (17,)))\n"
        "def short(obs, t):\n    return [0.0] * 6\n"
        "def broken(obs, t):\n    return 1 / t\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "steering", raising=False)
    words = ("record", "reach", *SHORT, "--episodes", 2, "--controller")
    assert say(*words, "steering:steer", "--out", "a.npz")[0] == 0
    acted = read(Path("a.npz")).steps.action[:, 0]
    assert acted.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4] * 2)
    for name, line in (("short", "must give 7 finite numbers; at step 0"),
                       ("broken", "failed at step 0 with ZeroDivisionError"),
                       ("number", "is no function f(obs, t)"),
                       ("nothing", "has no attribute 'nothing'")):
        code, _, err = say(*words, f"steering:{name}", "--out", "b.npz")
        assert (code, err.count("\n")) == (2, 1) and line in err
    assert not Path("b.npz").exists()


@pytest.mark.parametrize(("words", "line"), [
    ("cheetah-vel", "cheetah-vel has no scripted expert; let a trained run act with --run"),
    ("reach --episodes 0", "--episodes must be at least 1"),
    ("reach --out demos.txt", "must end in .npz"),
    ("reach --task goal=1", "unknown parameter of reach 'goal'"),
    ("reach --run latest", "leave FAMILY out"),
    ("--run a --controller b:c", "one of them acts, not both"),
    ("", "FAMILY missing"),
])
def test_what_cannot_be_recorded_is_answered_in_one_line(
    words: str, line: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = say("record", *words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err


# Adapting.


def test_demonstrations_adapt_a_run_and_are_judged_in_their_own_task(
    trained: Run, demos: Path, tmp_path: Path, say: Say
) -> None:
    code, out, _ = say("adapt", trained.path, "--demos", demos, "--out", tmp_path / "b", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["task"]["goal_x"] == 0.6
    assert [row["episode"] for row in told["episodes"]] == [
        "before", "demonstration 1", "demonstration 2", "after"]
    assert told["demonstrations"]["episodes"] == 2
    bundle = metarl.load(tmp_path / "b")
    agent, steps = bundle.agent, read(demos)
    before = agent.prior(torch.zeros(1, 6), 1, Draws.of(0, EVALUATION + 1, 1))
    believed = conditioned(agent, before, steps)
    assert same(agent.pack(believed), agent.pack(bundle.belief))


def test_own_episodes_may_follow_and_a_task_may_be_told(
    trained: Run, demos: Path, tmp_path: Path, say: Say
) -> None:
    code, out, _ = say("adapt", trained.path, "--demos", demos, "--episodes", 1, "--task",
                       "goal_x=0.4", "--out", tmp_path / "b")
    assert code == 0
    assert "goal_x 0.4 m" in out and "then in 1 episode (" in out


def test_what_a_told_task_leaves_out_is_as_it_was_demonstrated_and_what_differs_is_said(
    trained: Run, demos: Path, tmp_path: Path, say: Say
) -> None:
    code, out, err = say("adapt", trained.path, "--demos", demos, "--task", "payload=0.5",
                         "--out", tmp_path / "b", "--json")
    assert code == 0
    task = json.loads(out)["task"]
    assert (task["goal_x"], task["payload"]) == (0.6, 0.5)
    assert "payload is 0.5 kg here, and 1 kg where it was demonstrated" in err
    assert "goal_x" not in err


def test_of_a_task_that_nobody_knows_no_figures_are_made_up(
    trained: Run, demos: Path, tmp_path: Path, say: Say
) -> None:
    from metarl.episodes import write

    path = write(tmp_path / "arm.npz", replace(read(demos), hidden_task=None))
    code, out, _ = say("adapt", trained.path, "--demos", path, "--out", tmp_path / "b", "--json")
    assert code == 0
    told = json.loads(out)
    assert "task" not in told
    assert [row["episode"] for row in told["episodes"]] == ["demonstration 1", "demonstration 2"]
    code, _, err = say("adapt", trained.path, "--demos", path, "--episodes", 1)
    assert code == 2 and "need --task" in err


def test_what_does_not_fit_is_refused_in_one_line(
    trained: Run, demos: Path, tmp_path: Path, say: Say
) -> None:
    other = tmp_path / "other.npz"
    assert say("record", "push", "--family.horizon", 3, "--out", other)[0] == 0
    longer = tmp_path / "longer.npz"
    assert say("record", "reach", "--family.horizon", 6, "--out", longer)[0] == 0
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(demos.read_bytes()[:-9])
    for path, code, line in (
        (other, 2, "of family push, where the run has reach"),
        (longer, 2, "with --family.horizon 6, where the run has 5"),
        (damaged, 3, "is not a whole npz"), (tmp_path / "no.npz", 2, "there is no file"),
    ):
        found, out, err = say("adapt", trained.path, "--demos", path, "--out", tmp_path / "b")
        assert (found, out, err.count("\n")) == (code, "", 1) and line in err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["pearl", "rl2", "varibad", "finetune"])
def test_an_agent_that_infers_takes_demonstrations_for_its_own_steps(name: str) -> None:
    agent = tiny(name)
    draws = Draws.of(0, EVALUATION, 1, agent.plan.replicas)
    prior = agent.prior(torch.zeros(1, 1), agent.plan.replicas, draws)
    obs = torch.zeros(agent.plan.replicas, 3)
    one, other = (conditioned(agent, prior, demonstration(a)) for a in (0.5, -0.5))
    assert not torch.equal(agent.act(obs, one, None), agent.act(obs, other, None))


@pytest.mark.parametrize("std", [1.0, 0.2])
def test_maml_clones_what_it_is_shown_by_steps_as_long_with_any_noise(std: float) -> None:
    agent = tiny("maml")
    agent.meta["log_std"].fill_(math.log(std))
    prior = agent.prior(torch.zeros(1, 1), agent.plan.replicas, Draws.of(0, EVALUATION, 1))
    shown = demonstration(0.5)

    def distance(belief: Any) -> Tensor:
        return (policy(belief.weights, shown.steps.obs[None])[0] - 0.5).square().mean()

    once, twice = (conditioned(agent, prior, demonstration(0.5, n)) for n in (1, 2))
    assert distance(twice) < distance(once) < distance(prior)
    assert not once.pending
    assert torch.equal(once.weights["log_std"], prior.weights["log_std"])
    # Half of a squared error has the slope mu - a along a bias of the last layer.
    bias = f"bias{agent.config.layers}"
    mean = policy(prior.weights, shown.steps.obs[None, :5])[0]
    wanted = prior.weights[bias].flatten() + agent.config.inner_rate * (0.5 - mean).mean((0, 1))
    assert torch.allclose(once.weights[bias].flatten(), wanted, atol=1e-5)


# Training with them.


class Still(Fixed):
    """An expert that always gives the same action."""

    def act(self, obs: Tensor, belief: None, noise: Tensor | None) -> Tensor:
        return torch.full((len(obs), 2), 0.25)


def test_the_expert_acts_in_the_first_episode_of_its_trials_alone() -> None:
    agent, tasks = tiny("pearl"), torch.linspace(-1, 1, 4)[:, None].double()
    rows = torch.tensor([True, False, False, True])

    def lived_by(guide: Guide | None) -> Tensor:
        return collect(Line(4), agent, Tasks(tasks, torch.arange(4)), 2, Draws.of(0, 0, 4),
                       guide=guide)[0].action

    shown, alone = lived_by(Guide(Still(), rows)), lived_by(None)
    assert (shown[:5, rows] == 0.25).all()
    assert (shown[5:, rows] != 0.25).all()
    assert torch.equal(shown[:, ~rows], alone[:, ~rows])


def test_some_trials_of_a_run_begin_with_the_expert(tmp_path: Path, say: Say) -> None:
    assert say(*train(tmp_path, 2, "--trial.demonstrations", "1"))[0] == 0
    run = find("latest", tmp_path)
    assert run.config["trial"]["demonstrations"] == 1.0
    # An episode is all of a trial here, and none of it is the agent's own.
    assert run.metrics()[0]["meta/return_pre"] is None


def test_demonstrations_are_for_agents_and_families_that_can_use_them() -> None:
    for learns_from_others in ("pearl", "recurrent-sac"):
        api.check_expert(Reach(), tiny(learns_from_others), 0.3)
    api.check_expert(CheetahVel(), tiny("rl2"), 0.0)
    for family, agent, share, line in (
        (CheetahVel(), "pearl", 0.3, "cheetah-vel has no scripted expert"),
        (Reach(), "rl2", 0.3, "learns from its own actions alone"),
        (Reach(), "pearl", 1.5, "is no share"),
    ):
        with pytest.raises(UserError, match=line):
            api.check_expert(family, tiny(agent), share)


# What a plan says of training, and settings of families that nobody has tried.


def test_scratch_and_finetune_learn_in_a_variant_by_the_plan_not_by_a_key() -> None:
    agent = tiny("finetune")
    assert not agent.plan.infers_in_training
    tasks = Tasks(torch.zeros(2, 1).double(), torch.arange(2))
    for infers in (False, True):
        _, belief = collect(Line(2), agent, tasks, 1, Draws.of(0, 0, 2), infers=infers)
        assert bool(belief.learners) is infers
    assert lived(agent).action.std() > 0.1  # and it explores while it is trained


def test_without_exploration_in_the_variant_it_still_explores_in_training() -> None:
    agent = Scratch(ScratchConfig(hidden=16, explore=0), SHAPES, 0, CPU)
    assert not agent.plan.noise_when_judged
    belief = agent.prior(torch.zeros(1, 1), 1, Draws.of(0, 0, 1))
    obs, noise = torch.zeros(1, 3), torch.ones(1, 2)
    assert not torch.equal(agent.act(obs, belief, noise), agent.act(obs, belief, None))


def test_a_described_family_has_the_arms_settings_for_its_own_horizon() -> None:
    found = preset("pearl", "two-joint", described=40)
    assert found["options"] == {"steps": 40 * 50 * 3 * 40, "evaluate_every": 8 * 50 * 3 * 40}
    assert found["config"]["anneal"] == 40 * 850 and found["config"]["context_next_obs"]
    assert preset("blind", "two-joint", described=40)["options"] == found["options"]
    assert preset("pearl", "two-joint")["options"] == {}
    assert preset("maml", "two-joint", described=40)["config"] == {}


def test_agents_that_must_see_the_dynamics_do_so_where_the_physics_varies() -> None:
    def told(agent: str, family: str) -> dict[str, Any]:
        return preset(agent, family, dynamic=True)["config"]

    both = {"context_next_obs": True, "decode_states": True}
    assert told("pearl", "mine:Mine") == told("pearl", "hopper-params") == both
    assert told("varibad", "mine:Mine") == {"decode_states": True} and told("rl2", "a:B") == {}
    assert "decode_states" not in told("pearl", "reach")  # a preset has the last word
    assert preset("pearl", "mine:Mine")["config"] == {}


def test_a_slip_in_a_number_that_may_be_left_out_is_told_plainly(trained: Run, say: Say) -> None:
    code, _, err = say("evaluate", trained.path, "--switch-every", "x")
    assert code == 2
    assert err == ("metarl: --switch-every 'x' is no whole number, as 300000 is; "
                   "see metarl evaluate --help\n")


def test_a_recording_names_its_files_so_that_another_robot_is_refused(tmp_path: Path) -> None:
    from metarl.cli.record import about_of

    about = about_of(Reach(), "reach", {"model.xml": b"<mujoco/>"}, "a test")
    assert isinstance(about, About) and len(about.files["model.xml"]) == 64
