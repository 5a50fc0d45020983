"""The failures that a user can mend, and the exit codes that the command line gives them."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: what is wrong, why, and what to do instead, in one line. Exit code 2."""

    exit_code = 2


class DamagedFile(UserError):
    """A file whose size or hash is not the one recorded when it was written. Exit code 3."""

    exit_code = 3


class Diverged(UserError):
    """Training that produced no finite update even after rolling back. Exit code 4."""

    exit_code = 4


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The one line for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
