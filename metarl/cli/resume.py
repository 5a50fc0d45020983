"""`metarl resume RUN`: go on with a run, bit for bit."""

from dataclasses import dataclass

import torch

from metarl import api
from metarl.cli.common import RunOptions, parse, print_json, say, warn
from metarl.cli.train import Outcome, progress_at, tell, train_in
from metarl.errors import UserError
from metarl.machine import cores
from metarl.run import Run, Writer, this_command
from metarl.signals import stop_on_signals
from metarl.train import Progress, finished, torch_threads

_DESCRIPTION = """Go on with an interrupted, killed or failed run.

It ends in the same bits as if it had never stopped. A finished run can be lengthened with --steps:
that is the run which the larger number would have been from the start."""


@dataclass(frozen=True)
class Options(RunOptions):
    """How to go on."""

    steps: int | None = None  # env steps in all; more than before lengthens the run
    device: str | None = None  # torch device of the agent; the run's own by default


def run(argv: list[str]) -> int:
    """Resume; 0 when done, 75 when interrupted and saved."""
    options = parse("resume", Options, argv, _DESCRIPTION)
    found = api.find_run(options.run, options.runs)
    progress, outcome = resumed(found, options)
    if outcome is None:
        return _finished(found, progress, options.json)
    return tell(found, outcome, options.json)


def resumed(found: Run, options: Options) -> tuple[Progress, Outcome | None]:
    """Go on with a run, with nothing on standard output: where it was, and how it ended; None
    where it had ended before."""
    config = found.config
    steps = int(config["steps"]) if options.steps is None else options.steps
    family, agent = api.build(found, options.device or config["device"], options.plugin)
    with stop_on_signals() as stop, torch_threads(_threads(found)):
        at = api.restore(found, agent, warn, options.strict)
        progress = progress_at(at)
        if options.steps is not None and steps < progress.env_steps:
            raise UserError(f"{found.path} has already trained for {progress.env_steps:,} env "
                            "steps; a run cannot be shortened")
        if finished(progress, steps):  # whole iterations may have led beyond
            if found.status["state"] != "done":
                with Writer(found, progress.env_steps):
                    found.set_status("done", progress.env_steps)
            return progress, None
        judged = progress.judged == progress.env_steps
        # From here on the run is ours to change.
        with Writer(found, progress.env_steps, judged) as writer:
            if steps != config["steps"]:
                found.write_json("config.json", {**config, "steps": steps})
            with (found.path / "command.txt").open("a") as commands:
                # "latest" will be another one.
                words = [str(found.path) if w == options.run else w for w in this_command()]
                commands.write(" ".join(words) + "\n")
            say(f"going on from env step {progress.env_steps:,} of {steps:,}")
            return progress, train_in(writer, family, agent, at, stop)


def _threads(run: Run) -> int:
    """The torch threads that a run began with, on which its bits depend; warns where they do not
    have a core each. Those of this process where an older metarl has recorded none."""
    count = run.environment.get("threads")
    if count is None:
        return torch.get_num_threads()
    if count > len(cores()):
        warn(f"the run began with {count} threads, and {len(cores())} cores are here: it goes on "
             "bit for bit, but more slowly")
    return count


def _finished(run: Run, progress: Progress, as_json: bool) -> int:
    if as_json:
        print_json({"run": str(run.path), "state": "done", "env_steps": progress.env_steps})
    else:
        print(f"{run.path} is finished, at env step {progress.env_steps:,}; to train for longer: "
              f"metarl resume {run.words} --steps {2 * progress.env_steps}")
    return 0
