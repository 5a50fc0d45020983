"""Success that must last: worlds count the control steps in a row for which a family `holds`."""

from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from metarl.envs.arrays import Array
from metarl.envs.contract import verdicts
from metarl.envs.family import Family, Frame, Parameter, Random, Start
from metarl.envs.worlds import Worlds
from metarl.randomness import Draws

MODEL = """
<mujoco>
  <worldbody>
    <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" mass="2"/></body>
  </worldbody>
  <actuator><velocity joint="slide" kv="100" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


@dataclass(frozen=True)
class Forward(Family):
    """A cart that must go forward for the last three steps; its direction is its action's."""

    horizon: int = 6

    name = "forward"
    control_step = 0.05
    hold = 3
    parameters = (Parameter("nothing", "", "", (0.0, 1.0), physics=False),)

    def spec(self) -> mujoco.MjSpec:
        spec = mujoco.MjSpec.from_string(MODEL)
        spec.option.timestep = 0.01
        return spec

    def reset(self, frame: Frame, task: Array, random: Random) -> Start:
        return Start(frame.qpos, frame.qvel)

    def observe(self, frame: Frame) -> Array:
        return frame.qvel

    def reward(self, before: Frame, action: Array, after: Frame, task: Array) -> Array:
        return after.qvel[:, 0]

    def holds(self, frame: Frame, task: Array) -> Array:
        return frame.qvel[:, 0] > 0


def lives(family: Family, *rows: str) -> Tensor:
    """The successes (T, N) of carts that go forward at every "+" and back at every "-"; at a "!"
    the action is not a number."""
    signs = {"+": 1.0, "-": -1.0, "!": torch.nan}
    action = torch.tensor([[signs[sign] for sign in row] for row in rows])
    worlds = Worlds(family, len(rows))
    worlds.reset(draws=Draws.of(0, 0, len(rows)))
    nothing = torch.full((len(rows),), torch.nan)
    return torch.stack([worlds.step(a[:, None]).outcome.get("success", nothing) for a in action.T])


def test_success_is_what_held_to_the_end_for_long_enough() -> None:
    success = lives(Forward(), "++++++", "---+++", "----++", "+++++-", "+++-++", "++-+++")
    assert success[-1].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert success[:-1].isnan().all()


def test_an_episode_counts_from_its_own_start() -> None:
    success = lives(Forward(horizon=2), "++++++")  # three episodes of two steps each
    assert success[1::2].tolist() == [[0.0]] * 3


def test_a_row_that_fails_loses_its_count_and_leaves_the_others_theirs() -> None:
    success = lives(Forward(horizon=3), "++!++-", "++++++")
    assert success[2].tolist() == [0.0, 1.0]
    assert success[5].tolist() == [0.0, 1.0]
    # Two steps after the failure, which would be the third and fourth if it did not count anew.
    assert lives(Forward(horizon=2), "+!++")[3].tolist() == [0.0]


def test_a_row_outside_the_mask_keeps_its_count() -> None:
    worlds = Worlds(Forward(horizon=3), 2)
    worlds.reset(draws=Draws.of(0, 0, 2))
    forward, first = torch.ones(2, 1), torch.tensor([True, False])
    worlds.step(-forward)
    worlds.step(forward)
    # The second row waits, going forward, while the first ends with two of three steps; so does it.
    assert worlds.step(forward, mask=first).outcome["success"][0] == 0.0
    assert worlds.step(forward, mask=~first).outcome["success"][1] == 0.0


def test_the_contract_asks_for_one_truth_a_row() -> None:
    class Flat(Forward):
        def holds(self, frame: Frame, task: Array) -> Array:
            return frame.qvel > 0

    problems = [verdict.problem for verdict in verdicts(Flat()) if verdict.problem]
    assert any("`holds` gives (4, 1)" in problem for problem in problems)
    assert not any("`holds`" in verdict.problem for verdict in verdicts(Forward()))
