"""An arm as worlds with one row: the family's own functions run on what the arm measures.

A policy sends the velocities of its joints at the family's rate; the guard does the rest. Below
full speed time is stretched, not the action shrunk: at a quarter of the speed a control step lasts
four times as long and velocities are told as four times what they are, while the arm follows the
path on which the family's arm would answer (`metarl.robot.reference`). One that obeys sooner than
any in training misleads a policy that infers its task, by centimetres.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agent import Shapes
from metarl.envs.family import Family, Frame, Random, Start, default_task
from metarl.envs.sim2real import History
from metarl.randomness import Draws
from metarl.robot.arm import ArmError, Mode, Vector
from metarl.robot.clock import HOST, Clock
from metarl.robot.link import Link, Phase, Report
from metarl.robot.measured import Measured, Perception, Sighting
from metarl.robot.reference import Reference
from metarl.trial import Steps

Log = Callable[[str, Mapping[str, Any]], None]  # a topic, and what is to be kept of it
# A policy's velocities jump from step to step: that the guard rounds that off is no trouble.
_ROUNDS_OFF = frozenset({"acceleration"})
_LONGEST = 0.2  # s that a command is good for at most
_GAIN = 3.0  # 1/s, of the way back to the start
_TURN = torch.ones(1, dtype=torch.bool)


@dataclass(frozen=True)
class Ready:
    """The arm is at the start of an episode."""


@dataclass(frozen=True)
class NeedsHuman:
    """A person must do something first, so that the episode can begin at its start."""

    reason: str
    start: Start | None = None


@dataclass(frozen=True)
class Authority:
    """How much of what a policy asks for it gets."""

    speed: float = 0.1  # of the speed that it was trained at
    blend: int = 0  # control steps of an episode over which its say grows from nothing to all

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 1 or self.blend < 0:
            raise ArmError("authority is a speed in (0, 1] and a blend of 0 or more steps")

    def share(self, step: int) -> float:
        """Of a policy's velocity at a step of an episode."""
        return 1.0 if step >= self.blend else (step + 1) / (self.blend + 1)


@dataclass(frozen=True)
class Rules:
    """What makes a rollout invalid, and what a start is."""

    late: float = 0.05  # share of the control steps that may begin more than half a step late
    limited: float = 0.5  # share of the control steps in which the guard may change the target
    age: float = 0.1  # s, of the newest state
    sight_age: float = 0.5  # s, of the newest sighting
    wait: float = 0.5  # s, for a report of the guard
    settled: float = 0.01  # rad, from the start
    placed: float = 0.03  # m, that an object may lie off its start
    reset: float = 10.0  # s at full speed, that the way back to the start may take


class Aborted(ArmError):
    """A rollout had to stop before its end; why."""


def refuse(needed: NeedsHuman) -> bool:
    """Nobody is there to help."""
    return False


def keep_nothing(topic: str, what: Mapping[str, Any]) -> None:
    """No log."""


class ArmWorlds:
    """`metarl.collect.WorldsLike` with one row: a real arm, behind a link to its guard.

    `label` says why the running episode is invalid, "" while it is not. A step that cannot be
    done raises Aborted, with the arm holding.
    """

    rows = 1

    def __init__(
        self, family: Family, link: Link, authority: Authority, clock: Clock = HOST,
        perception: Perception | None = None, ask: Callable[[NeedsHuman], bool] = refuse,
        log: Log = keep_nothing, rules: Rules = Rules(), history: int = 0,
    ) -> None:
        """`ask` tells a person what is needed, and whether it was done; `history` is how many past
        actions the policy was trained to see. Moves nothing."""
        self.family, self.link, self.rules = family, link, rules
        self.authority, self.clock, self.log = authority, clock, log
        self.measured = Measured(family, link.spec, perception is not None)
        self.tasks = default_task(family)[None]  # (1, D) float64
        self._perception, self._ask = perception, ask
        self.draws, self.episode = Draws.of(0, 0, 1), -1  # of the trial; the running one
        self._step = self._held = self._late = self._limited = 0
        self._limits: set[str] = set()  # that changed a target in this episode
        self._return = 0.0
        self._reference = Reference(self.measured, authority.speed)
        self._due: float | None = None  # when the next control step begins
        self.report = self._newest()
        self.frame = self._look()
        self._past = History(1, history, family.commands or len(self.measured.half))
        self.obs = self._observe()  # (1, O)

    @property
    def shapes(self) -> Shapes:
        """The sizes that an agent must know."""
        actions = self.family.commands or len(self.measured.half)
        return Shapes(self.obs.shape[1], actions, self.tasks.shape[1], self.family.horizon)

    @property
    def label(self) -> str:
        """Why the episode is invalid so far; "" if it is not."""
        steps = max(self._step, 1)
        if self._late > self.rules.late * steps:
            return f"{self._late} of {steps} control steps began late"
        if self._limited > self.rules.limited * steps:
            return (f"the guard changed the target in {self._limited} of {steps} control steps "
                    f"({', '.join(sorted(self._limits))}); a lower --speed stays within its limits")
        return ""

    def set_tasks(self, tasks: Tensor) -> None:
        """Judge by the task (1, D) from now on; the arm has whatever payload it has."""
        if tasks.shape != self.tasks.shape:
            raise ValueError(f"tasks must be {tuple(self.tasks.shape)}, got {tuple(tasks.shape)}")
        self.tasks = tasks.double().cpu()

    # Time.

    def reset(self, mask: Tensor | None = None, draws: Draws | None = None) -> Tensor:
        """Bring the arm to the start of the next episode; obs (1, O). With `draws` a new trial
        begins. Raises ArmError where that needs a person, and nobody helps."""
        self.episode = 0 if draws is not None else self.episode + 1
        self.draws = self.draws if draws is None else draws
        random = Random(self.draws.only(_TURN), self.episode)
        frame = self.measured.engine.default_frame()
        start = self.family.reset(frame, self.tasks.numpy(), random)
        while isinstance(found := self.bring(start), NeedsHuman):
            self.log("reset", {"t": self.clock.now(), "needs_human": found.reason})
            if not self._ask(replace(found, start=start)):
                raise ArmError(f"the arm needs a person: {found.reason}")
        self._step = self._held = self._late = self._limited = 0
        self._limits = set()
        self._return, self._due = 0.0, None
        self._reference.begin()
        self._past.forget()
        self.frame = self._look()
        self.obs = self._observe()
        self.log("start", {"t": self.clock.now(), "episode": self.episode,
                           "q": self.report.state.q.tolist(), "obs": self.obs[0].tolist()})
        return self.obs

    def step(self, action: Tensor, autoreset: bool = True) -> Steps:
        """One control step with action (1, A), as `metarl.envs.worlds.Worlds.step`."""
        if self._step >= self.family.horizon:
            raise ArmError("the episode is over; reset the arm")
        action = action.detach().cpu().float()
        if not action.isfinite().all():
            raise self._abort("the policy's action is not finite")
        before, obs = self.frame, self.obs
        exact = self._exact(action)
        self._drive(self.authority.share(self._step) * self.velocity(action))
        self._step += 1
        self._past.add(torch.from_numpy(exact))
        self.frame = after = self._look()
        self.obs = next_obs = self._observe()
        task = self.tasks.numpy()
        reward = torch.from_numpy(self.family.reward(before, exact, after, task)).float()
        terminated = torch.from_numpy(self.family.terminated(after))
        if self.family.hold:
            self._held = (self._held + 1) * int(self.family.holds(after, task)[0])
        self._return += reward.item()
        last = terminated | (self._step >= self.family.horizon)
        outcome = self._outcome(after) if last[0] else {}
        self._log_step(action, reward)
        if last[0]:
            self.link.hold()
            self.log("episode", {
                "t": self.clock.now(), "episode": self.episode, "steps": self._step,
                "terminated": bool(terminated[0]), "return": self._return, "invalid": self.label,
                "outcome": {name: value.item() for name, value in outcome.items()}})
            if autoreset:
                self.reset()
        return Steps(obs, action, reward, next_obs, terminated, last, outcome)

    def look(self) -> Tensor:
        """What the arm is like now, without asking it for anything: obs (1, O)."""
        self._newest()
        self.frame = self._look()
        self.obs = self._observe()
        return self.obs

    def velocity(self, action: Tensor) -> Vector:
        """Joint velocities (J,) [rad/s] that an action (1, A) means at full speed."""
        shares = self.family.control(self.frame, self._exact(action))[0]
        return self.measured.centre + self.measured.half * shares

    def _observe(self) -> Tensor:
        return self._past.beside(torch.from_numpy(self.family.observe(self.frame)).float())

    def _exact(self, action: Tensor) -> np.ndarray:
        return (self.family.action_scale * action.double()).clamp(-1.0, 1.0).numpy()

    def bring(self, start: Start) -> Ready | NeedsHuman:
        """Move to a start through the guard; ask for a person where that does not do."""
        wanted = start.qpos[0, self.measured.joints]
        limits = self.authority.speed * self.measured.half
        slow = 0.02 + 0.1 * self.authority.speed  # rad/s, at rest
        end = self.clock.now() + self.rules.reset / self.authority.speed
        while self.clock.now() < end:
            try:
                report = self._newest()
            except Aborted as problem:
                return NeedsHuman(str(problem))
            if report.phase is Phase.OFF:
                return NeedsHuman("torque is off; enable the arm")
            error = wanted - report.state.q
            if np.abs(error).max() < self.rules.settled and np.abs(report.state.dq).max() < slow:
                self.link.hold()
                return self._placed(start)
            velocity = _GAIN * error
            self._send(velocity / max(1.0, float((np.abs(velocity) / limits).max())))
            self.clock.sleep(self.family.control_step)
        self.link.hold()
        worst = int(np.abs(wanted - self.report.state.q).argmax())
        return NeedsHuman(f"{self.link.spec.joints[worst]} does not come to its start, "
                          f"{wanted[worst]:.2f} rad; see what is in the way")

    def _placed(self, start: Start) -> Ready | NeedsHuman:
        """Whether the objects lie at their starts."""
        sighting = None if self._perception is None else self._perception()
        for name, at in self.measured.objects.items():
            x, y = start.qpos[0, at : at + 2].tolist()
            pose = None if sighting is None else sighting.poses.get(name)
            if pose is None or np.hypot(pose[0] - x, pose[1] - y) > self.rules.placed:
                return NeedsHuman(f"put {name} at ({x:.3f}, {y:.3f}) m")
        return Ready()

    def _drive(self, velocity: Vector) -> None:
        """Ask for joint velocities (J,) [rad/s] until the control step is over."""
        period, now = self.family.control_step / self.authority.speed, self.clock.now()
        if self._due is None:
            self._due = now
        if now > self._due + self.family.control_step / 2:
            self._late, self._due = self._late + 1, now
        self._due += period
        limits: set[str] = set()
        while (left := self._due - self.clock.now()) > 1e-6:
            lasts = min(self.family.control_step, left)
            self._send(self._reference.velocity(velocity, lasts))
            self.clock.sleep(lasts)
            limits = set(self._newest().limits) - _ROUNDS_OFF
        self._limits |= limits  # in the end: a ramp at its beginning is none
        self._limited += bool(limits)

    def _send(self, velocity: Vector) -> None:
        """Ask once; it expires where two control steps bring nothing newer."""
        expires = min(2 * self.family.control_step, _LONGEST)
        self.link.command(Mode.JOINT_VELOCITY, velocity, expires)

    # What is so.

    def _newest(self) -> Report:
        """The guard's newest report. Raises Aborted where the arm does not do as it is told."""
        try:
            report = self.link.report(self.rules.wait)
            while self.clock.now() - report.t > self.rules.age:  # what piled up while none read
                report = self.link.report(self.rules.wait)
            self.report = report
        except ArmError as problem:  # stale, or the guard is gone
            raise self._abort(str(problem)) from None
        if report.state.faults:
            raise self._abort(report.state.faults[0].text)
        if report.phase is Phase.LATCHED:
            raise self._abort(f"the guard latched: {report.reason}")
        if (age := self.clock.now() - report.state.t_host) > self.rules.age:
            raise self._abort(f"the newest state is {age:.2f} s old")
        self._reference.saw(report)
        return report

    def _look(self) -> Frame:
        """The family's frame of the newest report."""
        sighting: Sighting | None = None
        if self._perception is not None:
            sighting = self._perception()
            if (age := self.clock.now() - sighting.t_host) > self.rules.sight_age:
                raise self._abort(f"the newest sighting is {age:.2f} s old")
        try:
            return self.measured.frame(self.report.state, self.authority.speed, sighting)
        except ArmError as problem:
            raise self._abort(str(problem)) from None

    def _abort(self, reason: str) -> Aborted:
        with contextlib.suppress(ArmError):
            self.link.hold()
        self.log("abort", {"t": self.clock.now(), "reason": reason})
        return Aborted(reason)

    def _outcome(self, frame: Frame) -> dict[str, Tensor]:
        outcome = self.family.outcome(frame, self.tasks.numpy())
        if self.family.hold:
            outcome = {"success": np.array([self._held >= self.family.hold]), **outcome}
        return {name: torch.from_numpy(value).float() for name, value in outcome.items()}

    def _log_step(self, action: Tensor, reward: Tensor) -> None:
        report = self.report
        self.log("step", {
            "t": self.clock.now(), "episode": self.episode, "step": self._step,
            "age": self.clock.now() - report.state.t_host, "q": report.state.q.tolist(),
            "dq": report.state.dq.tolist(), "action": action[0].tolist(),
            "requested": self._reference.told.tolist(), "applied": report.applied.tolist(),
            "limits": list(report.limits), "seq": report.seq, "rejected": report.rejected,
            "unlogged": report.unlogged, "phase": str(report.phase),
            "obs": self.obs[0].tolist(), "reward": reward.item(),
            "faults": [fault.text for fault in report.state.faults]})
