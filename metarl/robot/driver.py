"""What the drivers share: an extra's module or one line that names it, and limits."""

import importlib
from types import ModuleType

import numpy as np

from metarl.robot.arm import ArmError, ArmSpec, Unsupported, Vector

TUBE = 0.1  # rad, that a target may be ahead of an arm that is to stop


def extra(module: str, name: str) -> ModuleType:
    """A vendor's module. Raises Unsupported with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unsupported(f"{module} is missing; pip install 'metarl[{name}]'") from error


def refuse_outside(spec: ArmSpec, q: Vector, slack: float = 0.0) -> None:
    """Raises ArmError where a measured pose lies beyond the joints' limits by more than `slack`
    [rad]."""
    for name, angle, low, high in zip(spec.joints, q, spec.q_min, spec.q_max, strict=True):
        if not low - slack <= angle <= high + slack:
            raise ArmError(f"{name} of {spec.model} is at {angle:.3f} rad, outside {low:.3f} to "
                           f"{high:.3f}; move it inside by hand before it is enabled")


def clamped(spec: ArmSpec, q: Vector) -> tuple[Vector, tuple[str, ...]]:
    """Targets (J,) inside the joints' limits, and which limits changed them."""
    inside = np.clip(q, spec.q_min, spec.q_max)
    return inside, tuple(f"position {name}" for name, changed
                         in zip(spec.joints, inside != q, strict=True) if changed)


def stopping(spec: ArmSpec, target: Vector, q: Vector, dq: Vector) -> Vector:
    """A target (J,) to hold: the last one, or where an arm that was sent far away can stop."""
    reach = np.maximum(TUBE, dq**2 / (2 * np.array(spec.ddq_max)))
    return np.clip(np.clip(target, q - reach, q + reach), spec.q_min, spec.q_max)
