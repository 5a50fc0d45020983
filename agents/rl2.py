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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.agent import Plan, Shapes
from metarl.agents import ppo
from metarl.agents.networks import (
    Normalizer,
    load_modules,
    load_optimizer_state,
    mlp,
    module_tensors,
    named,
    optimizer_state,
    policy_mlp,
    under,
)
from metarl.agents.recurrent import GruMemory
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial

_ACTS = ("normalizer", "scale", "memory", "actor")  # the modules that a policy consists of
_LEARNS = ("critic",)  # those that only training needs


@dataclass(frozen=True)
class Config(ppo.Config):
    """Hyperparameters of RL2, beside those of PPO."""

    tasks: int = 64  # train tasks of an iteration
    replicas: int = 2  # rows per task
    episodes: int = 2  # episodes of a trial
    memory: int = 128  # numbers in the recurrent state
    embedding: int = 64  # units that each step is embedded into
    hidden: int = 128  # units of a layer of policy and value
    layers: int = 1  # hidden layers of policy and value


class Belief(NamedTuple):
    """The recurrent state."""

    state: Tensor  # (N, S)


class Lived(NamedTuple):
    """What an iteration's gradient steps learn from; rows second, as in `ppo.Judged`."""

    obs: Tensor  # (T + 1, N, O) normalised, the last one what followed
    inputs: Tensor  # (T, N, I) of the memory
    action: Tensor
    log_likelihood: Tensor
    advantage: Tensor
    target: Tensor


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
        mean = policy_mlp([shapes.obs + c.memory, *hidden, shapes.action], rng)
        self.actor = ppo.Actor(mean, shapes.action, c.std).to(device)
        self.critic = mlp([shapes.obs + c.memory, *hidden, 1], rng, nn.Tanh).to(device)
        parameters = [p for m in (self.memory, self.actor, self.critic) for p in m.parameters()]
        self.optimizer = torch.optim.Adam(parameters, c.rate, eps=1e-5, fused=True)

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
        reward = (reward * ppo.reward_scale(self.scale)).clamp(-10, 10)
        rest = torch.stack([reward, last.float()], -1)
        return torch.cat([self.normalizer(obs), action.clamp(-1, 1), rest], -1)

    def embed(self, belief: Belief) -> Tensor:
        """The recurrent state of each row, (N, S)."""
        return belief.state

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, rng = self.config, torch_generator(seed, iteration, Role.LEARN, torch.device("cpu"))
        ppo.anneal(self.optimizer, c.rate, iteration, c.anneal)
        lived = self._lived(trial)
        rows = ppo.minibatches(trial.reward.shape[1], c, rng)
        log = ppo.averaged([self._descend(lived, some) for some in rows])
        sums = ppo.discounted_sums(trial.reward.to(self.device), c.discount)
        if sums.isfinite().all():
            self.normalizer.update(trial.obs)
            self.scale.update(sums[..., None])
        return log

    @torch.no_grad()
    def _lived(self, trial: Trial) -> Lived:
        move = self.device
        obs = torch.cat([trial.obs, trial.next_obs[-1:]]).to(move)
        reward, last, action = trial.reward.to(move), trial.last.to(move), trial.action.to(move)
        inputs = self._inputs(obs[:-1], action, reward, last)
        known = torch.cat([self.normalizer(obs), self.memory.trial(inputs)], -1)
        value, reward = self.critic(known).squeeze(-1), reward * ppo.reward_scale(self.scale)
        judged = ppo.judged(action, reward, self.actor(known[:-1]), value, self.config)
        return Lived(self.normalizer(obs), inputs, *judged)

    def _descend(self, lived: Lived, rows: Tensor) -> ppo.Log:
        """One gradient step on the trials of some rows."""
        obs, inputs, *judged = (x[:, rows] for x in lived)
        known = torch.cat([obs, self.memory.trial(inputs)], -1)[:-1]
        value = self.critic(known).squeeze(-1)
        loss, log = ppo.loss(self.actor(known), value, ppo.Judged(*judged), self.config)
        return log | ppo.descend(self.optimizer, loss, self.config.max_gradient)

    # State.

    def policy_state(self) -> dict[str, Tensor]:
        return module_tensors(self, _ACTS)

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        load_modules(self, _ACTS, state)

    def state(self) -> dict[str, Tensor]:
        return {**module_tensors(self, _ACTS + _LEARNS),
                **named("optimizer", optimizer_state(self.optimizer))}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        load_modules(self, _ACTS + _LEARNS, state)
        load_optimizer_state(self.optimizer, under("optimizer", state))

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return belief._asdict()

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        return Belief(tensors["state"].to(self.device))
