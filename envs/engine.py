"""The CPU engine: N variants of one MuJoCo model, stepped in lock-step on all cores."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter

import mujoco
import numpy as np
import torch
from mujoco import batch
from torch import Tensor

from metarl.envs.family import Family, Frame, Start, named_task
from metarl.errors import UserError
from metarl.machine import cores

# Model fields of one variant that differ from the base model's, by name.
Fields = dict[str, np.ndarray]
_CACHED_VARIANTS = 4096
_SUBSTEPS = 1000  # of a control step: with more, milliseconds were written for seconds
# What MuJoCo itself calls divergence (mjMAXVAL): it looks before a substep, we after the last one.
_LARGEST = 1e10
_log = logging.getLogger("mujoco")


@dataclass(frozen=True)
class Snapshot:
    """All that continues N rows bit for bit, their model fields excepted."""

    state: np.ndarray  # (N, mjSTATE_INTEGRATION)


class BatchEngine:
    """N rows of a family's model on `mujoco.batch.Batch`, each with the fields of its own task.

    A row's model is the base model plus the fields in which its compiled variant differs from it.
    The differences are found by comparing compiled models, never from a list written by hand, so
    a row is bit for bit the variant compiled alone.
    """

    device = torch.device("cpu")

    def __init__(self, family: Family, rows: int, threads: int = 0) -> None:
        self.family = family
        self.rows = rows
        self._spec = family.spec()
        self.model = self._spec.compile()
        if not self.model.nu:
            raise UserError(f"{family.name}: the model has no actuator; there is nothing to act by")
        if self.model.ntree == 1:
            # A single tree is a single island; to look for more takes a fifteenth of a step.
            for option in (self.model.opt, self._spec.option):
                option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
        plain = _without_pictures(self._spec)
        if family.horizon < 1:
            raise UserError(f"{family.name}: a horizon of {family.horizon} control steps is no "
                            "episode; it must be at least 1")
        self.substeps = _substeps(family, self.model.opt.timestep)
        # Not persistent: the one mjData of each thread stays in its cache.
        self._batch = batch.Batch(self.model, rows, threads or len(cores()), persistent=False)
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self._act = self._batch.bind("act") if self.model.na else None
        # Sensors are brought up to the state after the last substep; without any, nothing is.
        needed = [int(s) for s in self.model.sensor_needstage]
        if family.derived:
            needed.append(int(mujoco.mjtStage.mjSTAGE_POS))
        self._stage, self._derives = mujoco.mjtStage(max(needed, default=0)), bool(needed)
        self._expanded: dict[str, np.ndarray] = {}
        self._variants: dict[bytes, Fields] = {}
        self._physics = [i for i, p in enumerate(family.parameters) if p.physics]
        self._sizes = _sizes(plain)
        # Without its middle phase, the search for contacts reads no tree of a body's geoms, which
        # may then be built otherwise in each variant.
        searched = not self.model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
        self._fixed_fields = [f for f in _FIXED_FIELDS if searched or f not in _TREES]
        self._fixed = _values(plain, self._fixed_fields)
        self._own = _values(plain, _ROW_FIELDS)
        self._threads = threads
        self._bind_frame()
        self._flat = self._batch.state.reshape(-1)  # a view
        self._default, self._default_qpos = self._defaults()
        if mujoco.get_mju_user_warning() is None:
            # Else MuJoCo writes MUJOCO_LOG.TXT into the user's folder.
            mujoco.set_mju_user_warning(_once(_log.warning))

    def _bind_frame(self) -> None:
        """Find all that a frame tells: positions, speeds, sensors, and what the family derives."""
        told, sizes = [self._qpos, self._qvel], [self.model.nq, self.model.nv]
        self._names = [self.model.sensor(i).name for i in range(self.model.nsensor)]
        if self._names:
            told.append(self._batch.bind("sensordata"))
            sizes += self.model.sensor_dim.tolist()
        for what in self.family.derived:
            told.append(derived(self._batch, what).reshape(self.rows, -1))
            sizes.append(told[-1].shape[1])
            self._names.append(what)
        self._told, ends = told, np.cumsum([0, *sizes]).tolist()
        self._parts = [slice(*ends) for ends in itertools.pairwise(ends)]

    # Tasks.

    def set_tasks(self, tasks: Tensor) -> None:
        """Give row i the model of task i. tasks: (N, D)."""
        if not self._physics:
            return
        self._prepare(tasks.cpu())
        variants = [self.fields(task) for task in tasks.cpu()]
        for name in {name for variant in variants for name in variant} - set(self._expanded):
            self._expanded[name] = self._batch.expand(name)
        for name, rows in self._expanded.items():
            base = _field(self.model, name)
            for i, variant in enumerate(variants):
                value = variant.get(name, base)
                # A row of bvh_aabb is a prefix of the model's.
                rows[i] = value[: rows[i].shape[0]] if value.shape != rows[i].shape else value
        self._default, self._default_qpos = self._defaults()

    def fields(self, task: Tensor) -> Fields:
        """The model fields in which a task (D,) differs from the base model."""
        key = self._key(task)
        if key not in self._variants:
            self._prepare(task[None])
        return self._variants[key]

    def _key(self, task: Tensor) -> bytes:
        return task[self._physics].numpy().tobytes()

    def _prepare(self, tasks: Tensor) -> None:
        """Find the fields of tasks (M, D), on all cores: MuJoCo compiles without Python's lock."""
        tasks = torch.unique(tasks, dim=0)
        fresh = {key: task for task in tasks if (key := self._key(task)) not in self._variants}
        if len(self._variants) + len(fresh) > _CACHED_VARIANTS:
            self._variants.clear()
            fresh = {self._key(task): task for task in tasks}

        def found(task: Tensor) -> Fields:
            return self.difference(self.compile(task))

        with ThreadPoolExecutor(self._threads or len(cores())) as pool:
            self._variants |= zip(fresh, pool.map(found, fresh.values()), strict=True)

    def compile(self, task: Tensor) -> mujoco.MjModel:
        """The model of one task (D,), compiled alone."""
        spec = self._spec.copy()
        self.family.variant(spec, named_task(self.family, task))
        try:
            return spec.compile()
        except ValueError as error:
            raise UserError(f"{self.family.name}: MuJoCo refuses this task: {error}") from None

    def difference(self, model: mujoco.MjModel) -> Fields:
        """The fields in which a compiled variant differs from the base model. Raises UserError
        where rows cannot have that difference."""
        if _sizes(model) != self._sizes:
            raise UserError(
                f"{self.family.name}: a variant has other bodies, joints or sensors than the base "
                "model; pad the base model so that all variants share one layout"
            )
        fixed = _changed(self._fixed_fields, self._fixed, _values(model, self._fixed_fields))
        if fixed:
            raise UserError(
                f"{self.family.name}: a variant edits {', '.join(fixed)}, which rows cannot have "
                "each for itself; put every mesh and terrain into the base model and choose by name"
            )
        changed = _changed(_ROW_FIELDS, self._own, _values(model, _ROW_FIELDS))
        return {f: np.array(_field(model, f)) for f in changed}

    # Time.

    def reset(self, mask: np.ndarray, start: Start) -> None:
        """Put the masked rows (N,) at their start states."""
        self._batch.state[mask] = self._default[mask]
        self._qpos[mask] = start.qpos[mask]
        self._qvel[mask] = start.qvel[mask]
        if self._act is not None and start.act is not None:
            self._act[mask] = start.act[mask]
        if self._derives:
            self._batch.forward(mask, stage=self._stage)
            self._warnings = self._batch.warning.copy()

    def _defaults(self) -> tuple[np.ndarray, np.ndarray]:
        """The states (N, mjSTATE_INTEGRATION) of the rows' models by default; qpos (N, nq)."""
        now = self._batch.state.copy()
        # Without its own mj_forward: what is derived here would be of the default state.
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        defaults = self._batch.state.copy(), self._qpos.copy()
        self._batch.state[:] = now
        self._warnings = self._batch.warning.copy()
        return defaults

    def step(
        self, control: np.ndarray, mask: np.ndarray | None = None, substeps: int | None = None
    ) -> np.ndarray:
        """One control step of the masked rows with control (N, A), or so many substeps; which rows
        diverged: (N,)."""
        if mask is None:
            self._ctrl[:] = control
        else:
            self._ctrl[mask] = control[mask]
        failed = np.zeros(self.rows, bool)
        try:
            self._batch.step(mask, nstep=substeps or self.substeps, stage=self._stage)
        except batch.SimulationError as error:
            failed[error.ids] = True
        # MuJoCo resets a row that blows up inside the call and goes on; only its warnings tell.
        warnings = self._batch.warning
        if warnings.tobytes() != self._warnings.tobytes():
            warned = (warnings[:, :, 1] != self._warnings[:, :, 1]).any(1)
            failed |= warned
            # Each row that blows up has counted one from zero: cleared, or the next time it does,
            # the count would be what it was.
            self._batch.reset(warned, stage=mujoco.mjtStage.mjSTAGE_NONE)
            self._warnings = self._batch.warning.copy()
        # Extremes, not a product of the state with itself: BLAS would use threads of its own, which
        # then take turns with the physics' and nearly double the time of a step of many rows. What
        # is not a number compares as False.
        if not (self._flat.max() < _LARGEST and self._flat.min() > -_LARGEST):
            failed |= ~(np.abs(self._batch.state) < _LARGEST).all(1)
        return failed if mask is None else failed & mask

    # State.

    def frame(self) -> Frame:
        """What sensors tell now: copies, float64."""
        # One copy of everything takes less time than one of each.
        whole = np.concatenate(self._told, 1)
        qpos, qvel, *sensors = [whole[:, part] for part in self._parts]
        return Frame(qpos, qvel, dict(zip(self._names, sensors, strict=True)))

    def default_frame(self) -> Frame:
        """Every row's default state, with no sensors."""
        return Frame(self._default_qpos.copy(), np.zeros((self.rows, self.model.nv)), {})

    def snapshot(self) -> Snapshot:
        """The state of all rows."""
        return Snapshot(self._batch.state.copy())

    def restore(self, snapshot: Snapshot) -> None:
        """Return all rows to a snapshot taken with the same tasks."""
        self._batch.state[:] = snapshot.state
        if self._derives:
            self._batch.forward(stage=self._stage)

    def row(self, index: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """One row as MuJoCo's own objects, to be rendered or looked into."""
        model, data = self._batch.get_model(index), self._batch.get_data(index)
        mujoco.mj_forward(model, data)
        return model, data


def _substeps(family: Family, timestep: float) -> int:
    """How many of the model's timesteps a control step is. Raises UserError where it is none."""
    step = family.control_step
    for what, seconds in (("the model's timestep", timestep), ("the control step", step)):
        if not 0 < seconds < math.inf:
            raise UserError(f"{family.name}: {what} is {seconds:g} s; it must be above 0, as 0.002")
    if step > (_SUBSTEPS + 0.5) * timestep:
        raise UserError(f"{family.name}: a control step of {step:g} s is {step / timestep:,.10g} "
                        "of the model's timesteps; give it in seconds, and of at most "
                        f"{_SUBSTEPS:,} timesteps")
    count = round(step / timestep)
    if abs(count * timestep - step) > 1e-9:
        raise UserError(f"{family.name}: the control step {step} s is not a multiple of the "
                        f"model's timestep {timestep} s")
    return count


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tells a warning of MuJoCo's the first time alone, wherever in the model it is: a model that
    blows up has one for every row and step."""
    told = set[str]()

    def warn(text: str) -> None:
        kind = text.partition(" at ")[0]
        if kind not in told:
            told.add(kind)
            tell(text)

    return warn


def derived(data: batch.Batch | mujoco.MjData, what: str) -> np.ndarray:
    """One of a family's `derived` fields: of all rows, live (N, ...), or of one row's own data."""
    field, _, named = what.partition(".")
    if named:
        name, _, part = named.rpartition(".")
        return getattr(getattr(data, field)(name), part)
    return data.bind(field) if isinstance(data, batch.Batch) else getattr(data, field)


def _without_pictures(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Shrink a spec's textures, whose making takes half of the time of compiling a small model;
    the model."""
    for texture in spec.textures:
        if texture.builtin != mujoco.mjtBuiltin.mjBUILTIN_NONE:
            texture.width = texture.height = 1
    return spec.compile()


def _field(model: mujoco.MjModel, name: str) -> np.ndarray:
    return np.asarray(attrgetter(name)(model))


def _values(model: mujoco.MjModel, names: Sequence[str]) -> list[object]:
    """Fields as bytes, which compare in a tenth of the time that arrays take, or as numbers."""
    values = attrgetter(*names)(model)
    return [v.tobytes() if isinstance(v, np.ndarray) else v for v in values]


def _changed(names: Sequence[str], a: list[object], b: list[object]) -> list[str]:
    return [name for name, x, y in zip(names, a, b, strict=True) if x != y]


def _sizes(model: mujoco.MjModel) -> list[int]:
    """Every count n* of a model, names and signature aside."""
    return [getattr(model, name) for name in _COUNTS]


def _array_fields(model: mujoco.MjModel) -> Sequence[str]:
    return [n for n in dir(model) if isinstance(getattr(model, n, None), np.ndarray)]


_EMPTY = mujoco.MjSpec().compile()
_COUNTS = [n for n in dir(_EMPTY) if n.startswith("n") and isinstance(getattr(_EMPTY, n), int)
           and n not in {"narena", "nbuffer", "names", "ntext", "ntextdata"}]
_ROW_FIELDS = sorted(batch.MODEL_FIELDS)
# Data of meshes, height fields, textures and the like: one copy for all rows.
_FIXED_FIELDS = sorted(
    set(_array_fields(_EMPTY)) - set(batch.MODEL_FIELDS)
    - {"names_map", "paths"}
)
_TREES = ("bvh_child", "bvh_depth", "bvh_nodeid")
