"""The contract of an agent: four verbs, and its state.

Training, evaluation, `metarl adapt` and a robot all run the same loop::

    belief = agent.prior(tasks, replicas, draws)
    while True:
        action = agent.act(obs, belief, noise)
        belief = agent.infer(belief, step)
    agent.learn(trial, seed, iteration)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.trial import Steps, Trial

_ABOVE_ZERO = ("std", "temperature")  # their logarithms are what is learned
_SHARES = ("discount", "decay", "inner_decay", "spread_decay", "target_rate", "backtrack")
_MAY_BE_ZERO = ("explore", "factor_rank", "layers", "encoder_layers", "unroll")


def check_config(config: Any) -> None:
    """Raise UserError where a number of an agent's Config makes no sense: it is not finite, or lies
    below 0 or, of a count, below 1 where its default does not."""
    for field in fields(config):
        value, default = getattr(config, field.name), field.default
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least = 1 if isinstance(value, int) and default != 0 and field.name not in _MAY_BE_ZERO \
            else 0
        known = isinstance(default, int | float) and default >= 0
        if field.name in _ABOVE_ZERO:
            if 0 < value < math.inf:
                continue
            wanted = "a number above 0"
        elif math.isfinite(value) and (value >= least or not known):
            if value <= 1 or field.name not in _SHARES:
                continue
            wanted = "a number from 0 to 1"
        else:
            wanted = f"a number of at least {least}"
        name = field.name.replace("_", "-")
        raise UserError(f"--config.{name} {value:g} makes no sense; give {wanted}")


@dataclass(frozen=True)
class Shapes:
    """The sizes that an agent must know about a family, and nothing else about it."""

    obs: int  # O
    action: int  # A
    task: int  # D; for an oracle, and an agent that a teacher tells what it would do
    horizon: int  # H, control steps of an episode


@dataclass(frozen=True)
class Plan:
    """What an agent wants collected before each `learn`, and how it is judged."""

    tasks: int  # M, tasks of one iteration
    replicas: int  # R, rows per task
    episodes: int  # K, episodes of a trial
    noise_when_judged: bool = False  # it needs its exploration noise in order to adapt
    pools: bool = False  # the rows of one task share what they live in it
    sees_task: bool = False  # an oracle: it is told the task in `prior`, and reads it in a trial
    adapts: bool = True  # what it lives in a task may change what it does there
    off_policy: bool = False  # it learns from whatever was acted: experts may act in its trials
    infers_in_training: bool = True  # False: a trial that it learns from is acted on the prior
    taught: int = 0  # iterations in which its trials tell what the scripted policy would have done

    def env_steps(self, horizon: int) -> int:
        """Control steps of one iteration."""
        return self.tasks * self.replicas * self.episodes * horizon


class Agent(Protocol):
    """A meta-reinforcement-learning agent. Rows are task-major: row = task * replicas + replica."""

    plan: Plan
    device: torch.device

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Any:
        """The belief (any value) about M tasks before the first step. `tasks` is (M, D): its
        length is all that an agent may use, unless its plan says that it sees the task."""
        ...

    def act(self, obs: Tensor, belief: Any, noise: Tensor | None) -> Tensor:
        """Actions (N, A) in [-1, 1] for obs (N, O); with noise None, the mean action."""
        ...

    def infer(self, belief: Any, step: Steps) -> Any:
        """The belief after one more step (N, ...) of every row."""
        ...

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        """Improve from one trial (T, N, ...); numbers to log."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that training needs to go on, bit for bit."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        ...

    def policy_state(self) -> dict[str, Tensor]:
        """The part of the state that acting and inferring need."""
        ...

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `policy_state` returned."""
        ...

    def pack(self, belief: Any) -> dict[str, Tensor]:
        """A belief as named tensors, to be stored. Raises ValueError inside an episode where the
        agent cannot store a belief then."""
        ...

    def unpack(self, tensors: Mapping[str, Tensor]) -> Any:
        """The belief that `pack` stored."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """An agent whose belief about a task may be a vector that can be looked at."""

    def embed(self, belief: Any) -> Tensor | None:
        """What it knows of the task of each row, (N, E), or of each task, (M, E); None where its
        settings leave it no such vector."""
        ...


@runtime_checkable
class Imitates(Protocol):
    """An agent to which steps that another acted are no evidence for `infer`."""

    def imitate(self, belief: Any, lived: Steps) -> Any:
        """The belief, of one task, after an episode (S, ...) that somebody demonstrated."""
        ...


class Fixed:
    """An agent that neither infers nor learns: subclasses say how it acts."""

    device = torch.device("cpu")
    plan = Plan(tasks=1, replicas=1, episodes=1)

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> None:
        return None

    def infer(self, belief: None, step: Steps) -> None:
        return None

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def policy_state(self) -> dict[str, Tensor]:
        return {}

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        pass

    def pack(self, belief: None) -> dict[str, Tensor]:
        return {}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        return None
