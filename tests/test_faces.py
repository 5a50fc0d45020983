"""The gymnasium and SB3 faces keep to their libraries' contracts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.vec_env import VecMonitor

from metarl.envs import FAMILIES
from metarl.envs.camera import Camera
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.faces import WorldEnv, WorldVectorEnv
from metarl.envs.family import default_task, named_task, sample_tasks
from metarl.envs.reach import Reach
from metarl.envs.sb3 import SB3VecEnv
from metarl.errors import UserError

MODES = list(AutoresetMode)


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def can_draw() -> bool:
    try:
        mujoco.Renderer(mujoco.MjSpec().compile(), 8, 8).close()
    except Exception:  # as many kinds as there are ways to lack OpenGL
        return False
    return True


def batch(name: str, rows: int, mode: AutoresetMode, **options: Any) -> WorldVectorEnv:
    made = gymnasium.make_vec(
        f"metarl/{name}-v1", num_envs=rows, autoreset_mode=mode, horizon=4, **options
    )
    assert isinstance(made, WorldVectorEnv)
    return made


def actions(env: VectorEnv, steps: int) -> np.ndarray:
    """(T, N, A) in [-1, 1]."""
    shape = (steps, *env.action_space.shape)  # pyright: ignore
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


# One world.


def test_gymnasiums_checks_pass_without_a_warning(name: str) -> None:
    env = gymnasium.make(f"metarl/{name}-v1").unwrapped
    check_env(env, skip_render_check=not can_draw())
    env.close()


def test_sb3s_checks_pass_without_a_warning(name: str) -> None:
    check_env_for_sb3(WorldEnv(name))


def test_a_seed_brings_a_task_and_a_start_that_a_plain_reset_does_not_bring_back(
    name: str,
) -> None:
    env = WorldEnv(name)
    first, _ = env.reset(seed=7)
    task = env.task
    second, _ = env.reset()
    assert env.task == task and not np.array_equal(first, second)
    others = []
    for seed in range(8, 16):  # there may be no more than two tasks
        env.reset(seed=seed)
        others.append(env.task)
    assert any(other != task for other in others)
    assert np.array_equal(env.reset(seed=7)[0], first) and env.task == task
    assert task == named_task(FAMILIES[name](), sample_tasks(FAMILIES[name](), "train", 1, 7)[0])


def test_a_world_without_a_seed_draws_one() -> None:
    a, b = WorldEnv("cheetah-vel"), WorldEnv("cheetah-vel")
    a.reset()
    b.reset()
    assert a.task != b.task


def test_a_new_task_is_drawn_on_demand() -> None:
    env = WorldEnv("cheetah-vel")
    env.reset(seed=7)
    for i in (1, 2):
        env.reset(options={"task": "new"})
        assert env.task == named_task(CheetahVel(), sample_tasks(CheetahVel(), "train", 3, 7)[i])


def test_a_fixed_task_outlives_seeds_until_a_new_one_is_asked_for() -> None:
    env = gymnasium.make("metarl/reach-v1", task={"payload": 1.5}).unwrapped
    assert isinstance(env, WorldEnv)
    wanted = {**named_task(Reach(), default_task(Reach())), "payload": 1.5}
    env.reset(seed=3)
    assert env.task == wanted
    env.reset(options={"task": {"payload": 0.5}})
    env.reset(seed=4)
    assert env.task == {**wanted, "payload": 0.5}
    env.reset(options={"task": "new"})
    env.reset(seed=5)
    assert env.task == named_task(Reach(), sample_tasks(Reach(), "train", 1, 5)[0])


def test_the_payload_of_a_fixed_task_reaches_the_physics() -> None:
    ends = []
    for payload in (0.0, 2.0):
        env = WorldEnv("reach", task={"payload": payload})
        env.reset(seed=0)
        ends.append([env.step(np.ones(7, np.float32))[0] for _ in range(5)][-1])
    assert not np.array_equal(*ends)


def test_family_options_are_keyword_arguments() -> None:
    env = gymnasium.make("metarl/cheetah-vel-v1", horizon=3, classic_observation=True)
    assert env.observation_space.shape == (20,)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_success_is_told_when_an_episode_ends() -> None:
    env = WorldEnv("reach", horizon=2)
    env.reset(seed=0)
    infos = [env.step(np.zeros(7, np.float32))[4] for _ in range(2)]
    assert infos[0] == {}
    assert infos[1]["success"] in (0.0, 1.0) and infos[1]["distance [m]"] > 0


def test_divergence_truncates_and_is_told() -> None:
    env = WorldEnv("cheetah-vel")
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.full(6, np.nan, np.float32))
    assert (reward, terminated, truncated, info) == (0.0, False, True, {"diverged": True})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"family": "rech"}, "unknown family 'rech'; did you mean reach?"),
        ({"family": "slider:Slider"}, "'slider:Slider' is not imported here; import it, and give "
                                      "one in place of its name: Slider()"),
        ({"family": Reach}, "Reach is a class; make one: Reach()"),
        ({"family": "reach", "horzon": 3},
         "unknown option of reach 'horzon'; did you mean horizon?"),
        ({"family": "reach", "task": {"paylod": 1.0}},
         "unknown parameter of reach 'paylod'; did you mean payload?"),
        ({"family": "reach", "task": {"payload": "x"}},
         "payload='x' is not a number; give it in kg"),
        ({"family": "reach", "render_mode": "human"},
         "unknown render mode 'human'; known: rgb_array"),
    ],
)
def test_a_wrong_argument_is_answered_in_one_line(
    arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError) as error:
        WorldEnv(**arguments)
    assert str(error.value) == reason


@pytest.mark.skipif(not can_draw(), reason="needs OpenGL")
def test_a_picture_shows_the_world_move(name: str) -> None:
    env = WorldEnv(name, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(5):
        env.step(np.ones(env.action_space.shape or (), np.float32))
    second = env.render()
    assert first.shape == second.shape == (480, 640, 3) and first.dtype == np.uint8
    assert first.std() > 10 and not np.array_equal(first, second)
    env.close()
    env.close()


# Batches.


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_lives_what_single_worlds_live(name: str, mode: AutoresetMode) -> None:
    ours = batch(name, 3, mode)
    theirs = gymnasium.make_vec(
        f"metarl/{name}-v1", num_envs=3, vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode}, horizon=4,
    )
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space
    assert np.array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    for t, action in enumerate(actions(ours, 11)):
        if mode is AutoresetMode.DISABLED and t in (4, 8):
            mask = np.ones(3, bool)
            assert np.array_equal(
                ours.reset(options={"reset_mask": mask})[0],
                theirs.reset(options={"reset_mask": mask})[0],
            )
        assert_same(list(ours.step(action)), list(theirs.step(action)))
    theirs.close()


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), [b[key] for key in a]
    if isinstance(a, np.ndarray) and a.dtype != object:
        assert a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, list | np.ndarray):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a is None and b is None


@pytest.mark.parametrize("mode", MODES)
def test_a_row_depends_on_its_own_seed_alone(name: str, mode: AutoresetMode) -> None:
    many, one = batch(name, 4, mode), batch(name, 1, mode)
    assert np.array_equal(many.reset(seed=5)[0][2], one.reset(seed=7)[0][0])
    for t, action in enumerate(actions(many, 7)):
        if mode is AutoresetMode.DISABLED and t == 4:
            assert np.array_equal(many.reset()[0][2], one.reset()[0][0])
        here, there = many.step(action), one.step(action[2:3])
        assert all(np.array_equal(a[2], b[0]) for a, b in zip(here[:4], there[:4], strict=True))


def test_the_step_after_an_end_resets_and_ignores_the_action() -> None:
    env = batch("cheetah-vel", 2, AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    for action in actions(env, 4):
        _, _, _, truncated, _ = env.step(action)
    assert truncated.all()
    obs, reward, terminated, truncated, infos = env.step(np.full((2, 6), np.nan, np.float32))
    assert reward.tolist() == [0, 0] and not terminated.any() and not truncated.any()
    assert np.isfinite(obs).all() and infos == {}


def test_resetting_within_the_step_hands_back_the_last_observation() -> None:
    env = batch("reach", 2, AutoresetMode.SAME_STEP)
    other = batch("reach", 2, AutoresetMode.DISABLED)
    env.reset(seed=0)
    other.reset(seed=0)
    for action in actions(env, 4):
        obs, _, _, _, infos = env.step(action)
        last, _, _, _, final = other.step(action)
    assert infos["_final_obs"].all() and np.array_equal(np.stack(infos["final_obs"]), last)
    assert not np.array_equal(obs, last)
    assert np.array_equal(infos["final_info"]["success"], final["success"])
    assert infos["final_info"]["_success"].all()


def test_a_masked_reset_leaves_options_and_the_other_rows_alone() -> None:
    env = batch("cheetah-vel", 3, AutoresetMode.DISABLED)
    env.reset(seed=0)
    obs = env.step(actions(env, 1)[0])[0]
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    again, _ = env.reset(options=options)
    assert options == {"reset_mask": mask} and mask.tolist() == [False, True, False]
    assert np.array_equal(again[[0, 2]], obs[[0, 2]]) and not np.array_equal(again[1], obs[1])


def test_without_autoreset_an_ended_row_must_be_reset() -> None:
    env = batch("cheetah-vel", 2, AutoresetMode.DISABLED)
    env.reset(seed=0)
    for action in actions(env, 4):
        env.step(action)
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(UserError, match=r"rows \[1\] have ended"):
        env.step(action)


@pytest.mark.parametrize("mask", [np.zeros(2, bool), np.ones(3, bool), np.ones(2)])
def test_a_reset_mask_must_be_boolean_of_the_right_length_and_not_empty(mask: np.ndarray) -> None:
    with pytest.raises(UserError, match="reset_mask"):
        batch("cheetah-vel", 2, AutoresetMode.DISABLED).reset(options={"reset_mask": mask})


def test_tasks_can_be_set_and_chosen_row_by_row() -> None:
    env = batch("cheetah-vel", 3, AutoresetMode.NEXT_STEP)
    env.set_tasks(np.array([[0.5], [1.0], [1.5]]))
    env.reset(seed=0)
    assert env.get_tasks().tolist() == [[0.5], [1.0], [1.5]]
    env.reset(options={"tasks": [None, {"velocity": 2.0}, "new"]})
    drawn = sample_tasks(CheetahVel(), "train", 1, seed=2)[0].tolist()  # row 2's seed is 0 + 2
    assert env.get_tasks().tolist() == [[0.5], [2.0], drawn]
    mask = np.array([True, False, False])
    env.reset(options={"tasks": np.array([[3.0]] * 3), "reset_mask": mask})
    assert env.get_tasks().tolist() == [[3.0], [2.0], drawn]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_returned_arrays_are_the_callers_own(name: str, mode: AutoresetMode) -> None:
    env, other = (batch(name, 2, mode) for _ in range(2))
    env.reset(seed=0)[0][:] = 9
    other.reset(seed=0)
    for t, action in enumerate(actions(env, 8)):
        if t == 2:
            action[0] = np.nan  # ends the row with the observation that the last step returned
        mine, expected = env.step(action), other.step(action)
        assert_same(list(mine), list(expected))
        for array in mine[:4]:
            array[:] = True


@pytest.mark.skipif(not can_draw(), reason="needs OpenGL")
def test_a_batch_draws_each_row() -> None:
    env = WorldVectorEnv("reach", 2, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert pictures is not None and not np.array_equal(*pictures)
    env.close()


@pytest.mark.skipif(not can_draw(), reason="needs OpenGL")
def test_a_row_is_drawn_in_its_own_size() -> None:
    camera = None
    for radius in (0.1, 0.5):
        spec = mujoco.MjSpec()
        spec.worldbody.add_geom(size=[radius, 0, 0])
        spec.worldbody.add_camera(name="view", pos=[0, -2, 0], xyaxes=[1, 0, 0, 0, 0, 1])
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        camera = camera or Camera(model)
        picture = camera.picture(model, data)
        # At 2 m, 0.1 m is a small spot in the middle and 0.5 m is much of the picture's height.
        assert (picture[240 - 100, 320] > 0).any() == (radius == 0.5)
    assert camera is not None
    camera.close()


# SB3.


def test_sb3_learns_on_a_batch() -> None:
    env = VecMonitor(SB3VecEnv(batch("reach", 4, AutoresetMode.SAME_STEP)))
    agent = PPO("MlpPolicy", env, n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu")
    before = [p.clone() for p in agent.policy.parameters()]
    agent.learn(64)
    after = agent.policy.parameters()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert [episode["l"] for episode in agent.ep_info_buffer or ()] == [4] * 16


def test_sb3_sees_the_end_of_an_episode_as_a_time_limit() -> None:
    env = SB3VecEnv(batch("reach", 2, AutoresetMode.SAME_STEP))
    env.seed(3)
    first = env.reset()
    for action in actions(env.env, 4):
        obs, _, done, infos = env.step(action)
    assert done.all()
    assert isinstance(obs, np.ndarray)
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and info["is_success"] in (0.0, 1.0)
        assert not np.array_equal(info["terminal_observation"], obs[i])
    assert not np.array_equal(first, env.reset())


def test_sb3_options_reach_the_tasks() -> None:
    batched = batch("cheetah-vel", 2, AutoresetMode.SAME_STEP)
    env = SB3VecEnv(batched)
    env.set_options([{"task": {"velocity": 1.25}}, {}])
    env.seed(3)
    env.reset()
    assert batched.get_tasks()[0] == 1.25 and batched.get_tasks()[1] != 1.25


def test_sb3_refuses_a_batch_that_resets_later() -> None:
    with pytest.raises(UserError, match="SameStep"):
        SB3VecEnv(batch("reach", 2, AutoresetMode.NEXT_STEP))


def test_without_a_screen_it_says_how_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    env = WorldEnv("reach", render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(UserError, match="set MUJOCO_GL=egl"):
        env.render()


def test_tasks_given_as_numbers_are_as_possible_as_those_given_by_name() -> None:
    env = WorldVectorEnv("reach", 2)
    tasks = env.get_tasks()
    env.set_tasks(tasks)
    assert np.array_equal(env.get_tasks(), tasks)
    gain = [p.name for p in Reach().parameters].index("gain")
    for value in (-1.0, np.nan):
        wrong = tasks.copy()
        wrong[1, gain] = value
        with pytest.raises(UserError, match=r"gain=(-1\.0|nan) is impossible"):
            env.set_tasks(wrong)
        with pytest.raises(UserError, match=r"gain=(-1\.0|nan) is impossible"):
            env.reset(options={"tasks": list(wrong)})
    with pytest.raises(UserError, match="one entry for each of the 2 rows, got 3"):
        env.set_tasks(np.concatenate([tasks, tasks[:1]]))


def test_an_opengl_that_mujoco_does_not_know_is_one_line() -> None:
    # In a process of its own: MuJoCo looks once, while it is imported.
    said = subprocess.run(
        [sys.executable, "-m", "metarl", "list"], capture_output=True, text=True,
        env={**os.environ, "MUJOCO_GL": "bogus"}, cwd=Path(__file__).parents[1], check=False)
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert said.stderr.startswith("metarl: MUJOCO_GL=bogus is no OpenGL that MuJoCo can use here")
