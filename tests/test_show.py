"""Pictures of tasks show what varies."""

import mujoco
import numpy as np
import pytest

from metarl.cli.show import _WIDTH, _caption
from metarl.envs.ant_dir import AntDir
from metarl.envs.camera import Camera
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.engine import BatchEngine
from metarl.envs.family import Family, default_task
from metarl.envs.hopper_params import HopperParams
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
    assert "friction 3.00 x" in caption and "mass_foot 0.30 x" in caption
    assert caption.index("mass_foot") < caption.index("friction")
    assert all(len(line) <= _WIDTH + 3 for line in caption.split("\n"))


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
