"""The terrains of ant-terrain and walker-terrain: heights, rows, rewards and falls by hand."""

import math

import mujoco
import numpy as np
import pytest
import torch

from metarl.envs import ant_terrain, walker_terrain
from metarl.envs.ant_dir import AntDir
from metarl.envs.ant_terrain import AntTerrain
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, Frame, Start, sample_tasks
from metarl.envs.terrain import KINDS, LEVELS, Field, heights
from metarl.envs.walker_terrain import WalkerTerrain

ANT, WALKER = ant_terrain._FIELD, walker_terrain._FIELD
BOTH = pytest.mark.parametrize("on_terrain", [AntTerrain(), WalkerTerrain()], ids=lambda f: f.name)


def profile(kind: str, level: int, field: Field = ANT) -> tuple[np.ndarray, np.ndarray]:
    """Where along x [m], and the heights there [m]."""
    return field.columns(kind), heights(field, kind, level)[0]


def at(x: float, kind: str, level: int) -> float:
    """The height [m] at a place, linear between columns."""
    return float(np.interp(x, *profile(kind, level)))


def task(kind: str, difficulty: float, friction: float = 1.0) -> torch.Tensor:
    return torch.tensor([KINDS.index(kind), difficulty, friction]).double()


def chosen(family: Family, kind: str, difficulty: float) -> str:
    """The name of the terrain that a task is on."""
    model = BatchEngine(family, 1).compile(task(kind, difficulty))
    return model.hfield(int(model.geom("floor").dataid[0])).name


# Heights.


def test_a_slope_rises_at_20_degrees_times_its_difficulty() -> None:
    assert at(11.5, "slope", 10) == pytest.approx(10 * math.tan(math.radians(20)))
    assert at(11.5, "slope", 3) == pytest.approx(10 * math.tan(math.radians(6)))


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_stairs_rise_by_20_cm_times_their_difficulty_every_half_metre(level: int) -> None:
    step = 0.2 * level / 10
    for count in (1, 2, 3, 50):  # the first rises at 1.5 m, the 50th at 26 m
        rise = 1.5 + 0.5 * (count - 1)
        assert at(rise, "stairs", level) == pytest.approx((count - 1) * step)
        assert at(rise + 0.05, "stairs", level) == pytest.approx(count * step)
        assert at(rise + 0.45, "stairs", level) == pytest.approx(count * step)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_gaps_are_5_cm_and_half_a_metre_times_their_difficulty_wide(level: int) -> None:
    width = 0.05 + 0.5 * level / 10
    for count in (0, 1, 2, 20):
        edge = 1.5 + 1.0 + count * (1.0 + width)
        for place, height in ((edge, 0), (edge + 0.05, -0.5), (edge + width - 0.05, -0.5),
                              (edge + width, 0), (edge + width + 0.95, 0)):
            assert at(place, "gaps", level) == pytest.approx(height, abs=1e-9)


def test_rough_ground_reaches_10_cm_times_its_difficulty_to_either_side() -> None:
    for level in (2, 10):
        found = heights(ANT, "rough", level)
        assert found.shape == (41, 257)  # 10 m and 64 m, every 0.25 m
        assert 0.99 < found.max() / (0.01 * level) <= 1
        assert -1 <= found.min() / (0.01 * level) < -0.99
    assert np.ptp(heights(ANT, "rough", 5), axis=0).max() > 0
    assert np.ptp(heights(WALKER, "rough", 5), axis=0).max() == 0  # alike all across


@pytest.mark.parametrize("field", [ANT, WALKER], ids=["ant", "walker"])
def test_every_terrain_is_flat_up_to_a_metre_and_a_half_and_the_same_each_time(
    field: Field,
) -> None:
    for kind in KINDS:
        for level in range(1, LEVELS + 1):
            found = heights(field, kind, level)
            assert not found[:, field.columns(kind) <= 1.5].any()
            assert np.ptp(found[:, field.columns(kind) > 1.5]) > 0
            assert np.array_equal(found, heights(field, kind, level))


def test_fields_are_long_enough_for_the_fastest() -> None:
    # 200 steps of 0.05 s at 5.9 m/s, and of 0.016 s at 5.9 m/s, to a metre before the end.
    assert ANT.ahead - 1 >= 200 * AntTerrain().control_step * 5.9
    assert WALKER.ahead - 1 >= 200 * WalkerTerrain().control_step * 5.9


# Models.


@BOTH
def test_one_model_holds_41_terrains_all_different(on_terrain: Family) -> None:
    model = on_terrain.spec().compile()
    found = set()
    for i in range(model.nhfield):
        start = model.hfield_adr[i]
        data = model.hfield_data[start:start + model.hfield_nrow[i] * model.hfield_ncol[i]]
        found.add((data.tobytes(), model.hfield_size[i].tobytes()))
    assert len(found) == model.nhfield == 4 * 10 + 1


@BOTH
def test_the_compiled_ground_is_as_high_as_its_terrain(on_terrain: Family) -> None:
    field = ANT if isinstance(on_terrain, AntTerrain) else WALKER
    engine = BatchEngine(on_terrain, 1)
    for kind in KINDS:
        model = engine.compile(task(kind, 0.7))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        x, expected = profile(kind, 7, field)
        for column in np.flatnonzero((x > -3) & (x < 15))[::7]:
            above = np.array([x[column] + 1e-6, 1e-6 - field.aside, 50.0])  # along the first row
            found = 50 - mujoco.mj_rayHfield(model, data, model.geom("floor").id, above,
                                             np.array([0, 0, -1.0]), None)
            assert found == pytest.approx(expected[column], abs=1e-4)


@BOTH
def test_a_difficulty_is_rounded_down_to_a_tenth(on_terrain: Family) -> None:
    for difficulty, name in ((0.0, "flat"), (0.09, "flat"), (0.1, "stairs-1"),
                             (0.3, "stairs-3"), (0.39, "stairs-3"), (0.81, "stairs-8"),
                             (0.9, "stairs-9"), (1.0, "stairs-10")):
        assert chosen(on_terrain, "stairs", difficulty) == name


def test_no_terrain_beyond_the_trained_difficulties_was_ever_trained_on() -> None:
    levels = {split: {(kind, math.ceil(round(10 * difficulty, 6))) for kind, difficulty, _ in
                      sample_tasks(AntTerrain(), split, 200).tolist()}  # pyright: ignore
              for split in ("train", "test", "ood")}
    assert levels["train"] == {(k, level) for k in range(4) for level in range(1, 9)}
    assert levels["test"] <= levels["train"]
    assert levels["ood"] == {(k, level) for k in range(4) for level in (9, 10)}


@BOTH
def test_rows_on_all_terrains_live_as_each_would_alone_bit_for_bit(on_terrain: Family) -> None:
    tasks = torch.stack([task(kind, difficulty, 0.7) for kind in KINDS
                         for difficulty in (0.0, 0.3, 0.6, 0.8, 1.0)])
    engine = BatchEngine(on_terrain, len(tasks))
    engine.set_tasks(tasks)
    frame = engine.default_frame()
    frame.qpos[:, 0] += 3.0  # well beyond the platform
    frame.qpos[:, 2 if isinstance(on_terrain, AntTerrain) else 1] += 1.0  # m, above the stairs
    engine.reset(np.ones(len(tasks), bool), Start(frame.qpos, frame.qvel))
    models = [engine.compile(row) for row in tasks]
    alone = [mujoco.MjData(model) for model in models]
    for qpos, data in zip(frame.qpos, alone, strict=True):
        data.qpos = qpos
    for control in np.random.default_rng(0).uniform(-0.3, 0.3, (200, engine.model.nu)):
        engine.step(np.tile(control, (len(tasks), 1)))
        for model, data in zip(models, alone, strict=True):
            data.ctrl = control
            mujoco.mj_step(model, data, engine.substeps)
    ends = engine.frame().qpos
    assert all(np.array_equal(end, data.qpos) for end, data in
               zip(ends, alone, strict=True))
    assert len(np.unique(ends, axis=0)) == 17  # the four at difficulty 0 are one and the same


@BOTH
def test_no_robot_falls_through_the_ground_in_its_episode(on_terrain: Family) -> None:
    field = ANT if isinstance(on_terrain, AntTerrain) else WALKER
    up = 2 if isinstance(on_terrain, AntTerrain) else 1
    engine = BatchEngine(on_terrain, 4)
    engine.set_tasks(torch.stack([task(kind, 1.0) for kind in KINDS]))
    frame = engine.default_frame()
    frame.qpos[:, 0] += 8.0
    frame.qpos[:, up] += [2.6, 0.5, 3.2, 0.5]  # m; the stairs are 2.6 m up there
    engine.reset(np.ones(4, bool), Start(frame.qpos, frame.qvel))
    lives = np.ones(4, bool)
    for control in np.random.default_rng(0).uniform(-1, 1, (150, 4, engine.model.nu)):
        engine.step(control)
        lives &= ~on_terrain.terminated(engine.frame())
        place = engine.frame().qpos[lives][:, [0, up]]
        for (x, z), kind in zip(place, np.array(KINDS)[lives], strict=True):
            lowest = heights(field, kind, 10).min(0)
            assert z > np.interp(x, field.columns(kind), lowest)
            assert -3 < x < field.ahead


def test_an_ant_falls_on_a_flat_field_as_on_a_plane() -> None:
    ends = []
    for family in (AntTerrain(), AntDir()):
        spec = family.spec()
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC  # a pyramid's axes differ between the two
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_step(model, data, 500)  # 5 s: it falls on its feet, which slip outward
        ends.append(data.qpos.copy())
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


@BOTH
def test_the_grounds_friction_alone_decides_how_a_robot_slips(on_terrain: Family) -> None:
    model = BatchEngine(on_terrain, 1).compile(task("slope", 0.0, 0.5))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 300)
    assert data.ncon and {contact.friction[0] for contact in data.contact} == {0.5}


# Rewards and falls.


def ants(places: list[tuple[float, float]], tilt: float = 0.0) -> Frame:
    """Ants at these places, tilted [rad] about the x axis."""
    qpos = np.zeros((len(places), 15))
    qpos[:, :2], qpos[:, 2] = places, 9.0
    qpos[:, 3], qpos[:, 4] = math.cos(tilt / 2), math.sin(tilt / 2)
    return Frame(qpos, np.zeros((len(places), 14)), {})


def walkers(x: float, below: float, pitch: float = 0.0) -> Frame:
    """A walker and the distance [m] from its torso to the ground, along the torso."""
    qpos = np.zeros((1, 9))
    qpos[0, :3] = x, 7.0, pitch
    return Frame(qpos, np.zeros((1, 9)), {"altimeter": np.array([[below]])})


def test_an_ant_earns_its_way_ahead_one_for_being_alive_less_the_effort() -> None:
    # (0.1, 0.05) m in 0.05 s: 2 m/s ahead. Eight motors at 0.5 cost 0.5 x 8 x 0.25 = 1.
    reward = AntTerrain().reward(ants([(0, 0)]), np.full((1, 8), 0.5),
                                 ants([(0.1, 0.05)]), task("gaps", 0.5)[None].numpy())
    assert reward.tolist() == pytest.approx([2 + 1 - 1])


def test_a_walker_earns_its_way_ahead_one_for_being_alive_less_the_effort() -> None:
    # 0.032 m in 0.016 s: 2 m/s. Six motors at 0.5 cost 0.001 x 6 x 0.25.
    reward = WalkerTerrain().reward(walkers(0, 1), np.full((1, 6), 0.5),
                                    walkers(0.032, 1), task("gaps", 0.5)[None].numpy())
    assert reward.tolist() == pytest.approx([3 - 0.0015])


def test_an_ant_has_fallen_when_it_lies_on_its_back_however_high_it_is() -> None:
    for degrees, fallen in ((0, False), (89, False), (91, True), (180, True)):
        assert AntTerrain().terminated(ants([(0, 0)], math.radians(degrees))).item() is fallen


def test_an_ant_has_left_the_track_a_metre_from_the_fields_edge() -> None:
    places = [(-2.9, 0), (-3.1, 0), (0, 3.9), (0, -4.1), (58.9, 0), (59.1, 0)]
    assert AntTerrain().terminated(ants(places)).tolist() == [False, True] * 3


def test_a_walker_has_fallen_below_80_cm_above_the_ground_or_beyond_a_radian() -> None:
    # Leaning by 0.9 rad, 1.3 m along the torso are 1.3 x 0.6216 = 0.808 m above level ground.
    for below, pitch, fallen in ((0.81, 0.0, False), (0.79, 0.0, True), (2.01, 0.0, True),
                                 (1.3, 0.9, False), (1.28, 0.9, True), (1.9, 0.99, False),
                                 (1.9, -1.01, True), (-1.0, 0.0, True)):
        assert WalkerTerrain().terminated(walkers(0, below, pitch)).item() is fallen
    assert WalkerTerrain().terminated(walkers(-3.1, 1.2)).item()


def test_a_walkers_altimeter_measures_the_ground_and_not_its_own_legs() -> None:
    engine = BatchEngine(WalkerTerrain(), 2)
    engine.set_tasks(torch.stack([task("stairs", 1.0), task("gaps", 1.0)]))
    frame = engine.default_frame()
    # Upright at 3.2 m, over the fourth step, 0.8 m high; and over the first gap, 2.5 to 3.05 m.
    frame.qpos[:, :2] = [[3.2, 3.0], [2.8, 1.25]]
    engine.reset(np.ones(2, bool), Start(frame.qpos, frame.qvel))
    found = engine.frame().sensors["altimeter"][:, 0]
    assert found.tolist() == pytest.approx([3.0 - 0.8, 1.25 + 0.5], abs=1e-5)


@BOTH
def test_a_robot_far_up_a_slope_sees_what_it_would_see_on_the_platform(on_terrain: Family) -> None:
    engine = BatchEngine(on_terrain, 1)
    there = engine.default_frame()
    up = Frame(there.qpos.copy(), there.qvel, {})
    up.qpos[:, 0] += 10.0
    if isinstance(on_terrain, AntTerrain):
        up.qpos[:, 1:3] += 3.0
    else:
        up.qpos[:, 1] += 3.0
    assert np.array_equal(on_terrain.observe(there), on_terrain.observe(up))
