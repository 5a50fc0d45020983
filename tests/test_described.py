"""A family out of an MJCF file and a YAML: its arithmetic, its mistakes, and its runs."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
import yaml
from test_mjcf import tetrahedron
from tiny import STEPS, TINY

from metarl import api, checkpoint
from metarl.__main__ import main
from metarl.envs import described
from metarl.envs.contract import verdicts
from metarl.envs.described import Described
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Frame, default_task, named_task, parse_task, sample_tasks
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws
from metarl.run import find

EXAMPLES = Path(__file__).parents[1] / "experiments" / "examples"
MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <asset>
    <mesh name="low" file="meshes/low.stl"/>
    <mesh name="high" file="meshes/high.stl"/>
    <hfield name="flat" nrow="2" ncol="2" size="1 1 0.1 0.1" elevation="0 0 0 0"/>
    <hfield name="rough" nrow="3" ncol="3" size="1 1 0.2 0.1" elevation="0 1 0 1 0 1 0 1 0"/>
  </asset>
  <worldbody>
    <geom name="ground" type="hfield" hfield="flat" pos="0 0 -1"/>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.5" stiffness="2" armature="0.1"
             frictionloss="0.3"/>
      <geom name="box" type="box" size="0.1 0.2 0.3" mass="2" friction="0.8 0.01 0.002"/>
      <geom name="bit" type="mesh" mesh="low" mass="0.5"/>
      <site name="tip" pos="0 0 0.3"/>
      <body name="pole">
        <joint name="hinge" axis="0 1 0"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 0.5" size="0.02"/>
      </body>
    </body>
    <body name="puck" pos="0 0 1"><freejoint/><geom size="0.05"/></body>
  </worldbody>
  <actuator>
    <position name="servo" joint="slide" kp="40" kv="4" ctrlrange="-1 1"/>
    <muscle name="muscle" joint="hinge" lengthrange="0 1" ctrlrange="0 1"/>
  </actuator>
  <sensor>
    <framepos name="tip" objtype="site" objname="tip"/>
    <framepos name="puck" objtype="body" objname="puck"/>
    <framelinvel name="speed" objtype="site" objname="tip"/>
    <jointpos name="angle" joint="hinge"/>
  </sensor>
  <keyframe><key name="home" qpos="0.5 0.2 0 0 1 1 0 0 0" qvel="0.1 0 0 0 0 0 0 0"/></keyframe>
</mujoco>
"""
BASE: dict[str, Any] = {
    "control_step": 0.05, "horizon": 4,
    "reward": [{"term": "distance", "sensor": "tip", "to": ["goal", 0, 0.3], "weight": -1}],
    "vary": {"goal": {"range": [0, 1]}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes/low.stl").write_bytes(tetrahedron())
    (tmp_path / "meshes/high.stl").write_bytes(tetrahedron(2))
    (tmp_path / "cart.xml").write_text(MODEL)
    return tmp_path


def family(folder: Path, **changes: Any) -> Described:
    """A family on the cart, of BASE with these keys changed."""
    return written(folder, yaml.safe_dump({**BASE, **changes}, sort_keys=False))


def written(folder: Path, text: str) -> Described:
    (folder / "vary.yaml").write_text(text)
    cls: Any = described.read(folder / "cart.xml", folder / "vary.yaml")
    return cls()


def varying(folder: Path, **vary: Any) -> Described:
    """A family in which these vary beside the goal."""
    return family(folder, vary={**BASE["vary"], **vary})


# What it means.


def frame(**sensors: list[float]) -> Frame:
    """Two rows in the same state: sensors as given."""
    rows = {name: np.array([values] * 2, float) for name, values in sensors.items()}
    return Frame(np.zeros((2, 9)), np.zeros((2, 8)), rows)


@pytest.mark.parametrize(("terms", "value"), [
    # The tip is at (3, 0, 4.3); from (goal, 0, 0.3) with goal 0 that is 3-4-5.
    ([{"term": "distance", "sensor": "tip", "to": ["goal", 0, 0.3], "weight": -2}], -10.0),
    ([{"term": "distance", "sensor": "tip", "to": ["goal", 0, 0.3], "weight": -1, "log": 0.5}],
     -5 - 0.5 * math.log(5.01)),
    # The puck is at (3, 0, 0.3): 4 below the tip.
    ([{"term": "distance", "sensor": "tip", "to": "puck", "weight": 1}], 4.0),
    ([{"term": "value", "sensor": "tip", "axis": "z", "weight": 0.5}], 2.15),
    # The speed along x is 1.5: 0.5 short of 2.
    ([{"term": "error", "sensor": "speed", "axis": "x", "to": 2, "weight": -1}], -0.5),
    ([{"term": "error", "sensor": "angle", "to": "goal", "weight": -3}], -0.75),
    # The action is (0.6, -0.8).
    ([{"term": "control", "weight": -0.1}], -0.1),
    ([{"term": "alive", "weight": 0.25}, {"term": "control", "weight": 1}], 1.25),
])
def test_the_reward_is_the_sum_that_was_written(
    terms: list[dict[str, Any]], value: float, folder: Path
) -> None:
    # The goal is used by success where the reward leaves it out.
    success = {"sensor": "tip", "to": ["goal", 0, 0], "within": 1}
    made = family(folder, reward=terms, success=success)
    after = frame(tip=[3, 0, 4.3], puck=[3, 0, 0.3], speed=[1.5, 0, 0], angle=[-0.25])
    action, task = np.array([[0.6, -0.8]] * 2), np.array([[0.0], [1.0]])
    reward = made.reward(after, action, after, task)
    assert reward.shape == (2,) and reward[0].item() == pytest.approx(value)


def test_each_row_is_rewarded_for_its_own_goal(folder: Path) -> None:
    made, still = family(folder), np.zeros((2, 2))
    after = frame(tip=[0.25, 0, 0.3])
    task = np.array([[0.25], [1.0]])
    assert made.reward(after, still, after, task).tolist() == [0.0, -0.75]
    assert made.marks({"goal": 0.75})["goal"] == pytest.approx((0.75, 0, 0.3))


def test_success_and_the_end_are_told_apart(folder: Path) -> None:
    made = family(
        folder, success={"sensor": "tip", "to": ["goal", 0, 0.3], "within": 0.1},
        terminate=[{"sensor": "puck", "axis": "z", "below": 0.3}, {"sensor": "angle", "above": 1}],
    )
    near = frame(tip=[0.05, 0, 0.3], puck=[0, 0, 0.5], angle=[0.5])
    outcome = made.outcome(near, np.array([[0.0], [1.0]]))
    assert outcome["success"].tolist() == [1.0, 0.0]
    assert outcome["distance [m]"].tolist() == pytest.approx([0.05, 0.95])
    assert not made.terminated(near).any()
    assert made.terminated(frame(puck=[0, 0, 0.2], angle=[0.5])).all()
    assert made.terminated(frame(puck=[0, 0, 0.5], angle=[1.5])).all()


def test_it_observes_what_is_listed_in_that_order(folder: Path) -> None:
    made = family(folder, observe=["sensor:angle", "qvel"])
    assert made.observe(frame(angle=[7])).tolist()[0] == [7.0] + [0.0] * 8
    everything = Worlds(family(folder), 1, threads=1).shapes.obs
    assert everything == 9 + 8 + 3 + 3 + 3 + 1  # qpos, qvel, tip, puck, speed, angle


def test_an_episode_begins_at_the_keyframe_give_or_take_the_noise(folder: Path) -> None:
    made = family(folder, reset={"keyframe": "home", "qpos_noise": 0.1, "qvel_noise": 0.2})
    worlds = Worlds(made, 50, threads=1)
    worlds.reset(draws=Draws.of(0, 0, 50))
    qpos, qvel = worlds.frame.qpos, worlds.frame.qvel
    for column, centre in ((0, 0.5), (1, 0.2)):  # slide [m], hinge [rad]
        off = abs(qpos[:, column] - centre)
        assert 0.05 < off.max() <= 0.1
    # The puck's place and quaternion have no noise: it would be pushed into the ground.
    assert (qpos[:, 2:] == [0, 0, 1, 1, 0, 0, 0]).all()
    assert 0.1 < abs(qvel[:, 0] - 0.1).max() <= 0.2


# What varies.


def models(made: Described, name: str, value: float) -> tuple[Any, Any]:
    """The base model, and that of a task whose parameter `name` has this value."""
    engine = BatchEngine(made, 1, threads=1)
    task = parse_task(made, [f"{name}={value!r}"], lambda warning: None)
    engine.difference(engine.compile(task))  # rows can have it
    return engine.model, engine.compile(task)


@pytest.mark.parametrize(("vary", "value", "read", "expected"), [
    # The pole's mass is set, and its inertia follows: three times the mass, three times both.
    ({"body": "pole", "field": "mass", "scale": [1, 4]}, 3.0,
     lambda m: m.body("pole").mass / PLAIN.body("pole").mass, [3.0]),
    ({"body": "pole", "field": "mass", "scale": [1, 4]}, 3.0,
     lambda m: m.body("pole").inertia / PLAIN.body("pole").inertia, [3.0] * 3),
    ({"body": "pole", "field": "mass", "range": [1, 9]}, 6.0,
     lambda m: m.body("pole").mass, [6.0]),
    ({"body": ["cart", "pu*"], "field": "mass", "scale": [1, 4]}, 2.0,
     lambda m: [m.body("cart").mass[0], m.body("puck").mass[0] / PLAIN.body("puck").mass[0]],
     [5.0, 2.0]),
    # A geom's mass adds to that of the 0.5 kg bit; scaled, it is twice its 2 kg.
    ({"geom": "box", "field": "mass", "range": [0, 9]}, 3.0, lambda m: m.body("cart").mass, [3.5]),
    ({"geom": "box", "field": "mass", "scale": [1, 9]}, 2.0, lambda m: m.body("cart").mass, [4.5]),
    ({"geom": "pole", "field": "mass", "scale": [1, 9]}, 2.0,
     lambda m: m.body("pole").mass / PLAIN.body("pole").mass, [2.0]),
    ({"body": "puck", "field": "pos", "axis": "y", "range": [-1, 1]}, 0.5,
     lambda m: m.body("puck").pos, [0, 0.5, 1]),
    ({"site": "tip", "field": "pos", "axis": "z", "scale": [1, 3]}, 2.0,
     lambda m: m.site("tip").pos, [0, 0, 0.6]),
    # Set, friction is the sliding one; scaled, all three.
    ({"geom": "box", "field": "friction", "range": [0, 1]}, 0.5,
     lambda m: m.geom("box").friction, [0.5, 0.01, 0.002]),
    ({"geom": "box", "field": "friction", "scale": [0.5, 2]}, 2.0,
     lambda m: m.geom("box").friction, [1.6, 0.02, 0.004]),
    ({"geom": "box", "field": "size", "axis": "y", "range": [0.1, 1]}, 0.4,
     lambda m: m.geom("box").size, [0.1, 0.4, 0.3]),
    ({"geom": "box", "field": "size", "scale": [0.5, 2]}, 2.0,
     lambda m: m.geom("box").size, [0.2, 0.4, 0.6]),
    ({"geom": "box", "field": "type", "choices": ["box", "ellipsoid"]}, 1.0,
     lambda m: m.geom("box").type, [mujoco.mjtGeom.mjGEOM_ELLIPSOID]),
    ({"geom": "bit", "field": "mesh", "choices": ["low", "high"]}, 1.0,
     lambda m: m.geom("bit").dataid, [1]),
    ({"geom": "ground", "field": "hfield", "choices": ["flat", "rough"]}, 1.0,
     lambda m: m.geom("ground").dataid, [1]),
    ({"joint": "slide", "field": "damping", "range": [0, 1]}, 0.75,
     lambda m: m.joint("slide").damping, [0.75]),
    ({"joint": "slide", "field": "stiffness", "scale": [1, 9]}, 3.0,
     lambda m: m.joint("slide").stiffness, [6.0]),
    ({"joint": "slide", "field": "armature", "range": [0, 1]}, 0.2,
     lambda m: m.joint("slide").armature, [0.2]),
    ({"joint": "slide", "field": "frictionloss", "scale": [0, 2]}, 0.5,
     lambda m: m.joint("slide").frictionloss, [0.15]),
    # The servo's bias holds its gain: force = 40 (ctrl - q) - 4 v, times 1.5; or with 20.
    ({"actuator": "servo", "field": "gain", "scale": [0.5, 2]}, 1.5,
     lambda m: [m.actuator("servo").gainprm[0], *m.actuator("servo").biasprm[:3]],
     [60, 0, -60, -6]),
    ({"actuator": "servo", "field": "gain", "range": [10, 90]}, 20.0,
     lambda m: [m.actuator("servo").gainprm[0], *m.actuator("servo").biasprm[:3]],
     [20, 0, -20, -2]),
    ({"option": "gravity", "range": [1, 10]}, 1.62, lambda m: m.opt.gravity, [0, 0, -1.62]),
    ({"option": "gravity", "scale": [0.5, 2]}, 0.5, lambda m: m.opt.gravity, [0, 0, -4.905]),
    ({"option": "viscosity", "range": [0, 1]}, 0.25, lambda m: m.opt.viscosity, 0.25),
], ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "")
def test_a_value_changes_what_it_says_and_nothing_beside(
    vary: dict[str, Any], value: float, read: Any, expected: Any, folder: Path
) -> None:
    # A factor of 0 on friction loss is possible for MuJoCo, but no factor may be 0.
    vary = {k: [max(v[0], 1e-3), v[1]] if k == "scale" else v for k, v in vary.items()}
    base, variant = models(varying(folder, it=vary), "it", value)
    assert read(variant) == pytest.approx(expected)
    with pytest.raises(AssertionError):
        assert read(base) == pytest.approx(expected)


PLAIN = mujoco.MjSpec.from_string(
    MODEL.replace("meshes/", ""), assets={"low.stl": tetrahedron(), "high.stl": tetrahedron(2)}
).compile()


def test_a_mass_that_is_set_takes_its_own_inertia_along(folder: Path) -> None:
    made = varying(folder, it={"body": "pole", "field": "mass", "range": [1, 9]})
    _, variant = models(made, "it", 6.0)
    factor = 6.0 / PLAIN.body("pole").mass
    assert variant.body("pole").inertia == pytest.approx(factor * PLAIN.body("pole").inertia)
    for other in ("cart", "puck"):
        assert variant.body(other).mass == PLAIN.body(other).mass


def test_an_explicit_inertia_is_what_the_geoms_gave(folder: Path) -> None:
    made = varying(folder, it={"body": "*", "field": "mass", "scale": [0.5, 2]})
    model = made.spec().compile()
    for field in ("body_mass", "body_inertia", "body_ipos", "body_subtreemass"):
        assert getattr(model, field) == pytest.approx(getattr(PLAIN, field))


def test_numbers_may_be_choices_and_directions(folder: Path) -> None:
    made = family(folder, vary={"goal": {"choices": [-1, 1]},
                                "damping": {"joint": "*", "field": "damping", "choices": [1, 4]}})
    tasks = sample_tasks(made, "train", 8)
    assert {tuple(task) for task in tasks.tolist()} == {(a, b) for a in (-1, 1) for b in (1, 4)}
    assert default_task(made).tolist() == [-1, 1]


def test_a_row_of_another_size_lives_as_its_model_does_alone(folder: Path) -> None:
    # The cart has two geoms: in which order contacts are searched must not depend on the row.
    made = varying(folder, size={"geom": "box", "field": "size", "axis": "y", "range": [0.1, 0.5]},
                   ground={"geom": "ground", "field": "hfield", "choices": ["flat", "rough"]})
    tasks = torch.tensor([[0.0, 0.1, 0], [0.0, 0.45, 1], [0.0, 0.3, 0]]).double()
    worlds = Worlds(made, 3, threads=1)
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(0, 0, 3))
    for _ in range(30):
        worlds.step(torch.full((3, 2), 0.7), autoreset=False)
    for i, task in enumerate(tasks):
        model = worlds.engine.compile(task)
        data = mujoco.MjData(model)
        low, high = model.actuator_ctrlrange.T
        data.ctrl = (low + high) / 2 + (high - low) / 2 * float(torch.tensor(0.7))
        mujoco.mj_step(model, data, 150)  # 30 control steps of 0.05 s
        assert data.ncon and worlds.frame.qpos[i].tolist() == data.qpos.tolist()


def test_all_of_it_keeps_the_contract(folder: Path) -> None:
    made = family(
        folder, reset={"keyframe": "home", "qpos_noise": 0.05},
        observe=["qpos", "qvel", "sensor:tip"],
        vary={**BASE["vary"],
              "cart": {"body": "cart", "field": "mass", "scale": [0.5, 2]},
              "ground": {"geom": "ground", "field": "hfield", "choices": ["flat", "rough"]},
              "bit": {"geom": "bit", "field": "mesh", "choices": ["low", "high"]},
              "gravity": {"option": "gravity", "range": [5, 10], "ood": [10, 20]}},
    )
    # The bit weighs nothing of its own once the cart's mass is a number; it still has a shape.
    assert [v.problem for v in verdicts(made) if v.problem] == []


def test_a_family_that_shows_its_task_or_changes_nothing_is_found_out(folder: Path) -> None:
    made = varying(folder, tool={"site": "tip", "field": "pos", "axis": "z", "range": [0, 1]},
                   idle={"joint": "hinge", "field": "stiffness", "scale": [1, 2]})
    problems = " ".join(v.problem for v in verdicts(made))
    assert "the first observation differs from task to task" in problems
    assert "idle changes no field of the model" in problems  # twice no stiffness is none


# Mistakes.


@pytest.mark.parametrize(("changes", "line"), [
    ({"horizn": 3}, "vary.yaml: unknown key 'horizn'; did you mean horizon?"),
    ({"name": "My Arm"}, "vary.yaml: name: 'My Arm' must be of small letters"),
    ({"horizon": 2.5}, "vary.yaml: horizon: 2.5 is not a whole number"),
    ({"horizon": 0}, "vary.yaml: horizon: 0 does not lie in [1, 100000]"),
    ({"horizon": True}, "vary.yaml: horizon: True is not a number"),
    ({"control_step": 0.025}, "control_step: 0.025 s is not a multiple of the model's timestep"),
    ({"control_step": "soon"}, "vary.yaml: control_step: 'soon' is not a number"),
    ({"control_step": math.nan}, "vary.yaml: control_step: nan does not lie in"),
    ({"control_step": 10**400}, "vary.yaml: control_step: 1000"),
    ({"observe": []}, "vary.yaml: observe: [] is not a list with something in it"),
    ({"observe": ["sensor:tp"]}, "observe[0]: unknown observation 'sensor:tp'; did you mean "
                                 "sensor:tip?"),
    ({"reset": {"keyframe": "hom"}}, "reset.keyframe: unknown keyframe 'hom'; did you mean home?"),
    ({"reset": {"qpos_noise": -1}}, "vary.yaml: reset.qpos_noise: -1 does not lie in"),
    ({"reward": {"term": "contrl", "weight": 1}}, "reward.term: unknown term 'contrl'; did you "
                                                  "mean control?"),
    ({"reward": [{"term": "control"}]}, "vary.yaml: reward[0]: weight is missing"),
    ({"reward": [{"term": "control", "weight": 1, "axis": "x"}]}, "reward[0]: unknown key 'axis'"),
    ({"terminate": {"sensor": "tip", "axis": 2, "below": 0}},
     "terminate.axis: 2 is not the name of any axis: it is one of x, y, z"),
    ({"reward": [{"term": "value", "sensor": "tip", "weight": 1}]},
     "reward[0].sensor: sensor tip has 3 numbers; say which with axis: x, y or z"),
    ({"reward": [{"term": "value", "sensor": "tipp", "axis": "x", "weight": 1}]},
     "reward[0].sensor: unknown sensor 'tipp'; did you mean tip?"),
    ({"reward": [{"term": "distance", "sensor": "tip", "to": ["goall", 0, 0], "weight": 1}]},
     "reward[0].to[0]: unknown parameter or sensor 'goall'; did you mean goal?"),
    ({"reward": [{"term": "distance", "sensor": "tip", "to": ["goal", 0], "weight": 1}]},
     "reward[0].to: 2 numbers where the sensor has 3"),
    ({"reward": [{"term": "distance", "sensor": "tip", "to": "angle", "weight": 1}]},
     "reward[0].to: sensor angle has 1 numbers, not 3"),
    ({"reward": [{"term": "alive", "weight": i} for i in range(65)]}, "reward: 65 entries"),
    ({"reward": [{"term": "alive", "weight": 1}]}, "vary.yaml: vary.goal: nothing depends on it"),
    ({"success": {"sensor": "tip"}}, "vary.yaml: success: a bound is missing"),
    ({"terminate": {"sensor": "tip", "to": ["goal", 0, 0], "within": 1}},
     "terminate.to[0]: the end of an episode may not depend on a parameter"),
    ({"vary": {}}, "vary.yaml: vary: name at least one thing that varies"),
    ({"vary": {"goal x": {"range": [0, 1]}}}, "vary.goal x: a parameter's name is of letters"),
    ({"vary": {"tip": {"range": [0, 1]}}}, "vary.tip: a sensor of the model has this name too"),
    ({"vary": {True: {"range": [0, 1]}}}, "vary.yaml: vary: the key True is not a word"),
])
def test_a_mistake_is_told_with_its_file_and_key(
    changes: dict[str, Any], line: str, folder: Path
) -> None:
    with pytest.raises(UserError) as caught:
        family(folder, **changes)
    assert f"{folder}/vary.yaml: " in str(caught.value) and line in str(caught.value)


@pytest.mark.parametrize("timestep", ["0", "nan", "5e-324"])
def test_a_model_in_which_no_time_goes_by_is_told(
    timestep: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # MuJoCo may write a MUJOCO_LOG.TXT about it
    (folder / "cart.xml").write_text(MODEL.replace('"0.01"', f'"{timestep}"', 1))
    with pytest.raises(UserError, match="control_step: the model's timestep is"):
        family(folder)


@pytest.mark.parametrize(("stem", "name"), [
    ("ärm", "arm"), ("A\u0308rm 2", "arm-2"), ("Straße", "strasse"), ("рука", "described"),
])
def test_a_file_s_name_gives_the_family_s_with_its_accents_left_out(
    stem: str, name: str, folder: Path
) -> None:
    (folder / "vary.yaml").write_text(yaml.safe_dump(BASE))
    model = (folder / "cart.xml").rename(folder / f"{stem}.xml")
    assert described.read(model, folder / "vary.yaml").name == name


@pytest.mark.parametrize(("vary", "line"), [
    ({"rnge": [0, 1]}, "vary.it: unknown key 'rnge'; did you mean range?"),
    ({"joint": "slide", "field": "damping"}, "vary.it: say one of range: [low, high], scale:"),
    ({"joint": "slide", "field": "damping", "range": [0, 1], "scale": [1, 2]}, "say one of range"),
    ({"joint": "slide", "field": "damping", "range": [1, 0]}, "vary.it.range: [1, 0] is not a"),
    ({"joint": "slide", "field": "damping", "range": [-1, 1]}, "beyond what is possible, [0, inf]"),
    ({"joint": "slide", "field": "damping", "range": [0, 1], "distribution": "log-uniform"},
     "vary.it.range: a log-uniform range must be positive"),
    ({"joint": "slide", "field": "damping", "range": [0, 1], "distribution": "normal"},
     "vary.it.distribution: unknown distribution 'normal'"),
    ({"joint": "slide", "field": "damping", "range": [0, 1], "ood": [[0.5, 2]]},
     "vary.it.ood[0]: [0.5, 2] overlaps the trained range [0, 1]"),
    ({"joint": "slid", "field": "damping", "range": [0, 1]},
     "vary.it.joint: unknown joint 'slid'; did you mean slide?"),
    ({"joint": ["slide", "x*"], "field": "damping", "range": [0, 1]}, "vary.it.joint[1]: unknown"),
    ({"joint": "slide", "field": "dampng", "range": [0, 1]},
     "vary.it.field: unknown field of a joint 'dampng'; did you mean damping?"),
    ({"joint": "slide", "range": [0, 1]}, "vary.it: field is missing"),
    ({"joint": "slide", "geom": "box", "field": "mass", "range": [0, 1]},
     "vary.it: geom and joint: a parameter changes one kind of thing"),
    ({"field": "mass", "range": [0, 1]}, "vary.it.field: of what? name one of body, geom"),
    ({"scale": [1, 2]}, "vary.it.scale: a factor on nothing"),
    ({"range": [1, 2]}, "vary.it: nothing depends on it"),
    ({"option": "gravty", "range": [1, 2]}, "vary.it.option: unknown option 'gravty'; did you mean "
                                            "gravity?"),
    ({"option": "gravity", "field": "gravity", "range": [1, 2]}, "vary.it.field: superfluous"),
    ({"geom": "box", "field": "size", "range": [1, 2]}, "vary.it: an axis is missing"),
    ({"geom": "box", "field": "friction", "axis": "x", "range": [1, 2]}, "this field has no axes"),
    ({"geom": "box", "field": "type", "range": [0, 1]}, "vary.it.range: type takes names"),
    ({"geom": "box", "field": "type", "choices": ["box", "sphre"]},
     "vary.it.choices[1]: unknown type 'sphre'; did you mean sphere?"),
    ({"geom": "box", "field": "type", "choices": ["box", "box"]}, "two or more different ones"),
    ({"geom": "bit", "field": "mesh", "choices": ["low", "heigh"]}, "did you mean high?"),
    ({"geom": "box", "field": "mesh", "choices": ["low", "high"]},
     "geom 'box' has another type; mesh cannot be chosen for it"),
    ({"joint": "slide", "field": "damping", "choices": [1, -1]}, "vary.it.choices[1]: -1 does not"),
    ({"joint": "slide", "field": "damping", "choices": [1, 2], "ood": [3, 4]},
     "vary.it.ood: choices have none"),
    ({"actuator": "muscle", "field": "gain", "scale": [1, 2]},
     "actuator 'muscle' has no fixed gain"),
    ({"joint": "slide", "field": "damping", "range": [1, 2], "meaning": "a \x1b[31mred word"},
     "vary.it.meaning: 'a \\x1b[31mred word' holds control characters"),
])
def test_a_mistake_in_what_varies_is_told_with_its_key(
    vary: dict[str, Any], line: str, folder: Path
) -> None:
    with pytest.raises(UserError) as caught:
        varying(folder, it=vary)
    assert f"{folder}/vary.yaml: vary.it" in str(caught.value) and line in str(caught.value)


@pytest.mark.parametrize(("first", "second", "dead"), [
    ({"geom": "box", "field": "mass", "scale": [1, 2]},
     {"body": "*", "field": "mass", "scale": [1, 2]}, "a"),
    ({"joint": "slide", "field": "damping", "scale": [1, 2]},
     {"joint": "*", "field": "damping", "range": [1, 2]}, "a"),
    ({"joint": "*", "field": "damping", "range": [1, 2]},
     {"joint": "slide", "field": "damping", "scale": [1, 2]}, ""),
    ({"option": "gravity", "scale": [1, 2]}, {"option": "gravity", "range": [1, 2]}, "a"),
    ({"option": "gravity", "scale": [1, 2]}, {"option": "density", "range": [1, 2]}, ""),
])
def test_what_another_parameter_sets_anyhow_is_no_parameter(
    first: dict[str, Any], second: dict[str, Any], dead: str, folder: Path
) -> None:
    if not dead:
        varying(folder, a=first, b=second)
        return
    with pytest.raises(UserError, match=r"vary\.a: it changes nothing: b sets the"):
        varying(folder, a=first, b=second)


@pytest.mark.parametrize(("text", "line"), [
    ("a: !!python/object/apply:os.system [echo]", "line 1: the tag tag:yaml.org,2002:python/ob"),
    ("a: !secret 3", "line 1: the tag !secret is not accepted"),
    ("a: &x [1]\nb: [*x, *x]", "line 1: anchors and aliases are not accepted"),
    ("horizon: 1\nhorizon: 2", "line 2: horizon is written twice"),
    ("vary: {a: 1, a: 2}", "line 1: a is written twice"),
    ("? [1, 2]\n: 3", "line 1: a key must be a word"),
    ("[" * 5000, "line 1: too deep or too long"),
    ("[" + "1," * 30_000 + "]", "line 1: too deep or too long"),
    ("x" * (2**20 + 1), "is larger than 1,048,576 bytes"),
    ("a: [1", "is not YAML: while parsing a flow sequence"),
    ("a: 1\n---\nb: 2", "is not YAML: expected a single document"),
    ("a: \0", "is not YAML: unacceptable character"),
    ("", "None is not a mapping"),
    ("a: {joint: *, b: 1}", 'column 13: a: {joint: *, b: 1} ^; put a pattern in quotes, as in '
                            'joint: "*"'),
    ("a:\n\tb: 1", "; write blanks in place of the tab"),
    ("[1, 2]", "[1, 2] is not a mapping"),
    ("horizon: 3", "vary.yaml: control_step is missing"),
], ids=range(17))
def test_yaml_that_is_more_than_data_is_refused(text: str, line: str, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        written(folder, text)
    assert str(caught.value).startswith(f"{folder}/vary.yaml") and line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_numbers_may_be_written_as_people_do(folder: Path) -> None:
    text = yaml.safe_dump(BASE).replace("control_step: 0.05", "control_step: 5e-2")
    assert written(folder, text).control_step == 0.05


@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass'")
@pytest.mark.parametrize(("old", "new", "line"), [
    ('ctrlrange="-1 1"', "", "actuator 'servo' of the model needs a ctrlrange"),
    ("<actuator>", "<actuator/><!--", "the model has no actuator"),
    ("<compiler/>", '<compiler settotalmass="3"/>', "settotalmass"),
])
def test_a_model_that_cannot_be_trained_is_told(
    old: str, new: str, line: str, folder: Path
) -> None:
    text = MODEL.replace("<option", "<compiler/><option", 1).replace(old, new, 1)
    (folder / "cart.xml").write_text(text.replace("</actuator>", "--></actuator>", 1).replace(
        "--></actuator>", "-->" if "<!--" in new else "</actuator>", 1))
    with pytest.raises(UserError, match=line):
        varying(folder, it={"body": "cart", "field": "mass", "scale": [1, 2]})


# Its ways in.


def example(folder: Path) -> tuple[str, ...]:
    """The shipped example, copied to where it can be edited; the words that name it."""
    for name in ("arm.xml", "arm.yaml"):
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    return "--mjcf", str(folder / "arm.xml"), "--vary", str(folder / "arm.yaml")


def train(folder: Path, runs: str, iterations: int) -> int:
    return main(["train", "pearl", *example(folder), *TINY, "--runs", str(folder / runs), "--steps",
                 str(iterations * STEPS), "--evaluation-episodes", "2"])


def weights(path: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.latest(path / "checkpoints")
    assert found is not None
    return checkpoint.load(found)[0]["agent"]


def test_the_example_keeps_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *example(tmp_path)]) == 0
    assert "arm keeps its contract; next: metarl train pearl --mjcf" in capsys.readouterr().out


def test_show_draws_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "arm.png"
    assert main(["show", *example(tmp_path), "--out", str(picture), "--rows", "1", "--json"]) == 0
    names = [p["name"] for p in json.loads(capsys.readouterr().out)["parameters"]]
    assert names == ["goal_x", "goal_z", "payload", "links", "damping", "gain"]
    assert picture.stat().st_size > 10_000


def test_a_run_outlives_the_files_that_began_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "whole", 2) == 0
    assert train(tmp_path, "parted", 1) == 0
    # An edit of the user's own files must not change what was begun, nor may their loss end it.
    (tmp_path / "arm.yaml").write_text("horizon: 1")
    (tmp_path / "arm.xml").unlink()
    runs = ["--runs", str(tmp_path / "parted")]
    assert main(["resume", "latest", *runs, "--steps", str(2 * STEPS)]) == 0
    parted, whole = (find("latest", tmp_path / name).path for name in ("parted", "whole"))
    one, two = weights(parted), weights(whole)
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert main(["evaluate", "latest", *runs, "--split", "ood", "--tasks", "2"]) == 0
    bundle = tmp_path / "bundle"
    assert main(["adapt", "latest", *runs, "--task", "payload=2.5", "--out", str(bundle)]) == 0
    capsys.readouterr()
    # The bundle goes to another machine: the run is not there.
    (tmp_path / "parted").rename(tmp_path / "gone")
    assert main(["play", str(bundle), "--video", str(tmp_path / "arm.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["payload"] == 2.5
    policy = api.load(bundle)
    assert policy.predict(torch.zeros(7).numpy())[0].shape == (2,)


def test_an_edited_copy_in_a_run_or_a_bundle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "runs", 1) == 0
    run, runs = find("latest", tmp_path / "runs"), ["--runs", str(tmp_path / "runs")]
    bundle = tmp_path / "bundle"
    assert main(["adapt", "latest", *runs, "--out", str(bundle)]) == 0
    for folder, words in ((run.path, ["resume", "latest", *runs, "--steps", "99"]),
                          (bundle, ["play", str(bundle), "--video", str(tmp_path / "a.mp4")])):
        capsys.readouterr()
        file = folder / "family" / "vary.yaml"
        file.write_text(file.read_text().replace("0.55", "0.56"))
        assert main(words) == 3
        assert "vary.yaml" in capsys.readouterr().err
        file.unlink()
        assert main(words) == 3


def test_a_run_with_meshes_holds_them(folder: Path) -> None:
    (folder / "cart.yaml").write_text(yaml.safe_dump({**BASE, "name": "carted"}))
    words = ["--mjcf", str(folder / "cart.xml"), "--vary", str(folder / "cart.yaml")]
    assert main(["train", "pearl", *words, *TINY, "--runs", str(folder / "runs"), "--steps",
                 str(STEPS)]) == 0
    run = find("latest", folder / "runs")
    assert run.files.keys() == {"model.xml", "vary.yaml", "low.stl", "high.stl"}
    assert run.config["family"] == "carted" and run.path.parts[-3] == "carted"
    rebuilt = api.family_of(run)
    assert isinstance(rebuilt, Described) and rebuilt.files == run.files
    assert dataclasses.asdict(rebuilt) == {"horizon": 5}
    assert named_task(rebuilt, default_task(rebuilt)) == {"goal": 0.5}


@pytest.mark.parametrize(("words", "line"), [
    ("check", "FAMILY missing; name one of metarl list, or describe one with --mjcf"),
    ("check --mjcf a.xml", "--mjcf needs --vary as well: the YAML that says what varies"),
    ("show --vary a.yaml", "--vary needs --mjcf as well: the robot's model"),
    ("check reach --mjcf a.xml --vary a.yaml", "reach and --mjcf: name a FAMILY or describe one"),
    ("train pearl reach --vary a.yaml", "reach and --vary: name a FAMILY or describe one"),
    ("train pearl --mjcf a.xml", "--mjcf needs --vary as well"),
    ("train pearl --vary=a.yaml", "--vary needs --mjcf as well"),
    ("train pearl --mjcf --vary a.yaml", "--mjcf needs a file after it"),
    ("train pearl --mjcf no.xml --vary no.yaml", "no.xml is not a file"),
    ("train --mjcf no.xml --vary no.yaml", "AGENT and FAMILY missing"),
])
def test_a_family_is_named_or_described_but_not_both(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and line in said.err


def test_the_name_of_another_family_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = example(tmp_path)
    (tmp_path / "arm.yaml").write_text("name: reach\n" + (tmp_path / "arm.yaml").read_text())
    assert main(["check", *words]) == 2
    assert "arm.yaml: name: reach is a family already" in capsys.readouterr().err


def test_the_readme_shows_the_example() -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    shown = readme.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((EXAMPLES / "arm.yaml").read_text())
