"""`metarl robot`: what it says, what it keeps, and that nothing moves without a word."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl import api
from metarl.__main__ import main
from metarl.cli.robot_link import (
    STATEMENT,
    ArmOptions,
    acknowledge,
    ask,
    choose,
    words_to_options,
)
from metarl.cli.robot_run import authority
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Family, default_task, named_task, sample_tasks
from metarl.envs.lift import Lift
from metarl.envs.reach import Reach
from metarl.errors import DamagedFile, UserError
from metarl.policy import Policy
from metarl.robot.arm import ArmError, Mode, OperatorAck
from metarl.robot.gate import Verdict
from metarl.robot.latency import Latency, measure
from metarl.robot.limits import Limits
from metarl.robot.link import Phase
from metarl.robot.log import Recorder, messages, summary
from metarl.robot.preflight import look, look_at_delays, refuse_failures
from metarl.robot.registry import make_arm
from metarl.robot.session import ACTIVE, ADAPTED, CARD, Plan, demote, in_charge
from metarl.robot.worlds import Authority, NeedsHuman
from metarl.testing.body import Body
from metarl.testing.direct import Direct, rehearsal

POLICY = Path(__file__).parent / "policies" / "reach_fr3"


def robot(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["robot", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


# A whole session, in virtual time.


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm") / "session"
    assert main(["robot", "adapt", str(POLICY), "--rehearse", "--folder", str(folder), "--pairs",
                 "5", "--episodes", "2", "--speed", "100", "--task", "goal_y=0.25"]) == 0
    return folder


def test_a_session_keeps_what_helps_and_says_why(session: Path) -> None:
    card = json.loads((session / CARD).read_text())
    assert card["verdict"] == "keep" and "5 of 5 pairs" in card["reason"]
    assert [found["where"] for found in card["findings"]] == ["twin", "arm"]
    assert all(found["wins"] == 5 and found["p"] == 1 / 32 for found in card["findings"])
    assert len(card["rollouts"]) == 2 and "no rate of success" in card["scope"]
    assert in_charge(session)[:2] == (session / ADAPTED, "adapted")
    candidate = metarl.load(session / ADAPTED)
    assert candidate.about["parent"] == card["parent"] != candidate.about["digest"]


def test_the_base_is_as_it_was(session: Path) -> None:
    metarl.load(POLICY)  # raises DamagedFile where a byte has changed


def test_a_demotion_puts_the_base_in_charge(session: Path) -> None:
    before = (session / ACTIVE).read_text()
    demote(session, "its returns have fallen")
    path, active, _ = in_charge(session)
    assert active == "base" and path == POLICY.absolute()
    assert "demoted" in json.loads((session / ACTIVE).read_text())["reason"]
    (session / ACTIVE).write_text(before)


def test_a_session_s_log_tells_what_happened(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = summary(session / "log.mcap")
    assert found["messages"]["verdict"] == 2 and len(found["episodes"]) == 2 + 2 * 2 * 5
    code, out, _ = robot(capsys, "log", session / "log.mcap")
    assert code == 0 and "verify, twin" in out and "shown to be better" in out
    code, out, _ = robot(capsys, "log", session / "log.mcap", "--json")
    assert json.loads(out)["messages"] == found["messages"]


def test_the_policy_in_charge_runs_and_its_log_replays(
    session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The task is the session's, as long as no other one is named: it was not in the middle.
    code, out, err = robot(capsys, "run", session, "--stage", "twin", "--folder", tmp_path / "a",
                           "--json")
    ran = json.loads(out)
    assert code == 0 and "in charge: adapted" in err
    assert ran["episodes"][0]["distance [m]"] < 0.05
    # The same policy answers the logged observations with the logged actions.
    _, out, _ = robot(capsys, "run", session, "--stage", "replay", "--replay",
                      tmp_path / "a" / "log.mcap", "--folder", tmp_path / "b", "--json")
    replayed = json.loads(out)
    assert not (tmp_path / "b").exists()  # it has nothing to keep
    assert replayed["steps"] == 50 and replayed["largest difference"] < 1e-4
    _, out, _ = robot(capsys, "run", POLICY, "--stage", "replay", "--replay",
                      tmp_path / "a" / "log.mcap", "--folder", tmp_path / "c", "--json")
    assert json.loads(out)["largest difference"] > 0.1  # another policy does not


def test_a_session_s_task_comes_before_the_one_that_its_policy_was_adapted_to(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = metarl.load(session / ADAPTED)
    elsewhere = Policy(policy.agent, policy.belief, policy.about | {"task": {"goal_y": 0.1}})
    monkeypatch.setattr(api, "load", lambda *_: elsewhere)
    chosen = choose(ArmOptions(str(session), folder=tmp_path / "a"))
    assert named_task(chosen.family, chosen.task[0])["goal_y"] == 0.25


def test_an_interrupted_session_has_no_policy_to_run_and_its_folder_is_no_log(
    session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (ACTIVE, "log.mcap"):  # the card is written at the end
        (tmp_path / name).write_bytes((session / name).read_bytes())
    for words, line in (
        (("run", tmp_path), "is a session that was interrupted before its end"),
        (("log", tmp_path), f"is a folder, not a log; its log is {tmp_path / 'log.mcap'}"),
        (("run", POLICY, "--stage", "replay", "--replay", tmp_path), "is a folder, not a log"),
    ):
        code, out, err = robot(capsys, *words)
        assert code == 2 and out == "" and line in err and err.count("\n") == 1


def test_a_log_that_was_cut_off_tells_what_it_has(
    session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (session / "log.mcap").read_bytes()
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(whole[: len(whole) // 2])
    count = sum(1 for _ in messages(torn))
    assert 100 < count < sum(1 for _ in messages(session / "log.mcap"))
    assert "was cut off" in robot(capsys, "log", torn)[1]
    assert "was cut off" not in robot(capsys, "log", session / "log.mcap")[1]
    torn.write_bytes(b"no log at all" * 20)
    with pytest.raises(DamagedFile, match="no MCAP log"):
        list(messages(torn))


def test_a_log_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    with Recorder(tmp_path / "a" / "log.mcap"):
        pass
    code, out, _ = robot(capsys, "log", tmp_path / "a" / "log.mcap")
    assert code == 0 and out == "nothing was logged\n"


# Words.


@pytest.mark.parametrize(("words", "said"), [
    (("fly",), "unknown verb of metarl robot 'fly'"),
    (("run", POLICY, "--arm", "twinn"), "did you mean twin"),
    (("run", POLICY, "--stage", "replay"), "--stage replay and --replay FILE go together"),
    (("run", POLICY, "--episodes", "0"), "at least 1"),
    (("run", POLICY, "--stage", "twin", "--live"), "without an arm; leave --live out"),
    (("run", POLICY, "--stage", "replay", "--replay", "no.mcap"), "there is no log no.mcap"),
    (("run", POLICY, "--limit", "speed=fast"), "--limit speed=fast is not a number"),
    (("run", POLICY, "--arm", "twim"), "did you mean twin"),
    (("run", POLICY, "--perception", "nomod:f"), "cannot be imported"),
    (("adapt", POLICY, "--rehearse", "--arm", "ur5e"), "leave --arm out"),
    (("identify", POLICY, "--rehearse", "--option", "dampin=1"), "did you mean damping?"),
    (("run", POLICY, "--option", "payload"), "is not name=value"),
    (("run", POLICY, "--host", "10.0.0.1"), "has no address"),
    (("adapt", POLICY, "--pairs", "4"), "can never show an improvement"),
    (("adapt", POLICY, "--episodes", "0"), "at least 1 episode"),
    (("adapt", POLICY, "--task", "gaol_x=1"), "did you mean goal_x"),
    (("shadow", POLICY, "--live"), "sends nothing"),
    (("check", "metarl.robot.twin:Twin"), "add --yes"),
    (("log", "nothing.mcap"), "cannot read"),
])
def test_a_slip_is_one_line(
    words: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    acts = words[0] in ("run", "adapt", "shadow", "identify")
    code, _, err = robot(capsys, *words, *(("--folder", tmp_path / "session") if acts else ()))
    assert code == 2 and said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is left of what was refused


def test_the_arms_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = robot(capsys, "list", "--json")
    assert code == 0 and "MuJoCo" in json.loads(out)["twin"]["about"]


def test_nothing_is_sent_without_live_and_nothing_is_live_without_a_name() -> None:
    given: dict[str, Any] = {"policy": "x", "arm": "pkg:Arm"}
    assert "dry run" in acknowledge(ArmOptions(**given)).statement
    with pytest.raises(UserError, match="--operator NAME"):  # standard input is no terminal
        acknowledge(ArmOptions(**given, live=True))
    ack = acknowledge(ArmOptions(**given, live=True, operator="Ada"))
    assert (ack.operator, ack.statement) == ("Ada", STATEMENT)


def test_a_twin_goes_on_by_itself_and_an_arm_does_not() -> None:
    link = Direct(Body("fr3"))
    link.command(Mode.JOINT_VELOCITY, np.zeros(7), 0.05)
    link.sleep(0.2)
    assert link.report(1.0).phase is Phase.LATCHED
    needed = NeedsHuman("the guard latched")
    assert not ask(needed, link, OperatorAck("Ada", "looked"))  # standard input is no terminal
    assert link.report(1.0).phase is Phase.LATCHED
    assert ask(needed, link, acknowledge(ArmOptions(policy="x")))
    assert link.report(1.0).phase is Phase.HOLDING
    put = NeedsHuman("put object at (0.500, 0.000) m")
    assert not ask(put, link, acknowledge(ArmOptions(policy="x"))), "nobody has a hand for it"


def test_options_of_an_adapter_are_numbers_truths_or_words() -> None:
    assert words_to_options(["payload=1.5", "gripper=true", "port=/dev/ttyUSB0"]) == {
        "payload": 1.5, "gripper": True, "port": "/dev/ttyUSB0"}
    assert words_to_options(["fault=nan"]) == {"fault": "nan"}  # a fault of the twin, no number


@pytest.mark.parametrize(("word", "line"), [
    ("noise=nan", "option noise of arm twin is 'nan'; give a number, as in noise=0"),
    ("noise=inf", "noise of the twin is inf; give a number of at least 0"),
    ("delay=-1", "delay of the twin is -1; give a number of at least 0"),
    ("fault=lots", "unknown fault 'lots'; did you mean lost?"),
    ("seed=1", ""),
])
def test_a_twin_is_made_of_nothing_that_no_arm_could_be(word: str, line: str) -> None:
    if not line:
        make_arm("twin", words_to_options([word]))
        return
    with pytest.raises(UserError, match=re.escape(line)):
        make_arm("twin", words_to_options([word]))


def test_each_stage_has_more_authority_than_the_one_before() -> None:
    blended, ten, quarter, full = (authority(s, 50) for s in ("blended", "10", "25", "100"))
    assert blended == Authority(0.1, blend=50) and ten == Authority(0.1)
    assert quarter.speed == 0.25 and full.speed == 1.0


def test_the_plan_of_a_session_is_refused_before_anything_moves() -> None:
    with pytest.raises(UserError, match="not even if all are won"):
        Plan(pairs=3)
    assert Verdict.NOT_SHOWN == "not shown"


# Before it moves.


def test_latency_is_measured_with_the_arm_standing_still() -> None:
    link = Direct(Body("fr3"), delay=0.03)
    before = link.body.data.qpos.copy()
    found = measure(link, link, samples=5)
    # 30 ms on the way there, up to one 10 ms tick of the guard, and 30 ms on the way back.
    assert all(0.03 <= x <= 0.05 for x in found.command)
    assert all(0.03 <= x <= 0.04 for x in found.observation)
    assert abs(link.body.data.qpos - before).max() < 1e-3


def test_latency_is_compared_to_what_the_policy_was_trained_with() -> None:
    late = Latency((0.03, 0.03), (0.02, 0.02))  # 50 ms in all
    assert not late.judge({}, control_step=0.05)[0]  # half a step, 25 ms, would be near enough
    trained = {"observation_latency": (0.0, 20.0), "action_latency": (0.0, 10.0)}
    fine, text = late.judge(trained, control_step=0.05)
    assert fine and "observations 30 ms, commands 20 ms" in text
    assert look_at_delays(late, Reach(), {}).mark == "warn"


def test_a_failing_look_stops_everything(tmp_path: Path) -> None:
    link = Direct(Body("fr3"))
    state, limits = link.report(1.0).state, Limits.of(link.spec)
    task = sample_tasks(Reach(), "test", 1)
    items = look(Reach(), task, link.spec, state, limits, ("wrench",), tmp_path)
    marks = {item.name: item.mark for item in items}
    assert marks["state"] == marks["task"] == "ok" and marks["unmonitored"] == "warn"
    refuse_failures(items)
    state.q[3] = 1.0  # the FR3's elbow ends at -0.15 rad
    items = look(Reach(), task, link.spec, state, limits, (), tmp_path)
    with pytest.raises(ArmError, match=r"joint4 at 1\.00 rad is outside"):
        refuse_failures(items)
    far = task + torch.tensor([9.0, 0, 0, 0, 0, 0])
    (told,) = [i for i in look(Reach(), far, link.spec, state, limits, (), tmp_path)
               if i.name == "task"]
    assert told.mark == "warn" and told.found.endswith("outside the trained range: goal_x")


def test_a_log_is_never_written_over(tmp_path: Path) -> None:
    with Recorder(tmp_path / "log.mcap") as log:
        log("step", {"t": 1.0, "value": float("nan")})
    assert [*messages(tmp_path / "log.mcap")] == [("step", {"t": 1.0, "value": None})]
    with pytest.raises(UserError, match="exists"):
        Recorder(tmp_path / "log.mcap")


@pytest.mark.parametrize(("family", "drives"), [
    (CheetahVel(), "bthigh, "), (Lift(), "joint1, .*joint7, opening; "),
])
def test_a_family_whose_arm_has_no_twin_is_not_rehearsed(family: Family, drives: str) -> None:
    with pytest.raises(ArmError, match=f"cannot be rehearsed: its actuators drive {drives}"):
        rehearsal(family, default_task(family)[None], Authority(1.0))
