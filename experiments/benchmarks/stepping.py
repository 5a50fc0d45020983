"""How many control steps a second worlds make, against the physics alone and the usual batches.

    python -m experiments.benchmarks.stepping [FAMILY ...] [--rows 64] [--rounds 3]

For every family: env steps/s with an actor, as ratios to the physics alone, to gymnasium's
SyncVectorEnv and to SB3's SubprocVecEnv; the ratio to the physics without the actor's share as well
(aims: 0.85 for robots on legs, 0.75 for arms that touch things; for cheetah-vel with its actor);
how long it takes to set as many new tasks, against an episode (aim: less); and what a step costs
per row for 16 to 1024 rows (aim: the same).

Rounds of all methods alternate, so that what else the machine does hits all alike; a ratio is the
median of the rounds' own ratios. Worlds are timed with the actor that a policy gradient agent has,
and with all that belongs to a step: rewards, time limits, resets. Without it they get its actions,
and the physics alone the very models, controls and states of that life, since what a robot does
decides what simulating it costs; all others get the same random actions, made beforehand. Sensors
have a ratio of their own: worlds bring them up to the newest state, which takes part of one more
substep that mj_step by itself does without.
"""

import argparse
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import gymnasium
import mujoco
import numpy as np
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import Tensor

from experiments.record import machine, record
from metarl.agents.networks import tanh
from metarl.cli.common import show, table
from metarl.envs import FAMILIES
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.errors import unknown
from metarl.randomness import Draws

_STEPS = 200  # of a round: an episode of most families, so each round pays for a reset
_FEW = 20  # of a round of the slow ones, and of the worlds of several sizes
_SIZES = (16, 64, 256, 1024)  # rows
_HIDDEN = 64
# What others step where gymnasium has the same model; else they step our own single world.
_GYMNASIUM = {"cheetah-dir": "HalfCheetah-v5", "cheetah-vel": "HalfCheetah-v5"}
_OURS, _ALONE = "worlds with actor", "worlds without actor"
_PHYSICS, _SENSING = "physics alone", "physics and its sensors"
_SYNC, _SUBPROC = "SyncVectorEnv", "SubprocVecEnv"
# What is recorded and shown: who, against whom.
_PAIRS = ((_OURS, _PHYSICS), (_ALONE, _PHYSICS), (_ALONE, _SENSING), (_OURS, _SYNC),
          (_OURS, _SUBPROC))


@dataclass(frozen=True)
class Method:
    """Something that is timed."""

    step: Callable[[], object]  # one step of all rows
    steps: int = 1  # of a round
    before: Callable[[], object] = lambda: None  # at the beginning of a round, not timed


Seconds = dict[str, list[float]]  # of a step, in each round, by method


def main() -> None:
    """Measure, print a table and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all by default")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.families:
        if name not in FAMILIES:
            raise SystemExit(str(unknown("family", name, FAMILIES)))
    torch.set_num_threads(1)  # the physics has all cores
    multiprocessing.set_forkserver_preload(["torch", "metarl.envs.faces"])

    print(machine())
    shown = table("family", "steps/s", "x physics", "without actor", "and x sensors too", "x Sync",
                  "x Subproc", "tasks : episode [ms]",
                  f"us per row and step, {' '.join(map(str, _SIZES))} rows")
    for name in options.families or FAMILIES:
        began = time.perf_counter()
        shown.add_row(name, *_family(name, options.rows, options.rounds))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    show(shown)


def _family(name: str, rows: int, rounds: int) -> Iterator[str]:
    """Measure and record one family; the cells of its row."""
    family = FAMILIES[name]()
    actions, life = _random_actions(family, rows), _life(family, rows)
    with _others(name, rows) as (sync, subproc):
        seconds = _measure({
            _OURS: _worlds_with_actor(family, rows),
            _ALONE: _worlds_without_actor(family, rows, life),
            _PHYSICS: _physics(family, rows, life),
            _SENSING: _physics(family, rows, life, sensing=True),
            _SYNC: Method(_repeated(sync.step, actions), _FEW),
            _SUBPROC: Method(_repeated(subproc.step, actions), _FEW),
            "tasks": _new_tasks(family, rows),
        }, rounds)
    speed = {method: rows / statistics.median(values) for method, values in seconds.items()}
    yield f"{speed[_OURS]:,.0f}"
    for ours, other in _PAIRS:
        ratio = _ratio(seconds[other], seconds[ours])
        how = f"{name} rows={rows}" + (" without actor" if ours == _ALONE else "")
        record("stepping", f"{how} vs {other}", "env steps/s", speed[ours], speed[other], ratio)
        yield f"{ratio:.2f}"
    yield _tasks(name, rows, seconds, family.horizon)
    yield _sizes(name, _measure({str(n): _worlds(family, n) for n in _SIZES}, rounds))


def _tasks(name: str, rows: int, seconds: Seconds, horizon: int) -> str:
    episodes = [horizon * value for value in seconds[_OURS]]
    setting, episode = statistics.median(seconds["tasks"]), statistics.median(episodes)
    record("stepping", f"{name} rows={rows} setting new tasks vs an episode", "s", setting,
           episode, _ratio(episodes, seconds["tasks"]))
    return f"{1e3 * setting:.1f} : {1e3 * episode:.0f}"


def _sizes(name: str, seconds: Seconds) -> str:
    costs = [1e6 * statistics.median(seconds[str(n)]) / n for n in _SIZES]
    for size, cost in zip(_SIZES, costs, strict=True):
        record("stepping", f"{name} rows={size} cost of a row's step", "us", cost)
    return " ".join(f"{cost:.1f}" for cost in costs)


def _measure(methods: dict[str, Method], rounds: int) -> Seconds:
    """Seconds of a step in each round of each method; a first round warms up and does not count."""
    seconds: Seconds = {name: [] for name in methods}
    for _ in range(rounds + 1):
        for name, method in methods.items():
            method.before()
            start = time.perf_counter()
            for _ in range(method.steps):
                method.step()
            seconds[name].append((time.perf_counter() - start) / method.steps)
    return {name: values[1:] for name, values in seconds.items()}


def _ratio(baseline: Sequence[float], ours: Sequence[float]) -> float:
    """How many times faster ours is: the median over rounds."""
    return statistics.median(b / o for b, o in zip(baseline, ours, strict=True))


# Methods.


@dataclass(frozen=True)
class Life:
    """What worlds with an actor went through in their first round."""

    tasks: Tensor
    start: np.ndarray  # (N, S) states
    actions: list[Tensor]  # (N, A)
    controls: list[np.ndarray]  # (N, U)
    restarts: list[tuple[np.ndarray, np.ndarray] | None]  # which rows, and their states


def _worlds_with_actor(family: Family, rows: int) -> Method:
    worlds = _started(family, rows)
    act = _actor(worlds)
    return Method(lambda: worlds.step(act()), _STEPS)


def _worlds_without_actor(family: Family, rows: int, life: Life) -> Method:
    """The same life again and again."""
    worlds = _started(family, rows)
    return Method(_repeated(worlds.step, life.actions), _STEPS,
                  lambda: worlds.reset(draws=Draws.of(0, 0, rows)))


def _worlds(family: Family, rows: int) -> Method:
    """Worlds over the first steps of an episode, without an actor."""
    worlds = _started(family, rows)
    step = _repeated(worlds.step, torch.from_numpy(_random_actions(family, rows)))
    return Method(step, min(_FEW, family.horizon), worlds.reset)


def _new_tasks(family: Family, rows: int) -> Method:
    """Tasks that have not been set before."""
    worlds = Worlds(family, rows)
    sets = (sample_tasks(family, "train", rows, seed) for seed in itertools.count())
    tasks = torch.empty(0)

    def draw() -> None:
        nonlocal tasks
        tasks = next(sets)

    return Method(lambda: worlds.set_tasks(tasks), before=draw)


def _started(family: Family, rows: int) -> Worlds:
    worlds = Worlds(family, rows)
    worlds.set_tasks(sample_tasks(family, "train", rows))
    worlds.reset(draws=Draws.of(0, 0, rows))
    return worlds


def _actor(worlds: Worlds) -> Callable[[], Tensor]:
    """Noisy actions (N, A) of a network of random weights for what the worlds show."""
    shapes = worlds.shapes
    sizes = (shapes.obs, _HIDDEN, _HIDDEN, shapes.action)
    source = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(fan_in, fan_out, generator=source) / fan_in**0.5
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    biases = [torch.zeros(size) for size in sizes[1:]]
    noise = 0.3 * torch.randn(_STEPS, worlds.rows, shapes.action, generator=source)
    noises = itertools.cycle(noise)

    @torch.no_grad()
    def act() -> Tensor:
        hidden = tanh(torch.addmm(biases[0], worlds.obs, weights[0]))
        hidden = tanh(torch.addmm(biases[1], hidden, weights[1]))
        return torch.addmm(biases[2], hidden, weights[2]).add_(next(noises))

    return act


def _life(family: Family, rows: int) -> Life:
    worlds = _started(family, rows)
    act, start = _actor(worlds), worlds.engine.snapshot().state
    actions, controls, restarts, simulate = [], [], [], worlds.engine.step

    def noted(
        control: np.ndarray, mask: np.ndarray | None = None, substeps: int | None = None
    ) -> np.ndarray:
        controls.append(control.copy())
        return simulate(control, mask, substeps)

    worlds.engine.step = noted
    for _ in range(_STEPS):
        actions.append(act())
        ended = worlds.step(actions[-1]).last.numpy()
        restarts.append((ended, worlds.engine.snapshot().state[ended]) if ended.any() else None)
    return Life(worlds.tasks, start, actions, controls, restarts)


def _physics(family: Family, rows: int, life: Life, sensing: bool = False) -> Method:
    """The batched mj_step loop on its own; `sensing`, with sensors of the newest state, where the
    family has any: those of mj_step are of the state before its last substep."""
    engine = BatchEngine(family, rows)
    engine.set_tasks(life.tasks)
    physics, substeps = engine._batch, engine.substeps
    stage = engine._stage if sensing else mujoco.mjtStage.mjSTAGE_NONE
    ctrl, numbers = physics.bind("ctrl"), itertools.cycle(range(_STEPS))

    def step() -> None:
        number = next(numbers)
        if number == 0:
            physics.state[:] = life.start
        ctrl[:] = life.controls[number]
        physics.step(nstep=substeps, stage=stage)
        if restart := life.restarts[number]:
            physics.state[restart[0]] = restart[1]

    return Method(step, _STEPS)


@contextmanager
def _others(
    family: str, rows: int
) -> Iterator[tuple[gymnasium.vector.SyncVectorEnv, SubprocVecEnv]]:
    make = partial(_make, family)
    sync = gymnasium.vector.SyncVectorEnv([make] * rows)
    subproc = SubprocVecEnv([make] * rows, start_method="forkserver")
    try:
        sync.reset(seed=0)
        subproc.seed(0)
        subproc.reset()
        yield sync, subproc
    finally:
        sync.close()
        subproc.close()


def _make(family: str) -> gymnasium.Env:
    torch.set_num_threads(1)
    # gymnasium's own cheetah has MuJoCo warn of a deprecated setting, once for each row.
    mujoco.set_mju_user_warning(lambda message: None)
    return gymnasium.make(_GYMNASIUM.get(family, f"metarl/{family}-v1"))


def _repeated(step: Callable[..., object], actions: Sequence | np.ndarray | Tensor) -> Callable:
    sequence = itertools.cycle(actions)
    return lambda: step(next(sequence))


def _random_actions(family: Family, rows: int) -> np.ndarray:
    """A round of actions (T, N, A) in [-1, 1]."""
    shape = (_STEPS, rows, Worlds(family, 1).shapes.action)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


if __name__ == "__main__":
    main()
