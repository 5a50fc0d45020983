"""What every family must keep to, as checks that explain their failures."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from metarl.envs import contract_faces, contract_tasks, contract_worlds
from metarl.envs.contract_tasks import Unchecked
from metarl.envs.family import Family
from metarl.errors import UserError
from metarl.plugins import own_line

_CHECKS = (*contract_tasks.CHECKS, *contract_worlds.CHECKS, *contract_faces.CHECKS)


@dataclass(frozen=True)
class Verdict:
    """What came of one check."""

    claim: str
    problem: str = ""  # nothing where the claim holds
    unchecked: str = ""  # why it could not be checked, where it could not


def verdicts(family: Family) -> Iterator[Verdict]:
    """Every check of a family in turn. A family that raises is told so and the next check goes
    on."""
    for check in _CHECKS:
        claim = " ".join((check.__doc__ or "").split())
        try:
            check(family)
        except Unchecked as reason:
            yield Verdict(claim, unchecked=str(reason))
        except UserError as error:
            yield Verdict(claim, str(error))
        except Exception as error:  # a stranger's code may raise anything
            last = inspect.trace()[-1]
            place = own_line(error) or f"{last.filename}:{last.lineno}"
            yield Verdict(claim, f"{type(error).__name__}: {error} ({place})")
        else:
            yield Verdict(claim)
