"""Recurrent SAC: off-policy soft actor-critic on the memory of a trial, a plain strong baseline.

A GRU reads observations, actions, rewards and where episodes end, and keeps its state from one
episode of a trial to the next; policy and critics see the observation beside that state. Whole
trials are replayed. A trial is one long episode: values run across the time limits of its episodes,
but not across a fall. Ni et al., "Recurrent Model-Free RL Can Be a Strong Baseline for Many POMDPs"
(ICML 2022).

Differences: one GRU, which learns from the critics alone and has its own slow target, serves both
policy and critics, not one each. It is unrolled for one gradient step of the critics in a few; the
others reuse its states, on some moments of the same trials, and so cost no more than those of a
memoryless agent. Critics are layer-normalised; observations and rewards are normalised on their way
into the memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents import sac
from metarl.agents.networks import Normalizer
from metarl.agents.recurrent import GruMemory
from metarl.agents.state import Stateful
from metarl.agents.trials import Trials
from metarl.errors import UserError
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial


@dataclass(frozen=True)
class Config(sac.Config):
    """Hyperparameters of recurrent SAC, beside those of soft actor-critic."""

    tasks: int = 20  # train tasks of an iteration
    replicas: int = 1  # rows per task
    episodes: int = 2  # episodes of a trial
    state: int = 128  # numbers in the recurrent state
    embedding: int = 64  # units that each step is embedded into
    updates: int = 400  # gradient steps of the critics in an iteration
    memory_every: int = 16  # gradient steps of the critics for one through the memory
    memory_rate: float = 1e-3  # Adam's step of the memory
    trials: int = 16  # trials that the memory is unrolled over
    batch: int = 256  # moments of these trials of a gradient step
    buffer: int = 512  # MiB of trials that are kept


class Belief(NamedTuple):
    """The recurrent state."""

    state: Tensor  # (N, S)


class Moments(NamedTuple):
    """Moments of trials, and what came of them."""

    obs: Tensor  # (B, O) normalised
    state: Tensor  # (B, S)
    action: Tensor  # (B, A)
    reward: Tensor  # (B,)
    terminated: Tensor  # (B,) 1 where the task itself ended, as by a fall
    next_obs: Tensor  # (B, O) what the policy saw next, after an episode's end that of another
    next_state: Tensor  # (B, S) of the slow memory


class RecurrentSac(Stateful):
    """The agent `recurrent-sac`."""

    Config = Config
    acts = ("normalizer", "rewards", "memory", "actor")
    learns = ("critic", "target", "target_memory", "log_temperature", "optimizer", "trials")

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        if min(config.policy_every, config.memory_every) < 1:
            raise UserError("policy_every and memory_every must be at least 1")
        self.config, self.shapes, self.device = config, shapes, device
        self.plan = Plan(config.tasks, config.replicas, config.episodes, off_policy=True)
        c, rng = config, torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        width = shapes.obs + shapes.action + 2
        self.normalizer = Normalizer(shapes.obs).to(device)
        self.rewards = Normalizer(1).to(device)
        self.memory, self.target_memory = (
            GruMemory(width, c.embedding, c.state, rng).to(device) for _ in range(2)
        )
        self.target_memory.load_state_dict(self.memory.state_dict())
        self.nets = sac.networks(c, shapes.obs + c.state, shapes.action, rng, device)
        self.actor, self.critic, self.target, self.log_temperature = self.nets
        memory, critic = [*self.memory.parameters()], [*self.critic.parameters()]
        policy = [*self.actor.parameters(), self.log_temperature]
        self._groups = {"critic": memory + critic, "policy": policy}
        self.optimizer = torch.optim.Adam([
            {"params": memory, "lr": c.memory_rate}, {"params": critic, "lr": c.critic_rate},
            {"params": policy, "lr": c.actor_rate},
        ], fused=True)
        self._widths = [shapes.obs, shapes.action, 1, 1, 1]  # of a packed step's parts
        self.trials = Trials(c.episodes * shapes.horizon + 1, width + 1, c.buffer, device)

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        return Belief(torch.zeros(len(tasks) * replicas, self.config.state, device=self.device))

    @torch.no_grad()
    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        return sac.act(self.actor, (self.normalizer(obs), belief.state), noise)

    @torch.no_grad()
    def infer(self, belief: Belief, step: Steps) -> Belief:
        inputs = self._read(self._packed(step))
        return Belief(self.memory(inputs[None], belief.state)[0])

    def embed(self, belief: Belief) -> Tensor:
        """The recurrent state of each row, (N, S)."""
        return belief.state

    def _packed(self, steps: Steps | Trial) -> Tensor:
        """What is kept of steps (..., F): observation, action (experts and people may ask for more
        than counts), reward, whether an episode ends, and whether the task itself ended it."""
        rest = torch.stack([steps.reward, steps.last.float(), steps.terminated.float()], -1)
        return torch.cat([steps.obs, steps.action.clamp(-1, 1), rest], -1).to(self.device)

    def _read(self, packed: Tensor) -> Tensor:
        """The same steps (..., F) as the memory reads them, normalised."""
        obs, action, reward, last, _ = packed.split(self._widths, -1)
        return torch.cat([self.normalizer(obs), action, self.rewards(reward), last], -1)

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, rng = self.config, torch_generator(seed, iteration, Role.LEARN, self.device)
        lost = self._remember(trial)
        if not self.trials:
            return {"health/nonfinite": lost}
        logs = []
        for first in range(0, c.updates, c.memory_every):
            logs += self._update(first, min(c.memory_every, c.updates - first), rng)
        log = sac.averaged(logs)
        return log | {"health/nonfinite": max(lost, log["health/nonfinite"])}

    def _remember(self, trial: Trial) -> float:
        """Keep the rows of a trial that are finite; the share of those that are not."""
        packed = self._packed_trial(trial)
        finite = packed.isfinite().all(2).all(0)
        packed = packed[:, finite]
        if finite.any():
            obs, _, reward, *_ = packed[:-1].split(self._widths, -1)
            self.normalizer.update(obs)
            self.rewards.update(reward)
            self.trials.add(packed)
        return 1 - finite.float().mean().item()

    def _packed_trial(self, trial: Trial) -> Tensor:
        """The steps of a trial and, in a last row, what was seen next: (T + 1, N, F)."""
        packed = self._packed(trial)
        end = torch.zeros_like(packed[:1])
        end[..., : self.shapes.obs] = trial.seen[-1]
        return torch.cat([packed, end])

    def _update(self, first: int, count: int, rng: torch.Generator) -> list[sac.Log]:
        """Gradient steps `first`, `first` + 1, ... of an iteration, of which only the first moves
        the memory; numbers to log of each."""
        c = self.config
        lived = self._unrolled(self.trials.sample(c.trials, rng))
        settled = lived._replace(state=lived.state.detach())
        places = torch.randint(
            len(lived.reward), (count, c.batch), generator=rng, device=self.device
        )
        return [
            self._step(first + i, Moments(*(x[place] for x in (settled if i else lived))), rng)
            for i, place in enumerate(places)
        ]

    def _unrolled(self, trials: Tensor) -> Moments:
        """All moments of some trials (T + 1, B, F), with states that gradients flow through."""
        obs, action, reward, _, terminated = trials.split(self._widths, -1)
        obs, inputs = self.normalizer(obs), self._read(trials[:-1])
        states = self.memory.trial(inputs)
        with torch.no_grad():
            slow = self.target_memory.trial(inputs)
        rewarded, ended = reward[:-1, :, 0], terminated[:-1, :, 0]
        parts = (obs[:-1], states[:-1], action[:-1], rewarded, ended, obs[1:], slow[1:])
        return Moments(*(x.flatten(0, 1) for x in parts))

    def _step(self, number: int, lived: Moments, rng: torch.Generator) -> sac.Log:
        c, following = self.config, (lived.next_obs, lived.next_state)
        # A trial goes on where an episode meets its time limit, and is cut off, not over, at its
        # own end. A fall ends it: who falls must not look forward to the next episode.
        target = sac.bellman_target(
            self.nets, c, lived.reward, lived.terminated, following, rng)
        known = (lived.obs, lived.state)
        losses = {"critic": sac.critic_loss(self.nets, known, lived.action, target)}
        if number % c.policy_every == 0:
            known = (lived.obs, lived.state.detach())
            losses["policy"] = sac.policy_loss(self.nets, c, known, rng)
        finite, log = sac.descend(self.optimizer, self._groups, losses, c.max_gradient)
        if finite:
            sac.follow(self.target, self.critic, c.target_rate)
            sac.follow(self.target_memory, self.memory, c.target_rate)
        return log

    # Beliefs, to be stored.

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return belief._asdict()

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        return Belief(tensors["state"].to(self.device))
