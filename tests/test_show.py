"""Pictures of tasks show what varies."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from metarl.__main__ import main
from metarl.cli.show import _WIDTH, _caption, _footnote, _legend, _rounded
from metarl.envs.ant_dir import AntDir
from metarl.envs.ant_goal import AntGoal
from metarl.envs.camera import _COLOURS, Camera
from metarl.envs.cheetah_dir import CheetahDir
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, default_task
from metarl.envs.hopper_params import HopperParams
from metarl.envs.humanoid_dir import HumanoidDir
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.shading import DAMPING, GRIP, MASS, Shading


def variants(family: Family, **changes: float) -> tuple[mujoco.MjModel, mujoco.MjModel]:
    """The base model, and the one of its default task but for these parameters."""
    engine, task = BatchEngine(family, 1), default_task(family)
    for name, value in changes.items():
        task[[p.name for p in family.parameters].index(name)] = value
    return engine.model, engine.compile(task)


def drawn(base: mujoco.MjModel, variant: mujoco.MjModel, others: list[mujoco.MjModel]):
    data = mujoco.MjData(variant)
    mujoco.mj_forward(variant, data)
    shading = Shading(base, [variant, *others])
    return shading, shading.apply(variant, data)


def test_a_scale_goes_from_a_quarter_over_one_to_four_times() -> None:
    for scale in (MASS, GRIP, DAMPING):
        assert scale.colour(1.0) == pytest.approx(scale.same)
        assert scale.colour(0.25) == scale.colour(0.01) == pytest.approx(scale.less)
        assert scale.colour(4.0) == scale.colour(99) == pytest.approx(scale.more)
        assert scale.colour(2.0) == pytest.approx(np.add(scale.same, scale.more) / 2)


def test_a_heavier_body_is_drawn_redder_and_thicker_and_the_others_as_they_were() -> None:
    base, variant = variants(HopperParams(), mass_torso=8.0)
    shading, dots = drawn(base, variant, [base])
    torso, thigh = (base.geom(name).id for name in ("torso", "thigh"))
    assert variant.geom_rgba[torso, :3] == pytest.approx(MASS.more)
    assert variant.geom_size[torso, 0] == pytest.approx(2 * base.geom_size[torso, 0])  # cbrt(8)
    assert variant.geom_size[torso, 1] == base.geom_size[torso, 1]
    assert (variant.geom_rgba[thigh] == base.geom_rgba[thigh]).all()
    assert shading.scales == [MASS] and dots == []


def test_a_body_that_varies_is_grey_where_it_weighs_what_it_does_in_the_base_model() -> None:
    base, heavy = variants(HopperParams(), mass_torso=3.0)
    _, same = variants(HopperParams())
    drawn(base, same, [heavy])
    assert same.geom_rgba[base.geom("torso").id, :3] == pytest.approx(MASS.same)


def test_a_slippery_floor_and_stiff_joints_are_shown() -> None:
    base, variant = variants(HopperParams(), friction=0.25, damping_knee=4.0)
    shading, dots = drawn(base, variant, [])
    floor = variant.geom_matid[base.geom("floor").id]
    assert variant.mat_rgba[floor, :3] == pytest.approx(GRIP.less)
    assert shading.scales == [GRIP, DAMPING] and len(dots) == 1
    assert dots[0][1] == pytest.approx(DAMPING.more)


def test_a_payload_is_drawn_in_its_size() -> None:
    base, variant = variants(Reach(), payload=2.0)
    drawn(base, variant, [])
    ratio = 2.05 / 1.05  # kg with the flange, which belongs to the same body
    radius = variant.geom_size[base.geom("payload").id, 0]
    assert radius == pytest.approx(0.04 * ratio ** (1 / 3))


def test_a_caption_names_what_is_least_ordinary_and_fits_over_its_picture() -> None:
    family = HopperParams()
    names = [p.name for p in family.parameters]
    task = default_task(family)
    task[names.index("friction")], task[names.index("mass_foot")] = 3.0, 0.3
    caption = _caption(family, task.tolist())
    assert "friction 3 x" in caption and "mass_foot 0.3 x" in caption
    assert caption.index("mass_foot") < caption.index("friction")
    assert all(len(line) <= _WIDTH for line in caption.split("\n"))


def test_a_caption_keeps_three_digits_and_has_neither_minus_zero_nor_an_empty_unit() -> None:
    family = Push()
    names = [p.name for p in family.parameters]
    task = default_task(family)
    for name, value in (("size", 0.04523), ("com_y", -0.0032), ("friction", 0.35), ("shape", 6)):
        task[names.index(name)] = value
    caption = _caption(family, task.tolist()).replace("\n", "   ").split("   ")
    assert {"size 0.0452 m", "com_y -0.0032 m", "friction 0.35", "shape ring"} <= set(caption)
    com = next(p for p in family.parameters if p.name == "com_y")
    assert f"{_rounded(com, -0.000004):g}" == "0"
    assert _caption(CheetahDir(), [-1.0]) == "direction -1"


def test_a_picture_of_many_parameters_says_which_its_captions_leave_out() -> None:
    assert "the 6 parameters" in _footnote(2) and "the other 2 lie nearer" in _footnote(2)
    assert "the other one lies nearer" in _footnote(1)


def test_show_tells_how_long_an_episode_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A control step that was meant in milliseconds is seen here at the latest.
    assert main(["show", "cheetah-vel", "--rows", "1", "--out", str(tmp_path / "x.png")]) == 0
    assert "200 steps of 0.05 s an episode; 100 train tasks" in capsys.readouterr().out


def test_the_ends_of_a_scale_say_that_it_goes_on_and_stay_inside_it() -> None:
    from matplotlib import pyplot

    figure = pyplot.figure()
    _legend(figure, [MASS, GRIP, DAMPING])
    labels = figure.axes[0].get_xticklabels()
    assert [each.get_text() for each in labels] == ["x 1/4 or less", "x 1", "x 4 or more"]
    assert [each.get_horizontalalignment() for each in labels] == ["left", "center", "right"]
    pyplot.close(figure)


def hue(family: Family, **what: Any) -> float:
    """How many pixels of a picture have the colour of what is hidden."""
    model, data = BatchEngine(family, 1).row(0)
    camera = Camera(model)
    red, green, blue = camera.picture(model, data, **what).astype(int).transpose(2, 0, 1)
    camera.close()
    return int(((red > green + 60) & (blue > green + 40)).sum())


@pytest.mark.parametrize("direction", [0.0, 1.5, 3.0, 4.5])
def test_an_arrow_above_its_head_shows_where_a_humanoid_is_to_go(direction: float) -> None:
    family = HumanoidDir()
    assert hue(family, aim=family.aim({"direction": direction})) > 100 and hue(family) == 0


def test_a_hidden_goal_is_no_dot_however_far_and_no_payload_is_as_magenta() -> None:
    near, far = {"goal_angle": 4.0, "goal_radius": 1.0}, {"goal_angle": 0.8, "goal_radius": 3.9}
    sizes = [hue(AntGoal(), marks=AntGoal().marks(task)) for task in (near, far)]
    assert min(sizes) > 200 and sizes[1] > 0.7 * sizes[0]  # pixels: a ball of 23 has 400
    for shade in (MASS.colour(r) for r in (0.25, 1, 2, 4)):
        assert np.abs(np.subtract(_COLOURS[0][:3], shade)).max() > 0.3


@pytest.mark.parametrize("rows", ["0", "21", "100"])
def test_a_picture_has_no_more_rows_than_it_can_be_drawn_with_in_a_minute(
    rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "reach", "--rows", rows]) == 2
    assert f"--rows {rows} must lie in [1, 20]" in capsys.readouterr().err


def test_an_arrow_shows_how_fast_a_cheetah_is_to_run() -> None:
    family = CheetahVel()
    engine = BatchEngine(family, 1)
    model, data = engine.row(0)
    camera = Camera(model)
    still, slow, fast = (
        camera.picture(model, data, aim=family.aim({"velocity": v})) for v in (0.0, 1.0, 3.0)
    )
    camera.close()
    assert (still == without_arrow(model, data)).all()
    assert 0 < (slow != still).any(2).sum() < (fast != still).any(2).sum()


@pytest.mark.parametrize("family", [CheetahVel(), AntDir(), HopperParams()], ids=lambda f: f.name)
def test_a_robot_that_ran_far_still_stands_on_the_floor_above_its_shadow(family: Family) -> None:
    model, data = BatchEngine(family, 1).row(0)
    camera = Camera(model)
    pictures = []
    for x in (0, 100):  # m
        data.qpos[0] = x
        mujoco.mj_forward(model, data)
        for _ in range(2):  # the floor's middle follows the camera of the picture before
            picture = camera.picture(model, data)
        pictures.append(picture.astype(int))
    camera.close()
    near, far = pictures
    assert (abs(near - far).max(2) < 8).mean() > 0.98


def without_arrow(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    camera = Camera(model)
    picture = camera.picture(model, data)
    camera.close()
    return picture


def test_a_model_without_light_or_camera_is_lit_and_seen_whole() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><geom type="box" size="0.1 0.05 0.05"/></worldbody></mujoco>')
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = Camera(model)
    picture = camera.picture(model, data)
    camera.close()
    assert picture.max() > 90  # of 128, the grey of a geom
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    assert not any(edge.any() for edge in edges)
