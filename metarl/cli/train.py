"""`metarl train AGENT FAMILY`: make a run directory and meta-train in it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metarl import api, checkpoint, display
from metarl.agent import Agent, check_config
from metarl.agents import AGENTS
from metarl.checkpoint import Checkpoint
from metarl.cli.common import parse, parse_groups, print_json, say, show, table
from metarl.display import number
from metarl.envs import FAMILIES
from metarl.envs.description import TERMS
from metarl.envs.edits import FIELDS
from metarl.envs.family import Family
from metarl.envs.sim2real import make_worlds
from metarl.errors import Diverged, UserError
from metarl.presets import preset
from metarl.run import DEFAULT_ROOT, Run, Writer, this_command
from metarl.signals import EXIT_CODE, stop_on_signals
from metarl.train import Budget, Progress, Record, Setting, train

# All are drawn before training begins, one by one: so many take some seconds, and a run meets
# fewer.
_MOST_TASKS = 100_000
_FIELDS = "; ".join(f"{kind} ({', '.join(fields)})" for kind, fields in FIELDS.items())
_DESCRIPTION = f"""Meta-train AGENT on FAMILY (metarl list shows both), or on a robot of your own:

metarl train AGENT --mjcf arm.xml --vary arm.yaml

Everything goes into a new run directory. Ctrl-C or SIGTERM saves and stops; metarl resume goes on
bit for bit. metarl train AGENT FAMILY --help lists the settings of that agent and family too.

The YAML of --vary needs control_step, horizon, reward and vary; name, observe, reset, success and
terminate are optional. reward is a list of weighted terms: {', '.join(TERMS)}. Under vary, each
parameter has a range, scale or choices, and changes a goal or a field of: {_FIELDS}.
python -m pydoc metarl.envs.description shows all of it."""


@dataclass(frozen=True)
class Options:
    """How to train."""

    seed: int = 0  # of all random numbers
    steps: int = 1_000_000  # env steps to train for
    tasks: Literal["uniform", "curriculum"] = "uniform"
    """Which train tasks come: all in turn, or most often those whose returns change."""
    train_tasks: int = 0  # how many train tasks there are; 0: as many as the family says
    evaluate_every: int = 50_000  # env steps between evaluations on the validation tasks
    evaluation_episodes: int = 3  # episodes of an evaluation
    checkpoint_every: float = 120.0  # s between checkpoints; the last iteration is always saved
    device: str = "cpu"  # torch device of the agent, as cpu or cuda
    runs: Path = DEFAULT_ROOT  # directory to make the run directory in
    mjcf: Path | None = None  # MJCF file of a robot; with --vary, in place of FAMILY
    vary: Path | None = None  # YAML of what varies over it and what is wanted
    json: bool = False  # print the results as JSON


@dataclass(frozen=True)
class TrialOptions:
    """What a trial is like."""

    demonstrations: float = 0.0
    """Share of the trials that begin with an episode of the family's scripted expert, so that the
    agent learns to read demonstrations; for agents that learn off-policy."""
    switch_every: int = 0  # episodes after which each row's hidden task becomes another; 0: never


@dataclass(frozen=True)
class Outcome:
    """How a call of `train_in` ended."""

    env_steps: int
    interrupted: bool
    evaluation: dict[str, float]  # the newest one's figures

    @property
    def code(self) -> int:
        """The exit code: 0 when done, 75 when interrupted and saved."""
        return EXIT_CODE if self.interrupted else 0


def run(argv: list[str]) -> int:
    """Train; 0 when done, 75 when interrupted and saved."""
    names, rest = _names(argv)
    if not names or (len(names) < 2 and not _described(rest)):
        return _without_names(names, rest)
    options, made, outcome = _train(names, rest)
    return tell(made, outcome, options.json)


def begin(argv: list[str]) -> tuple[Run, int]:
    """What `metarl train` does with these words, with nothing on standard output; the run and
    the exit code."""
    _, made, outcome = _train(*_names(argv))
    return made, outcome.code


def train_in(
    writer: Writer, family: Family, agent: Agent, at: Checkpoint | None, stop: Callable[[], bool]
) -> Outcome:
    """Train in a writer's run from the checkpoint `at`, or from the beginning, until its steps are
    spent, or until `stop`. The agent has the state of `at` already, and the writer is there too."""
    run, progress = writer.run, progress_at(at)
    config = run.config
    budget = Budget(**{f.name: config[f.name] for f in dataclasses.fields(Budget)})
    setting = api.build_setting(family, agent, config)
    if setting.curriculum is not None and at is not None:
        setting.curriculum.load_state(at.tensors["curriculum"])
    title = f"{config['agent']} on {config['family']} · seed {config['seed']}"
    with display.Display(title, str(run.path)) as shown:
        session = _Session(run, agent, setting, budget, writer, shown, progress)
        for line in _notes(agent, family, budget):
            shown.say(line)
        run.set_status("running", progress.env_steps)
        writer.log(f"training from env step {progress.env_steps:,}")
        try:
            progress, interrupted = train(
                agent, setting, budget, progress, session.log, session.save, stop
            )
        except BaseException as error:
            run.set_status("failed", session.step, reason=str(error) or type(error).__name__)
            writer.log(f"failed: {type(error).__name__}: {error}")
            if isinstance(error, Diverged):
                raise Diverged(f"{error} ({run.path})") from None
            raise
        state = "interrupted" if interrupted else "done"
        run.set_status(state, progress.env_steps)
        writer.log(f"{state} at env step {progress.env_steps:,}")
    if interrupted:
        say(f"interrupted at env step {progress.env_steps:,} and saved; go on with: "
            f"metarl resume {run.words}")
    return Outcome(progress.env_steps, interrupted, session.last_evaluation)


def progress_at(at: Checkpoint | None) -> Progress:
    """Where training stood at a checkpoint; at its beginning where there is none."""
    return Progress(**at.state["progress"]) if at else Progress()


def tell(run: Run, outcome: Outcome, as_json: bool) -> int:
    """Print how training ended; the exit code."""
    if as_json:
        print_json({"run": str(run.path), "state": run.status["state"],
                    "env_steps": outcome.env_steps, **outcome.evaluation})
    elif not outcome.interrupted:
        _report(run, outcome)
    return outcome.code


def _train(names: list[str], rest: list[str]) -> tuple[Options, Run, Outcome]:
    agent_name, *named = names
    _check_order(names)
    # What is typed on the command line may be imported; what a file says may not.
    agent_class = api.agent_class(agent_name, plugins=[agent_name])
    given = _described(rest)
    choice = api.choose_family(next(iter(named), None), given.get("mjcf"), given.get("vary"))
    dynamic = any(parameter.physics for parameter in choice.cls().parameters)
    start = preset(agent_name, choice.name, choice.cls.horizon if choice.files else 0, dynamic)
    chosen = parse_groups(
        f"train {agent_name} {choice.words}",
        {"options": Options(**start["options"]), "trial": TrialOptions(),
         "sim2real": api.FLAWLESS,
         "config": agent_class.Config(**start["config"]),
         "family": choice.cls(**start["family"])},
        rest, _DESCRIPTION,
    )
    options, settings, family = chosen["options"], chosen["config"], chosen["family"]
    _check(options)
    check_config(settings)
    device = api.build_device(options.device)
    trial, flaws = chosen["trial"], chosen["sim2real"]
    shapes = make_worlds(family, 1, flaws).shapes
    config = {
        **api.resolved(agent_name, settings, choice.name, family, shapes),
        **{f.name: getattr(options, f.name) for f in dataclasses.fields(Options)
           if f.name not in ("runs", "mjcf", "vary", "json")},
        "trial": dataclasses.asdict(trial),
        "sim2real": dataclasses.asdict(flaws),
    }
    agent = agent_class(settings, shapes, options.seed, device)
    api.check_switch(family, agent, trial.switch_every)
    api.check_expert(family, agent, trial.demonstrations)
    if trial.switch_every and options.train_tasks == 1:
        raise UserError("--train-tasks 1 leaves no other task to change into; ask for more")
    if trial.switch_every >= agent.plan.episodes:
        raise UserError(f"--trial.switch-every {trial.switch_every} would never come: a trial of "
                        f"{agent_name} has {agent.plan.episodes} episodes; ask for fewer than "
                        "that, or for longer trials")
    with stop_on_signals() as stop:
        made = Run.create(options.runs, config, this_command(), choice.files)
        with Writer(made) as writer:
            return options, made, train_in(writer, family, agent, None, stop)


class _Session:
    """Where one call of `train` logs and saves to."""

    def __init__(
        self, run: Run, agent: Agent, setting: Setting, budget: Budget, writer: Writer,
        shown: display.Display, progress: Progress,
    ) -> None:
        self.run, self.agent, self.budget = run, agent, budget
        self.writer, self.shown, self._curriculum = writer, shown, setting.curriculum
        self.step = progress.env_steps
        self.saved: int | None = progress.env_steps or None
        self.last_evaluation: dict[str, float] = {}

    def log(self, record: Record) -> None:
        """One iteration is over, or an evaluation that the last one had left."""
        self.step = int(record["env_steps"])
        self.writer.record(record)
        self.run.set_status("running", self.step)
        evaluation = {k: v for k, v in record.items() if k.startswith("eval/")}
        self.last_evaluation = evaluation or self.last_evaluation
        if "meta/return_post" not in record:
            return
        more = {f"validation return {k}": v for k, v in _curve(self.last_evaluation).items()}
        self.shown.show(display.Progress(
            iteration=int(record["iteration"]), step=self.step, total=self.budget.steps,
            before=record["meta/return_pre"], after=record["meta/return_post"],
            rate=record["perf/sps"], checkpoint=self.saved, more=more,
        ))

    def save(self, progress: Progress) -> None:
        """Store agent, curriculum and progress as one unit."""
        self.writer.sync()
        tensors = {"agent": self.agent.state()}
        if self._curriculum is not None:
            tensors["curriculum"] = self._curriculum.state()
        path = checkpoint.save(
            self.run.checkpoints, progress.env_steps, tensors, {"progress": progress.as_dict()},
        )
        self.saved = progress.env_steps
        self.shown.saved(progress.env_steps)
        self.writer.log(f"saved {path.name}")


def _names(argv: list[str]) -> tuple[list[str], list[str]]:
    """The leading words that are no options, at most two, and the rest."""
    count = 0
    while count < min(2, len(argv)) and not argv[count].startswith("-"):
        count += 1
    return argv[:count], argv[count:]


def _check_order(names: list[str]) -> None:
    """Raise UserError where a family comes first."""
    family, *other = names
    if family not in FAMILIES or family in AGENTS:
        return
    if not other:
        raise UserError(f"AGENT missing: {family} is a family; write metarl train AGENT {family}, "
                        f"as in metarl train pearl {family} (metarl list shows all agents)")
    raise UserError(f"{family} is a family: AGENT comes first, as in metarl train {other[0]} "
                    f"{family}")


def _described(rest: list[str]) -> dict[str, Path]:
    """The files given by --mjcf and --vary, which must be known before the other options are."""
    found = {}
    for i, word in enumerate(rest):
        flag, equals, value = word.partition("=")
        if flag in ("--mjcf", "--vary"):
            value = value if equals else "".join(rest[i + 1 : i + 2])
            if not value or value.startswith("-"):
                raise UserError(f"{flag} needs a file after it")
            found[flag[2:]] = Path(value)
    return found


def _without_names(names: list[str], rest: list[str]) -> int:
    if "--help" in rest or "-h" in rest:
        parse("train AGENT FAMILY", Options, ["--help"], _DESCRIPTION)
    if names:
        _check_order(names)
        api.agent_class(names[0], plugins=[names[0]])
    missing = "FAMILY" if names else "AGENT and FAMILY"
    raise UserError(f"{missing} missing before the first option; write metarl train AGENT FAMILY, "
                    "then the options, as in metarl train pearl reach --seed 1, or describe a "
                    "family with --mjcf and --vary")


def _check(options: Options) -> None:
    """Raise UserError for numbers that make no sense."""
    for name in ("steps", "evaluate_every", "evaluation_episodes"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    if not 0 <= options.checkpoint_every < math.inf:
        raise UserError("--checkpoint-every must be a number of seconds, at least 0")
    if not 0 <= options.train_tasks <= _MOST_TASKS:
        raise UserError(f"--train-tasks {options.train_tasks} makes no sense; give a number from 1 "
                        f"to {_MOST_TASKS:,}, or 0 for as many as the family says")


def _report(run: Run, outcome: Outcome) -> None:
    show(f"trained for {outcome.env_steps:,} env steps")
    returns, success = (_curve(outcome.evaluation, name) for name in ("return", "success"))
    if returns:
        heads = [f"{name} on validation tasks" for name in ("return", "success")]
        shown = table("episode", *heads[: 2 if success else 1])
        for episode, value in returns.items():
            shown.add_row(episode, number(value), *([number(success[episode])] if success else []))
        show(shown)
    show(f"run:  {run.path}\nnext: metarl evaluate {run.words}\n"
         f"      metarl adapt {run.words} --task name=value --episodes 3")


def _notes(agent: Agent, family: Family, budget: Budget) -> list[str]:
    """What of the budget will come otherwise than it reads."""
    iteration = agent.plan.env_steps(family.horizon)
    end = -(-budget.steps // iteration) * iteration
    notes = []
    if end != budget.steps:
        notes.append(f"an iteration is {iteration:,} env steps: training ends after {end:,}, not "
                     f"{budget.steps:,}")
    if iteration < end < budget.evaluate_every:
        notes.append(f"--evaluate-every {budget.evaluate_every:,} is beyond that: validation "
                     "tasks come once, at the end; ask for less to see a curve")
    return notes


def _curve(record: Mapping[str, float], name: str = "return") -> dict[str, float]:
    """The k-shot curve of a measure in a record, by episode."""
    curve = {key.removeprefix(f"eval/{name}_"): value for key, value in record.items()}
    return {episode: value for episode, value in curve.items() if episode.isdigit()}
