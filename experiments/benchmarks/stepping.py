"""How many control steps a second worlds make, against the physics alone and the usual batches.

    python -m experiments.benchmarks.stepping [--family cheetah-vel] [--rows 64]

Rounds of all methods alternate, so that what else the machine does hits all alike; a ratio is the
median of the rounds' own ratios. Worlds are timed with the actor that a policy gradient agent has,
and with all that belongs to a step: rewards, time limits, resets. The physics alone gets the very
controls and start states of such an episode, since what a robot does decides what simulating it
costs; all others get the same random actions, made beforehand.
"""

import argparse
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial

import gymnasium
import mujoco
import numpy as np
import torch
from mujoco import batch
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import Tensor

from experiments.record import machine, record
from metarl.envs import FAMILIES
from metarl.envs.family import Family, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws

_STEPS = 200  # of a round: an episode of cheetah-vel, so each round pays for a reset
_HIDDEN = 64
# What others step where gymnasium has the same model; else they step our own single world.
_GYMNASIUM = {"cheetah-vel": "HalfCheetah-v5"}

Method = Callable[[], object]  # one step of all rows


def main() -> None:
    """Measure, print a table and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="cheetah-vel", choices=FAMILIES)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the physics has all cores

    family = FAMILIES[options.family]()
    sync, subproc = _others(options.family, options.rows)
    actions = _random_actions(family, options.rows)
    methods: dict[str, Method] = {
        "worlds with actor": _worlds_with_actor(family, options.rows),
        "worlds": _worlds(family, options.rows, actions),
        "physics alone": _physics(family, options.rows),
        "SyncVectorEnv": _repeated(sync.step, actions),
        "SubprocVecEnv": _repeated(subproc.step, actions),
    }
    try:
        seconds = _measure(methods, options.rounds)
    finally:
        sync.close()
        subproc.close()
    _report(seconds, options.family, options.rows)


def _measure(methods: dict[str, Method], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each method; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds + 1):
        for name, step in methods.items():
            start = time.perf_counter()
            for _ in range(_STEPS):
                step()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def _report(seconds: dict[str, list[float]], family: str, rows: int) -> None:
    print(f"{family}, {rows} rows, {machine()}")
    speed = {name: rows * _STEPS / statistics.median(s) for name, s in seconds.items()}
    whole = "worlds with actor"
    for name in seconds:
        ratio = _ratio(seconds[name], seconds[whole])
        print(f"{name:20}{speed[name]:12,.0f} steps/s   {whole}: {ratio:6.2f} x")
        if name == "worlds":
            record("stepping", f"{family} rows={rows} without an actor", "env steps/s", speed[name])
        elif name != whole:
            record("stepping", f"{family} rows={rows} vs {name}", "env steps/s", speed[whole],
                   speed[name], ratio)


def _ratio(baseline: list[float], ours: list[float]) -> float:
    """How many times faster ours is: the median over rounds."""
    return statistics.median(b / o for b, o in zip(baseline, ours, strict=True))


# Methods.


def _worlds(family: Family, rows: int, actions: np.ndarray) -> Method:
    worlds = _started(family, rows)
    sequence = itertools.cycle(torch.from_numpy(actions))
    return lambda: worlds.step(next(sequence))


def _worlds_with_actor(family: Family, rows: int) -> Method:
    worlds = _started(family, rows)
    act = _actor(worlds)
    return lambda: worlds.step(act())


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
        hidden = torch.addmm(biases[0], worlds.obs, weights[0]).tanh_()
        hidden = torch.addmm(biases[1], hidden, weights[1]).tanh_()
        return torch.addmm(biases[2], hidden, weights[2]).add_(next(noises))

    return act


def _physics(family: Family, rows: int) -> Method:
    """The batched mj_step loop on its own, over the first episode of the worlds with an actor."""
    worlds = _started(family, rows)
    act, start = _actor(worlds), worlds.engine.snapshot().state
    model, actions = worlds.engine.model, []
    for _ in range(_STEPS):
        actions.append(act().numpy().clip(-1, 1))
        worlds.step(torch.from_numpy(actions[-1]))
    physics = batch.Batch(model, rows)
    low, high = model.actuator_ctrlrange.T
    controls = (low + high) / 2 + np.array(actions) * (high - low) / 2
    ctrl, substeps = physics.bind("ctrl"), worlds.engine.substeps
    numbers = itertools.cycle(range(_STEPS))

    def step() -> None:
        number = next(numbers)
        if number == 0:
            physics.state[:] = start
        ctrl[:] = controls[number]
        physics.step(nstep=substeps)

    return step


def _others(family: str, rows: int) -> tuple[gymnasium.vector.SyncVectorEnv, SubprocVecEnv]:
    make = partial(_make, family)
    sync = gymnasium.vector.SyncVectorEnv([make] * rows)
    sync.reset(seed=0)
    multiprocessing.set_forkserver_preload(["torch", "metarl.envs.faces"])
    subproc = SubprocVecEnv([make] * rows, start_method="forkserver")
    subproc.seed(0)
    subproc.reset()
    return sync, subproc


def _make(family: str) -> gymnasium.Env:
    torch.set_num_threads(1)
    # gymnasium's own cheetah has MuJoCo warn of a deprecated setting, once for each row.
    mujoco.set_mju_user_warning(lambda message: None)
    return gymnasium.make(_GYMNASIUM.get(family, f"metarl/{family}-v1"))


def _repeated(step: Callable[[np.ndarray], object], actions: np.ndarray) -> Method:
    sequence = itertools.cycle(actions)
    return lambda: step(next(sequence))


def _random_actions(family: Family, rows: int) -> np.ndarray:
    """A round of actions (T, N, A) in [-1, 1]."""
    shape = (_STEPS, rows, family.spec().compile().nu)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


if __name__ == "__main__":
    main()
