"""RL2: a recurrent policy that learns, in its state, to learn.

A GRU reads everything that happens in a trial: observations, actions, rewards and where episodes
end. Its state is kept from one episode of the trial to the next, so that improving what the whole
trial earns makes the network explore a task and then exploit it. Duan et al., "RL2: Fast
Reinforcement Learning via Slow Reinforcement Learning" (2016); Wang et al., "Learning to
reinforcement learn" (2016). It is improved by Schulman et al., "Proximal Policy Optimization
Algorithms" (2017), over whole trials: returns run across the ends of episodes.

Differences: policy and value see the observation beside the state, which reads only what is past;
rewards are scaled by the deviation of their discounted sums, observations normalised.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.agent import Plan, Shapes
from metarl.agents.networks import (
    LOG_STD,
    Normalizer,
    load_optimizer_state,
    mlp,
    named,
    optimizer_state,
    under,
)
from metarl.agents.recurrent import GruMemory
from metarl.agents.returns import gae
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial

_ACTS = ("normalizer", "scale", "memory", "actor")  # the modules that a policy consists of
_LEARNS = ("critic",)  # those that only training needs


@dataclass(frozen=True)
class Config:
    """Hyperparameters of RL2."""

    tasks: int = 64  # train tasks of an iteration
    replicas: int = 2  # rows per task
    episodes: int = 2  # episodes of a trial
    memory: int = 128  # numbers in the recurrent state
    embedding: int = 64  # units that each step is embedded into
    hidden: int = 128  # units of a layer of policy and value
    layers: int = 1  # hidden layers of policy and value
    std: float = 0.7  # of the exploration noise before training
    discount: float = 0.97  # per step
    decay: float = 0.95  # lambda of the advantages
    rate: float = 1e-3  # Adam's step
    anneal: int = 0  # iterations in which Adam's steps shrink to a tenth; 0: they never do
    epochs: int = 2  # passes over an iteration's trials
    minibatches: int = 4  # gradient steps of a pass, each on a share of the rows
    clip: float = 0.2  # how far a ratio of likelihoods may lead away from 1
    entropy: float = 1e-3  # weight of the entropy bonus
    value: float = 0.5  # weight of the value's squared error
    max_gradient: float = 0.5  # norm that the gradient is clipped to


class Belief(NamedTuple):
    """The recurrent state."""

    state: Tensor  # (N, S)


class Lived(NamedTuple):
    """What an iteration's gradient steps learn from; all but `inputs` have T + 1 or T steps."""

    obs: Tensor  # (T + 1, N, O) normalised, the last one what followed
    inputs: Tensor  # (T, N, I) of the memory
    action: Tensor  # (T, N, A)
    log_likelihood: Tensor  # (T, N) when it was chosen
    advantage: Tensor  # (T, N) normalised
    target: Tensor  # (T, N) of the value


class Rl2:
    """The agent `rl2`. Its actions are unbounded: the world clamps what reaches the actuators."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.shapes, self.device = config, shapes, device
        self.plan = Plan(config.tasks, config.replicas, config.episodes)
        c, rng = config, torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        inputs, hidden = shapes.obs + shapes.action + 2, [c.hidden] * c.layers
        self.normalizer = Normalizer(shapes.obs).to(device)
        self.scale = Normalizer(1).to(device)  # of discounted sums of rewards
        self.memory = GruMemory(inputs, c.embedding, c.memory, rng).to(device)
        self.actor = _Actor([shapes.obs + c.memory, *hidden, shapes.action], c.std, rng).to(device)
        self.critic = mlp([shapes.obs + c.memory, *hidden, 1], rng, nn.Tanh).to(device)
        self._parameters = [p for m in (self.memory, self.actor, self.critic)
                            for p in m.parameters()]
        self.optimizer = torch.optim.Adam(self._parameters, c.rate, eps=1e-5, fused=True)

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        return Belief(torch.zeros(len(tasks) * replicas, self.config.memory, device=self.device))

    @torch.no_grad()
    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        mean, log_std = self.actor(torch.cat([self.normalizer(obs), belief.state], 1))
        return mean if noise is None else mean + log_std.exp() * noise

    @torch.no_grad()
    def infer(self, belief: Belief, step: Steps) -> Belief:
        inputs = self._inputs(step.obs, step.action, step.reward, step.last)
        return Belief(self.memory(inputs[None], belief.state)[0])

    def _inputs(self, obs: Tensor, action: Tensor, reward: Tensor, last: Tensor) -> Tensor:
        """What the memory reads of steps (..., N): (..., N, I)."""
        reward = (reward * self._reward_scale()).clamp(-10, 10)
        rest = torch.stack([reward, last.float()], -1)
        return torch.cat([self.normalizer(obs), action.clamp(-1, 1), rest], -1)

    def _reward_scale(self) -> Tensor:
        return (self.scale.variance + 1e-8).rsqrt()

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, rng = self.config, torch_generator(seed, iteration, Role.LEARN, torch.device("cpu"))
        rate = c.rate * (1 - 0.9 * min(iteration / c.anneal, 1) if c.anneal else 1.0)
        self.optimizer.param_groups[0]["lr"] = rate
        lived = self._lived(trial)
        logs = []
        for _ in range(c.epochs):
            order = torch.randperm(trial.reward.shape[1], generator=rng)
            logs += [self._descend(lived, rows) for rows in order.chunk(c.minibatches)]
        sums = self._sums(trial.reward.to(self.device))
        if sums.isfinite().all():
            self.normalizer.update(trial.obs)
            self.scale.update(sums[..., None])
        return {name: torch.stack([log[name] for log in logs]).mean().item() for name in logs[0]}

    @torch.no_grad()
    def _lived(self, trial: Trial) -> Lived:
        """An iteration's trials, judged by the policy and value as they were when collected."""
        c, move = self.config, self.device
        obs = torch.cat([trial.obs, trial.next_obs[-1:]]).to(move)
        reward, last, action = trial.reward.to(move), trial.last.to(move), trial.action.to(move)
        inputs = self._inputs(obs[:-1], action, reward, last)
        known = torch.cat([self.normalizer(obs), self._states(inputs)], -1)
        value = self.critic(known).squeeze(-1)
        mean, log_std = self.actor(known[:-1])
        # A trial goes on where an episode ends, and is cut off, not over, at its own end.
        never = torch.zeros_like(last)
        advantage = gae(reward * self._reward_scale(), value[:-1], value[1:], never, never,
                        c.discount, c.decay)
        target = advantage + value[:-1]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return Lived(self.normalizer(obs), inputs, action,
                     _log_likelihood(action, mean, log_std), advantage, target)

    def _states(self, inputs: Tensor) -> Tensor:
        """The memory (T + 1, N, S) before each step of a trial and after its last."""
        start = torch.zeros(inputs.shape[1], self.config.memory, device=self.device)
        return torch.cat([start[None], self.memory(inputs, start)])

    def _sums(self, reward: Tensor) -> Tensor:
        """Discounted sums (T, N) of the rewards (T, N) up to each step."""
        sums = torch.empty_like(reward)
        running = torch.zeros_like(reward[0])
        for t in range(len(reward)):
            running = reward[t] + self.config.discount * running
            sums[t] = running
        return sums

    def _descend(self, lived: Lived, rows: Tensor) -> dict[str, Tensor]:
        """One gradient step on the trials of some rows; none where it is not finite."""
        c = self.config
        obs, inputs, action, old, advantage, target = (x[:, rows] for x in lived)
        known = torch.cat([obs, self._states(inputs)], -1)[:-1]
        mean, log_std = self.actor(known)
        ratio = (_log_likelihood(action, mean, log_std) - old).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - c.clip, 1 + c.clip) * advantage)
        error = 0.5 * (self.critic(known).squeeze(-1) - target).square().mean()
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        loss = c.value * error - gain.mean() - c.entropy * entropy
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, c.max_gradient)
        finite = norm.isfinite()
        if finite:
            self.optimizer.step()
        with torch.no_grad():
            beyond = ((ratio - 1).abs() > c.clip).float().mean()
            explained = 1 - 2 * error / target.var()
        return {"loss/value": error.detach(), "policy/entropy": entropy.detach(),
                "policy/clipped": beyond, "health/explained_variance": explained,
                "health/grad_norm": norm.nan_to_num(0, 0, 0),
                "health/nonfinite": (~finite).float()}

    # State.

    def policy_state(self) -> dict[str, Tensor]:
        return self._tensors(_ACTS)

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        self._load(_ACTS, state)

    def state(self) -> dict[str, Tensor]:
        return {**self._tensors(_ACTS + _LEARNS),
                **named("optimizer", optimizer_state(self.optimizer))}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._load(_ACTS + _LEARNS, state)
        load_optimizer_state(self.optimizer, under("optimizer", state))

    def _tensors(self, modules: tuple[str, ...]) -> dict[str, Tensor]:
        return {name: tensor for module in modules
                for name, tensor in named(module, getattr(self, module).state_dict()).items()}

    def _load(self, modules: tuple[str, ...], state: Mapping[str, Tensor]) -> None:
        for module in modules:
            getattr(self, module).load_state_dict(under(module, state))

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return belief._asdict()

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        return Belief(tensors["state"].to(self.device))


class _Actor(nn.Module):
    """A Gaussian policy, its deviation the same everywhere."""

    def __init__(self, sizes: list[int], std: float, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = mlp(sizes, generator, nn.Tanh)
        with torch.no_grad():
            self.mean[-1].weight.mul_(0.1)  # pyright: ignore[reportCallIssue]
        self.log_std = nn.Parameter(torch.full((sizes[-1],), math.log(std)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., A) and logarithm of the deviation (A,) of the actions at x (..., I)."""
        return self.mean(x), self.log_std.clamp(*LOG_STD)


def _log_likelihood(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density (...) of actions (..., A)."""
    distance = ((action - mean) * (-log_std).exp()).square()
    return (-0.5 * distance - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
