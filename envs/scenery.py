"""What surrounds a robot in pictures: sky, a chequered floor, light."""

import mujoco


def add_scenery(
    spec: mujoco.MjSpec, light: tuple[float, float, float], room: float = 0
) -> mujoco.MjsGeom:
    """Add them; the floor, with MuJoCo's own contact settings.

    A robot that stays in its place has a floor of `room` metres to every side, and a spot light.
    For one that runs away the floor has no end, and the light comes along, or no shadow would.
    """
    spec.visual.rgba.haze = [0.83, 0.87, 0.91, 1]  # the sky's at the horizon, as far floors fade
    spec.visual.map.shadowclip = 2  # or its edge speckles the corners of a picture
    spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=64,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.93, 0.95, 0.97], rgb2=[0.72, 0.79, 0.86])
    spec.add_texture(name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, width=128, height=128,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.80, 0.82, 0.84], rgb2=[0.72, 0.74, 0.77])
    # Of a floor without an end, these are chequers' pairs in a metre, not on the whole.
    repeat = 4 * room if room else 2
    material = spec.add_material(name="floor", texrepeat=[repeat, repeat])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    x, y, z = light
    kinds, modes = mujoco.mjtLightType, mujoco.mjtCamLight
    spec.worldbody.add_light(
        type=kinds.mjLIGHT_SPOT if room else kinds.mjLIGHT_DIRECTIONAL,
        mode=modes.mjCAMLIGHT_FIXED if room else modes.mjCAMLIGHT_TRACKCOM,
        pos=[x, y, z], dir=[-0.3 * x, -0.3 * y, -1],
        diffuse=[0.7, 0.7, 0.7] if room else [0.6, 0.6, 0.6],
    )
    return spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[room, room, 0.1], material="floor"
    )
