"""A run that was stopped, killed or lengthened is, bit for bit, the run that was not."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import STEPS, train

from metarl import api, checkpoint
from metarl.__main__ import main
from metarl.agents.pearl import Pearl
from metarl.evaluate import Evaluation, evaluate
from metarl.run import Run, Writer, find
from metarl.train import torch_threads

ITERATIONS = 12


def fingerprint(run: Run) -> tuple[int, str]:
    """The env steps of the newest checkpoint, and the hash of everything the agent is."""
    path = checkpoint.latest(run.checkpoints)
    assert path is not None
    files = json.loads((path / "MANIFEST.json").read_text())["files"]
    digests = {entry["name"]: entry["sha256"] for entry in files}
    return int(path.name.removeprefix("step_")), digests["agent.safetensors"]


def learned(run: Run) -> list[dict[str, Any]]:
    """The metrics of each iteration, without what depends on the clock."""
    lines = dict[int, dict[str, Any]]()
    for line in run.metrics():  # an evaluation that was interrupted comes in a line of its own
        lines[line["iteration"]] = lines.get(line["iteration"], {}) | {
            name: value for name, value in line.items()
            if not name.startswith("perf/") and name not in ("wall_s", "eval_s")
        }
    return list(lines.values())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("uninterrupted")
    assert main(train(root, ITERATIONS, "--evaluate-every", "45")) == 0
    return find("latest", root)


def test_the_time_of_training_is_told_apart_from_that_of_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that goes on by a second whenever it is read, and by a thousand in an evaluation.
    now = itertools.count()
    monkeypatch.setattr("metarl.train.time", SimpleNamespace(monotonic=lambda: float(next(now))))

    def slow(*args: Any, **more: Any) -> Evaluation:
        nonlocal now
        now = itertools.count(next(now) + 1000)
        return evaluate(*args, **more)

    monkeypatch.setattr("metarl.train.evaluate", slow)
    assert main(train(tmp_path, 2, "--evaluate-every", str(STEPS))) == 0
    assert main(["resume", "latest", "--runs", str(tmp_path), "--steps", str(3 * STEPS)]) == 0
    each = find("latest", tmp_path).metrics()
    # An iteration reads it four times; one evaluation is asked for after each.
    assert [line["wall_s"] for line in each] == [3, 6, 9]
    assert [line["eval_s"] for line in each] == pytest.approx([1002, 2004, 3006], abs=6)


class StopAfter:
    """A `stop` that comes true at its nth poll."""

    def __init__(self, polls: int) -> None:
        self.left = polls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def stopping(monkeypatch: pytest.MonkeyPatch, polls: int) -> None:
    """Let every verb that trains see a signal at its nth poll."""
    @contextmanager
    def stop_on_signals() -> Iterator[StopAfter]:
        yield StopAfter(polls)

    for verb in ("train", "resume"):
        monkeypatch.setattr(f"metarl.cli.{verb}.stop_on_signals", stop_on_signals)


@pytest.mark.parametrize(("polls", "done"), [(0, 0), (7, 1), (19, 3), (28, 3), (58, 7)])
def test_an_interrupted_run_ends_in_the_same_bits(
    polls: int, done: int, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, polls)
        assert main(train(tmp_path, ITERATIONS, "--evaluate-every", "45")) == 75
    run = find("latest", tmp_path)
    assert run.status["state"] == "interrupted"
    # Each of an iteration's 5 control steps polls once, and so do the 10 of an evaluation, which
    # comes after every third iteration: whole iterations are kept.
    assert run.status["step"] == STEPS * done
    assert f"metarl resume {run.path}" in capsys.readouterr().err
    assert main(["resume", str(run.path)]) == 0
    assert run.status["state"] == "done"
    assert fingerprint(run) == fingerprint(uninterrupted)
    assert learned(run) == learned(uninterrupted)


@pytest.mark.parametrize("iterations", [ITERATIONS, 3])
def test_an_evaluation_that_was_interrupted_comes_first_when_the_run_goes_on(
    iterations: int, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 3 * 5 + 4)
        assert main(train(tmp_path, iterations, "--evaluate-every", "45")) == 75
    run = find("latest", tmp_path)
    assert run.status["step"] == 45  # nothing that was learned is lost
    assert [line for line in run.metrics() if "eval/return_post" in line] == []
    assert main(["resume", str(run.path)]) == 0
    assert run.status["state"] == "done"
    whole = learned(uninterrupted)[:iterations]
    assert learned(run) == whole and "eval/return_post" in whole[2]


def test_an_evaluation_is_logged_once_though_the_run_be_cut_off_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 3 * 5 + 4)
        assert main(train(tmp_path, ITERATIONS, "--evaluate-every", "45")) == 75
    run = find("latest", tmp_path)
    with monkeypatch.context() as patch:  # as a power cut after it leaves the run
        patch.setattr("metarl.train._iterate", _cut_off)
        assert main(["resume", str(run.path)]) != 0
    assert main(["resume", str(run.path)]) == 0
    judged = [line["env_steps"] for line in run.metrics() if "eval/return_post" in line]
    assert judged[0] == 45 and judged.count(45) == 1


def _cut_off(*given: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_can_be_interrupted_again_and_again(
    uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopping(patch, 27)  # three iterations of 5 polls and an evaluation of 10 each time
        assert main(train(tmp_path, ITERATIONS, "--evaluate-every", "45")) == 75
        codes = [main(["resume", "latest", "--runs", str(tmp_path)]) for _ in range(3)]
    assert codes == [75, 75, 0]
    assert fingerprint(find("latest", tmp_path)) == fingerprint(uninterrupted)


def test_a_lengthened_run_is_the_longer_run(uninterrupted: Run, tmp_path: Path) -> None:
    assert main(train(tmp_path, 5, "--evaluate-every", "45")) == 0
    run = find("latest", tmp_path)
    total = str(STEPS * ITERATIONS)
    assert main(["resume", str(run.path), "--steps", total]) == 0
    assert fingerprint(run) == fingerprint(uninterrupted)
    assert run.config["steps"] == STEPS * ITERATIONS


def test_a_run_goes_on_with_the_threads_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wider(root: str, iterations: int) -> list[str]:
        words = train(tmp_path / root, iterations)
        words[words.index("--config.hidden") + 1] = "64"  # 3 threads sum otherwise than 1
        return words

    with torch_threads(3):
        assert main(wider("whole", 4)) == 0
        assert main(wider("parts", 2)) == 0
    whole, parts = (find("latest", tmp_path / root) for root in ("whole", "parts"))
    monkeypatch.setattr("metarl.cli.resume.cores", lambda: [0, 1])
    with torch_threads(1):
        assert main(["resume", str(parts.path), "--steps", str(4 * STEPS)]) == 0
        # What this process had is given back.
        assert torch.get_num_threads() == 1
    assert fingerprint(parts) == fingerprint(whole)
    assert "warning: the run began with 3 threads, and 2 cores are here" in capsys.readouterr().err


def test_a_finished_run_says_so_and_changes_nothing(
    uninterrupted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (uninterrupted.path / "metrics.jsonl").read_bytes()
    assert main(["resume", str(uninterrupted.path)]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["resume", str(uninterrupted.path), "--steps", "15"]) == 2
    assert "cannot be shortened" in capsys.readouterr().err
    assert (uninterrupted.path / "metrics.jsonl").read_bytes() == before


def test_a_run_whose_last_iteration_led_beyond_its_steps_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train(tmp_path, 1)
    words[words.index("--steps") + 1] = str(STEPS + 1)  # two iterations
    assert main(words) == 0
    run = find("latest", tmp_path)
    run.set_status("running", 2 * STEPS)  # as if it had been killed after its last checkpoint
    assert main(["resume", str(run.path)]) == 0
    assert f"is finished, at env step {2 * STEPS}" in capsys.readouterr().out
    assert run.status["state"] == "done"


def test_a_run_that_lost_its_checkpoints_does_not_begin_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path, 1)) == 0
    run = find("latest", tmp_path)
    shutil.rmtree(run.checkpoints)
    for words in (["resume", str(run.path), "--steps", "90"], ["evaluate", str(run.path)]):
        assert main(words) == 3
        assert "holds no checkpoint, though the run was saved at env step 15" in (
            capsys.readouterr().err)


def test_the_latest_run_is_the_one_that_was_written_last_whatever_it_is_called(
    tmp_path: Path
) -> None:
    for seed in ("1", "2"):
        assert main([*train(tmp_path, 1), "--seed", seed]) == 0
    first, second = sorted(tmp_path.glob("*/*/*"), key=lambda path: path.name)
    run = Run(first.rename(first.with_name("z_copy")))
    run.write_json("status.json", {**run.status, "time": "20260101T000000Z"})
    assert find("latest", tmp_path).path == second


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path, 1)) == 0
    run = find("latest", tmp_path)
    before = {name: (run.path / name).read_text() for name in ("config.json", "command.txt")}
    with Writer(run, STEPS):  # as another process that trains in it
        assert main(["resume", str(run.path), "--steps", "1000"]) == 2
    assert "being written by another process" in capsys.readouterr().err
    assert {name: (run.path / name).read_text() for name in before} == before


def test_a_damaged_newest_checkpoint_costs_time_but_no_bits(
    uninterrupted: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train(tmp_path, 6, "--evaluate-every", "45", "--checkpoint-every", "0")
    assert main(words) == 0
    run = find("latest", tmp_path)
    newest = checkpoint.latest(run.checkpoints)
    assert newest is not None
    data = bytearray((newest / "agent.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "agent.safetensors").write_bytes(data)
    total = str(STEPS * ITERATIONS)
    assert main(["resume", str(run.path), "--steps", total, "--strict"]) == 3
    assert "agent.safetensors" in capsys.readouterr().err
    assert main(["resume", str(run.path), "--steps", total]) == 0
    assert "DAMAGED CHECKPOINT" in capsys.readouterr().err
    assert fingerprint(run) == fingerprint(uninterrupted)
    assert learned(run) == learned(uninterrupted)


@pytest.mark.parametrize("forgotten", ["replay", "optimizer", "target"])
def test_forgetting_any_part_of_the_state_would_be_noticed(
    forgotten: str, uninterrupted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(train(tmp_path, 5, "--evaluate-every", "45")) == 0
    run = find("latest", tmp_path)
    original = Pearl.load_state

    def forgetful(agent: Pearl, state: dict[str, Any]) -> None:
        lost = {n: torch.zeros_like(v) for n, v in state.items() if n.startswith(forgotten)}
        assert lost
        original(agent, {**state, **lost})

    monkeypatch.setattr(Pearl, "load_state", forgetful)
    assert main(["resume", str(run.path), "--steps", str(STEPS * ITERATIONS)]) == 0
    assert fingerprint(run) != fingerprint(uninterrupted)


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "metarl", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=Path(__file__).parents[1],
    )


def wait_for_lines(process: subprocess.Popen[str], root: Path, count: int) -> None:
    """Wait until a run below `root` has recorded so many iterations, or the process is over."""
    while process.poll() is None:
        files = list(root.glob("*/*/*/metrics.jsonl"))
        if files and len(files[0].read_bytes().splitlines()) >= count:
            return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def long_one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("long")
    assert main(train(root, 60, "--evaluate-every", "100000")) == 0
    return find("latest", root)


@pytest.mark.parametrize(("number", "lines"), [
    (signal.SIGKILL, 0), (signal.SIGKILL, 19), (signal.SIGTERM, 9),
])
def test_a_killed_process_goes_on_as_if_nothing_had_happened(
    number: signal.Signals, lines: int, long_one: Run, tmp_path: Path
) -> None:
    # A save after every iteration, so that a kill often falls into one.
    process = start(train(tmp_path, 60, "--evaluate-every", "100000", "--checkpoint-every", "0"))
    wait_for_lines(process, tmp_path, lines)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    run = find("latest", tmp_path)
    if number == signal.SIGTERM:
        assert process.returncode == 75, said
        assert run.status["state"] == "interrupted"
    else:
        assert process.returncode == -signal.SIGKILL, said
    assert len(run.metrics()) < 60
    assert main(["resume", str(run.path)]) == 0
    assert fingerprint(run) == fingerprint(long_one)
    assert learned(run) == learned(long_one)


def test_what_is_loaded_is_the_agent_that_was_trained(uninterrupted: Run) -> None:
    policy = api.load(uninterrupted.path)
    found = checkpoint.latest_good(uninterrupted.checkpoints, lambda text: None)
    assert found is not None
    state = policy.agent.policy_state()
    assert state
    for name, value in state.items():
        assert value.equal(found.tensors["agent"][name])
