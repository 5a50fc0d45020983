"""A family on an engine: N parallel worlds, each with its own hidden task."""

import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, Frame, Random, default_task
from metarl.randomness import Draws
from metarl.trial import Steps


class Worlds:
    """N worlds in lock-step. Tensors in, tensors out, float32, on the engine's device.

    An episode that ends is followed by the next one of the same task, so that trials are
    rectangular (T, N). A time limit is not a terminal. A row whose simulation diverges, or whose
    action is not finite, is flagged in `diverged`, ends there with reward 0, and starts anew
    without touching the others.
    """

    def __init__(self, family: Family, rows: int, threads: int = 0) -> None:
        self.family = family
        self.rows = rows
        self.engine = BatchEngine(family, rows, threads)
        self.tasks = default_task(family).expand(rows, -1).clone()  # (N, D) float64
        self.diverged = torch.zeros(rows, dtype=torch.bool)
        self._none = torch.zeros(rows, dtype=torch.bool)
        self._step = torch.zeros(rows, dtype=torch.long)  # of the running episode
        self._episode = torch.zeros(rows, dtype=torch.long)  # of the trial
        self._draws = Draws.of(0, 0, rows)
        low, high = torch.from_numpy(self.engine.model.actuator_ctrlrange.copy()).T
        self._centre, self._half = (low + high) / 2, family.action_scale * (high - low) / 2
        self._frame = self.engine.default_frame()
        self.set_tasks(self.tasks)
        self._frame = self._start(~self._none)
        self.obs = family.observe(self._frame).float()  # (N, O)

    @property
    def shapes(self) -> Shapes:
        """The sizes that an agent must know."""
        return Shapes(
            self.obs.shape[1], len(self._half), self.tasks.shape[1], self.family.horizon
        )

    def set_tasks(self, tasks: Tensor) -> None:
        """Give row i task i of (N, D), from its next reset on for what physics does not see, and
        at once for the model's fields: reset after it."""
        if tasks.shape != self.tasks.shape:
            raise ValueError(f"tasks must be {tuple(self.tasks.shape)}, got {tuple(tasks.shape)}")
        self.tasks = tasks.double().cpu()
        self.engine.set_tasks(self.tasks)

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Start a new episode in the masked rows (N,), in all by default; obs (N, O).

        With `draws` a new trial begins, of which this is episode 0.
        """
        mask = ~self._none if mask is None else mask
        if draws is not None:
            self._draws = draws
            self._episode = torch.zeros_like(self._episode)
        self._frame = self._start(mask)
        self.obs = self.family.observe(self._frame).float()
        return self.obs

    def step(self, action: Tensor, mask: Tensor | None = None, autoreset: bool = True) -> Steps:
        """One control step of the masked rows (all by default) with action (N, A) in [-1, 1].

        Ended rows are reset before it returns, unless `autoreset` is off; `obs` is then what the
        next action must answer, while `next_obs` in the steps is the episode's own last word.
        """
        action = action.to(self._half.device).float()
        finite = action.isfinite().all(1)
        if not finite.all():
            action = torch.where(finite[:, None], action, 0.0)
        action = action.clamp(-1, 1)
        applied = self.family.action_scale * action.double()
        control = self._centre + self._half * action
        before, obs = self._frame, self.obs
        failed = self.engine.step(control.numpy(), None if mask is None else mask.numpy())
        self.diverged = torch.from_numpy(failed) | ~finite
        self._frame = self.engine.frame()
        self._step += 1 if mask is None else mask.long()
        after = self._frame
        next_obs = self.family.observe(after).float()
        reward = self.family.reward(before, applied, after, self.tasks).float()
        terminated = self.family.terminated(after)
        if self.diverged.any():
            next_obs = torch.where(self.diverged[:, None], obs, next_obs)
            reward = torch.where(self.diverged, 0.0, reward)
            terminated = terminated & ~self.diverged
        last = terminated | self.diverged | (self._step >= self.family.horizon)
        outcome = {}
        self.obs = next_obs
        if last.any():
            outcome = {
                name: torch.where(last & ~self.diverged, value, torch.nan).float()
                for name, value in self.family.outcome(after, self.tasks).items()
            }
            if autoreset:
                self._episode += last.long()
                self._frame = self._start(last)
                self.obs = self.family.observe(self._frame).float()
        return Steps(obs, action, reward, next_obs, terminated, last, outcome)

    def _start(self, mask: Tensor) -> Frame:
        """Put the masked rows at the start of an episode; the new frame."""
        frame = self.engine.default_frame()
        for episode in self._episode[mask].unique().tolist():
            chosen = mask & (self._episode == episode)
            draws = self._draws
            start = self.family.reset(frame, self.tasks, Random(draws, episode))
            self.engine.reset(chosen.numpy(), start)
        self._step[mask] = 0
        return self.engine.frame()
