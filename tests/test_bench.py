"""Studies: jobs are done once, by one process at a time, and go on where they stopped."""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
from tiny import TINY

from metarl import presets, scores
from metarl.__main__ import main
from metarl.agents import AGENTS
from metarl.cli import train
from metarl.cli.bench import Options
from metarl.cli.bench import _file as scores_file
from metarl.cli.jobs import Bench
from metarl.errors import DamagedFile, UserError
from metarl.study import Job, claim, describe, grid, is_held, load, standing, studies, trained_run

ROOT = Path(__file__).parents[1]
FLAGS = (*TINY, "--steps", "45", "--checkpoint-every", "0")
JOB = Job("pearl", "reach", 0, FLAGS, episodes=1, splits=("test",))


class Calls:
    """Runs verbs in this process, and remembers which."""

    def __init__(self) -> None:
        self.words: list[list[str]] = []

    def __call__(self, words: list[str], folder: Path, lock: TextIO) -> int:
        self.words.append(words)
        assert is_held(folder), "a job is worked on under its lock"
        return main(words)

    @property
    def verbs(self) -> list[str]:
        return [words[0] for words in self.words]


def bench(root: Path, call: Callable[[list[str], Path, TextIO], int]) -> Bench:
    return Bench(root / "jobs", root / "scores.csv", "cpu", call, say=lambda text: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the job done, and its scores."""
    root = tmp_path_factory.mktemp("study")
    calls = Calls()
    bench(root, calls).work([JOB])
    assert calls.verbs == ["train", "evaluate"]
    return root


# Jobs.


def test_a_grid_does_all_of_a_seed_before_the_next_and_scripted_policies_once() -> None:
    made = grid(["scripted", "pearl"], ["reach", "push"], range(2))
    assert [(job.family, job.agent, job.seed) for job in made] == [
        ("reach", "scripted", 0), ("reach", "pearl", 0), ("push", "scripted", 0),
        ("push", "pearl", 0), ("reach", "pearl", 1), ("push", "pearl", 1)]


def test_a_job_that_is_done_is_left_alone(done: Path) -> None:
    before = (done / "scores.csv").read_text()
    calls = Calls()
    bench(done, calls).work([JOB])
    assert calls.verbs == [] and (done / "scores.csv").read_text() == before
    assert standing(done / "jobs", JOB).condition == "done"


def test_its_rows_say_what_was_lived_before_each_episode(done: Path) -> None:
    with (done / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Horizon 5: one episode as it adapts; its best before any, and after one of exploration.
    assert [(r["phase"], r["episode"], r["adapt_steps"]) for r in rows] == [
        ("adapting", "1", "0"), ("exploiting", "0", "0"), ("exploiting", "1", "5")]
    assert {(r["family"], r["agent"], r["seed"], r["split"], r["env_steps"]) for r in rows} == {
        ("reach", "pearl", "0", "test", "45")}
    assert all(float(r["return"]) < 0 and float(r["success"]) == 0 for r in rows)


def test_the_columns_that_old_rows_have_are_where_they_were() -> None:
    with (ROOT / "experiments" / "results" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == scores.COLUMNS
    assert rows[0]["agent"] == "pearl" and float(rows[0]["return"]) == -26.506


def test_a_row_is_appended_once(tmp_path: Path) -> None:
    row = {name: "a, b" for name in scores.COLUMNS}
    for _ in range(2):
        scores.append(tmp_path / "s.csv", [row])
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2  # with the head


def test_a_job_killed_in_training_is_taken_up_again_by_resume(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "jobs", tmp_path / "jobs")
    folder = tmp_path / "jobs" / JOB.key
    made = trained_run(folder)
    assert made is not None
    (folder / "done.json").unlink()
    shutil.rmtree(made.path / "evaluations")
    # As a kill after the second of three iterations leaves it.
    shutil.rmtree(made.checkpoints / "step_000000045")
    made.set_status("running", 30)
    assert standing(tmp_path / "jobs", JOB).condition == "interrupted"
    calls = Calls()
    bench(tmp_path, calls).work([JOB])
    assert calls.verbs == ["resume", "evaluate"]
    again = trained_run(folder)
    assert again is not None and again.path == made.path  # no second run was begun
    assert [line["env_steps"] for line in again.metrics()] == [15, 30, 45]
    old, new = (csv.DictReader((p / "scores.csv").read_text().splitlines())
                for p in (done, tmp_path))
    assert [r["return"] for r in old] == [r["return"] for r in new]  # those of the whole run


def test_a_job_whose_tasks_change_is_judged_as_it_was_trained(tmp_path: Path) -> None:
    place = FLAGS.index("--config.episodes") + 1
    flags = (*FLAGS[:place], "2", *FLAGS[place + 1 :], "--trial.switch-every", "1")
    job = Job("pearl", "reach", 0, flags, episodes=2, splits=("test",))
    bench(tmp_path, Calls()).work([job])
    at = standing(tmp_path / "jobs", job)
    assert at.condition == "done", at.reason
    # Nobody can be at its best in a task that becomes another: it is judged as it adapts alone.
    assert [(row["phase"], row["episode"]) for row in at.rows] == [
        ("adapting", "1"), ("adapting", "2")]


def test_what_others_judged_a_job_on_does_not_count(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "jobs", tmp_path / "jobs")
    folder = tmp_path / "jobs" / JOB.key
    made = trained_run(folder)
    assert made is not None
    (folder / "done.json").unlink()
    usual = next((made.path / "evaluations").iterdir())
    assert usual.name == "test_step_000000045_k1_n30_s0.json"
    usual.rename(usual.with_name("test_step_000000045_k1_n1_s0.json"))
    shutil.copy(usual.with_name("test_step_000000045_k1_n1_s0.json"),
                usual.with_name("test_step_000000045_k1_n100_s0.json"))
    calls = Calls()
    bench(tmp_path, calls).work([JOB])
    assert calls.verbs == ["evaluate"] and usual.exists()


def test_a_scripted_policy_that_is_interrupted_has_not_failed(tmp_path: Path) -> None:
    job = Job("scripted", "reach", 0, episodes=1, splits=("test",), tasks=2)
    stopped = replace(bench(tmp_path, Calls()), stop=lambda: (tmp_path / "jobs" / job.key).exists())
    stopped.work([job])
    assert standing(tmp_path / "jobs", job).condition == "waiting"


def test_a_job_with_a_preset_of_before_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(tmp_path, JOB)
    monkeypatch.setitem(presets.PRESETS, ("pearl", "reach"), {"config": {"discount": 0.5}})
    with pytest.raises(UserError, match="belongs to a job with other preset; give this one"):
        describe(tmp_path, JOB)
    assert standing(tmp_path, JOB).condition == "failed"


def test_a_split_that_there_is_not_is_told_with_the_near_match(tmp_path: Path) -> None:
    job = Job("scripted", "reach", 0, splits=("odd",))
    bench(tmp_path, Calls()).work([job])
    assert "unknown split 'odd'; did you mean ood?" in standing(tmp_path / "jobs", job).reason


def test_a_job_is_judged_on_as_many_tasks_as_it_asks_for(tmp_path: Path) -> None:
    calls, asked = Calls(), replace(JOB, tasks=2)
    bench(tmp_path, calls).work([asked])
    assert standing(tmp_path / "jobs", asked).condition == "done"
    run = trained_run(tmp_path / "jobs" / JOB.key)
    assert run is not None and [file.name for file in (run.path / "evaluations").iterdir()] == [
        "test_step_000000045_k1_n2_s0.json"]


def test_a_job_that_scored_nothing_has_failed(tmp_path: Path) -> None:
    nowhere = Job("scripted", "reach", 0, splits=())
    bench(tmp_path, Calls()).work([nowhere])
    at = standing(tmp_path / "jobs", nowhere)
    assert at.condition == "failed" and "no evaluation" in at.reason


def test_a_scripted_policy_is_judged_on_the_family_that_the_job_asks_for(tmp_path: Path) -> None:
    def judged(label: str, *flags: str) -> float:
        job = Job("scripted", "reach", 0, flags, label, episodes=1, splits=("train",), tasks=2)
        bench(tmp_path, Calls()).work([job])
        at = standing(tmp_path / "jobs", job)
        assert at.condition == "done" and {row["split"] for row in at.rows} == {"train"}
        return float(at.rows[0]["return"])

    assert judged("fr3") != judged("so101", "--family.arm", "so101")
    wrong = Job("scripted", "reach", 0, ("--family.amr", "so101"), "wrong")
    bench(tmp_path, Calls()).work([wrong])
    assert "did you mean --family.arm" in standing(tmp_path / "jobs", wrong).reason


def test_a_failed_job_says_why_and_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = Job("pearl", "reach", 0, ("--config.lattent", "3"), label="bad")
    other = Job("pearl", "reach", 1, FLAGS, episodes=1, splits=("test",))
    made = bench(tmp_path, _logged)
    made.work([bad, other])
    at = standing(tmp_path / "jobs", bad)
    assert at.condition == "failed" and "did you mean --config.latent?" in at.reason
    assert standing(tmp_path / "jobs", other).condition == "done"


def test_a_job_that_fails_is_tried_once_by_a_call_and_again_by_the_next(tmp_path: Path) -> None:
    calls = []

    def broken(words: list[str], folder: Path, lock: TextIO) -> int:
        calls.append(words)
        raise RuntimeError("no such luck")

    for count in (1, 2):
        bench(tmp_path, broken).work([JOB])
        assert len(calls) == count
        assert standing(tmp_path / "jobs", JOB).reason == "RuntimeError: no such luck"


def test_a_directory_that_belongs_to_another_job_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOB.key).mkdir(parents=True)
    describe(tmp_path, JOB)
    describe(tmp_path, JOB)  # the same one is welcome
    with pytest.raises(UserError, match="with other flags; give this one a label"):
        describe(tmp_path, Job("pearl", "reach", 0, ("--steps", "46"), episodes=1,
                               splits=("test",)))


def test_the_job_of_another_study_is_neither_taken_for_ones_own_nor_touched(done: Path) -> None:
    other = Job("pearl", "reach", 0, ("--steps", "46"), episodes=1, splits=("test",))
    at = standing(done / "jobs", other)
    assert at.condition == "failed" and "belongs to a job with other flags" in at.reason
    calls = Calls()
    bench(done, calls).work([other])
    assert calls.verbs == [] and standing(done / "jobs", JOB).condition == "done"
    assert not (done / "jobs" / JOB.key / "failed.json").exists()


def test_a_study_of_ones_own_writes_its_scores_beside_its_jobs(tmp_path: Path) -> None:
    own, known = (Options(study, root=tmp_path) for study in ("study.py", "arms"))
    assert scores_file(own) == tmp_path / "scores.csv"
    assert scores_file(known) == Path("experiments/results/scores.csv")


def test_what_a_job_is_stands_in_its_directory_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*files: Path) -> None:
        raise KeyboardInterrupt

    file = tmp_path / JOB.key / "job.json"
    file.parent.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("metarl.documents.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            describe(tmp_path, JOB)
    assert not file.exists()
    describe(tmp_path, JOB)
    file.write_text(file.read_text()[:10])  # as no metarl leaves it
    with pytest.raises(DamagedFile, match=r"job\.json is not JSON"):
        describe(tmp_path, JOB)


# Locks.


_WORKER = """
import sys, time
from pathlib import Path
from metarl.study import Job, work
root, number = Path(sys.argv[1]), sys.argv[2]

def do(job, lock):
    with (root / "log").open("a") as log:
        log.write(f"{job.seed} {number}\\n")
    time.sleep(0.02)
    (root / job.key / "done.json").write_text('{"rows": []}')

(root / f"ready{number}").touch()
while not (root / "go").exists():
    time.sleep(0.005)
work(root, [Job("a", "f", seed) for seed in range(30)], do)
"""


def test_two_processes_share_the_jobs_and_do_none_twice(tmp_path: Path) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path), str(n)], cwd=ROOT)
               for n in range(2)]
    while not all((tmp_path / f"ready{n}").exists() for n in range(2)):
        assert all(worker.poll() is None for worker in workers)
    (tmp_path / "go").touch()
    assert [worker.wait(60) for worker in workers] == [0, 0]
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert Counter(seed for seed, _ in lines) == {str(seed): 1 for seed in range(30)}
    assert {number for _, number in lines} == {"0", "1"}


def test_a_lock_is_held_until_its_process_and_what_that_started_are_gone(tmp_path: Path) -> None:
    program = ("import subprocess, sys, time; from pathlib import Path; import metarl.study as s\n"
               "with s.claim(Path(sys.argv[1])) as lock:\n"
               "    child = subprocess.Popen(['sleep', '60'], pass_fds=(lock.fileno(),))\n"
               "    print(child.pid, flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    holder.stdout.close()
    with claim(tmp_path) as lock:
        assert lock is None
    holder.kill()
    holder.wait()
    assert is_held(tmp_path)  # the training that it had started is still at work
    os.kill(child, signal.SIGKILL)
    for _ in range(200):
        if not is_held(tmp_path):
            break
    with claim(tmp_path) as lock:
        assert lock is not None


def test_two_who_look_at_once_do_not_take_each_other_for_a_holder(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another does while it looks
        assert not is_held(tmp_path)


# Studies.


def test_every_study_that_is_shipped_can_be_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies().keys() >= {"arms", "cheetah_vel"}
    for name in studies():
        assert main(["bench", name, "--list", "--json", "--root", str(tmp_path)]) == 0
        listed = json.loads(capsys.readouterr().out)["jobs"]
        assert {job["condition"] for job in listed} == {"waiting"}
        assert len({job["seed"] for job in listed}) == 10
    assert not any(tmp_path.iterdir())


def test_the_next_command_knows_where_the_jobs_are(
    done: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = tmp_path / "mine.py"
    study.write_text(f"from metarl.study import Job\nSTUDY = [{JOB!r}]\n")
    assert main(["bench", str(study), "--list", "--root", str(done / "jobs")]) == 0
    assert capsys.readouterr().out.endswith(
        f"next: metarl report {study} --root {done / 'jobs'}\n")


class Reached(Exception):
    """A run would be made now."""


def test_the_settings_of_every_job_that_is_shipped_make_an_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def create(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(train.Run, "create", create)
    trained = sorted({(job.agent, job.family, job.flags) for name in studies()
                      for job in load(name) if job.seed == 0 and job.agent in AGENTS})
    assert len(trained) > 50
    for agent, family, flags in trained:
        with pytest.raises(Reached):
            train.begin([agent, family, "--runs", str(tmp_path), *flags])


@pytest.mark.parametrize(("words", "line"), [
    ("amrs", "unknown study 'amrs'; did you mean arms?"),
    ("no/such.py", "there is no study no/such.py"),
    ("no.such", "study 'no.such' cannot be imported"),
    ("os.path", "os.path is no study: it needs STUDY"),
    ("arms --agents perl", "unknown agent of arms 'perl'; did you mean pearl?"),
    ("arms --families reech", "unknown family of arms 'reech'; did you mean reach?"),
    ("arms --seeds 0", "--seeds must be at least 1"),
    ("arms --first-seed 10", "--first-seed must be at most 9, the last seed of arms"),
    ("arms --jobs 0", "--jobs must be at least 1"),
    ("arms --lsit", "did you mean --list?"),
])
def test_a_slip_is_answered_in_one_line(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and line in said.err


def test_the_first_seeds_of_chosen_agents_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "arms", "--agents", "pearl", "scripted", "--families", "push", "--seeds", "2",
             "--list", "--json", "--root", str(tmp_path)]
    assert main(words) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    assert [(job["agent"], job["seed"]) for job in listed] == [
        ("scripted", 0), ("pearl", 0), ("pearl", 1)]


def test_seeds_may_be_left_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "arms", "--agents", "pearl", "scripted", "--families", "push", "--seeds", "2",
             "--first-seed", "1", "--list", "--json", "--root", str(tmp_path)]
    assert main(words) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    assert [(job["agent"], job["seed"]) for job in listed] == [("pearl", 1), ("pearl", 2)]


@pytest.mark.parametrize(("word", "labels"), [
    ("rl2", ["rl2"]), ("rl2 (transformer)", ["rl2 (transformer)"]), ("maml", ["anil", "promp"]),
])
def test_a_label_means_itself_and_another_agent_all_its_variants(
    word: str, labels: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.py"
    file.write_text("""from metarl.study import Job
STUDY = [Job("rl2", "reach", 0), Job("rl2", "reach", 0, label="rl2 (transformer)"),
         Job("maml", "reach", 0, label="anil"), Job("maml", "reach", 0, label="promp")]
""")
    assert main(["bench", str(file), "--agents", word, "--list", "--json",
                 "--root", str(tmp_path)]) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["label"] or job["agent"] for job in listed] == labels


@pytest.mark.parametrize(("job", "line"), [
    ("'pear', 'reach', 0", "unknown agent 'pear'; did you mean pearl?"),
    ("'scripted', 'raech', 0", "unknown family 'raech'; did you mean reach?"),
    ("'pearl', 'reach', 0, splits=('tets',)", "unknown split 'tets'; did you mean test?"),
])
def test_a_study_that_names_what_is_not_there_begins_no_job(
    job: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slip.py"
    file.write_text("from metarl.study import Job\n"
                    f"STUDY = [Job('scripted', 'reach', 0, splits=('test',)), Job({job})]\n")
    for more in ([], ["--list"]):
        assert main(["bench", str(file), "--root", str(tmp_path / "jobs"), *more]) == 2
        assert line in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


def test_two_jobs_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.py"
    file.write_text("from metarl.study import Job\nSTUDY = [Job('a', 'f', 0), Job('a', 'f', 0)]\n")
    with pytest.raises(UserError, match="two jobs of one name"):
        load(str(file))


def _logged(words: list[str], folder: Path, lock: TextIO) -> int:
    """As a process of its own would: what goes wrong is in the log."""
    try:
        return Calls()(words, folder, lock)
    finally:
        if "--config.lattent" in words:
            with (folder / "log.txt").open("a") as log:
                log.write("metarl: unknown option; did you mean --config.latent?\n")


def test_a_device_that_is_not_there_is_told_before_any_job_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine.py"
    study.write_text("from metarl.study import Job\nSTUDY = [Job('pearl', 'reach', 0)]\n")
    assert main(["bench", str(study), "--device", "tpu9", "--root", str(tmp_path / "jobs")]) == 2
    assert "device 'tpu9' cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()
