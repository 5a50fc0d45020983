"""The contract's second part: what rows live, together and alone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from metarl.envs.contract_tasks import Unchecked, demand, some_tasks
from metarl.envs.engine import BatchEngine, Snapshot
from metarl.envs.expert import Expert
from metarl.envs.family import Family, Random, default_task, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.evaluate import evaluate
from metarl.randomness import Draws
from metarl.trial import Steps

_ROWS, _STEPS = 4, 40  # of the short lives below
_CROWD = 37  # rows: no multiple of what a processor adds at once
_FELT = 4  # tasks in each of which each parameter is given two values
_NO_SUCCESS = ("nothing says when a task is solved: give the file in YAML a `success`, a family in "
               "Python an `outcome` that has one")
_SOLVED, _BLIND = 0.9, 0.6  # success that a scripted policy must have, and without the task


def _starts(family: Family) -> None:
    """The start of an episode is a finite state, one row for each world."""
    engine, tasks = BatchEngine(family, _ROWS, threads=1), sample_tasks(family, "train", _ROWS)
    engine.set_tasks(tasks)
    random = Random(Draws.of(0, 0, _ROWS), 0)
    start = family.reset(engine.default_frame(), tasks.numpy(), random)
    for name, count in (("qpos", "nq"), ("qvel", "nv"), ("act", "na")):
        value, size = getattr(start, name), (_ROWS, getattr(engine.model, count))
        demand(value is None or (value.shape == size and np.isfinite(value).all()),
               f"`reset` gives a {name} that is not {size} of finite numbers")


def _shapes(family: Family) -> None:
    """Observations and rewards are finite numbers, one row for each world."""
    worlds = _worlds(family)
    frame, action = worlds.frame, np.zeros((_ROWS, worlds.shapes.action))
    task = worlds.tasks.numpy()
    obs, reward = family.observe(frame), family.reward(frame, action, frame, task)
    demand(obs.ndim == 2 and len(obs) == _ROWS,
           f"`observe` gives {tuple(obs.shape)} for {_ROWS} rows; it must be ({_ROWS}, O)")
    demand(reward.shape == (_ROWS,),
           f"`reward` gives {tuple(reward.shape)} for {_ROWS} rows; it must be ({_ROWS},)")
    ended = family.terminated(frame)
    demand(ended.shape == (_ROWS,) and ended.dtype == bool,
           f"`terminated` gives {ended.dtype} {tuple(ended.shape)} for {_ROWS} rows; it must be "
           f"bool ({_ROWS},)")
    holds = family.holds(frame, task)
    demand(holds.shape == (_ROWS,) and holds.dtype == bool,
           f"`holds` gives {tuple(holds.shape)} {holds.dtype}; it must be ({_ROWS},) bool")
    for name, value in family.outcome(frame, task).items():
        demand(value.shape == (_ROWS,),
               f"outcome {name!r} has the shape {tuple(value.shape)}; it must be ({_ROWS},)")
        demand(name != "success" or bool(((value == 0) | (value == 1)).all()),
               f"outcome 'success' holds {value.tolist()}; it must be 0 or 1")
    for steps in _live(worlds):
        demand(steps.reward.isfinite().all(), "a reward is not finite")
        demand(steps.next_obs.isfinite().all(), "an observation is not finite")
        demand(not worlds.diverged.any(),
               "the simulation diverges under random actions: take a shorter timestep or more "
               "damping and armature")


def _hidden(family: Family) -> None:
    """The first observation is the same whatever the task."""
    worlds = Worlds(family, 1, threads=1)
    first = []
    for task in some_tasks(family):
        worlds.set_tasks(task[None])
        first.append(worlds.reset(draws=Draws.of(0, 0, 1)))
    demand(all(torch.equal(obs, first[0]) for obs in first),
           "the first observation differs from task to task: `observe` or `reset` shows it")


def _secret(family: Family) -> None:
    """An observation never contains what physics does not depend on: the goal."""
    unseen = torch.tensor([not p.physics for p in family.parameters])
    if not unseen.any():
        raise Unchecked("every parameter changes the physics, which observations may follow")
    one, two = _worlds(family), _worlds(family)
    other = torch.where(unseen, sample_tasks(family, "train", _ROWS + 1)[1:], one.tasks)
    two.set_tasks(other)
    two.reset(draws=Draws.of(0, 0, _ROWS))
    for a, b in zip(list(_live(one)), _live(two), strict=True):
        demand(torch.equal(a.next_obs, b.next_obs),
               "the same actions lead to other observations where only the goal differs: keep the "
               "task out of `observe`, `reset` and the model's sites and sensors")


def _repeatable(family: Family) -> None:
    """The same task and seed give the same life, bit for bit."""
    for a, b in zip(list(_live(_worlds(family))), _live(_worlds(family)), strict=True):
        demand(torch.equal(a.next_obs, b.next_obs) and torch.equal(a.reward, b.reward),
               "two lives of the same task, seed and actions differ: draw from `reset`'s `random` "
               "alone, and keep no state in the family")


def _alone(family: Family) -> None:
    """A row lives the same alone and beside others, however many, bit for bit."""
    for rows in (_ROWS, _CROWD):
        many, alone = _worlds(family, rows), Worlds(family, 1, threads=1)
        alone.set_tasks(many.tasks[2:3])
        alone.reset(draws=Draws.of(0, 0, torch.tensor([2])))
        for action in _actions(many):
            asked = _scripted(many)[2:3], _scripted(alone)
            both, own = many.step(action), alone.step(action[2:3])
            demand(torch.equal(both.next_obs[2:3], own.next_obs)
                   and torch.equal(both.reward[2:3], own.reward)
                   and torch.equal(_measures(many)[:, 2:3], _measures(alone))
                   and torch.equal(*asked),
                   f"a row's life among {rows} depends on the rows beside it: keep no state in the "
                   "family, let rows meet in no sum, mean or maximum, and write small products out "
                   "(`matmul` rounds differently for other numbers of rows)")


def _lasting(family: Family) -> None:
    """An episode does not terminate at its first step, standing still."""
    worlds = _worlds(family)
    steps = worlds.step(torch.zeros(_ROWS, worlds.shapes.action))
    demand(not steps.terminated.all(), "every episode is terminated at once: mend `terminated`, "
           "in YAML `terminate`; the horizon alone is a time limit and needs no terminal")


def _unlimited(family: Family) -> None:
    """A time limit is no terminal: nothing terminates because it is late."""
    worlds = _worlds(family)
    early, state = family.terminated(worlds.frame), worlds.engine.snapshot().state
    state[:, 0] = family.horizon * family.control_step  # s, the simulation's clock
    worlds.engine.restore(Snapshot(state))
    demand(np.array_equal(family.terminated(worlds.engine.frame()), early),
           "`terminated` is true because time is up: the horizon ends an episode as a time limit; "
           "terminate only where the task itself has ended")


def _contained(family: Family) -> None:
    """A row that diverges or gets NaN for an action leaves the others alone."""
    for trouble in ("a state that is not finite", "an action that is not a number"):
        with _quiet():
            _trouble(family, trouble)


def _trouble(family: Family, trouble: str) -> None:
    """Let row 1 come to grief at step 5, and compare its neighbours with a life without that."""
    sound, worlds = list(_live(_worlds(family), 0.1)), _worlds(family)
    others = torch.arange(_ROWS) != 1
    for t, (expected, action) in enumerate(zip(sound, 0.1 * _actions(worlds), strict=True)):
        if t == 5 and trouble.startswith("a state"):
            worlds.engine._qvel[1] = torch.inf
        elif t == 5:
            action[1] = torch.nan
        steps = worlds.step(action)
        demand(t != 5 or worlds.diverged.tolist() == [False, True, False, False],
               f"{trouble} in row 1 flags {worlds.diverged.tolist()} as diverged")
        demand(all(torch.equal(getattr(expected, name)[others], getattr(steps, name)[others])
                   for name in ("obs", "next_obs", "reward")),
               f"{trouble} in one row changes what the others live: keep no state in the family; "
               "`reset` is shown all rows, also when only one of them starts anew")
        demand(worlds.obs.isfinite().all() and steps.reward.isfinite().all(),
               f"{trouble} leaves a row that does not start anew: `reset` must give a whole start")


def _solvable(family: Family) -> None:
    """The scripted policy solves the tasks."""
    tasks = _asked(family)
    rate = _success(family, tasks)
    # A family that is solved in just 90 % of all tasks does worse on one sample of them in two.
    slack = 2 * (_SOLVED * (1 - _SOLVED) / len(tasks)) ** 0.5
    demand(rate >= _SOLVED - slack, f"the scripted policy succeeds in {rate:.0%} of the tasks; "
           f"they must be solvable in {_SOLVED:.0%}: mend `expert`, the ranges or the horizon")


def _needed(family: Family) -> None:
    """A policy that is blind to the task does not solve the tasks."""
    tasks = _asked(family)
    for told, whom in ((default_task(family).expand_as(tasks), "every task's middle"),
                       (tasks.roll(1, 0), "another task")):
        rate = _success(family, tasks, told)
        demand(rate < _BLIND, f"the scripted policy succeeds in {rate:.0%} of the tasks when it is "
               f"told {whom}: there is nothing to adapt to; widen the ranges or make `success` "
               "stricter")


def _felt(family: Family) -> None:
    """Every parameter is felt: with another value of it an episode is another one."""
    count = len(family.parameters)
    low = sample_tasks(family, "train", _FELT).repeat_interleave(count, 0)
    high, rows = low.clone(), torch.arange(len(low))
    column = rows % count
    for i, p in enumerate(family.parameters):
        # Not the ends of a range: those of an angle's are the same.
        values = p.values or [p.draw(u, 0.0, "train") for u in (0.1, 0.7)]
        low[column == i, i], high[column == i, i] = values[0], values[-1]
    felt, pair = torch.zeros(len(low), dtype=torch.bool), []
    for tasks in (low, high):
        pair.append(Worlds(family, len(low), threads=1))
        pair[-1].set_tasks(tasks)
        pair[-1].reset(draws=Draws.of(0, 0, rows))
    one, other = pair
    for action in _whole_episode(one):
        a, b = one.step(action), other.step(action)
        for name in ("next_obs", "reward", "last"):
            differs = getattr(a, name) != getattr(b, name)
            felt |= differs.reshape(len(low), -1).any(1)
        felt |= (_measures(one) != _measures(other)).any(0)
    idle = [p.name for i, p in enumerate(family.parameters) if not felt[column == i].any()]
    if idle:
        acted = "the scripted policy, with and without noise" if _scripted(one).numel() else (
            "random actions")
        raise Unchecked(f"nothing was felt of {', '.join(idle)} in whole episodes of {acted}: if "
                        "that is no accident, no reward depends on it, or it edits a field that "
                        "has no effect here")


def _idle(family: Family) -> None:
    """A robot that does nothing does not solve the tasks."""
    worlds = _worlds(family, _CROWD)
    if not family.hold and "success" not in family.outcome(worlds.frame, worlds.tasks.numpy()):
        raise Unchecked(_NO_SUCCESS)
    success = torch.full((_CROWD,), torch.nan)
    for _ in range(family.horizon):
        steps = worlds.step(torch.zeros(_CROWD, worlds.shapes.action))
        if steps.outcome:  # of the first episode; a row may be in a later one
            success = torch.where(success.isnan(), steps.outcome["success"], success)
    rate = success.mean().item()
    demand(rate < _BLIND, f"standing still succeeds in {rate:.0%} of the tasks: there is nothing "
           "to learn; make `success` stricter, or start elsewhere")


CHECKS = (_starts, _shapes, _hidden, _secret, _repeatable, _alone, _lasting, _unlimited, _contained,
          _felt, _idle, _solvable, _needed)


def _worlds(family: Family, rows: int = _ROWS) -> Worlds:
    worlds = Worlds(family, rows, threads=1)
    worlds.set_tasks(sample_tasks(family, "train", rows))
    worlds.reset(draws=Draws.of(0, 0, rows))
    return worlds


def _actions(worlds: Worlds) -> Tensor:
    """(T, N, A) in [-1, 1]."""
    shape = (_STEPS, worlds.rows, worlds.shapes.action)
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 1


def _whole_episode(worlds: Worlds) -> Iterator[Tensor]:
    """The actions (N, A) of an episode: the scripted policy's, with noise in the second half of the
    rows; random ones where there is none."""
    source = torch.Generator().manual_seed(1)
    for _ in range(worlds.family.horizon):
        action = 2 * torch.rand(worlds.rows, worlds.shapes.action, generator=source) - 1
        if (scripted := _scripted(worlds)).numel():
            action[: worlds.rows // 2] = 0.0  # it may be too good to touch anything
            action += scripted
        yield action


def _live(worlds: Worlds, strength: float = 1.0) -> Iterator[Steps]:
    for action in strength * _actions(worlds):
        yield worlds.step(action)


def _measures(worlds: Worlds) -> Tensor:
    """The family's measures of the present state, (measures, N)."""
    measures = worlds.family.outcome(worlds.frame, worlds.tasks.numpy())
    values = [v.astype(np.float64) for v in measures.values()] or [np.zeros(worlds.rows)]
    return torch.from_numpy(np.stack(values))


def _scripted(worlds: Worlds) -> Tensor:
    """The scripted policy's actions (N, A) as worlds take them, nothing (N, 0) where there is
    none. Torch's angles and logarithms differ by a last bit in double precision, for one row and
    for many."""
    action = worlds.family.expert(worlds.frame, worlds.tasks.numpy())
    return torch.empty(worlds.rows, 0) if action is None else torch.from_numpy(action).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what MuJoCo says of states that are broken on purpose."""
    log = logging.getLogger("mujoco")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def _asked(family: Family) -> Tensor:
    """Tasks (32, D) for the scripted policy."""
    tasks = some_tasks(family, 16)
    worlds = Worlds(family, 1, threads=1)
    task = worlds.tasks.numpy()
    if family.expert(worlds.frame, task) is None:
        raise Unchecked("there is no scripted policy; a family in Python that has an "
                        "`expert` is checked")
    if not family.hold and "success" not in family.outcome(worlds.frame, task):
        raise Unchecked(_NO_SUCCESS)
    return tasks


def _success(family: Family, tasks: Tensor, told: Tensor | None = None) -> float:
    """How often the scripted policy succeeds in tasks (M, D) when it is told these or others."""
    worlds = Worlds(family, len(tasks))
    result = evaluate(worlds, Expert(worlds, told), tasks, 1, seed=0)
    return result.outcomes["success"].double().mean().item()
