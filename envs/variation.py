"""What a description lets vary: every entry of `vary`, as a parameter and an edit of the model."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import mujoco

from metarl.envs.document import Node
from metarl.envs.edits import FACTOR, FIELDS, NAMED, Edit, Field, choices, everything
from metarl.envs.family import Distribution, Interval, Parameter
from metarl.errors import UserError

_KEYS = (*FIELDS, "field", "axis", "range", "scale", "choices", "ood", "distribution", "unit",
         "meaning")
_MOST = 64  # parameters
_AXES = ("x", "y", "z")
_GOAL = Field("-", (-float("inf"), float("inf")))


def varied(node: Node, spec: mujoco.MjSpec) -> list[tuple[Parameter, Edit | None]]:
    """Every parameter, and how it edits the model."""
    entries = node.mapping()
    if not entries:
        raise node.wrong("name at least one thing that varies")
    if len(entries) > _MOST:
        raise node.wrong(f"{len(entries)} parameters; {_MOST} are accepted")
    found = [_parameter(name, entry, spec) for name, entry in entries.items()]
    edits = {name: edit for name, (_, edit) in zip(entries, found, strict=True) if edit is not None}
    for name, edit in edits.items():
        if other := _overruled(name, edits, spec):
            raise entries[name].wrong(f"it changes nothing: {other} sets the {edit.field} of all "
                                      "that it names; leave one of them out")
    return found


def _overruled(name: str, edits: Mapping[str, Edit], spec: mujoco.MjSpec) -> str:
    """The parameter, if any, after which nothing is left of what one of this name edits."""
    edit, names = edits[name], list(edits)
    for other in names:
        later = edits[other]
        if (later.kind, later.field) == ("body", "mass") and edit.field == "mass" \
                and edit.kind == "geom":
            # A body whose own mass varies has an inertia of its own, whatever its geoms weigh.
            mine, theirs = [geom.parent for geom in edit.things(spec)], later.things(spec)
        elif names.index(other) > names.index(name) and not later.scales and (
            later.kind, later.field) == (edit.kind, edit.field) and later.axis in (None, edit.axis):
            mine, theirs = edit.things(spec), later.things(spec)
        else:
            continue
        if {thing.name for thing in mine} <= {thing.name for thing in theirs}:
            return other
    return ""


def _parameter(name: str, node: Node, spec: mujoco.MjSpec) -> tuple[Parameter, Edit | None]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,39}", name):
        raise node.wrong("a parameter's name is of letters, digits and _")
    if name in {sensor.name for sensor in spec.sensors}:
        raise node.wrong("a sensor of the model has this name too; choose another")
    entries = node.entries(_KEYS)
    ways = [way for way in ("range", "scale", "choices") if way in entries]
    if len(ways) != 1:
        raise node.wrong("say one of range: [low, high], scale: [low, high] (a factor) or "
                         "choices: [...]")
    edit = _edit(node, entries, ways[0], spec)
    if edit is None and ways[0] == "scale":
        raise entries["scale"].wrong("a factor on nothing: name what it scales")
    quantity = FIELDS[edit.kind][edit.field] if edit else _GOAL
    unit = "x" if ways[0] == "scale" else quantity.unit
    said = _said(edit)
    shared: dict[str, Any] = {
        "name": name, "physics": edit is not None,
        "unit": entries["unit"].text() if "unit" in entries else unit,
        "possible": FACTOR if ways[0] == "scale" else quantity.possible,
    }
    meaning = entries["meaning"].text() if "meaning" in entries else said
    if ways[0] == "choices":
        return _choice(node, entries, edit, meaning, shared), edit
    train = entries[ways[0]].interval()
    parameter = Parameter(meaning=meaning, train=train, ood=_ood(entries, train),
                          distribution=_distribution(entries), **shared)
    _check_ranges(parameter, entries, ways[0])
    return parameter, edit


def _edit(node: Node, entries: Mapping[str, Node], way: str, spec: mujoco.MjSpec) -> Edit | None:
    kind = _kind(node, entries)
    if kind is None:
        return None
    if kind == "option":
        patterns, field = (), entries[kind].one_of("option", FIELDS[kind])
        if "field" in entries:
            raise entries["field"].wrong(f"superfluous: option: {field} says it")
    else:
        node.entries(_KEYS, ("field",))
        patterns, field = (_patterns(entries[kind], kind, spec),
                           entries["field"].one_of(f"field of a {kind}", FIELDS[kind]))
    edit = Edit(kind, patterns, field, way == "scale", _axis(node, entries, FIELDS[kind][field]),
                _names(entries, field, way, spec))
    try:
        trial = spec.copy()
        edit.prepare(trial)
    except UserError as error:
        raise node.wrong(str(error)) from None
    if problem := edit.problem(trial):
        raise node.wrong(problem)
    return edit


def _kind(node: Node, entries: Mapping[str, Node]) -> str | None:
    """What kind of thing is changed, if anything is."""
    kinds = [kind for kind in FIELDS if kind in entries]
    if len(kinds) > 1:
        raise node.wrong(f"{' and '.join(kinds)}: a parameter changes one kind of thing")
    if not kinds:
        for key in ("field", "axis"):
            if key in entries:
                raise entries[key].wrong(f"of what? name one of {', '.join(FIELDS)}")
    return kinds[0] if kinds else None


def _axis(node: Node, entries: Mapping[str, Node], quantity: Field) -> int | None:
    """The component of a vector that varies; None for the first, or for all that are scaled."""
    if "axis" in entries:
        if not quantity.axes:
            raise entries["axis"].wrong("this field has no axes")
        return _AXES.index(entries["axis"].one_of("axis", _AXES))
    if quantity.axes and "scale" not in entries:
        raise node.wrong("an axis is missing: x, y or z")
    return None


def _names(
    entries: Mapping[str, Node], field: str, way: str, spec: mujoco.MjSpec
) -> tuple[str, ...]:
    """The names that a field chooses among, if it takes names."""
    if field not in NAMED:
        return ()
    if way != "choices":
        raise entries[way].wrong(f"{field} takes names: write choices: [...]")
    known = choices(spec, field)
    return tuple(item.one_of(field, known) for item in entries["choices"].items())


def _patterns(node: Node, kind: str, spec: mujoco.MjSpec) -> tuple[str, ...]:
    """Names of things in the model, or patterns that each fit some."""
    items = node.items() if isinstance(node.value, list) else [node]
    for item in items:
        if not Edit(kind, (item.text(),), "").things(spec):
            item.one_of(kind, {thing.name for thing in everything(spec, kind)} - {""})
    return tuple(item.text() for item in items)


def _choice(
    node: Node, entries: Mapping[str, Node], edit: Edit | None, meaning: str, shared: Any
) -> Parameter:
    """A parameter with a few values: numbers, or the places of names in their list."""
    for key in ("ood", "distribution"):
        if key in entries:
            raise entries[key].wrong("choices have none; they take turns")
    labels = edit.names if edit else ()
    if labels:
        values = tuple(map(float, range(len(labels))))
    else:
        low, high = shared["possible"]
        values = tuple(item.number(low, high) for item in entries["choices"].items())
    if len(values) < 2 or len(set(labels or values)) < len(values):
        raise entries["choices"].wrong("two or more different ones are needed")
    return Parameter(meaning=meaning, train=(min(values), max(values)), values=values,
                     labels=labels, **shared)


def _ood(entries: Mapping[str, Node], train: Interval) -> tuple[Interval, ...]:
    if "ood" not in entries:
        return ()
    node, found = entries["ood"], []
    for item in node.items() if isinstance(node.items()[0].value, list) else [node]:
        low, high = item.interval()
        if low < train[1] and high > train[0]:
            raise item.wrong(f"[{low:g}, {high:g}] overlaps the trained range "
                             f"[{train[0]:g}, {train[1]:g}]")
        found.append((low, high))
    return tuple(found)


def _distribution(entries: Mapping[str, Node]) -> Any:
    if "distribution" not in entries:
        return "uniform"
    return entries["distribution"].one_of("distribution", get_args(Distribution))


def _check_ranges(parameter: Parameter, entries: Mapping[str, Node], way: str) -> None:
    low, high = parameter.possible
    for key, ranges in ((way, (parameter.train,)), ("ood", parameter.ood)):
        for start, end in ranges:
            if start < low or end > high:
                raise entries[key].wrong(f"[{start:g}, {end:g}] reaches beyond what is possible, "
                                         f"[{low:g}, {high:g}]")
            if parameter.distribution == "log-uniform" and start <= 0:
                raise entries[key].wrong("a log-uniform range must be positive")


def _said(edit: Edit | None) -> str:
    """What a parameter means, for whom nothing else was written."""
    if edit is None:
        return "part of the goal"
    axis = "" if edit.axis is None else f" {_AXES[edit.axis]}"
    whose = "" if edit.kind == "option" else f" of {edit.kind} {', '.join(edit.patterns)}"
    return f"{'factor on the ' if edit.scales else ''}{edit.field}{axis}{whose}"
