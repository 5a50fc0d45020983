"""One session on an arm: adapt in a few episodes, look at what came of it (metarl.robot.candidate),
verify it in the twin, then on the arm, keep it or not.

    FOLDER/
        card.json       what was asked for and found, and what it does not show
        active.json     which policy is in charge: `base` or `adapted`, and why
        adapted/        the candidate: a bundle that names its parent
        log.mcap        everything that happened (metarl.robot.log)

The base is never written. Taking over, and rolling back, is a change of active.json alone.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from metarl.documents import write_json
from metarl.envs.family import sample_tasks
from metarl.errors import DamagedFile, UserError
from metarl.evaluate import EVALUATION
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.robot.arm import ArmError
from metarl.robot.candidate import TASKS, Adaptation, Check, references
from metarl.robot.candidate import checks as judge
from metarl.robot.gate import Finding, Pair, Verdict, verify, wins_needed
from metarl.robot.rollout import Hands, Rollout, digest, prior, usable
from metarl.robot.worlds import ArmWorlds, Log

CARD, ACTIVE, ADAPTED, LOG = "card.json", "active.json", "adapted", "log.mcap"
_ADAPTING = EVALUATION + 1  # iteration that keys the draws
_REHEARSED = "one rehearsal, on twins, in one task; nothing of an arm, and no rate of success"
_SCOPE = "one session, on one arm, in one task, with an operator beside it; no rate of success"


@dataclass(frozen=True)
class Plan:
    """What a session does; fixed before it begins."""

    episodes: int = 3  # valid ones to adapt in
    pairs: int = 10  # at most, in the twin and again on the arm
    seed: int = 0

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UserError("a session adapts in at least 1 episode")
        if wins_needed(self.pairs) is None:
            raise UserError(f"{self.pairs} pairs can never show an improvement at 5 %: not even "
                            "if all are won; ask for at least 5")


@dataclass(frozen=True)
class Outcome:
    """How a session ended."""

    rollouts: tuple[Rollout, ...]
    findings: tuple[Finding, ...]  # in the twin, then on the arm
    parent: str  # digest of the base
    candidate: str
    checks: tuple[Check, ...] = ()  # of the candidate; none where it is not finite

    @property
    def verdict(self) -> Verdict:
        return self.findings[-1].verdict if self.findings else Verdict.REFUSED

    @property
    def reason(self) -> str:
        if not self.findings:
            return "; ".join(check.text for check in self.checks if not check.passed) or \
                "the adapted policy holds what is not finite"
        last = self.findings[-1]
        return f"on the {last.where}: {last.reason}"


def own_belief(policy: Policy, worlds: ArmWorlds, seed: int) -> Any:
    """What a policy believes when an arm begins: what it was adapted to, by its own episodes or by
    demonstrations; a prior where it was not. Raises UserError as `check_rows` does."""
    check_rows(policy)
    return policy.belief if _adapted(policy) else prior(policy.agent, worlds, seed)


def check_rows(policy: Policy) -> None:
    """Raise UserError where what a policy was adapted to is no one row's. Weights that the rows of
    a task share serve one row as they serve all; several memories of a task do not."""
    if _adapted(policy) and policy.replicas > 1 and not policy.agent.plan.pools:
        raise UserError(f"this bundle was adapted in {policy.replicas} rows that share nothing, "
                        "and an arm is one: begin with the run that it was adapted from")


def _adapted(policy: Policy) -> bool:
    return bool(policy.about.get("episodes") or policy.about.get("demonstrations"))


def adapt(
    policy: Policy, worlds: ArmWorlds, twin_of: Callable[[Tensor], ArmWorlds], plan: Plan,
    folder: Path, facts: Mapping[str, Any], log: Log,
    tell: Callable[[str, Rollout | Pair], None],
) -> Outcome:
    """Adapt `policy` to the task that the worlds have. `twin_of` makes a twin of the same arm in a
    task (1, D), under the same limits. `facts` go onto the card.

    Raises ArmError where the arm needs a person and has none, or too few rollouts are valid; the
    base is then in charge, as before.
    """
    hands, agent = Hands(policy.agent, worlds), policy.agent
    base = own_belief(policy, worlds, plan.seed)
    parent = digest(agent, base)
    _point(folder, "base", "the session has not ended")

    others = references(agent, partial(own_belief, policy), twin_of,
                        sample_tasks(worlds.family, "train", TASKS), plan.episodes, plan.seed)

    def lived(rollout: Rollout) -> None:
        log("rollout", {"purpose": "adapt", **rollout.as_dict()})
        tell("adapt", rollout)

    rollouts, adapted = hands.adapt(
        base, plan.episodes, Draws.of(plan.seed, _ADAPTING, 1), lived)
    findings: list[Finding] = []
    checked = judge(agent, Adaptation.of(base, adapted, rollouts), others) \
        if (finite := usable(agent, adapted)) else []
    log("candidate", {"parent": parent, "candidate": digest(agent, adapted), "finite": finite,
                      "checks": [check.as_dict() for check in checked]})
    if finite and all(check.passed for check in checked):
        twin = Hands(agent, twin_of(worlds.tasks))
        for where, one in (("twin", twin), ("arm", hands)):
            found = verify(one, base, adapted, plan.pairs, plan.seed, where,
                           lambda pair, where=where: _lived(pair, where, log, tell))
            findings.append(found)
            log("verdict", found.as_dict())
            if found.verdict is Verdict.ROLL_BACK:
                break  # what is worse in the twin never gets to the arm
    if digest(agent, base) != parent:
        raise ArmError("the base policy has changed during the session; nothing is kept")
    outcome = Outcome(tuple(rollouts), tuple(findings), parent, digest(agent, adapted),
                      tuple(checked))
    _keep(policy, adapted, outcome, plan, folder, facts)
    return outcome


def _lived(
    pair: Pair, where: str, log: Log, tell: Callable[[str, Rollout | Pair], None]
) -> None:
    both = [("base", pair.base), ("adapted", pair.adapted)]
    for name, rollout in both[::-1] if pair.adapted_first else both:  # as they were lived
        log("rollout", {"purpose": f"verify, {where}", "policy": name, **rollout.as_dict()})
    tell(where, pair)


def _keep(
    policy: Policy, adapted: Any, outcome: Outcome, plan: Plan, folder: Path,
    facts: Mapping[str, Any],
) -> None:
    """Write the candidate, the card and, last, who is in charge."""
    returns = [pair.adapted.total for found in outcome.findings[-1:] for pair in found.pairs
               if pair.adapted.valid]
    about = {**policy.about, "replicas": 1, "episodes": plan.episodes, "parent": outcome.parent,
             "digest": outcome.candidate, "returns": returns}
    if outcome.findings:
        Policy(policy.agent, adapted, about, policy.files).save(folder / ADAPTED)
    scope = _REHEARSED if facts.get("arm") == "rehearsal" else _SCOPE
    write_json(folder / CARD, {
        "scope": scope, "verdict": str(outcome.verdict), "reason": outcome.reason,
        "parent": outcome.parent, "candidate": outcome.candidate, "plan": asdict(plan),
        "rollouts": [rollout.as_dict() for rollout in outcome.rollouts],
        "checks": [check.as_dict() for check in outcome.checks],
        "findings": [found.as_dict() for found in outcome.findings], **facts})
    kept = outcome.verdict is Verdict.KEEP
    _point(folder, "adapted" if kept else "base", outcome.reason)


def demote(folder: Path, reason: str) -> None:
    """Put the base in charge again."""
    _point(folder, "base", f"demoted: {reason}")


def in_charge(folder: Path) -> tuple[Path, str, list[float]]:
    """The path of the policy that a session's folder puts in charge, `base` or `adapted`, and the
    numbers (D,) of the task that it was a session in. Raises DamagedFile, or UserError where the
    session was interrupted: then no policy has come of it."""
    if not (folder / CARD).exists():
        raise UserError(f"{folder} is a session that was interrupted before its end: it kept no "
                        "policy; name the one that it began with, as metarl robot log "
                        f"{folder / LOG} tells it, or adapt anew with metarl robot adapt")
    try:
        active = json.loads((folder / ACTIVE).read_text())["active"]
        card = json.loads((folder / CARD).read_text())
        base, task = Path(card["base"]), [float(value) for value in card["task"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{folder} is no finished session: {error}") from None
    return (folder / ADAPTED if active == "adapted" else base), active, task


def is_session(folder: Path) -> bool:
    """Whether a folder is that of a session."""
    return (folder / ACTIVE).is_file()


def _point(folder: Path, active: str, reason: str) -> None:
    write_json(folder / ACTIVE, {"active": active, "reason": reason})
