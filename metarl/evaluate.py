"""One protocol for every agent on fixed tasks, in two parts.

`evaluate`: what episodes 1 ... K of a new task earn while the agent adapts, as it would if put to
use. `apart`: it explores for K episodes as in training, with its noise; and from what it believes
after k = 0 ... K of them, one episode of its best, without noise, which teaches it nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from metarl.agent import Agent, Embeds
from metarl.collect import Rounds, Switch, Tasks, WorldsLike, collect
from metarl.randomness import Draws
from metarl.trial import Steps, Trial

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

    return _evaluation(trial, episodes)


@dataclass(frozen=True)
class Apart:
    """Exploration and exploitation of one agent on M tasks, K episodes and K + 1 of them."""

    exploring: Evaluation  # (K, M): row k is exploration episode k + 1
    exploiting: Evaluation  # (K + 1, M): row k is after k exploration episodes; row 0 before any
    embedding: Tensor | None  # (M, E) what it believes of each task after K; None without a vector


def apart(
    worlds: WorldsLike, agent: Agent, tasks: Tensor, episodes: int, seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Apart:
    """Judge exploration and exploitation on tasks (M, D); rows as in `evaluate`.

    An episode of exploration is H control steps in each row, so that all agents have lived as
    much: where episodes end early it holds several, and its return is that of the first. For MAML
    each is followed by one gradient step.
    """
    replicas, index = agent.plan.replicas, torch.arange(len(tasks))
    hidden, rounds = Tasks(tasks, index, replicas), Rounds(worlds)
    exploiter = cast(Agent, _Exploiting(agent))

    def draws(number: int) -> Draws:
        return Draws.of(seed, EVALUATION + number, len(tasks), replicas)

    # The same starts whatever k is: what differs between them is the belief alone.
    belief = agent.prior(tasks, replicas, draws(0))
    exploring, exploiting = [], []
    for k in range(episodes + 1):
        best, _ = collect(rounds, exploiter, hidden, 1, draws(0), noise=False, belief=belief,
                          stop=stop)
        exploiting.append(_evaluation(best, 1))
        if k < episodes:
            lived, belief = collect(rounds, agent, hidden, 1, draws(k + 1), belief=belief,
                                    stop=stop)
            exploring.append(_evaluation(lived, 1))
    embedding = None
    if isinstance(agent, Embeds) and (vectors := agent.embed(belief)) is not None:
        embedding = vectors.detach().double().cpu().unflatten(0, (len(tasks), -1)).mean(1)
    return Apart(_joined(exploring), _joined(exploiting), embedding)


class _Exploiting:
    """An agent in the last episode that counts: what an episode's end would teach comes too late,
    and may be dear (a baseline would go on training). So it never hears of one."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def infer(self, belief: Any, step: Steps) -> Any:
        if step.last.all():
            return belief
        return self._agent.infer(belief, replace(step, last=torch.zeros_like(step.last)))


def _evaluation(trial: Trial, episodes: int) -> Evaluation:
    """What a trial says, means over replicas."""
    def per_task(value: Tensor) -> Tensor:
        return value.unflatten(1, (-1, trial.replicas)).nanmean(2)

    return Evaluation(
        per_task(trial.returns(episodes)),
        {name: per_task(value) for name, value in trial.outcomes(episodes).items()},
        env_steps=trial.reward.numel(),
    )


def _joined(parts: list[Evaluation]) -> Evaluation:
    """Evaluations one after the other."""
    return Evaluation(
        torch.cat([part.returns for part in parts]),
        {name: torch.cat([part.outcomes[name] for part in parts]) for name in parts[0].outcomes},
        env_steps=sum(part.env_steps for part in parts),
    )
