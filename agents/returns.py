"""Shared arithmetic of returns, advantages and the linear baseline: pure functions of tensors."""

import torch
from torch import Tensor

_RIDGE = 1e-5  # of rllab's linear feature baseline
_RIDGE_ATTEMPTS = 6  # each with ten times the regularisation
_CLIP = 10.0  # observations beyond this would dominate a baseline through their squares


def discounted(reward: Tensor, last: Tensor, discount: float) -> Tensor:
    """Discounted sums (T, N) of the rewards from each step to the end of its own episode."""
    zero = torch.zeros_like(reward)
    return gae(reward, zero, zero, last, last, discount, 1.0)


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    last: Tensor,
    discount: float,
    decay: float,
) -> Tensor:
    """Advantages (T, N) after Schulman et al., "High-Dimensional Continuous Control Using
    Generalized Advantage Estimation" (2016), with lambda = `decay`.

    All inputs are (T, N). `value` is that of `obs`, `next_value` that of `next_obs`: where
    `terminated` it counts nothing, where an episode ends otherwise (a time limit) it stands for
    what would have followed. Sums stop at `last`; the final step bootstraps.
    """
    error = reward + discount * torch.where(terminated, 0.0, next_value) - value
    advantage = torch.empty_like(reward)
    following = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        following = error[t] + discount * decay * torch.where(last[t], 0.0, following)
        advantage[t] = following
    return advantage


def mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over each task's valid samples, (M, 1); value (M, S), valid (M, S) bool."""
    return torch.where(valid, value, 0.0).sum(1, keepdim=True) / valid.sum(1, keepdim=True)


def centred(value: Tensor, valid: Tensor) -> Tensor:
    """Values (M, S) shifted to mean 0 over each task's valid samples (M, S); 0 elsewhere."""
    return torch.where(valid, value - mean(value, valid), 0.0)


def normalised(value: Tensor, valid: Tensor) -> Tensor:
    """The same scaled to standard deviation 1 as well."""
    around = centred(value, valid)
    return around / (mean(around.square(), valid).sqrt() + 1e-8)


def explained_variance(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - Var(target - prediction) / Var(target) of each task, (M,), from inputs (M, S): 1 is
    perfect, 0 no better than a constant; NaN where the target is constant."""

    def variance(x: Tensor) -> Tensor:
        return mean((x - mean(x, valid)).square(), valid).squeeze(1)

    spread = variance(target)
    return torch.where(spread > 0, 1 - variance(target - prediction) / spread, torch.nan)


def baseline_features(obs: Tensor, time: Tensor) -> Tensor:
    """Features (..., 2 O + 4) of obs (..., O) and of the steps (...) that an episode has lasted:
    o, o^2, t, t^2, t^3, 1 with t in units of 100 steps.

    Duan et al., "Benchmarking Deep Reinforcement Learning for Continuous Control" (2016).
    """
    obs = obs.clamp(-_CLIP, _CLIP)
    t = (time.to(obs) / 100).unsqueeze(-1)
    return torch.cat([obs, obs.square(), t, t.square(), t**3, torch.ones_like(t)], -1)


def linear_baseline(features: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Least-squares predictions (M, S) of each task's targets (M, S) from its own features
    (M, S, F), fitted to the valid samples (M, S) in closed form for all tasks at once.

    The regularisation of a task grows tenfold until its equations can be solved.
    """
    x = features.double()
    counted = torch.where(valid.unsqueeze(-1), x, 0.0).mT  # (M, F, S)
    gram, moment = counted @ x, counted @ target.double().unsqueeze(-1)
    identity = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    solution = torch.full_like(moment, torch.nan)
    solved = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for attempt in range(_RIDGE_ATTEMPTS):
        factor, failed = torch.linalg.cholesky_ex(gram + _RIDGE * 10**attempt * identity)
        found = torch.cholesky_solve(moment, factor)
        usable = ~solved & (failed == 0) & found.isfinite().all(2).all(1)
        solution = torch.where(usable[:, None, None], found, solution)
        solved |= usable
        if solved.all():
            break
    return (x @ solution).squeeze(-1).to(target.dtype)
