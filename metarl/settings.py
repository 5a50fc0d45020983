"""Frozen dataclasses from what JSON gives."""

import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from metarl.errors import UserError, unknown


def build_config(kind: str, cls: Any, values: Mapping[str, Any]) -> Any:
    """A frozen dataclass from JSON. Raises UserError for an unknown field, and for a value that is
    not of its type."""
    known, hints = [f.name for f in fields(cls)], get_type_hints(cls)
    for name, value in values.items():
        if name not in known:
            raise unknown(kind, name, known)
        if not _fits(value, hints[name]):
            hint = hints[name]
            wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise UserError(f"{kind} {name!r} is {str(value)[:60]!r}, which is not of type "
                            f"{wanted}")
    # JSON has no tuples, and a frozen dataclass has no lists.
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the types that settings are made of; of others, any is."""
    if hint in (int, float):  # to Python a bool is an int
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if hint in (bool, str, types.NoneType):
        return isinstance(value, hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in parts
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is not tuple:
        return True
    if not isinstance(value, list | tuple):
        return False
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
    return len(value) == len(parts) and all(map(_fits, value, parts))
