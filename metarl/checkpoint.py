"""Directories of tensors and JSON that are either whole or refused: checkpoints and bundles.

A directory holds `<stem>.safetensors` files, one JSON file and MANIFEST.json, which records the
size and SHA-256 of every other file. Neither torch nor safetensors notices a flipped bit, so the
manifest is checked first, on bytes, and only then is anything parsed. There is no pickle in it,
and nothing in it names code to be imported.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from metarl.errors import DamagedFile, UserError

FORMAT = 1
MANIFEST = "MANIFEST.json"
KEPT = 2  # checkpoints that pruning leaves
Tensors = dict[str, dict[str, Tensor]]  # file stem -> name -> tensor

_STATE = "state.json"
_STEP = re.compile(r"step_(\d{9,})")
_TEMPORARY = re.compile(r"\.tmp-.+-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a training run."""

    path: Path
    step: int
    tensors: Tensors
    state: dict[str, Any]


# Checkpoints.


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of `step` below `root`, prune older ones, and return its path.

    Raises OSError, and leaves every older checkpoint as it was, if anything cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"step_{step:09d}"
    if path.exists():
        if is_whole(path):
            return path
        # Only here is something of ours replaced: training passed a damaged checkpoint again.
        shutil.rmtree(path)
    write(path, tensors, {_STATE: state})
    verify(path)
    _prune(root, step)
    return path


def load(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the state of one checkpoint. Raises DamagedFile naming the bad file."""
    tensors, documents = read(path)
    if _STATE not in documents:
        raise DamagedFile(f"{path / _STATE} is missing: this is not a checkpoint")
    return tensors, documents[_STATE]


def latest(root: Path) -> Path | None:
    """The newest complete-looking checkpoint below `root`; unverified."""
    found = _all(root)
    return found[-1] if found else None


def latest_good(root: Path, warn: Callable[[str], None], strict: bool = False) -> Checkpoint | None:
    """The newest checkpoint that is whole, loaded; None where there is none at all.

    Calls `warn` for each damaged one that it passes over. Raises DamagedFile instead of falling
    back if `strict`, and when all are damaged.
    """
    found = _all(root)
    for path in reversed(found):
        try:
            tensors, state = load(path)
        except DamagedFile as error:
            if path == found[0]:
                raise DamagedFile(f"{error}; no checkpoint in {root} is whole: bring one back from "
                                  "a copy, or train anew") from None
            if strict:
                raise DamagedFile(f"{error}; without --strict the one before it is taken") from None
            warn(f"DAMAGED CHECKPOINT: {error}; falling back to the one before it")
        else:
            return Checkpoint(path, _step(path), tensors, state)
    return None


# Directories with a manifest.


def write(
    path: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Mapping[str, Any] | bytes],
) -> None:
    """Make the directory `path`, which must not exist, of tensor files (by stem), and of JSON and
    other files (by name): whole or not at all, even if the machine loses power on the way."""
    temporary = path.parent / f".tmp-{path.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        entries = []
        for stem, named in tensors.items():
            # One file at a time: a replay's bytes are held twice, but never two replays'.
            data = _serialise(named)
            entries.append(_write_file(temporary, f"{stem}.safetensors", data))
        for name, document in documents.items():
            data = document if isinstance(document, bytes) else _json(document)
            entries.append(_write_file(temporary, name, data))
        _write_file(temporary, MANIFEST, _json({"format": FORMAT, "files": entries}))
        for folder in {temporary, *(file.parent for file in temporary.rglob("*"))}:
            _sync(folder)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors (by stem) and the documents (by name) of a directory, verified first: JSON as
    its value, any other file as bytes.

    Raises DamagedFile naming the file that is missing, truncated or altered.
    """
    tensors: Tensors = {}
    documents: dict[str, Any] = {}
    for name, data in verify(path).items():
        try:
            if name.endswith(".safetensors"):
                tensors[name.removesuffix(".safetensors")] = safetensors.torch.load(data)
            else:
                documents[name] = json.loads(data) if name.endswith(".json") else data
        except (safetensors.SafetensorError, ValueError) as error:
            raise DamagedFile(f"{path / name} cannot be read: {error}") from None
    return tensors, documents


def verify(path: Path) -> dict[str, bytes]:
    """The bytes of every file that the manifest lists, each of the recorded size and hash."""
    files = {}
    for name, size, digest in _manifest(path):
        data = _read_file(path / name)
        if len(data) != size:
            raise DamagedFile(f"{path / name} has {len(data)} bytes where {size} were written")
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedFile(f"{path / name} is not what was written: its SHA-256 differs")
        files[name] = data
    return files


def is_whole(path: Path) -> bool:
    """Whether every file is there, and is what was written."""
    try:
        verify(path)
    except DamagedFile:
        return False
    return True


# Parts.


def _manifest(path: Path) -> list[tuple[str, int, str]]:
    """(name, size, SHA-256) of each file of a directory."""
    file = path / MANIFEST
    data = _read_file(file)
    try:
        document = json.loads(data)
        number = document["format"]
        entries = [(str(e["name"]), int(e["size"]), str(e["sha256"])) for e in document["files"]]
    except (ValueError, KeyError, TypeError):
        raise DamagedFile(f"{file} is not a manifest") from None
    if number != FORMAT:
        raise UserError(
            f"{path} has format {number}, this metarl reads format {FORMAT}; "
            "use the version that wrote it"
        )
    outside = [name for name, *_ in entries if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise DamagedFile(f"{file} lists {outside[0]!r}, which lies outside its directory")
    return entries


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DamagedFile(f"{file} is missing") from None
    except OSError as error:
        raise DamagedFile(f"{file} cannot be read: {error.strerror}") from None


def _write_file(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write one file through to the disk; its line of the manifest."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _sync(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _serialise(named: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def _all(root: Path) -> list[Path]:
    """Every checkpoint below `root`, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if _STEP.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    match = _STEP.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path} is not a checkpoint: its name must be step_ and a number")
    return int(match[1])


def _prune(root: Path, step: int) -> None:
    """Delete all but the newest checkpoints up to `step`, and what dead writers left.

    Checkpoints beyond `step` are damaged ones that training fell back from: they are left to be
    looked at until training comes past them. Nothing that metarl did not name is touched.
    """
    for path in [p for p in _all(root) if _step(p) <= step][:-KEPT]:
        shutil.rmtree(path)
    for path in root.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            shutil.rmtree(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
