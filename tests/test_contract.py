"""Every family keeps the contract of families, and planted faults are found."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import broken
import pytest

from metarl import api
from metarl.__main__ import main
from metarl.cli.common import show, show_verdicts, table
from metarl.envs import FAMILIES
from metarl.envs.contract import Verdict, verdicts
from metarl.envs.family import Family
from metarl.envs.hopper_params import HopperParams


def problems(family: Family) -> str:
    return "\n".join(verdict.problem for verdict in verdicts(family) if verdict.problem)


def test_every_family_keeps_the_contract(family: Family) -> None:
    assert problems(family) == ""


@pytest.mark.parametrize("arm", ["ur5e", "so101"])
@pytest.mark.parametrize("name", [n for n, cls in FAMILIES.items()
                                  if "arm" in {f.name for f in fields(cls())}])  # pyright: ignore
def test_every_arm_family_keeps_it_on_the_other_arms(name: str, arm: str) -> None:
    assert problems(api.build_family(name, {"arm": arm})) == ""


@pytest.mark.parametrize(("name", "explanation"), [
    ("Endless", r"velocity: \(0\.0, inf\) is not finite"),
    ("Backward", r"velocity: the range \(3\.0, 0\.0\) is empty or backward"),
    ("Overlapping", r"ood range \(2\.0, 4\.0\) overlaps the train range"),
    ("Undocumented", r"velocity: a train task has 5, outside the documented \(0\.0, 3\.0\)"),
    ("Empty", r"task_counts is \(100, 0\): a set is empty"),
    ("Unseeded", "the train tasks differ when they are drawn again"),
    ("Coarse", r"train and test share the task \(\d\.\d,\): held-out tasks must be new"),
    ("Refusing", "MuJoCo refuses this task"),
    ("Idle", "velocity changes no field of the model"),
    ("Disguised", "mass_torso changes the model; drop physics=False"),
    ("Fickle", "moves differently from the same task's model compiled on its own"),
    ("Startless", r"`reset` gives a qpos that is not \(4, 9\) of finite numbers"),
    ("Column", r"`reward` gives \(4, 1\) for 4 rows"),
    ("Soft", r"`terminated` gives float64 \(4,\) for 4 rows; it must be bool"),
    ("Generous", r"'success' holds \[2\.0, 2\.0, 2\.0, 2\.0\]; it must be 0 or 1"),
    ("Raising", r"KeyError: 'flange' \(.*broken\.py:\d+\)"),
    ("Shown", "first observation differs from task to task"),
    ("Whispering", "other observations where only the goal differs"),
    ("Dicey", "two lives of the same task, seed and actions differ"),
    ("Mingled", "among 4 depends on the rows beside it"),
    ("Crowded", "among 37 depends on the rows beside it"),
    ("Fallen", "every episode is terminated at once"),
    ("Clocked", "`terminated` is true because time is up"),
    ("Remembering", "in one row changes what the others live"),
    ("Hopeless", "succeeds in 0% of the tasks"),
    ("Easy", r"succeeds in \d+% of the tasks when it is told every task's middle"),
    ("Lazy", r"standing still succeeds in \d+% of the tasks: there is nothing to learn"),
    ("Huge", "gymnasium's check_env objects"),
    ("Huge", "Stable-Baselines3's check_env objects"),
    ("Dark", "a picture is black"),
    ("Blank", "a picture is of one colour"),
    ("Away", "a picture does not show the robot"),
])
def test_a_planted_fault_is_found_and_explained(name: str, explanation: str) -> None:
    family: Family = getattr(broken, name)()
    assert any(re.search(explanation, verdict.problem) for verdict in verdicts(family))


def test_a_parameter_that_nothing_depends_on_is_named() -> None:
    unchecked = [verdict.unchecked for verdict in verdicts(broken.Numb())]
    assert any("nothing was felt of rest in whole episodes of random" in text for text in unchecked)
    assert not any("felt" in verdict.unchecked for verdict in verdicts(HopperParams()))


def test_check_tells_what_holds_and_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "cheetah-vel"]) == 0
    assert "keeps its contract" in capsys.readouterr().out
    (tmp_path / "shy.py").write_text(
        "from metarl.envs.cheetah_vel import CheetahVel\n"
        "class Shy(CheetahVel):\n"
        "    def reward(self, before, action, after, task):\n"
        "        return super().reward(before, action, after, task)[:, None]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "shy:Shy"]) == 1
    out = capsys.readouterr().out
    assert "FAILS" in out and "`reward` gives (4, 1)" in out and "checks fail" in out


def test_a_slip_that_breaks_many_claims_is_told_in_full_once_by_the_users_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slippery.py").write_text(
        "import mujoco\n"
        "from metarl.envs.cheetah_vel import CheetahVel\n"
        "class Boom(CheetahVel):\n"
        "    def spec(self):\n"
        "        return mujoco.MjSpec.from_string('<mujoco><sise/>\\n</mujoco>')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "slippery:Boom"]) == 1
    reasons = [line for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
    assert sum(f"({tmp_path}/slippery.py:5)" in line for line in reasons) == 1
    assert reasons.count("       for a reason above") > 5


def test_words_of_the_users_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    shown = table("mine:boom:", "distance [m]")
    shown.add_row("[red]", "1")
    show(shown)
    show("mine:boom: 1 of 20 checks fail")
    said = capsys.readouterr().out
    assert said.count("mine:boom:") == 2 and "distance [m]" in said and "[red]" in said


def test_what_a_check_finds_is_shown_as_it_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def slow() -> Iterator[Verdict]:
        yield Verdict("It moves.")
        assert "It moves." in capsys.readouterr().out
        yield Verdict("It rests.", "it does not")

    assert [verdict.problem for verdict in show_verdicts(slow())] == ["", "it does not"]
