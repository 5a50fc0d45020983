"""What is named as package.module:Name may lie in the working directory, whoever starts metarl."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl import study
from metarl.__main__ import main
from metarl.cli.robot_link import perceive
from metarl.errors import UserError
from metarl.plugins import imported
from metarl.robot.arm import ArmError
from metarl.robot.client import start_guard
from metarl.robot.registry import arm_class

_MINE = """from metarl.study import Job
from metarl.robot.twin import Twin

class Arm(Twin):
    pass

def eyes():
    return "a perception"

STUDY = [Job("pearl", "reach", 0)]
"""


@pytest.mark.parametrize(("named", "found"), [
    (lambda module: arm_class(f"{module}:Arm").__name__, "Arm"),
    (lambda module: perceive(f"{module}:eyes"), "a perception"),
    (lambda module: imported("controller", f"{module}:eyes").__name__, "eyes"),
    (lambda module: study.load(f"mine.{module}")[0].agent, "pearl"),
], ids=["arm", "perception", "controller", "study"])
def test_a_module_of_the_working_directory_is_found(
    named: Callable[[str], object], found: object, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> None:
    module = f"mine_{request.node.callspec.id}"  # a name for each: what is imported stays so
    for folder in (tmp_path, tmp_path / "mine"):
        folder.mkdir(exist_ok=True)
        (folder / f"{module}.py").write_text(_MINE)
    monkeypatch.chdir(tmp_path)
    # As the console script leaves it: its own directory stands there, not the working one.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", os.getcwd())])
    assert named(module) == found


@pytest.mark.parametrize(("text", "why"), [
    ("class Arm(:", "SyntaxError: invalid syntax"),
    ("from os import nothing", "ImportError: cannot import name 'nothing'"),
    ("import os; os.nothing", "AttributeError: module 'os' has no attribute 'nothing'"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
])
def test_a_module_that_fails_as_it_is_imported_is_not_called_a_bug_of_metarl(
    text: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = f"broken_{why[:5]}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for verb in ("train", "check", "robot check"):
        words = [*verb.split(), f"{module}:Arm", *(["reach"] if verb == "train" else [])]
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"'{module}' fails as it is imported: {why}" in said and said.count("\n") == 1


def test_an_error_in_a_family_of_ones_own_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wobbly.py").write_text("""from metarl.envs.reach import Reach
class Wobbly(Reach):
    name = "wobbly"
    def reward(self, before, action, after, task):
        return after.sensors["no such"][:, 0]
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    runs = str(tmp_path / "runs")
    assert main(["train", "pearl", "wobbly:Wobbly", "--runs", runs]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"metarl: KeyError: 'no such' (in {tmp_path}/wobbly.py:5); --debug shows all"


def test_an_error_of_metarls_own_is_called_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metarl.errors.difflib", None)
    assert main(["trian"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("metarl: unexpected AttributeError") and "a bug in metarl" in said


@pytest.mark.parametrize("place", ["nomod:Name", "os:Nothing", ":Name", "os:"])
def test_what_cannot_be_imported_is_told_in_one_line(place: str) -> None:
    for ask in (arm_class, perceive, lambda name: imported("controller", name)):
        with pytest.raises(UserError) as told:
            ask(place)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(("study", "why"), [
    ('grid("pearl", ["reach"])', "agents of a grid are a list, as in ['pearl']"),
    ('grid(["pearl"], "reach")', "families of a grid are a list, as in ['reach']"),
    ('[Job("pearl", "reach", 0, flags="--steps 1600")]',
     "flags of a job are words apart, as in ('--steps', '1600')"),
    ('[Job("pearl", "reach", 0, splits="test")]',
     "splits of a job are words apart, as in ('test',)"),
])
def test_words_of_a_study_are_not_taken_apart_into_letters(
    study: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"from metarl.study import Job, grid\nSTUDY = {study}\n")
    assert main(["bench", str(file), "--list"]) == 2
    assert capsys.readouterr().err == f"metarl: {file}: {why}\n"


def test_an_error_in_an_arm_of_ones_own_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mute.py").write_text("""from metarl.robot.twin import Twin
class Mute(Twin):
    def connect(self):
        return self.port.open()
""")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArmError) as refused:
        start_guard("mute:Mute", {"arm": "so101"}, policy_hz=20)
    assert str(refused.value) == ("the guard of mute:Mute: AttributeError: 'Mute' object has no "
                                  f"attribute 'port' (in {tmp_path}/mute.py:4)")
    assert "Traceback" not in capfd.readouterr().err
