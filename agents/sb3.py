"""Stable-Baselines3's SAC as metarl drives it: its networks, its replay, its gradient steps.

SB3 steps its own environment, and draws from the random streams that all modules share. Here it is
given steps that were lived elsewhere and, while it learns, streams of its own; all that it knows
can be taken out and put back as tensors. Haarnoja et al., "Soft Actor-Critic Algorithms and
Applications" (2018); Raffin et al., "Stable-Baselines3" (JMLR 2021).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from metarl.agents.state import load_optimizer_state, named, optimizer_state, under
from metarl.trial import Steps, Trial

_CRITICS = ("critic", "critic_target")
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
STEP = ("obs", "action", "reward", "next_obs", "terminated", "last")
_LOGGED = {"critic_loss": "loss/critic", "actor_loss": "loss/policy",
           "ent_coef": "policy/temperature"}
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class SacConfig:
    """Hyperparameters of SB3's SAC."""

    hidden: int = 160  # units of a layer of policy and critics
    layers: int = 2  # hidden layers of policy and critics
    capacity: int = 1_000_000  # transitions kept
    discount: float = 0.99  # per step
    target_rate: float = 0.005  # share of the critics that flows into their targets per step
    temperature: float = 0.1  # of the entropy bonus at the start; it is learned from there
    entropy: float = 1.0  # target entropy, in units of minus the number of actions


class Sac:
    """One SAC, for observations of `inputs` numbers. `word` seeds its weights."""

    def __init__(
        self, config: SacConfig, inputs: int, actions: int, word: int, device: torch.device
    ) -> None:
        self.device, c = device, config
        # Wrapped by SB3 itself, so that it normalises what it samples.
        self._env = VecNormalize(
            DummyVecEnv([partial(_Spaces, inputs, actions)]), norm_reward=False
        )
        with _streams(word, device):
            self.model = SAC(
                "MlpPolicy", self._env, buffer_size=c.capacity, tau=c.target_rate,
                gamma=c.discount, ent_coef=f"auto_{c.temperature}",
                target_entropy=-c.entropy * actions,
                policy_kwargs={"net_arch": [c.hidden] * c.layers}, device=device,
            )
        self.model.set_logger(Logger(None, []))
        self._gaussian = _Gaussian(self.model.actor)

    # Acting.

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions (N, A) for obs (N, O)."""
        mean, variance = _tensor(self._moments.mean), _tensor(self._moments.var)
        return _squashed(*self._gaussian(self._normalised(obs, mean, variance)), noise)

    @torch.no_grad()
    def act_as(self, learners: Tensors, obs: Tensor, noise: Tensor | None) -> Tensor:
        """The same, each row by its own learner: `learners` holds what `acting` of each said,
        stacked (N, ...)."""
        mean, variance = learners["moments/mean"], learners["moments/variance"]
        actors = {f"actor.{name}": t for name, t in under("actor", learners).items()}
        rows = self._normalised(obs, mean, variance)[:, None]
        call = torch.vmap(partial(torch.func.functional_call, self._gaussian))
        mean, log_std = (x.squeeze(1) for x in call(actors, (rows,)))
        return _squashed(mean, log_std, noise)

    def _normalised(self, obs: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """As VecNormalize does, obs (N, O) by moments (O,) or (N, O)."""
        mean, variance = mean.to(self.device), variance.to(self.device)
        scaled = (obs.double() - mean) / (variance + self._env.epsilon).sqrt()
        return scaled.clamp(-self._env.clip_obs, self._env.clip_obs).float()

    # Learning.

    def learn(
        self, lived: Steps, updates: int, batch: int, rate: float, word: int
    ) -> dict[str, float]:
        """Add steps (S, ...) to the replay and take gradient steps on `batch` transitions each,
        drawn as `word` seeds; numbers to log. Steps that are not finite are left out, and so are
        all gradient steps where they would lead to weights that are not."""
        finite = _finite(lived)
        self._add(_picked(lived, finite))
        lost = 1 - finite.float().mean().item()
        if not updates or not len(self):
            return {"health/nonfinite": lost}
        before = self.learner()
        self.model.lr_schedule = lambda _: rate
        with _streams(word, self.device):
            self.model.train(updates, batch)
        if not all(tensor.isfinite().all() for tensor in self.learner().values()):
            self.load_learner(before)
            lost = 1.0
        said = self.model.logger.name_to_value
        losses = {name: float(said[f"train/{key}"]) for key, name in _LOGGED.items()}
        return {**losses, "health/nonfinite": lost}

    def _add(self, lived: Steps) -> None:
        """As SB3's own collecting does. An episode that ends without being terminated met its
        time limit: SB3 bootstraps from what followed."""
        if not len(lived.reward):
            return
        obs, action, reward, next_obs, terminated, last = (
            getattr(lived, name).cpu().numpy() for name in STEP
        )
        self._moments.update(obs)
        infos = [[{"TimeLimit.truncated": limit}] for limit in last & ~terminated]
        self._replay.extend(obs, next_obs, action, reward, last, infos)

    def __len__(self) -> int:
        """Transitions in the replay."""
        return self._replay.size()

    # State.

    def acting(self) -> Tensors:
        """What acting needs: the policy, and the moments that observations are normalised by."""
        moments = {"mean": _tensor(self._moments.mean), "variance": _tensor(self._moments.var),
                   "count": torch.tensor(self._moments.count, dtype=torch.float64)}
        return _copied({**named("actor", self.model.actor.state_dict()),
                        **named("moments", moments)})

    def load_acting(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `acting` returned."""
        self.model.actor.load_state_dict(under("actor", tensors))
        moments = {name: t.cpu().numpy().copy() for name, t in under("moments", tensors).items()}
        self._moments.mean, self._moments.var = moments["mean"], moments["variance"]
        self._moments.count = float(moments["count"])

    def learner(self) -> Tensors:
        """What going on to learn needs beside the replay."""
        critics = {name: getattr(self.model, name).state_dict() for name in _CRITICS}
        states = {name: optimizer_state(o) for name, o in self._optimizers().items()}
        parts = [*(named(name, state) for name, state in critics.items()),
                 *(named(f"optimizer/{name}", state) for name, state in states.items())]
        flat = {name: tensor for part in parts for name, tensor in part.items()}
        return {**self.acting(), **_copied({**flat, "log_temperature": self._log_temperature})}

    def load_learner(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `learner` returned."""
        self.load_acting(tensors)
        for name in _CRITICS:
            getattr(self.model, name).load_state_dict(under(name, tensors))
        for name, optimizer in self._optimizers().items():
            # An optimiser keeps the very tensors that it is given, and changes them.
            load_optimizer_state(optimizer, _copied(under(f"optimizer/{name}", tensors)))
        self._log_temperature.data.copy_(tensors["log_temperature"])

    def replay(self) -> Tensors:
        """The transitions, as far as there are any, and where the next one goes."""
        filled = {name: _tensor(getattr(self._replay, name)[: len(self), 0]) for name in _REPLAY}
        return named("replay", _copied({**filled, "next": torch.tensor(self._replay.pos)}))

    def load_replay(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `replay` returned."""
        found, buffer = under("replay", tensors), self._replay
        count = len(found["rewards"])
        for name in _REPLAY:
            getattr(buffer, name)[:count, 0] = found[name].cpu().numpy()
        buffer.pos, buffer.full = int(found["next"]), count == buffer.buffer_size

    @property
    def _moments(self) -> RunningMeanStd:
        assert isinstance(self._env.obs_rms, RunningMeanStd)
        return self._env.obs_rms

    @property
    def _replay(self) -> ReplayBuffer:
        assert self.model.replay_buffer is not None
        return self.model.replay_buffer

    @property
    def _log_temperature(self) -> Tensor:
        assert self.model.log_ent_coef is not None
        return self.model.log_ent_coef

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        assert self.model.ent_coef_optimizer is not None
        return {"actor": self.model.actor.optimizer, "critic": self.model.critic.optimizer,
                "temperature": self.model.ent_coef_optimizer}


def flattened(trial: Trial) -> Steps:
    """All steps of a trial in one row (T * N, ...), the earliest first."""
    return Steps(**{name: getattr(trial, name).flatten(0, 1) for name in STEP})


def row(lived: tuple[Steps, ...], number: int) -> Steps:
    """What one row lived, (T, ...)."""
    return Steps(**{
        name: torch.stack([getattr(step, name)[number] for step in lived]) for name in STEP
    })


class _Spaces(gymnasium.Env):
    """All that SB3 must know of an environment to build its networks."""

    def __init__(self, inputs: int, actions: int) -> None:
        self.observation_space = Box(-np.inf, np.inf, (inputs,))
        self.action_space = Box(-1, 1, (actions,))


class _Gaussian(nn.Module):
    """The distribution before tanh, as something that can be called with other weights."""

    def __init__(self, actor: nn.Module) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation (N, A) for normalised obs (N, O)."""
        return self.actor.get_action_dist_params(obs)[:2]  # pyright: ignore[reportCallIssue]


def _squashed(mean: Tensor, log_std: Tensor, noise: Tensor | None) -> Tensor:
    return (mean if noise is None else mean + log_std.exp() * noise).tanh()


def _finite(lived: Steps) -> Tensor:
    """(S,) bool: steps all of whose numbers are finite."""
    numbers = [lived.obs, lived.action, lived.reward[:, None], lived.next_obs]
    return torch.cat(numbers, 1).isfinite().all(1)


def _picked(lived: Steps, mask: Tensor) -> Steps:
    return Steps(**{name: getattr(lived, name)[mask] for name in STEP})


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def _copied(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@contextmanager
def _streams(word: int, device: torch.device) -> Iterator[None]:
    """Seed the random streams that SB3 draws from, which all modules share, and leave them
    afterwards as they were."""
    kept = np.random.get_state()
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.set_rng_state(torch.Generator().manual_seed(word).get_state())
        for each in cuda:
            torch.cuda.set_rng_state(torch.Generator(each).manual_seed(word).get_state(), each)
        np.random.set_state(np.random.RandomState(np.random.MT19937(word)).get_state())
        try:
            yield
        finally:
            np.random.set_state(kept)
