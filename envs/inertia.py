"""Masses and inertias as numbers of their own, for variants that change them."""

import mujoco


def make_inertia_explicit(spec: mujoco.MjSpec, factor: float = 1.0) -> None:
    """Give every body the mass and inertia that its geoms have, times a factor."""
    model = spec.copy().compile()
    for body in spec.bodies[1:]:
        index = model.body(body.name).id
        body.explicitinertial = True
        body.mass = model.body_mass[index] * factor
        body.inertia = model.body_inertia[index] * factor
        body.ipos, body.iquat = model.body_ipos[index], model.body_iquat[index]
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
