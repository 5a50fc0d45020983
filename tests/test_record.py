"""Measured figures name the code that made them, and none is lost to another process."""

import csv
import fcntl
import importlib
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
