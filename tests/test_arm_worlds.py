"""The arm as worlds with one row: what was trained in simulation runs on it unchanged."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.collect import Tasks, collect
from metarl.envs.arms import ARMS
from metarl.envs.family import Random, default_task, named_task
from metarl.envs.insert import Insert
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws
from metarl.robot.arm import ArmError, Fault
from metarl.robot.limits import Limits
from metarl.robot.link import Phase
from metarl.robot.measured import Measured
from metarl.robot.worlds import Aborted, ArmWorlds, Authority, NeedsHuman, Ready, Rules
from metarl.testing.body import Body, Flaws
from metarl.testing.direct import Direct, rehearsal

FULL, FLAWLESS = Authority(speed=1.0), Flaws()
# metarl.load(RUN).save(POLICY), where RUN is seed 1 of: python -m experiments.studies.reach
POLICY = Path(__file__).parent / "policies" / "reach_fr3"


def task(family: Reach | Push, **values: float) -> torch.Tensor:
    named = named_task(family, default_task(family)) | values
    return torch.tensor([[named[p.name] for p in family.parameters]], dtype=torch.float64)


def pair(family: Reach | Push, hidden: torch.Tensor, speed: float) -> tuple[Worlds, ArmWorlds]:
    """Simulated worlds and a flawless double, at the same start and in the same task."""
    real = rehearsal(family, hidden, Authority(speed))
    real.rules = Rules(settled=1e-3)
    real.reset(draws=Draws.of(0, 0, 1))
    simulated = Worlds(family, 1)
    simulated.set_tasks(hidden)
    simulated.reset(draws=Draws.of(0, 0, 1))
    return simulated, real


def live(worlds: Worlds | ArmWorlds, steps: int) -> tuple[torch.Tensor, float]:
    """The family's expert at work: observations (T, O) and the return."""
    obs, total = [], 0.0
    for _ in range(steps):
        action = worlds.family.expert(worlds.frame, worlds.tasks.numpy())
        assert action is not None
        step = worlds.step(torch.from_numpy(action))
        obs.append(step.next_obs[0])
        total += step.reward.item()
    return torch.stack(obs), total


@pytest.mark.parametrize("arm", ["fr3", "ur5e"])
def test_the_same_policy_goes_the_same_way_on_the_arm(arm: str) -> None:
    family = Reach(arm=arm)  # pyright: ignore[reportArgumentType]
    simulated, real = pair(family, task(family, payload=0.0, damping=1.0, gain=1.0), speed=1.0)
    (seen, wanted), (felt, got) = live(simulated, 40), live(real, 40)
    # The guard's 10 ms and the start's 1 mrad are what differs.
    assert (seen - felt)[:, -3:].norm(dim=1).max() < 0.005  # m, of the flange
    assert (seen - felt)[:, :-3].abs().max() < 0.05  # rad, and rad/s
    assert got == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("arm", ["fr3", "ur5e", "so101"])
def test_at_a_quarter_of_the_speed_the_arm_goes_the_same_way_in_four_times_the_time(
    arm: str,
) -> None:
    family = Reach(arm=arm)  # pyright: ignore[reportArgumentType]
    simulated, real = pair(family, default_task(family)[None], speed=0.25)
    began = real.clock.now()
    (felt, _), lasted = live(real, 40), real.clock.now() - began
    seen, _ = live(simulated, 40)
    assert lasted == pytest.approx(40 * 0.05 / 0.25)
    # Its servos would lag a quarter as far behind, and swing none: they follow one that does.
    assert (seen - felt)[:, -3:].norm(dim=1).max() < 0.002  # m
    assert (seen - felt)[-1].abs().max() < 0.002
    # Told as those of the full speed: the simulation's, not a quarter of them.
    joints = simulated.frame.qpos.shape[1]
    speeds = [run[:, joints : 2 * joints].abs().max().item() for run in (seen, felt)]
    assert speeds[1] == pytest.approx(speeds[0], rel=0.02)


def test_what_an_arm_weighs_is_not_taken_for_a_lag() -> None:
    family = Reach(arm="so101")
    link = Direct(Body("so101", Flaws(payload=0.15, damping=1.7, gain=0.7)))
    worlds = ArmWorlds(family, link, Authority(0.25), link)
    worlds.reset(draws=Draws.of(0, 0, 1))
    worlds.set_tasks(default_task(family)[None])
    for _ in range(2):
        live(worlds, 25)
    model, joints = link.body.model, link.body.joints
    # Of an impedance servo: damping, its own and the joint's, over stiffness.
    damping = model.dof_damping[:joints] - model.actuator_biasprm[:joints, 2]
    lag = damping / -model.actuator_biasprm[:joints, 1]
    assert worlds._reference.lag == pytest.approx(lag, abs=0.01)
    assert lag == pytest.approx(np.full(5, 0.082), abs=1e-3), "far from 0.034 s, the family's"


def test_push_runs_on_the_arm_with_the_object_seen_by_perception() -> None:
    family = Push()
    simulated, real = pair(family, task(family), speed=1.0)
    (seen, wanted), (_, got) = live(simulated, 60), live(real, 60)
    apart = simulated.frame.qpos[0, 7:9] - real.frame.qpos[0, 7:9]
    assert np.linalg.norm(apart) < 0.02  # m, pushed
    assert (seen[-1, 4:6] - seen[0, 4:6]).norm() > 0.02  # it did move
    assert got == pytest.approx(wanted, rel=0.1)  # contacts, in other time steps


# What it refuses, and when it stops.


def reach(flaws: Flaws = FLAWLESS, authority: Authority = FULL, **more: Any) -> ArmWorlds:
    link = Direct(Body("fr3", flaws), delay=more.pop("delay", 0.0))
    return ArmWorlds(Reach(horizon=5), link, authority, link, **more)


def test_a_reset_ends_at_the_family_s_start_and_the_arm_holds_there() -> None:
    worlds = reach(Flaws(payload=1.0, friction=1.0))
    for _ in range(3):  # from where the last episode ended
        obs = worlds.reset(draws=Draws.of(1, 0, 1))
        home = torch.tensor(ARMS["fr3"].home)
        assert (obs[0, :7] - home).abs().max() < 0.05 + worlds.rules.settled
        assert worlds.report.phase is not Phase.LATCHED
        for _ in range(5):
            steps = worlds.step(torch.ones(1, 7), autoreset=False)
        assert steps.last.all() and not steps.terminated.any()  # a time limit
        assert worlds.link.report(1.0).phase is Phase.HOLDING


def test_an_arm_that_does_not_come_to_its_start_asks_for_a_person() -> None:
    asked: list[str] = []
    worlds = reach(ask=lambda needed: bool(asked.append(needed.reason)))
    assert isinstance(worlds.link, Direct)
    worlds.link.body.torque(False)
    with pytest.raises(ArmError, match="needs a person: joint"):
        worlds.reset(draws=Draws.of(0, 0, 1))
    assert len(asked) == 1 and "see what is in the way" in asked[0]


def test_an_object_out_of_place_asks_for_a_person() -> None:
    family = Push()
    _, real = pair(family, task(family), speed=1.0)
    start = family.reset(real.measured.engine.default_frame(), real.tasks.numpy(),
                         Random(Draws.of(0, 0, 1), 0))
    assert real.bring(start) == Ready()
    start.qpos[0, 7] += 0.2
    x, y = start.qpos[0, 7:9].tolist()
    assert real.bring(start) == NeedsHuman(f"put object at ({x:.3f}, {y:.3f}) m")


def test_a_fault_stops_the_rollout_and_the_arm_holds() -> None:
    worlds = reach()
    worlds.reset(draws=Draws.of(0, 0, 1))
    assert isinstance(worlds.link, Direct)
    worlds.link.fault = Fault("overload joint3", "joint 3 is overloaded")
    with pytest.raises(Aborted, match="joint 3 is overloaded"):
        worlds.step(torch.zeros(1, 7))


def test_a_command_that_expires_latches_and_aborts() -> None:
    worlds = reach()
    worlds.reset(draws=Draws.of(0, 0, 1))
    worlds.step(torch.zeros(1, 7))
    worlds.clock.sleep(0.15)  # the policy thinks longer than two of its periods
    with pytest.raises(Aborted, match="latched: no command came in time"):
        worlds.step(torch.zeros(1, 7))


def test_an_action_that_is_not_finite_never_reaches_the_arm() -> None:
    worlds = reach()
    worlds.reset(draws=Draws.of(0, 0, 1))
    before = worlds.link.report(1.0).seq
    with pytest.raises(Aborted, match="not finite"):
        worlds.step(torch.full((1, 7), torch.nan))
    assert worlds.link.report(1.0).seq == before


def test_an_old_state_aborts() -> None:
    worlds = reach(delay=0.15)
    with pytest.raises(ArmError, match=r"the newest state is 0\.\d+ s old"):
        worlds.reset(draws=Draws.of(0, 0, 1))


def test_a_rollout_of_late_steps_is_invalid() -> None:
    worlds = reach()
    worlds.reset(draws=Draws.of(0, 0, 1))
    worlds.step(torch.zeros(1, 7))
    assert worlds.label == ""
    worlds.clock.sleep(0.03)  # of 0.05 s, in thought: within the command's 0.1 s
    worlds.step(torch.zeros(1, 7))
    assert worlds.label == "1 of 2 control steps began late"


def test_a_rollout_that_the_guard_mostly_decides_is_invalid() -> None:
    worlds = reach(Flaws(friction=90.0), rules=Rules(settled=9.0))  # it does not follow
    worlds.reset(draws=Draws.of(0, 0, 1))
    for _ in range(5):
        worlds.step(torch.ones(1, 7), autoreset=False)
    assert worlds.label.startswith("the guard changed the target in")


def test_a_jump_that_the_guard_rounds_off_is_no_trouble() -> None:
    link = Direct(Body("fr3"), Limits.of(Direct(Body("fr3")).spec))
    worlds = ArmWorlds(Reach(horizon=5), link, Authority(0.1), link)
    worlds.reset(draws=Draws.of(0, 0, 1))
    seen = set[str]()
    for sign in (1, -1, 1, -1, 1):
        worlds.step(sign * torch.ones(1, 7), autoreset=False)
        seen |= set(worlds.report.limits)
    assert worlds.label == "", seen


def test_the_say_of_a_blended_policy_grows_from_nothing_to_all() -> None:
    # With a blend of 4 steps the first one has 1/5 of its say, the fifth all of it.
    assert [Authority(0.1, blend=4).share(i) for i in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert Authority(0.1).share(0) == 1.0
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(ArmError):
            Authority(wrong)


def test_an_arm_that_is_not_the_policy_s_is_refused() -> None:
    with pytest.raises(ArmError, match="drives the joints"):
        ArmWorlds(Reach(), Direct(Body("ur5e")), FULL)
    with pytest.raises(ArmError, match="force"):
        Measured(Insert(), Direct(Body("fr3")).spec, seen=True)
    with pytest.raises(ArmError, match="must see object"):
        Measured(Push(), Direct(Body("fr3")).spec)


def test_a_trial_of_several_episodes_is_collected_on_the_arm() -> None:
    policy = metarl.load(POLICY)
    link = Direct(Body("fr3"))
    worlds = ArmWorlds(Reach(), link, FULL, link)
    tasks = Tasks(task(Reach(), payload=0.0), torch.zeros(1, dtype=torch.long))
    trial, _ = collect(worlds, policy.agent, tasks, 2, Draws.of(0, 0, 1), noise=False)
    distances = trial.outcomes(2)["distance [m]"][:, 0]
    assert distances[0] > 0.05 > 0.02 > distances[1]  # it searches, and then it knows


def test_what_happens_is_kept() -> None:
    kept: list[tuple[str, Mapping[str, Any]]] = []
    worlds = reach(log=lambda topic, what: kept.append((topic, what)))
    worlds.reset(draws=Draws.of(0, 0, 1))
    for _ in range(5):
        worlds.step(torch.full((1, 7), 0.1), autoreset=False)
    assert [topic for topic, _ in kept] == ["start"] + ["step"] * 5 + ["episode"]
    speeds = 0.25 * ARMS["fr3"].speeds
    np.testing.assert_allclose(kept[1][1]["requested"], 0.1 * speeds, rtol=1e-6)
    assert kept[-1][1]["invalid"] == "" and kept[-1][1]["steps"] == 5


def test_a_policy_that_infers_its_task_does_at_a_quarter_of_the_speed_what_it_does_at_all() -> None:
    policy, hidden = metarl.load(POLICY), task(Reach(), payload=1.0, goal_y=0.2)
    for speed in (1.0, 0.25):
        worlds = rehearsal(Reach(), hidden, Authority(speed))
        trial, _ = collect(worlds, policy.agent, Tasks(hidden, torch.zeros(1, dtype=torch.long)),
                           2, Draws.of(0, 0, 1), noise=False)
        assert trial.outcomes(2)["distance [m]"][1, 0] < 0.02, speed
