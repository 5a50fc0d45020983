"""What keeps the figures of a page from being compared, said in words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from metarl.cli.common import counted
from metarl.report import paragraph
from metarl.scoreboard import Entry, extent, rollouts

Agents = Mapping[str, Sequence[Entry]]
Extent = tuple[int, int]  # episodes of exploration, and tasks
RIVAL = "finetune"


def extents_of(agents: Agents) -> dict[tuple[str, str], Extent]:
    """How far each agent was judged on each split that the table shows."""
    return {(name, split): found for name, each in agents.items() for split in ("test", "ood")
            if (found := extent(each, split)) is not None}


def usual_extent(extents: Sequence[Extent]) -> Extent:
    """The numbers of episodes and of tasks that most have; of equally common ones the larger."""
    episodes, tasks = (Counter(each) for each in zip(*extents, strict=True)) if extents else (
        Counter([0]), Counter([0]))
    return (max(episodes, key=lambda k: (episodes[k], k)),
            max(tasks, key=lambda n: (tasks[n], n)))


def unequal(extents: Mapping[tuple[str, str], Extent], usual: Extent) -> list[str]:
    """A warning where agents or splits were judged in unlike numbers of episodes or tasks."""
    told = "; ".join(f"{name}, {split}: {counted(k, 'episode')}, {counted(n, 'task')}"
                     for (name, split), (k, n) in extents.items() if (k, n) != usual)
    return [paragraph(f"Not every evaluation has {counted(usual[0], 'episode')} and "
                      f"{counted(usual[1], 'task')} ({told}), so that their figures do not "
                      "compare. metarl evaluate with the same --episodes and --tasks makes them "
                      "alike.", "warn")] if told else []


def lengths(agents: Agents) -> list[str]:
    """A warning where episodes are longer for one agent than for another."""
    steps = {name: {j.horizon for e in each for j in e.judged.values()}
             for name, each in agents.items()}
    if len(set().union(*steps.values())) < 2:
        return []
    told = ", ".join(f"{name} {' or '.join(map(str, sorted(h)))}" for name, h in steps.items())
    return [paragraph(f"Episodes differ in length ({told} control steps), so that returns do not "
                      "compare.", "warn")]


def budgets(agents: Agents) -> list[str]:
    """A warning where fine-tuning was trained for fewer env steps than what it is held against."""
    steps = {name: float(np.mean([e.env_steps for e in each])) for name, each in agents.items()}
    more = [name for name in agents if learns_to_learn(name)
            and steps[name] > 1.1 * steps.get(RIVAL, np.inf)]
    return [paragraph(f"The fine-tuned baseline had fewer env steps of training than "
                      f"{', '.join(more)}: the comparison is not a fair one.", "warn")] if more \
        else []


def experience(agents: Agents) -> list[str]:
    """A warning where an episode of a meta-agent consists of more rollouts than one of
    fine-tuning."""
    if RIVAL not in agents:
        return []
    few, told = rollouts(agents[RIVAL]), []
    longest = 0
    for name, each in agents.items():
        if learns_to_learn(name) and (many := rollouts(each)) > few:
            told.append(f"{name} {many}")
            longest = max(longest, many * max(j.episodes for e in each for j in e.judged.values()))
    return [paragraph(
        f"An episode in a new task is {counted(few, 'rollout')} for fine-tuning, and more for "
        f"{', '.join(told)}: they are compared where both have lived as much, if anywhere. metarl "
        f"evaluate on the fine-tuned run, with --episodes {longest // few}, takes it as far.",
        "warn")] if told else []


def settled(agents: Agents, name: str) -> bool:
    """Whether an agent and fine-tuning have more than one seed each: else nothing tells the luck of
    a training from its method."""
    return min(len(agents[name]), len(agents[RIVAL])) > 1


def learns_to_learn(name: str) -> bool:
    """Whether this is a meta-agent, by its name: neither a baseline nor told the task."""
    return name.split(" ")[0] not in ("blind", RIVAL, "scratch", "oracle", "scripted")
