"""What runs are called on a page: one label for trainings that differ in their seed alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from metarl.scoreboard import Entry

_MOST = 3  # settings that a label names
# Settings that change nothing in what is trained.
_ASIDE = ("seed", "metarl", "evaluate_every", "evaluation_episodes", "checkpoint_every", "device")


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with labels that two share only if they differ in their seed alone: of others
    neither a mean nor an interval says anything."""
    alike: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.family, entry.label), []).append(entry)
    return [entry for group in alike.values() for entry in _labelled(group)]


def _labelled(group: Sequence[Entry]) -> Sequence[Entry]:
    """Entries of one label, with what tells unlike ones apart added to it."""
    settings = [dict(_flat(entry.config or {})) for entry in group]
    names = dict.fromkeys(name for each in settings for name in each)
    unlike = [name for name in names if len({each.get(name) for each in settings}) > 1]
    kinds = [tuple(each.get(name, "-") for name in unlike) for each in settings]
    trained = {(entry.seed, kind) for entry, kind in zip(group, kinds, strict=True)}
    twice = len(trained) < len(group)  # the same again, or at another commit
    if not unlike and not twice:
        return group
    few = len(unlike) <= _MOST and not twice
    return [
        replace(entry, label=f"{entry.label} ({_named(unlike, kind) if few else entry.path.name})")
        for entry, kind in zip(group, kinds, strict=True)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its name, those of groups after the group's."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif prefix or name not in _ASIDE:
            yield prefix + name, json.dumps(value)


def _named(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name.rpartition('.')[2].replace('_', ' ')} {value.strip(chr(34))}"
                     for name, value in zip(names, values, strict=True))
