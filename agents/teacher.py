"""What a teacher shows: a scripted policy, told the task, says what it would have done where an
agent has got to by itself (Ross et al. 2011, DAgger; Chen et al. 2019, "Learning by Cheating").

Where exploring alone finds no good behaviour, not even if it is told the task, agents that learn
from their own trials may imitate one at first. What the teacher knows and the agent cannot yet
know, it averages over; by and by its own returns take over, which pay for finding out.
"""

import torch
from torch import Tensor

from metarl.agents.stacked import Weights, policy
from metarl.trial import Trial

_IMITATION = 3.0  # weight of its squared error, beside gains of deviation 1


def lesson(trial: Trial, iteration: int, taught: int) -> tuple[Tensor, Tensor]:
    """What a teacher would have done in a trial, (T, N, A), and what share imitating it has of the
    objective, (T, N): ever less, for so many iterations, and nothing where there is no teacher or
    where it is at a loss."""
    if trial.shown is None:
        return trial.action, torch.zeros_like(trial.reward)
    share = max(0.0, 1 - iteration / taught)
    return trial.shown.nan_to_num(), share * trial.shown.isfinite().all(-1)


def better(gain: Tensor, apart: Tensor, share: Tensor) -> Tensor:
    """What an agent improves (...): its gain, and imitation in place of a share of that, by the
    squared errors of its actions, `apart`."""
    return (1 - share) * gain - share * _IMITATION * apart


def cloning_loss(obs: Tensor, shown: Tensor, weights: Weights) -> Tensor:
    """Half of the squared distances of policies' means from what was shown for observations
    (M, S, O), means over samples, summed over tasks. The likelihood has the same gradient over the
    variance, which policy-gradient steps do not: at a deviation of 0.2 it leads far too far."""
    return 0.5 * (shown - policy(weights, obs)[0]).square().sum(-1).mean(1).sum()
