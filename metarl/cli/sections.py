"""The sections of a page about one family."""

import html
import json
from collections.abc import Mapping, Sequence

import numpy as np

from metarl import figures
from metarl.cli.common import counted
from metarl.cli.doubts import (
    RIVAL,
    Agents,
    Extent,
    behind,
    budgets,
    experience,
    extents_of,
    gap,
    learns_to_learn,
    lengths,
    rivals,
    settled,
    unequal,
    usual_extent,
)
from metarl.cli.published import number, published
from metarl.envs import FAMILIES
from metarl.report import Page, code, folded, paragraph, picture, table
from metarl.scoreboard import (
    RETURN,
    Band,
    Entry,
    band,
    bands,
    distances,
    learning,
    pooled,
    quantities,
    rollouts,
    switched,
    values,
)

Gaps = Mapping[str, tuple[str, tuple[float, float]]]  # an agent's rival, and how far it lies above
_BINS = 4  # of the distances of tasks out of distribution


def family_sections(page: Page, entries: Sequence[Entry]) -> None:
    """Append all that is known of the agents (entries by seed) on one family."""
    agents: dict[str, list[Entry]] = {}
    for entry in entries:
        agents.setdefault(entry.label, []).append(entry)
    judged = {name: kept for name, each in agents.items()
              if (kept := [entry for entry in each if entry.judged])}
    if judged:
        asked = quantities(entries)
        scores(page, judged, asked)
        _shots(page, judged, asked)
    _switched(page, agents, quantities(entries)[0])
    _missing(page, entries)
    _learning(page, agents)
    if judged:
        _where(page, judged, quantities(entries)[0])
        _beyond(page, judged, quantities(entries)[0])
        _beliefs(page, judged)
    if len(entries) == 1 and entries[0].config is not None:
        page.section("Configuration", folded(
            "Every setting of the run", code(json.dumps(entries[0].config, indent=2))))


def scores(page: Page, agents: Agents, asked: Sequence[str]) -> None:
    """The table: one row for each agent."""
    paint = figures.colours(list(agents))
    columns = ["agent", "seeds", "training: env steps", "training: minutes"]
    columns += [f"{q}, {split}" for q in asked for split in ("test", "ood")]
    columns += ["against fine-tuning"]
    extents = extents_of(agents)
    usual = usual_extent(list(extents.values()))
    met = all(entry.familiar for each in agents.values() for entry in each)
    which = "tasks, all of which training meets in this family" if met else \
        "tasks that it had never met"
    known = rivals(agents)
    gaps = {name: found for name in agents if name not in known
            and (found := gap(agents, name, asked[0])) is not None}
    against = {name: rival for name, (rival, _) in gaps.items() if learns_to_learn(name)}
    rows = []
    for name, each in agents.items():
        cells = [f'<span class="dot" style="background:{paint[name]}"></span>{html.escape(name)}',
                 str(len(each)), _average([e.env_steps for e in each], 0),
                 _average([e.wall_s / 60 for e in each], 1)]
        for q in asked:
            for split in ("test", "ood"):
                found = bands(each, split, "exploiting", q)
                cells.append(_cell(found[-1], q, extents[name, split], usual) if found else "-")
        rows.append([*cells, _verdict(name, agents, gaps, asked[0])])
    page.section(
        f"After {counted(usual[0], 'episode')} in a new task",
        paragraph(
            f"Each agent explored {which}, {usual[1]} of a split, for up to "
            f"{counted(usual[0], 'episode')}; this is what an episode of its best then earned. "
            "Tasks of the test split are drawn like those it was trained on; those of the ood "
            "split lie beyond. Returns are interquartile means (the middle half), success is the "
            "mean; in brackets the 95 % interval for other trainings, judged on the same tasks: a "
            "bootstrap over whole seeds, widened for their small number; of one seed alone, a "
            "bootstrap over tasks; of success never narrower than that of as many independent "
            "tasks."),
        table(columns, rows, markup=True), *published(agents, asked), *behind(agents),
        *unequal(extents, usual),
        *lengths(agents),
        *budgets(agents, against), *experience(agents, against), *_words(agents, gaps))


def _words(agents: Agents, gaps: Gaps) -> list[str]:
    """What the table comes to, said plainly."""
    if not rivals(agents):
        return [paragraph("No fine-tuned baseline was run here, so nothing on this page shows that "
                          "meta-learning pays: add it with the agent finetune.", "note")]
    found = {name: each for name, each in gaps.items() if learns_to_learn(name)}
    apart = [name for name in agents if learns_to_learn(name) and name not in found]
    unsettled = [name for name, (rival, _) in found.items() if not settled(agents, name, rival)]
    losers = [name for name, (_, (low, _)) in found.items() if low <= 0]
    told = [paragraph(f"One seed, of {', '.join(unsettled)} or of fine-tuning, settles nothing: "
                      "intervals of differences speak of other tasks alone.", "note")
            ] if unsettled else []
    if losers:
        return [*told, paragraph(f"Meta-learning does not beat plain fine-tuning here for "
                          f"{', '.join(losers)}: the interval of the difference does not lie above "
                          "zero.", "warn")]
    if told or not found:
        return told
    who = f"{', '.join(found)}: better than" if apart else "Every meta-agent beats"
    rest = f" {', '.join(apart)}: not compared, as nothing has lived as much." if apart else ""
    return [paragraph(f"{who} plain fine-tuning here: the intervals of the differences lie above "
                      f"zero.{rest}")]


def _verdict(name: str, agents: Agents, gaps: Gaps, quantity: str) -> str:
    if name not in gaps:
        return "-"
    rival, (low, high) = gaps[name]
    kind, word = ("better", "better") if low > 0 else ("worse", "worse") if high < 0 else (
        "", "no better")
    if not settled(agents, name, rival):
        kind, word = "", f"{word} in one seed"
    if rival != RIVAL:
        word += f" than {html.escape(rival)}"
    span = _span((low, high), quantity)
    return f'<span class="{kind}">{word}</span> <span class="range">{span}</span>'


def _shots(page: Page, agents: Agents, asked: Sequence[str]) -> None:
    """The k-shot curves: exploitation on the splits it was judged on, and exploration."""
    columns = [
        ("held-out tasks, at its best", "test", "exploiting", "episodes explored before", 0),
        ("beyond the training range, at its best", "ood", "exploiting", "episodes explored before",
         0),
        ("tasks it was trained on, at its best", "train", "exploiting",
         "episodes explored before", 0),
        ("held-out tasks, while it explores", "test", "exploring", "episode of exploration", 1),
    ]
    columns = [c for c in columns if any(bands(each, c[1], c[2], RETURN) for each in
                                         agents.values())]
    if not columns:
        return
    rows = {
        q: [(title, x, {_titled(name, each): found for name, each in agents.items()
                        if (found := bands(each, split, phase, q))})
            for title, split, phase, x, _ in columns]
        for q in asked
    }
    page.section(
        "How fast it adapts",
        paragraph("At 0 the agent knows nothing of the task. Exploring, it acts as it did in "
                  "training, with its noise; at its best, without. The two are measured apart: an "
                  "agent may well earn little while it finds out. Shaded: 95 % intervals."),
        picture(figures.shot_curves(rows, [c[4] for c in columns]), "k-shot curves"))


def _switched(page: Page, agents: Agents, quantity: str) -> None:
    """What trials earn whose tasks become others on the way."""
    kinds = sorted({(one.every, one.split) for each in agents.values() for e in each
                    for one in e.switched}, key=lambda kind: (kind[0], kind[1] != "test", kind[1]))
    panels = []
    for every, split in kinds:
        curves = {_titled(name, each): found for name, each in agents.items()
                  if (found := switched(each, split, every, quantity))}
        if curves:
            after = "every episode" if every == 1 else f"every {every} episodes"
            panels.append((f"{split} tasks, others after {after}", every, curves))
    if panels:
        page.section(
            "When the task changes",
            paragraph("At each dashed line the hidden task becomes another one, and nobody says "
                      "so: to notice is the agent's duty. It acts with the belief that it had. "
                      "Shaded: 95 % intervals."),
            picture(figures.switched_curves(panels, quantity),
                    "performance when tasks change"))


def _titled(name: str, each: Sequence[Entry]) -> str:
    """An agent's name, with how many rollouts one of its episodes consists of."""
    shared = rollouts(each)
    return f"{name} ({shared} rollouts each)" if shared > 1 else name


def _missing(page: Page, entries: Sequence[Entry]) -> None:
    lacking = [e for e in entries if not e.judged and e.config is not None]
    if not lacking:
        return
    why = "Some were judged by an older metarl that kept less. " if any(
        e.outdated for e in lacking) else ""
    lines = []
    for e in lacking:
        # Where tasks change on the way, nothing is judged at its best unless it is asked for.
        more = " --switch-every 0" if (e.config or {}).get("trial", {}).get("switch_every") else ""
        lines += [f"metarl evaluate {e.words} --split {split}{more}" for split in _splits(e)]
    page.section("Not judged yet", paragraph(
        f"{why}To judge a run on tasks that it has never met, and that stay as they are:"),
        code("\n".join(lines)))


def _splits(entry: Entry) -> list[str]:
    """The splits to judge a run on: of a family that is not at hand, `test` alone is certain."""
    family = FAMILIES.get(entry.family)
    return ["test", "ood"] if family and any(p.ood for p in family().parameters) else ["test"]


def _learning(page: Page, agents: Agents) -> None:
    """Learning curves against env steps and wall time."""
    runs = {}
    for name, each in agents.items():
        found = []
        for entry in each:
            if points := learning(entry):
                found.append(points)
        if found:
            runs[name] = found
    if runs:
        page.section(
            "How it was trained",
            paragraph("Return on the validation tasks in the last episode of an evaluation, as "
                      "training went on: against the env steps it cost, and against the clock. A "
                      f"thin line for each seed, from {figures.MANY} seeds on the 95 % interval of "
                      "their mean instead; a thick line for the mean. Wall times compare only "
                      "where the machine was the same and had nothing else to do."),
            picture(figures.learning_curves(runs, "return after adaptation"), "learning curves"))


def _where(page: Page, agents: Agents, quantity: str) -> None:
    """Which tasks are hard: performance over the task's parameters."""
    found = {name: pooled(each, quantity) for name, each in agents.items()}
    found = {name: parts for name, parts in found.items() if len(parts[2])}
    if not found:
        return
    ranges = next(iter(found.values()))[0]
    figure, names = figures.heat_maps(
        {name: (tasks, earned) for name, (_, tasks, earned, _) in found.items()}, ranges,
        quantity)
    chosen = (f"Of the {len(ranges)} parameters that vary, the two on which the outcome depends "
              "most. " if len(ranges) > 2 else "")
    drawn = ("Each tile is the mean of the tasks in it, those of all splits; tiles without one are "
             "left blank, and the dashed frame is the training range."
             if len(names) > 1 else "Each point is one task, of any split.")
    page.section(f"Where it does well: {' and '.join(n.replace('_', ' ') for n in names)}",
                 paragraph(chosen + drawn), picture(figure, "performance over the tasks"))


def _beyond(page: Page, agents: Agents, quantity: str) -> None:
    """Performance against the distance from the training range."""
    curves = {}
    for name, each in agents.items():
        points = _by_distance(each, quantity)
        if len(points) > 1:
            curves[name] = points
    if curves:
        page.section(
            "Beyond what it was trained on",
            paragraph("Each task's distance from the training range, each parameter in units of "
                      "its range's width. At 0 are the held-out tasks inside it. The farther a "
                      "curve stays up, the farther the agent can be trusted outside."),
            picture(figures.distance_curves(curves, quantity),
                    "performance against distance"))


def _by_distance(each: Sequence[Entry], quantity: str) -> list[tuple[float, Band]]:
    """(mean distance, band) of the test tasks, and of the ood ones in groups of equal size."""
    points = []
    for split, groups in (("test", 1), ("ood", _BINS)):
        found = values(each, split, "exploiting", quantity)
        judged = next((e.judged[split] for e in each if split in e.judged), None)
        if judged is None or not found.size or found.shape[2] > len(judged.tasks):
            continue
        far = distances(judged.tasks[: found.shape[2]], judged.ranges)
        for group in np.array_split(np.argsort(far), groups):
            if len(group):
                points.append((float(far[group].mean()), band(found[-1][:, group], quantity)))
    return points


def _beliefs(page: Page, agents: Agents) -> None:
    """What agents with a belief vector know, in two dimensions."""
    drawn, ranges = {}, ()
    for name, each in agents.items():
        parts = [j for split in ("train", "test", "ood")
                 if (j := each[0].judged.get(split)) is not None]
        vectors = [j.embedding for j in parts if j.embedding is not None]
        if parts and len(vectors) == len(parts):
            ranges = parts[0].ranges
            outside = [np.full(len(j.tasks), j.split == "ood") for j in parts]
            drawn[name] = (np.concatenate(vectors), np.concatenate([j.tasks for j in parts]),
                           np.concatenate(outside))
    if drawn:
        page.section(
            "What it believes",
            paragraph("Each point is what the agent believes of one task after its last episode "
                      "of exploration, seen along the two directions in which its beliefs vary "
                      "most, and coloured by what is true (first seed). Where colours lie in "
                      "order, the agent has found out what it was never told. R² is the share of "
                      "the parameter that these two axes tell. Triangles are tasks beyond the "
                      "training range."),
            picture(figures.embeddings(drawn, ranges), "beliefs about tasks"))


def _cell(band: Band, quantity: str, extent: Extent, usual: Extent) -> str:
    told = [f'{number(band[0], quantity)} <span class="range">{_span(band[1:], quantity)}</span>']
    if extent != usual:
        (k, n), (_, of) = extent, usual
        tasks = f"{n} of {of} tasks" if n < of else counted(n, "task")
        told.append(f'<span class="range">after {counted(k, "episode")}, in {tasks}</span>')
    return " ".join(told)


def _span(bounds: Sequence[float], quantity: str) -> str:
    return f"[{', '.join(number(b, quantity) for b in bounds)}]"


def _average(numbers: Sequence[float], digits: int) -> str:
    mean = float(np.mean(numbers))
    return f"{mean:,.{digits}f}" if mean else "-"
