"""A family out of two files: a robot's MJCF, and a YAML that says what varies and what is wanted.

What the YAML may say is written in `metarl.envs.description`. Both files come from outside: the
MJCF is judged by `metarl.envs.mjcf`, and the YAML holds no code.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from metarl.envs import mjcf
from metarl.envs.arrays import Array, concatenate, namespace
from metarl.envs.description import Description, understand
from metarl.envs.document import LARGEST, parse
from metarl.envs.family import Family, Frame, Random, Start
from metarl.envs.mjcf import MODEL, Files
from metarl.envs.physics import mujoco
from metarl.envs.terms import Distance
from metarl.errors import UserError

VARY = "vary.yaml"  # of the files that describe a family; mjcf.MODEL is another


@dataclass(frozen=True)
class Begin:
    """The state in which an episode begins, before noise."""

    qpos: Array | None  # (nq,); the model's own default where there is no keyframe, as the rest
    qvel: Array | None  # (nv,)
    act: Array | None  # (na,)
    noisy: Array  # (nq,) bool: positions of hinges and slides


@dataclass(frozen=True)
class Described(Family):
    """A family described in YAML, on an MJCF model. `family_class` makes a subclass of each."""

    horizon: int  # control steps of an episode

    files: ClassVar[Files]
    description: ClassVar[Description]
    begin: ClassVar[Begin]

    def spec(self) -> mujoco.MjSpec:
        spec = mjcf.spec_of(self.files)
        for edit in self.description.edits:
            if edit is not None:
                edit.prepare(spec)
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        for parameter, edit in zip(self.parameters, self.description.edits, strict=True):
            if edit is not None:
                edit.apply(spec, task[parameter.name])

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        begin, noise = self.begin, self.description.reset
        qpos = frame.qpos if begin.qpos is None else begin.qpos
        qvel = frame.qvel if begin.qvel is None else begin.qvel
        moved = random.uniform(-noise.qpos_noise, noise.qpos_noise, frame.qpos.shape[1])
        pushed = random.uniform(-noise.qvel_noise, noise.qvel_noise, frame.qvel.shape[1])
        act = None if begin.act is None else np.tile(begin.act, (len(moved), 1))
        return Start(qpos + begin.noisy * moved, qvel + pushed, act)

    def observe(self, frame: Frame) -> Array:
        seen = {"qpos": frame.qpos, "qvel": frame.qvel}
        return concatenate(*(
            seen[name] if name in seen else frame.sensors[name.removeprefix("sensor:")]
            for name in self.description.observe
        ))

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        total = 0 * task[:, 0]
        for weight, term in self.description.reward:
            total = total + weight * term.value(after, action, task)
        return total

    def terminated(self, frame: Frame) -> Array:
        over = namespace(frame.qpos).zeros_like(frame.qpos[:, 0], dtype=bool)
        for condition in self.description.terminate:
            over = over | condition.holds(frame, over[:, None])
        return over

    def outcome(self, frame: Frame, task: Array) -> dict[str, Array]:
        success = self.description.success
        if success is None:
            return {}
        measures = {"success": success.holds(frame, task)}
        if isinstance(success.measured, Distance):
            measures["distance [m]"] = success.measured.metres(frame, task)
        return measures

    def marks(self, task: Mapping[str, float]) -> dict[str, tuple[float, float, float]]:
        success = self.description.success
        values = np.array([[*task.values()]])
        terms = [term for _, term in self.description.reward]
        for measured in (*([success.measured] if success else []), *terms):
            if isinstance(measured, Distance) and len(measured.to.numbers) == 3:
                x, y, z = measured.to.of(Frame(values, values, {}), values)[0].tolist()
                return {"goal": (x, y, z)}
        return {}


def read(model: Path, vary: Path) -> type[Described]:
    """The family that an MJCF file and a YAML describe, read from where a user keeps them.

    Raises UserError in one line, with the file and the key, for anything that is wrong.
    """
    files = {**mjcf.load(model), VARY: mjcf.read(vary, LARGEST)}
    return _make(files, _plain(model.stem), str(vary))


def _plain(stem: str) -> str:
    """A family's name out of a file's: letters without their accents, hyphens for what is left."""
    letters = unicodedata.normalize("NFKD", stem.casefold())  # an umlaut becomes two characters
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9_-]+", "-", bare).strip("-_")[:64] or "described"


def family_class(files: Files, name: str, folder: str) -> type[Described]:
    """The family that files describe, judged as if they came from a stranger: `folder`, in which
    they lie, is what errors call it. `name` is the family's unless the YAML has one."""
    for file in (MODEL, VARY):
        if file not in files:
            raise UserError(f"{folder} has no {file}: it describes no family")
    model = mjcf.judged(files[MODEL], _only(files, folder), f"{folder}/{MODEL}")
    return _make({**model, VARY: files[VARY]}, name, f"{folder}/{VARY}")


def _make(files: Files, name: str, label: str) -> type[Described]:
    spec = mjcf.spec_of(files)
    description = understand(parse(files[VARY], label), spec)
    begin = _begin(spec, description.reset.keyframe)
    return make_dataclass(
        "Described", [("horizon", int, description.horizon)], bases=(Described,), frozen=True,
        namespace={
            "__module__": __name__, "name": description.name or name,
            "parameters": description.parameters, "control_step": description.control_step,
            "files": files, "description": description, "begin": begin,
        },
    )


def _begin(spec: mujoco.MjSpec, keyframe: str | None) -> Begin:
    model = spec.copy().compile()
    noisy = np.zeros(model.nq, bool)
    kinds = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    for kind, address in zip(model.jnt_type.tolist(), model.jnt_qposadr.tolist(), strict=True):
        noisy[address] |= kind in kinds
    if keyframe is None:
        return Begin(None, None, None, noisy)
    key = model.key(keyframe)
    state = [part.copy() for part in (key.qpos, key.qvel, key.act)]
    return Begin(state[0], state[1], state[2] if model.na else None, noisy)


def _only(files: Files, folder: str) -> mjcf.Reader:
    """Reads from these files and from nowhere else."""
    def reader(name: str) -> bytes:
        if name not in files:
            raise UserError(f"{folder}/{name} is missing")
        return files[name]

    return reader
