"""Pictures of worlds."""

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.envs.shading import Dot
from metarl.errors import UserError

_HEIGHT, _WIDTH = 480, 640  # pixels, multiples of 16 as H.264 wants them
_MARK = 0.02  # radius of a marked point, in distances from the camera: some 23 pixels across
# What is hidden is drawn in a colour that no mass, damping or friction has (metarl.envs.shading).
_ARROW = (0.90, 0.05, 0.65, 1.0)
_COLOURS = (_ARROW, (0.1, 0.6, 0.3, 0.9), (0.9, 0.6, 0.1, 0.9))


def _screenless() -> bool:
    """Whether MuJoCo would look for a screen in vain: what is in its way then ends the process at
    the second try."""
    asked = os.environ.get("MUJOCO_GL", "")
    has = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.platform == "linux" and not has and asked in ("", "glfw")


class Camera:
    """Draws rows, whose models differ, with one renderer: from the model's camera `view`, else
    `track`, else its first one, else from where MuJoCo would look."""

    def __init__(self, model: mujoco.MjModel) -> None:
        if _screenless():
            raise UserError("there is no screen to draw on; set MUJOCO_GL=egl (or osmesa) in the "
                            "environment before Python starts, and pictures need none")
        self._renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
        self._view, self._options = mujoco.MjvCamera(), mujoco.MjvOption()
        names = [model.camera(i).name for i in range(model.ncam)]
        chosen = [name for name in ("view", "track") if name in names] or names[:1]
        if chosen:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = names.index(chosen[0])
        else:
            mujoco.mjv_defaultFreeCamera(model, self._view)
            self._view.distance *= 2  # it would fill the picture, and soon leave it
            self._view.azimuth, self._view.elevation = 120, -25

    def picture(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        marks: Mapping[str, tuple[float, float, float]] | None = None,
        aim: tuple[float, float, float] | None = None,
        dots: Sequence[Dot] = (),
    ) -> NDArray[np.uint8]:
        """A row's state with marked points [m], an arrow above the robot and coloured dots,
        (480, 640, 3)."""
        if not model.nlight:  # MuJoCo's own headlight, where there is no other, is dim
            model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.35, 0.65
        # Renderer.update_scene knows the model it was made with, not the row's own.
        mujoco.mjv_updateScene(
            model, data, self._options, None, self._view, mujoco.mjtCatBit.mjCAT_ALL,
            self._renderer.scene,
        )
        size = model.stat.meansize  # m, of a typical geom
        for place, colour in zip((marks or {}).values(), cycle(_COLOURS), strict=False):
            far = float(np.linalg.norm(place - self._renderer.scene.camera[0].pos))  # m
            self._ball(np.array(place), _MARK * far, colour)
        for place, colour in dots:
            self._ball(place, 0.45 * size, (*colour, 1.0))
        if aim is not None and model.nbody > 1 and np.any(aim):
            self._arrow(_above(model, data), np.array(aim), 0.15 * size)
        return self._renderer.render()

    def close(self) -> None:
        """Release the renderer."""
        self._renderer.close()

    def _ball(
        self, place: NDArray[np.float64], radius: float, colour: tuple[float, ...]
    ) -> mujoco.MjvGeom | None:
        """A new geom of the scene, a ball at first; None where the scene is full."""
        scene = self._renderer.scene
        if scene.ngeom >= scene.maxgeom:
            return None
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom, mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, radius), place, np.eye(3).ravel(),
            np.array(colour, np.float32),
        )
        scene.ngeom += 1
        return geom

    def _arrow(self, start: NDArray[np.float64], way: NDArray[np.float64], width: float) -> None:
        geom = self._ball(start, width, _ARROW)
        if geom is not None:
            mujoco.mjv_connector(geom, mujoco.mjtGeom.mjGEOM_ARROW, width, start, start + way)


def _above(model: mujoco.MjModel, data: mujoco.MjData) -> NDArray[np.float64]:
    """The place [m] of an arrow: over the robot's centre of mass, and clear of its highest part."""
    x, y, z = data.subtree_com[1]
    size = model.stat.meansize  # m
    highest = data.geom_xpos[model.geom_bodyid > 0, 2].max(initial=z)
    return np.array([x, y, max(z + 2.4 * size, highest + 2 * size)])
