"""One protocol for every agent: returns and outcomes of episodes 1 ... K on fixed tasks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agent import Agent
from metarl.collect import Switch, Tasks, WorldsLike, collect
from metarl.randomness import Draws

# An evaluation's draws are keyed by an iteration that training never reaches.
EVALUATION = 2**31


@dataclass(frozen=True)
class Evaluation:
    """The k-shot curve of one agent on M tasks: row k is episode k + 1, after k of adaptation."""

    returns: Tensor  # (K, M), means over replicas
    outcomes: dict[str, Tensor]  # (K, M) each, as `success` or `distance [m]`
    env_steps: int

    @property
    def before(self) -> float:
        """Mean return of the first episode."""
        return self.returns[0].nanmean().item()

    @property
    def after(self) -> float:
        """Mean return of the last episode."""
        return self.returns[-1].nanmean().item()


def evaluate(
    worlds: WorldsLike,
    agent: Agent,
    tasks: Tensor,
    episodes: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
    switch: Switch | None = None,
) -> Evaluation:
    """Judge an agent on tasks (M, D); `worlds` has M * agent.plan.replicas rows.

    Each row adapts over `episodes` episodes, with the mean action unless the agent needs noise to
    adapt. With a `switch`, whose set begins with `tasks`, column m is what began as task m.
    """
    replicas = agent.plan.replicas
    draws = Draws.of(seed, EVALUATION, len(tasks), replicas)
    trial, _ = collect(
        worlds, agent, Tasks(tasks, torch.arange(len(tasks)), replicas, switch), episodes, draws,
        noise=agent.plan.noise_when_judged, stop=stop,
    )

    def per_task(value: Tensor) -> Tensor:
        return value.view(episodes, len(tasks), replicas).nanmean(2)

    return Evaluation(
        per_task(trial.returns(episodes)),
        {name: per_task(value) for name, value in trial.outcomes(episodes).items()},
        env_steps=trial.reward.numel(),
    )
