"""What each number of an observation and of an action is, by name and unit.

No family lists them: an entry of an observation that is one of the frame's own numbers is found by
what `observe` makes of frames of random numbers, and is called what MuJoCo's model calls that one;
a computed entry is called after the numbers that move it.
"""

import mujoco
import numpy as np

from metarl.envs.family import Frame
from metarl.envs.worlds import Worlds
from metarl.episodes import Entry
from metarl.randomness import Role, generator

_JOINT, _SENSOR = mujoco.mjtJoint, mujoco.mjtSensor
_QUATERNION = ("qw", "qx", "qy", "qz")
_AXES = ("x", "y", "z")
_SOURCES = 4  # numbers that a computed one is named after
_MEASURED = {  # unit of a sensor by what it measures
    "m": ("FRAMEPOS", "SUBTREECOM", "RANGEFINDER", "TENDONPOS", "ACTUATORPOS"),
    "m/s": ("VELOCIMETER", "FRAMELINVEL", "SUBTREELINVEL", "TENDONVEL", "ACTUATORVEL"),
    "m/s^2": ("ACCELEROMETER", "FRAMELINACC"),
    "rad": ("JOINTPOS",), "rad/s": ("GYRO", "FRAMEANGVEL", "JOINTVEL", "BALLANGVEL"),
    "rad/s^2": ("FRAMEANGACC",), "N": ("FORCE", "TOUCH", "ACTUATORFRC"),
    "N m": ("TORQUE", "JOINTACTFRC"), "kg m^2/s": ("SUBTREEANGMOM",),
    "1": ("FRAMEQUAT", "BALLQUAT", "FRAMEXAXIS", "FRAMEYAXIS", "FRAMEZAXIS"),
}
_UNITS = {int(getattr(_SENSOR, f"mjSENS_{kind}")): unit
          for unit, kinds in _MEASURED.items() for kind in kinds}


def observation_entries(worlds: Worlds) -> tuple[Entry, ...]:
    """Name and unit of each of the O numbers of an observation; where it is computed, the frame's
    numbers that it depends on, and no unit."""
    model, frame = worlds.engine.model, worlds.frame
    names = _frame_entries(model)
    sizes = [model.nq, model.nv, *map(int, model.sensor_dim)]
    # A frame of random numbers, then for each number the same frame with another one there.
    count = sum(sizes)
    numbers = generator(0, role=Role.RESET).uniform(0.1, 1.0, (2, count))
    known = np.repeat(numbers[:1], count + 1, 0)
    np.fill_diagonal(known[1:], numbers[1])
    qpos, qvel, *measured = np.split(known, np.cumsum(sizes)[:-1], 1)
    sensors = {model.sensor(i).name: value for i, value in enumerate(measured)}
    derived = {name: np.repeat(frame.sensors[name][:1], len(known), 0)
               for name in worlds.family.derived}
    seen = worlds.family.observe(Frame(qpos, qvel, sensors | derived))
    entries = []
    for i, column in enumerate(seen.T):
        # Float32 on the way would round it: 1e-6 is far below the distance of any two numbers.
        same = np.flatnonzero((abs(known - column[:, None]) < 1e-6).all(0)).tolist()
        moved = [names[j].name for j in np.flatnonzero(column[1:] != column[0]).tolist()]
        more = " and others" if len(moved) > _SOURCES else ""
        said = f" from {', '.join(moved[:_SOURCES])}{more}" if moved else ""
        entries.append(names[same[0]] if same else Entry(f"{i}{said}", ""))
    return tuple(entries)


def action_entries(worlds: Worlds) -> tuple[Entry, ...]:
    """Name and unit of each of the A numbers of an action: shares, in [-1, 1], of the actuators'
    ranges, or of what the family's `control` makes of them."""
    model = worlds.engine.model
    if worlds.family.commands:
        return tuple(Entry(f"command {i}", "1") for i in range(worlds.family.commands))
    return tuple(Entry(model.actuator(i).name or f"actuator {i}", "1") for i in range(model.nu))


def _frame_entries(model: mujoco.MjModel) -> list[Entry]:
    """Every number of a frame: qpos, qvel, and the sensors in the model's order."""
    positions, speeds, sensors = [], [], []
    for j in range(model.njnt):
        name, kind = model.joint(j).name or f"joint {j}", int(model.jnt_type[j])
        turn = [(f"{name} {q}", "1") for q in _QUATERNION]
        spin = [(f"{name} turn {axis}", "rad/s") for axis in _AXES]
        if kind == _JOINT.mjJNT_FREE:
            positions += [(f"{name} {axis}", "m") for axis in _AXES] + turn
            speeds += [(f"{name} speed {axis}", "m/s") for axis in _AXES] + spin
        elif kind == _JOINT.mjJNT_BALL:
            positions, speeds = positions + turn, speeds + spin
        else:
            unit = "m" if kind == _JOINT.mjJNT_SLIDE else "rad"
            positions.append((f"{name} position", unit))
            speeds.append((f"{name} speed", f"{unit}/s"))
    for i in range(model.nsensor):
        name, size = model.sensor(i).name, int(model.sensor_dim[i])
        unit = _UNITS.get(int(model.sensor_type[i]), "")
        parts = _AXES if size == 3 else _QUATERNION if size == 4 else range(size)
        sensors += [(f"{name} {part}" if size > 1 else name, unit) for part in parts]
    return [Entry(*pair) for pair in [*positions, *speeds, *sensors]]

