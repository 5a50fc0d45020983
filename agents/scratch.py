"""Scratch: SB3's SAC that was never trained before, and learns in the variant alone.

What can be had without meta-training: after each episode in a variant it takes gradient steps on
exactly what it has lived there. It explores in the first of them, then acts by its mean action.
Nothing is learned within an episode: the policy of each is that of its beginning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agent import Plan, Shapes
from metarl.agents.blind import word
from metarl.agents.sb3 import STEP, Sac, SacConfig, Tensors, row
from metarl.agents.state import named, under
from metarl.randomness import Draws, Role, generator
from metarl.trial import Steps, Trial

_ROWS = ("words", "episode", "learned")  # of a belief: its tensors (N, ...)


@dataclass(frozen=True)
class Config(SacConfig):
    """Hyperparameters of learning in a variant."""

    adapt_updates: float = 1.0  # gradient steps per step of an episode in a variant; SB3's own 1
    adapt_batch: int = 64  # transitions of such a gradient step
    adapt_rate: float = 5e-4  # Adam's step there
    explore: int = 1  # episodes in a variant in which it explores


class Belief(NamedTuple):
    """What each row has lived, and what its own SAC has made of it."""

    words: Tensor  # (N, 4) keys of the draws: seed, iteration, task, replica
    episode: Tensor  # (N,) episodes finished
    learned: Tensor  # (N,) how many of the steps in `lived` are in the row's own replay
    lived: tuple[Steps, ...]  # (N, ...) each, since all rows last had learned
    learners: tuple[Tensors, ...]  # each row's, with its replay; none until one has learned
    actors: Tensors  # (N, ...) what acting needs of them


class Scratch:
    """The agent `scratch`. Each row learns for itself, replicas of one task too."""

    Config = Config

    def __init__(self, config: Config, shapes: Shapes, seed: int, device: torch.device) -> None:
        self.config, self.device = config, device
        # There is nothing to train: one episode is the least that makes a run.
        self.plan = self._plan(tasks=1, episodes=1)
        self.sac, self._pupil = (
            Sac(config, shapes.obs, shapes.action, word(seed), device) for _ in range(2)
        )
        self._unlived = self._pupil.replay()

    def _plan(self, tasks: int, episodes: int) -> Plan:
        # In training there is no variant to learn in.
        return Plan(tasks, 1, episodes, noise_when_judged=self.config.explore > 0,
                    infers_in_training=False)

    # Acting.

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Belief:
        replica = torch.arange(replicas).repeat(len(tasks))[:, None]
        words = torch.cat([draws.words.repeat_interleave(replicas, 0), replica], 1)
        none = torch.zeros(len(words), dtype=torch.long)
        return Belief(words, none, none, (), (), {})

    def act(self, obs: Tensor, belief: Belief, noise: Tensor | None) -> Tensor:
        if noise is not None:
            explores = belief.episode < max(self.config.explore, 1)
            noise = noise * explores[:, None].to(noise.device)
        if not belief.learners:
            return self.sac.act(obs, noise)
        return self.sac.act_as(belief.actors, obs, noise)

    def infer(self, belief: Belief, step: Steps) -> Belief:
        last = step.last.cpu()
        belief = belief._replace(lived=(*belief.lived, step), episode=belief.episode + last)
        return self._adapted(belief, last) if last.any() else belief

    def _adapted(self, belief: Belief, rows: Tensor) -> Belief:
        """The belief after the masked rows (N,) have learned from what is new to them."""
        learners = list(belief.learners) or [{**self.sac.learner(), **self._unlived}] * len(rows)
        learned = belief.learned.clone()
        for i in rows.nonzero()[:, 0].tolist():
            new = row(belief.lived[int(learned[i]):], i)
            learners[i] = self._taught(learners[i], new, _word(belief, i))
            learned[i] = len(belief.lived)
        # What every row has in its replay need not be kept here too.
        known = int(learned.min())
        return belief._replace(lived=belief.lived[known:], learned=learned - known,
                               learners=tuple(learners), actors=_stacked(learners))

    def _taught(self, learner: Tensors, lived: Steps, draws: int) -> Tensors:
        """A row's learner after one more episode."""
        c, pupil = self.config, self._pupil
        pupil.load_learner(learner)
        pupil.load_replay(learner)
        updates = round(c.adapt_updates * len(lived.reward))
        pupil.learn(lived, updates, c.adapt_batch, c.adapt_rate, draws)
        return {**pupil.learner(), **pupil.replay()}

    # Learning.

    def learn(self, trial: Trial, seed: int, iteration: int) -> dict[str, float]:
        return {}

    # State.

    def state(self) -> dict[str, Tensor]:
        return self.sac.learner()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.sac.load_learner(state)

    def policy_state(self) -> dict[str, Tensor]:
        return self.sac.learner()

    def load_policy_state(self, state: Mapping[str, Tensor]) -> None:
        self.sac.load_learner(state)

    def pack(self, belief: Belief) -> dict[str, Tensor]:
        packed = {name: getattr(belief, name) for name in _ROWS}
        if belief.lived:
            each = [row(belief.lived, i) for i in range(len(belief.words))]
            packed |= named("lived", {
                name: torch.stack([getattr(one, name) for one in each], 1) for name in STEP
            })
        for i, learner in enumerate(belief.learners):
            packed |= named(f"row/{i}", learner)
        return packed

    def unpack(self, tensors: Mapping[str, Tensor]) -> Belief:
        lived = {name: t.to(self.device) for name, t in under("lived", tensors).items()}
        steps = [Steps(**dict(zip(lived, parts, strict=True)))
                 for parts in zip(*(t.unbind() for t in lived.values()), strict=True)]
        rows = range(len(tensors["words"]))
        learners = [found for i in rows if (found := under(f"row/{i}", tensors))]
        return Belief(*(tensors[name].cpu() for name in _ROWS), tuple(steps), tuple(learners),
                      _stacked(learners))


def _word(belief: Belief, i: int) -> int:
    """What the draws of a row's learning are seeded by, after each episode anew."""
    seed, iteration, task, replica = belief.words[i].tolist()
    source = generator(seed, iteration, task, Role.BELIEF, count=int(belief.episode[i]))
    return int(source.integers(2**63 - 1, size=replica + 1)[-1])


def _stacked(learners: list[Tensors]) -> Tensors:
    """What acting needs of learners, (N, ...) each."""
    names = [n for learner in learners[:1] for n in learner if n.startswith(("actor/", "moments/"))]
    return {name: torch.stack([learner[name] for learner in learners]) for name in names}
