"""A slip in a family of one's own is told by what is missing, before anything is trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metarl.envs import FAMILIES
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.faces import WorldEnv, WorldVectorEnv
from metarl.envs.family import Family, Parameter
from metarl.envs.form import check_form
from metarl.envs.sb3 import SB3VecEnv
from metarl.envs.worlds import Worlds
from metarl.errors import UserError

_GOAL = Parameter("goal", "m", "where to go", (-1.0, 1.0), physics=False)


def family_with(**changed: Any) -> type[Family]:
    """A family that is sound but for what is changed; None takes a member away."""
    sound = {name: getattr(CheetahVel, name) for name in (
        "name", "parameters", "control_step", "horizon", "spec", "reset", "observe", "reward")}
    members = {name: value for name, value in (sound | changed).items() if value is not None}
    return type("Mine", (Family,), members)


@pytest.mark.parametrize(("changed", "told"), [
    ({"observe": None}, "mine:Mine has no observe; write def observe(self, frame)"),
    ({"reward": None, "rewards": CheetahVel.reward}, "did you mean rewards to be it?"),
    ({"name": None}, "mine:Mine has no name"),
    ({"observe": lambda self, frame, task: frame.qpos},
     "observe takes (self, frame, task); it must take (self, frame)"),
    ({"outcome": lambda self, frame: {}},
     "outcome takes (self, frame); it must take (self, frame, task)"),
    ({"parameters": _GOAL}, "parameters must be a tuple of Parameter"),
    ({"parameters": ()}, "with at least one"),
    ({"parameters": (Parameter("mass", "kg", "its mass", (2.0, 0.5)),)},
     "train of mass is (2.0, 0.5); it must be (low, high)"),
    ({"parameters": (Parameter("mass", "kg", "its mass", (0.5, 2.0), (2.0, 3.0)),)},  # pyright: ignore
     "ood of mass is 2.0; it must be ranges, as in ((low, high),)"),
    ({"horizon": 40.0}, "horizon is 40.0; it must be a whole number of control steps"),
    ({"parameters": (Parameter("mass", None, "its mass", (0.5, 2.0)),)},  # pyright: ignore
     "unit of mass is None; it must be a text"),
    ({"hold": 5}, "hold is 5, but nothing says what must hold; write def holds(self, frame, task)"),
    ({"control_step": -0.05}, "control_step is -0.05; it must be a number of seconds, above 0"),
])
def test_what_a_family_lacks_is_told(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        check_form(family_with(**changed), "mine:Mine")
    assert told in str(refused.value)


def test_every_family_has_the_form() -> None:
    check_form(family_with(), "mine:Mine")
    check_form(family_with(observe=lambda self, frame, noisy=False: frame.qpos), "mine:Mine")
    narrow = Parameter("mass", "kg", "its mass", (np.float32(1), np.int64(2)))  # pyright: ignore
    check_form(family_with(parameters=[narrow]), "mine:Mine")
    for name, cls in FAMILIES.items():
        check_form(cls, name)


@pytest.mark.parametrize(("observe", "told"), [
    (lambda qpos: torch.as_tensor(qpos), "`observe` gives a torch.Tensor (2, 9) for 2 rows; "
                                         "it must be (2, O) of numpy"),
    (lambda qpos: None, "`observe` gives None for 2 rows"),
    (lambda qpos: qpos[0], "`observe` gives (9,) for 2 rows; it must be (2, O)"),
])
def test_an_observation_that_is_none_is_told(observe: Callable[..., Any], told: str) -> None:
    class Mine(CheetahVel):
        def observe(self, frame: Any) -> Any:
            return observe(frame.qpos)

    with pytest.raises(UserError) as refused:
        Worlds(Mine(), 2, threads=1)
    assert told in str(refused.value)


@pytest.mark.parametrize(("reward", "told"), [
    (lambda task: task, "`reward` gives (2, 1) for 2 rows; it must be (2,)"),
    (lambda task: float(task.sum()), "`reward` gives a float for 2 rows"),
])
def test_a_reward_that_no_agent_could_learn_from_is_told(
    reward: Callable[..., Any], told: str
) -> None:
    class Mine(CheetahVel):
        def reward(self, before: Any, action: Any, after: Any, task: Any) -> Any:
            return reward(task)

    worlds = Worlds(Mine(), 2, threads=1)
    with pytest.raises(UserError) as refused:
        worlds.step(torch.zeros(2, 6))
    assert told in str(refused.value)


@pytest.mark.parametrize(("bad", "name"), [("nan", "reward"), ("inf", "observe")])
def test_what_is_not_finite_ends_its_row_and_is_told_once(
    bad: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Mine(CheetahVel):
        def observe(self, frame: Any) -> Any:
            seen = super().observe(frame)
            if name == "observe" and (frame.qpos[1, 0] == 5):
                seen[1, 3] = float(bad)
            return seen

        def reward(self, before: Any, action: Any, after: Any, task: Any) -> Any:
            return np.array([1.0, float(bad) if name == "reward" else 1.0, 1.0])

    worlds = Worlds(Mine(), 3, threads=1)
    frame = worlds.engine.frame
    if name == "observe":  # the second row is far away after each step, before it is reset
        def placed() -> Any:
            found = frame()
            found.qpos[1, 0] = 5 if worlds._step[1] else 0
            return found

        worlds.engine.frame = placed
    for _ in range(2):
        steps = worlds.step(torch.zeros(3, 6))
        assert worlds.diverged.tolist() == steps.last.tolist() == [False, True, False]
        assert steps.reward.tolist() == [1.0, 0.0, 1.0]
        assert steps.next_obs.isfinite().all() and worlds.obs.isfinite().all()
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"`{name}` gives what is not finite, in row 1 first" in told


def test_of_a_row_that_diverges_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(CheetahVel):
        def reward(self, before: Any, action: Any, after: Any, task: Any) -> Any:
            return after.qvel.sum(1)

    worlds = Worlds(Mine(), 2, threads=1)
    worlds.engine._qvel[1] = torch.inf
    steps = worlds.step(torch.zeros(2, 6))
    assert worlds.diverged.tolist() == [False, True] and steps.reward[1] == 0
    assert not [record for record in caplog.records if record.name == "metarl"]


def test_actions_of_another_shape_are_told() -> None:
    one, batch = WorldEnv("cheetah-vel"), WorldVectorEnv("cheetah-vel", 2)
    one.reset(seed=0)
    batch.reset(seed=0)
    with pytest.raises(UserError, match=r"\(1, 3\); those of cheetah-vel must be \(1, 6\)"):
        one.step(np.zeros(3, np.float32))
    with pytest.raises(UserError, match=r"\(6,\); those of cheetah-vel must be \(2, 6\)"):
        batch.step(np.zeros(6, np.float32))


def test_sb3_refuses_what_is_no_batch() -> None:
    with pytest.raises(UserError, match="'reach' is no batch of worlds; make one: WorldVectorEnv"):
        SB3VecEnv("reach")  # pyright: ignore[reportArgumentType]
