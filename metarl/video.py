"""Record what a world looks like, frame by frame, into an mp4 file."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from metarl.errors import UserError

_BACKENDS = ("egl", "osmesa")
_SIZE = (640, 480)  # pixels, multiples of 16 as H.264 wants them
_MARK = 0.02  # m, radius of a marked point
_COLOURS = ((0.85, 0.2, 0.15, 0.9), (0.1, 0.6, 0.3, 0.9), (0.9, 0.6, 0.1, 0.9))
_PROBE = """
import mujoco
model = mujoco.MjSpec().compile()
mujoco.Renderer(model, 16, 16).render()
"""


def choose_backend() -> None:
    """Set MUJOCO_GL to a back end that draws without a screen; call before importing mujoco.

    Broken OpenGL can kill a process, so each is tried in a child. Raises UserError, naming the
    package to install, where none works.
    """
    asked = os.environ.get("MUJOCO_GL", "")
    for name in (asked,) if asked else _BACKENDS:
        environment = {**os.environ, "MUJOCO_GL": name}
        with suppress(OSError, subprocess.TimeoutExpired):
            probe = subprocess.run(
                [sys.executable, "-c", _PROBE], env=environment, capture_output=True, timeout=120
            )
            if probe.returncode == 0:
                os.environ["MUJOCO_GL"] = name
                return
    tried = f"MUJOCO_GL={asked}" if asked else " nor ".join(f"MUJOCO_GL={b}" for b in _BACKENDS)
    raise UserError(
        f"no OpenGL to draw a video with (tried {tried}); install libegl1 and libgl1-mesa-dri, or "
        "libosmesa6 (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri), and play again"
    )


class Recorder:
    """Streams frames of one world into `path`; a context manager. The file appears, whole, only
    when recording ends well."""

    def __init__(self, path: Path, model: Any, fps: float) -> None:
        import imageio.v2 as imageio
        import mujoco

        # An absolute path, because imageio reads a leading `-` or `<` as something else.
        self._path = path.absolute()
        self._temporary = self._path.with_name(f".tmp-{os.getpid()}-{self._path.name}")
        self._renderer = mujoco.Renderer(model, _SIZE[1], _SIZE[0])
        self._camera = 0 if model.ncam else -1
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = imageio.get_writer(
                str(self._temporary), fps=fps, codec="libx264", quality=7, macro_block_size=16
            )
        except (OSError, ValueError, RuntimeError) as error:
            self._renderer.close()
            raise UserError(f"cannot write {path}: {error}") from None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._renderer.close()
        if kind is None:
            os.replace(self._temporary, self._path)
        else:
            self._temporary.unlink(missing_ok=True)

    def add(self, data: Any, marks: Mapping[str, tuple[float, float, float]]) -> None:
        """Append a frame: a world's state, and points [m] by label."""
        self._renderer.update_scene(data, self._camera)
        for index, (label, position) in enumerate(marks.items()):
            self._mark(label, position, _COLOURS[index % len(_COLOURS)])
        self._writer.append_data(self._renderer.render())

    def _mark(
        self, label: str, position: tuple[float, float, float], colour: tuple[float, ...]
    ) -> None:
        import mujoco
        import numpy as np

        scene = self._renderer.scene
        if scene.ngeom >= scene.maxgeom:
            return
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom, mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, _MARK), np.array(position),
            np.eye(3).ravel(), np.array(colour, np.float32),
        )
        geom.label = label
        scene.ngeom += 1
