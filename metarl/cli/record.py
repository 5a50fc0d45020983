"""`metarl record FAMILY --task …`: episodes of one task into a file, for `metarl adapt --demos`."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl import api, episodes
from metarl.agent import Agent, Fixed
from metarl.cli.common import (
    FamilyOptions,
    build_family,
    explain_family,
    parse,
    print_json,
    show,
    split_family,
    table,
    warn,
)
from metarl.collect import Tasks, collect
from metarl.display import number
from metarl.envs.entries import action_entries, observation_entries
from metarl.envs.expert import Expert
from metarl.envs.family import Family, named_task, parse_task
from metarl.envs.sim2real import make_worlds
from metarl.envs.worlds import Worlds
from metarl.episodes import About, Entry, Episodes, past_actions
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.plugins import imported
from metarl.randomness import Draws
from metarl.run import DEFAULT_ROOT
from metarl.train import acting_threads
from metarl.trial import Steps

_RECORDING = EVALUATION + 3  # iteration that keys the draws
_DESCRIPTION = """Record episodes of one task of a family: of its scripted expert, which is told the
task; of a trained run, which adapts as it goes; or of a controller of your own. metarl adapt RUN
--demos FILE adapts to the task from them. The file is an npz without pickle; python -m pydoc
metarl.episodes says what is in it. The task's true parameters are stored beside, as hidden_task,
for judging alone."""


@dataclass(frozen=True)
class Options(FamilyOptions):
    """What to record."""

    task: tuple[str, ...] = ()  # name=value ...; the middle of the train range for the others
    episodes: int = 1  # how many
    out: Path = Path("demos.npz")  # file to write, ending in .npz
    run: str | None = None  # a trained run acts, in its own family: FAMILY is left out
    controller: str | None = None  # package.module:function acts: action (A,) = f(obs (O,), t)
    seed: int = 0  # of the start states
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    plugin: tuple[str, ...] = ()  # package.module:Name that the run may import
    json: bool = False  # print the results as JSON


class Controller(Fixed):
    """A function of yours as an agent: f(obs (O,), t) gives an action (A,) in [-1, 1], where t
    counts the control steps of the episode from 0. Both are numpy's."""

    def __init__(self, name: str, function: Callable[..., Any], actions: int) -> None:
        self._name, self._function, self._actions = name, function, actions

    def prior(self, tasks: Tensor, replicas: int, draws: Draws) -> Any:
        return 0

    def infer(self, belief: Any, step: Steps) -> Any:
        return 0 if step.last[0] else belief + 1

    def act(self, obs: Tensor, belief: Any, noise: Tensor | None) -> Tensor:
        """Raises UserError for anything but finite numbers, one for each actuator."""
        try:
            action = np.asarray(self._function(obs[0].numpy(), belief), np.float32)
        except Exception as error:
            # Whatever it raises is its own fault, not metarl's.
            raise UserError(f"{self._name} failed at step {belief} with {type(error).__name__}: "
                            f"{error}; it is called as f(obs, t)") from error
        if action.shape != (self._actions,) or not np.isfinite(action).all():
            raise UserError(f"{self._name} must give {self._actions} finite numbers; at step "
                            f"{belief} it gave {action.tolist()}")
        return torch.from_numpy(action.clip(-1, 1))[None]


def run(argv: list[str]) -> int:
    """Record, write and print."""
    rest, own = split_family(argv)
    explain_family("record", Options, rest, _DESCRIPTION)
    options = parse("record", Options, rest, _DESCRIPTION)
    _check(options)
    family, about, worlds, made = _actor(options, own)
    task = parse_task(family, list(options.task), warn)
    found = record(worlds, made, task, about, options.episodes, options.seed)
    episodes.write(options.out, found)
    measures = {"return": found.returns(), **found.outcomes()}
    lived = [{"episode": k + 1, **{name: float(v[k]) for name, v in measures.items()}}
             for k in range(found.count)]
    names = named_task(family, task)
    if options.json:
        print_json({"file": str(options.out), "family": family.name, "task": names,
                    "source": about.source, "episodes": lived})
        return 0
    shown = table("episode", *measures)
    for row in lived:
        shown.add_row(*(str(v) if name == "episode" else number(v) for name, v in row.items()))
    show(f"{family.name} by {about.source}")
    show(shown)
    show(f"episodes: {options.out}\nnext:     metarl adapt RUN --demos {options.out}")
    return 0


def record(
    worlds: Worlds, made: Callable[[Worlds], Agent], task: Tensor, about: About, count: int,
    seed: int,
) -> Episodes:
    """`count` episodes of a task (D,), lived through in these worlds by the agent that is made for
    them; of their rows, the first one's."""
    rows = worlds.rows
    worlds.set_tasks(task.expand(rows, -1))
    agent, place = made(worlds), torch.zeros(1, dtype=torch.long)
    with acting_threads():
        trial, _ = collect(
            worlds, agent, Tasks(task[None], place, rows), count,
            Draws.of(seed, _RECORDING, 1, rows), noise=agent.plan.noise_when_judged,
        )
    return episodes.recorded(trial, about, count)


def about_of(
    family: Family, name: str, files: dict[str, bytes], source: str, history: int = 0,
) -> About:
    """What episodes of this family, called `name`, say of themselves, with so many past actions
    behind each observation."""
    worlds = Worlds(family, 1)
    action = action_entries(worlds)
    return About(
        family=name, options=asdict(family),  # pyright: ignore[reportArgumentType]
        files={file: hashlib.sha256(data).hexdigest() for file, data in files.items()},
        control_step=family.control_step, source=source,
        observation=observation_entries(worlds) + past_actions(action, history), action=action,
        parameters=tuple(Entry(p.name, p.unit) for p in family.parameters),
    )


def _actor(
    options: Options, own: list[str]
) -> tuple[Family, About, Worlds, Callable[[Worlds], Agent]]:
    """Whose family it is, what is said of the episodes, the worlds that the actor needs, and how it
    is made."""
    if options.run is not None:
        run = api.find_run(options.run, options.runs)
        family, agent, at = api.trained(run, "cpu", options.plugin, warn)
        source = f"run {run.name} ({run.config['agent']}) at env step {at.step}"
        # It sees what it saw in training: flawed sensors, and its last actions.
        flaws = api.sim2real(run.config)
        about = about_of(family, run.config["family"], run.files, source, flaws.history)
        return family, about, make_worlds(family, agent.plan.replicas, flaws), lambda w: agent
    chosen = api.choose_family(options.family, options.mjcf, options.vary)
    family = build_family(f"record {chosen.words}", chosen.cls, own)
    if options.controller is not None:
        name = options.controller
        function = imported("controller", name)
        if not callable(function) or inspect.isclass(function):
            raise UserError(f"controller {name!r} is no function f(obs, t)")
        about = about_of(family, chosen.name, chosen.files, f"controller {name}")
        worlds = Worlds(family, 1)
        return family, about, worlds, lambda w: Controller(name, function, w.shapes.action)
    if type(family).expert is Family.expert:
        raise UserError(f"{family.name} has no scripted expert; let a trained run act with --run "
                        "RUN, or a function of yours with --controller package.module:function")
    about = about_of(family, chosen.name, chosen.files, "the scripted expert, told the task")
    return family, about, Worlds(family, 1), Expert


def _check(options: Options) -> None:
    if options.episodes < 1:
        raise UserError("--episodes must be at least 1")
    if options.out.suffix != ".npz":
        raise UserError(f"--out {options.out} must end in .npz")
    if options.out.exists():
        raise UserError(f"{options.out} exists; choose another place with --out")
    if options.run is not None and options.controller is not None:
        raise UserError("--run and --controller: one of them acts, not both")
    if options.run is not None and (options.family or options.mjcf or options.vary):
        raise UserError(f"--run {options.run} acts in its own family; leave FAMILY out")
