"""Fitting a stacked network to pairs, as if there were a single task: so a teacher's actions are
imitated, and so a model of rewards learns."""

import torch
from torch import Tensor

from metarl.agents.stacked import Weights, policy

_BATCH = 1024  # samples of a step
_PASSES = 4  # over all samples


def regressed(
    weights: Weights, seen: Tensor, told: Tensor, wanted: Tensor, rate: float,
    source: torch.Generator,
) -> tuple[Weights, float]:
    """The weights after Adam's steps of a size towards the numbers (B, K) that are wanted where
    (B, O) is seen, in contexts (B, C) of the samples' own; and the mean squared error of the first
    batch before any. Neither the network's own context nor its deviation moves."""
    learned = {name: w.detach().clone().requires_grad_() for name, w in weights.items()
               if name.startswith(("weight", "bias", "context_weight"))}
    optimizer = torch.optim.Adam(learned.values(), rate)
    still = {name: torch.zeros_like(w) if name == "context" else w.detach()
             for name, w in weights.items() if name not in learned}
    pairs, first = torch.cat([seen, told], -1), torch.nan
    for _ in range(_PASSES):
        for some in torch.randperm(len(pairs), generator=source).split(_BATCH):
            alone = {name: w[None] for name, w in (still | learned).items()}
            error = policy(alone, pairs[None, some]).mean[0] - wanted[some]
            loss = error.square().mean()
            first = float(loss.detach()) if first != first else first
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return weights | {name: w.detach() for name, w in learned.items()}, first
