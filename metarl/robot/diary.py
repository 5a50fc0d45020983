"""A log of an arm read back: the session, its episodes as arrays, and what went wrong when.

What the guard logged by itself, at its own rate, is taken where there is any; else what the policy
saw after each control step.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.errors import DamagedFile
from metarl.robot.arm import Vector
from metarl.robot.gate import Verdict
from metarl.robot.log import is_whole, messages

_TWIN = "verify, twin"  # purpose of rollouts that no steps are logged of
_TEXTS = ("verb", "utc", "metarl", "arm", "driver", "model", "spec", "family", "agent", "policy",
          "digest")
_NUMBER = int | float
# What messages must hold for a page to say it: by name; in each of a list; (in each of a mapping,).
_SESSION = {**dict.fromkeys(_TEXTS, str), "live": bool, "joints": [str], "q_min": [_NUMBER],
            "q_max": [_NUMBER], "limits": dict | None, "speed": _NUMBER, "parent": str | None,
            "words": (str,)}
_PREFLIGHT = [{"name": str, "mark": str, "found": str}]
_VERDICT = {"where": str, "verdict": str, "reason": str, "planned": int, "wins": int,
            "losses": int, "p": _NUMBER, "pairs": list}
_CANDIDATE = {"parent": str, "candidate": str, "finite": bool, "checks": [
    {"what": str, "value": _NUMBER | None, "bound": _NUMBER | None, "passed": bool}]}
_IDENTIFIED = {"values": (_NUMBER,), "spread": (_NUMBER,), "place": (str,)}
_ROLLOUT = {"purpose": str, "policy": str, "steps": int, "reason": str}
# Why a target changes with no trouble: a policy's velocities jump, and the guard rounds that off.
HARMLESS = frozenset({"acceleration"})


@dataclass(frozen=True)
class Series:
    """T samples of J joints along one episode."""

    t: Vector  # (T,) s since the episode began
    q: NDArray[np.float64]  # (T, J) rad
    dq: NDArray[np.float64]  # (T, J) rad/s
    requested: NDArray[np.float64]  # (T, J) rad/s
    applied: NDArray[np.float64]  # (T, J) rad, targets
    age: Vector  # (T,) s, of the state
    limits: tuple[tuple[str, ...], ...]  # T times, what changed the target

    @property
    def behind(self) -> NDArray[np.float64]:
        """Tracking error (T, J), rad: targets minus measured angles."""
        return self.applied - self.q

    @property
    def speed(self) -> NDArray[np.float64]:
        """Of the targets (T, J), rad/s; NaN at the first, before which none is known."""
        lasts = np.maximum(np.diff(self.t), 1e-9)
        # A guard's targets are one period apart, however late it noted them.
        lasts = np.where(lasts < 2 * np.median(lasts), np.median(lasts), lasts) if len(lasts) \
            else lasts
        return np.concatenate([np.full_like(self.applied[:1], np.nan),
                               np.diff(self.applied, axis=0) / lasts[:, None]])

    def limited(self, reason: str) -> Vector:
        """Times (n,) at which a limit changed the target."""
        return np.array([t for t, found in zip(self.t, self.limits, strict=True)
                         if reason in found])

    @property
    def troubled(self) -> float:
        """The share of the samples in which the guard did more than round off."""
        return float(np.mean([bool(set(found) - HARMLESS) for found in self.limits] or [0.0]))


@dataclass(frozen=True)
class Event:
    """Something that should not happen."""

    t: float  # s, as in the log
    what: str


@dataclass(frozen=True)
class Episode:
    """One episode, as far as it was logged."""

    number: int  # from 1
    purpose: str
    policy: str  # base or adapted, of a pair; "" else
    invalid: str  # why it does not count
    outcome: Mapping[str, float]  # return, success ...
    steps: int
    series: Series | None  # None in a twin, of which no steps are kept
    began: float = 0.0  # s, as in the log
    reward: tuple[Vector, Vector] = (np.zeros(0), np.zeros(0))  # times (S,) [s], rewards (S,)
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Diary:
    """All that a log tells."""

    path: Path
    session: Mapping[str, Any]
    episodes: list[Episode]
    verdicts: list[dict[str, Any]]
    candidate: Mapping[str, Any]
    identified: Mapping[str, Any]
    events: list[Event]
    shadow: int  # steps that were watched
    whole: bool  # False: the log was cut off

    @property
    def lived(self) -> list[Episode]:
        """Those on the arm."""
        return [episode for episode in self.episodes if episode.series is not None]


def read(path: Path) -> Diary:
    """Read a log. Raises DamagedFile, or UserError where it cannot be read."""
    told: dict[str, list[Any]] = defaultdict(list)
    parts: list[list[Any]] = []  # of each episode on the arm
    for topic, message in messages(path):
        told[topic].append(message)
        if topic == "start":
            parts.append([message])
        elif topic in ("step", "episode", "abort") and parts:
            parts[-1].append(message)
    try:
        events = [Event(m["t"], f"stopped: {m['reason']}") for m in told["abort"]]
        events += [Event(m["t"], f"needs a person: {m['needs_human']}") for m in told["reset"]]
        events += [*_alarms(told["guard"]), *_gaps([*told["step"], *told["guard"]])]
        events = sorted(events, key=lambda event: event.t)
        for verdict in told["verdict"]:
            _check(verdict, _VERDICT, "verdict")
            Verdict(verdict["verdict"])
        return Diary(
            path, _session(told["session"]),
            _episodes(parts, told["rollout"], told["guard"], events),
            told["verdict"], _last(told["candidate"], _CANDIDATE, "candidate"),
            _last(told["identified"], _IDENTIFIED, "identified"), events,
            len(told["shadow"]), is_whole(path))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path} holds a message that makes no sense: {error}") from None


def _session(told: list[Any]) -> dict[str, Any]:
    """What a session says of itself, the last time that it does."""
    found = _last(told, _SESSION, "session")
    if found:
        _check(found.get("operator", ""), str, "operator")
        _check(found.get("preflight", []), _PREFLIGHT, "preflight")
        _check(found.get("latency", {}), ([_NUMBER],), "latency")
        when(found["utc"])
    return found


def when(utc: str) -> datetime:
    """The time that a time stamp tells. Raises ValueError."""
    return datetime.strptime(utc, "%Y%m%dT%H%M%SZ")


def _last(told: list[Any], kind: Any, name: str) -> dict[str, Any]:
    if told:
        _check(told[-1], kind, name)
    return told[-1] if told else {}


def _check(value: Any, kind: Any, name: str) -> None:
    """Raise TypeError, or KeyError, unless a message is of a kind as above."""
    whole = {list: list, dict: dict, tuple: dict}.get(type(kind), kind)
    if not isinstance(value, whole):
        raise TypeError(f"{name} is of type {type(value).__name__}")
    if isinstance(kind, dict):
        for key, part in kind.items():
            _check(value[key], part, f"{name}, {key}")
    elif isinstance(kind, list | tuple):
        for part in value if isinstance(kind, list) else value.values():
            _check(part, kind[0], name)


def _alarms(ticks: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Faults of the arm and latches of the guard, when they began."""
    found, before = [], ("", ())
    for tick in ticks:
        now = (tick["reason"], tuple(tick["faults"]))
        if now[0] and now[0] != before[0]:
            found.append(Event(tick["t"], f"latched: {now[0]}"))
        found += [Event(tick["t"], f"fault: {text}") for text in now[1] if text not in before[1]]
        before = now
    return found


def _gaps(seen: Iterable[Mapping[str, Any]]) -> list[Event]:
    """When the guard could first not write its own log, and how often in all."""
    lost = [(m["t"], m["unlogged"]) for m in seen if m.get("unlogged")]
    if not lost:
        return []
    (began, _), most = min(lost), max(count for _, count in lost)
    return [Event(began, f"the guard could not write its log (is the disk full?): {most:,} of its "
                         "reports are missing")]


def _episodes(
    parts: list[list[Any]], rollouts: list[Any], ticks: list[Any], events: list[Event]
) -> list[Episode]:
    """Rollouts with the steps that they were made of. Both lie in the log in the order in which
    they were lived; of those in a twin there are no steps."""
    made, left = [], iter(parts)
    times = np.array([tick["t"] for tick in ticks])
    for rollout in rollouts:
        part = None if rollout["purpose"] == _TWIN else next(left, None)
        made.append(_episode(len(made) + 1, rollout, part, ticks, times, events))
    for part in left:  # nobody lived to say what became of it
        lost = {"purpose": "cut off", "return": sum(m.get("reward", 0.0) for m in part),
                "steps": 0, "reason": "the log ends in it"}
        made.append(_episode(len(made) + 1, lost, part, ticks, times, events))
    return made


def _episode(
    number: int, rollout: Mapping[str, Any], part: list[Any] | None, ticks: list[Any],
    times: Vector, events: list[Event],
) -> Episode:
    said = {name: kind() for name, kind in _ROLLOUT.items()} | dict(rollout)
    _check(said, {**_ROLLOUT, "return": _NUMBER | None}, "rollout")
    purpose, policy, steps, invalid = (said.pop(name) for name in _ROLLOUT)
    said.pop("valid", None)
    outcome = {name: np.nan if value is None else float(value) for name, value in said.items()}
    one = Episode(number, purpose, policy, invalid, outcome, steps, None)
    if part is None or len(part) < 2:
        return one
    began, ended = part[0]["t"], part[-1]["t"]
    lived = [message for message in part if "reward" in message]
    inside = ticks[np.searchsorted(times, began): np.searchsorted(times, ended, side="right")]
    rows = inside or lived
    if not rows:
        return one
    t, rewards = (np.array([m[name] for m in lived], float) for name in ("t", "reward"))
    mine = tuple(event for event in events if began <= event.t <= ended)
    return Episode(number, purpose, policy, invalid, outcome, steps or len(lived),
                   _series(rows, began), began, (t - began, rewards), mine)


def _series(rows: list[Any], began: float) -> Series:
    t, q, dq, requested, applied, age = (
        np.array([row[name] for row in rows], float)
        for name in ("t", "q", "dq", "requested", "applied", "age"))
    if q.ndim != 2 or not q.shape == dq.shape == requested.shape == applied.shape:
        raise ValueError("samples of different lengths")
    return Series(t - began, q, dq, requested, applied, age,
                  tuple(tuple(row["limits"]) for row in rows))
