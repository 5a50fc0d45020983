"""Identification: what a small motion tells of an arm, and where that lies among the tasks."""

import json
from pathlib import Path

import numpy as np
import pytest

from metarl.__main__ import main
from metarl.envs.reach import Reach
from metarl.errors import UserError
from metarl.robot.arm import ArmError, Fault
from metarl.robot.identify import Fit, excite, fit
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
