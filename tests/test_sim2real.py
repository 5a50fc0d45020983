"""Training with the flaws of a real arm: what they do, by hand, and that a key decides them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import train

from metarl.__main__ import main
from metarl.envs.arms import ARMS
from metarl.envs.family import default_task
from metarl.envs.kinematics import forward
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.sim2real import FlawedWorlds, History, Sim2Real, make_worlds
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.robot.worlds import Authority
from metarl.testing.direct import rehearsal

STEP = 50.0  # ms, of reach: 10 substeps of 5 ms
JOINTS = 7


def actions(rows: int, steps: int = 8) -> torch.Tensor:
    source = np.random.default_rng(0)
    return torch.from_numpy(source.uniform(-1, 1, (steps, rows, JOINTS))).float()


def lived(worlds: Worlds, chosen: torch.Tensor, index: int = 0) -> torch.Tensor:
    """The first obs and every next_obs (T + 1, N, O)."""
    worlds.set_tasks(default_task(worlds.family).expand(worlds.rows, -1))
    first = worlds.reset(draws=Draws.of(0, 0, torch.arange(index, index + worlds.rows)))
    return torch.stack([first, *(worlds.step(action).next_obs for action in chosen)])


def flawed(rows: int = 2, **flaws: object) -> FlawedWorlds:
    made = make_worlds(Reach(), rows, Sim2Real(**flaws))  # pyright: ignore[reportArgumentType]
    assert isinstance(made, FlawedWorlds)
    return made


def test_without_flaws_the_worlds_are_the_plain_ones() -> None:
    assert type(make_worlds(Reach(), 1, Sim2Real())) is Worlds


def test_flaws_that_are_all_but_none_change_no_bit() -> None:
    # Substep by substep, through every buffer.
    plain, slow = Worlds(Reach(), 2), flawed(backlash=(0.0, 1e-300))
    np.testing.assert_array_equal(lived(plain, actions(2)), lived(slow, actions(2)))


def test_an_action_that_is_a_control_step_late_acts_a_control_step_later() -> None:
    chosen = actions(2)
    late = lived(flawed(action_latency=(STEP, STEP)), chosen)
    shifted = torch.cat([torch.zeros(1, 2, JOINTS), chosen[:-1]])
    np.testing.assert_array_equal(late, lived(Worlds(Reach(), 2), shifted))


def test_half_a_control_step_of_latency_splits_the_step() -> None:
    # 25 ms of standing still, then 25 ms at 1 rad/s share: half of the way of the set-point.
    worlds = flawed(action_latency=(STEP / 2, STEP / 2))
    lived(worlds, torch.ones(1, 2, JOINTS))
    _, data = worlds.engine.row(0)
    start = flawed(action_latency=(STEP / 2, STEP / 2))
    lived(start, torch.ones(0, 2, JOINTS))
    _, before = start.engine.row(0)
    speed = worlds.engine.model.actuator_ctrlrange[:, 1]
    np.testing.assert_allclose(data.act - before.act, 0.025 * speed, rtol=1e-9)


def test_an_old_observation_is_that_of_a_step_ago_while_rewards_are_of_now() -> None:
    chosen, plain = actions(2), Worlds(Reach(), 2)
    new, old = lived(plain, chosen), lived(flawed(observation_latency=(STEP, STEP)), chosen)
    np.testing.assert_array_equal(old[1:], new[:-1])
    np.testing.assert_array_equal(old[0], new[0])  # before the first step nothing moved
    one, other = plain, flawed(observation_latency=(STEP, STEP))
    for worlds in (one, other):
        lived(worlds, chosen[:3])
    torch.testing.assert_close(one.step(chosen[3]).reward, other.step(chosen[3]).reward,
                               rtol=0, atol=0)


def test_noise_has_its_standard_deviation_and_moves_the_flange_with_the_joints() -> None:
    chosen = actions(64)
    clean, noisy = lived(Worlds(Reach(), 64), chosen), lived(
        flawed(64, noise=0.01, speed_noise=0.1), chosen)
    error = (noisy - clean).double()
    # 9 x 64 x 7 = 4032 draws: a standard deviation is known to about 1 %.
    assert error[:, :, :7].std().item() == pytest.approx(0.01, rel=0.05)
    assert error[:, :, 7:14].std().item() == pytest.approx(0.1, rel=0.05)
    told = forward(ARMS["fr3"], noisy[3, :, :7].double().numpy()).position
    np.testing.assert_allclose(told, noisy[3, :, -3:], rtol=0, atol=1e-5)


def test_a_tool_is_steered_by_the_measured_pose_not_by_the_true_one() -> None:
    arm = ARMS["fr3"]
    for flaws in (Sim2Real(noise=0.05), Sim2Real(observation_latency=(STEP, STEP))):
        worlds = FlawedWorlds(Push(), 2, flaws)
        for _ in range(3):
            worlds.step(torch.ones(2, 2))
        felt = worlds._felt
        assert felt is not None and not np.array_equal(felt.qpos, worlds.frame.qpos)
        axes, last = felt.sensors["xaxis"].reshape(2, -1, 3)[:, :7], worlds.frame.sensors
        turning = forward(arm, felt.qpos[:, :7]).jacobian[:, 3:]
        np.testing.assert_allclose(axes.mT, turning, atol=1e-7)
        assert not np.array_equal(felt.sensors["xaxis"], last["xaxis"])


def test_backlash_hides_a_motion_smaller_than_itself() -> None:
    # From standing still, half of the play goes by before a measured joint follows.
    chosen = torch.ones(6, 1, JOINTS)
    true, told = (lived(w, chosen)[:, 0, :7]
                  for w in (Worlds(Reach(), 1), flawed(1, backlash=(0.02, 0.02))))
    behind = (true - told)[-1]
    np.testing.assert_allclose(behind, 0.01, rtol=1e-5)
    assert ((true - told) > -1e-6).all() and (told[1] - told[0]).abs().min() == 0


def test_jitter_makes_control_steps_longer_and_shorter() -> None:
    worlds = flawed(4, jitter=0.3)
    times = []
    lived(worlds, actions(4, 0))
    for action in actions(4):
        worlds.step(action)
        times.append([worlds.engine.row(i)[1].time for i in range(4)])
    steps = np.diff(np.array([[0.0] * 4, *times]), axis=0)
    assert steps.min() >= 0.035 - 1e-9 and steps.max() <= 0.065 + 1e-9
    assert len(np.unique(steps.round(6))) > 3


def test_past_actions_stand_behind_the_observation() -> None:
    worlds, chosen = flawed(history=2), 2 * actions(2)  # told as they act: clamped to [-1, 1]
    obs = lived(worlds, chosen)
    assert worlds.shapes.obs == 17 + 2 * JOINTS
    assert (obs[0, :, 17:] == 0).all()
    told = torch.cat([chosen[4], chosen[5]], 1).clamp(-1, 1)
    np.testing.assert_array_equal(obs[6, :, 17:], told)
    np.testing.assert_array_equal(obs[:, :, :17], lived(Worlds(Reach(), 2), chosen))
    worlds.reset(torch.tensor([True, False]))
    assert (worlds.obs[0, 17:] == 0).all() and (worlds.obs[1, 17:] != 0).any()


ALL = {"action_latency": (0.0, 60.0), "observation_latency": (0.0, 40.0), "noise": 1e-3,
       "speed_noise": 1e-2, "backlash": (0.0, 0.01), "jitter": 0.2, "history": 1}


def test_a_row_s_flaws_depend_on_its_own_task_alone() -> None:
    chosen = actions(3)
    many, alone = lived(flawed(3, **ALL), chosen), lived(flawed(1, **ALL), chosen[:, 2:], index=2)
    np.testing.assert_array_equal(many[:, 2:], alone)
    assert not torch.equal(many[:, 0, -JOINTS - 1], many[:, 1, -JOINTS - 1])


def test_every_episode_has_flaws_of_its_own() -> None:
    worlds = make_worlds(Reach(horizon=3), 1, Sim2Real(noise=0.01))
    worlds.reset(draws=Draws.of(0, 0, 1))
    firsts = []
    for _ in range(2):
        true = torch.from_numpy(worlds.family.observe(worlds.frame)).float()
        firsts.append(worlds.obs - true)
        for _ in range(3):
            worlds.step(torch.zeros(1, JOINTS))
    assert not torch.equal(*firsts)


def test_the_arm_tells_past_actions_as_training_did() -> None:
    arm = rehearsal(Reach(), default_task(Reach())[None], Authority(1.0), history=2)
    assert arm.shapes == flawed(1, history=2).shapes
    arm.reset(draws=Draws.of(0, 0, 1))
    steps = [arm.step(action) for action in 2 * actions(1, 3)]
    np.testing.assert_array_equal(
        steps[-1].next_obs[0, 17:], (2 * actions(1, 3))[1:].clamp(-1, 1).flatten())
    assert History(1, 0, 7).beside(torch.ones(1, 3)).shape == (1, 3)


@pytest.mark.parametrize("flaws", [
    {"action_latency": (5.0, 1.0)}, {"noise": -1.0}, {"jitter": 1.0}, {"history": -1},
    {"backlash": (0.0, float("nan"))}, {"noise": float("nan")}, {"speed_noise": float("inf")},
    {"action_latency": (0.0, 1e300)}, {"history": 10**9},
])
def test_a_flaw_that_cannot_be_is_refused(flaws: dict[str, object]) -> None:
    with pytest.raises(UserError, match="sim2real"):
        Sim2Real(**flaws)  # pyright: ignore[reportArgumentType]


WORDS = ("--sim2real.action-latency", "0", "60", "--sim2real.noise", "0.001",
         "--sim2real.jitter", "0.1", "--sim2real.history", "2")


def test_a_resumed_run_meets_the_same_flaws(tmp_path: Path) -> None:
    weights = []
    for name, stops in (("whole", [2]), ("broken", [1, 2])):
        root = tmp_path / name
        assert main(train(root, stops[0], *WORDS)) == 0
        (run,) = [file.parent for file in root.glob("*/*/*/config.json")]
        for more in stops[1:]:
            assert main(["resume", str(run), "--steps", str(15 * more)]) == 0
        newest = max(run.glob("checkpoints/*"))
        weights.append((newest / "agent.safetensors").read_bytes())
        said = json.loads((run / "config.json").read_text())["sim2real"]
        assert said["action_latency"] == [0, 60] and said["history"] == 2
        # What looks at the run knows of its flaws: else 17 numbers would meet weights for 31.
        assert main(["evaluate", str(run), "--tasks", "2", "--episodes", "1", "--json"]) == 0
        assert main(["adapt", str(run), "--episodes", "1", "--json"]) == 0
    assert weights[0] == weights[1]
