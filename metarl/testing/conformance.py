"""What every adapter of an arm must keep to, as checks that explain their failures.

They move the arm, over its whole range and against faults: they are for doubles, never for an arm
that could hit something.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from metarl.errors import UserError
from metarl.plugins import own_line
from metarl.robot.arm import ArmAdapter
from metarl.testing.conformance_parts import WIRE_FAULTS, Factory, Inject, Unchecked
from metarl.testing.conformance_rules import RULES, wire


@dataclass(frozen=True)
class Verdict:
    """What came of one check."""

    name: str
    claim: str
    problem: str = ""  # nothing where the claim holds
    unchecked: str = ""  # why it could not be checked, where it could not


@dataclass(frozen=True)
class Check:
    """One rule: raises UserError where it is broken, Unchecked where it cannot be seen."""

    name: str
    claim: str
    run: Callable[[Factory, Inject], None]


def checks() -> list[Check]:
    """All of them."""
    found = [Check(run.__name__.strip("_"), " ".join((run.__doc__ or "").split()), run)
             for run in RULES]
    return found + [Check(name, f"A wire whose replies are {name} gives errors, in time, and "
                          "neither wrong nor old numbers.", partial(wire, name))
                    for name in WIRE_FAULTS]


def verdicts(factory: Factory, faults: Inject | None = None) -> Iterator[Verdict]:
    """Every check in turn. Without `faults`, an adapter's own `inject(fault)` is used, if it has
    one."""
    return (judge(check, factory, faults) for check in checks())


def judge(check: Check, factory: Factory, faults: Inject | None = None) -> Verdict:
    """One check."""
    try:
        check.run(factory, faults or _own_faults)
    except Unchecked as reason:
        return Verdict(check.name, check.claim, unchecked=str(reason))
    except UserError as error:
        return Verdict(check.name, check.claim, f"{type(error).__name__}: {error}")
    except Exception as error:  # a stranger's code may raise anything
        last = inspect.trace()[-1]
        where = own_line(error) or f"{last.filename}:{last.lineno}"
        return Verdict(check.name, check.claim, f"{type(error).__name__}: {error} ({where})")
    return Verdict(check.name, check.claim)


def assert_adapter_conforms(factory: Factory, faults: Inject | None = None) -> None:
    """Raises AssertionError that lists every rule which the adapter breaks."""
    complain(verdicts(factory, faults))


def complain(found: Iterable[Verdict]) -> None:
    """Raises AssertionError that lists the broken rules among these."""
    broken = [f"{v.name}: {v.claim} {v.problem}" for v in found if v.problem]
    if broken:
        raise AssertionError("\n".join(broken))


def _own_faults(arm: ArmAdapter, fault: str) -> None:
    inject = getattr(arm, "inject", None)
    if inject is None:
        raise Unchecked("nothing can make it fail: give `faults`, or the adapter `inject(fault)`")
    inject(fault)
