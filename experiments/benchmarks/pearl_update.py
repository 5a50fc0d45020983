"""One update of PEARL at the paper's sizes, done in three ways; `agents` times them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.agent import Shapes
from metarl.agents.networks import mlp, squashed_gaussian
from metarl.agents.pearl import Config, Pearl
from metarl.trial import Trial

_SHAPES = Shapes(obs=17, action=6, task=1, horizon=200)  # a cheetah's
_TASKS, _ROWS, _CONTEXT, _LATENT = 16, 256, 100, 5
_STEPS = 1000  # transitions of a task in the replay
_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm)


def methods() -> dict[str, Callable[[], object]]:
    """Functions that each do one update: ours first."""
    agent, rng = _agent(), torch.Generator().manual_seed(0)

    def ours() -> object:
        return agent._update(0, 1, rng)

    return {
        "ours": ours,
        "a plain loop over tasks": PlainLoop(_trial()).update,
        "its bare matrix products": _bare_products(ours),
    }


def _agent() -> Pearl:
    config = Config(
        latent=_LATENT, factor_rank=0, hidden=300, layers=3, encoder_hidden=200, encoder_layers=3,
        predictor_hidden=200, batch_tasks=_TASKS, batch=_ROWS, context=_CONTEXT, policy_every=1,
        encoder_every=1, tasks=_TASKS,
    )
    agent = Pearl(config, _SHAPES, 0, torch.device("cpu"))
    agent.replay.add(_trial())
    return agent


def _trial() -> Trial:
    """Random numbers in the place of what was lived."""
    source = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(_STEPS, _TASKS, *size, generator=source)

    ends = torch.zeros(_STEPS, _TASKS, dtype=torch.bool)
    return Trial(draw(_SHAPES.obs), draw(_SHAPES.action).tanh(), draw(), draw(_SHAPES.obs), ends,
                 ends, {}, torch.zeros(_TASKS, 1), torch.arange(_TASKS))


class _Products(TorchDispatchMode):
    """Keeps every matrix product, with what is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _bare_products(update: Callable[[], object]) -> Callable[[], None]:
    """Nothing but the matrix products of an update, forward and backward, on the same operands."""
    with _Products() as products:
        update()

    @torch.no_grad()
    def multiply() -> None:
        for func, args, kwargs in products.calls:
            func(*args, **kwargs)

    return multiply


class _NormedReLU(nn.Module):
    """What PEARL's critics have between their layers."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:]).relu()


class PlainLoop:
    """The same update as a first implementation would have it: a ring, a batch, a belief and losses
    for each task in turn, two critics one after the other."""

    def __init__(self, trial: Trial) -> None:
        rng, s = torch.Generator().manual_seed(0), _SHAPES
        names = ("obs", "action", "reward", "next_obs")
        self.replay = [[getattr(trial, n)[:, m] for n in names] for m in range(_TASKS)]
        units = [300] * 3
        inputs = s.obs + _LATENT
        self.encoder = mlp([s.obs + s.action + 1, 200, 200, 200, 2 * _LATENT], rng, nn.SiLU)
        self.predictor = mlp([2 * s.obs + s.action + _LATENT, 200, 200, 1], rng, nn.SiLU)
        self.actor = mlp([inputs, *units, 2 * s.action], rng, nn.ReLU)
        critics = [mlp([inputs + s.action, *units, 1], rng, _NormedReLU) for _ in range(4)]
        self.critics, self.targets = critics[:2], critics[2:]
        self.optimizers = [
            torch.optim.Adam(p for module in modules for p in module.parameters())
            for modules in ([self.encoder, self.predictor], self.critics, [self.actor])
        ]

    def update(self) -> None:
        """One step of the encoder with the predictor, of the critics and of the policy."""
        losses = [self._losses(*lived) for lived in self.replay]
        for optimizer, parts in zip(self.optimizers, zip(*losses, strict=True), strict=True):
            loss = torch.stack(parts).mean()
            parameters = optimizer.param_groups[0]["params"]
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            for target, critic in zip(self.targets, self.critics, strict=True):
                pairs = zip(target.parameters(), critic.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.copy_(0.995 * slow + 0.005 * fast)

    def _losses(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one task: the predictor's with the encoder's, the critics', the policy's."""
        seen = torch.randint(_STEPS, (_CONTEXT,))
        mean, variance = self._belief(torch.cat([obs[seen], action[seen], reward[seen, None]], 1))
        some = torch.randint(_STEPS, (_ROWS,))
        obs, action, reward, next_obs = obs[some], action[some], reward[some], next_obs[some]
        known = torch.cat([obs, action, next_obs, mean.expand(_ROWS, -1)], 1)
        kl = 0.5 * (variance + mean.square() - 1 - variance.log()).sum()
        encoder = (self.predictor(known)[:, 0] - reward).square().mean() + 1e-4 * kl
        z = (mean + variance.sqrt() * torch.randn(_LATENT)).detach().expand(_ROWS, -1)
        with torch.no_grad():
            following, likelihood = self._act(next_obs, z)
            later = self._value(self.targets, next_obs, following, z).min(0).values
            target = reward + 0.99 * (later - 0.1 * likelihood)
        error = self._value(self.critics, obs, action, z) - target
        chosen, likelihood = self._act(obs, z)
        value = self._value(self.critics, obs, chosen, z).min(0).values
        return encoder, error.square().sum(0).mean(), (0.1 * likelihood - value).mean()

    def _belief(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (L,) of the product of the factors of transitions (C, F)."""
        means, raw = self.encoder(context).chunk(2, 1)
        precision = 1 / nn.functional.softplus(raw).clamp(min=1e-4)
        variance = 1 / (1 + precision.sum(0))
        return variance * (precision * means).sum(0), variance

    def _act(self, obs: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(torch.cat([obs, z], 1)).chunk(2, 1)
        return squashed_gaussian(mean, log_std.clamp(-5, 2), torch.randn_like(mean))

    def _value(
        self, critics: list[nn.Sequential], obs: Tensor, action: Tensor, z: Tensor
    ) -> Tensor:
        """Of both critics, (2, B)."""
        return torch.stack([q(torch.cat([obs, action, z], 1))[:, 0] for q in critics])
