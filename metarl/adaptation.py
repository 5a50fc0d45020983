"""Adapting a trained agent to one task, in simulation: as `metarl adapt` does, or from Python."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl import api
from metarl.agent import Agent
from metarl.collect import Tasks, collect
from metarl.envs.family import Family, default_task, named_task, parse_task
from metarl.envs.sim2real import Sim2Real, make_worlds
from metarl.episodes import Episodes, conditioned
from metarl.errors import UserError
from metarl.evaluate import EVALUATION
from metarl.policy import Policy
from metarl.randomness import Draws
from metarl.run import DEFAULT_ROOT
from metarl.train import acting_threads
from metarl.trial import Trial

_ADAPTING, _JUDGING = EVALUATION + 1, EVALUATION + 2  # iterations that key the draws
Row = dict[str, Any]  # `episode`, `return` and the family's outcomes


class Adapted(NamedTuple):
    """What adapting led to."""

    policy: Policy  # its `save` writes a bundle
    episodes: list[Row]  # before, 1 ... K and after: `episode`, `return` and the family's outcomes


def adapt(
    run: str | Path, task: Mapping[str, float | str] | None = None, episodes: int = 3,
    seed: int = 0, device: str = "cpu", plugins: Collection[str] = (),
    runs: Path = DEFAULT_ROOT,
) -> Adapted:
    """Let the agent of a run, by its directory or, below `runs`, a part of its name or "latest",
    live through `episodes` episodes of a hidden task {parameter: value}, where what is left out is
    the default.

    `plugins` are as in `metarl.load`. Raises UserError for a run, a parameter or a value that
    cannot be; a value outside the trained range is told on standard error.
    """
    if episodes < 1:
        raise UserError("episodes must be at least 1")
    found = api.find_run(str(run), runs)
    family, agent, at = api.trained(found, device, plugins)
    words = [f"{name}={value}" for name, value in (task or {}).items()]
    hidden = parse_task(family, words, api.to_stderr)
    with acting_threads():
        rows, belief = lived(family, agent, hidden, episodes, seed,
                             flaws=api.sim2real(found.config))
    about = api.about(found, agent, episodes=episodes, checkpoint=at.step,
                      task=named_task(family, hidden))
    return Adapted(Policy(agent, belief, about, found.files), rows)


def lived(
    family: Family, agent: Agent, task: Tensor | None, episodes: int, seed: int,
    demos: Episodes | None = None,
    flaws: Sim2Real = api.FLAWLESS,
) -> tuple[list[Row], Any]:
    """Return and outcomes before, in each demonstrated and each of `episodes` own episodes, and
    after adaptation to a task (D,); and the belief at the end. Of a task that nobody knows only the
    demonstrated ones are told, and there are no others."""
    replicas = agent.plan.replicas
    judged = default_task(family) if task is None else task
    draws = Draws.of(seed, _ADAPTING, 1, replicas)
    # The prior of an agent that is told the task is drawn by the same numbers as `collect` would.
    belief = agent.prior(judged[None], replicas, draws)
    if demos is not None:
        belief = conditioned(agent, belief, demos)
    shown = _rows(demos.returns(), demos.outcomes(), demos.count) if demos is not None else []
    for row in shown:
        row["episode"] = f"demonstration {row['episode']}"
    if task is None:
        return shown, belief
    worlds = make_worlds(family, replicas, flaws)
    tasks = Tasks(task[None], torch.zeros(1, dtype=torch.long), replicas)
    judging = Draws.of(seed, _JUDGING, 1, replicas)
    before, _ = collect(worlds, agent, tasks, 1, judging, noise=False)
    rows = [{**_told(before, 1)[0], "episode": "before"}, *shown]
    if episodes:
        trial, belief = collect(
            worlds, agent, tasks, episodes, draws, noise=agent.plan.noise_when_judged,
            belief=belief,
        )
        rows += _told(trial, episodes)
    after, _ = collect(worlds, agent, tasks, 1, judging, noise=False, belief=belief)
    return [*rows, {**_told(after, 1)[0], "episode": "after"}], belief


def _told(trial: Trial, count: int) -> list[Row]:
    return _rows(trial.returns(count), trial.outcomes(count), count)


def _rows(returns: Tensor, outcomes: dict[str, Tensor], count: int) -> list[Row]:
    """Means over replicas of the measures (K, ...) of each episode."""
    measures = {"return": returns, **outcomes}
    return [{"episode": k + 1, **{m: v[k].nanmean().item() for m, v in measures.items()}}
            for k in range(count)]
