"""The adaptation gate in sessions of which one knows whether the adaptation helped.

Each session has an arm of its own, in virtual time, with flaws that training did not have, a hidden
goal, a base policy and a candidate. Some adaptations are sound, others went wrong: the goal was
moved afterwards, or the reward had the wrong sign. What a candidate is really worth is its mean
gain over independent pairs of episodes that the gate does not see: it helps above a margin, hurts
below minus that, and in between counts as neither. Sessions are drawn until there are enough.

    python -m experiments.benchmarks.gate --sessions 50
"""

import argparse
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import metarl
from experiments.record import record
from metarl.agent import Agent
from metarl.envs.arrays import Array
from metarl.envs.family import Frame, draw_task
from metarl.envs.reach import Reach
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws, Role, generator
from metarl.robot.arm import ArmError
from metarl.robot.gate import Verdict, verify
from metarl.robot.rollout import Hands, prior
from metarl.robot.worlds import Authority
from metarl.testing.body import Flaws
from metarl.testing.direct import rehearsal

_POLICY = Path(__file__).parents[2] / "tests" / "policies" / "reach_fr3"
_PAIRS = 10
_TRUTH = 6  # independent pairs
_MARGIN = 2.0  # of return, where an adapted policy gets about 50
_KINDS = ("sound", "goal moved", "reward flipped")


class Flipped(Reach):
    """Whoever wired the reward mistook its sign."""

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return -super().reward(before, action, after, task)


@dataclass(frozen=True)
class Session:
    """What happened."""

    kind: str
    gain: float  # mean, over the independent pairs
    verdict: Verdict
    episodes: int  # that the gate needed


def run(agent: Agent, number: int) -> Session:
    """Session `number`: its kind, its flaws, its tasks and its starts are drawn from that alone."""
    draw = generator(number, 0, 0, Role.TASK_SET)
    flaws = Flaws(
        payload=draw.uniform(0, 1), friction=draw.uniform(0, 1), backlash=draw.uniform(0, 5e-3),
        noise=draw.uniform(0, 1e-3),
    )
    family, kind = Reach(), _KINDS[int(draw.integers(len(_KINDS)))]
    goal = draw_task(family, "test", 2 * number)[None]
    other = draw_task(family, "test", 2 * number + 1)[None]
    worlds = rehearsal(family, goal, Authority(0.5), flaws=flaws, delay=draw.uniform(0, 0.02),
                       seed=number)
    hands = Hands(agent, worlds)
    base = prior(agent, worlds, number)
    if draw.integers(2):  # the base has adapted before: to another goal, or soundly to this one
        worlds.set_tasks(other if kind == "sound" else goal)
        _, base = hands.adapt(base, 2, Draws.of(number, EVALUATION + 1, 1))
    worlds.set_tasks(other if kind == "goal moved" else goal)
    worlds.family = Flipped() if kind == "reward flipped" else worlds.family
    _, adapted = hands.adapt(prior(agent, worlds, number + 1), 3,
                             Draws.of(number, EVALUATION + 2, 1))
    worlds.set_tasks(goal)
    worlds.family = Reach()
    found = verify(hands, base, adapted, _PAIRS, number, "arm")
    return Session(kind, _gain(hands, base, adapted, number), found.verdict, 2 * len(found.pairs))


def _gain(hands: Hands, base: Any, adapted: Any, number: int) -> float:
    """How much more the candidate gets than the base, on average."""
    gains = []
    for i in range(_TRUTH):
        draws = Draws.of(number, EVALUATION + 1000 + i, 1)
        gains.append(hands.roll(adapted, draws)[0].total - hands.roll(base, draws)[0].total)
    return statistics.mean(gains)


def main() -> None:
    """Print each session and record the shares."""
    parser = argparse.ArgumentParser(description="Judge the adaptation gate.")
    parser.add_argument("--sessions", type=int, default=50, help="of either kind")
    wanted = parser.parse_args().sessions
    torch.set_num_threads(1)
    agent = metarl.load(_POLICY).agent
    helpful: list[Session] = []
    harmful: list[Session] = []
    number = 0
    neither: list[Session] = []
    while min(len(helpful), len(harmful)) < wanted:
        number += 1
        try:
            session = run(agent, number - 1)
        except ArmError as problem:
            print(f"{number:4}  no candidate: {problem}", flush=True)
            continue
        found = helpful if session.gain > _MARGIN else harmful
        found = neither if abs(session.gain) <= _MARGIN else found
        if len(found) < wanted:
            found.append(session)
            print(f"{number:4}  {session.kind:15} gain {session.gain:8.2f}  {session.verdict:10}"
                  f"  {session.episodes} episodes", flush=True)
    for name, sessions in (("helpful", helpful), ("harmful", harmful), ("neither", neither)):
        print(name, dict(Counter(str(session.verdict) for session in sessions)))
    kept = sum(session.verdict is Verdict.KEEP for session in helpful) / wanted
    # The base goes on unless the candidate is kept.
    back = sum(session.verdict is not Verdict.KEEP for session in harmful) / wanted
    shown = sum(session.verdict is Verdict.ROLL_BACK for session in harmful) / wanted
    record("gate", "kept helpful", "share", kept)
    record("gate", "rolled back harmful", "share", back)
    record("gate", "shown harmful", "share", shown)


if __name__ == "__main__":
    main()
