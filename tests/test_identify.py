"""Identification: what a small motion tells of an arm, and where that lies among the tasks."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metarl.__main__ import main
from metarl.cli import robot_identify
from metarl.envs.arms import ArmName
from metarl.envs.reach import Reach
from metarl.errors import UserError
from metarl.robot.arm import ArmError, Command, Fault, Mode, OperatorAck
from metarl.robot.identify import Fit, excite, fit
from metarl.robot.twin import Twin
from metarl.testing.body import Body, Flaws
from metarl.testing.direct import Direct

POLICY = Path(__file__).parent / "policies" / "reach_fr3"


def test_payload_gain_and_friction_are_found() -> None:
    link = Direct(Body("so101", Flaws(payload=0.1, gain=1.2, friction=0.05, noise=2e-4)))
    link.sleep(1.0)
    start = link.body.measure()[0]
    motion = excite(link, link, seconds=6.0)
    assert np.abs(motion.q - start).max() < 0.1  # inside the tube
    found = fit("so101", motion)
    assert found.values["payload"] == pytest.approx(0.1, rel=0.1)
    assert found.values["gain"] == pytest.approx(1.2, rel=0.03)
    assert found.values["friction"] == pytest.approx(0.05, rel=0.1)
    assert found.after < 3e-4 < found.before  # rad: the noise is 2e-4


@pytest.mark.parametrize("arm", ["fr3", "ur5e"])
def test_an_arm_as_its_family_has_it_is_found_so_in_the_default_time(arm: ArmName) -> None:
    link = Direct(Body(arm))
    link.sleep(1.0)
    found = fit(arm, excite(link, link))
    truth = {"payload": 0, "damping": 1, "gain": 1, "friction": 0, "backlash": 0, "delay": 0}
    assert found.values == pytest.approx(truth, abs=1e-3)
    # Nothing differs but rounding, and what a search leaves: its targets were the arm's, all 8 s.
    assert found.after < 1e-6 and found.helped


def test_an_arm_that_is_late_is_taken_for_late_and_not_for_stiffer() -> None:
    link = Direct(Body("ur5e", Flaws(payload=1.0, noise=2e-4)))
    link.sleep(1.0)
    motion = excite(link, link)
    found = fit("ur5e", replace(motion, t_target=motion.t_target - 0.004))
    assert found.values["delay"] == pytest.approx(0.004, abs=2e-4)
    assert found.values["gain"] == pytest.approx(1.0, abs=0.01)
    assert found.values["payload"] == pytest.approx(1.0, abs=0.02)


def test_an_arm_with_a_fault_is_not_excited_further() -> None:
    link = Direct(Body("so101"))
    link.fault = Fault("overload joint2", "joint 2 is overloaded")
    with pytest.raises(ArmError, match="excitation was stopped"):
        excite(link, link)


def test_the_place_in_the_task_space_is_told_by_parameter() -> None:
    # reach with an FR3 trains on payloads of 0 to 2 kg and gains of 0.7 to 1.3.
    found = Fit({"payload": 3.0, "damping": 1.0, "gain": 0.4, "friction": 0.1}, {}, 0.0, 0.0)
    place = found.place(Reach())
    assert place["payload"] == "1 kg outside [0, 2], 50% of its width"
    assert place["gain"] == "0.3 x outside [0.7, 1.3], 50% of its width"
    assert place["damping"].startswith("inside") and "friction" not in place


def test_an_arm_of_no_family_is_refused() -> None:
    link = Direct(Body("so101"))
    with pytest.raises(UserError, match="no family has the arm kuka"):
        fit("kuka", excite(link, link, seconds=2.0))


def test_the_command_line_identifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "identify", str(POLICY), "--rehearse", "--option", "payload=2.5",
                 "--seconds", "4", "--folder", str(tmp_path / "a"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["values"]["payload"] == pytest.approx(2.5, rel=0.1)
    assert "outside [0, 2]" in found["place"]["payload"]
    assert main(["robot", "identify", str(POLICY), "--arm", "metarl.robot.twin:Twin"]) == 2
    assert "a dry run has nothing to measure" in capsys.readouterr().err


@pytest.mark.parametrize(("before", "after", "helped"), [
    (4e-3, 2e-4, True), (2e-14, 1e-8, True), (2e-4, 2.02e-4, True),  # rounding, and noise
    (2e-14, 3.8e-4, False), (2e-4, 4e-4, False),
])
def test_a_fit_helps_where_it_brings_the_model_nearer(
    before: float, after: float, helped: bool
) -> None:
    assert Fit({}, {}, before, after).helped is helped


def test_a_fit_that_does_not_help_is_an_error_and_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = Fit({"gain": 3.0}, {"gain": 0.1}, 2e-4, 4e-4)
    monkeypatch.setattr(robot_identify, "fit", lambda *_: worse)
    folder = tmp_path / "a"
    assert main(["robot", "identify", str(POLICY), "--rehearse", "--seconds", "2",
                 "--folder", str(folder)]) == 2
    said = capsys.readouterr()
    assert "the fit did not help" in said.err and "--seconds" in said.err
    assert "gain" not in said.out and not folder.exists()


def test_a_target_acts_on_the_twin_from_the_step_nearest_to_when_it_was_sent(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told = [100.0], list[str]()

    def later(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(
        "metarl.robot.twin.time", SimpleNamespace(monotonic=lambda: now[0], sleep=later))
    # What the guard would say of the time is not asked for here.
    monkeypatch.setattr("metarl.robot.twin.check_command", lambda *_: None)
    arm = Twin("so101")
    arm.connect()
    arm.enable(OperatorAck("Ada", "workspace clear"))
    monkeypatch.setattr(arm._body, "aim", lambda _: told.append("aim"))
    monkeypatch.setattr(arm._body, "advance", lambda _: told.append("step"))
    began = arm._lived
    now[0] = began + 0.0035
    arm.send(Command(0, Mode.JOINT_POSITION, np.zeros(5), now[0] + 1))
    now[0] = began + 0.0085
    arm.read(0.1)
    # Steps begin at 0, 2, 4 and 6 ms, two for each sample.
    assert told == ["step", "step", "aim", "step", "step"]
