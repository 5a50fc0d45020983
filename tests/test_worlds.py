"""Worlds: rows that never touch one another, episodes that follow one another."""

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

import metarl.randomness
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Family, sample_tasks
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws, Role, generator
from metarl.trial import Steps


def make(family: Family, index: list[int], horizon: int = 6) -> Worlds:
    """Worlds with these of the family's train tasks, at the start of a trial."""
    family = dataclasses.replace(family, horizon=horizon)  # pyright: ignore
    worlds = Worlds(family, len(index), threads=2)
    worlds.set_tasks(sample_tasks(family, "train", max(index) + 1)[index])
    worlds.reset(draws=Draws.of(0, 0, torch.tensor(index)))
    return worlds


def actions(worlds: Worlds, steps: int) -> Tensor:
    """(T, N, A) in [-0.1, 0.1]: gentle, so that no robot on legs falls meanwhile."""
    shape = (steps, worlds.rows, worlds.shapes.action)
    return 0.2 * torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.1


def same(a: Steps, b: Steps, rows: list[int]) -> bool:
    names = ("obs", "action", "reward", "next_obs", "terminated", "last")
    return all(torch.equal(getattr(a, n)[rows], getattr(b, n)[rows]) for n in names)


@pytest.mark.parametrize("speed", [1e12, float("nan"), float("inf")])
def test_a_diverging_row_is_ended_and_leaves_the_others_alone(
    family: Family, speed: float
) -> None:
    sound, broken = make(family, [0, 1, 2], 100), make(family, [0, 1, 2], 100)
    for t, action in enumerate(actions(sound, 15)):
        if t == 5:
            broken.engine._qvel[1] = speed
        expected, steps = sound.step(action), broken.step(action)
        assert same(expected, steps, [0, 2])
        assert broken.diverged.tolist() == [False, t == 5, False]
        assert steps.last.tolist() == [False, t == 5, False]
        assert not steps.terminated.any()
        assert broken.obs.isfinite().all() and steps.next_obs.isfinite().all()
        if t == 5:
            assert steps.reward[1] == 0 and torch.equal(steps.next_obs[1], steps.obs[1])
            measured = {name: value[1].item() for name, value in steps.outcome.items()}
            assert measured.pop("success", 0.0) == 0.0  # what cannot be measured is none
            assert all(math.isnan(value) for value in measured.values())


@pytest.mark.parametrize("speed", [1e12, float("nan")])
def test_a_row_that_diverges_again_is_ended_again(family: Family, speed: float) -> None:
    worlds, flagged = make(family, [0, 1, 2], 100), []
    for t, action in enumerate(actions(worlds, 16)):
        if t in (3, 9, 10, 13):
            worlds.engine._qvel[1] = speed
        steps = worlds.step(action)
        assert steps.last.tolist() == worlds.diverged.tolist()
        flagged += [t] * int(worlds.diverged[1])
    assert flagged == [3, 9, 10, 13]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_action_that_is_not_finite_ends_its_row_alone(family: Family, value: float) -> None:
    sound, broken = make(family, [0, 1, 2], 100), make(family, [0, 1, 2], 100)
    for t, action in enumerate(actions(sound, 10)):
        expected = sound.step(action)
        if t == 5:
            action = action.clone()
            action[1, 0] = value
        steps = broken.step(action)
        assert same(expected, steps, [0, 2])
        assert broken.diverged.tolist() == steps.last.tolist() == [False, t == 5, False]
        assert steps.action.isfinite().all() and broken.obs.isfinite().all()


def test_actions_beyond_one_act_as_one_and_are_recorded_as_they_were(family: Family) -> None:
    a, b = make(family, [0]), make(family, [0])
    action = actions(a, 1)[0].sign()
    at_limit, beyond = a.step(action), b.step(5 * action)
    assert torch.equal(at_limit.next_obs, beyond.next_obs)
    assert torch.equal(at_limit.reward, beyond.reward)
    assert torch.equal(beyond.action, 5 * action)


def test_a_row_lives_the_same_beside_others_and_alone(family: Family) -> None:
    many, alone = make(family, [4, 0, 3, 1, 2]), make(family, [3])
    for action in actions(many, 20):  # three episodes of 6 steps, and 2 steps
        steps, own = many.step(action), alone.step(action[2:3])
        assert all(
            torch.equal(getattr(steps, n)[2], getattr(own, n)[0])
            for n in ("obs", "next_obs", "reward", "last")
        )
    assert torch.equal(many.obs[2], alone.obs[0])


def test_a_time_limit_is_no_terminal_and_the_next_episode_begins_elsewhere(
    family: Family,
) -> None:
    worlds = make(family, [0, 1])
    first = worlds.obs
    for t, action in enumerate(actions(worlds, 12)):
        steps = worlds.step(action)
        assert steps.last.tolist() == [t % 6 == 5] * 2
        assert not steps.terminated.any()
        assert torch.equal(steps.next_obs, worlds.obs) == (t % 6 != 5)
        if t == 5:
            second = worlds.obs
    assert not torch.equal(first[0], second[0]) and not torch.equal(second[0], worlds.obs[0])


def test_measures_are_taken_at_an_episodes_end_alone(family: Family) -> None:
    worlds = make(family, [0, 1])
    outcomes = [worlds.step(action).outcome for action in actions(worlds, 6)]
    assert outcomes[:5] == [{}] * 5
    assert all(not value.isnan().any() for value in outcomes[5].values())


def test_a_masked_reset_leaves_the_other_rows_alone(family: Family) -> None:
    worlds = make(family, [0, 1, 2])
    for action in actions(worlds, 3):
        worlds.step(action)
    before, state = worlds.obs.clone(), worlds.engine.snapshot().state
    obs = worlds.reset(torch.tensor([False, True, False]))
    assert torch.equal(obs[[0, 2]], before[[0, 2]]) and not torch.equal(obs[1], before[1])
    assert np.array_equal(worlds.engine.snapshot().state[[0, 2]], state[[0, 2]])
    # Row 1 begins its 6 steps when the others have 3 left.
    lasts = [worlds.step(action).last.tolist() for action in actions(worlds, 6)]
    assert lasts[2] == [True, False, True] and lasts[5] == [False, True, False]


def test_a_plain_reset_begins_another_episode(family: Family) -> None:
    worlds = make(family, [0, 1])
    first = worlds.obs.clone()
    second = worlds.reset().clone()
    third = worlds.reset(torch.tensor([True, False]))
    assert not torch.equal(first[0], second[0]) and not torch.equal(second[0], third[0])
    assert torch.equal(second[1], third[1])


def test_a_diverged_row_keeps_its_last_observation_until_it_is_reset(family: Family) -> None:
    worlds = make(family, [0, 1])
    action = actions(worlds, 1)[0]
    worlds.step(action)
    last = worlds.obs.clone()
    worlds.engine._qvel[0] = 1e12
    worlds.step(action, autoreset=False)
    assert torch.equal(worlds.obs[0], last[0])
    assert torch.equal(worlds.reset(torch.tensor([False, True]))[0], last[0])


def test_a_masked_step_moves_the_masked_rows_alone(family: Family) -> None:
    worlds = make(family, [0, 1, 2])
    before = worlds.obs.clone()
    action = actions(worlds, 1)[0]
    action[2] = torch.nan
    steps = worlds.step(action, torch.tensor([True, False, False]))
    assert torch.equal(steps.next_obs[1:], before[1:])
    assert not torch.equal(steps.next_obs[0], before[0])
    assert steps.reward[0] != 0 and steps.reward[1:].tolist() == [0, 0]
    assert not steps.last.any() and not worlds.diverged.any()


def test_a_reset_draws_for_the_rows_it_resets_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worlds, drawn = make(Reach(), [0, 1, 2]), []
    original = metarl.randomness._Source.at

    def counted(
        source: metarl.randomness._Source, seed: int, iteration: int, task: int, role: Role,
        count: int,
    ) -> np.random.Generator:
        drawn.append(task)
        return original(source, seed, iteration, task, role, count)

    monkeypatch.setattr(metarl.randomness._Source, "at", counted)
    worlds.reset(torch.tensor([False, True, False]))
    assert drawn == [1]


def test_a_row_draws_the_numbers_of_its_own_key() -> None:
    rows = Draws.of(5, 6, 2, replicas=3).normal(Role.RESET, 7, 4)
    for task in (0, 1):
        source = generator(5, 6, task, Role.RESET, 7)
        expected = torch.from_numpy(source.standard_normal((3, 4))).float()
        assert torch.equal(rows[3 * task: 3 * task + 3], expected)
    found = {generator(seed, iteration, task, Role(role), count).random()
             for seed, iteration, task, role, count in itertools.product((0, 1), repeat=5)}
    assert len(found) == 2**5


def test_equal_draws_give_equal_trials_and_other_ones_do_not(family: Family) -> None:
    a, b = make(family, [0, 1]), make(family, [0, 1])
    for action in actions(a, 8):
        a.step(action)
    assert not torch.equal(a.obs, b.obs)
    assert torch.equal(a.reset(draws=Draws.of(0, 0, 2)), b.reset(draws=Draws.of(0, 0, 2)))
    assert not torch.equal(a.obs, b.reset(draws=Draws.of(0, 1, 2)))


def test_replicas_of_a_task_start_differently() -> None:
    worlds = Worlds(CheetahVel(), 4)
    obs = worlds.reset(draws=Draws.of(0, 0, 2, replicas=2))
    assert len(obs.unique(dim=0)) == 4


def test_global_random_states_are_neither_used_nor_changed(family: Family) -> None:
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    worlds = make(family, [0, 1])
    for action in actions(worlds, 8):
        worlds.step(action)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (str(np.random.get_state()), random.getstate())


def test_an_action_scale_narrows_what_reaches_the_motors() -> None:
    narrow, wide = Worlds(CheetahVel(action_scale=0.1), 1), Worlds(CheetahVel(), 1)
    action = torch.full((1, 6), 0.5)
    a, b = narrow.step(action), wide.step(0.1 * action)
    torch.testing.assert_close(a.next_obs, b.next_obs)
    torch.testing.assert_close(a.reward, b.reward)


def test_an_action_beyond_one_still_counts_under_a_scale_until_the_motors_are_at_their_limit(
) -> None:
    narrow, wide = Worlds(CheetahVel(action_scale=0.1), 1), Worlds(CheetahVel(), 1)
    action = torch.tensor([[5.0, -5.0, 10.0, 30.0, -30.0, 0.0]])
    a, b = narrow.step(action), wide.step(torch.tensor([[0.5, -0.5, 1.0, 1.0, -1.0, 0.0]]))
    torch.testing.assert_close(a.next_obs, b.next_obs)
    torch.testing.assert_close(a.reward, b.reward)


def test_rows_in_different_episodes_draw_what_each_draws_in_its_own() -> None:
    # Tasks 0 and 1 with 2 rows each; rows 0 and 3 are in episode 1, row 1 in episode 2, 2 in none.
    draws = Draws.of(0, 0, 2, replicas=2)
    together = draws.only(torch.tensor([True, True, False, True])).uniform(
        Role.RESET, np.array([1, 2, 1, 1]), 3)
    one, two = (draws.uniform(Role.RESET, count, 3) for count in (1, 2))
    assert torch.equal(together[[0, 3]], one[[0, 3]])
    assert torch.equal(together[1], two[1])
    assert not together[2].any()
    assert not torch.equal(one[1], two[1])
