"""RL2: a policy with a memory that learns, in its memory, to learn.

A GRU, or a causal transformer, reads everything that happens in a trial: observations, actions,
rewards and where episodes end. What it remembers is kept from one episode of the trial to the
next, so that improving what the whole trial earns makes it explore a task and then exploit it.
Duan et al., "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning" (2016); Wang et al.,
"Learning to reinforcement learn" (2016). It is improved by PPO over whole trials: returns run
across the time limits of episodes.

Differences: policy and value see the observation beside the state, which reads only what is past.
Observations and rewards are normalised for the memory: a reward tells the task by differences that
may be small beside its deviation over a trial, by which PPO's are scaled. Gradients flow back
through a GRU for `unroll` steps, from the states that the trial was lived through with: a batch of
many parts is unrolled faster than one of few whole trials with as many steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents import ppo
from metarl.agents.networks import Normalizer, Tanh, mlp, policy_mlp
from metarl.agents.recurrent import GruMemory
from metarl.agents.state import Stateful
from metarl.agents.teacher import lesson
from metarl.agents.transformer import Cache, TransformerMemory
from metarl.errors import UserError
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial


@dataclass(frozen=True)
class Config(ppo.Config):
    """Hyperparameters of RL2, beside those of PPO."""

    tasks: int = 128  # train tasks of an iteration
    replicas: int = 1  # rows per task
    episodes: int = 2  # episodes of a trial
    rate: float = 7e-4  # Adam's step
    epochs: int = 4  # passes over an iteration's trials
    entropy: float = 5e-3  # weight of the entropy bonus, where the noise is below what it was
    minibatches: int = 16  # gradient steps of a pass, each on a share of the trials' parts
    memory: Literal["gru", "transformer"] = "gru"  # what remembers the trial
    state: int = 64  # numbers in the memory's state
    embedding: int = 32  # units that each step is embedded into for the GRU
    unroll: int = 50  # steps that gradients flow back through the GRU; 0: the whole trial
    attention_layers: int = 2  # layers of the transformer
    heads: int = 4  # of attention in each; they share `state`
    hidden: int = 128  # units of a layer of policy and value
    layers: int = 1  # hidden layers of policy and value


class Belief(NamedTuple):
    """The memory's state, and what a transformer reads of past steps."""

    state: Tensor  # (N, S)
    cache: Cache = ()


class Lived(NamedTuple):
    """What an iteration's gradient steps learn from; rows second, as in `ppo.Judged`. They are
    those of the trial, or parts of them with rows of their own."""

    obs: Tensor  # (T, N, O) normalised
    inputs: Tensor  # (T, N, I) of the memory
    state: Tensor  # (T, N, S) of the memory before each step
    nearness: Tensor  # (T, N, 1) of the next beginning, for the value
    action: Tensor
    log_likelihood: Tensor
    advantage: Tensor
    target: Tensor
    shown: Tensor
    share: Tensor


class Rl2(Stateful):
    """The agent `rl2`. Its actions are unbounded: the world clamps what reaches the actuators."""

    Config = Config
    acts = ("normalizer", "rewards", "memory", "actor")
    learns = ("scale", "critic", "optimizer")

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.shapes, self.device = config, shapes, device
        self.plan = Plan(config.tasks, config.replicas, config.episodes, taught=config.taught)
        c, rng = config, torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        inputs, hidden = shapes.obs + shapes.action + 2, [c.hidden] * c.layers
        self.normalizer = Normalizer(shapes.obs).to(device)
        self.rewards = Normalizer(1).to(device)
        self.scale = Normalizer(1).to(device)  # of discounted sums of rewards
        self.memory = self._memory(inputs, rng).to(device)
        mean = policy_mlp([shapes.obs + c.state, *hidden, shapes.action], rng)
        self.actor = ppo.Actor(mean, shapes.action, c.std).to(device)
        self.critic = mlp([shapes.obs + c.state + 1, *hidden, 1], rng, Tanh).to(device)
        parameters = [p for m in (self.memory, self.actor, self.critic) for p in m.parameters()]
        self.optimizer = torch.optim.Adam(parameters, c.rate, eps=1e-5, fused=True)

    def _memory(self, inputs: int, rng: torch.Generator) -> GruMemory | TransformerMemory:
        c = self.config
        if c.memory == "gru":
            return GruMemory(inputs, c.embedding, c.state, rng)
        if c.state % c.heads:
            raise UserError(f"--config.state {c.state} does not divide into --config.heads "
                            f"{c.heads}; give a multiple of that")
        return TransformerMemory(inputs, c.state, c.attention_layers, c.heads, rng)

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        return Belief(torch.zeros(len(tasks) * replicas, self.config.state, device=self.device))

    @torch.no_grad()
    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        mean, log_std = self.actor(torch.cat([self.normalizer(obs), belief.state], 1))
        return mean if noise is None else mean + log_std.exp() * noise

    @torch.no_grad()
    def infer(self, belief: Belief, step: Steps) -> Belief:
        inputs = self._inputs(step.obs, step.action, step.reward, step.last)
        return Belief(*self.memory.step(inputs, *belief))

    def _inputs(self, obs: Tensor, action: Tensor, reward: Tensor, last: Tensor) -> Tensor:
        """What the memory reads of steps (..., N): (..., N, I)."""
        rest = [self.rewards(reward[..., None]), last[..., None].float()]
        return torch.cat([self.normalizer(obs), action.clamp(-1, 1), *rest], -1)

    def embed(self, belief: Belief) -> Tensor:
        """The recurrent state of each row, (N, S)."""
        return belief.state

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, rng = self.config, torch_generator(seed, iteration, Role.LEARN, torch.device("cpu"))
        ppo.anneal(self.optimizer, c.rate, iteration, c.anneal)
        lived = self._parts(self._lived(trial, iteration))
        rows = ppo.minibatches(lived.action.shape[1], c, rng)
        log = ppo.averaged([self._descend(lived, some) for some in rows])
        # Only now: the policy has acted on what these were.
        if trial.obs.isfinite().all() and trial.reward.isfinite().all():
            self.normalizer.update(trial.obs)
            self.rewards.update(trial.reward[..., None])
        return log

    @torch.no_grad()
    def _lived(self, trial: Trial, iteration: int) -> Lived:
        move, obs = self.device, trial.seen.to(self.device)
        reward, last, action = trial.reward.to(move), trial.last.to(move), trial.action.to(move)
        inputs = self._inputs(obs[:-1], action, reward, last)
        obs, state = self.normalizer(obs), self.memory.trial(inputs)
        near = ppo.nearness(last, self.shapes.horizon, self.config.discount)
        value = self.critic(torch.cat([obs, state, near], -1)).squeeze(-1)
        policy = self.actor(torch.cat([obs[:-1], state[:-1]], -1))
        terminated = trial.terminated.to(move)
        reward = ppo.scaled(reward, self.scale, self.config.discount)
        shown = lesson(trial, iteration, self.config.taught)
        judged = ppo.judged(action, reward, terminated, policy, value, self.config, shown)
        return Lived(obs[:-1], inputs, state[:-1], near[:-1], *judged)

    def _parts(self, lived: Lived) -> Lived:
        """The same with `unroll` steps and more rows for a GRU; where that does not divide the
        trial, parts overlap."""
        length, unroll = len(lived.obs), self.config.unroll
        if self.config.memory != "gru" or not 0 < unroll < length:
            return lived
        starts = torch.linspace(0, length - unroll, -(-length // unroll)).round().long()
        return Lived(*(torch.cat([x[t : t + unroll] for t in starts], 1) for x in lived))

    def _descend(self, lived: Lived, rows: Tensor) -> ppo.Log:
        """One gradient step on the trials, or their parts, of some rows."""
        obs, inputs, state, near, *judged = (x[:, rows] for x in lived)
        known = torch.cat([obs, self._states(inputs, state)], -1)
        value = self.critic(torch.cat([known, near], -1)).squeeze(-1)
        loss, log = ppo.loss(self.actor(known), value, ppo.Judged(*judged), self.config)
        return log | ppo.descend(self.optimizer, loss, self.config.max_gradient)

    def _states(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The states (T, B, S) before each of some steps, the first of which is given."""
        if isinstance(self.memory, GruMemory):
            return torch.cat([state[:1], self.memory(inputs[:-1], state[0])])
        return self.memory.trial(inputs[:-1])

    # Beliefs, to be stored.

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return {"state": belief.state} | ({"cache": torch.cat(belief.cache, -2)}
                                          if belief.cache else {})

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        cache = (tensors["cache"].to(self.device),) if "cache" in tensors else ()
        return Belief(tensors["state"].to(self.device), cache)
