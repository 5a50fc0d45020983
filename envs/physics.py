"""MuJoCo, imported: which OpenGL it is told to draw with is looked at while it is.

`metarl.envs.described` and `mjcf`, by which metarl.api and so every verb comes to MuJoCo first,
have it from here; others import it themselves.
"""

import os

from metarl.errors import UserError

try:
    import mujoco as mujoco  # the same name twice: importers have it from here
except (AttributeError, RuntimeError) as error:  # a name unknown to MuJoCo; a library not there
    _asked = os.environ.get("MUJOCO_GL")
    if not _asked:
        raise
    raise UserError(
        f"MUJOCO_GL={_asked} is no OpenGL that MuJoCo can use here ({' '.join(str(error).split())}"
        "); unset it, or set MUJOCO_GL=egl, or disable where nothing is drawn"
    ) from None
