"""Shared arithmetic of small networks: pure functions and modules without an algorithm in them."""

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LOG_STD = (-5.0, 2.0)  # below, float32 ratios overflow; above, a Gaussian leaves any action range
_CACHED = 512  # rows whose hidden layers fit into a core's cache


def mlp(sizes: list[int], generator: torch.Generator, activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them, torch's default scale."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        layers.append(layer)
        if i < len(sizes) - 2:
            layers.append(activation())
    return nn.Sequential(*layers)


class _Tanh(torch.autograd.Function):
    """numpy's tanh, with torch's derivatives of every order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.tanh(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(gradients[0], ctx.saved_tensors[0])


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of x. On a CPU it is numpy's: torch's takes ten times as long there,
    as long as the product before it in a small network."""
    if x.device.type != "cpu":
        return x.tanh()
    if torch.is_grad_enabled() and x.requires_grad:
        return _Tanh.apply(x)  # pyright: ignore[reportReturnType]
    return torch.from_numpy(np.tanh(x.detach().numpy()))


class Tanh(nn.Module):
    """`tanh` between layers."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh(x)."""
        return tanh(x)


def policy_mlp(sizes: list[int], generator: torch.Generator) -> nn.Sequential:
    """An `mlp` for a policy's mean: small at the start, where noise alone should explore."""
    network = mlp(sizes, generator, Tanh)
    with torch.no_grad():
        network[-1].weight.mul_(0.1)  # pyright: ignore[reportCallIssue]
    return network


class TwinCritic(nn.Module):
    """Two independent Q functions as one batched product per layer, layer-normalised.

    Layer normalisation bounds the values that unseen actions can get (Ball et al. 2023, RLPD),
    which lets SAC take large steps.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * layers + [1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(fan_in)
            # One draw for both: their weights differ from the start.
            weight = torch.empty(2, fan_in, fan_out).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(2, 1, fan_out).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))

    def forward(self, x: Tensor) -> Tensor:
        """Values (2, B) of inputs (B, I)."""
        h = x.expand(2, *x.shape)
        *hidden, (bias, weight) = zip(self.biases, self.weights, strict=True)
        for b, w in hidden:
            h = torch.baddbmm(b, h, w)
            h = nn.functional.layer_norm(h, h.shape[-1:]).relu_()
        return torch.baddbmm(bias, h, weight).squeeze(-1)


def by_parts(network: nn.Module, x: Tensor, dim: int) -> Tensor:
    """A network's output for x (B, I), whose rows are those of `dim`. On a CPU a part of the rows
    at a time: each layer then finds the last one's output in a cache, not in memory."""
    rows = _CACHED if x.device.type == "cpu" else max(1, len(x))
    return torch.cat([network(part) for part in x.split(rows)], dim)


class Normalizer(nn.Module):
    """Brings observations to mean 0 and deviation 1, by the moments of all that it was shown."""

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., O), normalised and cut off at 10 deviations."""
        return ((x - self.mean) * (self.variance + 1e-6).rsqrt()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count x (..., O) in (Chan et al. 1979)."""
        x = x.reshape(-1, x.shape[-1]).to(self.mean.device)
        variance, mean = torch.var_mean(x, 0, correction=0)
        total = self.count + len(x)
        delta, share = mean - self.mean, len(x) / total
        self.variance.lerp_(variance, share)
        self.variance += delta.square() * share * (1 - share)
        self.mean += delta * share
        self.count.copy_(total)


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std * noise) (B, A) and its log-likelihood (B,)."""
    raw = mean + log_std.exp() * noise
    # log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x)), without cancellation.
    correction = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
    log_likelihood = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi) - correction
    return raw.tanh(), log_likelihood.sum(-1)
