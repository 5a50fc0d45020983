"""A family on an engine: N parallel worlds, each with its own hidden task."""

import logging
import math

import numpy as np
import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.envs import form
from metarl.envs.arrays import Array
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, Frame, Random, default_task
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.trial import Steps

_log = logging.getLogger("metarl")


class Worlds:
    """N worlds in lock-step. Tensors in, tensors out, float32, on the engine's device; the family
    between them computes on arrays.

    An episode that ends is followed by the next one of the same task, so that trials are
    rectangular (T, N). A time limit is not a terminal. A row whose simulation diverges, or whose
    action, reward or observation is not finite, is flagged in `diverged`, ends there with reward 0,
    and starts anew without touching the others.
    """

    def __init__(self, family: Family, rows: int, threads: int = 0) -> None:
        self.family = family
        self.rows = rows
        self.engine = BatchEngine(family, rows, threads)
        self.tasks = default_task(family).expand(rows, -1).clone()  # (N, D) float64
        self.diverged = torch.zeros(rows, dtype=torch.bool)
        # Bookkeeping is numpy's: calls on arrays this small cost less there than in torch.
        self._all = np.ones(rows, bool)
        self._step = np.zeros(rows, np.int64)  # of the running episode
        self._episode = np.zeros(rows, np.int64)  # of the trial
        self._held = np.zeros(rows, np.int64)  # control steps in a row that `holds` was true
        self._draws = Draws.of(0, 0, rows)
        self._told = set[str]()  # functions of the family that have given what is not finite
        if not 0 < family.action_scale < math.inf:
            raise UserError(f"{family.name}: an action_scale of {family.action_scale:g} makes no "
                            "sense; give a number above 0")
        low, high = self.engine.model.actuator_ctrlrange.T.copy()
        if not (low < high).all():
            first = self.engine.model.actuator(int((low >= high).argmax())).name
            raise UserError(f"{family.name}: actuator {first!r} has no ctrlrange; actions in "
                            "[-1, 1] are shares of it")
        self._centre, self._half = (low + high) / 2, (high - low) / 2
        self._controls = type(family).control is not Family.control
        self._never_terminates = type(family).terminated is Family.terminated
        self.set_tasks(self.tasks)
        self.frame = self._start(self._all)
        self.obs = self._look()  # (N, O)

    @property
    def shapes(self) -> Shapes:
        """The sizes that an agent must know."""
        actions = self.family.commands or len(self._half)
        return Shapes(self.obs.shape[1], actions, self.tasks.shape[1], self.family.horizon)

    def set_tasks(self, tasks: Tensor) -> None:
        """Give row i task i of (N, D), at once: reset after it."""
        if tasks.shape != self.tasks.shape:
            raise ValueError(f"tasks must be {tuple(self.tasks.shape)}, got {tuple(tasks.shape)}")
        self.tasks = tasks.double().cpu()
        self._task = self.tasks.numpy()
        self.engine.set_tasks(self.tasks)

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Start the next episode in the masked rows (N,), in all by default; obs (N, O).

        With `draws` a new trial begins there, of which this is episode 0.
        """
        rows = self._all if mask is None else mask.numpy()
        if draws is None:
            self._episode += rows
        else:
            self._draws = draws
            self._episode[rows] = 0
        self.frame = self._start(rows)
        obs = self._look()
        # A row that diverged and was not reset has a last obs, but no state to observe.
        self.obs = torch.where(torch.from_numpy(rows)[:, None], obs, self.obs)
        return self.obs

    def step(self, action: Tensor, mask: Tensor | None = None, autoreset: bool = True) -> Steps:
        """One control step of the masked rows (all by default) with action (N, A): the family's
        `control` gets it times `action_scale`, clamped to [-1, 1]; the steps keep it as it is.

        Ended rows are reset before it returns, unless `autoreset` is off; `obs` is then what the
        next action must answer, while `next_obs` in the steps is the episode's own last word.
        Rows outside the mask stay as they are, with reward 0.
        """
        rows = self._all if mask is None else mask.numpy()
        action, broken = _usable(action)
        # Scaled before it is clamped: an agent with unbounded actions keeps the whole range.
        exact = np.multiply(action.numpy(), self.family.action_scale, dtype=np.float64)
        np.minimum(exact, 1.0, out=exact)
        np.maximum(exact, -1.0, out=exact)
        before, obs = self.frame, self.obs
        shares = self._control(before, exact) if self._controls else exact
        control = self._half * shares
        control += self._centre
        failed = self._advance(control, None if mask is None else rows)
        if broken is not None:
            failed |= broken & rows
        self._step += rows
        self.frame = after = self.engine.frame()
        next_obs = self._look()
        earned = self.family.reward(before, exact, after, self._task)
        reward = form.rows(self.family, "reward", earned, self.rows, 1)
        if not math.isfinite(reward.sum() + next_obs.numpy().sum()):
            failed |= self._unsound(reward, next_obs.numpy()) & rows
        fails = failed.any()
        if mask is not None or fails:
            valid = rows & ~failed
            next_obs = torch.where(torch.from_numpy(valid)[:, None], next_obs, obs)
            reward[~valid] = 0.0
        if self.family.hold:
            holds = self.family.holds(after, self._task) & ~failed
            self._held = np.where(rows, (self._held + 1) * holds, self._held)
        last = self._step >= self.family.horizon
        terminated = self._terminated(after, rows, failed)
        if fails or not self._never_terminates:
            last |= terminated | failed
        last &= rows
        self.diverged, self.obs, outcome = torch.from_numpy(failed), next_obs, {}
        if last.any():
            outcome = self._outcome(after, last, failed)
            if autoreset:
                self._episode += last
                self.frame = self._start(last)
                self.obs = self._look()
        return Steps(
            obs, action, torch.from_numpy(reward), next_obs, torch.from_numpy(terminated),
            torch.from_numpy(last), outcome,
        )

    def _unsound(self, reward: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """The rows (N,) of which the family computed what is not finite; told where the simulation
        itself is sound, once."""
        found = {"reward": ~np.isfinite(reward), "observe": ~np.isfinite(obs).all(1)}
        sound = np.isfinite(self.frame.qpos).all(1) & np.isfinite(self.frame.qvel).all(1)
        for name, rows in found.items():
            if (rows & sound).any() and name not in self._told:
                self._told.add(name)
                _log.warning(
                    "%s: `%s` gives what is not finite, in row %d first, though the simulation is "
                    "sound there; look for a logarithm, a root or a division in it. Such episodes "
                    "end there, as diverged.", self.family.name, name, (rows & sound).argmax())
        return found["reward"] | found["observe"]

    # What is otherwise on a real arm (metarl.envs.sim2real).

    def _look(self) -> Tensor:
        """What the policy is told of the frame: (N, O)."""
        return self._seen(self.frame)

    def _seen(self, frame: Frame) -> Tensor:
        """What the family makes of a frame for the policy: (N, O)."""
        seen = self.family.observe(frame)
        return torch.from_numpy(form.rows(self.family, "observe", seen, self.rows, 2))

    def _control(self, frame: Frame, action: Array) -> Array:
        """What the actuators get of an action, as shares of their ranges: (N, U)."""
        return self.family.control(frame, action)

    def _advance(self, control: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """One control step of the engine; which rows diverged: (N,)."""
        return self.engine.step(control, rows)

    def _terminated(self, frame: Frame, rows: np.ndarray, failed: np.ndarray) -> np.ndarray:
        if self._never_terminates:
            return np.zeros(self.rows, bool)
        return self.family.terminated(frame) & rows & ~failed

    def _outcome(self, frame: Frame, last: np.ndarray, failed: np.ndarray) -> dict[str, Tensor]:
        """What the family measures at the end of an episode, NaN outside the rows where one ends.
        One that diverges is no success; nothing else can be measured there."""
        outcome = self.family.outcome(frame, self._task)
        if self.family.hold:
            outcome = {"success": self._held >= self.family.hold, **outcome}
        measured = {name: np.where(last & ~failed, value, np.nan).astype(np.float32)
                    for name, value in outcome.items()}
        if "success" in measured:
            measured["success"][last & failed] = 0.0
        return {name: torch.from_numpy(value) for name, value in measured.items()}

    def _start(self, rows: np.ndarray) -> Frame:
        """Put the masked rows at the start of an episode; the new frame."""
        frame = self.engine.default_frame()
        random = Random(self._draws.only(torch.from_numpy(rows)), self._episode)
        self.engine.reset(rows, self.family.reset(frame, self._task, random))
        self._step[rows] = self._held[rows] = 0
        return self.engine.frame()


def _usable(action: Tensor) -> tuple[Tensor, np.ndarray | None]:
    """Actions (N, A), zero where not finite; the rows (N,) where they were not, if any."""
    if action.requires_grad or action.device.type != "cpu" or action.dtype != torch.float32:
        action = action.detach().cpu().float()
    finite = np.isfinite(action.numpy())
    if finite.all():
        return action, None
    usable = torch.from_numpy(finite.all(1))
    return torch.where(usable[:, None], action, 0.0), ~usable.numpy()
