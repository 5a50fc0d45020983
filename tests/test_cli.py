"""The command line: help at once, slips in one line with the near match, and a whole journey."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import train

import metarl
from metarl import api, checkpoint
from metarl.__main__ import VERBS, main
from metarl.adaptation import lived
from metarl.agents.pearl import Pearl
from metarl.cli import common
from metarl.cli.common import split_family
from metarl.envs.family import parse_task
from metarl.errors import DamagedFile, UserError
from metarl.presets import preset
from metarl.run import Run, find
from metarl.video import Recorder, choose_backend

ROOT = Path(__file__).parents[1]
Say = Callable[..., tuple[int, str, str]]


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
    assert main(train(root, 3)) == 0
    return find("latest", root)


def imported_by(*words: str) -> set[str]:
    program = (
        "import sys; from metarl.__main__ import main; code = main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )
    return set(answer.stderr.split())


@pytest.mark.parametrize(("words", "rest", "own"), [
    ("lift --family.held-out ring wedge --rows 2", "lift --rows 2", "--family.held-out ring wedge"),
    ("--family.arm ur5e lift", "lift", "--family.arm ur5e"),
    ("lift --family.arm=ur5e extra", "lift extra", "--family.arm=ur5e"),
    ("lift --family.no-gentle --out a.png", "lift --out a.png", "--family.no-gentle"),
])
def test_a_familys_own_options_are_told_apart(words: str, rest: str, own: str) -> None:
    assert split_family(words.split()) == (rest.split(), own.split())


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_waits_for_nothing_heavy(word: str) -> None:
    heavy = {"torch", "tyro", "mujoco", "numpy", "rich", "gymnasium", "metarl.api"}
    found = imported_by(word)
    assert "metarl.__main__" in found
    assert not found & heavy


def test_help_lists_every_verb_and_every_verb_has_a_module(say: Say) -> None:
    code, out, _ = say("--help")
    assert code == 0
    for verb, line in VERBS.items():
        assert verb in out and line in out
        assert (ROOT / "metarl" / "cli" / f"{verb}.py").is_file()


def test_no_verb_at_all_is_a_mistake_that_shows_the_help(say: Say) -> None:
    code, out, _ = say()
    assert code == 2 and "usage: metarl VERB" in out


@pytest.mark.parametrize("words", [
    ("list",), ("train",), ("train", "pearl", "reach"), ("resume",), ("evaluate",), ("adapt",),
    ("play",),
])
def test_every_verb_explains_itself(words: tuple[str, ...], say: Say) -> None:
    code, out, err = say(*words, "--help")
    assert code == 0 and err == ""
    assert out.startswith(f"usage: metarl {words[0]}")
    assert "--json" in out


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize("verb", ["adapt", "train", "report"])
def test_an_explanation_is_no_wider_than_the_terminal(
    verb: str, columns: int, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    above = say(verb, "--help")[1].split("╭")[0].strip()
    paragraphs = [part.split("\n") for part in above.split("\n\n")[1:]]
    assert len(paragraphs) > (verb != "report")
    for lines in paragraphs:
        for line, after in itertools.pairwise(lines):
            # Full: the next line's first word had no room.
            assert len(line) <= columns < len(line) + 1 + len(after.split(" ")[0])


def test_train_help_shows_the_settings_of_agent_and_family(say: Say) -> None:
    _, out, _ = say("train", "pearl", "reach", "--help")
    assert "--config.latent" in out and "numbers in z" in out
    assert "--family.horizon" in out


@pytest.mark.parametrize(("words", "line"), [
    ("trian", "unknown verb 'trian'; did you mean train?"),
    ("--verion", "unknown option '--verion'; did you mean --version?"),
    ("list reech", "unknown family or agent 'reech'; did you mean reach?"),
    ("list --jsn", "unknown option --jsn of metarl list; did you mean --json?"),
    ("train", "AGENT and FAMILY missing"),
    ("train pearl", "FAMILY missing"),
    ("train perl reach", "unknown agent 'perl'; did you mean pearl?"),
    ("train pearl reech", "unknown family 'reech'; did you mean reach?"),
    ("train pearl reach --sed 1", "unknown option --sed of metarl train pearl reach; "
                                  "did you mean --seed?"),
    ("train pearl reach --config.lattent 3", "did you mean --config.latent?"),
    ("train pearl reach --family.horizn=3", "did you mean --family.horizon?"),
    ("train pearl reach --config.latent x", "--config.latent 'x' is no whole number"),
    ("train pearl reach --config.discount x", "--config.discount 'x' is no number, as 0.5 is"),
    ("train pearl reach --steps", "Missing value for argument '--steps'"),
    ("train pearl reach --steps 0", "--steps must be at least 1"),
    ("train pearl reach --checkpoint-every nan", "must be a number of seconds, at least 0"),
    ("train pearl reach --seed -1", "--seed must lie in [0, 2^32)"),
    ("train pearl reach --seed 1 --seed 2", "--seed is given twice"),
    ("train pearl reach surplus", "Unrecognized options: surplus"),
    ("train pearl reach --device tpu9", "device 'tpu9' cannot be used"),
    ("train pearl reach --device meta", "device 'meta' cannot be used"),
    ("train pearl reach --device privateuseone", "device 'privateuseone' cannot be used"),
    ("train no.such:Agent reach", "agent 'no.such:Agent' cannot be imported"),
    ("train pearl metarl.envs.reach:Rech", "has no attribute 'Rech'"),
    ("resume", "Missing from metarl resume"),
    ("resume latest --runs nowhere", "nowhere holds none"),
    ("resume latest --step 3", "did you mean --steps?"),
    ("evaluate latest --split tset", "invalid choice 'tset'"),
    ("evaluate latest --spilt test", "did you mean --split?"),
    ("adapt latest --episode 3", "did you mean --episodes?"),
    ("adapt latest --episodes 0", "--episodes must be at least 1"),
    ("train reach", "AGENT missing: reach is a family; write metarl train AGENT reach, as in"),
    ("train reach --seed 1", "AGENT missing: reach is a family"),
    ("train reach pearl", "reach is a family: AGENT comes first, as in metarl train pearl reach"),
    ("train pearl reach --config.hidden 0", "--config.hidden 0 makes no sense; give a number of at "
                                            "least 1"),
    ("train pearl reach --config.factor-rank -1", "factor-rank -1 makes no sense"),
    ("train pearl reach --config.discount 1.5", "makes no sense; give a number from 0 to 1"),
    ("train pearl reach --config.actor-rate nan", "actor-rate nan makes no sense"),
    ("train rl2 reach --config.std nan", "--config.std nan makes no sense; give a number above 0"),
    ("train rl2 reach --config.std 0", "--config.std 0 makes no sense; give a number above 0"),
    ("train pearl cheetah-vel --family.action-scale nan", "an action_scale of nan makes no sense"),
    ("train pearl reach --sim2real.noise nan", "--sim2real.noise nan makes no sense"),
    ("train pearl reach --sim2real.history 1000000000", "--sim2real.history from 0 to 1,000"),
    ("play latest --vido x.mp4", "did you mean --video?"),
    ("demo --out /dev/null", "is no directory; choose another place with --out"),
    ("play nothing --runs nowhere", "nowhere holds none"),
])
def test_a_slip_is_answered_in_one_line(
    words: str, line: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = say(*words.split())
    assert code == 2 and out == ""
    assert err.startswith("metarl: ") and err.count("\n") == 1
    assert line in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "line"), [
    ("evaluate {other}", "unknown run"),
    ("adapt {run} --task paylod=1", "unknown parameter of reach 'paylod'; did you mean payload?"),
    ("adapt {run} --task payload", "write name=value"),
    ("adapt {run} --task payload=heavy", "payload='heavy' is not a number; give it in kg"),
    ("adapt {run} --task payload=-1", "payload=-1 is impossible"),
    ("adapt {run} --task payload=nan", "payload=nan is impossible"),
    ("adapt {run} --task payload=1 payload=2", "payload is given twice"),
    ("evaluate {run} --switch-every 3", "--switch-every 3 would never come in 3 episodes"),
    ("adapt {run} --out {run}", "exists; choose another place"),
    ("evaluate {run} --tasks 0", "must be at least 1"),
    ("evaluate {run} --tasks 100000000", "at most 10,000 are judged side by side"),
    ("play {run} --video film.avi", "must end in .mp4"),
])
def test_a_slip_about_a_run_is_answered_in_one_line(
    words: str, line: str, trained: Run, say: Say
) -> None:
    before = sorted(trained.path.rglob("*"))
    other = trained.name[:-3] + "xyz"
    text = words.format(run=trained.path, other=other)
    code, out, err = say(*text.split(), "--runs", trained.path.parents[2])
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and line in err
    assert sorted(trained.path.rglob("*")) == before


def test_of_train_tasks_those_alone_are_judged_that_it_was_trained_on(
    tmp_path: Path, say: Say
) -> None:
    assert main(train(tmp_path, 1, "--train-tasks", "4")) == 0
    words = ("evaluate", "latest", "--runs", tmp_path, "--episodes", "1", "--split", "train")
    code, out, _ = say(*words)
    assert code == 0 and "4 train tasks" in out
    code, out, err = say(*words, "--tasks", "5")
    assert (code, out) == (2, "") and "was trained on 4; others are in --split test" in err


@pytest.mark.parametrize(("words", "place"), [
    ("report {run} --out {file}/page.html", "{file}"),
    ("report {run} --out {folder}", "{folder}"),
    ("show reach --rows 1 --out {file}/a.png", "{file}/a.png"),
    ("adapt {run} --task payload=1 --out {file}/policy", "{file}/"),
    ("record reach --episodes 1 --out {file}/a.npz", "{file}/a.npz"),
])
def test_a_place_that_cannot_be_written_to_is_a_slip(
    words: str, place: str, trained: Run, tmp_path: Path, say: Say
) -> None:
    places = {"run": trained.path, "file": tmp_path / "file", "folder": tmp_path / "folder"}
    places["file"].write_text("mine")
    places["folder"].mkdir()
    code, _, err = say(*words.format(**places).split())
    assert code == 2 and err.count("\n") == 1 and place.format(**places) in err
    assert "cannot" in err and sorted(tmp_path.rglob("*")) == [places["file"], places["folder"]]
    assert places["file"].read_text() == "mine"


@pytest.mark.parametrize("word", ["list", "--help"])
def test_a_reader_that_has_had_enough_is_no_failure(word: str) -> None:
    words = [sys.executable, "-m", "metarl", word]
    # Of what is buffered, Python would find out at its very end.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=buffered) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_nobody_to_hear_a_word_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as deaf:
        monkeypatch.setattr(sys, "stderr", deaf)
        common.say("one")
        common.say("two")


def test_what_a_run_cannot_keep_is_shown_all_the_same(
    trained: Run, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "write_json", full)
    code, out, err = say("evaluate", trained.path, "--tasks", "2", "--episodes", "1")
    assert code == 2 and "2 test tasks" in out and "kept in" not in out
    assert err.endswith("cannot be written to (No space left on device)\n")


@pytest.mark.parametrize(("flag", "told"), [
    ("--config.context-next-obs", True), ("--config.no-context-next-obs", False), ("", True),
])
def test_what_a_preset_turns_on_can_be_turned_off_and_said_again(
    flag: str, told: bool, tmp_path: Path
) -> None:
    assert main([*train(tmp_path, 1), *flag.split()]) == 0
    assert find("latest", tmp_path).config["config"]["context_next_obs"] is told


def test_training_that_ends_without_a_finite_update_has_failed(
    tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pearl, "learn", lambda *_: {"health/nonfinite": 1.0})
    code, out, err = say(*train(tmp_path, 1))
    assert code == 4 and out == "" and "smaller learning rates" in err
    run = find("latest", tmp_path)
    assert run.status["state"] == "failed" and list(run.checkpoints.glob("step_*")) == []


def test_a_failure_of_ours_is_one_line_unless_debugging(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("metarl.cli.list.parse", broken)
    code, _, err = say("list")
    assert code == 1 and err.count("\n") == 1 and "first line second line" in err
    with pytest.raises(RuntimeError, match="first line"):
        main(["list", "--debug"])


def test_a_python_without_a_package_is_told_as_such(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "metarl.cli.list", raising=False)
    monkeypatch.delitem(sys.modules, "metarl.cli.common", raising=False)
    code, _, err = say("list")
    assert code == 1 and err.count("\n") == 1 and "a bug" not in err
    assert sys.executable in err and "has no tyro; install metarl" in err


def test_list_names_families_parameters_and_agents(say: Say) -> None:
    code, out, _ = say("list")
    assert code == 0
    for word in ("reach", "cheetah-vel", "payload", "kg", "mass at the flange", "pearl"):
        assert word in out
    document = json.loads(say("list", "--json")[1])
    payload = document["families"]["reach"]["parameters"][3]
    assert (payload["name"], payload["unit"]) == ("payload", "kg")
    assert "pearl" in document["agents"]


def test_list_shows_what_is_named_alone(say: Say) -> None:
    code, out, _ = say("list", "reach", "pearl")
    assert code == 0 and out.startswith("reach:") and "pearl" in out
    assert "cheetah-vel" not in out and "rl2" not in out
    document = json.loads(say("list", "reach", "--json")[1])
    assert list(document["families"]) == ["reach"] and document["agents"] == {}


@pytest.mark.parametrize("verb", ["show", "check", "record"])
def test_help_beside_a_family_lists_the_familys_own_options(verb: str, say: Say) -> None:
    code, out, _ = say(verb, "lift", "--help")
    assert code == 0 and f"usage: metarl {verb} lift" in out
    assert "--family.gentle" in out and "--mjcf" in out
    assert "--family.gentle" not in say(verb, "--help")[1]


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 745. GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
])
def test_too_little_memory_is_no_bug_and_says_what_takes_less(
    error: Exception, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("metarl.cli.list.parse", greedy)
    code, _, err = say("list")
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("metarl: out of memory (") and "--config.capacity" in err
    assert "bug" not in err


def test_the_whole_journey_from_training_to_actions(
    tmp_path: Path, say: Say, trained: Run
) -> None:
    assert trained.status["state"] == "done"
    lines = trained.metrics()
    assert [line["env_steps"] for line in lines] == [15, 30, 45]
    assert "eval/return_2" in lines[-1]  # judged at the end, whatever the interval

    code, out, _ = say("evaluate", trained.path, "--split", "ood", "--tasks", 4, "--json")
    result = json.loads(out)
    assert code == 0 and np.shape(result["returns"]) == (3, 4)
    assert json.loads(Path(result["file"]).read_text())["returns"] == result["returns"]
    code, out, _ = say("evaluate", trained.path, "--tasks", 4, "--episodes", 1)
    assert code == 0 and "return, IQM" in out and "middle half of the tasks" in out
    assert f"pearl on reach, run {trained.name}\n4 test tasks, checkpoint" in out and "…" in out
    code, out, _ = say("evaluate", trained.path, "--tasks", 1, "--episodes", 2, "--switch-every", 1)
    assert "1 test task, others every episode, checkpoint" in out
    assert "…" not in out  # one task has no interval

    bundle = tmp_path / "adapted"
    code, out, err = say(
        "adapt", trained.path, "--task", "payload=2.5", "goal_x=0.4", "--episodes", 2,
        "--out", bundle, "--json",
    )
    result = json.loads(out)
    assert code == 0
    assert err == "metarl: warning: payload=2.5 lies outside the trained range [0, 2] kg\n"
    assert [row["episode"] for row in result["episodes"]] == ["before", 1, 2, "after"]
    assert {"return", "success", "distance [m]"} <= set(result["episodes"][0])
    assert result["task"]["payload"] == 2.5 and result["policy"] == str(bundle)

    policy = metarl.load(bundle)
    size = policy.about["shapes"]["obs"]
    many = np.linspace(-1, 1, 3 * size, dtype=np.float32).reshape(3, size)
    actions, state = policy.predict(many)
    assert actions.shape == (3, 7) and actions.dtype == np.float32 and state is None
    assert (abs(actions) <= 1).all()
    for obs, action in zip(many, actions, strict=True):
        assert np.allclose(policy.predict(obs)[0], action, atol=1e-6)
    assert (policy.predict(many, deterministic=False)[0] != actions).any()


def test_training_says_at_once_where_its_last_iteration_ends(tmp_path: Path, say: Say) -> None:
    code, out, err = say(*train(tmp_path, 1), "--steps", 20)
    assert code == 2 and "--steps is given twice" in err
    words = train(tmp_path, 1)
    words[words.index("--steps") + 1] = "20"
    code, out, err = say(*words)
    assert code == 0
    assert "an iteration is 15 env steps: training ends after 30, not 20" in err.splitlines()[1]
    every = preset("pearl", "reach")["options"]["evaluate_every"]
    assert f"--evaluate-every {every:,} is beyond that" in err and "step 30/20 (100%)" in err
    assert "return on validation tasks" in out and "success on validation tasks" in out
    err = say(*train(tmp_path, 2), "--evaluate-every", 15)[2]
    assert "an iteration is" not in err and "is beyond that" not in err
    out = say("adapt", "latest", "--runs", tmp_path, "--task", "payload=1", "--episodes", 1)[1]
    assert "adapted in 1 episode (" in out


def test_a_bundle_holds_the_belief_that_adapting_ended_with(
    tmp_path: Path, trained: Run
) -> None:
    words = ["adapt", str(trained.path), "--task", "payload=1", "--episodes", "2", "--seed", "5"]
    assert main([*words, "--out", str(tmp_path / "bundle")]) == 0
    family, agent, _ = api.trained(trained)
    task = parse_task(family, ["payload=1"], pytest.fail)
    rows, belief = lived(family, agent, task, episodes=2, seed=5)
    assert len(rows) == 4  # before, two episodes, after
    stored = checkpoint.read(tmp_path / "bundle")[0]["belief"]
    expected = agent.pack(belief)
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(stored[name], value)
    policy, prior = metarl.load(tmp_path / "bundle"), metarl.load(trained.path)
    obs = np.zeros(policy.about["shapes"]["obs"])
    assert (policy.predict(obs)[0] != prior.predict(obs)[0]).any()


def test_python_adapts_as_the_command_line_does(
    tmp_path: Path, trained: Run, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", str(trained.path), "--task", "payload=1", "--episodes", "2", "--seed", "5"]
    printed = json.loads(say(*words, "--out", tmp_path / "bundle", "--json")[1])
    policy, episodes = metarl.adapt(trained.path, {"payload": 1}, episodes=2, seed=5)
    assert episodes == printed["episodes"]
    assert [row["episode"] for row in episodes] == ["before", 1, 2, "after"]
    theirs = metarl.load(policy.save(tmp_path / "mine"))
    obs = np.full(policy.about["shapes"]["obs"], 0.1)
    for other in (theirs, metarl.load(tmp_path / "bundle")):
        assert (other.predict(obs)[0] == policy.predict(obs)[0]).all()
    metarl.adapt(trained.path, {"payload": 2.9}, episodes=1)
    assert "payload=2.9 lies outside the trained range" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown parameter of reach 'pyload'; did you mean payl"):
        metarl.adapt(trained.path, {"pyload": 1})
    with pytest.raises(UserError, match="episodes must be at least 1"):
        metarl.adapt(trained.path, episodes=0)


def test_adapted_policies_land_inside_the_run_by_default(trained: Run, say: Say) -> None:
    _, out, _ = say("adapt", trained.path, "--task", "payload=0.5", "--episodes", 1)
    made = [path for path in (trained.path / "adapted").iterdir() if str(path) in out]
    assert len(made) == 1 and checkpoint.is_whole(made[0])
    assert "before adaptation" in out and "metarl play" in out and "metarl.load" in out


@pytest.mark.parametrize("name", ["policy.safetensors", "belief.safetensors", "bundle.json"])
def test_an_altered_bundle_is_refused_by_name(
    name: str, tmp_path: Path, trained: Run, say: Say
) -> None:
    bundle = tmp_path / "bundle"
    assert main(["adapt", str(trained.path), "--episodes", "1", "--out", str(bundle)]) == 0
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(DamagedFile, match=name):
        metarl.load(bundle)


def test_a_damaged_run_exits_with_3(tmp_path: Path, trained: Run, say: Say) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    for path in (copy / "checkpoints").iterdir():
        (path / "state.json").unlink()
    code, _, err = say("evaluate", copy)
    assert code == 3 and "state.json is missing" in err and err.count("\n") == 1


def test_a_run_may_not_name_code_to_be_imported(tmp_path: Path, trained: Run, say: Say) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    name = "metarl.envs.reach:Reach"
    (copy / "config.json").write_text(json.dumps({**trained.config, "family": name}))
    code, _, err = say("evaluate", copy, "--tasks", 2)
    assert code == 2 and f"--plugin {name}" in err
    assert say("evaluate", copy, "--tasks", 2, "--plugin", name)[0] == 0


def test_what_is_typed_may_be_imported(tmp_path: Path) -> None:
    words = train(tmp_path, 1)
    words[words.index("reach")] = "metarl.envs.reach:Reach"
    assert main(words) == 0
    assert find("latest", tmp_path).config["family"] == "metarl.envs.reach:Reach"


def test_a_policy_refuses_observations_that_make_no_sense(trained: Run) -> None:
    policy = metarl.load(trained.path)
    size = policy.about["shapes"]["obs"]
    with pytest.raises(UserError, match=f"has {size} numbers"):
        policy.predict(np.zeros(size + 1))
    with pytest.raises(UserError, match="NaN"):
        policy.predict(np.full(size, np.nan))


def test_load_refuses_what_is_neither_run_nor_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run nor a bundle"):
        metarl.load(tmp_path)
    with pytest.raises(AttributeError, match="lod"):
        _ = metarl.lod


def test_a_name_with_a_near_match_of_a_setting_in_a_file_is_told(
    tmp_path: Path, trained: Run, say: Say
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    config = trained.config
    config["config"]["lattent"] = config["config"].pop("latent")
    (copy / "config.json").write_text(json.dumps(config))
    code, _, err = say("evaluate", copy)
    assert code == 2 and "unknown setting of pearl 'lattent'; did you mean latent?" in err


def can_draw() -> bool:
    try:
        choose_backend()
    except UserError:
        return False
    return True


def test_without_opengl_play_names_the_package_and_writes_nothing(
    tmp_path: Path, trained: Run
) -> None:
    video = tmp_path / "film.mp4"
    # In a process of its own, because MuJoCo chooses its OpenGL once and for all.
    answer = subprocess.run(
        [sys.executable, "-m", "metarl", "play", str(trained.path), "--video", str(video)],
        cwd=ROOT, capture_output=True, text=True, env={"MUJOCO_GL": "off", "PATH": ""},
    )
    assert answer.returncode == 2
    assert "apt install" in answer.stderr and answer.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# imageio's reader leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_play_writes_a_video_of_the_whole_episode(tmp_path: Path, trained: Run, say: Say) -> None:
    if not can_draw():
        pytest.skip("no OpenGL here")
    import imageio.v2 as imageio

    video = tmp_path / "films" / "film.mp4"
    code, out, _ = say("play", trained.path, "--task", "goal_x=0.5", "--video", video, "--json")
    result = json.loads(out)
    assert code == 0 and result["steps"] == 5
    reader = imageio.get_reader(video)
    frames = list(reader.iter_data())
    reader.close()
    assert len(frames) == 6  # the start, and one after each of 5 steps
    assert frames[0].shape == (480, 640, 3) and frames[0].std() > 10  # not a blank
    assert [path.name for path in video.parent.iterdir()] == ["film.mp4"]


def test_show_draws_a_grid_of_tasks_and_names_what_varies(tmp_path: Path, say: Say) -> None:
    if not can_draw():
        pytest.skip("no OpenGL here")
    import imageio.v2 as imageio

    picture = tmp_path / "pictures" / "reach.png"
    code, out, _ = say("show", "reach", "--rows", 1, "--out", picture)
    assert code == 0 and "mass at the flange" in out and str(picture) in out.replace("\n", "")
    pixels = imageio.imread(picture)
    assert pixels.shape[1] > 1000 and pixels[..., :3].std() > 10  # not a blank


@pytest.mark.parametrize(("words", "answer"), [
    (("show", "reach", "--seed", -1), "--seed must lie in"),
    (("check", "os:path"), "os:path is no family"),
    (("train", "os:path", "reach"), "os:path is no agent"),
])
def test_what_cannot_be_meant_is_answered_in_one_line(
    say: Say, words: tuple[object, ...], answer: str
) -> None:
    code, _, err = say(*words)
    assert code == 2 and answer in err and err.count("\n") == 1


def test_show_refuses_a_file_that_is_no_png(say: Say) -> None:
    code, _, err = say("show", "reach", "--out", "reach.jpg")
    assert code == 2 and "must end in .png" in err


def test_a_film_that_cannot_be_written_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*film\.mp4: "):
        Recorder(tmp_path / "file" / "film.mp4", 20)
    with pytest.raises(UserError, match=r"cannot write /proc/film\.mp4: "):
        Recorder(Path("/proc/film.mp4"), 20)


def test_a_film_of_which_the_disk_took_but_a_part_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    film.write_text("an older one")
    recorder = Recorder(film, 20)
    close = recorder._writer.close

    def torn() -> None:  # ffmpeg says nothing of a full disk that Python hears
        close()
        os.truncate(recorder._temporary, 100)

    monkeypatch.setattr(recorder._writer, "close", torn)
    with pytest.raises(UserError, match="0 of 3 pictures are in it; is the disk"), recorder:
        for _ in range(3):
            recorder.add(np.zeros((64, 64, 3), np.uint8))
    assert [*tmp_path.iterdir()] == [film] and film.read_text() == "an older one"


def test_a_film_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no ffmpeg")

    monkeypatch.setattr("imageio.v2.get_writer", broken)
    with pytest.raises(UserError, match="no ffmpeg"):
        Recorder(tmp_path / "film.mp4", 20)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Recorder(tmp_path / "film.mp4", 20) as recorder:
        recorder.add(np.zeros((480, 640, 3), np.uint8))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
