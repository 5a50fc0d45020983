"""What keeps the figures of a page from being compared, said in words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from metarl.cli.common import counted
from metarl.report import paragraph
from metarl.scoreboard import Entry, compared, extent, rollouts

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


def behind(agents: Agents) -> list[str]:
    """A warning where an agent was judged before training went on."""
    told = "; ".join(f"{name}, seed {e.seed}, {split}: at {step:,} of {e.env_steps:,} env steps"
                     for name, each in agents.items() for e in each
                     for split, step in e.behind.items())
    return [paragraph(f"These figures are older than the agent: {told}. metarl evaluate judges its "
                      "newest checkpoint.", "warn")] if told else []


def lengths(agents: Agents) -> list[str]:
    """A warning where episodes are longer for one agent than for another."""
    steps = {name: {j.horizon for e in each for j in e.judged.values()}
             for name, each in agents.items()}
    if len(set().union(*steps.values())) < 2:
        return []
    told = ", ".join(f"{name} {' or '.join(map(str, sorted(h)))}" for name, h in steps.items())
    return [paragraph(f"Episodes differ in length ({told} control steps), so that returns do not "
                      "compare.", "warn")]


def rivals(agents: Agents) -> list[str]:
    """The fine-tuned baselines: the plain one first, then those judged after most episodes."""
    def longest(name: str) -> int:
        return max((j.episodes for e in agents[name] for j in e.judged.values()), default=0)

    return sorted((name for name in agents if _kind(name) == RIVAL),
                  key=lambda name: (name != RIVAL, -longest(name)))


def gap(agents: Agents, name: str, quantity: str) -> tuple[str, tuple[float, float]] | None:
    """The first of the rivals that has lived as much as an agent at some time, and the interval of
    how far the agent lies above it then; None where there is none."""
    for rival in rivals(agents):
        found = compared(agents[name], agents[rival], "test", quantity)
        if found is not None:
            return rival, found
    return None


def budgets(agents: Agents, against: Mapping[str, str]) -> list[str]:
    """A warning where fine-tuning was trained for fewer env steps than what it is held against, by
    the agents' names."""
    steps = {name: float(np.mean([e.env_steps for e in each])) for name, each in agents.items()}
    more = [name for name, rival in against.items() if steps[name] > 1.1 * steps[rival]]
    return [paragraph(f"The fine-tuned baseline had fewer env steps of training than "
                      f"{', '.join(more)}: the comparison is not a fair one.", "warn")] if more \
        else []


def experience(agents: Agents, against: Mapping[str, str]) -> list[str]:
    """A warning where an episode of a meta-agent consists of more rollouts than one of the
    fine-tuning that it is held against, or of the first."""
    known = rivals(agents)
    many = {name: rollouts(each) for name, each in agents.items() if learns_to_learn(name)}
    few = {name: rollouts(agents[against.get(name, known[0])]) for name in many if known}
    told = {name: few[name] for name in few if many[name] > few[name]}
    if not told:
        return []
    lived = "; ".join(f"{name} {many[name]}, fine-tuning {n}" for name, n in told.items())
    longest = {name: many[name] * max(j.episodes for e in agents[name] for j in e.judged.values())
               for name in told if name not in against}
    further = max((n // few[name] for name, n in longest.items()), default=0)
    return [paragraph(
        f"An episode in a new task consists of unlike numbers of rollouts ({lived}): agents are "
        "compared where both have lived as much." + (
            f" {', '.join(longest)} cannot be: metarl evaluate on the fine-tuned run, with "
            f"--episodes {further}, takes it as far." if longest else ""), "warn")]


def settled(agents: Agents, name: str, rival: str) -> bool:
    """Whether an agent and a rival have more than one seed each: else nothing tells the luck of a
    training from its method."""
    return min(len(agents[name]), len(agents[rival])) > 1


def learns_to_learn(name: str) -> bool:
    """Whether this is a meta-agent, by its name: neither a baseline nor told the task."""
    return _kind(name) not in ("blind", RIVAL, "scratch", "oracle", "scripted")


def _kind(label: str) -> str:
    return label.split(" ")[0]
