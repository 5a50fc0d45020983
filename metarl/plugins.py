"""What `package.module:Name` names, of which the working directory may hold the module."""

import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from metarl.errors import UserError


def module_of(name: str) -> ModuleType:
    """The module of this name. Raises ModuleNotFoundError where it, or one that it imports, is not
    there, and UserError where it fails otherwise."""
    # `python -m metarl` looks into the working directory; the console script does not.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever a stranger's module does
        raise UserError(f"{name!r} fails as it is imported: {type(error).__name__}: {error}; "
                        "--debug shows where") from error


def imported(kind: str, place: str) -> Any:
    """The object that `package.module:Name` names. Raises UserError where there is none."""
    module, _, attribute = place.partition(":")
    try:
        return getattr(module_of(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"{kind} {place!r} cannot be imported: {error}") from None


def allowing(*names: str) -> list[str]:
    """The words that allow what a run or a bundle names as `package.module:Name` to be imported;
    none where nothing is named so."""
    found = [name for name in names if ":" in name]
    return ["--plugin", *found] if found else []


def own_line(error: Exception) -> str:
    """The innermost line of code on the way to an error that is neither metarl's nor installed, as
    `mine.py:12`: a family's, an agent's or an arm's of the user's own. "" where there is none."""
    paths = sysconfig.get_paths()
    known = [Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")]
    # In a checkout envs and agents are links.
    known += [(Path(__file__).parent / part).resolve() for part in ("", "envs", "agents")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        if file.is_file() and not any(file.is_relative_to(root) for root in known):
            return f"{frame.filename}:{frame.lineno}"
    return ""
