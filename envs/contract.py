"""What every family must keep to, as checks that explain their failures."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.envs.engine import BatchEngine
from metarl.envs.expert import Expert
from metarl.envs.family import Family, default_task, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.evaluate import evaluate
from metarl.randomness import Draws
from metarl.trial import Steps

_ROWS, _STEPS = 4, 40  # of the short lives below
_SOLVED = 0.9  # success that a scripted policy must have


class Broken(Exception):
    """A family breaks its contract; the text says where and what to do."""


@dataclass(frozen=True)
class Verdict:
    """What came of one check."""

    claim: str
    problem: str = ""  # nothing where the claim holds


def verdicts(family: Family) -> Iterator[Verdict]:
    """Every check of a family in turn. A family that raises is told so and the next check goes
    on."""
    for check in _CHECKS:
        claim = " ".join((check.__doc__ or "").split())
        try:
            check(family)
        except (Broken, UserError) as error:
            yield Verdict(claim, str(error))
        except Exception as error:  # a stranger's code may raise anything
            last = inspect.trace()[-1]
            yield Verdict(claim, f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})")
        else:
            yield Verdict(claim)


def _parameters(family: Family) -> None:
    """The parameters' ranges make sense, and their names are distinct."""
    names = [p.name for p in family.parameters]
    _demand(names, "parameters is empty: name at least one thing that varies")
    _demand(len(set(names)) == len(names), f"two parameters share a name among {names}")
    for p in family.parameters:
        low, high = p.possible
        for start, end in (p.train, *p.ood):
            _demand(np.isfinite([start, end]).all(), f"{p.name}: ({start}, {end}) is not finite")
            _demand(start < end, f"{p.name}: the range ({start}, {end}) is empty or backward")
            _demand(low <= start and end <= high,
                    f"{p.name}: ({start}, {end}) reaches beyond what is possible, {p.possible}")
            _demand(p.distribution != "log-uniform" or start > 0,
                    f"{p.name}: a log-uniform range must be positive, not ({start}, {end})")
        for start, end in p.ood:
            _demand(end <= p.train[0] or start >= p.train[1],
                    f"{p.name}: the ood range ({start}, {end}) overlaps the train range {p.train}")


def _variants(family: Family) -> None:
    """Every variant compiles into the base model's layout."""
    engine = BatchEngine(family, 1, threads=1)
    for task in _sample(family):
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
        _demand(not (p.physics and same), f"{p.name} changes no field of the model; if only the "
                "reward depends on it, say physics=False, else edit the model in `variant`")
        _demand(p.physics or same, f"{p.name} changes the model; drop physics=False")


def _hidden(family: Family) -> None:
    """The first observation is the same whatever the task."""
    worlds = Worlds(family, 1, threads=1)
    first = []
    for task in _sample(family):
        worlds.set_tasks(task[None])
        first.append(worlds.reset(draws=Draws.of(0, 0, 1)))
    _demand(all(torch.equal(obs, first[0]) for obs in first),
            "the first observation differs from task to task: `observe` or `reset` shows it")


def _shapes(family: Family) -> None:
    """Observations and rewards are finite numbers, one row for each world."""
    worlds = _worlds(family)
    frame, action = worlds.frame, torch.zeros(_ROWS, worlds.shapes.action).double()
    obs, reward = family.observe(frame), family.reward(frame, action, frame, worlds.tasks)
    _demand(obs.ndim == 2 and len(obs) == _ROWS,
            f"`observe` gives {tuple(obs.shape)} for {_ROWS} rows; it must be ({_ROWS}, O)")
    _demand(reward.shape == (_ROWS,),
            f"`reward` gives {tuple(reward.shape)} for {_ROWS} rows; it must be ({_ROWS},)")
    holds = family.holds(frame, worlds.tasks)
    _demand(holds.shape == (_ROWS,) and holds.dtype == torch.bool,
            f"`holds` gives {tuple(holds.shape)} {holds.dtype}; it must be ({_ROWS},) bool")
    for name, value in family.outcome(frame, worlds.tasks).items():
        _demand(value.shape == (_ROWS,),
                f"outcome {name!r} has the shape {tuple(value.shape)}; it must be ({_ROWS},)")
    for steps in _live(worlds):
        _demand(bool(steps.reward.isfinite().all()), "a reward is not finite")
        _demand(bool(steps.next_obs.isfinite().all()), "an observation is not finite")
        _demand(not worlds.diverged.any(),
                "the simulation diverges under random actions: take a shorter timestep or more "
                "damping and armature")


def _alone(family: Family) -> None:
    """A row lives the same alone and beside others, bit for bit."""
    many, alone = _worlds(family), Worlds(family, 1, threads=1)
    alone.set_tasks(many.tasks[2:3])
    alone.reset(draws=Draws.of(0, 0, torch.tensor([2])))
    for action in _actions(many):
        both, own = many.step(action), alone.step(action[2:3])
        _demand(torch.equal(both.next_obs[2:3], own.next_obs)
                and torch.equal(both.reward[2:3], own.reward),
                "a row's life depends on the rows beside it: keep no state in the family, and let "
                "rows meet in no sum or mean")


def _lasting(family: Family) -> None:
    """An episode does not terminate at its first step, standing still."""
    worlds = _worlds(family)
    steps = worlds.step(torch.zeros(_ROWS, worlds.shapes.action))
    _demand(not steps.terminated.all(), "`terminated` is true at once; the horizon alone is a time "
            "limit and needs no terminal")


def _solvable(family: Family) -> None:
    """The scripted policy, where there is one, solves the tasks."""
    tasks = _sample(family)
    worlds = Worlds(family, len(tasks))
    if family.expert(worlds.frame, worlds.tasks) is None:
        return
    success = evaluate(worlds, Expert(worlds), tasks, 1, seed=0).outcomes.get("success")
    if success is not None:
        rate = success.mean().item()
        _demand(rate >= _SOLVED, f"the scripted policy succeeds in {rate:.0%} of the tasks; they "
                                 f"must be solvable in {_SOLVED:.0%}")


_CHECKS: tuple[Callable[[Family], None], ...] = (
    _parameters, _variants, _physics, _hidden, _shapes, _alone, _lasting, _solvable,
)


def _demand(condition: object, problem: str) -> None:
    if not condition:
        raise Broken(problem)


def _sample(family: Family) -> Tensor:
    """Ten tasks (10, D) of train and ood ranges."""
    return torch.cat([sample_tasks(family, split, 5) for split in ("train", "ood")])


def _worlds(family: Family) -> Worlds:
    worlds = Worlds(family, _ROWS, threads=1)
    worlds.set_tasks(sample_tasks(family, "train", _ROWS))
    worlds.reset(draws=Draws.of(0, 0, _ROWS))
    return worlds


def _actions(worlds: Worlds) -> Tensor:
    """(T, N, A) in [-1, 1]."""
    shape = (_STEPS, worlds.rows, worlds.shapes.action)
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 1


def _live(worlds: Worlds) -> Iterator[Steps]:
    for action in _actions(worlds):
        yield worlds.step(action)
