"""Whether a sequence of targets kept to the limits, counted afterwards from the targets alone."""

import numpy as np
from numpy.typing import NDArray

from metarl.robot.arm import Chain
from metarl.robot.limits import Kinematics, Limits

_ROUNDING = 1e-6  # of a limit; rad or m where the limit is a place


def violations(
    limits: Limits, chain: Chain, targets: NDArray[np.float64], period: float
) -> dict[str, int]:
    """How many of the targets (T, J) [rad], a period [s] apart, are outside each limit. The arm
    was at rest before the first, which is where it started."""
    held = np.concatenate([targets[:1]] * 3 + [targets])
    speeds = np.diff(held, axis=0) / period
    jolts = np.diff(speeds, axis=0) / period
    jerks = np.diff(jolts, axis=0) / period
    points = Kinematics(chain, limits.tool).points(held)
    paces = np.linalg.norm(np.diff(points, axis=0), axis=2) / period
    tips = points[:, -(2 if limits.tool else 1):]
    within = 1 + _ROUNDING
    outside = {
        "not finite": ~np.isfinite(held),
        "position": (held < np.array(limits.q_min) - _ROUNDING)
        | (held > np.array(limits.q_max) + _ROUNDING),
        "velocity": np.abs(speeds) > within * np.array(limits.dq_max),
        "acceleration": np.abs(jolts) > within * np.array(limits.ddq_max),
        # Three differences of angles of some radians: what rounds to 1e-15 has become 1e-8.
        "jerk": np.abs(jerks) > within * np.array(limits.jerk_max) + 1e-14 / period**3,
        "workspace": (tips < np.array(limits.box[0]) - _ROUNDING)
        | (tips > np.array(limits.box[1]) + _ROUNDING),
        "tool speed": paces > within * limits.speed,
    }
    return {name: int(bad.reshape(len(bad), -1).any(1).sum()) for name, bad in outside.items()}
