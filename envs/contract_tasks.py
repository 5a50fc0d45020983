"""The contract's first part: what varies, how it is drawn, and the models that it makes."""

import math
from itertools import combinations

import mujoco
import numpy as np
import torch
from torch import Tensor

from metarl.envs.engine import BatchEngine, derived
from metarl.envs.family import (
    SPLITS,
    Family,
    Random,
    Start,
    default_task,
    sample_tasks,
)
from metarl.errors import UserError
from metarl.randomness import Draws

_SEED = 3  # of the sets that are drawn twice
_STEPS = 200  # control steps of a variant compiled alone


class Unchecked(Exception):
    """A check that this family or this machine leaves no way to make; the text says why."""


def demand(condition: object, problem: str) -> None:
    """Raise UserError, which says where the family breaks its contract and what to do."""
    if not condition:
        raise UserError(problem)


def some_tasks(family: Family, count: int = 5) -> Tensor:
    """Tasks (2 count, D) of the train and the ood ranges."""
    return torch.cat([sample_tasks(family, split, count) for split in ("train", "ood")])


def _parameters(family: Family) -> None:
    """The parameters' ranges make sense, and their names are distinct."""
    names = [p.name for p in family.parameters]
    demand(names, "parameters is empty: name at least one thing that varies")
    demand(len(set(names)) == len(names), f"two parameters share a name among {names}")
    for p in family.parameters:
        low, high = p.possible
        for start, end in (p.train, *p.ood):
            demand(math.isfinite(start) and math.isfinite(end),
                   f"{p.name}: ({start}, {end}) is not finite")
            demand(start < end, f"{p.name}: the range ({start}, {end}) is empty or backward")
            demand(low <= start and end <= high,
                   f"{p.name}: ({start}, {end}) reaches beyond what is possible, {p.possible}")
            demand(p.distribution != "log-uniform" or start > 0,
                   f"{p.name}: a log-uniform range must be positive, not ({start}, {end})")
        for start, end in p.ood:
            demand(end <= p.train[0] or start >= p.train[1],
                   f"{p.name}: the ood range ({start}, {end}) overlaps the train range {p.train}")


def _ranges(family: Family) -> None:
    """Sampled tasks lie in the ranges that the parameters document, in every split."""
    for split in SPLITS:
        for p, values in zip(family.parameters, sample_tasks(family, split, 200).T, strict=True):
            ranges = p.ood if split == "ood" and p.ood else (p.train,)
            for value in values.tolist():
                demand(any(low <= value <= high for low, high in ranges),
                       f"{p.name}: a {split} task has {value:g}, outside the documented "
                       f"{' or '.join(map(str, ranges))}; mend the range or how it is drawn")


def _splits(family: Family) -> None:
    """The sets of tasks are fixed by their seed, and no two of them share a task."""
    train, held_out = family.task_counts
    demand(min(train, held_out) >= 1, f"task_counts is {family.task_counts}: a set is empty")
    sets = {}
    for split in SPLITS:
        count = train if split == "train" else held_out
        tasks = sample_tasks(family, split, count, _SEED)
        again = sample_tasks(family, split, count + 1, _SEED)[:count]
        demand(torch.equal(tasks, again), f"the {split} tasks differ when they are drawn again "
               "under the same seed: `draw` must use no random numbers but its arguments")
        sets[split] = {tuple(task) for task in tasks.tolist()}
    if all(p.values for p in family.parameters):
        return  # all tasks that there are
    for one, other in combinations(SPLITS, 2):
        shared = sets[one] & sets[other]
        demand(not shared, f"{one} and {other} share the task {next(iter(shared), ())}: "
               "held-out tasks must be new; draw from a continuous range, unrounded")


def _variants(family: Family) -> None:
    """Every variant compiles into the base model's layout."""
    engine = BatchEngine(family, 1, threads=1)
    for task in some_tasks(family):
        engine.fields(task)
    engine.fields(default_task(family))


def _physics(family: Family) -> None:
    """A parameter that says it changes the physics does, and no other."""
    engine = BatchEngine(family, 1, threads=1)
    for i, p in enumerate(family.parameters):
        models = []
        for value in p.values[:2] or p.train:
            task = default_task(family)
            task[i] = value
            models.append(engine.difference(engine.compile(task)))
        one, two = models
        same = one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)
        demand(not (p.physics and same), f"{p.name} changes no field of the model; if only the "
               "reward depends on it, say physics=False, else edit the model in `variant`")
        demand(p.physics or same, f"{p.name} changes the model; drop physics=False")


def _compiled(family: Family) -> None:
    """A row moves as its variant compiled alone does, bit for bit over 200 steps."""
    tasks = some_tasks(family, 2)
    engine = BatchEngine(family, len(tasks), threads=1)
    engine.set_tasks(tasks)
    random = Random(Draws.of(0, 0, len(tasks)), 0)
    start = family.reset(engine.default_frame(), tasks.numpy(), random)
    engine.reset(np.ones(len(tasks), bool), start)
    alone = [_started(engine.compile(task), start, i) for i, task in enumerate(tasks)]
    low, high = engine.model.actuator_ctrlrange.T
    size = (_STEPS, len(tasks), engine.model.nu)
    for controls in np.random.default_rng(0).uniform(low, high, size):
        failed = engine.step(controls)
        demand(not failed.any(), "the simulation diverges under random actions: take a shorter "
               "timestep, or more damping and armature")
        for (model, data), control in zip(alone, controls, strict=True):
            data.ctrl = control
            mujoco.mj_step(model, data, engine.substeps)
    frame = engine.frame()
    for i, (model, data) in enumerate(alone):
        same = [np.array_equal(frame.qpos[i], data.qpos),
                np.array_equal(frame.qvel[i], data.qvel)]
        mujoco.mj_forward(model, data)
        same += [np.array_equal(
            values[i],
            derived(data, name).ravel() if name in family.derived else data.sensor(name).data,
        ) for name, values in frame.sensors.items()]
        demand(all(same), "a row moves differently from the same task's model compiled on its own: "
               "`spec` and `variant` must build the same model each time they are called, from the "
               "task alone, without random numbers")


def _started(
    model: mujoco.MjModel, start: Start, row: int
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A model in one row's start state."""
    data = mujoco.MjData(model)
    data.qpos, data.qvel = start.qpos[row], start.qvel[row]
    if start.act is not None:
        data.act = start.act[row]
    mujoco.mj_forward(model, data)
    data.qacc_warmstart = 0  # as after a reset
    return model, data


CHECKS = (_parameters, _ranges, _splits, _variants, _physics, _compiled)
