"""What verbs share: options from a dataclass, errors in one line, JSON, warnings."""

import contextlib
import dataclasses
import difflib
import io
import json
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import rich.box
import tyro
from rich.table import Table

from metarl.display import Screen
from metarl.documents import without_nan
from metarl.errors import UserError
from metarl.run import DEFAULT_ROOT
from metarl.signals import let_go

T = TypeVar("T")
# tyro makes one line of each paragraph of a description: it gets this word in place of it.
_PLACE = "DESCRIPTION"
_REASON = 600  # letters of a reason: MuJoCo's bindings print whole objects


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of the verbs that open a run."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run: its directory, a unique part of its name, or `latest`."""
    runs: Path = DEFAULT_ROOT  # directory that runs are looked for in
    strict: bool = False  # refuse a damaged checkpoint instead of falling back
    plugin: tuple[str, ...] = ()  # package.module:Name that the run may import
    json: bool = False  # print the results as JSON


@dataclasses.dataclass(frozen=True)
class FamilyOptions:
    """Options of the verbs that look at a family."""

    family: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="FAMILY")] = None
    """A family's name, or package.module:Name; left out where --mjcf and --vary describe one."""
    mjcf: Path | None = None  # MJCF file of a robot; with --vary, in place of FAMILY
    vary: Path | None = None  # YAML of what varies over it and what is wanted


def parse(verb: str, cls: type[T], argv: list[str], description: str) -> T:
    """The options that `argv` gives, as `cls`, a frozen dataclass. Exits after `--help`.

    Raises UserError in one line, with the nearest name, for anything that is wrong.
    """
    return _parse(verb, {"options": (cls, dataclasses.MISSING)}, argv, description)["options"]


def split_family(argv: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command line without those of the family's own options, and these.

    An option has the words up to the next one; or one word, where FAMILY may still follow it.
    """
    rest, own, left = list[str](), list[str](), 0.0  # words that the option may still have
    for word in argv:
        if word.startswith("--"):
            left = 0.0
            if word.startswith("--family.") and "=" not in word:
                left = math.inf if rest and not rest[0].startswith("-") else 1
            (own if word.startswith("--family.") else rest).append(word)
        elif left:
            left -= 1
            own.append(word)
        else:
            rest.append(word)
    return rest, own


def build_family(verb: str, cls: Any, own: list[str]) -> Any:
    """A family of this class with the options that `split_family` found."""
    nothing = dataclasses.make_dataclass("Nothing", [], frozen=True)()
    return parse_groups(verb, {"options": nothing, "family": cls()}, own, "")["family"]


def explain_family(
    verb: str, cls: type[Any], rest: Sequence[str], description: str
) -> None:
    """Exit after the help of a verb and of the family that its first word names, where that is what
    `rest` asks for."""
    if {"-h", "--help"}.isdisjoint(rest) or rest[0].startswith("-"):
        return
    from metarl import api

    family = api.family_class(rest[0], plugins=rest[:1])()
    parse_groups(f"{verb} {rest[0]}", {"options": cls(), "family": family}, ["--help"], description)


def parse_groups(
    verb: str, defaults: Mapping[str, Any], argv: list[str], description: str
) -> dict[str, Any]:
    """As `parse` for several dataclasses at once, from their defaults. The flags of the group
    `options` are bare, those of the others carry its name: `--config.discount`."""
    groups = {name: (type(value), value) for name, value in defaults.items()}
    return _parse(verb, groups, argv, description)


def _parse(
    verb: str, groups: Mapping[str, tuple[Any, Any]], argv: list[str], description: str
) -> dict[str, Any]:
    """Each group's dataclass filled in, from its (class, default)."""
    prefixes = {name: "" if name == "options" else f"{name}." for name in groups}
    known = [f for name, (cls, _) in groups.items() for f in _flags(cls, prefixes[name])]
    _check_flags(verb, argv, known)
    schema = dataclasses.make_dataclass("Schema", [
        (name, Annotated[cls, tyro.conf.arg(name=""), tyro.conf.FlagCreatePairsOff]
         if name == "options" else cls,
         dataclasses.field(default=default))
        for name, (cls, default) in groups.items()
    ])
    said, explained = io.StringIO(), _Explained()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(explained):
            found = tyro.cli(schema, prog=f"metarl {verb}", args=argv, description=_PLACE)
    except SystemExit as leaving:
        if not leaving.code:
            print(explained.getvalue().replace(_PLACE, _filled(description)), end="")
            raise
    else:
        filled = {name: getattr(found, name) for name in groups}
        if not 0 <= getattr(filled.get("options"), "seed", 0) < 2**32:
            raise UserError("--seed must lie in [0, 2^32)")
        return filled
    reason = _one_line(said.getvalue())
    raise UserError(f"{reason}{_near_choice(reason)}; see metarl {verb} --help")


class _Explained(io.StringIO):
    """What tyro writes for --help, in colours and with boxes where the terminal has them."""

    def __init__(self) -> None:
        super().__init__()
        self._real = sys.stdout

    @property
    def encoding(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._real.encoding

    def isatty(self) -> bool:
        return self._real.isatty() and not os.environ.get("NO_COLOR")  # of https://no-color.org


def _filled(description: str) -> str:
    """Paragraphs no wider than the boxes of options below them."""
    wide = textwrap.TextWrapper(shutil.get_terminal_size().columns, break_long_words=False,
                                break_on_hyphens=False)
    return "\n\n".join(map(wide.fill, description.split("\n\n")))


def _flags(cls: Any, prefix: str = "") -> Iterator[str]:
    """Every flag that tyro makes of a dataclass, nested ones included."""
    for field in dataclasses.fields(cls):
        name = field.name.replace("_", "-")
        default = field.default
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield from _flags(type(default), f"{prefix}{name}.")
            continue
        # The settings of agents and families have presets that turn them on: both ways are flags.
        if isinstance(default, bool) and prefix:
            yield f"--{prefix}no-{name}"
        yield f"--{prefix}{name}"


def table(*columns: str) -> Table:
    """A table whose first column names what the numbers in the others are about."""
    made = Table(*columns, header_style="bold", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in made.columns[1:]:
        column.justify = "right"
    return made


class Judged(Protocol):
    """What came of a check."""

    @property
    def claim(self) -> str: ...

    @property
    def problem(self) -> str: ...

    @property
    def unchecked(self) -> str: ...


J = TypeVar("J", bound=Judged)


def show_verdicts(found: Iterable[J]) -> list[J]:
    """What a contract's checks find, as they find it, and all of it: a line for each claim, and the
    reason where it fails; one that breaks many of them is told in full once."""
    told, shown = set[str](), list[J]()
    for verdict in found:
        shown.append(verdict)
        mark = "FAILS" if verdict.problem else "--" if verdict.unchecked else "ok"
        show(f"{mark:5}  {verdict.claim}")
        reason = " ".join((verdict.problem or verdict.unchecked).split())
        if reason:
            short = textwrap.shorten(reason, _REASON, placeholder=" ...")
            again = "for a reason above" if reason in told else short
            show(f"       {'' if verdict.problem else 'not checked: '}{again}")
            told.add(reason)
    return shown


def show(content: Any) -> None:
    """A table or a text on standard output; long words are not broken, nor numbers cut off."""
    # Else `mine:Boom:` is a picture of an explosion, and a name in brackets is a style.
    screen = Screen(file=sys.stdout, markup=False, emoji=False, highlight=False)
    if not sys.stdout.isatty():
        # A pipe has no width, and a table squeezed into 80 columns would lose its ends there.
        screen.width = 160
    if isinstance(content, Table):
        # In a narrow terminal, rich would cut words and numbers off; it may fold lines itself.
        for column in content.columns:
            words = f"{column.header} {' '.join(map(str, column.cells))}".split()
            column.min_width = max(map(len, words), default=0)
    screen.print(content, soft_wrap=isinstance(content, str), crop=False)


def counted(count: int, what: str) -> str:
    """1 episode, 3 episodes, 1,000 tasks."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def say(text: str) -> None:
    """A word to the person at the terminal, beside the results."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        let_go(sys.stderr)


def warn(text: str) -> None:
    """A warning, on standard error."""
    say(f"metarl: warning: {text}")


def print_json(document: Mapping[str, Any]) -> None:
    """A result as JSON on standard output, null where a number is not finite."""
    print(json.dumps(without_nan(document), indent=2, allow_nan=False))


def _check_flags(verb: str, argv: Sequence[str], known: list[str]) -> None:
    seen = set()
    for word in argv:
        if not word.startswith("--") or word == "--help":
            continue
        flag = word.partition("=")[0].replace("_", "-")
        if flag not in known:
            near = difflib.get_close_matches(flag, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"see metarl {verb} --help"
            raise UserError(f"unknown option {flag} of metarl {verb}; {hint}")
        if flag in seen:
            raise UserError(f"{flag} is given twice; give it once, with all its values after it")
        seen.add(flag)


def _near_choice(reason: str) -> str:
    """The choice nearest to the one that tyro refused for this reason, as a question."""
    found = re.search(r"invalid choice '(.*?)' .* one of \((.*)\)", reason)
    if found is None:
        return ""
    near = difflib.get_close_matches(found[1], re.findall(r"'(.*?)'", found[2]), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _one_line(box: str) -> str:
    """The message in one of tyro's boxes, without the box and the help below it."""
    words: list[str] = []
    titled = False
    for line in box.splitlines():
        text = line.strip("│ ").strip()
        if text.startswith(("╭", "╰")) or not text:
            continue
        if set(text) == {"-"} and not titled:  # a box in ASCII: its title was no message
            words, titled = [], True
            continue
        if text.startswith("─") or set(text) == {"-"}:
            break
        words.append(text)
    said = " ".join(words).rstrip(".")
    # Of a value that may be left out tyro tells what each of its types made of it: the last, not
    # None, is meant.
    said = re.sub(r"no type matching .* Got errors: .*<class '\w+'>: ", "", said)
    # What Python says of a number is for programmers.
    said = re.sub(r"Error parsing (--\S+): invalid literal for int\(\) with base 10: ('.*')",
                  r"\1 \2 is no whole number, as 300000 is", said)
    said = re.sub(r"Error parsing (--\S+): could not convert string to float: ('.*')",
                  r"\1 \2 is no number, as 0.5 is", said)
    return said or "these options cannot be read"
