"""`metarl list`: the families and what varies in them, and the agents."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from metarl import api
from metarl.agents import AGENTS
from metarl.cli.common import parse, print_json, show, table, warn
from metarl.envs import FAMILIES
from metarl.envs.family import Interval, Parameter
from metarl.errors import UserError, unknown

_DESCRIPTION = "Show the task families, what varies in each over which ranges, and the agents."


@dataclass(frozen=True)
class Options:
    """What to show, and how."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    """Only these families and agents."""
    json: bool = False  # print as JSON


def run(argv: list[str]) -> int:
    """Print both lists."""
    options = parse("list", Options, argv, _DESCRIPTION)
    families = _loaded("metarl.families", FAMILIES, api.family_class)
    agents = _loaded("metarl.agents", AGENTS, api.agent_class)
    if asked := options.names:
        for name in asked:
            if name not in {**families, **agents}:
                raise unknown("family or agent", name, [*families, *agents])
        families, agents = ({name: cls for name, cls in found.items() if name in asked}
                            for found in (families, agents))
    if options.json:
        print_json({
            "families": {name: as_json(found()) for name, found in families.items()},
            "agents": {name: _purpose(found) for name, found in agents.items()},
        })
        return 0
    for name, found in families.items():
        family = found()
        show(f"{name}: {_purpose(found)}")
        show(size(family))
        show(parameters(family))
    shown = table("agent", "idea")
    shown.columns[1].justify = "left"
    for name, found in agents.items():
        shown.add_row(name, _purpose(found))
    if agents:
        show(shown)
    show("begin with: metarl train AGENT FAMILY")
    return 0


def _loaded(group: str, own: Any, look_up: Any) -> dict[str, Any]:
    """The classes of a group by name; one that cannot be imported is warned about."""
    found = {}
    for name in api.known_names(group, own):
        try:
            found[name] = look_up(name)
        except (UserError, ImportError, AttributeError) as error:
            warn(f"{name} cannot be imported: {error}")
    return found


def size(family: Any) -> str:
    """How long an episode of a family is, and how many tasks there are."""
    splits = "test and ood" if any(p.ood for p in family.parameters) else "test"
    return (f"{family.horizon} steps of {family.control_step:g} s an episode; "
            f"{family.task_counts[0]} train tasks, {family.task_counts[1]} {splits} tasks")


def parameters(family: Any) -> Any:
    """What varies over a family, as a table."""
    shown = table("parameter", "unit", "train", "out of distribution", "meaning")
    for column in (1, 4):
        shown.columns[column].justify = "left"
    for p in family.parameters:
        shown.add_row(p.name, p.unit, _range(p),
                      _others(p) or "as train", p.meaning)
    return shown


def _interval(interval: Interval) -> str:
    return f"{interval[0]:.3g} … {interval[1]:.3g}"


def _others(parameter: Parameter) -> str:
    """What only tasks beyond training have."""
    if parameter.held_out:
        return ", ".join(map(parameter.words, parameter.held_out)) + "; test too"
    return ", ".join(map(_interval, parameter.ood))


def _range(parameter: Parameter) -> str:
    if parameter.values:
        return ", ".join(map(parameter.words, parameter.choices("train")))
    scale = {"uniform": "", "log-uniform": " (log)", "disc": " (by area)"}
    return _interval(parameter.train) + scale[parameter.distribution]


def _purpose(cls: Any) -> str:
    """The first sentence about a class: its own, or its module's where it has none to speak of."""
    text = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").strip()
    return " ".join(text.split("\n\n")[0].split()).partition(": ")[2] or text.partition("\n")[0]


def as_json(family: Any) -> dict[str, Any]:
    """What varies over a family, as a document."""
    return {
        "horizon": family.horizon, "control_step_s": family.control_step,
        "parameters": [
            {"name": p.name, "unit": p.unit, "meaning": p.meaning, "train": p.train, "ood": p.ood,
             "distribution": p.distribution, "values": p.labels or p.values,
             "held_out": [p.words(value) for value in p.held_out]}
            for p in family.parameters
        ],
    }
