"""The figures of an arm's log, in the look of metarl.figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl.look import INK, MUTED, plain, themed
from metarl.robot.diary import HARMLESS, Diary, Episode, Series

REQUESTED, APPLIED, MEASURED = "#9aa5b1", "#3b7dd8", "#e08a1e"
BASE, ADAPTED, WRONG = "#8d96a0", "#3b7dd8", "#d1495b"
LIVING = "#2a9d6e"  # the policy that adapts or runs, which is neither of these two
_JOINTS = ("#3b7dd8", "#e08a1e", "#2a9d6e", "#9a5fd0", "#d1495b", "#17a2b0", "#8a6d3b")
_POINTS = 300  # of a line


def returns(diary: Diary) -> Any:
    """What each episode earned: while adapting or running, and pair by pair."""
    groups: dict[str, list[Episode]] = {}
    for episode in diary.episodes:
        groups.setdefault(episode.purpose, []).append(episode)
    plt = themed()
    figure, axes = plt.subplots(1, len(groups), squeeze=False, sharey=True,
                                figsize=(min(3.6 * len(groups), 10.8), 2.9))
    for ax, (purpose, episodes) in zip(axes.flat, groups.items(), strict=True):
        plain(ax)
        ax.set_title(purpose, fontsize=10)
        (_pairs if episodes[0].policy else _sequence)(ax, episodes)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("return")
    _legend(figure, axes.flat)
    return figure


def _sequence(ax: Any, episodes: Sequence[Episode]) -> None:
    numbers = np.arange(1, len(episodes) + 1)
    ax.plot(numbers, [e.outcome["return"] for e in episodes], color=LIVING, lw=1.4)
    _dots(ax, numbers, episodes, LIVING, "this policy")
    ax.set_xlabel("episode")


def _pairs(ax: Any, episodes: Sequence[Episode]) -> None:
    """A line from the base's return to the candidate's, for each pair."""
    both = {name: [e for e in episodes if e.policy == name] for name in ("base", "adapted")}
    for x, (one, other) in enumerate(zip(both["base"], both["adapted"], strict=False), start=1):
        ax.plot([x, x], [one.outcome["return"], other.outcome["return"]], color=MUTED, lw=1,
                alpha=0.5)
    for (name, each), colour in zip(both.items(), (BASE, ADAPTED), strict=True):
        _dots(ax, np.arange(1, len(each) + 1), each, colour, name)
    ax.set_xlabel("pair")


def _dots(ax: Any, x: Any, episodes: Sequence[Episode], colour: str, label: str) -> None:
    valid = np.array([not e.invalid for e in episodes], bool)
    y = np.array([e.outcome["return"] for e in episodes])
    ax.plot(x[valid], y[valid], "o", color=colour, ms=5.5, label=label)
    if not valid.all():
        ax.plot(x[~valid], y[~valid], "x", color=WRONG, ms=7, mew=2, label="invalid")


def episode(found: Episode, joints: Sequence[str]) -> Any:
    """One episode: velocities joint by joint; tracking error, limits, age and reward."""
    assert found.series is not None
    series, rows = found.series, len(joints)
    plt = themed()
    with plt.rc_context({"figure.constrained_layout.use": False, "font.size": 8.5}):
        figure = plt.figure(figsize=(11, 0.78 * rows + 1.3))
    halves = figure.add_gridspec(1, 2, wspace=0.22, width_ratios=(1.05, 1))
    left, reasons = halves[0].subgridspec(rows, 1, hspace=0.22), _reasons(series)
    late = bool(series.age.any())  # in virtual time nothing is
    heights = (2.0, max(0.35 * len(reasons), 0.3), *((1.0,) if late else ()), 1.3)
    right = halves[1].subgridspec(len(heights), 1, hspace=0.55, height_ratios=heights)
    first = figure.add_subplot(left[0])
    for i, name in enumerate(joints):
        ax = figure.add_subplot(left[i], sharex=first) if i else first
        _velocity(ax, series, i, name, last=i + 1 == rows)
    first.set_title("joint velocity [rad/s]", fontsize=9, loc="left", pad=22)
    _above(first, 3)
    panels = [figure.add_subplot(right[i], sharex=first) for i in range(len(heights))]
    _tracking(panels[0], series, joints)
    _limits(panels[1], series, reasons)
    if late:
        _line(panels[2], series.t, 1e3 * series.age, "age of state [ms]", MEASURED)
        panels[2].set_ylim(0)
    _line(panels[-1], *found.reward, "reward", ADAPTED)
    panels[-1].set_xlabel("s since the episode began")
    for event in found.events:
        for ax in figure.axes:
            ax.axvline(event.t - found.began, color=WRONG, lw=1.2)
    return figure


def _reasons(series: Series) -> list[str]:
    """The limits that changed a target, the harmless ones last."""
    found = {reason for each in series.limits for reason in each}
    return sorted(found, key=lambda reason: (reason in HARMLESS, reason))


def _velocity(ax: Any, series: Series, joint: int, name: str, last: bool) -> None:
    plain(ax)
    every = slice(None, None, max(1, len(series.t) // _POINTS))
    t = series.t[every]
    for values, colour, label, width in (
        (series.requested, REQUESTED, "requested", 2.8), (series.dq, MEASURED, "measured", 1.1),
        (series.speed, APPLIED, "applied", 1.1),
    ):
        ax.plot(t, values[every, joint], color=colour, lw=width, label=label)
    ax.axhline(0, color=MUTED, lw=0.5)
    ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    ax.locator_params(axis="y", nbins=3)
    ax.tick_params(labelbottom=last)
    if last:
        ax.set_xlabel("s since the episode began")


def _tracking(ax: Any, series: Series, joints: Sequence[str]) -> None:
    plain(ax)
    every = slice(None, None, max(1, len(series.t) // _POINTS))
    for i, name in enumerate(joints):
        ax.plot(series.t[every], 1e3 * series.behind[every, i], lw=1.1, label=name,
                color=_JOINTS[i % len(_JOINTS)])
    ax.axhline(0, color=MUTED, lw=0.5)
    ax.set_title("target minus measured angle [mrad]", fontsize=9, loc="left", pad=22)
    _above(ax, len(joints))


def _above(ax: Any, columns: int) -> None:
    """A legend in one line between a panel and its title."""
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), frameon=False, fontsize=7.5,
              borderaxespad=0.1, handlelength=1.0, columnspacing=0.9, ncols=columns,
              handletextpad=0.4)


def _limits(ax: Any, series: Series, reasons: Sequence[str]) -> None:
    """A mark for each sample in which a limit changed the target."""
    plain(ax, grid=False)
    ax.set_title("the guard changed the target" if reasons else
                 "the guard changed no target", fontsize=9, loc="left")
    ax.spines["left"].set_visible(False)
    for y, reason in enumerate(reasons):
        times = series.limited(reason)
        colour = MUTED if reason in HARMLESS else WRONG
        ax.plot(times, np.full(len(times), -y), "|", color=colour, ms=9, mew=1.1)
    ax.set_yticks([-y for y in range(len(reasons))], list(reasons))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-len(reasons) + 0.4, 0.6)


def _line(ax: Any, t: Any, values: Any, title: str, colour: str) -> None:
    plain(ax)
    ax.plot(t, values, color=colour, lw=1.4)
    ax.set_title(title, fontsize=9, loc="left")
    ax.locator_params(axis="y", nbins=4)


def ranges(diary: Diary) -> Any:
    """Where each joint has been, between its stops and inside the guard's limits."""
    session = diary.session
    low, high = np.array(session["q_min"]), np.array(session["q_max"])
    every = np.concatenate([e.series.q for e in diary.lived if e.series is not None])
    rows = len(low)
    plt = themed()
    figure, axes = plt.subplots(1, 1, figsize=(8.5, 0.42 * rows + 0.9))
    plain(axes, grid=False)

    def share(q: Any) -> Any:
        return (np.asarray(q) - low) / (high - low)

    y = np.arange(rows)[::-1]
    axes.barh(y, 1, height=0.42, facecolor="none", edgecolor=MUTED, lw=0.8,
              label="between the stops")
    if session["limits"]:
        least, most = share(session["limits"]["q_min"]), share(session["limits"]["q_max"])
        axes.barh(y, most - least, left=least, height=0.42, color=MUTED, alpha=0.25,
                  label="inside the guard's limits")
    axes.barh(y, share(every.max(0)) - share(every.min(0)), left=share(every.min(0)), height=0.42,
              color=APPLIED, label="where it was")
    for row, joint_low, joint_high in zip(y, low, high, strict=True):
        axes.text(-0.01, row, f"{joint_low:.2f}", ha="right", va="center", fontsize=8)
        axes.text(1.01, row, f"{joint_high:.2f} rad", ha="left", va="center", fontsize=8)
    axes.set_yticks(y, session["joints"])
    axes.tick_params(axis="y", length=0, pad=32)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlim(-0.002, 1.002)
    _legend(figure, [axes])
    return figure


def delays(samples: Mapping[str, Sequence[float]]) -> Any:
    """Histograms of delays [ms], by name."""
    plt = themed()
    figure, axes = plt.subplots(1, len(samples), squeeze=False,
                                figsize=(3.6 * len(samples), 2.3))
    for ax, (name, values) in zip(axes.flat, samples.items(), strict=True):
        plain(ax)
        ax.hist(values, bins=min(30, max(5, len(values) // 8)), color=APPLIED, alpha=0.85)
        late = float(np.quantile(values, 0.99))
        ax.axvline(late, color=WRONG, lw=1.3)
        ax.annotate(f"99 %: {late:.1f} ms", (late, 1.0), xycoords=("data", "axes fraction"),
                    xytext=(-4, -2), textcoords="offset points", ha="right", va="top",
                    fontsize=8.5, color=INK)
        ax.set_xlim(0)
        ax.set_xlabel(f"{name} [ms]")
    axes[0, 0].set_ylabel("samples")
    return figure


def _legend(figure: Any, axes: Any) -> None:
    seen: dict[str, Any] = {}
    for ax in axes:
        seen |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(seen.values(), seen.keys(), loc="outside upper left", frameon=False, ncols=5,
                  handlelength=1.6)
