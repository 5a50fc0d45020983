"""What is edited in a model from outside, where a servo or a body has a way of its own."""

import mujoco
import pytest

from metarl.envs.edits import Edit

MODEL = """
<mujoco>
  <worldbody>
    <body name="box"><freejoint/><geom name="box" type="box" size="0.1 0.1 0.1"/></body>
    <body><joint name="j" type="slide"/><geom size="0.1" mass="0.5"/></body>
  </worldbody>
  <actuator>
    <position name="critical" joint="j" kp="40" dampratio="1"/>
    <position name="damped" joint="j" kp="40" kv="3"/>
  </actuator>
</mujoco>
"""


def edited(edit: Edit, value: float) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(MODEL)
    edit.prepare(spec)
    edit.apply(spec, value)
    return spec.compile()


@pytest.mark.parametrize(("factor", "damping"), [(1.0, 2 * 20**0.5), (4.0, 2 * 80**0.5)])
def test_a_damping_ratio_stays_where_the_gain_changes(factor: float, damping: float) -> None:
    # Critical damping of 0.5 kg is 2 sqrt(40 * 0.5), and with four times the gain twice that.
    model = edited(Edit("actuator", ("*",), "gain", scales=True), factor)
    assert model.actuator("critical").biasprm[:3].tolist() == pytest.approx(
        [0, -40 * factor, -damping])
    assert model.actuator("damped").biasprm[:3].tolist() == [0, -40 * factor, -3 * factor]


def test_a_geom_may_be_moved_within_its_body() -> None:
    # In its middle, a box needs no inertia beside the diagonal; off it, it does: one layout holds
    # both.
    edit = Edit("geom", ("box",), "pos", axis=0)
    middle, aside = edited(edit, 0.0), edited(edit, 0.02)
    assert middle.nC == aside.nC and aside.body("box").ipos[0] == 0.02
