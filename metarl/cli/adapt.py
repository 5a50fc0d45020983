"""`metarl adapt RUN --task …`: adapt to one task in a few episodes, and keep the policy."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl import api
from metarl.agent import Agent
from metarl.cli.common import RunOptions, number, parse, print_json, show, table, warn
from metarl.collect import Tasks, collect
from metarl.envs.family import Family, named_task, parse_task
from metarl.envs.sim2real import Sim2Real, make_worlds
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.run import Run, utc
from metarl.train import acting_threads

_ADAPTING, _JUDGING = EVALUATION + 1, EVALUATION + 2  # iterations that key the draws
Row = dict[str, Any]  # `episode`, `return` and the family's outcomes
_DESCRIPTION = """Adapt the latest checkpoint of a run to one task, in simulation.

The agent lives through the episodes, all in that task, without being told it. Before and after, one
more episode is judged from the same start states, without exploration. The adapted policy is
written as a bundle, which metarl play and metarl.load read."""


@dataclass(frozen=True)
class Options(RunOptions):
    """What to adapt to."""

    task: tuple[str, ...] = ()  # name=value ...; the middle of the train range for the others
    episodes: int = 3  # episodes to adapt in
    seed: int = 0  # of the start states and the exploration
    device: str = "cpu"  # torch device of the agent, as cpu or cuda
    out: Path | None = None  # directory of the adapted policy; inside the run by default


def run(argv: list[str]) -> int:
    """Adapt, print and keep."""
    options = parse("adapt", Options, argv, _DESCRIPTION)
    if options.episodes < 1:
        raise UserError("--episodes must be at least 1")
    if options.out is not None and options.out.exists():
        raise UserError(f"{options.out} exists; choose another place with --out")
    found = api.find_run(options.run, options.runs)
    # A slip in the task is told before anything large is read.
    task = parse_task(api.family_of(found, options.plugin), list(options.task), warn)
    family, agent, at = api.trained(found, options.device, options.plugin, warn, options.strict)
    with acting_threads():
        rows, belief = adapt(family, agent, task, options.episodes, options.seed,
                             api.sim2real(found.config))
    names = named_task(family, task)
    about = api.about(found, agent, task=names, episodes=options.episodes, checkpoint=at.step)
    path = options.out or _place(found, names, options.seed)
    Policy(agent, belief, about, found.files).save(path)
    result = {"run": str(found.path), "checkpoint": at.step, "task": names, "episodes": rows,
              "policy": str(path)}
    if options.json:
        print_json(result)
    else:
        _report(family, names, rows, (options.episodes, agent.plan.replicas), path)
    return 0


def adapt(
    family: Family, agent: Agent, task: Tensor, episodes: int, seed: int,
    flaws: Sim2Real = api.FLAWLESS,
) -> tuple[list[Row], Any]:
    """Return and outcomes before, in each of `episodes`, and after adaptation to a task (D,); and
    the belief at the end."""
    replicas = agent.plan.replicas
    worlds = make_worlds(family, replicas, flaws)
    tasks = Tasks(task[None], torch.zeros(1, dtype=torch.long), replicas)
    judging = Draws.of(seed, _JUDGING, 1, replicas)
    before, _ = collect(worlds, agent, tasks, 1, judging, noise=False)
    trial, belief = collect(
        worlds, agent, tasks, episodes, Draws.of(seed, _ADAPTING, 1, replicas),
        noise=agent.plan.noise_when_judged,
    )
    after, _ = collect(worlds, agent, tasks, 1, judging, noise=False, belief=belief)
    rows = []
    for name, part, count in (("before", before, 1), ("", trial, episodes), ("after", after, 1)):
        measures = {"return": part.returns(count), **part.outcomes(count)}
        rows += [
            {"episode": name or k + 1, **{m: v[k].nanmean().item() for m, v in measures.items()}}
            for k in range(count)
        ]
    return rows, belief


def _place(run: Run, task: dict[str, float], seed: int) -> Path:
    """A directory inside the run that no other task adapted to in this second has."""
    digest = hashlib.sha256(repr((task, seed)).encode()).hexdigest()[:6]
    return run.path / "adapted" / f"{utc()}_{digest}"


def _report(
    family: Family, task: dict[str, float], rows: list[Row], lived: tuple[int, int], path: Path
) -> None:
    """Print a table; `lived` is how many episodes, and how many rollouts each of them was."""
    said = ", ".join(f"{p.name} {p.words(task[p.name])} {p.unit}".strip()
                     for p in family.parameters)
    episodes, rollouts = lived
    seconds = episodes * rollouts * family.horizon * family.control_step
    times = "" if rollouts == 1 else f" of {rollouts} rollouts each"
    show(f"{family.name} with {said}")
    names = [name for name in rows[0] if name != "episode"]
    shown = table("episode", *names)
    for row in rows:
        ends = row["episode"] in ("before", "after")
        label = f"{row['episode']} adaptation" if ends else str(row["episode"])
        shown.add_row(label, *(number(row[n]) for n in names), style="bold" if ends else None)
    show(shown)
    show(f"adapted in {episodes} episodes{times} ({seconds:g} s of the robot's time)\n"
         f"policy:    {path}\n"
         f"watch it:  metarl play {path}\n"
         f'in Python: policy = metarl.load("{path}"); action, _ = policy.predict(obs)')
