"""Run directories, the signals that interrupt runs, and what is shown of them."""

import errno
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from metarl import display, signals
from metarl.documents import whole, without_nan
from metarl.errors import DamagedFile, UserError
from metarl.run import Run, Writer, environment, find

CONFIG = {"agent": "pearl", "family": "reach", "seed": 3, "steps": 100, "device": "cpu",
          "config": {}, "options": {}, "shapes": {}}


def create(root: Path, **changes: object) -> Run:
    return Run.create(root, {**CONFIG, **changes}, ["metarl", "train", "pearl", "reach"])


def line(step: int, **more: float) -> dict[str, float]:
    return {"env_steps": step, "meta/return_post": float(step), **more}


def test_a_new_run_says_all_that_made_it(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.path.parent == tmp_path / "reach" / "pearl"
    assert run.name.split("_")[1] == "s3"
    assert run.config == CONFIG
    assert run.status["state"] == "running"
    assert (run.path / "command.txt").read_text() == "metarl train pearl reach\n"
    assert json.loads((run.path / "env.json").read_text())["packages"]["torch"]


@pytest.mark.parametrize("text", ["{}", "[1]", '{"state": "done"}'])
def test_a_status_that_says_nothing_is_damage(text: str, tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.path / "status.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"status\.json (does not say its|holds no)"):
        _ = run.status


def test_an_existing_run_is_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.run.utc", lambda: "20260101T000000Z")
    before = (create(tmp_path).path / "config.json").read_text()
    with pytest.raises(UserError, match="nothing was overwritten"):
        create(tmp_path)
    other = create(tmp_path, steps=200)  # same second, other configuration: another directory
    assert (other.path / "config.json").read_text() != before


def test_a_plugin_name_cannot_leave_the_runs_directory(tmp_path: Path) -> None:
    run = create(tmp_path, family="../../package.module:Family")
    assert run.path.parent == tmp_path / "Family" / "pearl"


def test_a_run_is_found_by_path_by_part_of_its_name_and_as_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second in (1, 2, 3):
        monkeypatch.setattr("metarl.run.utc", lambda s=second: f"20260101T00000{s}Z")
        create(tmp_path, agent="pearl" if second < 3 else "maml")
    assert find("latest", tmp_path).name.startswith("20260101T000003Z")
    assert find("000002Z", tmp_path).name.startswith("20260101T000002Z")
    assert find("maml", tmp_path).name.startswith("20260101T000003Z")
    by_path = find(str(find("latest", tmp_path).path), tmp_path / "elsewhere")
    assert by_path == find("latest", tmp_path)
    with pytest.raises(UserError, match=r"fits 2 runs: 20260101T000001Z.*write more"):
        find("pearl", tmp_path)
    with pytest.raises(UserError, match="unknown run 'lates'; did you mean latest"):
        find("lates", tmp_path)
    with pytest.raises(UserError, match="holds none"):
        find("latest", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not a run"):
        find(str(tmp_path), tmp_path)


def test_metrics_are_appended_and_cut_back_to_where_training_goes_on(tmp_path: Path) -> None:
    run = create(tmp_path)
    with Writer(run) as writer:
        for step in (10, 20, 30):
            writer.record(line(step))
    with Writer(run, step=20) as writer:  # the checkpoint was of step 20
        assert [m["env_steps"] for m in run.metrics()] == [10, 20]
        writer.record(line(31))
    assert [m["env_steps"] for m in run.metrics()] == [10, 20, 31]


@pytest.mark.parametrize("torn", ['{"env_steps": 20, "meta/ret', '{"env_steps": 20}'])
def test_a_line_torn_by_a_crash_is_dropped(torn: str, tmp_path: Path) -> None:
    run = create(tmp_path)
    with Writer(run) as writer:
        writer.record(line(10))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert [m["env_steps"] for m in run.metrics()] == [10]
    with Writer(run, step=20) as writer:
        writer.record(line(30))
    assert [m["env_steps"] for m in run.metrics()] == [10, 30]


@pytest.mark.parametrize("damaged", ['{"env_ste', "7", '{"iteration": 2}'])
def test_a_damaged_line_within_is_told_and_nothing_after_it_is_lost(
    damaged: str, tmp_path: Path
) -> None:
    run = create(tmp_path)
    with Writer(run) as writer:
        writer.record(line(10))
    file = run.path / "metrics.jsonl"
    with file.open("a") as stream:
        stream.write(f"{damaged}\n{json.dumps(line(30))}\n")
    before = file.read_bytes()
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl: line 2 is not a record of training"):
        run.metrics()
    with pytest.raises(DamagedFile, match="delete that line to go on"):
        Writer(run, step=30)
    assert file.read_bytes() == before


def test_a_number_that_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    run = create(tmp_path)
    with Writer(run) as writer:
        writer.record(line(10, **{"loss/actor": math.nan}))
    assert run.metrics()[0]["loss/actor"] is None
    assert "NaN" not in (run.path / "metrics.jsonl").read_text()
    assert without_nan({"a": [math.inf, (1.5, "x")]}) == {"a": [None, [1.5, "x"]]}


def test_tensorboard_shows_no_step_twice_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = create(tmp_path)
    with Writer(run) as writer:
        for step in (10, 20, 30):
            writer.record(line(step))
    with Writer(run, step=20) as writer:
        writer.record(line(30))
    board = EventAccumulator(str(run.path / "tb")).Reload()
    assert [event.step for event in board.Scalars("meta/return_post")] == [10, 20, 30]


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    run = create(tmp_path)
    with Writer(run) as writer:
        writer.record(line(10))
        with pytest.raises(UserError, match="another process"):
            Writer(run)
        assert len(run.metrics()) == 1
    with Writer(run):
        pass  # free again


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.path / "config.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"config\.json is not JSON"):
        _ = run.config
    (run.path / "status.json").unlink()
    with pytest.raises(DamagedFile, match=r"status\.json is missing"):
        _ = run.status


def test_the_environment_names_versions_and_machine() -> None:
    found = environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"cpu", "gpu", "cores", "platform", "metarl"} <= set(found)
    json.dumps(found)


def test_a_configuration_that_lacks_what_it_must_say_is_damage(tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.path / "config.json").write_text('{"agent": "pearl"}')
    with pytest.raises(DamagedFile, match=r"config\.json does not say its family, seed, steps"):
        _ = run.config


def test_a_run_that_could_not_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        create(tmp_path)
    assert not [*tmp_path.rglob("*.*")]


def test_a_file_that_cannot_be_written_whole_leaves_the_older_one(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old")
    with pytest.raises(OSError, match="full"), whole(file) as temporary:
        temporary.write_text("ne")
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text() == "old"


@pytest.fixture
def heard() -> Iterator[None]:
    """Tests may themselves run under nohup, which has closed terminals ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_only_raises_a_flag(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals.stop_on_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop() and stop.number == number
    assert signal.getsignal(number) == before


def test_under_nohup_a_terminal_that_is_closed_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
def test_a_terminal_that_is_closed_asks_to_stop_and_what_is_said_to_it_then_goes_nowhere() -> None:
    program = (
        "import sys, time\n"
        "from metarl.signals import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while not stop(): time.sleep(0.01)\n"
        "    print('nobody reads this', flush=True)\n"
        "    sys.exit(7)\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    while b"\n" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_reader_that_leaves_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        screen = display.Screen(file=file)
        with display.Display("pearl on reach", "runs/x", screen) as shown:
            shown.show(progress(1))
            shown.show(progress(2))
        assert screen.quiet


def test_a_second_ctrl_c_kills_at_once() -> None:
    program = (
        "import os, signal\n"
        "from metarl.signals import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', stop(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never here', flush=True)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout == "still here True\n"
    assert answer.stderr.startswith("\nstopping as soon as all is saved (a second Ctrl-C kills")
    assert answer.returncode == -signal.SIGINT


def progress(iteration: int) -> display.Progress:
    return display.Progress(
        iteration, step=50 * iteration, total=200, before=-10.0, after=-10.0 + iteration,
        rate=25.0, checkpoint=50,
    )


def test_without_a_terminal_there_is_one_plain_line_per_iteration() -> None:
    text = io.StringIO()
    with display.Display("pearl on reach", "runs/x", Console(file=text)) as shown:
        shown.show(progress(1))
        shown.show(progress(2))
    # 100 of 200 steps at 25 a second leave 4 s.
    assert text.getvalue().splitlines() == [
        "pearl on reach, in runs/x",
        "iteration 1  step 50/200 (25%)  return -10.00 -> -9.00 (gain +1.00)  25 steps/s  6s left",
        "iteration 2  step 100/200 (50%)  return -10.00 -> -8.00 (gain +2.00)  25 steps/s  4s left",
    ]


def test_an_iteration_that_goes_beyond_the_steps_is_all_of_them() -> None:
    beyond = replace(progress(1), step=8000, total=100)
    assert "step 8,000/100 (100%)" in beyond.line and beyond.line.endswith("0s left")


def test_a_panel_ends_with_the_checkpoint_after_the_last_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    console, text = terminal()
    with display.Display("pearl on reach", "runs/x", console) as shown:
        shown.saved(0)  # before any iteration: there is nothing to show yet
        shown.show(replace(progress(4), checkpoint=None))
        shown.saved(200)
    last = text.getvalue()[text.getvalue().rindex("last checkpoint") :]
    assert "step 200" in last and "none yet" not in last


def terminal(width: int = 90) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=width, _environ={"TERM": "xterm"}), text


@pytest.mark.parametrize("width", [40, 90])
def test_no_terminal_is_too_narrow_for_numbers(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    console, text = terminal(width)
    with display.Display("pearl on reach", "runs/x", console) as shown:
        for i in range(60):
            shown.show(replace(progress(i), before=-12345.67, step=10_000 + i, total=20_000))
    assert "-12,345.67" in text.getvalue() and f"{10_059:,} of 20,000" in text.getvalue()
    assert "…" not in text.getvalue().replace("collecting the first trial …", "")


@pytest.mark.parametrize(("value", "text"), [
    (1234.567, "1,234.57"), (0.5, "0.50"), (0.0134, "0.0134"), (-0.003, "-0.00300"),
    (-0.0, "0.00"), (-1e-9, "0.00"), (math.nan, "-"),
])
def test_a_number_shows_digits_that_say_something(value: float, text: str) -> None:
    assert display.number(value) == text


@pytest.mark.parametrize(("width", "together"), [(90, True), (60, False)])
def test_a_narrow_terminal_shows_names_in_full(
    width: int, together: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    console, text = terminal(width)
    judged = {"validation return 1": -44.76, "validation return 2": -0.1}
    with display.Display("pearl on reach", "runs/x", console) as shown:
        shown.show(replace(progress(2), more=judged))
    lines = [line for line in text.getvalue().splitlines() if "validation return 1" in line]
    assert lines and all(("validation return 2" in line) == together for line in lines)
    assert "…" not in text.getvalue()[text.getvalue().rindex("iteration") :]


def test_a_terminal_shows_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    console, text = terminal()
    with display.Display("pearl on reach", "runs/x", console) as shown:
        shown.show(progress(2))
        shown.say("a word")
        # A second Ctrl-C kills, and must leave a terminal with a cursor.
        hidden, visible = "\x1b[?25l", "\x1b[?25h"
        assert text.getvalue().rfind(visible) > text.getvalue().rfind(hidden)
    for said in ("pearl on reach", "runs/x", "-8.00", "+2.00", "50.0%", "step 50", "a word"):
        assert said in text.getvalue()


def test_a_terminal_in_ci_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    console, text = terminal()
    with display.Display("pearl on reach", "runs/x", console) as shown:
        shown.show(progress(2))
    assert "\x1b[?25" not in text.getvalue() and "╭" not in text.getvalue()


def test_little_curves_and_durations() -> None:
    # Eight bars over [0, 8): each whole number has its own; the top belongs to the last.
    assert display.spark([0, 1, 2, 3, 4, 5, 6, 7, 8], 0, 8) == "▁▂▃▄▅▆▇██"
    assert display.spark([1, math.nan], 1, 1) == "▅ "
    said = [display.duration(s) for s in (45, 185, 7800, 100_800, math.nan, math.inf)]
    assert said == ["45s", "3m05s", "2h10m", "1d04h", "?", "?"]
