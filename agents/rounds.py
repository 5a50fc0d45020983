"""The rounds of a trial: what the rollouts of some tasks lived under unchanging weights, and what
each step was worth. An inner step learns from one of them, an outer step from all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.inner_rewards import Units
from metarl.agents.own_contexts import beside
from metarl.agents.returns import (
    baseline_features,
    centred,
    discounted,
    explained_variance,
    gae,
    linear_baseline,
    mean,
    normalised,
)
from metarl.trial import Trial

LIVED = ("obs", "action", "reward", "last")  # all that an inner step needs of a step


@dataclass(frozen=True)
class Config:
    """Hyperparameters of what is lived and how it is judged."""

    rollouts: int = 20  # rows per task, whose episodes an inner step learns from
    discount: float = 0.99  # per step
    decay: float = 0.97  # lambda of the advantages
    learned_rewards: bool = False  # inner steps see rewards through a function that is learned


class Round(NamedTuple):
    """S samples of each of M tasks: H control steps of every row, under unchanging weights."""

    obs: Tensor  # (M, S, O), replica by replica; behind it its deviation from the task's context
    action: Tensor  # (M, S, A)
    reward: Tensor  # (M, S)
    advantage: Tensor  # (M, S), normalised; 0 where not valid
    valid: Tensor  # (M, S) bool; False in a later episode that the round's end cut short
    explained: Tensor  # (M, 1) explained variance of the baseline
    parts: Tensor  # (M, S, J) advantages by each part of a learned function of the reward, if any
    earned: Tensor  # (M, 1) mean reward, in the units of what is learned if anything is
    shown: Tensor  # (M, S, A) what a teacher would have done
    share: Tensor  # (M, S) that imitating it has of what the outer step improves, from 0 to 1
    way: Tensor  # (M, 1, C) to the context that explains its rewards, if that is identified


def rounds_of(
    config: Config, trial: Trial, device: torch.device, units: Units | None = None,
    lesson: tuple[Tensor, Tensor] | None = None, own: Sequence[Tensor] = (),
) -> list[Round]:
    """The data of each inner step and of the outer one, cut where weights changed; with a teacher's
    `lesson`, if there is one, and rollouts' own contexts (M, R, C) in each, if they had any."""
    parts = [getattr(trial, name).to(device).split(trial.round) for name in LIVED]
    tasks = trial.last.shape[1] // trial.replicas
    rounds = [round_of(config, tasks, units, *steps, own=own[i] if own else None)
              for i, steps in enumerate(zip(*parts, strict=True))]
    if lesson is None:
        return rounds
    told = zip(rounds, *(part.to(device).split(trial.round) for part in lesson), strict=True)
    return [lived._replace(shown=_by_task(tasks, shown), share=_by_task(tasks, share))
            for lived, shown, share in told]


def round_of(
    config: Config, tasks: int, units: Units | None,
    obs: Tensor, action: Tensor, reward: Tensor, last: Tensor, own: Tensor | None = None,
) -> Round:
    """Samples from the steps (H, N, ...) of a round, at whose end every row ends an episode.
    `units` are those in which learned functions see rewards."""
    by_task = partial(_by_task, tasks)
    number = last.cumsum(0) - last.long()  # (H, N) of each step's episode
    valid = by_task((number == 0) | (number < number[-1]))
    step = torch.arange(len(reward), device=reward.device)[:, None]
    began = torch.where(last, step + 1, 0).roll(1, 0).index_fill(0, step[0], 0).cummax(0).values
    features = by_task(baseline_features(obs, step - began))  # of the time since it began

    def judged(reward: Tensor) -> tuple[Tensor, Tensor]:
        target = by_task(discounted(reward, last, config.discount))
        fitted = linear_baseline(features, target, valid)
        value = fitted.view(-1, len(reward)).T  # (T, N)
        # Rollouts have a fixed length that the baseline's features tell: nothing follows them.
        advantage = gae(reward, value, value.roll(-1, 0), last, last, config.discount, config.decay)
        return by_task(advantage), explained_variance(fitted, target, valid)

    advantage, explained = judged(reward)
    parts = [centred(judged(part)[0], valid) / units.size for part in units.parts(reward)
             ] if units and config.learned_rewards else []
    seen = units.seen(reward) if units else reward
    acted, samples = by_task(action), by_task(obs)
    own = obs.new_empty(tasks, 1, 0) if own is None else own
    return Round(
        beside(samples, own) if own.shape[2] else samples,
        acted, by_task(reward), normalised(advantage, valid), valid, explained[:, None],
        torch.stack(parts, -1) if parts else advantage.new_empty(*advantage.shape, 0),
        mean(by_task(seen), valid), shown=acted, share=torch.zeros_like(advantage),
        way=own.new_empty(tasks, 1, 0),
    )


def _by_task(tasks: int, x: Tensor) -> Tensor:
    """Steps (T, N, ...) as samples (M, S, ...), replica by replica."""
    return x.unflatten(1, (tasks, -1)).movedim(0, 2).flatten(1, 2)
