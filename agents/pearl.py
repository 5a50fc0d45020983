"""PEARL: soft actor-critic on a latent task variable that is inferred from experience.

An encoder turns each transition into a Gaussian factor; their product with the prior N(0, I) is
the belief. Before an episode a hypothesis z is drawn from it and kept (posterior sampling), so the
agent explores by acting as if z were true. Rakelly et al., "Efficient Off-Policy Meta-Reinforcement
Learning via Probabilistic Context Variables" (ICML 2019).

Differences: the prior is a factor of the product; there is no value network, the temperature is
learned (Haarnoja et al. 2018), the critics are layer-normalised and the policy is updated less
often than they are (Fujimoto et al. 2018, TD3). The encoder learns from what z must predict, that
is rewards and if asked observations, as VariBAD's does (Zintgraf et al. 2020), not from the
critics, and its steps shrink first, so that policy and critics soon see a z that stands still. They
get the belief of whole recent trials, the predictors that of a trial's beginning, as at any moment
of a trial. Factors may have a full covariance, and be left out where training saw nothing of the
kind; judged, the agent acts on the belief's mean once an episode is over.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents import gaussian, sac
from metarl.agents.annealing import annealed
from metarl.agents.belief import Belief
from metarl.agents.encoder import Encoder, Familiar
from metarl.agents.networks import Normalizer
from metarl.agents.predictors import Predictors
from metarl.agents.replay import Replay, Transitions
from metarl.agents.state import Stateful
from metarl.errors import UserError
from metarl.randomness import Draws, Role, torch_generator
from metarl.trial import Steps, Trial


@dataclass(frozen=True)
class Config(sac.Config):
    """Hyperparameters of PEARL, beside those of soft actor-critic."""

    latent: int = 5  # numbers in z
    factor_rank: int = 1  # rank of a factor's precision; 0 makes it diagonal, as in the paper
    relative_factors: bool = False  # factors are told from where the robot is, not absolutely
    familiar_only: bool = False  # transitions beyond all that training saw of late tell nothing
    encoder_hidden: int = 64  # units of a layer of the encoder
    encoder_layers: int = 2  # hidden layers of the encoder
    context_next_obs: bool = False  # the encoder sees next_obs; needed where dynamics vary
    decode_states: bool = False  # z must predict observations, not rewards alone; the same
    tasks: int = 20  # train tasks of an iteration
    episodes: int = 2  # episodes of a trial: the first from the prior
    updates: int = 1100  # gradient steps of the critics in an iteration
    encoder_every: int = 4  # the same for one of encoder and predictors
    batch_tasks: int = 16  # tasks of a gradient step
    batch: int = 16  # transitions per task of a gradient step
    context: int = 32  # transitions per task that the belief is inferred from
    recent: int = 2  # newest trials of a task that the context is drawn from
    capacity: int = 20_000  # transitions kept per task
    encoder_rate: float = 2e-3  # Adam step of the encoder and the predictors
    anneal: int = 0  # critics' steps in which Adam's steps shrink to a tenth; 0: they never do
    encoder_anneal: int = 0  # the same for the encoder and the predictors: z must settle early
    temperature_anneal: int = 0  # the same for a temperature that is not learned
    kl: float = 1e-4  # weight of KL(belief || prior) beside the squared error of predicted rewards
    predictor_hidden: int = 64  # units of a layer of a predictor


class Pearl(Stateful):
    """The agent `pearl`."""

    Config = Config
    acts = ("normalizer", "encoder", "actor")
    learns = (
        "critic", "target", "predictors", "log_temperature", "updates", "optimizer", "replay",
    )

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        if min(config.policy_every, config.encoder_every) < 1:
            raise UserError("policy_every and encoder_every must be at least 1")
        if config.temperature_anneal and config.learned_temperature:
            raise UserError("a learned temperature has no --config.temperature-anneal; give 0 for "
                            "it, or --config.no-learned-temperature")
        self.config, self.shapes, self.device = config, shapes, device
        self.plan = Plan(config.tasks, 1, config.episodes, off_policy=True)
        c, rng = config, torch_generator(seed, 0, Role.INITIAL_WEIGHTS, torch.device("cpu"))
        context = shapes.obs * (2 if c.context_next_obs else 1) + shapes.action + 1
        hidden = [c.encoder_hidden] * c.encoder_layers
        self.normalizer = Normalizer(shapes.obs).to(device)
        encoder = Encoder(context, hidden, c.latent, c.factor_rank, rng, c.relative_factors)
        self.encoder = encoder.to(device)
        self.familiar = Familiar(shapes).to(device) if c.familiar_only else None
        self.acts = (*self.acts, "familiar") if c.familiar_only else self.acts
        self.nets = sac.networks(c, shapes.obs + c.latent, shapes.action, rng, device)
        self.actor, self.critic, self.target, self.log_temperature = self.nets
        predictors = Predictors(shapes, c.latent, c.predictor_hidden, c.decode_states, rng)
        self.predictors = predictors.to(device)
        self._groups = {
            "encoder": [*self.encoder.parameters(), *self.predictors.parameters()],
            "critic": [*self.critic.parameters()],
            "policy": [*self.actor.parameters(), self.log_temperature],
        }
        groups = [{"params": parameters} for parameters in self._groups.values()]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.updates = torch.zeros((), dtype=torch.long)
        self.replay = Replay(shapes, c.capacity, device)

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        return Belief.prior(len(tasks) * replicas, self.config.latent, draws, self.device)

    @torch.no_grad()
    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        z = belief.z if noise is not None else belief.settled()
        return sac.act(self.actor, (self.normalizer(obs), z), noise)

    @torch.no_grad()
    def infer(self, belief: Belief, step: Steps) -> Belief:
        # Experts and people may ask for more than counts.
        context = [self.normalizer(step.obs), step.action.clamp(-1, 1), step.reward[:, None]]
        context += [self.normalizer(step.next_obs)] if self.config.context_next_obs else []
        precision, weighted_mean = self.encoder(torch.cat(context, 1)[:, None])
        if self.familiar is not None:
            share = self.familiar(step)[:, None]
            precision, weighted_mean = share[:, None] * precision, share * weighted_mean
        return belief.times(precision, weighted_mean).after(step.last)

    def embed(self, belief: Belief) -> Tensor:
        """The mean of each row's belief, (N, L)."""
        return belief.mean()

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        rows, trial = len(trial.index), trial.finite()
        lost = 1 - len(trial.index) / rows
        if lost == 1:
            return {"health/nonfinite": 1.0}
        self.replay.add(trial)
        self.normalizer.update(trial.obs)
        self.predictors.update(trial)
        if self.familiar is not None:
            self.familiar.update(trial)
        self._anneal()
        rng = torch_generator(seed, iteration, Role.LEARN, self.device)
        c, logs = self.config, []
        for first in range(0, c.updates, c.encoder_every):
            logs += self._update(first, min(c.encoder_every, c.updates - first), rng)
        log = sac.averaged(logs)
        return {**log, "health/nonfinite": max(log["health/nonfinite"], lost)}

    def _anneal(self) -> None:
        c, done = self.config, int(self.updates)
        rates = (
            (c.encoder_rate, c.encoder_anneal), (c.critic_rate, c.anneal), (c.actor_rate, c.anneal)
        )
        for group, (rate, steps) in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = annealed(rate, done, steps)
        if not c.learned_temperature:
            temperature = annealed(c.temperature, done, c.temperature_anneal)
            self.log_temperature.data.fill_(math.log(temperature))
        self.updates += c.updates

    def _update(self, first: int, count: int, rng: torch.Generator) -> list[dict[str, Tensor]]:
        """Gradient steps `first`, `first` + 1, ... of an iteration, of which only the first moves
        the encoder; numbers to log of each. What does not depend on the steps is done at once."""
        c, filled = self.config, self.replay.filled()
        order = torch.rand(count, len(filled), generator=rng, device=self.device).argsort(1)
        order = order.repeat(1, -(-c.batch_tasks // len(filled)))  # fewer tasks come up again
        tasks = filled[order[:, : c.batch_tasks]]  # (count, K)
        raw = self.replay.sample(tasks.flatten(), c.batch, rng)[0]
        packed = raw.map_obs(self.normalizer).packed.view(count, -1, self.replay.width)
        hypotheses = self._inferred(tasks.flatten(), rng).repeat_interleave(c.batch, 0)
        logs = []
        for i, z in enumerate(hypotheses.view(count, -1, c.latent)):
            batch = Transitions(packed[i], self.shapes)
            known, following = (batch.obs, z), (batch.next_obs, z)
            target = sac.bellman_target(
                self.nets, c, batch.reward, batch.terminated, following, rng
            )
            # At a z that is inferred, not moved.
            losses = {"critic": sac.critic_loss(self.nets, known, batch.action, target)}
            if i == 0:
                losses["encoder"] = self._encoder_loss(tasks[0], batch, raw, rng)
            if (first + i) % c.policy_every == 0:
                losses["policy"] = sac.policy_loss(self.nets, c, known, rng)
            finite, log = sac.descend(self.optimizer, self._groups, losses, c.max_gradient)
            if finite:
                sac.follow(self.target, self.critic, c.target_rate)
            logs.append(log)
        return logs

    @torch.no_grad()
    def _inferred(self, tasks: Tensor, rng: torch.Generator) -> Tensor:
        """A hypothesis (K, L) for each of these tasks after its recent trials."""
        c = self.config
        recent = c.recent * c.episodes * self.shapes.horizon
        belief = self._belief(self.replay.sample(tasks, c.context, rng, recent))
        noise = torch.randn(belief[1].shape, generator=rng, device=self.device)
        return gaussian.sample(*belief, noise)

    def _encoder_loss(
        self, tasks: Tensor, batch: Transitions, raw: Transitions, rng: torch.Generator
    ) -> sac.Loss:
        """The errors of what a belief's mean predicts of a batch, which `raw` begins with as it was
        before it was normalised, and its KL to the prior."""
        c, length = self.config, self.config.episodes * self.shapes.horizon
        belief = self._belief(self.replay.sample_prefix(tasks, c.context, rng, length, c.recent))
        mean, root = gaussian.solved(*belief)
        errors = self.predictors.errors(mean.repeat_interleave(c.batch, 0), batch, raw)
        kl = gaussian.kl_to_prior(mean, root).mean()
        return sum(errors.values(), start=c.kl * kl), errors | {"loss/kl": kl}

    # Parts.

    def _belief(self, sample: tuple[Transitions, Tensor]) -> tuple[Tensor, Tensor]:
        context, known = sample
        return self.posterior(context.map_obs(self.normalizer), known)

    def posterior(self, context: Transitions, known: Tensor) -> tuple[Tensor, Tensor]:
        """Natural parameters (B, L, L) and (B, L) of the belief after `known` (B,) transitions, of
        which `context` (B, C, F) is a sample: each of its factors stands for known / C."""
        s, packed = self.shapes, context.packed
        end = s.obs + s.action + 1 + (s.obs if self.config.context_next_obs else 0)
        precision, weighted_mean = self.encoder(packed[..., :end])
        share = known / packed.shape[1]
        prior = torch.eye(self.config.latent, device=self.device)
        return prior + share[:, None, None] * precision, share[:, None] * weighted_mean

    # Beliefs, to be stored.

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        return belief._asdict()

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        return Belief(**tensors).to(self.device)
