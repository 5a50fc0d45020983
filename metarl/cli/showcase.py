"""What `metarl demo` does, once OpenGL is chosen: train, adapt, compare, write the page."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl import api, figures, report
from metarl.agent import Agent
from metarl.cli.common import print_json, say, show, table
from metarl.cli.demo import Options
from metarl.cli.films import film_trial
from metarl.cli.resume import Options as Resuming
from metarl.cli.resume import resumed
from metarl.cli.train import begin
from metarl.display import number
from metarl.envs.expert import Expert
from metarl.envs.family import Family, named_task, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.evaluate import Evaluation, evaluate
from metarl.run import Run, runs_in, this_command
from metarl.scoreboard import learning, read
from metarl.statistics import interquartile_mean, interval
from metarl.train import acting_threads

_AGENT, _FAMILY = "pearl", "reach"
# Rates that sink in time for half of the preset's env steps: the demo takes fewer still.
_SOONER = ("--config.anneal", "39100", "--config.encoder-anneal", "16300")
_EPISODES = 3


@dataclass(frozen=True)
class _Rivals:
    """The same tasks, as the trained agent, the untrained one and the oracle master them."""

    trained: Evaluation
    untrained: Evaluation
    oracle: Evaluation


def perform(options: Options, problem: str) -> int:
    """Train, adapt, print and write the page; the exit code. `problem` says why there can be no
    films, if so."""
    say(f"meta-training {_AGENT} on {_FAMILY}: each task hides a goal, a payload, joint damping "
        "and servo gains")
    made, code = _trained(options)
    if code:
        say(f"to finish the demo: {shlex.join(this_command())}")
        return code
    family, agent, _ = api.trained(made)
    variants = torch.cat([sample_tasks(family, "test", 3), sample_tasks(family, "ood", 1)])
    say("adapting to four variants" + ("" if problem else ", and filming two of them"))
    rivals = _compare(made, family, agent, variants)
    films = [] if problem else _films(made, family, agent, variants)
    page = options.out / "report.html"
    _write(page, made, family, agent, variants, rivals, films, problem)
    rows = _rows(family, variants, rivals)
    if options.json:
        print_json({"run": str(made.path), "report": str(page), "variants": rows})
        return 0
    show(_terminal_table(rows))
    show("\n".join(f"{row['variant']}: {_told(family, row['task'])}" for row in rows))
    if problem:
        say(f"metarl: no films: {problem}")
    show(f"page:  {page}\nrun:   {made.path}\n"
         f"next:  metarl adapt {made.path} --task payload=2.5 goal_x=0.4")
    return 0


def _trained(options: Options) -> tuple[Run, int]:
    """The run of the demo and the exit code: the one that an earlier call has begun in the same
    place with the same settings, else a new one."""
    root, wanted = options.out / "runs", {"seed": options.seed, "steps": options.steps}
    asked = {"agent": _AGENT, "family": _FAMILY, **wanted}
    begun = [run for run in runs_in(root) if asked.items() <= run.config.items()]
    if not begun:
        words = [word for name, value in wanted.items() for word in (f"--{name}", str(value))]
        return begin([_AGENT, _FAMILY, "--runs", str(root), *words, *_SOONER])
    _, outcome = resumed(begun[-1], Resuming(str(begun[-1].path)))
    if outcome is None:
        say(f"trained already: {begun[-1].path}")
    return begun[-1], outcome.code if outcome else 0


def _compare(made: Run, family: Family, agent: Agent, tasks: Tensor) -> _Rivals:
    _, untrained = api.build(made)
    worlds = Worlds(family, len(tasks))
    with acting_threads():
        return _Rivals(*(
            evaluate(worlds, rival, tasks, _EPISODES, seed=0)
            for rival in (agent, untrained, Expert(worlds))
        ))


def _rows(family: Family, tasks: Tensor, rivals: _Rivals) -> list[dict[str, Any]]:
    """A row per variant: return and distance of each episode, and the rivals' last."""
    rows = []
    for i, task in enumerate(tasks):
        values = named_task(family, task)
        name = f"held out {i + 1}" if i < 3 else f"payload {values['payload']:.1f} kg (never met)"
        rows.append({
            "variant": name, "task": values,
            **{label: {"return": e.returns[:, i].tolist(),
                       "distance": e.outcomes["distance [m]"][:, i].tolist()}
               for label, e in vars(rivals).items()},
        })
    return rows


def _told(family: Family, values: Mapping[str, float]) -> str:
    """What a variant is, in words."""
    return ", ".join(f"{p.name} {p.quantity(values[p.name])}" for p in family.parameters)


def _columns() -> list[str]:
    return ["variant", *(f"episode {k + 1}" for k in range(_EPISODES)), "untrained", "oracle"]


def _cells(row: dict[str, Any]) -> list[str]:
    pairs = list(zip(row["trained"]["return"], row["trained"]["distance"], strict=True))
    pairs += [(row[r]["return"][-1], row[r]["distance"][-1]) for r in ("untrained", "oracle")]
    return [row["variant"], *(f"{number(a)} · {100 * b:.1f} cm" for a, b in pairs)]


def _terminal_table(rows: list[dict[str, Any]]) -> Any:
    shown = table(*_columns())
    for row in rows:
        shown.add_row(*_cells(row))
    shown.title = "return · distance from the goal at the episode's end"
    shown.caption = "episode 1 knows nothing of the variant; the oracle is told the goal"
    return shown


def _films(
    made: Run, family: Family, agent: Agent, tasks: Tensor
) -> list[tuple[str, list[Path]]]:
    """A name and a film per episode, for the first and the last variant."""
    films = []
    for i in (0, len(tasks) - 1):
        name = "held-out variant" if i == 0 else "payload beyond the training range"
        folder = made.path / "videos" / f"variant_{i + 1}"
        films.append((name, film_trial(agent, family, tasks, i, _EPISODES, folder)))
    return films


def _write(
    path: Path, made: Run, family: Family, agent: Agent, variants: Tensor, rivals: _Rivals,
    films: list[tuple[str, list[Path]]], problem: str,
) -> None:
    held_out = _compare(made, family, agent, sample_tasks(family, "test", family.task_counts[1]))
    rows = _rows(family, variants, rivals)
    page = report.Page(
        "An arm that adapts in a few rollouts",
        "A seven-joint arm was meta-trained on reaching tasks that hide the goal, the payload, "
        "joint damping and servo gains. Below it meets variants that it has never seen: it tries, "
        "infers from rewards what it cannot see, and tries again.",
    )
    page.section(
        "Four variants it had never met",
        report.paragraph("Return and final distance from the goal, episode by episode. Episode 1 "
                         "knows nothing of the variant. The oracle is a scripted controller that "
                         "is told the goal."),
        report.table(_columns(), [_cells(row) for row in rows]),
        *[report.paragraph(f"{row['variant']}: {_told(family, row['task'])}", "note")
          for row in rows],
    )
    for name, clips in films:
        captions = ["episode 1: knows nothing yet", "episode 2", "episode 3: adapted"]
        page.section(f"Film: {name}", report.films(
            [report.film(p, c) for p, c in zip(clips, captions, strict=True)][::2]
        ))
    if problem:
        page.section("Films", report.paragraph(f"None were made: {problem}"))
    page.section(
        f"Adaptation on {len(held_out.trained.returns[0])} held-out variants",
        *_shot_curves(held_out),
    )
    trained = learning(read(made.path, _FAMILY, _AGENT, 0, made))
    if trained:
        page.section("Meta-training", report.picture(
            figures.learning_curves({_AGENT: [trained]}, "return after adaptation"),
            "learning curve"))
    page.section("Make it again", report.code((made.path / "command.txt").read_text()))
    env = made.environment
    page.write(path, f"metarl {env['metarl']}, commit {env['commit']}, {env['cores']} cores")


def _shot_curves(held_out: _Rivals) -> list[str]:
    rivals = {_AGENT: held_out.trained, f"untrained {_AGENT}": held_out.untrained,
              "oracle": held_out.oracle}
    parts = {"return": {name: e.returns for name, e in rivals.items()},
             "final distance [cm]": {name: 100 * e.outcomes["distance [m]"]
                                     for name, e in rivals.items()}}
    success = held_out.trained.outcomes["success"].nanmean(1).tolist()
    rows = {
        quantity: [("", "episode in the new variant", {
            name: [(interquartile_mean(row), *interval(row)) for row in values.numpy()]
            for name, values in curves.items()})]
        for quantity, curves in parts.items()
    }
    return [
        report.paragraph("Success (within 2 cm at the end): " + ", ".join(
            f"{100 * s:.0f} % in episode {k}" for k, s in enumerate(success, 1)) + "."),
        report.picture(figures.shot_curves(rows, [1]), "k-shot curves"),
    ]
