"""Task families, the engines that run them, and their gymnasium and SB3 faces."""

import gymnasium

from metarl.envs.ant_dir import AntDir
from metarl.envs.ant_goal import AntGoal
from metarl.envs.ant_terrain import AntTerrain
from metarl.envs.cheetah_dir import CheetahDir
from metarl.envs.cheetah_vel import CheetahVel
from metarl.envs.family import Family
from metarl.envs.hopper_params import HopperParams
from metarl.envs.humanoid_dir import HumanoidDir
from metarl.envs.insert import Insert
from metarl.envs.lift import Lift
from metarl.envs.push import Push
from metarl.envs.reach import Reach
from metarl.envs.walker_params import WalkerParams
from metarl.envs.walker_terrain import WalkerTerrain

FAMILIES: dict[str, type[Family]] = {
    "ant-dir": AntDir,
    "ant-goal": AntGoal,
    "ant-terrain": AntTerrain,
    "cheetah-dir": CheetahDir,
    "cheetah-vel": CheetahVel,
    "hopper-params": HopperParams,
    "humanoid-dir": HumanoidDir,
    "insert": Insert,
    "lift": Lift,
    "push": Push,
    "reach": Reach,
    "walker-params": WalkerParams,
    "walker-terrain": WalkerTerrain,
}

for _name in FAMILIES:
    # No max_episode_steps: an episode's end is the family's, and a second limit would hide it.
    gymnasium.register(
        f"metarl/{_name}-v1",
        entry_point="metarl.envs.faces:WorldEnv",
        vector_entry_point="metarl.envs.faces:WorldVectorEnv",
        kwargs={"family": _name},
    )
