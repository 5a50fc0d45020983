"""`metarl robot adapt RUN --arm …`: adapt on an arm, and keep it only where that is shown."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from metarl.cli.common import parse, print_json, say, show, table
from metarl.cli.robot_link import ArmOptions, Chosen, choose, connected, opening, refuse_arm
from metarl.display import number
from metarl.robot.candidate import FACTOR, FIGURES, TASKS
from metarl.robot.gate import Pair, Verdict
from metarl.robot.limits import Limits
from metarl.robot.log import Recorder
from metarl.robot.rollout import Rollout
from metarl.robot.session import ADAPTED, Outcome, Plan, adapt
from metarl.robot.worlds import ArmWorlds, Authority
from metarl.testing.body import Flaws
from metarl.testing.direct import rehearsal

_DESCRIPTION = f"""Adapt a policy to the task before an arm, in a few episodes at reduced speed.

After a look at arm, limits and latency: so many valid episodes. What came of them is refused where
its KL to the base policy, the norm of its change, or how far its belief or its observations are
off those in training exceeds {FACTOR:g} times the most that {TASKS} adaptations in a twin to
tasks of the training range have shown. Then base and adapted policy in
pairs of episodes from equal starts, in random order, first in a twin of the arm, then on the arm.
The adapted policy is kept if an exact one-sided sign test at 5 % shows that it is better, rolled
back if it is shown to be worse, and else called not shown; the base is never changed.

Rewards need to know where the goal is, from --task; the agent never sees it. With --rehearse the
whole session is played in virtual time, on a twin with the task's physics and some friction, in
place of an arm."""

_ROUGH = Flaws(friction=0.5, backlash=2e-3, noise=5e-4)


@dataclass(frozen=True)
class Options(ArmOptions):
    """How to adapt."""

    episodes: int = 3  # valid ones to adapt in
    pairs: int = 10  # of episodes to verify with; fixed beforehand
    speed: Literal["10", "25", "100"] = "25"  # % of the speed that it was trained at
    rehearse: bool = False  # in a twin, in virtual time; no arm and no guard


def run_adapt(argv: list[str]) -> int:
    """Adapt, verify, keep or not, print; 0 whatever the verdict."""
    options = parse("robot adapt", Options, argv, _DESCRIPTION)
    plan = Plan(options.episodes, options.pairs, options.seed)
    if options.rehearse:
        refuse_arm(options, "--rehearse")
    chosen = choose(options)
    given = Authority(int(options.speed) / 100)
    with Recorder(chosen.folder / "log.mcap") as log:
        if options.rehearse:
            worlds = rehearsal(chosen.family, chosen.task, given, flaws=_ROUGH, log=log,
                               history=chosen.history)
            log("session", opening("adapt", chosen, options, worlds, "rehearsal", False))
            outcome = _session(chosen, worlds, None, plan, {"arm": "rehearsal"}, log)
        else:
            with connected("adapt", chosen, options, given, log) as arm:
                facts = {
                    "arm": options.arm, "live": arm.link.live, "spec": arm.link.spec.digest(),
                    "latency": arm.latency.as_dict(),
                    "preflight": [vars(item) for item in arm.items]}
                outcome = _session(chosen, arm.worlds, arm.link.limits, plan, facts, log)
    if options.json:
        print_json({
            "folder": str(chosen.folder), "verdict": str(outcome.verdict),
            "reason": outcome.reason, "parent": outcome.parent, "candidate": outcome.candidate,
            "rollouts": [rollout.as_dict() for rollout in outcome.rollouts],
            "checks": [check.as_dict() for check in outcome.checks],
            "findings": [found.as_dict() for found in outcome.findings]})
    else:
        _report(chosen, outcome)
        if options.rehearse:
            show("a rehearsal: the arm was a twin with some friction, backlash and noise")
    return 0


def _session(
    chosen: Chosen, worlds: ArmWorlds, limits: Limits | None, plan: Plan,
    facts: dict[str, Any], log: Recorder,
) -> Outcome:
    def twin_of(task: torch.Tensor) -> ArmWorlds:
        return rehearsal(chosen.family, task, worlds.authority, limits, history=chosen.history)

    facts |= {"base": str(chosen.path.absolute()), "task": chosen.task[0].tolist(),
              "speed": worlds.authority.speed}
    return adapt(chosen.policy, worlds, twin_of, plan, chosen.folder, facts, log, _tell)


def _tell(where: str, what: Rollout | Pair) -> None:
    """A word while it goes on. Of a pair it says what, but not which came first."""
    if isinstance(what, Rollout):
        say(f"{where}: return {what.total:.2f}" + (f"; {what.invalid}" if what.invalid else ""))
    else:
        say(f"verify, {where}: base {what.base.total:.2f}, adapted {what.adapted.total:.2f}")


def _report(chosen: Chosen, outcome: Outcome) -> None:
    names = sorted({name for rollout in outcome.rollouts for name in rollout.outcome})
    shown = table("episode", "return", *names, "valid")
    for i, rollout in enumerate(outcome.rollouts, start=1):
        shown.add_row(str(i), number(rollout.total),
                      *(number(rollout.outcome.get(name, float("nan"))) for name in names),
                      "yes" if rollout.valid else f"no: {rollout.invalid}")
    show(shown)
    shown = table("candidate", "figure", "bound", "")
    for check in outcome.checks:
        shown.add_row(FIGURES[check.name], f"{check.value:.3g}", f"{check.bound:.3g}",
                      "ok" if check.passed else "FAILS")
    show(shown)
    shown = table("verified", "pairs", "won", "lost", "base", "adapted")
    for found in outcome.findings:
        base, adapted = ([getattr(pair, who).total for pair in found.pairs]
                         for who in ("base", "adapted"))
        shown.add_row(found.where, f"{len(found.pairs)} of {found.planned}", str(found.wins),
                      str(found.losses), number(sum(base) / len(base)),
                      number(sum(adapted) / len(adapted)))
    if outcome.findings:
        show(shown)
    show(f"{outcome.verdict}: {outcome.reason}")
    folder = chosen.folder
    if outcome.verdict is Verdict.KEEP:
        show(f"policy:  {folder / ADAPTED}\nuse it:  metarl robot run {folder} --stage 25")
    else:
        show(f"in charge: the base, {chosen.path}")
    show(f"card:    {folder / 'card.json'}\nlog:     metarl robot log {folder / 'log.mcap'}")
