"""JSON files, written whole or not at all."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.errors import DamagedFile


def write_json(file: Path, document: Mapping[str, Any] | list[Any]) -> Path:
    """Write a JSON file, whole or not at all, with null for what is not finite; its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".tmp-{file.name}-{os.getpid()}")
    temporary.write_text(json.dumps(without_nan(document), indent=2, allow_nan=False) + "\n")
    os.replace(temporary, file)
    return file


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file holds. Raises DamagedFile."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DamagedFile(f"{file} is missing") from None
    except ValueError:
        raise DamagedFile(f"{file} is not JSON: it was damaged or edited") from None


def without_nan(value: Any) -> Any:
    """The same JSON value with null for what JSON cannot say: NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return value
