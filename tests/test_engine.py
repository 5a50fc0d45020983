"""The CPU engine: rows are bit for bit what MuJoCo makes of each variant alone."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from metarl.envs.arrays import Array
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.engine import _ROW_FIELDS, BatchEngine, _field, _once, derived
from metarl.envs.family import (
    Family,
    Frame,
    Parameter,
    Random,
    Start,
    default_task,
    sample_tasks,
)
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws


def started(family: Family, tasks: torch.Tensor, threads: int = 2) -> tuple[BatchEngine, Start]:
    """An engine with these tasks (N, D), at the start of an episode."""
    engine = BatchEngine(family, len(tasks), threads)
    engine.set_tasks(tasks)
    random = Random(Draws.of(0, 0, len(tasks)), 0)
    start = family.reset(engine.default_frame(), tasks.numpy(), random)
    engine.reset(np.ones(len(tasks), bool), start)
    return engine, start


def controls(engine: BatchEngine, steps: int) -> np.ndarray:
    """Random controls (T, N, A) within the actuators' ranges."""
    low, high = engine.model.actuator_ctrlrange.T
    return np.random.default_rng(0).uniform(low, high, (steps, engine.rows, engine.model.nu))


def same(a: Frame, b: Frame) -> bool:
    return (
        np.array_equal(a.qpos, b.qpos) and np.array_equal(a.qvel, b.qvel)
        and all(np.array_equal(a.sensors[name], b.sensors[name]) for name in a.sensors)
    )


def differences(a: mujoco.MjModel, b: mujoco.MjModel) -> list[str]:
    return [f for f in _ROW_FIELDS if not np.array_equal(_field(a, f), _field(b, f))]


def test_a_cheetah_follows_gymnasiums_half_cheetah_bit_for_bit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.make("HalfCheetah-v5")
    env.reset(seed=3)
    data = env.unwrapped.data  # pyright: ignore
    engine = BatchEngine(CheetahVel(), 3)
    start = Start(np.tile(data.qpos, (3, 1)), np.tile(data.qvel, (3, 1)))
    engine.reset(np.ones(3, bool), start)
    actions = np.random.default_rng(0).uniform(-1, 1, (500, 6)).astype(np.float32)
    for action in actions:
        env.step(action)
        engine.step(np.tile(action, (3, 1)))
        frame = engine.frame()
        assert np.array_equal(frame.qpos[1], data.qpos)
        assert np.array_equal(frame.qvel[1], data.qvel)
    env.close()


def test_a_row_is_bit_for_bit_its_variant_compiled_alone(family: Family) -> None:
    tasks = sample_tasks(family, "ood", 4, seed=1)
    engine, start = started(family, tasks)
    models = [engine.compile(task) for task in tasks]
    alone = [mujoco.MjData(model) for model in models]
    for i, (model, data) in enumerate(zip(models, alone, strict=True)):
        model.opt.disableflags = family.spec().option.disableflags  # as the family says it, alone
        data.qpos, data.qvel = start.qpos[i], start.qvel[i]
        if start.act is not None:
            data.act = start.act[i]
        mujoco.mj_forward(model, data)
        data.qacc_warmstart = 0  # as after a reset
    for control in controls(engine, 200):
        assert not engine.step(control).any()
        for i, (model, data) in enumerate(zip(models, alone, strict=True)):
            data.ctrl = control[i]
            mujoco.mj_step(model, data, engine.substeps)
    frame = engine.frame()
    for i, (model, data) in enumerate(zip(models, alone, strict=True)):
        assert differences(engine.row(i)[0], engine.compile(tasks[i])) == []
        assert np.array_equal(frame.qpos[i], data.qpos)
        assert np.array_equal(frame.qvel[i], data.qvel)
        mujoco.mj_forward(model, data)
        for name, values in frame.sensors.items():
            own = derived(data, name) if name in family.derived else data.sensor(name).data
            assert np.array_equal(values[i], own.ravel())


def test_payload_damping_and_gain_each_change_what_the_arm_does() -> None:
    family = Reach()
    tasks = default_task(family).repeat(4, 1)
    tasks[1, 3], tasks[2, 4], tasks[3, 5] = 2.0, 2.0, 1.3
    engine, start = started(family, tasks)
    engine.reset(np.ones(4, bool), Start(*(np.tile(x[:1], (4, 1)) for x in (
        start.qpos, start.qvel, start.qpos))))
    control = np.tile(controls(engine, 1)[0, :1], (4, 1))
    for _ in range(10):
        engine.step(control)
    ends = engine.frame().qpos
    assert all(not np.array_equal(ends[0], ends[i]) for i in (1, 2, 3))


def test_a_thousand_task_changes_leave_no_trace(family: Family) -> None:
    engine = BatchEngine(family, 2)
    tasks = sample_tasks(family, "train", 100)
    for i in range(1000):
        engine.set_tasks(tasks[[i % 100, (7 * i) % 100]])
    engine.set_tasks(default_task(family).expand(2, -1))
    wanted = engine.compile(default_task(family))
    for row in (0, 1):
        assert differences(engine.row(row)[0], wanted) == []


@dataclass(frozen=True)
class FeelingCheetah(CheetahVel):
    """A cheetah with an accelerometer, which is worked out from the forces of a whole step."""

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.body("torso").add_site(name="head")
        spec.add_sensor(name="felt", type=mujoco.mjtSensor.mjSENS_ACCELEROMETER,
                        objtype=mujoco.mjtObj.mjOBJ_SITE, objname="head")
        return spec


@pytest.mark.parametrize("family", [CheetahVel(), FeelingCheetah(), Reach()], ids=lambda f: type(f))
def test_a_snapshot_continues_bit_for_bit(family: Family) -> None:
    engine, _ = started(family, sample_tasks(family, "train", 3))
    inputs = controls(engine, 40)
    for control in inputs[:20]:
        engine.step(control)
    snapshot, there = engine.snapshot(), engine.frame()
    for control in inputs[20:]:
        engine.step(control)
    lived = engine.frame()
    engine.restore(snapshot)
    assert same(engine.frame(), there)
    for control in inputs[20:]:
        engine.step(control)
    assert same(engine.frame(), lived)


def test_the_number_of_threads_changes_no_bit(family: Family) -> None:
    tasks = sample_tasks(family, "train", 5)
    one, _ = started(family, tasks, threads=1)
    two, _ = started(family, tasks, threads=2)
    for control in controls(one, 50):
        one.step(control)
        two.step(control)
    assert same(one.frame(), two.frame())


def test_a_masked_step_leaves_the_other_rows_alone(family: Family) -> None:
    engine, _ = started(family, sample_tasks(family, "train", 4))
    before = engine.snapshot().state
    frame = engine.frame()
    mask = np.array([True, False, True, False])
    engine.step(controls(engine, 1)[0], mask)
    after = engine.snapshot().state
    assert np.array_equal(before[~mask], after[~mask])
    assert not (before[mask] == after[mask]).all(1).any()
    for name, values in engine.frame().sensors.items():
        assert np.array_equal(values[~mask], frame.sensors[name][~mask])


@dataclass(frozen=True)
class Slider(Family):
    """A mass of 1 kg on a rail, which `edit` makes something else of."""

    timestep: float = 0.01
    edit: str = ""

    name = "slider"
    horizon = 10
    control_step = 0.05
    parameters = (Parameter("size", "m", "of the mass", (0.1, 0.2)),)

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        spec.option.timestep = self.timestep
        spec.option.gravity = [0, 0, 0]
        spec.add_hfield(name="ground", nrow=2, ncol=2, size=[1, 1, 1, 1], userdata=[0, 0, 0, 1])
        body = spec.worldbody.add_body(name="mass")
        body.add_joint(name="rail", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0])
        body.add_geom(name="ball", size=[0.1, 0, 0], mass=1.0)
        spec.add_actuator(name="push", target="rail", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        return spec

    def variant(self, spec: mujoco.MjSpec, task: Mapping[str, float]) -> None:
        if self.edit == "joint":
            spec.body("mass").add_joint(name="second", axis=[0, 0, 1])
        if self.edit == "terrain":
            spec.hfield("ground").userdata = [0, 0, 1, 1]
        if self.edit == "mass":
            spec.geom("ball").mass = -1.0

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        return Start(frame.qpos, frame.qvel)

    def observe(self, frame: Frame) -> Array:
        return frame.qvel

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return after.qvel[:, 0]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [("joint", "other bodies, joints"), ("terrain", "hfield_data"), ("mass", "refuses this task")],
)
def test_a_variant_that_rows_cannot_hold_is_refused_with_the_reason(
    edit: str, reason: str
) -> None:
    engine = BatchEngine(Slider(edit=edit), 2)
    with pytest.raises(UserError, match=reason):
        engine.set_tasks(torch.full((2, 1), 0.15).double())


def test_a_control_step_must_be_whole_timesteps() -> None:
    with pytest.raises(UserError, match="not a multiple"):
        BatchEngine(Slider(timestep=0.03), 1)


def test_a_state_that_blows_up_in_the_last_substep_is_flagged_at_once() -> None:
    engine, _ = started(Slider(timestep=0.05), torch.full((2, 1), 0.15).double())
    # One substep: 0.05 s x 3e9 m/s^2 = 1.5e8 m/s is huge, but a state; in the other row, where
    # the mass already moves at 9.9e9 m/s, it makes 1.005e10 m/s, beyond MuJoCo's bound of 1e10,
    # which MuJoCo itself would see one control step later.
    engine._qvel[1] = 9.9e9
    assert engine.step(np.full((2, 1), 3e9)).tolist() == [False, True]


def test_an_episode_without_a_step_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="a horizon of 0 control steps is no episode"):
        BatchEngine(Reach(horizon=0), 1)


def test_each_warning_of_mujoco_is_told_once() -> None:
    told: list[str] = []
    warn = _once(told.append)
    for text in ("Nan in QVEL at DOF 0.", "Nan in QVEL at DOF 3.", "Nan in QACC at DOF 0."):
        warn(text)
    assert told == ["Nan in QVEL at DOF 0.", "Nan in QACC at DOF 0."]


def test_a_model_without_actuators_is_refused() -> None:
    class Statue(CheetahVel):
        def spec(self) -> mujoco.MjSpec:
            spec = super().spec()
            for actuator in list(spec.actuators):
                spec.delete(actuator)
            return spec

    with pytest.raises(UserError, match="cheetah-vel: the model has no actuator"):
        BatchEngine(Statue(), 1, threads=1)


def test_a_control_step_in_milliseconds_is_refused() -> None:
    class Slow(CheetahVel):
        control_step = 50.0

    with pytest.raises(UserError, match="a control step of 50 s is 5,000 of the model's timesteps"):
        BatchEngine(Slow(), 1, threads=1)


@pytest.mark.parametrize("timestep", [0.0, -0.01, float("nan"), float("inf")])
def test_a_timestep_in_which_no_time_goes_by_is_refused(timestep: float) -> None:
    class Still(CheetahVel):
        def spec(self) -> mujoco.MjSpec:
            spec = super().spec()
            spec.option.timestep = timestep
            return spec

    with pytest.raises(UserError, match="cheetah-vel: the model's timestep is"):
        BatchEngine(Still(), 1, threads=1)


@dataclass(frozen=True)
class Loose(CheetahVel):
    """A cheetah one of whose motors has no range."""

    def spec(self) -> mujoco.MjSpec:
        spec = super().spec()
        spec.actuators[2].ctrllimited, spec.actuators[2].ctrlrange = False, [0, 0]
        return spec


def test_an_actuator_without_a_range_would_never_move() -> None:
    with pytest.raises(UserError, match="actuator 'bfoot' has no ctrlrange"):
        Worlds(Loose(), 1)


def test_a_reset_has_sixteen_draws_since_the_next_are_those_of_the_next_episode() -> None:
    first, second = (Random(Draws.of(0, 0, 2), episode) for episode in (0, 1))
    drawn = [first.uniform(0, 1) for _ in range(16)]
    assert not any(np.array_equal(one, second.uniform(0, 1)) for one in drawn)
    with pytest.raises(UserError, match="draws more than 16 times"):
        first.normal(3)
