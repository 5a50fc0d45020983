"""Meta-training: collect a trial, learn from it, judge now and then, until the steps are spent."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from metarl.agent import Agent
from metarl.collect import Guide, Interrupted, Switch, Tasks, WorldsLike, collect
from metarl.curriculum import Curriculum
from metarl.errors import Diverged
from metarl.evaluate import Evaluation, evaluate
from metarl.machine import keep_freed_memory
from metarl.randomness import Draws, Role, generator
from metarl.trial import repeats

Record = dict[str, float]
_PATIENCE = 3  # iterations in a row without one finite update


@dataclass(frozen=True)
class Budget:
    """How long to train, and how often to look."""

    steps: int  # env steps of training; evaluation comes on top and is counted apart
    evaluate_every: int  # env steps between evaluations on the validation tasks
    evaluation_episodes: int = 3  # episodes of an evaluation: K of the k-shot curve
    checkpoint_every: float = 120.0  # s of wall time between checkpoints


@dataclass(frozen=True)
class Progress:
    """Where training stands at the end of an iteration."""

    iteration: int = 0
    env_steps: int = 0
    eval_steps: int = 0
    wall_s: float = 0.0  # of collecting and learning; a baseline that is judged learns anew
    eval_s: float = 0.0  # of evaluations
    unusable: int = 0  # iterations in a row without one finite update
    judged: int = 0  # env steps at the last evaluation

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """What meets what: the worlds, the tasks to train on, and those to watch training on. Test
    tasks are not among them, so that no setting is chosen by what it does there."""

    worlds: WorldsLike  # agent.plan.tasks * agent.plan.replicas rows
    judge: WorldsLike  # len(validation) * agent.plan.replicas rows
    train: Tensor  # (tasks, D)
    validation: Tensor  # (tasks, D)
    seed: int
    switch_every: int = 0  # episodes after which a trial's tasks become others; 0: never
    expert: Agent | None = None  # acts in the first episode of some trials
    demonstrations: float = 0.0  # share of the trials in which it does
    teacher: Agent | None = None  # tells an agent that is taught what it would do
    curriculum: Curriculum | None = None  # says which train tasks come; None: all take turns

    def switch(self, pool: Tensor) -> Switch | None:
        """How tasks of this set change inside a trial."""
        return Switch(self.switch_every, pool) if self.switch_every else None

    def guide(self, draws: Draws) -> Guide | None:
        """In which trials of an iteration the expert acts first, by chance."""
        if self.expert is None:
            return None
        rows = draws.uniform(Role.DEMONSTRATION, 0) < self.demonstrations
        return Guide(self.expert, rows)


def train(
    agent: Agent,
    setting: Setting,
    budget: Budget,
    progress: Progress,
    log: Callable[[Record], None],
    save: Callable[[Progress], None],
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, bool]:
    """Train from `progress` until the budget's steps are spent; where it got to, and whether it
    was stopped before.

    `log` gets one flat record per iteration, and a record of the evaluation alone where one was
    interrupted and is made now. `save` must store the agent and the progress, and is called at the
    ends of iterations alone, where no episode is in flight: now and then, and at the end. Raises
    Diverged when no update is finite any more.
    """
    keep_freed_memory()
    saved, interrupted = time.monotonic(), False
    while not interrupted and not finished(progress, budget.steps):
        record: Record = {}
        try:
            if not _is_due(progress, budget):
                progress, record = _iterate(agent, setting, progress, stop)
            if _is_due(progress, budget):
                progress, earned = _judged(agent, setting, budget, progress, stop)
                record |= earned
        except Interrupted:
            interrupted = True
        if not record:
            break
        log(progress.as_dict() | record)
        over = progress.env_steps >= budget.steps
        if progress.unusable >= (1 if over else _PATIENCE):
            raise Diverged(
                f"no update of the last {progress.unusable} iterations was finite; train anew with "
                "smaller learning rates; a checkpoint, if there is one, is from before"
            )
        if not progress.unusable and time.monotonic() - saved > budget.checkpoint_every:
            save(progress)
            saved = time.monotonic()
    save(progress)
    return progress, interrupted


def finished(progress: Progress, steps: int) -> bool:
    """Whether nothing is left to do of so many env steps, the last evaluation included."""
    return progress.env_steps >= steps and progress.judged == progress.env_steps


def choose_tasks(seed: int, iteration: int, count: int, size: int) -> Tensor:
    """The train tasks (count,) of an iteration: each epoch is a permutation of the set, so that
    every task is visited equally often. Where the set is smaller than `count`, tasks repeat."""
    first = iteration * count
    positions = range(first, first + count)
    epochs = {
        epoch: generator(seed, epoch, 0, Role.TASK_CHOICE).permutation(size)
        for epoch in {p // size for p in positions}
    }
    return torch.tensor([int(epochs[p // size][p % size]) for p in positions])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many torch threads. The bits of sums depend on it, not on the cores that they run on."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def acting_threads() -> AbstractContextManager[None]:
    """One torch thread: acting is too small to share, and the physics threads need the cores."""
    return torch_threads(1)


def _iterate(
    agent: Agent, setting: Setting, progress: Progress, stop: Callable[[], bool]
) -> tuple[Progress, Record]:
    plan, seed, iteration = agent.plan, setting.seed, progress.iteration
    curriculum, count = setting.curriculum, len(setting.train)
    if curriculum is not None and curriculum.ready:
        index = curriculum.choose(seed, iteration, plan.tasks)
    else:
        index = choose_tasks(seed, iteration, plan.tasks, count)
    # Keyed by place and task, so that a task that is visited twice at once draws twice.
    draws = Draws.of(seed, iteration, index + count * repeats(index), plan.replicas)
    began = time.monotonic()
    tasks = Tasks(setting.train[index], index, plan.replicas, setting.switch(setting.train))
    guide = setting.guide(draws)
    with acting_threads():
        trial, _ = collect(
            setting.worlds, agent, tasks, plan.episodes, draws, stop=stop, guide=guide,
            infers=plan.infers_in_training,
            teacher=setting.teacher if iteration < plan.taught else None,
        )
    collected = time.monotonic()
    metrics = agent.learn(trial, seed, iteration)
    learned = time.monotonic()
    lived = trial.returns(plan.episodes)
    if guide is not None:
        lived[0, guide.rows] = torch.nan  # what the expert earns is not the agent's
    returns = lived.nanmean(1)
    sampled = {} if curriculum is None else curriculum.summary()
    if curriculum is not None:
        # The last episode before the tasks change, if they do.
        score = lived[(setting.switch_every or plan.episodes) - 1]
        curriculum.update(index, score.view(-1, plan.replicas).nanmean(1))
    lost = metrics.get("health/nonfinite", 0.0) >= 1.0
    steps = trial.reward.numel()
    record = {
        "meta/return_pre": returns[0].item(),
        "meta/return_post": returns[-1].item(),
        "meta/gain": (returns[-1] - returns[0]).item(),
        **metrics,
        **sampled,
        "perf/collect_s": collected - began,
        "perf/learn_s": learned - collected,
        "perf/sps": steps / (learned - began),
    }
    after = replace(
        progress, iteration=iteration + 1, env_steps=progress.env_steps + steps,
        wall_s=progress.wall_s + time.monotonic() - began,
        unusable=progress.unusable + 1 if lost else 0,
    )
    return after, record


def _is_due(progress: Progress, budget: Budget) -> bool:
    """Whether an evaluation comes before the next iteration."""
    now, every = progress.env_steps, budget.evaluate_every
    return now // every > progress.judged // every or (
        now >= budget.steps and not finished(progress, budget.steps))


def _judged(
    agent: Agent, setting: Setting, budget: Budget, progress: Progress, stop: Callable[[], bool]
) -> tuple[Progress, Record]:
    """The progress after an evaluation on the validation tasks, and what they earned. The draws
    are the same each time, whatever the seed. Raises Interrupted."""
    began = time.monotonic()
    with acting_threads():
        result = evaluate(setting.judge, agent, setting.validation, budget.evaluation_episodes,
                          seed=0, stop=stop, switch=setting.switch(setting.validation))
    steps = progress.eval_steps + result.env_steps
    seconds = progress.eval_s + time.monotonic() - began
    return replace(progress, eval_steps=steps, eval_s=seconds, judged=progress.env_steps
                   ), _summary(result)


def _summary(result: Evaluation) -> Record:
    record: Record = {"eval/return_pre": result.before, "eval/return_post": result.after}
    for k, value in enumerate(result.returns.nanmean(1).tolist(), start=1):
        record[f"eval/return_{k}"] = value
    for name, values in result.outcomes.items():
        for k, value in enumerate(values.nanmean(1).tolist(), start=1):
            record[f"eval/{name.split(' ')[0]}_{k}"] = value
    return record
