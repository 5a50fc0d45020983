"""MuJoCo's Python module is compiled and ships no types: to the type checker, all of it is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
