"""The sections of a page about an arm's log."""

import html
from collections import Counter
from typing import Any

import numpy as np

from metarl.display import number
from metarl.report import Page, facts, folded, paragraph, picture, table
from metarl.robot import figures
from metarl.robot.candidate import FACTOR, TASKS
from metarl.robot.diary import HARMLESS, Diary, Episode, when
from metarl.robot.gate import ALPHA, Verdict, wins_needed

_MARKS = {Verdict.KEEP: "better", Verdict.ROLL_BACK: "worse", Verdict.REFUSED: "worse"}


def arm_sections(page: Page, diary: Diary) -> None:
    """Append all that a log tells."""
    if not diary.whole:
        page.section("The log was cut off", paragraph(
            "It was not closed: a crash, or a process that was killed. This page shows what was "
            "written until then.", "warn"))
    _what(page, diary)
    _verdict(page, diary)
    _identified(page, diary)
    _wrong(page, diary)
    _episodes(page, diary)
    _health(page, diary)
    _each(page, diary)


def _what(page: Page, diary: Diary) -> None:
    """Who did what to which arm."""
    said = diary.session
    if not said:
        page.section("What it was", paragraph(
            "The log does not say: it ends before the session began.", "warn"))
        return
    arm = (f"a twin of {said['model']} in virtual time, in place of an arm"
           if said["arm"] == "rehearsal" else f"{said['arm']}: {said['model']}")
    moved = ("a rehearsal: no arm, no guard" if said["arm"] == "rehearsal" else
             "a simulation" if said["arm"] == "twin" else
             "live: targets were sent to the arm" if said["live"] else
             "a dry run: nothing was sent to the arm")
    rows = [
        ("when", f"{_when(said['utc'])}, metarl {said['metarl']}"),
        ("what", f"metarl robot {said['verb']}"),
        ("arm", f"{arm}, {len(said['joints'])} joints, spec {said['spec'][:12]}"),
        ("driver", said["driver"]), ("authority", f"{moved}; {said['speed']:.0%} of the speed that "
                                     "it was trained at"),
        ("policy", f"{said['agent']} on {said['family']}, {said['policy']}"),
        ("its hash", f"{said['digest'][:16]}" + (f", adapted from {said['parent'][:16]}"
                                                 if said["parent"] else ", a base")),
        ("task, for rewards alone", ", ".join(f"{k} {v}" for k, v in said["words"].items())),
    ]
    if said.get("operator"):
        rows.append(("operator", said["operator"]))
    if diary.shadow:
        rows.append(("watched", f"{diary.shadow} steps; nothing was sent"))
    parts = [facts(rows)]
    if said.get("preflight"):
        parts.append(folded("What was looked at before anything moved", table(
            ("pre-flight", "", "found"),
            [(item["name"], item["mark"], item["found"]) for item in said["preflight"]])))
    page.section("What it was", *parts)


def _when(utc: str) -> str:
    """A run's time stamp, for people."""
    return f"{when(utc):%Y-%m-%d %H:%M:%S} UTC"


def _verdict(page: Page, diary: Diary) -> None:
    """What the gate decided, and by which test."""
    if not diary.verdicts and not diary.candidate:
        return
    parts = []
    if diary.verdicts:
        last = diary.verdicts[-1]
        mark = _MARKS.get(Verdict(last["verdict"]), "")
        why = html.escape(f"on the {last['where']}: {last['reason']}")
        parts.append(f'<p><strong class="{mark}">{html.escape(last["verdict"].capitalize())}'
                     f"</strong>, {why}.</p>")
        planned = last["planned"]
        parts.append(paragraph(
            f"The test, fixed beforehand: the exact one-sided sign test at {ALPHA:.0%} on "
            f"{planned} pairs of episodes from equal starts, base and adapted in random order. "
            f"{wins_needed(planned)} wins of {planned} show that the adapted policy is better, as "
            "many losses that it is worse; anything else is called not shown, and the base goes "
            "on. It speaks of this arm and this task alone."))
        parts.append(table(
            ("verified", "pairs", "won", "lost", "p", "verdict"),
            [(v["where"], f"{len(v['pairs'])} of {v['planned']}", str(v["wins"]),
              str(v["losses"]), f"{v['p']:.3f}", v["verdict"]) for v in diary.verdicts]))
    page.section("Verdict", *parts, *_candidate(diary))


def _candidate(diary: Diary) -> list[str]:
    """What was looked at before the candidate might move the arm."""
    found = diary.candidate
    if not found:
        return []
    said = paragraph(
        f"Candidate {found['candidate'][:16]}, from {found['parent'][:16]}. Each figure is bounded "
        f"by {FACTOR:g} times the most of {TASKS} adaptations in the twin to tasks that the agent "
        "was trained on, which was measured before the arm moved.", "note")
    figures = table(
        ("before it may move the arm", "figure", "bound", ""),
        [(check["what"], _number(check["value"]), _number(check["bound"]),
          "ok" if check["passed"] else "fails") for check in found["checks"]])
    why = [check["what"] for check in found["checks"] if not check["passed"]]
    if found["finite"] and not why:
        return [said, figures]
    reason = f"out of bounds: {'; '.join(why)}" if why else "it holds what is not finite"
    mark = _MARKS[Verdict.REFUSED]
    return [f'<p><strong class="{mark}">Refused</strong>, before it moved the arm: '
            f"{html.escape(reason)}.</p>", said, figures if why else ""]


def _number(value: float | None) -> str:
    """A figure; the log has null for one that is not a number."""
    return "-" if value is None else f"{value:.3g}"


def _identified(page: Page, diary: Diary) -> None:
    found = diary.identified
    if found:
        page.section("Which arm this is", table(
            ("parameter", "fitted", "± 95 %", "in training"),
            [(name, f"{value:.3g}", f"{found['spread'][name]:.2g}",
              found["place"].get(name, "-")) for name, value in found["values"].items()]))


def _wrong(page: Page, diary: Diary) -> None:
    """Faults, latches, stops, and when a person was needed."""
    if not diary.lived and not diary.events:
        return
    if not diary.events:
        page.section("What went wrong", paragraph(
            "Nothing: no fault, no latch, no stop, and nobody had to help."))
        return
    rows = []
    for event in diary.events:
        owner = next((e for e in diary.lived if event in e.events), None)
        rows.append((event.what, *(("between episodes", "-") if owner is None else
                                   (str(owner.number), f"{event.t - owner.began:.2f}"))))
    page.section("What went wrong", table(("", "episode", "s since it began"), rows))


def _episodes(page: Page, diary: Diary) -> None:
    """The table, and what each episode earned."""
    if not diary.episodes:
        page.section("Episodes", paragraph("There were none."))
        return
    shown = diary.episodes
    success, paired = any("success" in e.outcome for e in shown), any(e.policy for e in shown)
    columns = ["", *(["policy"] if paired else []), "return", *(["success"] if success else []),
               "steps", "worst tracking [mrad]", "oldest state [ms]", "limited", "valid"]
    rows = []
    for e in shown:
        series = e.series
        rows.append([
            html.escape(f"{e.number} {e.purpose}"),
            *([html.escape(e.policy) or "-"] if paired else []), number(e.outcome["return"]),
            *([_yes(e.outcome.get("success"))] if success else []), str(e.steps),
            *(["-"] * 3 if series is None else [
                f"{1e3 * np.abs(series.behind).max():.1f}", f"{1e3 * series.age.max():.1f}",
                f"{series.troubled:.0%}"]),
            f'<span class="why">no: {html.escape(e.invalid)}</span>' if e.invalid else "yes"])
    valid = sum(not e.invalid for e in shown)
    page.section(
        "Episodes",
        paragraph(f"{valid} of {len(shown)} count. Limited is the share of the time in which the "
                  "guard changed the target by more than rounding off a jump of the velocity "
                  f"({', '.join(sorted(HARMLESS))})."),
        picture(figures.returns(diary), "returns of the episodes"),
        folded(f"All {len(shown)} episodes", table(columns, rows, markup=True))
        if len(shown) > 12 else table(columns, rows, markup=True))


def _yes(value: float | None) -> str:
    return "-" if value is None else '<span class="better">yes</span>' if value else "no"


def _health(page: Page, diary: Diary) -> None:
    """Joint ranges, delays and limits over all episodes."""
    if not diary.lived:
        return
    if diary.session:
        page.section(
            "Inside the joints' limits",
            paragraph(_outside(diary)), picture(figures.ranges(diary), "ranges of the joints"))
    ages = 1e3 * np.concatenate([e.series.age for e in diary.lived if e.series is not None])
    samples: dict[str, Any] = {"age of the state": ages}
    for name, said in (("observation_ms", "observation, standing still"),
                       ("command_ms", "command, standing still")):
        if values := diary.session.get("latency", {}).get(name):
            samples[said] = values
    if ages.max() > 0:
        page.section(
            "How late it was",
            paragraph("How old the arm's state was whenever the guard, or without one the policy, "
                      "acted on it; and the delays measured before the first episode, from the "
                      "encoders to the policy and from the policy to a guard that follows."),
            picture(figures.delays(samples), "delays"))
    counts = Counter(r for e in diary.lived if e.series is not None for each in e.series.limits
                     for r in each)
    total = sum(len(e.series.t) for e in diary.lived if e.series is not None)
    if counts:
        page.section("What the guard limited", table(
            ("limit", "samples", "share"),
            [(name, f"{count:,}", f"{count / total:.1%}") for name, count in
             counts.most_common()]))


def _outside(diary: Diary) -> str:
    """Whether every joint stayed between its stops."""
    q = np.concatenate([e.series.q for e in diary.lived if e.series is not None])
    low, high = np.array(diary.session["q_min"]), np.array(diary.session["q_max"])
    nearest = np.minimum(q - low, high - q).min(0)
    worst = int(nearest.argmin())
    name = diary.session["joints"][worst]
    if nearest[worst] < 0:
        return f"{name} was {-nearest[worst]:.3f} rad beyond its stop."
    return (f"Every joint stayed between its stops; {name} came nearest to one, to "
            f"{nearest[worst]:.2f} rad.")


def _each(page: Page, diary: Diary) -> None:
    """A figure for each episode on the arm."""
    joints = diary.session.get("joints")
    if not diary.lived or not joints:
        return
    parts = [paragraph(
        "Left, joint by joint, the velocity that the policy requested, that of the targets which "
        "the guard applied, and what the arm did. Right, how far it was behind its targets, when "
        "and why the guard changed one (red; grey marks round off a jump and are no trouble), how "
        "old the state was, and the reward. A red line is a fault, a latch or a stop.")]
    for i, episode in enumerate(diary.lived):
        drawn = picture(figures.episode(episode, joints), f"episode {episode.number}")
        parts.append(f"<h3>{html.escape(_title(episode))}</h3>{drawn}" if i == 0 else
                     folded(_title(episode), drawn))
    page.section("Each episode on the arm", *parts)


def _title(episode: Episode) -> str:
    which = ", ".join(filter(None, (episode.purpose, episode.policy)))
    earned = f"Episode {episode.number}, {which}: return {episode.outcome['return']:.2f}"
    why = [episode.invalid] if episode.invalid else []
    why += [event.what for event in episode.events if episode.invalid not in event.what]
    return f"{earned}; {'; '.join(why)}" if why else earned
