"""The arms that can be named: built in, by entry point `metarl.arms`, or as `package.module:Name`.

Nothing is imported before it is asked for: a driver's library may not be installed.
"""

import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from metarl.errors import UserError, unknown
from metarl.plugins import module_of
from metarl.robot.arm import ArmAdapter

ARMS: dict[str, str] = {
    "twin": "metarl.robot.twin:Twin",
    "franka": "metarl.robot.franka:Fr3",
    "lerobot": "metarl.robot.lerobot:LeRobotArm",
    "so101": "metarl.robot.feetech:So101",
    "ur5e": "metarl.robot.ur:Ur5e",
}
Option = str | float | bool  # what an adapter may be made from
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def arm_names() -> list[str]:
    """Every name that can be used without a plugin, built-in ones first."""
    found = {point.name for point in metadata.entry_points(group="metarl.arms")}
    return [*ARMS, *sorted(found - set(ARMS))]


def arm_class(name: str) -> Any:
    """The class of an adapter. Raises UserError where there is none."""
    points = {point.name: point.value for point in metadata.entry_points(group="metarl.arms")}
    place = ARMS.get(name) or points.get(name) or name
    module, _, attribute = place.partition(":")
    if not (module and attribute):
        raise unknown("arm", name, arm_names())
    try:
        found = getattr(module_of(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"arm {name} needs the Python module {error.name}, which is not "
                        "installed") from None
    except AttributeError:
        raise UserError(f"{module} has no {attribute}") from None
    if not (isinstance(found, type) and issubclass(found, ArmAdapter)):
        raise UserError(f"{place} is no arm; it must derive from metarl.robot.arm.ArmAdapter")
    return found


def make_arm(name: str, options: Mapping[str, Option]) -> ArmAdapter:
    """An adapter, made and not connected. Raises UserError for options that it does not have."""
    made = arm_class(name)
    found = inspect.signature(made).parameters.values()
    named = {about.name: about for about in found if about.kind in _NAMED}
    for option in options:
        if option not in named and not any(about.kind is about.VAR_KEYWORD for about in found):
            raise unknown(f"option of arm {name}", option, named)
    for option, value in options.items():
        about = named.get(option)
        if about is not None and _is_number(about.default) and not _is_number(value):
            raise UserError(f"option {option} of arm {name} is {value!r}; give a number, as in "
                            f"{option}={about.default:g}")
    # Numbers come as floats from a command line.
    whole = {option: int(value) for option, value in options.items()
             if option in named and type(named[option].default) is int
             and isinstance(value, float) and value.is_integer()}
    missing = [f"{option}=..." for option, about in named.items()
               if about.default is about.empty and option not in options]
    if missing:
        raise UserError(f"arm {name} needs --option {' '.join(missing)}; "
                        f"python -m pydoc {made.__module__} says what they are")
    try:
        return made(**{**options, **whole})
    except TypeError as error:
        raise UserError(f"arm {name}: {error}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
