"""Files that are written whole or not at all, JSON above all."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metarl.errors import DamagedFile


def write_json(file: Path, document: Mapping[str, Any] | list[Any]) -> Path:
    """Write a JSON file, whole or not at all, with null for what is not finite; its path."""
    with whole(file) as temporary:
        temporary.write_text(json.dumps(without_nan(document), indent=2, allow_nan=False) + "\n")
    return file


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Where to write what becomes `file` once it is all written, in a folder that is made if need
    be. Where that fails, on a full disk say, an older `file` stays, and nothing else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Its name ends as the file's does: by that, some writers choose what they write.
    temporary = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_json(file: Path, *needed: str) -> dict[str, Any]:
    """What a JSON file holds: an object with at least the entries `needed`. Raises DamagedFile."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DamagedFile(f"{file} is missing") from None
    except ValueError:
        raise DamagedFile(f"{file} is not JSON: it was damaged or edited") from None
    if not isinstance(found, dict):
        raise DamagedFile(f"{file} holds no JSON object: it was damaged or edited")
    if lacking := [name for name in needed if name not in found]:
        raise DamagedFile(f"{file} does not say its {', '.join(lacking)}: it was damaged or edited")
    return found


def without_nan(value: Any) -> Any:
    """The same JSON value with null for what JSON cannot say: NaN and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return value
