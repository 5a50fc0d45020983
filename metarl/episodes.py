"""Recorded episodes of one task: an open format, read and written without pickle.

A file is an npz, a zip of arrays that `numpy.load(file, allow_pickle=False)` reads anywhere. Its S
steps lie one after the other, episode after episode:

    header            UTF-8 JSON as uint8: `format`, `version`, `family` and its `options`, the
                      SHA-256 of the `files` that describe it, `control_step` [s], `source`, and
                      {name, unit} of every entry of `observation`, `action` and `parameters`
    observation       (S, O) float32, before each action
    action            (S, A) float32 as it was chosen; the world clamps it to [-1, 1]
    reward            (S,) float32
    next_observation  (S, O) float32, the episode's own successor even where it ends
    terminated        (S,) bool, the task itself ended there; a time limit is `last` alone
    last              (S,) bool, ends an episode; the last step of all does
    outcome/NAME      (S,) float32 each, NaN unless `last`: what the family measures there
    hidden_task       (D,) float64, the true parameters, where they are known, as in simulation.
                      It is for judging what was adapted alone: no agent is ever given it.
"""

import copy
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.agent import Agent, Imitates
from metarl.documents import whole
from metarl.errors import DamagedFile, UserError
from metarl.trial import Steps, Trial

FORMAT, VERSION = "metarl episodes", 1
LARGEST = 512 * 2**20  # bytes of all arrays of a file, uncompressed
_MEMBERS = 64  # arrays of a file
_HEADER = 2**20  # bytes of the header
_PIECE = 2**20  # bytes that are unpacked at a time
_STEP = {  # array -> the part of `Steps` that it holds, and its type
    "observation": ("obs", "<f4"), "action": ("action", "<f4"), "reward": ("reward", "<f4"),
    "next_observation": ("next_obs", "<f4"), "terminated": ("terminated", "|b1"),
    "last": ("last", "|b1"),
}
_PARTS = [part for part, *_ in _STEP.values()]
_OUTCOME, _TASK = "outcome/", "hidden_task"


@dataclass(frozen=True)
class Entry:
    """One number of an observation, of an action or of a task."""

    name: str
    unit: str  # of SI; "1" for a share


@dataclass(frozen=True)
class About:
    """What episodes were recorded of."""

    family: str
    options: dict[str, Any]  # of the family
    files: dict[str, str]  # SHA-256 of those that describe it; none where it has a class
    control_step: float  # s
    source: str  # who acted
    observation: tuple[Entry, ...]  # O
    action: tuple[Entry, ...]  # A
    parameters: tuple[Entry, ...]  # D


@dataclass(frozen=True)
class Episodes:
    """Whole episodes of one task, one after the other."""

    about: About
    steps: Steps  # (S, ...), with `outcome`
    hidden_task: Tensor | None  # (D,) float64; None where nobody knows it

    @property
    def count(self) -> int:
        """How many episodes."""
        return int(self.steps.last.sum())

    def each(self) -> list[Steps]:
        """The steps of each episode, (S, ...), without what the family measured."""
        ends = (self.steps.last.nonzero()[:, 0] + 1).tolist()
        return [Steps(**{name: getattr(self.steps, name)[start:end] for name in _PARTS})
                for start, end in pairwise([0, *ends])]

    def returns(self) -> Tensor:
        """(K,) undiscounted return of each episode."""
        return torch.stack([lived.reward.sum() for lived in self.each()])

    def outcomes(self) -> dict[str, Tensor]:
        """(K,) of each measure that the family took at the episodes' ends."""
        return {name: value[self.steps.last] for name, value in self.steps.outcome.items()}


def conditioned(agent: Agent, belief: Any, episodes: Episodes) -> Any:
    """An agent's belief about one task after episodes that somebody demonstrated in it: in each of
    its rows they are taken for its own, unless it imitates them."""
    rows = agent.plan.replicas
    for lived in episodes.each():
        lived = lived.to(agent.device)
        if isinstance(agent, Imitates):
            belief = agent.imitate(belief, lived)
            continue
        for t in range(len(lived.reward)):
            parts = {name: getattr(lived, name)[t] for name in _PARTS}
            belief = agent.infer(
                belief, Steps(**{n: x.expand(rows, *x.shape).clone() for n, x in parts.items()}))
    return belief


def past_actions(action: tuple[Entry, ...], length: int) -> tuple[Entry, ...]:
    """What stands behind an observation of one who sees so many of the last actions."""
    return tuple(Entry(f"{entry.name}, {k} steps ago", entry.unit)
                 for k in range(length, 0, -1) for entry in action)


def with_past_actions(episodes: Episodes, length: int, scale: float = 1.0) -> Episodes:
    """Episodes as one would have met them who sees so many of the last actions, oldest first, as
    the world took them: `scale` times what was chosen, clamped; zeros before an episode's first."""
    before, after = list[Tensor](), list[Tensor]()
    for lived in episodes.each():
        told = (scale * lived.action).clamp(-1, 1)
        told, count = torch.cat([told.new_zeros(length, told.shape[1]), told]), len(told)
        before.append(torch.cat([told[k: k + count] for k in range(length)], 1))
        after.append(torch.cat([told[k + 1: k + 1 + count] for k in range(length)], 1))
    about, steps = episodes.about, episodes.steps
    return replace(
        episodes,
        about=replace(about, observation=about.observation + past_actions(about.action, length)),
        steps=replace(steps, obs=torch.cat([steps.obs, torch.cat(before)], 1),
                      next_obs=torch.cat([steps.next_obs, torch.cat(after)], 1)))


def recorded(trial: Trial, about: About, episodes: int) -> Episodes:
    """The first `episodes` episodes of a trial's first row, whose task is known and stays; of one
    that is lived in rounds, the first episode of so many of them."""
    number = trial.episode[:, 0]
    kept = (number >= 0) & (number < episodes)
    kept[int(trial.last[:, 0].nonzero().max()) + 1 :] = False  # an episode without an end
    steps = Steps(
        **{name: getattr(trial, name)[kept, 0] for name in _PARTS},
        outcome={name: value[kept, 0] for name, value in trial.outcome.items()},
    )
    return Episodes(about, steps, trial.task[0].double())


def write(path: Path, episodes: Episodes) -> Path:
    """Write a file, whole or not at all; its path. Raises UserError where it exists or cannot be
    written, and for numbers that are not finite."""
    if path.exists():
        raise UserError(f"{path} exists; choose another place with --out")
    header = {"format": FORMAT, "version": VERSION, **asdict(episodes.about)}
    arrays = {
        "header": np.frombuffer(json.dumps(header, allow_nan=False).encode(), np.uint8),
        **{name: getattr(episodes.steps, part).numpy().astype(kind)
           for name, (part, kind) in _STEP.items()},
        **{f"{_OUTCOME}{name}": value.numpy().astype("<f4")
           for name, value in episodes.steps.outcome.items()},
    }
    if episodes.hidden_task is not None:
        arrays[_TASK] = episodes.hidden_task.numpy().astype("<f8")
    _check(arrays, episodes.about, path)
    try:
        with whole(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --out") from None
    return path


def read(path: Path) -> Episodes:
    """The episodes of a file, which may come from a stranger: sizes are checked before anything is
    loaded, and everything before it is believed.

    Raises DamagedFile for one that is not whole, UserError for one that is not of this format.
    """
    arrays = _arrays(path)
    about = _about(arrays.pop("header", None), path)
    _check(arrays, about, path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    steps = Steps(
        **{part: tensors[name] for name, (part, *_) in _STEP.items()},
        outcome={name.removeprefix(_OUTCOME): value for name, value in tensors.items()
                 if name.startswith(_OUTCOME)},
    )
    return Episodes(about, steps, tensors.get(_TASK))


def check_fits(episodes: Episodes, config: Mapping[str, Any], path: Path) -> None:
    """Raise UserError where episodes are not of the family that a run's configuration names."""
    about, shapes = episodes.about, config["shapes"]
    # JSON has no tuples: both sides have been through it, or one has not.
    options = json.loads(json.dumps(config["options"]))
    pairs = [
        ("of family", about.family, config["family"]),
        ("of observations with", len(about.observation), shapes["obs"]),
        ("of actions with", len(about.action), shapes["action"]),
        ("of tasks with", len(about.parameters), shapes["task"]),
        *((f"with --family.{name.replace('_', '-')}", about.options.get(name), value)
          for name, value in options.items()),
        ("of files with hashes", about.files, config.get("files", {})),
    ]
    for what, theirs, ours in pairs:
        if theirs != ours:
            numbers = " numbers" if isinstance(ours, int) and what.startswith("of ") else ""
            raise UserError(
                f"{path} holds episodes {what} {theirs}{numbers}, where the run has {ours}; record "
                "some that fit, with metarl record --run RUN, or adapt a run of that family"
            )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz, none of them larger than it says in two places."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > _MEMBERS or size > LARGEST:
                raise UserError(
                    f"{path} would fill {size / 2**20:,.0f} MiB with {len(members)} arrays; "
                    f"{LARGEST // 2**20} MiB and {_MEMBERS} are allowed: record fewer episodes")
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) < len(names):
                raise DamagedFile(f"{path} holds an array twice; record it anew")
            return {name: _array(archive, member, f"{path}: {name}")
                    for name, member in zip(names, members, strict=True)}
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no file {path}; metarl record makes one") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError,
            RuntimeError, zlib.error) as error:
        raise DamagedFile(f"{path} is not a whole npz ({error}): it was damaged, or metarl record "
                          "did not write it") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str) -> np.ndarray:
    """One array. Its own header must promise as many bytes as the zip has for it: numpy would set
    memory aside for whatever it says."""
    data = _unpacked(archive, member, label)
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise DamagedFile(f"{label} is not an array in NPY format 1.0")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    if kind.hasobject or fortran or kind.str not in ("<f4", "<f8", "|b1", "|u1"):
        raise UserError(f"{label} holds {kind.str}; only plain float32, float64, bool and uint8 "
                        "arrays are read")
    body = data[stream.tell():]
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(body):
        raise DamagedFile(f"{label} has {len(body)} bytes, its shape {shape} needs others")
    return np.frombuffer(bytearray(body), kind).reshape(shape)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str) -> bytes:
    """The bytes of a member, piece by piece, so that one that lies of its size fills no memory."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks the others in one go, however much comes of it; numpy writes none.
        raise UserError(f"{label} is neither stored nor deflated; record it anew")
    # zipfile would leave out, without a word, what follows the size that it is told.
    whole = copy.copy(member)
    whole.file_size, data = LARGEST + 1, bytearray()
    with archive.open(whole) as stream:
        while piece := stream.read(_PIECE):
            data += piece
            if len(data) > member.file_size:
                raise DamagedFile(
                    f"{label} holds more than the {member.file_size} bytes that it says")
    return bytes(data)


def _about(header: np.ndarray | None, path: Path) -> About:
    if header is None or header.nbytes > _HEADER:
        raise UserError(f"{path} has no header of episodes: metarl record did not write it")
    try:
        document = json.loads(header.tobytes())
        if (document.pop("format"), document.pop("version")) != (FORMAT, VERSION):
            raise UserError(f"{path} is not of format {FORMAT!r}, version {VERSION}; use the "
                            "metarl that wrote it")
        entries = {name: tuple(Entry(str(e["name"]), str(e["unit"])) for e in document[name])
                   for name in ("observation", "action", "parameters")}
        return About(**{**document, **entries})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} has a header that says something else than it must "
                        f"({type(error).__name__}: {error}); record it anew") from None


def _check(arrays: Mapping[str, np.ndarray], about: About, path: Path) -> None:
    """Raise UserError unless these arrays are episodes as the header describes them."""
    problem = _problem({n: a for n, a in arrays.items() if n != "header"}, about)
    if problem:
        raise UserError(f"{path}: {problem}; record it anew")


def _problem(arrays: Mapping[str, np.ndarray], about: About) -> str:
    if missing := sorted(set(_STEP) - set(arrays)):
        return f"{missing[0]} is missing"
    count, widths = arrays["reward"].size, {
        "observation": len(about.observation), "action": len(about.action),
        "next_observation": len(about.observation),
    }
    for name, array in arrays.items():
        kind, shape = _STEP[name][1] if name in _STEP else "<f4", (count,)
        if name in widths:
            shape = (count, widths[name])
        elif name == _TASK:
            kind, shape = "<f8", (len(about.parameters),)
        elif name not in _STEP and not name.startswith(_OUTCOME):
            return f"{name} is no array of the format"
        if array.dtype.str != kind or array.shape != shape:
            return f"{name} is {array.dtype.str} {array.shape} where {kind} {shape} must be"
        if not name.startswith(_OUTCOME) and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    if not count or not arrays["last"][-1]:
        return "its last step ends no episode"
    if (arrays["terminated"] & ~arrays["last"]).any():
        return "a terminated step ends no episode"
    return ""
