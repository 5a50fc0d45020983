"""Every family keeps the contract of families, and planted faults are found."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metarl.__main__ import main
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.contract import verdicts
from metarl.envs.family import Family, Frame, Parameter, Random, Start
from metarl.envs.hopper_params import HopperParams


def problems(family: Family) -> str:
    return "\n".join(verdict.problem for verdict in verdicts(family) if verdict.problem)


def test_every_family_keeps_the_contract(family: Family) -> None:
    assert problems(family) == ""


class Shown(CheetahVel):
    def reset(self, frame: Frame, task: Tensor, random: Random) -> Start:
        start = super().reset(frame, task, random)
        return replace(start, qvel=start.qvel + task[:, :1])


class Mingled(CheetahVel):
    def observe(self, frame: Frame) -> Tensor:
        obs = super().observe(frame)
        return obs - obs.mean(0)


class Column(CheetahVel):
    def reward(self, before: Frame, action: Tensor, after: Frame, task: Tensor) -> Tensor:
        return super().reward(before, action, after, task)[:, None]


class Fallen(CheetahVel):
    def terminated(self, frame: Frame) -> Tensor:
        return torch.ones(len(frame.qpos), dtype=torch.bool)


class Raising(CheetahVel):
    def observe(self, frame: Frame) -> Tensor:
        return frame.sensors["flange"]


class Idle(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], physics=True),)


class Endless(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], train=(0.0, float("inf"))),)


class Backward(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], train=(3.0, 0.0)),)


class Overlapping(CheetahVel):
    parameters = (replace(CheetahVel.parameters[0], ood=((2.0, 4.0),)),)


@dataclass(frozen=True)
class Disguised(HopperParams):
    @property
    def parameters(self) -> tuple[Parameter, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        first, *others = super().parameters
        return replace(first, physics=False), *others


class Refusing(HopperParams):
    def variant(self, spec, task) -> None:
        spec.body("torso").mass = -1


class Hopeless(CheetahVel):
    def expert(self, frame: Frame, task: Tensor) -> Tensor:
        return torch.zeros(len(task), 6)

    def outcome(self, frame: Frame, task: Tensor) -> dict[str, Tensor]:
        return {"success": torch.zeros(len(task)).double()}


@pytest.mark.parametrize(("broken", "explanation"), [
    (Shown(), "first observation differs from task to task"),
    (Mingled(), "depends on the rows beside it"),
    (Column(), r"`reward` gives \(4, 1\) for 4 rows"),
    (Fallen(), "`terminated` is true at once"),
    (Raising(), r"KeyError: 'flange' \(.*test_contract\.py:\d+\)"),
    (Idle(), "velocity changes no field of the model"),
    (Endless(), r"velocity: \(0\.0, inf\) is not finite"),
    (Backward(), r"velocity: the range \(3\.0, 0\.0\) is empty or backward"),
    (Overlapping(), r"ood range \(2\.0, 4\.0\) overlaps the train range"),
    (Disguised(), "mass_torso changes the model; drop physics=False"),
    (Refusing(), "MuJoCo refuses this task"),
    (Hopeless(), "succeeds in 0% of the tasks"),
], ids=lambda value: type(value).__name__ if isinstance(value, CheetahVel | HopperParams) else "")
def test_a_planted_fault_is_found_and_explained(broken: Family, explanation: str) -> None:
    assert re.search(explanation, problems(broken))


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
