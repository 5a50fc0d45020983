"""Record what a world looks like, frame by frame, into an mp4 file."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from metarl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BACKENDS = ("egl", "osmesa")
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
        f"no OpenGL to draw with (tried {tried}); install libegl1 and libgl1-mesa-dri, or "
        "libosmesa6 (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri), and try again"
    )


class Recorder:
    """Streams pictures into `path`, an mp4 file; a context manager. The file appears, whole, only
    when recording ends well."""

    def __init__(self, path: Path, fps: float) -> None:
        import imageio.v2 as imageio

        # An absolute path, because imageio reads a leading `-` or `<` as something else.
        self._path = path.absolute()
        self._count = 0  # of pictures
        self._temporary = self._path.with_name(f".tmp-{os.getpid()}-{self._path.name}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()  # ffmpeg would say in lines of its own why it cannot
            self._writer = imageio.get_writer(
                str(self._temporary), fps=fps, codec="libx264", quality=7, macro_block_size=16
            )
        except (OSError, ValueError, RuntimeError) as error:
            with suppress(OSError):
                self._temporary.unlink()
            raise UserError(f"cannot write {path}: {error}") from None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._close()
            if kind is None:
                self._check()
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        with suppress(OSError):  # of an ffmpeg that is gone; what it left is looked at
            self._writer.close()

    def _check(self) -> None:
        """Raise UserError where not all pictures are in the file: ffmpeg tells nobody."""
        from imageio_ffmpeg import count_frames_and_secs

        kept = 0
        with suppress(OSError, RuntimeError):
            kept, _ = count_frames_and_secs(str(self._temporary))
        if kept != self._count:
            raise UserError(f"cannot write {self._path}: {kept} of {self._count} pictures are in "
                            "it; is the disk full?")

    def add(self, picture: "NDArray[np.uint8]") -> None:
        """Append a picture (height, width, 3)."""
        self._count += 1
        try:
            self._writer.append_data(picture)
        except OSError:
            raise UserError(f"cannot write {self._path}: ffmpeg ended after "
                            f"{self._count - 1} pictures; is the disk full?") from None
