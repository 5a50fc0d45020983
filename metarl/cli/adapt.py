"""`metarl adapt RUN --task …`: adapt to one task, in a few episodes or from recorded ones."""

import hashlib
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from metarl import api
from metarl.adaptation import Row, lived
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
from metarl.display import number
from metarl.envs.family import Family, named_task, parse_task
from metarl.episodes import Episodes, check_fits, read, with_past_actions
from metarl.errors import UserError
from metarl.plugins import allowing
from metarl.policy import Policy
from metarl.run import Run, utc
from metarl.train import acting_threads

_DESCRIPTION = """Adapt the latest checkpoint of a run to one task, in simulation.

The agent lives through the episodes, all in that task, without being told it. Before and after, one
more episode is judged from the same start states, without exploration. With --demos it adapts from
episodes that metarl record wrote, instead of its own or before them, and is judged in the task of
--task, or else in the file's own where that is known. The adapted policy is written as a bundle,
which metarl play and metarl.load read."""


@dataclass(frozen=True)
class Options(RunOptions):
    """What to adapt to."""

    task: tuple[str, ...] = ()  # name=value ...; the middle of the train range for the others
    demos: Path | None = None  # recorded episodes to adapt from, an .npz
    episodes: int | None = None  # own episodes to adapt in: 3, with --demos 0 by default
    seed: int = 0  # of the start states and the exploration
    device: str = "cpu"  # torch device of the agent, as cpu or cuda
    out: Path | None = None  # directory of the adapted policy; inside the run by default


def run(argv: list[str]) -> int:
    """Adapt, print and keep."""
    options = parse("adapt", Options, argv, _DESCRIPTION)
    count = options.episodes if options.episodes is not None else 0 if options.demos else 3
    if count < (0 if options.demos else 1):
        raise UserError("--episodes must be at least 1, or 0 with --demos")
    if options.out is not None and options.out.exists():
        raise UserError(f"{options.out} exists; choose another place with --out")
    found = api.find_run(options.run, options.runs)
    # A slip in the task or in the file is told before anything large is read.
    family, words, demos = api.family_of(found, options.plugin), list(options.task), None
    if options.demos is None:
        task = parse_task(family, words, warn)
    else:
        demos = _demonstrated(options.demos, found, family)
        task = parse_task(family, words, warn, demos.hidden_task) if words else demos.hidden_task
        _tell_other(family, task, demos)
        if task is None and count:
            raise UserError(f"{options.demos} does not say which task it is of: --episodes of its "
                            "own need --task")
    family, agent, at = api.trained(found, options.device, options.plugin, warn, options.strict)
    if task is None and agent.plan.sees_task:
        raise UserError(f"{found.config['agent']} must be told the task, and {options.demos} does "
                        "not say it; give --task")
    with acting_threads():
        rows, belief = lived(family, agent, task, count, options.seed, demos,
                             api.sim2real(found.config))
    names = None if task is None else named_task(family, task)
    more: dict[str, Any] = {} if names is None else {"task": names}
    if options.demos is not None and demos is not None:
        more["demonstrations"] = {"file": options.demos.name, "episodes": demos.count,
                                  "source": demos.about.source}
    about = api.about(found, agent, episodes=count, checkpoint=at.step, **more)
    path = options.out or _place(found, names, options.seed)
    Policy(agent, belief, about, found.files).save(path)
    result = {"run": str(found.path), "checkpoint": at.step, **more, "episodes": rows,
              "policy": str(path)}
    if options.json:
        print_json(result)
    else:
        _report(family, names, rows, _evidence(family, agent, count, demos), path,
                allowing(found.config["agent"], found.config["family"]))
    return 0


def _demonstrated(path: Path, run: Run, family: Family) -> Episodes:
    """The episodes of a file, as this run would have met them. Raises UserError where they are not
    of its family."""
    found, history = read(path), api.sim2real(run.config).history
    seen = len(found.about.observation)
    if history and seen + history * len(found.about.action) == run.config["shapes"]["obs"]:
        found = with_past_actions(found, history, family.action_scale)
    check_fits(found, run.config, path)
    return found


def _tell_other(family: Family, task: Tensor | None, demos: Episodes) -> None:
    """Warn of what is otherwise in the task than where it was demonstrated."""
    if task is None or demos.hidden_task is None:
        return
    for p, value, shown in zip(family.parameters, task.tolist(), demos.hidden_task.tolist(),
                               strict=True):
        if value != shown:
            warn(f"{p.name} is {p.words(value)} {p.unit} here, and {p.words(shown)} {p.unit} where "
                 "it was demonstrated")


def _place(run: Run, task: dict[str, float] | None, seed: int) -> Path:
    """A directory inside the run that no other task adapted to in this second has."""
    digest = hashlib.sha256(repr((task, seed)).encode()).hexdigest()[:6]
    return run.path / "adapted" / f"{utc()}_{digest}"


def _evidence(family: Family, agent: Agent, count: int, demos: Episodes | None) -> str:
    """What it was adapted in, in words."""
    said = []
    if demos is not None:
        seconds = len(demos.steps.reward) * family.control_step
        shown = counted(demos.count, "demonstration")
        said.append(f"from {shown} of {demos.about.source} ({seconds:g} s)")
    if count:
        each = " each" if count > 1 else ""
        times = "" if agent.plan.replicas == 1 else f" of {agent.plan.replicas} rollouts{each}"
        seconds = count * agent.plan.replicas * family.horizon * family.control_step
        said.append(f"in {counted(count, 'episode')}{times} ({seconds:g} s of the robot's time)")
    if not agent.plan.adapts:
        said.append("nothing changed, as this agent does not learn from episodes")
    return ", then ".join(said)


def _report(
    family: Family, task: dict[str, float] | None, rows: list[Row], lived: str, path: Path,
    allowed: list[str],
) -> None:
    """Print a table, and what can be done with the bundle at `path`, where these words allow it to
    import what it names."""
    said = "a task that nobody told" if task is None else ", ".join(
        f"{p.name} {p.quantity(task[p.name])}" for p in family.parameters)
    show(f"{family.name} with {said}")
    names = [name for name in rows[-1] if name != "episode"]
    shown = table("episode", *names)
    for row in rows:
        ends = row["episode"] in ("before", "after")
        label = f"{row['episode']} adaptation" if ends else str(row["episode"])
        cells = (number(row.get(n, math.nan)) for n in names)
        shown.add_row(label, *cells, style="bold" if ends else None)
    show(shown)
    plugins = f", plugins={allowed[1:]}" if allowed else ""
    show(f"adapted {lived}\n"
         f"policy:    {path}\n"
         f"watch it:  metarl play {shlex.join([str(path), *allowed])}\n"
         f'in Python: policy = metarl.load("{path}"{plugins}); action, _ = policy.predict(obs)')
