"""Measured figures name the code that made them, and none is lost to another process."""

import csv
import fcntl
import importlib
import subprocess
import threading
from pathlib import Path

import pytest

from experiments import record
from metarl import run


def test_the_commit_of_a_figure_shows_whether_files_differed_from_it(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "commit", lambda: f"v1-3-g{'a' * 40}+", raising=False)
        assert importlib.reload(record).COMMIT == "aaaaaaa+"
    importlib.reload(record)


def test_results_themselves_make_no_commit_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    code, results = tmp_path / "metarl/run.py", tmp_path / "experiments/results/scores.csv"
    for file in (code, results):
        file.parent.mkdir(parents=True)
        file.write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(run, "__file__", str(code))
    first = run.commit()
    assert first is not None and len(first) == 40
    results.write_text("after")
    assert run.commit() == first
    code.write_text("after")
    assert run.commit() == first + "+"


def test_a_figure_waits_for_another_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "benchmarks.csv"
    monkeypatch.setattr(record, "_FILE", file)
    record.record("one", "steps, all cores", "1/s", 1234.5, 617.25, 2.0)
    written = file.read_text()
    other = threading.Thread(target=record.record, args=("two", "steps", "1/s", 1.0))
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other.start()
        other.join(0.3)
        assert file.read_text() == written
    other.join(60)
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["value"], row["baseline"], row["ratio"]) for row in rows] == [
        ("one", "1234", "617.2", "2"), ("two", "1", "", "")]
