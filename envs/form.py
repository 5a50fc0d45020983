"""What a family of one's own must have before anything can be made of it, told by what is missing.

`metarl check` finds out what a family does; this is what every command asks first, so that a slip
is no error of numpy's or torch's from within.
"""

import difflib
import inspect
import math
from numbers import Real
from types import FunctionType
from typing import Any

import numpy as np

from metarl.envs.family import Family, Parameter
from metarl.errors import UserError

_DATA = ("name", "parameters", "control_step", "horizon")
_METHODS = ("spec", "reset", "observe", "reward")
_FORMS = {name: tuple(inspect.signature(form).parameters)
          for name, form in vars(Family).items() if inspect.isfunction(form) and name[0] != "_"}


def check_form(cls: Any, place: str) -> None:
    """Raise UserError where a class, which errors call `place`, lacks what a family needs."""
    for name in _DATA:
        if not hasattr(cls, name):
            raise UserError(f"{place} has no {name}; a family must say its {', '.join(_DATA)}")
    for name in _METHODS:
        if inspect.getattr_static(cls, name, None) in (None, vars(Family)[name]):
            near = difflib.get_close_matches(name, vars(cls), n=1, cutoff=0.6)
            raise UserError(f"{place} has no {name}; write def {name}({', '.join(_FORMS[name])})"
                            + (f", or did you mean {near[0]} to be it?" if near else ""))
    for name, form in _FORMS.items():
        _check_arguments(inspect.getattr_static(cls, name, None), form, f"{place}: {name}")
    _check_parameters(cls.parameters, place)
    if isinstance(cls.hold, int) and cls.hold > 0 and cls.holds is Family.holds:
        raise UserError(f"{place}: hold is {cls.hold}, but nothing says what must hold; write def "
                        f"holds({', '.join(_FORMS['holds'])})")
    for name, kind, words in (("horizon", int, "a whole number of control steps"),
                              ("control_step", float, "a number of seconds")):
        value = getattr(cls, name)
        if isinstance(value, int | float) and not (isinstance(value, kind | int) and value > 0):
            raise UserError(f"{place}: {name} is {value}; it must be {words}, above 0")


def rows(family: Family, what: str, value: Any, count: int, dimensions: int) -> np.ndarray:
    """What a family's function gives for `count` rows, float32. Raises UserError where that is no
    array of numpy's with a row for each."""
    if isinstance(value, np.ndarray) and value.ndim == dimensions and len(value) == count:
        return value.astype(np.float32)
    shape = f" {tuple(value.shape)}" if hasattr(value, "shape") else ""
    made = "" if isinstance(value, np.ndarray) else f"{_kind(value)}"
    wanted = f"({count}, O)" if dimensions == 2 else f"({count},)"
    raise UserError(f"{family.name}: `{what}` gives {f'{made}{shape}'.strip()} for {count} rows; "
                    f"it must be {wanted}{' of numpy' if made else ''}")


def _kind(value: Any) -> str:
    kind = type(value)
    return "None" if value is None else f"a {kind.__module__}.{kind.__name__}".replace(
        "a builtins.", "a ")


def _check_arguments(method: Any, form: tuple[str, ...], place: str) -> None:
    """Whether a method can be called as metarl does."""
    if not isinstance(method, FunctionType):
        return
    own = inspect.signature(method)
    try:
        own.bind(*form)
    except TypeError:
        raise UserError(f"{place} takes ({', '.join(own.parameters)}); it must take "
                        f"({', '.join(form)})") from None


def _check_parameters(parameters: Any, place: str) -> None:
    if isinstance(parameters, property):  # of the options; judged when there is a family
        return
    if not isinstance(parameters, tuple | list) or not parameters or not all(
            isinstance(p, Parameter) for p in parameters):
        raise UserError(f"{place}: parameters must be a tuple of Parameter, as in "
                        "(Parameter(...),), with at least one")
    for p in parameters:
        for name in ("name", "unit", "meaning"):
            if not isinstance(text := getattr(p, name), str):
                raise UserError(f"{place}: {name} of {p.name} is {text!r}; it must be a text")
        if not isinstance(p.ood, tuple | list):
            raise UserError(f"{place}: ood of {p.name} must be a tuple of ranges, as in "
                            "((2.0, 3.0),)")
        for name, ends in (("train", p.train), *(("ood", ends) for ends in p.ood)):
            if not _is_range(ends):
                raise UserError(
                    f"{place}: {name} of {p.name} is {ends!r}; it must be "
                    + ("(low, high)" if name == "train" else "ranges, as in ((low, high),)")
                    + ", with low not above high")


def _is_range(ends: Any) -> bool:
    return (isinstance(ends, tuple | list) and len(ends) == 2
            and all(isinstance(end, Real) and math.isfinite(end) for end in ends)
            and ends[0] <= ends[1])
