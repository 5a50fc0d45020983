"""humanoid-dir moves as Gymnasium's Humanoid does, and pays what its paper's code pays."""

import math
import warnings

import gymnasium
import numpy as np
import pytest
import torch

from metarl.envs.engine import BatchEngine
from metarl.envs.family import Frame, Random, Start, sample_tasks
from metarl.envs.humanoid_dir import HumanoidDir
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws


def humanoids(centres: list[tuple[float, float]], height: float = 1.4) -> Frame:
    """Humanoids whose centres of mass are at these places."""
    count = len(centres)
    qpos, centre = np.zeros((count, 24)), np.zeros((count, 3))
    qpos[:, 2], centre[:, :2] = height, centres
    return Frame(qpos, np.zeros((count, 23)), {"centre_of_mass": centre})


def test_a_humanoid_follows_gymnasiums_bit_for_bit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gymnasium.make("Humanoid-v5", terminate_when_unhealthy=False)
    env.reset(seed=3)
    data = env.unwrapped.data  # pyright: ignore
    engine = BatchEngine(HumanoidDir(), 2)
    engine.reset(np.ones(2, bool), Start(np.tile(data.qpos, (2, 1)),
                                         np.tile(data.qvel, (2, 1))))
    source = np.random.default_rng(0)
    for _ in range(200):  # 3 s: it falls on the floor and lies on its limbs
        action = source.uniform(-0.4, 0.4, 17).astype(np.float32)
        env.step(action)
        engine.step(np.tile(action, (2, 1)))
        frame = engine.frame()
        assert np.array_equal(frame.qpos[1], data.qpos)
        assert np.array_equal(frame.qvel[1], data.qvel)
    assert data.qpos[2] < 0.5
    env.close()


def test_a_humanoid_earns_a_quarter_of_its_way_by_the_timestep_5_for_being_alive_less_the_effort(
) -> None:
    # (0.03, 0.015) m, by 0.003 s: (10, 5), of which a quarter counts: (2.5, 1.25). Along 0: 2.5;
    # along pi: -2.5; along pi/2: 1.25. Seventeen controls of 0.4 x 0.5 cost 0.1 x 17 x 0.04.
    task = np.array([[0.0], [math.pi], [math.pi / 2]])
    before, after = humanoids([(1, 1)] * 3), humanoids([(1.03, 1.015)] * 3)
    reward = HumanoidDir().reward(before, np.full((3, 17), 0.5), after, task)
    assert reward.tolist() == pytest.approx([7.5 - 0.068, 2.5 - 0.068, 6.25 - 0.068])


def test_a_metre_per_second_earns_one_and_a_quarter() -> None:
    engine = BatchEngine(HumanoidDir(), 1)
    assert (engine.substeps, engine.model.opt.timestep) == (5, 0.003)
    moved = humanoids([(engine.substeps * engine.model.opt.timestep, 0)])  # 1 m/s x 0.015 s
    reward = HumanoidDir().reward(
        humanoids([(0, 0)]), np.zeros((1, 17)), moved, np.zeros((1, 1))
    )
    assert reward.item() == pytest.approx(5 + 1.25)


def test_the_centre_of_mass_is_that_of_the_whole_body() -> None:
    worlds = Worlds(HumanoidDir(), 1)
    for _ in range(20):
        worlds.step(torch.full((1, 17), 0.7))
    model, data = worlds.engine.row(0)
    mass = model.body_mass[1:]
    mean = mass @ data.xipos[1:] / mass.sum()
    assert worlds.frame.sensors["centre_of_mass"][0].tolist() == pytest.approx(mean.tolist())
    assert np.abs(mean - data.qpos[:3]).max() > 0.05  # the torso itself is elsewhere


def test_a_humanoid_has_fallen_below_a_metre_or_above_two() -> None:
    heights = (0.99, 1.01, 1.99, 2.01)
    fallen = [HumanoidDir().terminated(humanoids([(0, 0)], z)).item() for z in heights]
    assert fallen == [True, False, False, True]


def test_a_humanoid_starts_within_a_hundredth_of_its_pose() -> None:
    frame = humanoids([(0, 0)] * 500)
    start = HumanoidDir().reset(frame, np.zeros((500, 1)), Random(Draws.of(0, 0, 500), 0))
    for noise in (start.qpos - frame.qpos, start.qvel):
        assert 0.0099 < abs(noise).max() <= 0.01  # U(-0.01, 0.01)


def test_no_direction_is_drawn_more_often_than_others() -> None:
    tasks = sample_tasks(HumanoidDir(), "train", 400)
    quarters = torch.histc(tasks, 4, 0, 2 * math.pi)
    assert quarters.min() > 70  # of 100 expected, with a standard deviation of 8.7
