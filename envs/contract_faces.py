"""The contract's third part: a family as gymnasium, Stable-Baselines3 and a person see it."""

import warnings
from collections.abc import Callable
from contextlib import closing

import gymnasium.utils.env_checker
import mujoco
import stable_baselines3.common.env_checker

from metarl.envs.camera import Camera
from metarl.envs.contract_tasks import Unchecked, demand, some_tasks
from metarl.envs.faces import WorldEnv
from metarl.envs.family import Family, named_task
from metarl.envs.worlds import Worlds
from metarl.errors import UserError
from metarl.randomness import Draws

_VISIBLE = 0.002  # share of a picture that the robot must fill


def _gymnasium(family: Family) -> None:
    """gymnasium's check_env has no complaint and no warning."""
    with closing(WorldEnv(family)) as env:
        _silent("gymnasium", gymnasium.utils.env_checker.check_env, env, skip_render_check=True)


def _stable_baselines3(family: Family) -> None:
    """Stable-Baselines3's check_env has no complaint and no warning."""
    with closing(WorldEnv(family)) as env:
        _silent("Stable-Baselines3", stable_baselines3.common.env_checker.check_env, env)


def _silent(whose: str, check: Callable[..., object], *args: object, **options: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check(*args, **options)
        except Exception as error:  # assertions, warnings and what else they raise
            said = " ".join(str(error).split())
            raise UserError(f"{whose}'s check_env objects: {said}; mend what `reset`, `observe` "
                            "and `reward` give there") from None


def _pictures(family: Family) -> None:
    """A picture of any row shows the robot."""
    tasks = some_tasks(family, 2)
    worlds = Worlds(family, len(tasks), threads=1)
    worlds.set_tasks(tasks)
    worlds.reset(draws=Draws.of(0, 0, len(tasks)))
    try:
        mujoco.Renderer(mujoco.MjSpec().compile(), 16, 16).close()
    except Exception:  # as many kinds as there are ways to lack OpenGL
        raise Unchecked("this machine has no OpenGL to draw with") from None
    with closing(Camera(worlds.engine.model)) as camera:
        for i in (0, len(tasks) - 1):
            model, data = worlds.engine.row(i)
            task = named_task(family, tasks[i])
            shown = camera.picture(model, data, family.marks(task), family.aim(task))
            demand(shown.mean() > 1, "a picture is black: add a light to the model")
            demand(shown.std() > 1, "a picture is of one colour: add a camera named `view` that "
                   "looks at the robot, or `track` that follows it")
            moving = model.geom_bodyid > 0
            full = camera.picture(model, data)
            model.geom_rgba[moving, 3], model.geom_matid[moving] = 0, -1
            changed = (full != camera.picture(model, data)).any(2).mean()
            demand(changed > _VISIBLE, "a picture does not show the robot: aim the camera named "
                   "`view` or `track` in `spec`")


CHECKS = (_gymnasium, _stable_baselines3, _pictures)
