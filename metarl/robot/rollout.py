"""Episodes on an arm, one by one, each labelled valid or not; and adaptation from the valid ones.

A belief is a value, so an invalid episode leaves no trace in it: the belief from before goes on.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metarl.agent import Agent
from metarl.errors import UserError
from metarl.randomness import Draws, Role
from metarl.robot.arm import ArmError
from metarl.robot.worlds import Aborted, ArmWorlds


@dataclass(frozen=True)
class Rollout:
    """What became of one episode."""

    steps: int
    total: float  # return; of the part that was lived
    invalid: str  # why it does not count; "" where it does
    aborted: bool  # it had to stop: a fault, a latch, a stale state
    outcome: dict[str, float] = field(default_factory=dict)
    # Observations that it acted on, (S, O).
    seen: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False, repr=False)

    @property
    def valid(self) -> bool:
        return not self.invalid

    def as_dict(self) -> dict[str, Any]:
        """For a log and a table."""
        return {"return": self.total, "steps": self.steps, "valid": self.valid,
                "reason": self.invalid, **self.outcome}


class Hands:
    """An agent at an arm, which has one row whatever the agent was trained with."""

    def __init__(self, agent: Agent, worlds: ArmWorlds) -> None:
        """Raises UserError where the agent must be told the task, or expects other sizes."""
        if agent.plan.sees_task:
            raise UserError("this agent must be told the hidden task; no arm can do that")
        self.agent, self.worlds = agent, worlds

    def roll(
        self, belief: Any, draws: Draws | None, noise: bool = False
    ) -> tuple[Rollout, Any]:
        """One episode; what became of it, and the belief after it: as before where it is invalid.
        With `draws` it is the first of a trial, else the next one."""
        worlds, before, total = self.worlds, belief, 0.0
        worlds.reset(draws=draws)
        noises, seen = self._noises(draws) if noise else None, list[Tensor]()
        for t in range(worlds.shapes.horizon):
            seen.append(worlds.obs)
            try:
                with torch.no_grad():
                    action = self.agent.act(
                        worlds.obs.to(self.agent.device), belief,
                        None if noises is None else noises[t])
                step = worlds.step(action, autoreset=False)
            except Aborted as stop:
                return Rollout(t, total, str(stop), aborted=True, seen=torch.cat(seen)), before
            belief = self.agent.infer(belief, step.to(self.agent.device))
            total += step.reward.item()
            if step.last.all():
                break
        outcome = {name: value.item() for name, value in step.outcome.items()}
        rollout = Rollout(t + 1, total, worlds.label, aborted=False, outcome=outcome,
                          seen=torch.cat(seen))
        return rollout, belief if rollout.valid else before

    def adapt(
        self, belief: Any, episodes: int, draws: Draws, told: Any = None
    ) -> tuple[list[Rollout], Any]:
        """Episodes of one trial until so many are valid; all of them, and the belief after the
        valid ones. `told` hears of each. Raises ArmError where more are invalid than that."""
        if episodes < 1:
            raise UserError("adaptation needs at least 1 episode")
        lived: list[Rollout] = []
        noise = self.agent.plan.noise_when_judged
        while sum(rollout.valid for rollout in lived) < episodes:
            rollout, belief = self.roll(belief, None if lived else draws, noise)
            lived.append(rollout)
            if told is not None:
                told(rollout)
            if sum(not rollout.valid for rollout in lived) > episodes:
                raise ArmError(f"{len(lived)} rollouts gave too few valid ones; the last: "
                               f"{rollout.invalid or 'valid'}")
        return lived, belief

    def _noises(self, draws: Draws | None) -> Tensor:
        """Exploration noise (H, 1, A) of the running episode."""
        source = self.worlds.draws if draws is None else draws
        shapes = self.worlds.shapes
        drawn = source.normal(Role.ACTION, self.worlds.episode, shapes.horizon, shapes.action)
        return drawn.transpose(0, 1).contiguous().to(self.agent.device)


def prior(agent: Agent, worlds: ArmWorlds, seed: int) -> Any:
    """What the agent believes before the first episode on the arm, as one row."""
    from metarl.evaluate import EVALUATION

    return agent.prior(worlds.tasks, 1, Draws.of(seed, EVALUATION, 1))


def digest(agent: Agent, belief: Any) -> str:
    """SHA-256 of all that decides what a policy does: the agent's weights and the belief."""
    found = hashlib.sha256()
    for tensors in (agent.policy_state(), agent.pack(belief)):
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(value.numpy().tobytes())
    return found.hexdigest()


def usable(agent: Agent, belief: Any) -> bool:
    """Whether every number of a belief is finite."""
    return all(bool(value.isfinite().all()) for value in agent.pack(belief).values())
