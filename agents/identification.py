"""What a task is like, told from what it pays: the context under which a model best explains the
rewards that were earned.

In training a model learns to tell the reward of an action at an observation, given what describes
the task. In a new task an inner step moves the context to where the model's errors are least, by
damped least squares (Levenberg 1944, Marquardt 1963). A policy gradient asks of each action whether
to repeat it; here a reward far off says where it must come from, and one round tells much of a
goal. What rewards do not depend on stays where it was.

After MIER (Mendonca et al., "Meta-Reinforcement Learning Robust to Distributional Shift via Model
Identification and Experience Relabeling", 2020), which adapts the context of a model of rewards and
observations by gradient steps, and acts by a policy that is told it. Differences: contexts are what
describes tasks in training, in deviations, not learned ones; and steps are least squares.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.agents.networks import Normalizer
from metarl.agents.regression import regressed
from metarl.agents.rounds import Round
from metarl.agents.stacked import initial, policy, stacked
from metarl.agents.state import named, under
from metarl.trial import Trial

_STEPS = 10  # of least squares in a round
_DAMPING = 0.01  # added to the squares of slopes: what tells less of the reward hardly moves
_FARTHEST = 1.0  # length of a step: the model is not a straight line
_SAMPLES = 30  # of a rollout, evenly spaced: the next reward tells little more


class Identification:
    """A model of rewards, and the units in which it sees them and what describes a task."""

    def __init__(
        self, shapes: Shapes, hidden: list[int], source: torch.Generator, device: torch.device
    ) -> None:
        sizes = [shapes.obs + shapes.action, *hidden, 1]
        fresh = initial(sizes, 1.0, shapes.task, source)
        self.model = {name: w.to(device) for name, w in fresh.items()}
        self.tasks = Normalizer(shapes.task).to(device)
        self.rewards = Normalizer(1).to(device)
        self.horizon, self.device = shapes.horizon, device

    def described(self, trial: Trial) -> Tensor:
        """The contexts (T, N, C) that describe what each row of a trial lived in, in deviations of
        all that training has seen, these included."""
        tasks = trial.task.float()
        self.tasks.update(tasks)
        return self.tasks(tasks.to(self.device)).expand(len(trial), -1, -1)

    def explained(self, context: Tensor, rounds: Sequence[Round]) -> list[Round]:
        """The rounds, each with the way from the context (M, 1, C) that was told in it to that
        which explains what it earned, and in which the next one is lived."""
        found = []
        for lived in rounds:
            found.append(lived._replace(way=self._way(context, lived)))
            context = context + found[-1].way
        return found

    @torch.no_grad()
    def _way(self, context: Tensor, lived: Round) -> Tensor:
        # Of every rollout's H samples, one after the other.
        kept = torch.arange(self.horizon)[:: -(-self.horizon // _SAMPLES)]
        kept = (kept + self.horizon * torch.arange(lived.action.shape[1] // self.horizon)[:, None])
        some = (x[:, kept.flatten()] for x in (lived.obs, lived.action, lived.reward))
        return self.explaining(context, *some) - context

    def explaining(self, context: Tensor, obs: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        """The contexts (M, 1, C), near those given, that explain rewards (M, S) of actions
        (M, S, A) at observations (M, S, O)."""
        size = context.shape[-1]
        # Without what rollouts' own contexts deviate by, behind an observation.
        observed = self.model["weight0"].shape[0] - action.shape[-1]
        seen = torch.cat([obs[..., :observed], action.clamp(-1, 1)], -1)
        reward = self.rewards(reward[..., None])
        model = stacked(self.model, len(context))
        known = (seen.isfinite().all(-1) & reward[..., 0].isfinite())[..., None]
        seen, reward = seen.where(known, 0), reward.where(known, 0)
        damping = _DAMPING * torch.eye(size, device=context.device)
        for _ in range(_STEPS):
            own = context.new_zeros(*seen.shape[:2], size).requires_grad_()
            with torch.enable_grad():
                told = policy(model | {"context": context}, torch.cat([seen, own], -1)).mean
                (slope,) = torch.autograd.grad(told.sum(), own)  # each sample's, (M, S, C)
            slope, error = slope * known, (reward - told.detach()) * known
            square = slope.mT @ slope / seen.shape[1] + damping
            step = torch.linalg.solve(square, slope.mT @ error / seen.shape[1]).mT
            context = context + step * (_FARTHEST / step.norm(dim=-1, keepdim=True)).clamp(max=1)
        return context

    def learn(
        self, obs: Tensor, trial: Trial, told: Tensor, rate: float, source: torch.Generator
    ) -> dict[str, float]:
        """Fit the model to what a trial earned at obs (T, N, O), as the policy sees them, in the
        contexts (T, N, C) that describe its tasks; its squared error before, to log."""
        action, reward = (x.to(self.device) for x in (trial.action, trial.reward[..., None]))
        known = torch.cat([obs, action, reward], -1).isfinite().all(-1)
        if not known.any():
            return {}
        self.rewards.update(reward[known])
        seen = torch.cat([obs[known], action[known].clamp(-1, 1)], -1)
        self.model, error = regressed(self.model, seen, told[known], self.rewards(reward[known]),
                                      rate, source)
        return {"loss/model": error}

    # State.

    def state_dict(self) -> dict[str, Tensor]:
        """All that identifying and learning on need."""
        return {**named("model", self.model), **named("tasks", self.tasks.state_dict()),
                **named("rewards", self.rewards.state_dict())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        found = under("model", state)
        self.model = {name: found[name].to(self.device, copy=True) for name in self.model}
        self.tasks.load_state_dict(under("tasks", state))
        self.rewards.load_state_dict(under("rewards", state))
