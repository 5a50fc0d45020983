"""The page about an arm's log: its numbers by hand, and that damage is told in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import external

from metarl import look
from metarl.__main__ import main
from metarl.errors import DamagedFile
from metarl.robot import figures
from metarl.robot.diary import Diary, Series, read
from metarl.robot.gate import Finding, Pair, Verdict
from metarl.robot.log import Recorder
from metarl.robot.rollout import Rollout
from metarl.robot.session import _lived

POLICY = Path(__file__).parent / "policies" / "reach_fr3"
SESSION = {
    "verb": "run", "utc": "20260102T030405Z", "metarl": "1", "arm": "twin", "live": True,
    "driver": "mujoco 4", "model": "fr3", "joints": ["one", "two"], "spec": "f" * 64,
    "q_min": [-1.0, -2.0], "q_max": [1.0, 2.0], "limits": None, "speed": 0.25, "family": "reach",
    "agent": "pearl", "policy": "<p>", "digest": "d" * 64, "parent": "a" * 64, "seed": 0,
    "words": {"payload": "1 kg"}}


def row(t: float, applied: float, **more: Any) -> dict[str, Any]:
    """What is told of two joints, of which the second stands still."""
    return {"t": t, "q": [applied - 0.01, 0.5], "dq": [0.1, 0.0], "requested": [0.3, 0.0],
            "applied": [applied, 0.5], "age": 0.004, "limits": [], "faults": [], **more}


def episode(log: Recorder, began: float, rewards: list[float], **more: Any) -> None:
    """Steps half a second apart, in each of which the first joint's target goes 0.1 rad."""
    log("start", {"t": began, "episode": 0, "q": [0.0, 0.5], "obs": []})
    for i, reward in enumerate(rewards, start=1):
        log("step", row(began + 0.5 * i, 0.1 * i, reward=reward, **more))


def rollout(log: Recorder, earned: float, **more: Any) -> None:
    log("rollout", {"purpose": "run", "return": earned, "steps": 2, "valid": True, "reason": "",
                    **more})


def written(path: Path, *parts: Any) -> Diary:
    with Recorder(path) as log:
        for part in parts:
            part(log)
    return read(path)


def said(path: Path) -> str:
    assert main(["report", str(path), "--out", str(path.with_suffix(".html"))]) == 0
    return path.with_suffix(".html").read_text()


def opened(log: Recorder) -> None:
    log("session", SESSION)


# What a log tells.


def test_an_episode_is_read_back_as_arrays(tmp_path: Path) -> None:
    diary = written(tmp_path / "a.mcap", opened,
                    lambda log: episode(log, 10.0, [1.0, 2.0], limits=["tube", "acceleration"]),
                    lambda log: rollout(log, 3.0, success=1.0))
    (lived,) = diary.lived
    series = lived.series
    assert series is not None and series.t.tolist() == [0.5, 1.0]
    np.testing.assert_allclose(series.behind, [[0.01, 0], [0.01, 0]], atol=1e-12)
    # 0.1 rad in half a second; before the first target none is known.
    np.testing.assert_allclose(series.speed, [[np.nan, np.nan], [0.2, 0]])
    assert series.limited("tube").tolist() == [0.5, 1.0] and series.troubled == 1.0
    assert lived.outcome == {"return": 3.0, "success": 1.0}
    assert [part.tolist() for part in lived.reward] == [[0.5, 1.0], [1.0, 2.0]]
    assert diary.whole and not diary.events


def test_rounding_off_a_jump_is_no_trouble() -> None:
    zeros, t = np.zeros((4, 1)), np.arange(4.0)
    limits = ((), ("acceleration",), ("acceleration", "tube"), ())
    assert Series(t, zeros, zeros, zeros, zeros, t, limits).troubled == 0.25


def test_what_the_guard_logged_is_taken_before_what_the_policy_saw(tmp_path: Path) -> None:
    def guard(log: Recorder) -> None:
        # Targets every 10 ms, the second noted 4 ms late: still 0.002 rad in 10 ms each.
        for i, t in enumerate([9.0, 10.0, 10.014, 10.02, 10.03, 99.0]):
            reason = "it is hot" if t == 10.03 else ""
            log("guard", row(t, 0.002 * i, reason=reason, faults=["hot"] if reason else []))

    diary = written(tmp_path / "a.mcap", opened, lambda log: episode(log, 10.0, [1.0]),
                    lambda log: rollout(log, 1.0), guard)
    (lived,) = diary.lived
    assert lived.series is not None and len(lived.series.t) == 4  # from 10 s to 10.5 s
    np.testing.assert_allclose(lived.series.speed[1:, 0], 0.2)
    assert [event.what for event in lived.events] == ["latched: it is hot", "fault: hot"]
    assert lived.reward[1].tolist() == [1.0]
    text = said(tmp_path / "a.mcap")
    assert "latched: it is hot" in text and "Nothing: no fault" not in text


def test_what_the_guard_could_not_write_is_told_from_when_on(tmp_path: Path) -> None:
    def guard(log: Recorder) -> None:
        for t, lost in ((10.2, 0), (10.8, 3)):
            log("guard", row(t, 0.0, reason="", unlogged=lost))

    # The policy heard of 1,900 in its second step; the guard's own log tells of the first 3 alone.
    diary = written(tmp_path / "a.mcap", opened, lambda log: episode(log, 10.0, [1.0]),
                    lambda log: log("step", row(11.0, 0.2, reward=1.0, unlogged=1900)),
                    lambda log: rollout(log, 2.0), guard)
    (event,) = diary.events
    assert event.t == 10.8 and "1,900 of its reports are missing" in event.what
    assert "is the disk full?" in said(tmp_path / "a.mcap")


def test_pairs_are_told_apart_in_the_order_in_which_they_were_lived(tmp_path: Path) -> None:
    # In the twin no steps are logged; on the arm the adapted policy went first.
    def pair(log: Recorder) -> None:
        for name in ("base", "adapted"):
            rollout(log, 0.0, purpose="verify, twin", policy=name)
        for reward in (7.0, 1.0):
            episode(log, reward, [reward])
        rollout(log, 7.0, purpose="verify, arm", policy="adapted")
        rollout(log, 1.0, purpose="verify, arm", policy="base")

    diary = written(tmp_path / "a.mcap", opened, pair)
    assert [(e.policy, e.reward[1].tolist()) for e in diary.lived] == [
        ("adapted", [7.0]), ("base", [1.0])]
    assert [e.series is None for e in diary.episodes] == [True, True, False, False]


@pytest.mark.parametrize("first", [False, True])
def test_a_session_logs_its_pairs_in_that_order(first: bool) -> None:
    told: list[str] = []
    pair = Pair(Rollout(5, 0.0, "", False), Rollout(5, 1.0, "", False), first)
    _lived(pair, "arm", lambda topic, what: told.append(what["policy"]), lambda where, pair: None)
    assert told == (["adapted", "base"] if first else ["base", "adapted"])


def test_the_worst_joint_is_named(tmp_path: Path) -> None:
    # Joint one is at 0.09 of -1 ... 1 at most: 0.91 away; joint two at 0.5 of -2 ... 2: 1.5 away.
    written(tmp_path / "a.mcap", opened, lambda log: episode(log, 0.0, [0.0]),
            lambda log: rollout(log, 0.0))
    assert "one came nearest to one, to 0.91 rad" in said(tmp_path / "a.mcap")
    narrow = {**SESSION, "q_max": [0.05, 2.0]}
    written(tmp_path / "b.mcap", lambda log: log("session", narrow),
            lambda log: episode(log, 0.0, [0.0]), lambda log: rollout(log, 0.0))
    assert "one was 0.040 rad beyond its stop" in said(tmp_path / "b.mcap")


# The page.


def test_the_page_says_what_it_was_and_by_which_test_it_was_judged(tmp_path: Path) -> None:
    good, bad = Rollout(5, 1.0, "", False), Rollout(5, 0.0, "", False)
    found = Finding(Verdict.KEEP, "why", (Pair(bad, good, True),) * 9, 10, "arm")
    written(tmp_path / "a.mcap", opened, lambda log: log("verdict", found.as_dict()))
    text = said(tmp_path / "a.mcap")
    for what in ("2026-01-02 03:04:05 UTC", "mujoco 4", "dddddddddddddddd, adapted from "
                 "aaaaaaaaaaaaaaaa", "25% of the speed", "payload 1 kg", "9 wins of 10",
                 "exact one-sided sign test at 5%", "&lt;p&gt;"):
        assert what in text
    assert "<p>," not in text  # what a log says is not taken for HTML


SCRIPT = "$<script>alert(1)</script>"  # a lone $ would begin a formula for matplotlib


def scripted(what: Any) -> Any:
    """The same message with a script in every text and every name that are free."""
    if isinstance(what, dict):
        fixed = ("utc", "verdict", "verb", "arm")
        return {name: text if name in fixed else scripted(text) for name, text in what.items()}
    if isinstance(what, list | tuple):
        return type(what)(scripted(each) for each in what)
    return f"{what}{SCRIPT}" if isinstance(what, str) else what


def test_no_text_of_a_log_is_taken_for_html(tmp_path: Path) -> None:
    good, bad = Rollout(5, 1.0, "", False), Rollout(5, 0.0, "late", False)
    found = Finding(Verdict.KEEP, "why", (Pair(bad, good, True),) * 9, 10, "arm")
    check = {"name": "kl", "what": "its KL", "value": 2.0, "bound": None, "passed": False}
    item = {"name": "state", "mark": "ok", "found": "fine"}
    told = scripted([
        ("session", {**SESSION, "arm": SCRIPT, "operator": "Ada", "preflight": [item],
                     "words": {f"x{SCRIPT}": "1"}}),
        ("start", {"t": 0.0, "episode": 0, "q": [0.0, 0.5], "obs": []}),
        ("step", row(0.5, 0.1, reward=1.0, limits=["tube"])),
        ("abort", {"t": 0.5, "reason": "it was pushed"}),
        ("reset", {"t": 0.6, "needs_human": "put it back"}),
        ("rollout", {"purpose": "run", "return": 1.0, "steps": 1, "reason": "it was stopped"}),
        *(("rollout", {"purpose": "verify", "policy": name, "return": 1.0, "steps": 1,
                       "reason": "", f"m{SCRIPT}": 1.0}) for name in ("base", "adapted")),
        ("verdict", found.as_dict()),
        ("candidate", {"parent": "a", "candidate": "c", "finite": True, "checks": [check]}),
        ("identified", {"values": {f"v{SCRIPT}": 1.0}, "spread": {f"v{SCRIPT}": 0.1},
                        "place": {f"v{SCRIPT}": "inside"}}),
        ("guard", row(0.5, 0.1, reason="hot", faults=["hot"]))])
    written(tmp_path / "a.mcap", lambda log: [log(t.removesuffix(SCRIPT), m) for t, m in told])
    text = said(tmp_path / "a.mcap")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 40


@pytest.mark.parametrize(("topic", "message"), [
    ("session", {**SESSION, "speed": SCRIPT}), ("session", {**SESSION, "utc": SCRIPT}),
    ("session", {**SESSION, "joints": [1, 2]}), ("session", {**SESSION, "model": ["fr3"]}),
    ("session", {**SESSION, "operator": 1}), ("session", {**SESSION, "preflight": [{}]}),
    ("rollout", {"return": 1.0, "steps": SCRIPT}), ("rollout", {"return": SCRIPT}),
    ("rollout", {"return": 1.0, "policy": 1}), ("rollout", {"steps": 1}),
    ("verdict", {"where": "arm"}), ("identified", {"values": {"payload": SCRIPT}}),
    ("candidate", {"parent": "a", "candidate": 1, "finite": True, "checks": []}),
])
def test_what_is_no_number_where_one_belongs_is_no_log_of_ours(
    topic: str, message: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DamagedFile, match="makes no sense"):
        written(tmp_path / "a.mcap", lambda log: log(topic, message))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm") / "session"
    assert main(["robot", "adapt", str(POLICY), "--rehearse", "--folder", str(folder), "--pairs",
                 "5", "--episodes", "1", "--speed", "100", "--task", "goal_y=0.25"]) == 0
    return folder


def test_a_session_s_folder_becomes_a_page_that_stands_alone(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(session)]) == 0
    text = (session / "report.html").read_text()
    assert str(session / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert external(text) == [] and "<script" not in text and "virtual time" in text
    assert text.count("<svg") == 2 + 11  # returns, ranges; 1 + 2 * 5 episodes on the arm
    drawn = text[text.index("</style></head>"):]
    assert not any(c in drawn for c in (look.INK, look.MUTED, look.GRID, look.CARD))
    assert "verify, arm, adapted" in text and "verify, twin" in text


def test_a_figure_has_a_panel_for_each_joint_and_no_age_where_time_is_virtual(
    session: Path
) -> None:
    import matplotlib.pyplot as plt

    diary = read(session / "log.mcap")
    figure = figures.episode(diary.lived[0], diary.session["joints"])
    titles = {ax.get_title(loc="left") for ax in figure.axes}
    assert len(figure.axes) == 7 + 3 and "reward" in titles and "age of state [ms]" not in titles
    plt.close(figure)


def test_no_two_policies_of_a_page_have_the_same_colour(session: Path) -> None:
    import matplotlib.pyplot as plt

    figure = figures.returns(read(session / "log.mcap"))
    seen = {line.get_label(): line.get_color() for ax in figure.axes for line in ax.lines
            if not line.get_label().startswith("_")}
    assert {"this policy", "base", "adapted"} <= set(seen)
    assert len(set(seen.values())) == len(seen)
    plt.close(figure)


def test_logs_stand_beside_one_another(tmp_path: Path) -> None:
    logs = [tmp_path / "a.mcap", tmp_path / "b.mcap"]
    for path in logs:
        written(path, opened)
    assert main(["report", *map(str, logs), "--out", str(tmp_path / "x.html")]) == 0
    text = (tmp_path / "x.html").read_text()
    assert text.count('class="part"') == 2 and all(str(path) in text for path in logs)


# Damage.


def test_a_log_that_was_cut_off_is_shown_as_far_as_it_goes(session: Path, tmp_path: Path) -> None:
    whole = (session / "log.mcap").read_bytes()
    (tmp_path / "torn.mcap").write_bytes(whole[: len(whole) // 2])
    diary = read(tmp_path / "torn.mcap")
    assert not diary.whole and 1 <= len(diary.lived) < 11
    assert "The log was cut off" in said(tmp_path / "torn.mcap")
    assert diary.episodes[-1].purpose == "cut off" or not diary.episodes[-1].invalid


def test_another_number_than_was_written_is_damage(tmp_path: Path) -> None:
    written(tmp_path / "a.mcap", lambda log: log("note", {"payload": 31415.9}))
    whole = (tmp_path / "a.mcap").read_bytes()
    assert whole.count(b"31415.9") == 1  # too short to be compressed
    (tmp_path / "a.mcap").write_bytes(whole.replace(b"31415.9", b"31416.9"))
    with pytest.raises(DamagedFile, match="damaged one"):
        read(tmp_path / "a.mcap")


def test_a_log_that_lacks_its_middle_was_not_cut_off(session: Path, tmp_path: Path) -> None:
    whole = (session / "log.mcap").read_bytes()
    (tmp_path / "a.mcap").write_bytes(whole[: len(whole) // 2] + whole[-8:])
    with pytest.raises(DamagedFile, match="damaged one"):
        read(tmp_path / "a.mcap")


@pytest.mark.parametrize(("make", "code", "line"), [
    (lambda path: path.write_bytes(b""), 3, "no MCAP log"),
    (lambda path: path.write_bytes(b"\x89MCAP0\r\n\x01"), 3, "cut off before anything was kept"),
    (lambda path: path.mkdir(), 2, "is a folder, not a log"),
    (lambda path: path.write_bytes(b"a page, not a log " * 20), 3, "no MCAP log"),
    (lambda path: None, 2, "cannot read"),
    (lambda path: written(path, lambda log: log("abort", {"t": 1.0})), 3, "makes no sense"),
    (lambda path: written(path, lambda log: log("session", {"verb": "run"})), 3, "no sense"),
])
def test_a_bad_log_is_one_line(
    make: Any, code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_arm_report.read", lambda path: None)  # make it, and no more
        make(path)
    assert main(["report", str(path)]) == code
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and line in told.err
    assert not (tmp_path / "report.html").exists()


def test_an_unknown_path_is_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nothing"), "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
