"""`metarl robot list`, `check` and `log`: what needs no policy."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.cli.common import parse, print_json, show, show_verdicts, table, warn
from metarl.cli.robot_link import words_to_options
from metarl.display import number
from metarl.errors import UserError
from metarl.robot.arm import ArmAdapter
from metarl.robot.driver import extra
from metarl.robot.registry import arm_class, arm_names, make_arm


@dataclass(frozen=True)
class ListOptions:
    """How to show it."""

    json: bool = False  # print as JSON


@dataclass(frozen=True)
class CheckOptions:
    """What to check."""

    arm: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARM")]
    """A name of metarl robot list, or package.module:Name."""
    option: tuple[str, ...] = ()  # name=value ... that the adapter is made from
    yes: bool = False  # it is a double or in free space: the suite moves it over its whole range
    json: bool = False  # print the results as JSON


@dataclass(frozen=True)
class LogOptions:
    """What to sum up."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A log.mcap."""
    json: bool = False  # print the summary as JSON


def run_list(argv: list[str]) -> int:
    """Print the arms."""
    options = parse("robot list", ListOptions, argv, "Show the arms that can be named.")
    found = {name: _about(name) for name in arm_names()}
    if options.json:
        print_json(found)
        return 0
    shown = table("arm", "what it is")
    shown.columns[1].justify = "left"
    for name, about in found.items():
        shown.add_row(name, "\n".join(filter(None, (about["about"], about["problem"]))))
    show(shown)
    show("a third party's: entry point metarl.arms, or package.module:Name\n"
         "look at one with: metarl robot check ARM --option name=value")
    return 0


def run_check(argv: list[str]) -> int:
    """Run the conformance suite; exit code 1 where something is broken."""
    options = parse("robot check", CheckOptions, argv,
                    "Hold an adapter to its contract, on a double: the suite moves the arm over "
                    "its whole range and injects faults.")
    from metarl.testing.conformance import verdicts

    made = words_to_options(options.option)
    if missing := _missing(arm_class(options.arm)):
        raise UserError(missing)
    make_arm(options.arm, made)  # a slip in the options is told before anything moves
    if not options.yes and options.arm != "twin":
        raise UserError("the suite moves the arm over its whole range; add --yes if it is a "
                        "double, or stands in free space with the stop in your hand")
    checked = verdicts(lambda: make_arm(options.arm, made))
    found = [*checked] if options.json else show_verdicts(checked)
    broken = [verdict for verdict in found if verdict.problem]
    if options.json:
        print_json({"arm": options.arm, "sound": not broken,
                    "checks": [vars(verdict) for verdict in found]})
    else:
        show(f"{options.arm}: {len(broken)} of {len(found)} checks fail" if broken
             else f"{options.arm} keeps the contract of an arm")
    return 1 if broken else 0


def run_log(argv: list[str]) -> int:
    """Print what a log tells."""
    options = parse("robot log", LogOptions, argv, "Sum up a log of a session on an arm.")
    from metarl.robot.log import summary

    found = summary(options.file)
    if options.json:
        print_json(found)
        return 0
    if not found["messages"]:
        show("nothing was logged")
    _show_log(found)
    if not found["whole"]:
        show("The log was cut off; this is what was written until then.")
    return 0


def _show_log(found: Mapping[str, Any]) -> None:
    session = found.get("session", {})
    if session:
        show(", ".join(f"{name} {session[name]}" for name in ("verb", "arm", "policy")
                       if name in session))
    if found["episodes"]:
        shown = table("episode", "policy", "return", "success", "steps", "valid")
        for i, episode in enumerate(found["episodes"], start=1):
            shown.add_row(
                f"{i} {episode['purpose']}", episode.get("policy", ""), number(episode["return"]),
                number(episode.get("success", float("nan"))), str(episode["steps"]),
                "yes" if episode["valid"] else f"no: {episode['reason']}")
        show(shown)
    for check in found.get("candidate", {}).get("checks", []):
        if not check["passed"]:
            show(f"refused: {check['what']}: {check['value']}, over its bound of {check['bound']}")
    for verdict in found["verdicts"]:
        show(f"{verdict['where']}: {verdict['verdict']}: {verdict['reason']}")
    for title in ("messages", "limits", "faults", "age [ms]"):
        if found.get(title):
            show(f"{title}: " + ", ".join(
                f"{name} {value if isinstance(value, int) else number(value)}"
                for name, value in found[title].items()))


def _about(name: str) -> dict[str, str]:
    try:
        found = arm_class(name)
    except UserError as problem:
        warn(str(problem))
        return {"about": "", "problem": str(problem)}
    doc = sys.modules[found.__module__].__doc__ or found.__doc__ or ""
    return {"about": " ".join(doc.split("\n\n")[0].split()), "problem": _missing(found)}


def _missing(arm: type[ArmAdapter]) -> str:
    """What its library's absence is to be told by; "" where it is there, or needed by none."""
    try:
        if arm.vendor is not None:
            extra(*arm.vendor)
    except UserError as problem:
        return str(problem)
    return ""

