"""`metarl evaluate RUN`: the k-shot curve on one split, printed and kept in the run."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metarl import api
from metarl.agent import Agent
from metarl.cli.common import (
    RunOptions,
    counted,
    parse,
    print_json,
    show,
    table,
    warn,
)
from metarl.collect import Switch
from metarl.display import number
from metarl.envs.family import Family, Split, sample_tasks
from metarl.envs.sim2real import make_worlds
from metarl.errors import UserError
from metarl.evaluate import Apart, Evaluation, apart, evaluate
from metarl.run import Run
from metarl.statistics import interquartile_mean, interval
from metarl.train import acting_threads

_MOST = 10_000  # tasks, each of which has worlds of its own
_DESCRIPTION = """Judge the latest checkpoint of a run on the tasks of a split: return and outcomes
of episodes 1 ... K, each in the same hidden task unless that changes on the way; and, where it does
not, exploration and exploitation apart: after k = 0 ... K episodes of exploring as in training,
what one episode of the agent's best earns. Figures are interquartile means over tasks, with 95 %
bootstrap intervals, which speak of other tasks, not of another training. The whole result, task by
task, is written into RUN/evaluations/ as JSON."""


@dataclass(frozen=True)
class Options(RunOptions):
    """What to judge on."""

    split: Split = "test"
    """Which tasks: those trained on, those watched in training, held out, or out of
    distribution."""
    episodes: int = 3  # episodes per task, K
    tasks: int | None = None  # how many tasks; the family's own number of test tasks by default
    switch_every: int | None = None  # episodes after which tasks become others; as in training
    seed: int = 0  # of the evaluation's random numbers
    device: str = "cpu"  # torch device of the agent, as cpu or cuda


def run(argv: list[str]) -> int:
    """Evaluate, print and keep."""
    options = parse("evaluate", Options, argv, _DESCRIPTION)
    found = api.find_run(options.run, options.runs)
    family, agent, at = api.trained(found, options.device, options.plugin, warn, options.strict)
    usual = api.task_count(family, found.config, options.split)
    count = usual if options.tasks is None else options.tasks
    _check(options, found, family, count)
    every = api.switch_every(found) if options.switch_every is None else options.switch_every
    api.check_switch(family, agent, every)
    if options.switch_every and options.switch_every >= options.episodes:
        raise UserError(f"--switch-every {options.switch_every} would never come in "
                        f"{options.episodes} episodes; ask for more --episodes")
    # What a task becomes does not depend on how many are judged, up to the family's own number.
    pool = sample_tasks(family, options.split, max(count, usual))
    tasks, switch = pool[:count], Switch(every, pool) if every else None
    worlds = make_worlds(family, count * agent.plan.replicas, api.sim2real(found.config))
    with acting_threads():
        result = evaluate(worlds, agent, tasks, options.episodes, options.seed, switch=switch)
        parts = None if every else apart(worlds, agent, tasks, options.episodes, options.seed)
    document = {
        "run": str(found.path), "checkpoint": at.step, "switch_every": every,
        **described(family, agent, options.split, options.seed, tasks, result, parts),
    }
    name = file_name(options.split, at.step, options.episodes, count, options.seed, every)
    file, failed = None, None
    try:
        file = found.write_json(f"evaluations/{name}", document)
    except OSError as error:  # what was computed is shown all the same
        failed = error
    if options.json:
        print_json({**document, "file": None if file is None else str(file)})
    else:
        often = "every episode" if every == 1 else f"every {every} episodes"
        changing = f", others {often}" if every else ""
        show(f"{found.config['agent']} on {family.name}, run {found.name}\n"
             f"{counted(count, f'{options.split} task')}{changing}, checkpoint at env step "
             f"{at.step:,}")
        lived = f"batch of {agent.plan.replicas} rollouts" if agent.plan.pools else "episode"
        show(_table(f"{lived}, as it adapts", document["summary"]))
        if parts:
            show(_table("at its best, after", document["exploiting"]["summary"]))
        show("IQM: interquartile mean, that of the middle half of the tasks")
        if file is not None:
            show(f"kept in {file}")
    if failed is not None:
        raise UserError(f"not kept: {found.path} cannot be written to ({failed.strerror})")
    return 0


def _check(options: Options, found: Run, family: Family, count: int) -> None:
    """Raises UserError where a run cannot be judged on so many tasks."""
    if count < 1 or options.episodes < 1:
        raise UserError("--tasks and --episodes must be at least 1")
    if count > _MOST:
        raise UserError(f"--tasks {count} is too many at once; at most {_MOST:,} are judged side "
                        "by side")
    trained = api.train_count(family, found.config)
    if options.split == "train" and count > trained:
        raise UserError(f"--tasks {count} is too many: {found.name} was trained on {trained}; "
                        "others are in --split test")
    if options.split == "ood" and not any(parameter.ood for parameter in family.parameters):
        raise UserError(f"{family.name} has no tasks out of distribution; use --split test")


def file_name(
    split: str, step: int, episodes: int, tasks: int, seed: int, every: int
) -> str:
    """What an evaluation's file is called."""
    switched = f"_switch{every}" if every else ""
    return f"{split}_step_{step:09d}_k{episodes}_n{tasks}_s{seed}{switched}.json"


def described(
    family: Family, agent: Agent, split: Split, seed: int, tasks: Tensor, result: Evaluation,
    parts: Apart | None,
) -> dict[str, Any]:
    """An evaluation as JSON: per task what it earned, and all that a page needs to draw it."""
    plan = agent.plan
    document = {
        "split": split, "seed": seed, "horizon": family.horizon,
        "usual_tasks": family.task_counts[1],  # the family's own number
        "rollouts": plan.replicas if plan.pools else 1,  # that share what they live in a task
        "parameters": [p.name for p in family.parameters],
        "ranges": [{"name": p.name, "unit": p.unit, "meaning": p.meaning, "train": p.train,
                    "ood": p.ood, "values": p.values, "labels": p.labels,
                    "held_out": p.held_out, "distribution": p.distribution}
                   for p in family.parameters],
        "tasks": tasks.tolist(), **_values(result, 1),
    }
    if parts:
        document |= {"exploring": _values(parts.exploring, 1),
                     "exploiting": _values(parts.exploiting, 0),
                     "embedding": None if parts.embedding is None else parts.embedding.tolist()}
    return document


def _values(result: Evaluation, first: int) -> dict[str, Any]:
    """Returns and outcomes, (K, M) each, and their summary, whose rows count from `first`."""
    return {
        "returns": result.returns.tolist(),
        "outcomes": {name: values.tolist() for name, values in result.outcomes.items()},
        "summary": _summary(result, first),
    }


def _summary(result: Evaluation, first: int) -> list[dict[str, Any]]:
    """For each episode the interquartile mean over tasks of return and outcomes, with its 95 %
    interval; of `success`, whose middle half says little, the plain mean."""
    rows = []
    for k in range(len(result.returns)):
        row: dict[str, Any] = {"episode": k + first, "return": _middle(result.returns[k])}
        for name, values in result.outcomes.items():
            row[name] = (
                {"mean": values[k].nanmean().item()} if name == "success" else _middle(values[k])
            )
        rows.append(row)
    return rows


def _middle(values: Tensor) -> dict[str, float]:
    """Interquartile mean and bootstrap interval of numbers (M,), NaN left out."""
    kept = values[~values.isnan()].double().numpy()
    if not len(kept):
        return dict.fromkeys(("iqm", "low", "high"), math.nan)
    low, high = interval(kept)
    return {"iqm": interquartile_mean(kept), "low": low, "high": high}


def _table(title: str, summary: list[dict[str, Any]]) -> Any:
    names = [name for name in summary[0] if name != "episode"]
    heads = [[name] if name == "success" else [f"{name}, IQM", "95 % interval"] for name in names]
    shown = table(title, *(head for pair in heads for head in pair))
    for row in summary:
        cells = []
        for value in (row[name] for name in names):
            cells += [number(value["mean"])] if "mean" in value else [
                number(value["iqm"]), _interval(value["low"], value["high"])
            ]
        shown.add_row(str(row["episode"]), *cells)
    return shown


def _interval(low: float, high: float) -> str:
    """Nothing where the bounds are one: a single task says nothing of others."""
    return f"{number(low)} … {number(high)}" if low < high else "-"
