"""What is looked at in a candidate before it may move an arm, beside that all of it is finite.

The same agent first adapts, for as many episodes, in twins of the arm to tasks of its training
range. That gives the measure of what adaptation does when all is well; the bounds are fixed before
the arm moves: FACTOR times the most that was seen there. Beliefs and weights are treated alike, as
the tensors that an agent packs. What an agent has no number for is None, and is not judged.

Bounds on what it *is* find what went wrong (a unit, a sensor, a gradient that exploded), not
whether it is any good: that is for the gate. While it adapts, episode by episode, the guard alone
stands between an agent and the arm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metarl.agent import Agent
from metarl.evaluate import EVALUATION
from metarl.randomness import Draws
from metarl.robot.arm import ArmError
from metarl.robot.rollout import Hands, Rollout, usable
from metarl.robot.worlds import ArmWorlds

# figure -> what it is
FIGURES = {
    "delta": "norm of the change of the belief or weights",
    "kl": "KL of its policy to the base's, on what it saw [nat]",
    "observations": "what it saw, off training's, root mean square [standard deviations]",
    "belief": "belief or weights, off training's, root mean square [standard deviations]",
}
TASKS = 12  # of the training range
FACTOR = 2.0  # of the most among them
_REFERENCE = EVALUATION + (1 << 12)  # iteration that keys the draws of the first of them
_PROBES = 24  # observations that KL is averaged over
_NUDGE = 1e-2  # standard deviations of noise, by which an action's own are told
_LEAST_STD = 0.05  # of an action in [-1, 1], where a policy is, or is nearly, deterministic
_FLAT = 1e-3  # least standard deviation, of what hardly varies in training


@dataclass(frozen=True)
class Adaptation:
    """What an agent believed before and after it adapted, and what it saw."""

    base: Any
    adapted: Any
    seen: Tensor  # (S, O)

    @staticmethod
    def of(base: Any, adapted: Any, rollouts: Sequence[Rollout]) -> "Adaptation":
        """Of the episodes that count."""
        return Adaptation(base, adapted, torch.cat([r.seen for r in rollouts if r.valid]))


@dataclass(frozen=True)
class Check:
    """One figure of a candidate."""

    name: str  # of FIGURES
    value: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.value <= self.bound  # never so for NaN

    def as_dict(self) -> dict[str, Any]:
        """For a log and a card."""
        return {"name": self.name, "what": FIGURES[self.name], "value": self.value,
                "bound": self.bound, "passed": self.passed}

    @property
    def text(self) -> str:
        return f"{FIGURES[self.name]}: {self.value:.3g}, over its bound of {self.bound:.3g}"


def references(
    agent: Agent, begin: Callable[[ArmWorlds, int], Any], twin_of: Callable[[Tensor], ArmWorlds],
    tasks: Tensor, episodes: int, seed: int,
) -> list[Adaptation]:
    """What adaptation does in twins with tasks (M, D) that were trained on; `begin` gives the
    belief of a seed to begin with. Raises ArmError where that fails for more than half of them."""
    found, why = [], ""
    for i, task in enumerate(tasks):
        worlds = twin_of(task[None])
        # However much the guard has to limit it there, that is what adaptation does.
        worlds.rules = replace(worlds.rules, limited=1.0)
        base = begin(worlds, (seed + 1 + i) % 2**32)
        try:
            lived, adapted = Hands(agent, worlds).adapt(
                base, episodes, Draws.of(seed, _REFERENCE + i, 1))
        except ArmError as problem:
            why = str(problem)
            continue
        if usable(agent, adapted):
            found.append(Adaptation.of(base, adapted, lived))
    if 2 * len(found) < len(tasks):
        raise ArmError(f"adaptation in the twin fails in {len(tasks) - len(found)} of {len(tasks)} "
                       f"tasks that it was trained on: {why or 'it is not finite'}")
    return found


def checks(agent: Agent, candidate: Adaptation, others: Sequence[Adaptation]) -> list[Check]:
    """The figures of a candidate, and their bounds; each of the others is measured against the
    rest of them."""
    own = figures(agent, candidate, others)
    rest = [figures(agent, one, [*others[:i], *others[i + 1:]]) for i, one in enumerate(others)]
    found = []
    for name, value in own.items():
        seen = [x for each in rest if (x := each[name]) is not None]
        if value is not None and seen:
            found.append(Check(name, value, FACTOR * max(seen)))
    return found


def figures(
    agent: Agent, one: Adaptation, others: Sequence[Adaptation]
) -> dict[str, float | None]:
    """The figures of an adaptation, those that are scores beside others."""
    return {
        "delta": _delta(agent, one),
        "kl": _kl(agent, one),
        "observations": off(one.seen, torch.cat([other.seen for other in others])),
        "belief": _strange(agent, one, others),
    }


def off(found: Tensor, usual: Tensor) -> float:
    """How far rows (S, F) are off the mean of usual ones (U, F): root mean square over all, in
    the standard deviations of each column."""
    spread = usual.std(0, unbiased=False).clamp(min=_FLAT)
    return float((((found - usual.mean(0)) / spread) ** 2).mean().sqrt())


def _packed(agent: Agent, belief: Any) -> dict[str, Tensor]:
    """The numbers of a belief, without counters and keys."""
    return {name: value.detach().double().cpu().flatten()
            for name, value in agent.pack(belief).items() if value.is_floating_point()}


def _delta(agent: Agent, one: Adaptation) -> float | None:
    before, after = _packed(agent, one.base), _packed(agent, one.adapted)
    both = [name for name in after if name in before and len(before[name]) == len(after[name])]
    if not both:
        return None
    return float(torch.cat([after[name] - before[name] for name in both]).norm())


def _strange(agent: Agent, one: Adaptation, others: Sequence[Adaptation]) -> float | None:
    own, rest = _packed(agent, one.adapted), [_packed(agent, o.adapted) for o in others]
    names = [name for name in own
             if all(name in each and len(each[name]) == len(own[name]) for each in rest)]
    if not names:
        return None
    every = torch.stack([torch.cat([each[name] for name in names]) for each in (own, *rest)])
    return off(every[:1], every[1:])


def _kl(agent: Agent, one: Adaptation) -> float:
    """Of Gaussians, adapted to base, summed over an action and averaged over observations."""
    at = torch.linspace(0, len(one.seen) - 1, min(_PROBES, len(one.seen))).round().long()
    with torch.no_grad():
        pairs = [[_gaussian(agent, obs[None], belief) for belief in (one.base, one.adapted)]
                 for obs in one.seen[at].to(agent.device)]
    found = [gaussian_kl(*adapted, *base) for base, adapted in pairs]
    return sum(found) / len(found)


def _gaussian(agent: Agent, obs: Tensor, belief: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (A,) of the action that a policy takes at obs (1, O): how much
    it takes of a little noise."""
    mean = agent.act(obs, belief, None)[0]
    nudge = torch.full_like(mean, _NUDGE)[None]
    up, down = (agent.act(obs, belief, noise)[0] for noise in (nudge, -nudge))
    std = ((up - down).abs() / (2 * _NUDGE)).clamp(min=_LEAST_STD)
    return mean.clamp(-1, 1).double().cpu(), std.double().cpu()


def gaussian_kl(mean: Tensor, std: Tensor, base_mean: Tensor, base_std: Tensor) -> float:
    """KL(N(mean, std) || N(base_mean, base_std)), diagonal, (A,) each [nat]."""
    squares = (std**2 + (mean - base_mean) ** 2) / (2 * base_std**2)
    return float(((base_std / std).log() + squares - 0.5).sum())
