"""VariBAD: a policy that acts on its belief about the task, and so explores as much as it pays.

A GRU reads the transitions of a trial and tells, after each, a Gaussian posterior over a latent
task z. It learns to predict: from any moment's z, the rewards of the whole trial, past and future,
must be decoded. Policy and value see the observation beside the posterior's mean and log-variance,
and are improved by PPO over whole trials. Zintgraf et al., "VariBAD: A Very Good Method for
Bayes-Adaptive Deep RL via Meta-Learning" (ICLR 2020). With `hypernetwork`, the belief generates
the weights of policy and value (Beck et al., "Hypernetworks in Meta-Reinforcement Learning", 2022).

Differences: the encoder reads the observation before a transition too; it takes many gradient
steps in an iteration, not one; the KL of all moments counts, not of those decoded alone; it is
weighed against a reward's mean error (2e-3 here is the paper's 0.1 beside a sum of 50 errors).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metarl.agent import Plan, Shapes
from metarl.agents import ppo
from metarl.agents.hypernetwork import HyperNetwork
from metarl.agents.latent import Decoder, RecurrentEncoder, consecutive_kl, picked
from metarl.agents.networks import Normalizer, Tanh, mlp, policy_mlp
from metarl.agents.state import Stateful
from metarl.agents.teacher import lesson
from metarl.agents.trials import Trials
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial


@dataclass(frozen=True)
class Config(ppo.Config):
    """Hyperparameters of VariBAD, beside those of PPO."""

    epochs: int = 4  # passes over an iteration's trials: cheap, as no memory is unrolled
    minibatches: int = 16  # gradient steps of a pass, each on a share of the moments
    tasks: int = 64  # train tasks of an iteration
    replicas: int = 2  # rows per task
    episodes: int = 2  # episodes of a trial
    latent: int = 5  # numbers in z
    state: int = 128  # numbers in the recurrent state
    embedding: int = 64  # units that each transition is embedded into
    hidden: int = 128  # units of a layer of policy and value
    layers: int = 2  # hidden layers of policy and value
    hypernetwork: int = 0  # units of a layer if the belief generates the weights; 0: it does not
    task_embedding: int = 25  # units that the belief is embedded into to generate weights
    decode_states: bool = False  # z must predict observations too; needed where dynamics vary
    decoder_hidden: int = 64  # units of a layer of the decoders
    encoder_rate: float = 2e-3  # Adam's step of encoder and decoders
    updates: int = 16  # gradient steps of encoder and decoders in an iteration
    batch: int = 32  # trials of such a step
    moments: int = 16  # beliefs of each trial that are decoded
    decodes: int = 32  # transitions of each trial that each of them must predict
    kl: float = 2e-3  # weight of the KL between beliefs beside the mean squared error of a reward
    encoder_max_gradient: float = 1.0  # norm that the gradient of such a step is clipped to
    buffer: int = 64  # MiB of recent trials that encoder and decoders learn from
    kept: int = 0  # trials of an iteration that `buffer` takes; few reach far back; 0: all


class Belief(NamedTuple):
    """The recurrent state, and the Gaussian posterior over z that it tells."""

    state: Tensor  # (N, S)
    mean: Tensor  # (N, L)
    log_variance: Tensor  # (N, L)


class Varibad(Stateful):
    """The agent `varibad`. Its actions are unbounded: the world clamps what reaches actuators."""

    Config = Config
    acts = ("normalizer", "rewards", "encoder", "actor")
    learns = ("scale", "changes", "critic", "decoders", "optimizer", "encoder_optimizer", "trials")

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.shapes, self.device = config, shapes, device
        self.plan = Plan(config.tasks, config.replicas, config.episodes, taught=config.taught)
        c, rng = config, torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        self._widths = [shapes.obs, shapes.action, shapes.obs, 1]  # of a packed transition's parts
        width, length = sum(self._widths), c.episodes * shapes.horizon
        self.normalizer = Normalizer(shapes.obs).to(device)
        self.rewards = Normalizer(1).to(device)
        self.scale = Normalizer(1).to(device)  # of discounted sums of rewards
        self.changes = Normalizer(shapes.obs).to(device)  # of observations within a step
        self.encoder = RecurrentEncoder(width, c.embedding, c.state, c.latent, rng).to(device)
        decoders = {"reward": Decoder(c.latent, width - 1, c.decoder_hidden, 1, rng)}
        if c.decode_states:
            told = shapes.obs + shapes.action
            decoders["change"] = Decoder(c.latent, told, c.decoder_hidden, shapes.obs, rng)
        self.decoders = nn.ModuleDict(decoders).to(device)
        mean = self._head(policy_mlp, shapes.obs, shapes.action, rng)
        self.actor = ppo.Actor(mean, shapes.action, c.std).to(device)
        value = self._head(partial(mlp, activation=Tanh), 1 + shapes.obs, 1, rng)
        self.critic = value.to(device)
        acting = [*self.actor.parameters(), *self.critic.parameters()]
        knowing = [*self.encoder.parameters(), *self.decoders.parameters()]
        self.optimizer = torch.optim.Adam(acting, c.rate, eps=1e-5, fused=True)
        # A short memory for the size of gradients: where they have long been small, one large
        # gradient would else be a step thrice as long, which throws every belief off.
        self.encoder_optimizer = torch.optim.Adam(
            knowing, c.encoder_rate, betas=(0.9, 0.99), fused=True)
        self.trials = Trials(length, width, c.buffer, device)

    def _head(
        self, made: Callable[..., nn.Sequential], seen: int, outputs: int, rng: torch.Generator
    ) -> nn.Module:
        """A network from what is seen, and the belief, to a policy's mean, or to a value."""
        c, belief = self.config, 2 * self.config.latent
        if not c.hypernetwork:
            return made([seen + belief, *[c.hidden] * c.layers, outputs], rng)
        base = made([seen, *[c.hypernetwork] * c.layers, outputs], rng)
        return HyperNetwork(base, belief, c.task_embedding, rng)

    # Acting.

    @torch.no_grad()
    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        rows = len(tasks) * replicas
        return self._belief(torch.zeros(rows, self.config.state, device=self.device))

    @torch.no_grad()
    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        mean, log_std = self.actor(self._known(obs, belief))
        return mean if noise is None else mean + log_std.exp() * noise

    @torch.no_grad()
    def infer(self, belief: Belief, step: Steps) -> Belief:
        inputs = self._read(self._packed(step))
        return self._belief(self.encoder.memory(inputs[None], belief.state)[0])

    def _belief(self, state: Tensor) -> Belief:
        return Belief(state, *self.encoder(state))

    def _known(self, obs: Tensor, belief: Belief) -> Tensor:
        """What the policy sees (..., O + 2 L)."""
        return torch.cat([self.normalizer(obs), belief.mean, belief.log_variance], -1)

    def _packed(self, steps: Steps | Trial) -> Tensor:
        """Transitions (..., F) as they were: obs, action, next_obs and reward."""
        parts = [steps.obs, steps.action.clamp(-1, 1), steps.next_obs, steps.reward[..., None]]
        return torch.cat(parts, -1).to(self.device)

    def _read(self, packed: Tensor) -> Tensor:
        """The same transitions (..., F), normalised."""
        obs, action, next_obs, reward = packed.split(self._widths, -1)
        normed = [self.normalizer(obs), action, self.normalizer(next_obs), self.rewards(reward)]
        return torch.cat(normed, -1)

    def embed(self, belief: Belief) -> Tensor:
        """The mean of each row's posterior, (N, L)."""
        return belief.mean

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        c, rng = self.config, torch_generator(seed, iteration, Role.LEARN, torch.device("cpu"))
        ppo.anneal(self.optimizer, c.rate, iteration, c.anneal)
        known, lived = self._lived(trial, iteration)
        shares = ppo.minibatches(len(known), c, rng)
        log = ppo.averaged([self._improve(known, lived, moments) for moments in shares])
        self._remember(trial, rng)
        if not self.trials:
            return log
        better = ppo.averaged([self._predict(rng) for _ in range(c.updates)])
        lost = max(log["health/nonfinite"], better.pop("health/nonfinite"))
        return log | better | {"health/nonfinite": lost}

    @torch.no_grad()
    def _lived(self, trial: Trial, iteration: int) -> tuple[Tensor, ppo.Judged]:
        """What the value saw (T N, 1 + O + 2 L) at the moments of a trial, of which the policy sees
        all but the first number, and what came of it. The belief is given to them: no loss of
        theirs moves the encoder."""
        obs, last = trial.seen.to(self.device), trial.last.to(self.device)
        near = ppo.nearness(last, self.shapes.horizon, self.config.discount)
        beliefs = self._beliefs(self._read(self._packed(trial)))
        known = torch.cat([near, self._known(obs, beliefs)], -1)
        reward = ppo.scaled(trial.reward.to(self.device), self.scale, self.config.discount)
        value, policy = self.critic(known).squeeze(-1), self.actor(known[:-1, :, 1:])
        action, terminated = trial.action.to(self.device), trial.terminated.to(self.device)
        shown = lesson(trial, iteration, self.config.taught)
        judged = ppo.judged(action, reward, terminated, policy, value, self.config, shown)
        # Nothing is unrolled, so that a gradient step may see moments of all rows: those of a few
        # rows alone may all be of one task.
        return known[:-1].flatten(0, 1), ppo.Judged(*(x.flatten(0, 1) for x in judged))

    def _improve(self, known: Tensor, lived: ppo.Judged, moments: Tensor) -> ppo.Log:
        """One gradient step of policy and value on some moments."""
        known, some = known[moments], ppo.Judged(*(x[moments] for x in lived))
        value, policy = self.critic(known).squeeze(-1), self.actor(known[..., 1:])
        loss, log = ppo.loss(policy, value, some, self.config)
        return log | ppo.descend(self.optimizer, loss, self.config.max_gradient)

    def _remember(self, trial: Trial, rng: torch.Generator) -> None:
        """Keep a trial for the encoder, and count its moments in; unless it is not finite."""
        packed = self._packed(trial)
        if not packed.isfinite().all():
            return
        obs, _, next_obs, reward = packed.split(self._widths, -1)
        self.normalizer.update(obs)
        self.rewards.update(reward)
        self.changes.update(next_obs - obs)
        if self.config.kept:
            packed = packed[:, torch.randperm(packed.shape[1], generator=rng)[: self.config.kept]]
        self.trials.add(packed)

    def _predict(self, rng: torch.Generator) -> ppo.Log:
        """One gradient step of encoder and decoders on some recent trials."""
        c = self.config
        trials = self.trials.sample(c.batch, rng)  # (T, B, F)
        errors, kl = self._elbo(trials, rng)
        loss = sum(errors.values(), start=c.kl * kl)
        health = ppo.descend(self.encoder_optimizer, loss, c.encoder_max_gradient)
        log = {f"loss/{name}": error.detach() for name, error in (errors | {"kl": kl}).items()}
        return log | {"health/nonfinite": health["health/nonfinite"]}

    def _elbo(self, trials: Tensor, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """The mean squared error of each decoder about trials (T, B, F), from beliefs at some of
        their moments; and the mean KL of each belief to the one before, which is its prior."""
        c, inputs = self.config, self._read(trials)
        _, mean, log_variance = self._beliefs(inputs)  # (T + 1, B, L)
        moments = torch.randint(len(mean), (c.moments, c.batch), generator=rng)
        noise = torch.randn(c.moments, c.batch, c.latent, generator=rng).to(self.device)
        # z is (P, B, L), the transitions are (Q, B, F).
        z = picked(mean, moments) + (0.5 * picked(log_variance, moments)).exp() * noise
        steps = torch.randint(len(trials), (c.decodes, c.batch), generator=rng)
        inputs, trials = picked(inputs, steps), picked(trials, steps)
        told, rewarded = inputs[..., :-1], inputs[..., -1:]
        errors = {"reward": (self.decoders["reward"](z, told) - rewarded).square().mean()}
        if c.decode_states:
            obs, _, next_obs, _ = trials.split(self._widths, -1)
            told, changed = told[..., : -self.shapes.obs], self.changes(next_obs - obs)
            errors["change"] = (self.decoders["change"](z, told) - changed).square().mean()
        return errors, consecutive_kl(mean, log_variance).mean()

    def _beliefs(self, inputs: Tensor) -> Belief:
        """The beliefs (T + 1, N, ...) before each step of a trial and after its last."""
        return self._belief(self.encoder.memory.trial(inputs))

    # Beliefs, to be stored.

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return belief._asdict()

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        return Belief(**{name: tensor.to(self.device) for name, tensor in tensors.items()})
