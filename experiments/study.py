"""What every study does: train a run per seed with the command line's own code, judge it, record.

A study can be stopped and started again: a finished run is not repeated, a stopped one goes on.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.record import record_scores
from metarl import api
from metarl.agent import Agent
from metarl.cli import resume
from metarl.cli.train import begin
from metarl.envs import FAMILIES
from metarl.envs.expert import Expert
from metarl.envs.family import Family, Split, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.evaluate import Evaluation, evaluate
from metarl.run import Run
from metarl.train import acting_threads

ROOT = Path("runs") / "studies"


def train_and_record(
    agent: str, family: str, seeds: Sequence[int], flags: Sequence[str] = (), label: str = "",
    splits: Sequence[Split] = ("test", "ood"), episodes: int = 3,
) -> None:
    """Train an agent on a family under each seed, and record its scores as those of `label`."""
    for seed in seeds:
        root = ROOT / family / (label or agent) / f"seed_{seed}"
        run = _trained(agent, family, root, [*flags, "--seed", str(seed)])
        if (run.path / "recorded").exists():
            continue
        made, trained, _ = api.trained(run)
        last = run.metrics()[-1]
        for split in splits:
            result = judge(made, trained, split, episodes)
            record(family, label or agent, seed, split, result, int(last["env_steps"]),
                   last["wall_s"])
        (run.path / "recorded").touch()


def judge(family: Family, agent: Agent, split: Split, episodes: int) -> Evaluation:
    """The final evaluation: as many held-out tasks as the family has test tasks."""
    tasks = sample_tasks(family, split, family.task_counts[1])
    worlds = Worlds(family, len(tasks) * agent.plan.replicas)
    with acting_threads():
        return evaluate(worlds, agent, tasks, episodes, seed=0)


def record_scripted(family: str) -> None:
    """Judge a family's scripted policy, which is told the task, and record its scores."""
    made = FAMILIES[family]()
    for split in ("test", "ood"):
        tasks = sample_tasks(made, split, made.task_counts[1])
        worlds = Worlds(made, len(tasks))
        result = evaluate(worlds, Expert(worlds), tasks, 3, seed=0)
        record(family, "oracle (scripted)", 0, split, result, 0, 0.0)


def record(
    family: str, agent: str, seed: int, split: str, result: Evaluation, env_steps: int,
    wall_s: float,
) -> None:
    """Append an evaluation to scores.csv, and print it."""
    returns = result.returns.nanmean(1).tolist()
    success = result.outcomes.get("success")
    successes = None if success is None else success.nanmean(1).tolist()
    record_scores(family, agent, seed, split, returns, successes, env_steps, wall_s)
    shown = " ".join(f"{value:.1f}" for value in returns)
    rates = "" if successes is None else "  success " + " ".join(f"{s:.2f}" for s in successes)
    print(f"{family} {agent} seed {seed} {split}: {shown}{rates}  "
          f"({env_steps:,} env steps, {wall_s:.0f} s)", flush=True)


def _trained(agent: str, family: str, root: Path, flags: list[str]) -> Run:
    found = sorted(root.glob("*/*/*/config.json"))
    if not found:
        run, code = begin([agent, family, *flags, "--runs", str(root)])
    else:
        run = Run(found[-1].parent)
        code = 0 if run.status["state"] == "done" else resume.run([str(run.path)])
    if code:
        raise SystemExit(code)
    return run
