"""What a real arm does and the simulation does not: delays, noise, play, uneven control steps.

Ranges are drawn for each episode, by a key, so that a resumed run meets the same flaws. The policy
is told what flawed sensors tell; rewards and outcomes are those of the true state. Delays, backlash
and jitter cost time: physics then goes substep by substep.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from torch import Tensor

from metarl.envs.arrays import Array
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, Frame, Interval, Start
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws, Role
from metarl.trial import Steps

# What every row remembers is kept in memory: more than these is no arm, and no policy's to read.
_MOST_LATENCY = 10_000  # ms
_MOST_HISTORY = 1_000  # actions


@dataclass(frozen=True)
class Sim2Real:
    """Flaws of a real arm to train with; all off by default."""

    action_latency: Interval = (0.0, 0.0)  # ms, U(low, high), until a command comes into force
    observation_latency: Interval = (0.0, 0.0)  # ms, U(low, high), that observations are old
    noise: float = 0.0  # rad (or m), standard deviation of measured positions of driven joints
    speed_noise: float = 0.0  # rad/s (or m/s), the same of their speeds
    backlash: Interval = (0.0, 0.0)  # rad (or m), U(low, high), of driven joints
    jitter: float = 0.0  # share by which a control step may be longer or shorter, U(-x, x)
    history: int = 0  # past actions in the observation

    def __post_init__(self) -> None:
        for name in ("action_latency", "observation_latency", "backlash"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= _MOST_LATENCY:
                raise UserError(f"--sim2real.{name.replace('_', '-')} needs two numbers, "
                                f"0 <= low <= high <= {_MOST_LATENCY:,}")
        for name in ("noise", "speed_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--sim2real.{name.replace('_', '-')} {getattr(self, name):g} "
                                "makes no sense; give a number of at least 0")
        if not 0 <= self.jitter < 1 or not 0 <= self.history <= _MOST_HISTORY:
            raise UserError("--sim2real.jitter lies in [0, 1), and --sim2real.history from 0 to "
                            f"{_MOST_HISTORY:,}")


class History:
    """The last actions of N rows, zeros before an episode's first."""

    def __init__(self, rows: int, length: int, actions: int) -> None:
        self._past = torch.zeros(rows, length, actions)

    def add(self, action: Tensor, rows: Tensor | None = None) -> None:
        """Remember actions (N, A), in the masked rows (N,)."""
        newer = torch.cat([self._past, action.float()[:, None]], 1)[:, 1:]
        self._past = newer if rows is None else torch.where(rows[:, None, None], newer, self._past)

    def forget(self, rows: Tensor | None = None) -> None:
        """Begin again, in the masked rows (N,)."""
        self._past = torch.zeros_like(self._past) if rows is None else torch.where(
            rows[:, None, None], 0.0, self._past)

    def beside(self, obs: Tensor) -> Tensor:
        """Observations (N, O) with the past actions behind them, oldest first."""
        return torch.cat([obs, self._past.flatten(1)], 1)


def make_worlds(family: Family, rows: int, flaws: Sim2Real, threads: int = 0) -> Worlds:
    """Worlds with these flaws; plain ones, bit for bit, without any."""
    if flaws == Sim2Real():
        return Worlds(family, rows, threads)
    return FlawedWorlds(family, rows, flaws, threads)


class FlawedWorlds(Worlds):
    """Worlds whose arm is as slow, noisy and loose as `flaws` say."""

    def __init__(self, family: Family, rows: int, flaws: Sim2Real, threads: int = 0) -> None:
        self.flaws = flaws
        actions = family.commands or BatchEngine(family, 1, threads).model.nu
        self._past = History(rows, flaws.history, actions)
        self._ring: _Ring | None = None
        self._felt: Frame | None = None
        # Sensors of a measured pose, which is not the true one.
        self._mirror = BatchEngine(family, rows, threads) if _misleads(flaws) else None
        super().__init__(family, rows, threads)

    def set_tasks(self, tasks: Tensor) -> None:
        """Give row i task i of (N, D)."""
        super().set_tasks(tasks)
        if self._mirror is not None:
            self._mirror.set_tasks(self.tasks)

    def step(self, action: Tensor, mask: Tensor | None = None, autoreset: bool = True) -> Steps:
        """As `Worlds.step`."""
        told = (self.family.action_scale * action.detach().cpu().float()).clamp(-1, 1)
        self._past.add(told.nan_to_num(), mask)
        return super().step(action, mask, autoreset)

    # The flaws.

    def _start(self, rows: np.ndarray) -> Frame:
        frame = super()._start(rows)
        self._past.forget(torch.from_numpy(rows))
        if self._ring is None:
            self._ring = _Ring(self.engine, self.flaws, self.family.horizon)
        self._ring.start(rows, frame, self._draws.only(torch.from_numpy(rows)), self._episode)
        return frame

    def _look(self) -> Tensor:
        assert self._ring is not None
        frame = self._ring.sensed(self.frame, self._step)
        if self._mirror is not None:
            self._mirror.reset(self._all, Start(frame.qpos, frame.qvel))
            posed = self._mirror.frame().sensors
            frame = Frame(frame.qpos, frame.qvel,
                          frame.sensors | {name: posed[name] for name in self._ring.posed})
        self._felt = frame
        return self._past.beside(self._seen(frame))

    def _control(self, frame: Frame, action: Array) -> Array:
        return self.family.control(self._felt or frame, action)

    def _advance(self, control: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        assert self._ring is not None
        if not self._ring.slow:
            return self.engine.step(control, rows)
        chosen = self._all if rows is None else rows
        lengths = np.where(chosen, self._ring.substeps(self._step), 0)
        self._ring.issue(control, chosen)
        failed = np.zeros(self.rows, bool)
        for j in range(int(lengths.max())):
            active = j < lengths
            failed |= self.engine.step(self._ring.in_force(), active, substeps=1)
            self._ring.live(active, self.engine.frame())
        return failed


def _misleads(flaws: Sim2Real) -> bool:
    """Whether the measured pose is not one that the arm had."""
    return flaws.noise > 0 or flaws.speed_noise > 0 or flaws.backlash[1] > 0


class _Ring:
    """The recent past of every row, in substeps, and the flaws of its episode."""

    def __init__(self, engine: BatchEngine, flaws: Sim2Real, horizon: int) -> None:
        model, self._flaws, self._horizon = engine.model, flaws, horizon
        self._engine, self._rows = engine, engine.rows
        self._timestep = 1e3 * model.opt.timestep  # ms
        joints = sorted({int(j) for j, kind in zip(
            model.actuator_trnid[:, 0], model.actuator_trntype, strict=True)
            if kind == int(mujoco.mjtTrn.mjTRN_JOINT)})
        self._at = model.jnt_qposadr[joints]  # of driven joints, in qpos
        self._dof = model.jnt_dofadr[joints]
        # Sensors that follow from a pose and its speeds; forces do not.
        self.posed = [model.sensor(i).name for i in range(model.nsensor)
                      if model.sensor_needstage[i] <= int(mujoco.mjtStage.mjSTAGE_VEL)]
        self.posed += engine.family.derived
        most = max(flaws.action_latency[1], flaws.observation_latency[1]) / self._timestep
        self.slow = most > 0 or flaws.jitter > 0 or flaws.backlash[1] > 0
        self._length = int(np.ceil(flaws.observation_latency[1] / self._timestep)) + 1
        self._newest = np.zeros(self._rows, np.int64)  # substeps of the episode
        shortest = max(1.0, engine.substeps * (1 - flaws.jitter))
        waiting = int(np.ceil(flaws.action_latency[1] / self._timestep / shortest)) + 2
        self._queue = np.zeros((self._rows, waiting, model.nu))
        self._due = np.full((self._rows, waiting), -1, np.int64)  # substep; the first: zeros
        self._states = np.zeros((self._length, *self._flat(engine.frame()).shape))
        self._gear = np.zeros((self._rows, len(joints)))
        self._acted, self._seen = np.zeros((2, self._rows), np.int64)  # delays, substeps
        self._play = np.zeros((self._rows, 1))
        self._lengths = np.full((self._rows, horizon), engine.substeps)
        self._noise = np.zeros((self._rows, horizon + 1, 2, len(joints)))
        self._names: dict[str, int] = {}

    def start(self, rows: np.ndarray, frame: Frame, draws: Draws, episode: np.ndarray) -> None:
        """Begin an episode in the masked rows with flaws of its own."""
        flaws, chosen = self._flaws, rows.copy()
        self._names = {name: value.shape[1] for name, value in frame.sensors.items()}
        u = draws.uniform(Role.FLAW, 2 * episode, 3).numpy()  # (N, 3)

        def drawn(interval: Interval, number: int) -> np.ndarray:
            return interval[0] + (interval[1] - interval[0]) * u[:, number]

        acted = np.rint(drawn(flaws.action_latency, 0) / self._timestep)
        seen = np.rint(drawn(flaws.observation_latency, 1) / self._timestep)
        self._acted[chosen], self._seen[chosen] = acted[chosen], seen[chosen]
        self._play[chosen] = drawn(flaws.backlash, 2)[chosen, None] / 2
        if flaws.jitter:
            v = draws.uniform(Role.FLAW, 2 * episode + 1, self._horizon).numpy()
            lengths = self._engine.substeps * (1 + flaws.jitter * (2 * v - 1))
            self._lengths[chosen] = np.maximum(np.rint(lengths), 1)[chosen]
        if flaws.noise or flaws.speed_noise:
            noise = draws.normal(Role.SENSOR_NOISE, episode, *self._noise.shape[1:]).numpy()
            scale = np.array([flaws.noise, flaws.speed_noise])[:, None]
            self._noise[chosen] = (scale * noise)[chosen]
        state = self._flat(frame)
        self._newest[chosen], self._gear[chosen] = 0, state[chosen][:, self._at]
        self._states[:, chosen] = state[chosen]
        self._queue[chosen], self._due[chosen] = 0.0, -1

    def substeps(self, step: np.ndarray) -> np.ndarray:
        """How long the next control step is, (N,)."""
        return self._lengths[np.arange(self._rows), np.minimum(step, self._horizon - 1)]

    def issue(self, control: np.ndarray, rows: np.ndarray) -> None:
        """Send control (N, U) in the masked rows; it comes into force later."""
        self._queue[rows] = np.concatenate([self._queue[rows, 1:], control[rows, None]], 1)
        due = (self._newest + self._acted)[rows, None]
        self._due[rows] = np.concatenate([self._due[rows, 1:], due], 1)

    def in_force(self) -> np.ndarray:
        """The control (N, U) that has come into force last."""
        came = self._due <= self._newest[:, None]
        newest = came.shape[1] - 1 - came[:, ::-1].argmax(1)
        return self._queue[np.arange(self._rows), newest]

    def live(self, rows: np.ndarray, frame: Frame) -> None:
        """A substep is over in the masked rows."""
        state = self._flat(frame)
        q = state[:, self._at]
        gear = np.clip(self._gear, q - self._play, q + self._play)
        self._gear = np.where(rows[:, None], gear, self._gear)
        state[:, self._at] = self._gear
        self._newest += rows
        places = self._newest[rows] % self._length
        self._states[places, np.flatnonzero(rows)] = state[rows]

    def sensed(self, now: Frame, step: np.ndarray) -> Frame:
        """What the sensors tell at a step (N,) of the episode."""
        places = (self._newest - np.minimum(self._seen, self._newest)) % self._length
        state = self._states[places, np.arange(self._rows)].copy() if self.slow else self._flat(now)
        noise = self._noise[np.arange(self._rows), np.minimum(step, self._horizon)]
        nq = now.qpos.shape[1]
        state[:, self._at] += noise[:, 0]
        state[:, nq + self._dof] += noise[:, 1]
        sensors, start = {}, nq + now.qvel.shape[1]
        for name, size in self._names.items():
            sensors[name] = state[:, start : start + size]
            start += size
        return Frame(state[:, :nq], state[:, nq : nq + now.qvel.shape[1]], sensors)

    @staticmethod
    def _flat(frame: Frame) -> np.ndarray:
        return np.concatenate([frame.qpos, frame.qvel, *frame.sensors.values()], 1)
