"""The newest scores of every agent on every family, as the table of experiments/README.md.

    python -m experiments.table [--write]

Of each seed the rows of its newest commit count, and only what an episode of an agent's best earned
(`exploiting`). With --write the table in experiments/README.md is made anew.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from metarl.errors import UserError
from metarl.scores import EXPLOITING
from metarl.study import load, studies

_HERE = Path(__file__).parent
SCORES, PAGE = _HERE / "results" / "scores.csv", _HERE / "README.md"
MARKS = "<!-- python -m experiments.table -->\n", "<!-- end of the table -->\n"
_SHOWN = 3  # episodes of exploration that have columns of their own
_HEAD = ("family", "agent", "seeds", "env steps", "minutes", "before", "after 1", "after 2",
         "after 3", "after the most", "beyond the range", "commits")
# Experiments whose settings are the preset's now, under the label that they were run by.
_BECAME = {
    ("cheetah-dir", "pearl (2600 updates, 4 episodes)"): "pearl (learned temperature)",
    ("cheetah-dir", "pearl (temperature 0.5, shrinking)"): "pearl",
    ("push", "pearl (6 M)"): "pearl",
    ("insert", "pearl (1.2 M)"): "pearl",
    ("reach", "maml (every round)"): "maml",
    ("cheetah-dir", "rl2 (96 M, noise kept)"): "rl2",
    ("cheetah-dir", "varibad (96 M)"): "varibad",
}
# The other way round: rows of presets that have given way, by commit, and what they are now called.
_WAS = {
    ("cheetah-dir", "pearl", "5155e3e"): "pearl (learned temperature)",
    ("cheetah-dir", "varibad", "88d8a98"): "varibad (20 M)",
}
_NONE = 1000  # env steps: `scratch` has an episode of them, the least that makes a run
_SHORT = "(H 100"  # in labels of runs whose episodes are half as long as their family's
Row = Mapping[str, str]
Scored = dict[tuple[str, int], list[float]]  # (split, episode) -> what each seed earned


def table(rows: Iterable[Row]) -> str:
    """The table in Markdown, of rows of scores.csv, the oldest first."""
    lines = []
    for (family, label), seeds in sorted(newest(rows).items()):
        scored, succeeds = _scored(seeds.values())
        name = f"`{family}`, H 100" if _SHORT in label else f"`{family}`"
        lines.append((name, -_mean(scored["test", _last(scored, "test")]),
                      _cells(name, label, seeds, scored, succeeds)))
    lines.sort(key=lambda line: line[:2])
    body = [cells for _, group in groupby(lines, key=lambda line: line[0])
            for cells in _named_once([line[2] for line in group])]
    return "".join(f"| {' | '.join(cells)} |\n"
                   for cells in (_HEAD, ["---"] * 2 + ["--:"] * 9 + ["---"], *body))


def newest(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    """The rows that count, by family and label, and then by seed: those of studies' labels in
    simulation, of each seed's newest commit."""
    known = {(job.family, job.name) for name in studies() for job in load(name)}
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(dict)
    for row in rows:
        family, label = row["family"], row["agent"]
        label = (_WAS.get((family, label, row["commit"]))
                 or _BECAME.get((family, label)) or label)
        if row["phase"] != EXPLOITING or not row["env_steps"] or (family, label) not in known:
            continue
        kept = found[family, label].setdefault(row["seed"], [])
        if kept and kept[0]["commit"] != row["commit"]:
            kept.clear()
        kept.append(row)
    return found


def _scored(seeds: Iterable[Sequence[Row]]) -> tuple[Scored, bool]:
    """What each seed earned, and whether that is a rate of success. Of two evaluations at one
    commit the later one counts."""
    scored: Scored = defaultdict(list)
    succeeds = False
    for rows in seeds:
        succeeds = bool(rows[-1]["success"])
        column = "success" if succeeds else "return"
        latest = {(row["split"], int(row["episode"])): float(row[column]) for row in rows}
        for key, value in latest.items():
            scored[key].append(value)
    return scored, succeeds


def _cells(
    family: str, label: str, seeds: Mapping[str, Sequence[Row]], scored: Scored, succeeds: bool
) -> list[str]:
    first = [rows[-1] for rows in seeds.values()]
    steps, wall = (_mean([float(row[name]) for row in first]) for name in ("env_steps", "wall_s"))
    last = _last(scored, "test")
    shots = [_value(_mean(scored["test", k]), succeeds) if ("test", k) in scored else ""
             for k in range(_SHOWN + 1)]
    beyond = [_spread(scored["ood", _last(scored, "ood")], succeeds)
              if any(split == "ood" for split, _ in scored) else ""]
    commits = dict.fromkeys(row["commit"] for row in first)
    return [family, label, str(len(seeds)), f"{steps / 1e6:.2g} M" if steps > _NONE else "-",
            f"{wall / 60:.0f}" if steps > _NONE else "-", *shots,
            f"{last}: {_spread(scored['test', last], succeeds)}", *beyond, ", ".join(commits)]


def _named_once(lines: Sequence[list[str]]) -> list[list[str]]:
    """The lines of one family, which the first of them names."""
    return [[line[0] if i == 0 else "", *line[1:]] for i, line in enumerate(lines)]


def _last(scored: Scored, split: str) -> int:
    """The most episodes of exploration that all seeds were judged after."""
    most = max(len(values) for (of, _), values in scored.items() if of == split)
    return max(k for (of, k), values in scored.items() if of == split and len(values) == most)


def _spread(values: Sequence[float], succeeds: bool) -> str:
    """Their mean, and how far seeds lie apart."""
    mean, low, high = (_value(v, succeeds) for v in (_mean(values), min(values), max(values)))
    return f"{mean} ({low} … {high})" if low != high else mean


def _value(value: float, succeeds: bool) -> str:
    if succeeds:
        return f"{100 * value:.0f} %"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def written(page: str, made: str) -> str:
    """A page with this table in place of the one between its marks. Raises UserError where it has
    no marks."""
    begin, end = MARKS
    if begin not in page or end not in page:
        raise UserError(f"{PAGE.name} has no {begin.strip()} and {end.strip()}")
    return f"{page.split(begin)[0]}{begin}\n{made}\n{end}{page.split(end)[1]}"


def main(words: Sequence[str]) -> None:
    """Print the table, or write it."""
    with SCORES.open(newline="", encoding="utf-8") as file:
        made = table(csv.DictReader(file))
    if "--write" in words:
        PAGE.write_text(written(PAGE.read_text(), made))
    else:
        print(made, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
