"""YAML from a user's hand: read without tags, anchors or surprises, and asked for one key at a time
so that every mistake is told with the file and the key."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from metarl.errors import UserError, unknown

LARGEST = 2**20  # bytes
_DEPTH = 12  # of collections within collections
_EVENTS = 20_000  # keys, values and brackets
_HINTS = {  # what YAML says of a slip: what to do about it
    "scanning an alias": '; put a pattern in quotes, as in joint: "*"',
    "'\\t'": "; write blanks in place of the tab",
}
_HUGE = 1e30  # beyond it, no quantity of a robot


@dataclass(frozen=True)
class Node:
    """A value, and where it stands, as `vary.yaml: reward[0].weight`."""

    value: Any
    where: str

    def wrong(self, problem: str) -> UserError:
        """The error that says so of this value."""
        return UserError(f"{self.where}: {problem}")

    def entries(self, known: Collection[str], needed: Iterable[str] = ()) -> "dict[str, Node]":
        """The entries of a mapping, of which none may be unknown and no needed one missing."""
        found = self.mapping()
        for key in found:
            if key not in known:
                raise self.wrong(str(unknown("key", key, known)))
        for key in needed:
            if key not in found:
                raise self.wrong(f"{key} is missing")
        return found

    def mapping(self) -> "dict[str, Node]":
        """The entries of a mapping whose keys are words."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"{_shown(self.value)} is not a mapping (key: value)")
        for key in self.value:
            if not isinstance(key, str):
                raise self.wrong(f"the key {_shown(key)} is not a word; put it in quotes")
        dot = "." if ": " in self.where else ": "
        return {key: Node(v, f"{self.where}{dot}{key}") for key, v in self.value.items()}

    def items(self) -> "list[Node]":
        """The items of a list that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            raise self.wrong(f"{_shown(self.value)} is not a list with something in it")
        return [Node(v, f"{self.where}[{i}]") for i, v in enumerate(self.value)]

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A number in [low, high], infinity excluded."""
        value = self.value
        if isinstance(value, str):  # 1e-3 is text to YAML 1.1, which wants 1.0e-3
            try:
                value = float(value)
            except ValueError:
                value = None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{_shown(self.value)} is not a number")
        if not abs(value) <= _HUGE or not low <= value <= high:
            low, high = max(low, -_HUGE), min(high, _HUGE)
            raise self.wrong(f"{_shown(self.value)} does not lie in [{low:g}, {high:g}]")
        return float(value)

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self.number(low, high)
        if value != int(value):
            raise self.wrong(f"{_shown(self.value)} is not a whole number")
        return int(value)

    def text(self) -> str:
        """Some words, in one line."""
        if not isinstance(self.value, str) or not 0 < len(self.value) <= 100:
            raise self.wrong(f"{_shown(self.value)} is not a text of 1 to 100 characters")
        text = " ".join(self.value.split())
        if not text.isprintable():  # a terminal would obey it
            raise self.wrong(f"{_shown(text)} holds control characters")
        return text

    def one_of(self, kind: str, known: Collection[str]) -> str:
        """A known word."""
        if not isinstance(self.value, str):
            choices = f": it is one of {', '.join(known)}" if 0 < len(known) < 10 else ""
            raise self.wrong(f"{_shown(self.value)} is not the name of any {kind}{choices}")
        if self.value not in known:
            raise self.wrong(str(unknown(kind, self.value, known)) if known
                             else f"unknown {kind} {self.value!r}; the model names none")
        return self.value

    def interval(self) -> tuple[float, float]:
        """Two numbers, the smaller one first."""
        ends = self.items()
        if len(ends) != 2 or not (low := ends[0].number()) < (high := ends[1].number()):
            raise self.wrong(f"{_shown(self.value)} is not a range [low, high] with low < high")
        return low, high


def parse(text: bytes, name: str) -> Node:
    """A YAML document. Raises UserError in one line; `name` is what errors call it."""
    if len(text) > LARGEST:
        raise UserError(f"{name} is larger than {LARGEST:,} bytes")
    try:
        # Events first: they neither nest nor build anything, whatever the text says.
        _check_events(text, name)
        _check_keys(yaml.compose(text, Loader=yaml.SafeLoader), name)
        return Node(yaml.safe_load(text), name)
    except (yaml.YAMLError, ValueError) as error:
        words = " ".join(str(error).replace('in "<byte string>",', "at").split())[:300]
        hints = [hint for sign, hint in _HINTS.items() if sign in words]
        raise UserError(f"{name} is not YAML: {words}{''.join(hints)}") from None


def _check_events(text: bytes, name: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None):  # an alias has one too
            raise UserError(f"{name}: line {line}: anchors and aliases are not accepted")
        if getattr(event, "tag", None):
            raise UserError(f"{name}: line {line}: the tag {event.tag[:60]} is not accepted")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH or count > _EVENTS:
            raise UserError(f"{name}: line {line}: too deep or too long; {_DEPTH} levels and "
                            f"{_EVENTS:,} entries are accepted")


def _check_keys(node: Any, name: str) -> None:
    """Refuse a key that is written twice: YAML would keep the last one without a word."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            where = f"{name}: line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{where}: a key must be a word")
            if key.value in seen:
                raise UserError(f"{where}: {key.value[:60]} is written twice")
            seen.add(key.value)
            _check_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
