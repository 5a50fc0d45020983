"""What surrounds a robot in pictures: sky, a chequered floor, light."""

import mujoco


def add_scenery(
    spec: mujoco.MjSpec, size: float, light: tuple[float, float, float], spot: bool = False
) -> mujoco.MjsGeom:
    """Add them; the floor, `size` metres to every side, with MuJoCo's own contact settings. A spot
    light suits a robot that stays in its place."""
    spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=64,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.93, 0.95, 0.97], rgb2=[0.72, 0.79, 0.86])
    spec.add_texture(name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, width=128, height=128,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.80, 0.82, 0.84], rgb2=[0.72, 0.74, 0.77])
    material = spec.add_material(name="floor", texrepeat=[4 * size, 4 * size])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    x, y, z = light
    kinds = mujoco.mjtLightType
    spec.worldbody.add_light(
        type=kinds.mjLIGHT_SPOT if spot else kinds.mjLIGHT_DIRECTIONAL,
        pos=[x, y, z], dir=[-0.3 * x, -0.3 * y, -1],
        diffuse=[0.7, 0.7, 0.7] if spot else [0.6, 0.6, 0.6],
    )
    return spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[size, size, 0.1], material="floor"
    )
