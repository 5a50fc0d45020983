"""What is named as package.module:Name may lie in the working directory, whoever starts metarl."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl import study
from metarl.cli.robot_link import perceive
from metarl.errors import UserError
from metarl.plugins import imported
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


@pytest.mark.parametrize("place", ["nomod:Name", "os:Nothing", ":Name", "os:"])
def test_what_cannot_be_imported_is_told_in_one_line(place: str) -> None:
    for ask in (arm_class, perceive, lambda name: imported("controller", name)):
        with pytest.raises(UserError) as told:
            ask(place)
        assert "\n" not in str(told.value)
